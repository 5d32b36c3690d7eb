/* SPDX-License-Identifier: MIT */
/* load.h - what a puppet does while its memory is moved: it writes, forks, and looks after it. */
#ifndef KSM_TEST_LOAD_H
#define KSM_TEST_LOAD_H

/*
 * (addr, ms, seed, pages, stride, over): page i holds 1 + i at first, as after fn_offer(pages, 1,
 * 1). For so long some are written, half of them with what they held at first, and all are checked;
 * a child of every fourth round does, too. At the end all hold that again. Returns how many were
 * wrong. With a stride, only every so-many-th page is written. `over` points to an int in memory
 * that the test and the puppet share: it ends when that is not 0.
 */
long fn_write_and_check(const long a[6]);

#endif
