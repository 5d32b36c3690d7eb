/* SPDX-License-Identifier: MIT */
/* mapping.h - what a process has mapped, as /proc/PID/maps says. */
#ifndef KSM_TEST_MAPPING_H
#define KSM_TEST_MAPPING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

struct mapping {
	unsigned long start, end, offset; /* bytes */
	char prot[5];
	ino_t inode; /* mapping_inode(); 0: no file */
	bool arena;  /* of frames, of any daemon */
	char name[128];
};

/* One number for a file: inode numbers of two file systems may be alike. */
ino_t mapping_inode(unsigned int dev_major, unsigned int dev_minor, ino_t inode);
/* Is that the path of an arena, as maps and links in /proc show it? */
bool mapping_is_arena_path(const char *path);

/*
 * In turn: `while (mapping_next(f, &m))`, which closes the file at the end; before that it is the
 * caller's to close. The test ends if there is no such process.
 */
FILE *mapping_open(pid_t pid);
bool mapping_next(FILE *f, struct mapping *m);

/* Those of one file, or all of them if inode is 0. */
long mapping_count(pid_t pid, ino_t inode);
/*
 * Pages of [addr, addr + pages) that are mapped to frames [first, end) of an arena. *one: one of
 * these frames, unchanged if there is none.
 */
int mapping_on_frames(pid_t pid, long addr, int pages, uint64_t first, uint64_t end, uint64_t *one);
/* The mapping of an arena in which addr lies. False: there is none. */
bool mapping_of_frame(pid_t pid, unsigned long addr, struct mapping *m);

#endif
