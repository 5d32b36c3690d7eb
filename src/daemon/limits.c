/* SPDX-License-Identifier: MIT */
/*
 * limits.c - see limits.h.
 *
 * Frames are charged to the daemon's memory cgroup, whoever has them made. A daemon whose group is
 * smaller than the machine would be killed before any limit that follows from the machine's memory
 * is reached. So the smallest limit of its group and the groups above counts. Files that are not
 * there (a group seen from within a container, a kernel without the controller) limit nothing.
 */
#include "daemon/limits.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/span.h"

/* Descriptors of a client (socket, pidfd, pagemap, mem), and with a domain of its own its arena and
 * two sentinels, with one to spare. */
#define FDS_PER_CLIENT 8
#define FDS_RESERVED 256u /* control connections, listening sockets, devices */

/* The number in a file; UINT64_MAX when there is none ("max"), or no file. */
static uint64_t read_limit(const char *root, const char *group, const char *name)
{
	char path[PATH_MAX + 64];
	unsigned long long v;
	FILE *f;

	snprintf(path, sizeof(path), "%s%s/%s", root, group, name);
	f = fopen(path, "re");
	if (!f)
		return UINT64_MAX;
	if (fscanf(f, "%llu", &v) != 1)
		v = UINT64_MAX;
	fclose(f);
	return v;
}

/* The least of these files in a group and all above it. Shortens the path. */
static uint64_t least_of(const char *root, char *group, const char *const name[2])
{
	uint64_t least = UINT64_MAX;

	for (;;) {
		char *slash = strrchr(group, '/');

		for (int i = 0; i < 2; i++)
			least = u64_min(least, read_limit(root, group, name[i]));
		if (!slash)
			return least;
		*slash = '\0';
	}
}

/* One line of /proc/self/cgroup: "0::/PATH" or, of version 1, "4:memory:/PATH". */
static uint64_t group_limit(char *line)
{
	static const char *const v2[2] = { "memory.max", "memory.high" };
	static const char *const v1[2] = { "memory.limit_in_bytes", "memory.soft_limit_in_bytes" };
	char *controller = strchr(line, ':'), *group = controller ? strchr(controller + 1, ':') : 0;

	if (!group)
		return UINT64_MAX;
	*group++ = '\0';
	group[strcspn(group, "\n")] = '\0';
	if (!strcmp(controller, ":"))
		return least_of("/sys/fs/cgroup", group, v2);
	if (!strcmp(controller, ":memory"))
		return least_of("/sys/fs/cgroup/memory", group, v1);
	return UINT64_MAX;
}

uint64_t limits_memory(void)
{
	uint64_t least = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	FILE *f = fopen("/proc/self/cgroup", "re");
	char line[PATH_MAX];

	while (f && fgets(line, sizeof(line), f))
		least = u64_min(least, group_limit(line));
	if (f)
		fclose(f);
	return least;
}

void limits_set_descriptors(struct account_table *t)
{
	struct rlimit nofile = { 0 };
	uint64_t nr;

	getrlimit(RLIMIT_NOFILE, &nofile);
	nr = nofile.rlim_cur > 2 * FDS_RESERVED ? nofile.rlim_cur - FDS_RESERVED :
						  nofile.rlim_cur / 2;
	/* At least one client of one user, and one of another. */
	nr = u64_max(nr, 4 * FDS_PER_CLIENT);
	account_limit(t, ACCOUNT_DESCRIPTORS, nr);
	account_limit(t, ACCOUNT_PLACES, nr / FDS_PER_CLIENT);
	account_limit(t, ACCOUNT_DOMAINS, nr / FDS_PER_CLIENT);
}
