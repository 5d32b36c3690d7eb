/* SPDX-License-Identifier: MIT */
/* python.h - the program that decides what is measured, and reports it. */
#ifndef KSM_BENCH_PYTHON_H
#define KSM_BENCH_PYTHON_H

#include <sys/types.h>

/* Become the program, with args[1] and those after it. Returns when that fails, and has said so. */
void python_exec(char *const args[]);
/*
 * Start it as a child that talks to this process over *fd (SOCK_SEQPACKET). It ignores the signals
 * of stop.h, so that it reports what was measured by then. Returns its pid, or -1, which has been
 * said.
 */
pid_t python_start(char *const args[], int *fd);

#endif
