/* SPDX-License-Identifier: MIT */
/*
 * as_names.c - see as_names.h.
 *
 * A name (PR_SET_VMA_ANON_NAME) says nothing but what maps and smaps show of a mapping, and the
 * kernel names private anonymous memory only. So frames stand without one, and are counted. What
 * takes their place when they are given up gets the name again before it is in place.
 *
 * Programs have few names and many ranges, so a range keeps a number. Numbers are used again when
 * all have been given away and some have no range any more.
 */
#include "client/as_names.h"

#include <string.h>

#include "client/as_frames.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"

#define SHOWN_BEFORE "[anon:" /* and "]" behind it */

/* A number that no range has, where all were given away. 0: each has one. */
static uint8_t unused(void) NEEDS(as.lock)
{
	bool used[AS_NAMELESS + 1] = { false };

	for (const struct as_range *r = as_first(0); r; r = as_next(r))
		used[r->name] = true;
	for (uint32_t nr = 1; nr <= AS_NAMES; nr++)
		if (!used[nr])
			return (uint8_t)nr;
	return 0;
}

uint8_t as_name_number(const char *name)
{
	uint32_t nr = 1;

	if (!name)
		return 0;
	while (nr <= as.nr_names && strncmp(as.name[nr - 1], name, AS_NAME_SIZE) != 0)
		nr++;
	if (nr <= as.nr_names)
		return (uint8_t)nr;
	if (as.nr_names < AS_NAMES)
		nr = ++as.nr_names;
	else
		nr = unused();
	if (!nr)
		return AS_NAMELESS;
	strncpy(as.name[nr - 1], name, AS_NAME_SIZE - 1);
	return (uint8_t)nr;
}

static void set_name(struct as_range *r, long nr)
{
	r->name = (uint8_t)nr;
}

void as_name_set(uint64_t start, uint64_t end, const char *name)
{
	if (as_knows(start, end))
		as_edit(start, end, set_name, as_name_number(name));
}

void as_name_learn(uint64_t start, uint64_t end, const char *shown)
{
	char name[AS_NAME_SIZE] = "";
	size_t before = sizeof(SHOWN_BEFORE) - 1, len = strlen(shown);

	if (strncmp(shown, SHOWN_BEFORE, before) != 0 || len <= before ||
	    len - before > AS_NAME_SIZE || shown[len - 1] != ']')
		return;
	memcpy(name, shown + before, len - before - 1);
	as_name_set(start, end, name);
}

void as_name_repeat(uint64_t start, uint64_t end, const struct as_range *r)
{
	if (!r->name || r->name == AS_NAMELESS ||
	    atomic_load_explicit(&as.names_forbidden, memory_order_relaxed))
		return;
	sysc5(SYS_prctl, KABI_PR_SET_VMA, KABI_PR_SET_VMA_ANON_NAME, start, end - start,
	      as.name[r->name - 1]);
}

uint64_t as_names_lost(void)
{
	uint64_t pages = 0;

	for (const struct as_range *r = as.nr_names ? as_first(0) : NULL; r; r = as_next(r)) {
		uint64_t at = r->start, end;

		for (; r->name && as_frames_next(&at, &end, r->end); at = end)
			pages += (end - at) >> KSM_PAGE_SHIFT;
	}
	return pages;
}
