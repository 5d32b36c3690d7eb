/* SPDX-License-Identifier: MIT */
/* frames.h - what the pool of frames costs, and how it does when it is fragmented. */
#ifndef KSM_BENCH_FRAMES_H
#define KSM_BENCH_FRAMES_H

/* Print two Markdown tables. Returns 0 or -ENOMEM, which has been said. */
int frames_print(void);

#endif
