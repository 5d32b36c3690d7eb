/* SPDX-License-Identifier: MIT */
/*
 * maps.h - read /proc/self/maps without malloc or stdio.
 *
 * The library asks the kernel where it cannot know: memory that the program mapped by itself, and
 * frames that a child inherited.
 */
#ifndef KSM_MAPS_H
#define KSM_MAPS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct maps_entry {
	uint64_t start, end, offset;
	uint64_t file; /* maps_file_id(); 0: none */
	uint8_t prot;  /* PROT_* */
	bool shared;
	char name[96]; /* cut off where longer; "[anon:" with the longest name fits */
};

/*
 * Returns one number for a file. Inode numbers of two tmpfs are alike, so the device counts as
 * well; no device number of such a file system has more than 20 bits.
 */
static inline uint64_t maps_file_id(unsigned int dev_major, unsigned int dev_minor, uint64_t inode)
{
	return ((uint64_t)dev_major << 20 | dev_minor) << 40 ^ inode;
}

/* Lines of /proc/self/maps, while somebody walks them. */
#define MAPS_SCRATCH 8192
struct maps_scratch {
	_Atomic bool taken;
	char buf[MAPS_SCRATCH];
};
extern struct maps_scratch maps_scratch;

/*
 * Call fn for each mapping that overlaps [start, end), ascending. Returns a number of mappings, or
 * a negative errno: of those in the process if the end is UINT64_MAX or the range is empty, and
 * else of no less than those that overlap. Opens and closes one descriptor in the caller's table.
 */
int maps_walk(uint64_t start, uint64_t end, void (*fn)(void *arg, const struct maps_entry *e),
	      void *arg);

/* The same for the agent, which has a large stack and a descriptor of /proc/self/maps. */
int maps_walk_in(int fd, uint64_t start, uint64_t end,
		 void (*fn)(void *arg, const struct maps_entry *e), void *arg);

/*
 * The same of shared mappings of files, which are few: the kernel passes by the others for a tenth
 * of what their text costs. Before Linux 6.11 fn is called for all.
 */
int maps_walk_shared(int fd, void (*fn)(void *arg, const struct maps_entry *e), void *arg);
/* Where the mapping at addr ends; 0: there is none, or the kernel does not say. */
uint64_t maps_end(int fd, uint64_t addr);

/* How many mappings the process has; 0: that cannot be told. */
uint32_t maps_count(void);

/* Is this a mapping of an arena of frames (of whichever daemon)? By its file's name. */
bool maps_is_arena(const struct maps_entry *e);
/* Private anonymous memory that may be merged: not a stack, not the kernel's special pages. */
bool maps_is_anon(const struct maps_entry *e);

#endif
