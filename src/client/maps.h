/* SPDX-License-Identifier: MIT */
/*
 * maps.h - read /proc/self/maps without malloc or stdio.
 *
 * The library asks the kernel where it cannot know: memory that the program mapped by itself, and
 * frames that a child inherited.
 */
#ifndef KSM_MAPS_H
#define KSM_MAPS_H

#include <stdbool.h>
#include <stdint.h>

struct maps_entry {
	uint64_t start, end, offset, inode;
	uint8_t prot; /* PROT_* */
	bool shared;
	char name[64]; /* cut off where longer */
};

/*
 * Call fn for each mapping that overlaps [start, end), ascending. Returns the number of mappings
 * in the process, or a negative errno. Opens and closes one descriptor in the caller's table.
 */
int maps_walk(uint64_t start, uint64_t end, void (*fn)(void *arg, const struct maps_entry *e),
	      void *arg);

/* How many mappings the process has; 0: that cannot be told. */
uint32_t maps_count(void);

/* Is this a mapping of an arena of frames (of whichever daemon)? By the memfd's name. */
bool maps_is_arena(const struct maps_entry *e);
/* Private anonymous memory that may be merged: not a stack, not the kernel's special pages. */
bool maps_is_anon(const struct maps_entry *e);

#endif
