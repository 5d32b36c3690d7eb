/* SPDX-License-Identifier: MIT */
/* as_advice.h - advice that the kernel has to hear again when a mapping takes another's place. */
#ifndef KSM_AS_ADVICE_H
#define KSM_AS_ADVICE_H

#include <stdint.h>

/*
 * Repeat for the new mapping [start, end) what the kernel was told of the memory that stood there:
 * `left_out` is a bit set of 1 << enum ksm_left_out. Needs no lock.
 */
void as_repeat_advice(uint64_t start, uint64_t end, uint16_t left_out);

#endif
