/* SPDX-License-Identifier: MIT */
/* ops.h - what the files of operations share among themselves. */
#ifndef KSM_TORTURE_OPS_H
#define KSM_TORTURE_OPS_H

#include <sys/uio.h>

#include "tests/torture/actor.h"

/*
 * ops_process.c: how often threads of this process have begun, and ended, to offer all memory. That
 * offers also what another thread withdraws at the same time. (A child forked in the middle of one
 * keeps the difference.)
 */
struct offers {
	_Atomic unsigned int begun, ended;
};
extern struct offers offers_of_all;

/* ops_io.c */
void make_pipe(int fd[2]);
/*
 * Make vectors of p's part of each page from base on, at most BUF_PAGES of them; returns their
 * number.
 */
unsigned int piece_iov(const struct piece *p, uint8_t *base, struct iovec *iov);
/* The contents of pages of the data file. */
void data_fill(uint8_t *buf, uint32_t from, uint32_t pages);

#endif
