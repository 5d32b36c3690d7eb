/* SPDX-License-Identifier: MIT */
/* mapping.c - see mapping.h. */
#include "mapping.h"

#include <errno.h>
#include <string.h>

#include "harness.h"
#include "wire/wire.h"

enum { PAGE = 4096 };

ino_t mapping_inode(unsigned int dev_major, unsigned int dev_minor, ino_t inode)
{
	return ((ino_t)dev_major << 20 | dev_minor) << 40 ^ inode;
}

bool mapping_is_arena_path(const char *path)
{
	path += strncmp(path, "/memfd:", 7) ? 1 : 7;
	return !strncmp(path, KSM_ARENA_NAME, strlen(KSM_ARENA_NAME));
}

FILE *mapping_open(pid_t pid)
{
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	if (!f)
		harness_die("%s: %s", path, strerror(errno));
	return f;
}

bool mapping_next(FILE *f, struct mapping *m)
{
	unsigned int dev_major, dev_minor;
	unsigned long inode;
	char line[512];
	int at = 0;

	if (!fgets(line, sizeof(line), f)) {
		fclose(f);
		return false;
	}
	if (sscanf(line, "%lx-%lx %4s %lx %x:%x %lu %n", &m->start, &m->end, m->prot, &m->offset,
		   &dev_major, &dev_minor, &inode, &at) != 7)
		harness_die("not a mapping: %s", line);
	m->inode = mapping_inode(dev_major, dev_minor, inode);
	snprintf(m->name, sizeof(m->name), "%.*s", (int)strcspn(line + at, "\n"), line + at);
	m->arena = mapping_is_arena_path(m->name);
	return true;
}

long mapping_count(pid_t pid, ino_t inode)
{
	FILE *f = mapping_open(pid);
	struct mapping m;
	long nr = 0;

	while (mapping_next(f, &m))
		nr += !inode || m.inode == inode;
	return nr;
}

int mapping_on_frames(pid_t pid, long addr, int pages, uint64_t first, uint64_t end, uint64_t *one)
{
	unsigned long start = (unsigned long)addr, stop = start + (unsigned long)pages * PAGE;
	FILE *f = mapping_open(pid);
	struct mapping m;
	int nr = 0;

	while (mapping_next(f, &m))
		for (unsigned long at = m.start; m.arena && at < m.end; at += PAGE) {
			uint64_t frame = (m.offset + at - m.start) / PAGE;

			if (at < start || at >= stop || frame < first || frame >= end)
				continue;
			*one = frame;
			nr++;
		}
	return nr;
}

bool mapping_of_frame(pid_t pid, unsigned long addr, struct mapping *m)
{
	FILE *f = mapping_open(pid);

	while (mapping_next(f, m))
		if (m->arena && m->start <= addr && addr < m->end) {
			fclose(f);
			return true;
		}
	return false;
}
