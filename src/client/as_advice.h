/* SPDX-License-Identifier: MIT */
/* as_advice.h - repeat advice to the kernel for a mapping that takes the place of another. */
#ifndef KSM_AS_ADVICE_H
#define KSM_AS_ADVICE_H

#include <stdint.h>

/* What the kernel was told of memory that is left alone, for a mapping that takes its place. No lock. */
void as_repeat_advice(uint64_t start, uint64_t end, uint16_t left_out);

#endif
