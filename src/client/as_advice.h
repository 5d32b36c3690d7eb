/* SPDX-License-Identifier: MIT */
/*
 * as_advice.h - what the kernel has to hear again when a mapping takes another's place: advice on
 * forks and core dumps, a NUMA policy, and a name.
 */
#ifndef KSM_AS_ADVICE_H
#define KSM_AS_ADVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
#include "client/as_ranges.h"

/* Give [start, end) advice, and try again if memory is short for a moment. False: it is refused. */
bool as_repeat(uint64_t start, uint64_t end, int advice);
/* Are frames in a range kept from core dumps? `r` may be NULL. */
bool as_hides_frames(const struct as_range *r) NEEDS(as.lock);
/* Has the kernel been told anything of the range that has to be repeated? */
bool as_has_advice(const struct as_range *r) NEEDS(as.lock);
/*
 * Repeat for the new anonymous mapping [start, end) what the kernel was told of r. False: it
 * refused some of that (a name does not count). Who cannot let children have the memory does this
 * before it is in place.
 */
bool as_repeat_advice(uint64_t start, uint64_t end, const struct as_range *r) NEEDS(as.lock);
/*
 * The same for a mapping of frames, without the policy, which would hold for everybody's frames,
 * and without the name.
 */
bool as_repeat_on_frames(uint64_t start, uint64_t end, const struct as_range *r) NEEDS(as.lock);

/*
 * The policy that the kernel has for the mapping at addr, as AS_POLICY bits of a range's flags.
 * AS_POLICY, all bits set: it cannot be told, or there is no room to keep it.
 */
uint16_t as_policy_at(uint64_t addr) NEEDS(as.lock);
/* Does the mapping at addr have a policy? */
bool as_has_policy(uint64_t addr);

#endif
