/* SPDX-License-Identifier: MIT */
/*
 * audit.c - do the daemon's counters tell the truth?
 *
 * With every actor parked and the daemon at rest, the schedule walks /proc/PID/maps and pagemap of
 * every client. It counts which pages stand on which frame of the arenas that the daemon holds
 * open. The daemon has no part in that. A page of an arena's mapping stands on its frame unless it
 * is swapped out, or is present and not the file's (it broke copy-on-write).
 *
 *	sites of all clients   = pages_shared + pages_sharing
 *	frames with a site     = pages_shared
 *	sites of one client    = its ksm_merging_pages
 *	blocks of the arenas   = frames_used
 *
 * An agent may have carried out an order and wait for a processor with the answer: pages stand on
 * frames then of which the daemon hears soon. So what differs is looked at again for a while.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "lib/mapping.h"
#include "tests/torture/schedule.h"

#define MAX_ARENAS 64
#define SOON_MS 20000         /* an agent at the lowest priority beside a load of 12 has its turn */
#define MAX_FRAMES (1u << 18) /* distinct frames remembered; beyond that the torture is too large */

struct arena {
	ino_t ino;
	uint64_t pages;
};

struct walk {
	struct arena arena[MAX_ARENAS];
	unsigned int nr_arenas;
	uint64_t *frame; /* hash set of arena index << 32 | frame, plus 1 */
	uint64_t frames, sites, arena_pages;
	ino_t own_ino; /* of the client looked at */
	bool last;     /* what differs now is wrong */
	bool differs;
};

static bool is_known(const struct walk *w, ino_t ino)
{
	for (unsigned int i = 0; i < w->nr_arenas; i++)
		if (w->arena[i].ino == ino)
			return true;
	return false;
}

static void find_arenas(struct job *j, struct walk *w)
{
	char path[300], name[128];
	struct dirent *de;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", (int)j->daemon->pid);
	dir = opendir(path);
	while (dir && (de = readdir(dir))) {
		struct stat st;
		ssize_t n;
		ino_t ino;

		snprintf(path, sizeof(path), "/proc/%d/fd/%s", (int)j->daemon->pid, de->d_name);
		n = readlink(path, name, sizeof(name) - 1);
		if (n <= 0 || stat(path, &st) || w->nr_arenas == MAX_ARENAS)
			continue;
		name[n] = '\0';
		ino = mapping_inode(major(st.st_dev), minor(st.st_dev), st.st_ino);
		if (!mapping_is_arena_path(name) || is_known(w, ino))
			continue; /* the daemon has it open for itself and for clients */
		w->arena[w->nr_arenas].ino = ino;
		w->arena[w->nr_arenas].pages = (uint64_t)st.st_blocks * 512 / PG;
		w->arena_pages += w->arena[w->nr_arenas++].pages;
	}
	if (dir)
		closedir(dir);
}

static void add_site(struct walk *w, unsigned int arena, uint64_t frame)
{
	uint64_t key = ((uint64_t)arena << 32 | frame) + 1;
	uint64_t i = key * 0x9e3779b97f4a7c15ull >> 45; /* 19 bits */

	w->sites++;
	while (w->frame[i] && w->frame[i] != key)
		i = (i + 1) % (2 * MAX_FRAMES);
	if (w->frame[i])
		return;
	w->frame[i] = key;
	if (++w->frames == MAX_FRAMES)
		fail_schedule("audit: more frames than it has room for");
}

static void walk_mapping(struct walk *w, int pagemap, const struct mapping *m)
{
	unsigned int arena = 0;

	while (arena < w->nr_arenas && w->arena[arena].ino != m->inode)
		arena++;
	if (arena == w->nr_arenas || m->inode != w->own_ino)
		return; /* of an earlier daemon, or another domain */
	for (uint64_t a = m->start; a < m->end; a += PG) {
		uint64_t e = 0;

		if (pread(pagemap, &e, sizeof(e), (off_t)(a / PG * sizeof(e))) != sizeof(e))
			return;
		if ((e >> 62 & 1) || ((e >> 63) && !(e >> 61 & 1)))
			continue;
		add_site(w, arena, (m->offset + (a - m->start)) / PG);
	}
}

/* The arena that a process merges into: its agent has a descriptor table of its own. */
static ino_t own_arena(pid_t pid)
{
	char path[400], name[64];
	struct dirent *task, *de;
	ino_t ino = 0;
	DIR *tasks, *fds;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	while (tasks && (task = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/fd", (int)pid, task->d_name);
		fds = opendir(path);
		while (fds && (de = readdir(fds))) {
			struct stat st;
			ssize_t n = readlinkat(dirfd(fds), de->d_name, name, sizeof(name) - 1);

			name[n < 0 ? 0 : n] = '\0';
			if (n > 0 && mapping_is_arena_path(name) &&
			    !fstatat(dirfd(fds), de->d_name, &st, 0))
				ino = mapping_inode(major(st.st_dev), minor(st.st_dev), st.st_ino);
		}
		if (fds)
			closedir(fds);
	}
	if (tasks)
		closedir(tasks);
	return ino;
}

/* Sites of one process. */
static uint64_t walk_process(struct walk *w, pid_t pid)
{
	uint64_t before = w->sites;
	char path[64];
	struct mapping m;
	int pagemap;
	FILE *maps;

	w->own_ino = own_arena(pid);
	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	pagemap = open(path, O_RDONLY | O_CLOEXEC);
	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	while (maps && mapping_next(maps, &m))
		if (m.arena && pagemap >= 0)
			walk_mapping(w, pagemap, &m);
	if (pagemap >= 0)
		close(pagemap);
	return w->sites - before;
}

static uint64_t get(struct job *j, const char *path)
{
	char buf[64];
	int n = ctl_get(j->daemon, path, buf, sizeof(buf));

	if (n <= 0)
		fail_schedule("audit: get %s: %s", path, strerrorname_np(n < 0 ? -n : EIO));
	return n > 0 ? strtoull(buf, NULL, 10) : 0;
}

static void equal(struct walk *w, const char *what, uint64_t daemon, uint64_t seen)
{
	w->differs |= daemon != seen;
	if (daemon != seen && w->last)
		fail_schedule("audit: %s: the daemon says %llu, the page tables say %llu", what,
			      (unsigned long long)daemon, (unsigned long long)seen);
}

static void walk_clients(struct job *j, struct walk *w)
{
	char list[4096], what[128];
	int n = ctl_ls(j->daemon, "client", list, sizeof(list));

	if (n < 0) {
		fail_schedule("audit: ls client: %s", strerrorname_np(-n));
		return;
	}
	for (char *save, *name = strtok_r(list, "\n", &save); name;
	     name = strtok_r(NULL, "\n", &save)) {
		pid_t pid = atoi(name);

		j->pages_offered += ctl_client_u64(j->daemon, pid, "ksm_rmap_items");
		snprintf(what, sizeof(what), "client/%d/ksm_merging_pages", (int)pid);
		equal(w, what, ctl_client_u64(j->daemon, pid, "ksm_merging_pages"),
		      walk_process(w, pid));
	}
}

/* Retired frames may still be on their way out; compare in a moment when none is. */
static void audit_memory(struct job *j)
{
	uint64_t before, after = get(j, "ksm/frames_used");
	struct walk w = { .last = true };

	do {
		before = after;
		w.nr_arenas = 0;
		w.arena_pages = 0;
		find_arenas(j, &w);
		after = get(j, "ksm/frames_used");
		atomic_fetch_add(&j->step, 1);
	} while (before != after);
	equal(&w, "frames_used", after, w.arena_pages);
}

/* Returns whether all is as the daemon says. */
static bool audit_pages(struct job *j, struct walk *w)
{
	uint64_t shared, sharing;

	memset(w->frame, 0, 2 * (size_t)MAX_FRAMES * sizeof(uint64_t));
	w->nr_arenas = 0;
	w->frames = w->sites = w->arena_pages = 0;
	w->differs = false;
	find_arenas(j, w);
	j->pages_offered = 0;
	walk_clients(j, w);
	shared = get(j, "ksm/pages_shared");
	sharing = get(j, "ksm/pages_sharing");
	equal(w, "pages_shared + pages_sharing", shared + sharing, w->sites);
	equal(w, "pages_shared", shared, w->frames);
	return !w->differs;
}

void audit(struct job *j)
{
	struct walk w = { .frame = calloc(2 * (size_t)MAX_FRAMES, sizeof(uint64_t)) };
	uint64_t end = now_ms() + SOON_MS, errors;

	if (!w.frame)
		harness_die("no memory");
	while (!audit_pages(j, &w) && !w.last) {
		atomic_fetch_add(&j->step, 1);
		nap_us(100000);
		w.last = now_ms() > end;
	}
	audit_memory(j);
	/* A process that dies in the middle of a handshake is counted as well, and no other. */
	errors = get(j, "ksm/protocol_errors");
	if (errors > j->ended_since_up)
		fail_schedule(
			"audit: %llu protocol errors, where every client keeps to the protocol",
			(unsigned long long)errors);
	j->pages_on_frames = w.sites;
	if (j->pages_offered && w.sites * 100 / j->pages_offered > j->best_share)
		j->best_share = w.sites * 100 / j->pages_offered;
	j->calms++;
	free(w.frame);
}
