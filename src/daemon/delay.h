/* SPDX-License-Identifier: MIT */
/*
 * delay.h - how long the calling thread has been kept from running, though it could have run.
 *
 * Whether a call kept a thread waiting cannot be told from how long it took: on a busy machine a
 * thread that slept for a moment then waits for a processor, for longer than it slept.
 */
#ifndef KSMD_DELAY_H
#define KSMD_DELAY_H

#include <stdint.h>

/*
 * Between these two delay_ns() answers in the calling thread. They open and close a descriptor of
 * the thread's own; if that fails, or the kernel counts no delays, delay_ns() stays 0.
 */
void delay_begin(void);
void delay_end(void);
/* Time in ns since the thread began; 0 if it is not known. It costs 1 us. */
uint64_t delay_ns(void);

#endif
