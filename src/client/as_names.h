/* SPDX-License-Identifier: MIT */
/*
 * as_names.h - names that the program gave to anonymous memory, for mappings that take its place.
 */
#ifndef KSM_AS_NAMES_H
#define KSM_AS_NAMES_H

#include <stdint.h>

#include "client/as.h"
#include "client/as_ranges.h"

/*
 * The number under which a range keeps a name, for struct as_range. `name` is as the kernel takes
 * it, so shorter than AS_NAME_SIZE. Returns 0 for NULL; AS_NAMELESS where there is no room to keep
 * it.
 */
uint8_t as_name_number(const char *name) NEEDS(as.lock);
/* Have the table keep that [start, end) has a name, as far as it knows of it. */
void as_name_set(uint64_t start, uint64_t end, const char *name) NEEDS(as.lock);
/* The same, where `shown` is what /proc/self/maps shows of anonymous memory: "[anon:NAME]". */
void as_name_learn(uint64_t start, uint64_t end, const char *shown) NEEDS(as.lock);
/* Name the new anonymous mapping [start, end) as r is. What is refused stays without a name. */
void as_name_repeat(uint64_t start, uint64_t end, const struct as_range *r) NEEDS(as.lock);
/* Pages with a name that stand in mappings of frames, which have none. */
uint64_t as_names_lost(void) NEEDS(as.lock);

#endif
