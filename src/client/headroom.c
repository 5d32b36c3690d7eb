/* SPDX-License-Identifier: MIT */
/*
 * headroom.c - see headroom.h.
 *
 * There is room for what is below the limit of the process's memory cgroup, of each group above,
 * and of the machine. Page cache that is not in use counts as room, because the kernel drops it
 * first. Swap does not: a program that begins to swap because of us is worse off than one that goes
 * on sharing. A part of each limit stays free for the program itself.
 *
 * Several processes of a group may look at the same time. So each takes only a sixteenth of the
 * room before it looks again; near the limit the pieces become small.
 */
#include "client/headroom.h"

#include <string.h>

#include "base/span.h"
#include "client/io.h"
#include "wire/wire.h"

#define NO_LIMIT UINT64_MAX
#define PIECES 16u
#define LEAST_ROOM (256ull << 10) /* less is not worth a step */
/* What stays free: a sixteenth of the limit, within these. */
#define RESERVE_MIN (1ull << 20)
#define RESERVE_MAX (64ull << 20)

/* A file system of groups, and the names in it. */
struct tree {
	const char *mark; /* in /proc/self/cgroup, between the number and the path */
	const char *root;
	const char *limit[2], *usage;
	const char *inactive, *active; /* of the page cache, in memory.stat */
};

static const struct tree trees[] = {
	{ "::",
	  "/sys/fs/cgroup",
	  { "/memory.max", "/memory.high" },
	  "/memory.current",
	  "inactive_file ",
	  "active_file " },
	{ ":memory:",
	  "/sys/fs/cgroup/memory",
	  { "/memory.limit_in_bytes", NULL },
	  "/memory.usage_in_bytes",
	  "total_inactive_file ",
	  "total_active_file " },
};

/* The decimal number at p; NO_LIMIT when there is none ("max"). */
static uint64_t number(const char *p)
{
	uint64_t v = 0;

	while (*p == ' ')
		p++;
	if (*p < '0' || *p > '9')
		return NO_LIMIT;
	for (; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (uint64_t)(*p - '0');
	return v;
}

/* The number behind `key` at the beginning of a line; 0 when there is no such line. */
static uint64_t field(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *p = text; p; p = strchr(p, '\n')) {
		p += *p == '\n';
		if (!strncmp(p, key, len))
			return number(p + len);
	}
	return 0;
}

/* path: that of a group, with room for a file's name behind `len` bytes. */
static long slurp(char *path, size_t len, const char *name, char *buf, size_t size)
{
	long n;

	strcpy(path + len, name);
	n = io_slurp(path, buf, size);
	path[len] = '\0';
	return n;
}

static uint64_t room_below(uint64_t limit, uint64_t used)
{
	uint64_t reserve = u64_min(u64_max(limit / 16, RESERVE_MIN), RESERVE_MAX);

	used += reserve;
	return limit > used ? limit - used : 0;
}

/* What one group leaves. */
static uint64_t group_room(const struct tree *t, char *path, size_t len)
{
	uint64_t limit = NO_LIMIT, used, cache;
	char buf[4096];

	for (int i = 0; i < 2; i++)
		if (t->limit[i] && slurp(path, len, t->limit[i], buf, sizeof(buf)) > 0)
			limit = u64_min(limit, number(buf));
	if (limit >> 60 || slurp(path, len, t->usage, buf, sizeof(buf)) <= 0)
		return NO_LIMIT; /* version 1 says "no limit" by a number near 2^63 */
	used = number(buf);
	if (slurp(path, len, "/memory.stat", buf, sizeof(buf)) <= 0)
		return room_below(limit, used);
	cache = field(buf, t->inactive) + field(buf, t->active) / 2;
	return room_below(limit, used > cache ? used - cache : 0);
}

/* What the group at `group` (up to the end of its line) and all above it leave. */
static uint64_t groups_room(const struct tree *t, const char *group)
{
	size_t root = strlen(t->root), len = strcspn(group, "\n");
	char path[512];
	uint64_t room = NO_LIMIT;

	if (root + len + 64 > sizeof(path))
		return NO_LIMIT;
	memcpy(path, t->root, root);
	memcpy(path + root, group, len);
	len += root;
	for (path[len] = '\0';; path[len] = '\0') {
		room = u64_min(room, group_room(t, path, len));
		if (len == root)
			return room;
		while (len > root && path[--len] != '/')
			;
	}
}

static uint64_t machine_room(void)
{
	uint64_t all, free;
	char buf[1024];

	if (io_slurp("/proc/meminfo", buf, sizeof(buf)) <= 0 || !strstr(buf, "MemAvailable:"))
		return NO_LIMIT;
	all = field(buf, "MemTotal:");
	free = field(buf, "MemAvailable:");
	return room_below(all << 10, (all - u64_min(free, all)) << 10);
}

static uint64_t room(void)
{
	uint64_t least = machine_room();
	char buf[2048];

	if (io_slurp("/proc/thread-self/cgroup", buf, sizeof(buf)) <= 0)
		return least;
	for (const char *line = buf; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		for (size_t i = 0; i < sizeof(trees) / sizeof(trees[0]); i++) {
			const char *mark = line + strspn(line, "0123456789");
			size_t len = strlen(trees[i].mark);

			if (!strncmp(mark, trees[i].mark, len))
				least = u64_min(least, groups_room(&trees[i], mark + len));
		}
	}
	return least;
}

bool headroom_look(struct headroom *h)
{
	uint64_t left = room();

	h->credit = left < LEAST_ROOM ? 0 : left / PIECES & ~(uint64_t)(KSM_PAGE_SIZE - 1);
	return h->credit;
}

uint64_t headroom_take(struct headroom *h, uint64_t bytes)
{
	bytes = u64_min(bytes, h->credit) & ~(uint64_t)(KSM_PAGE_SIZE - 1);
	h->credit -= bytes;
	return bytes;
}
