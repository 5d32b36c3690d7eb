/* SPDX-License-Identifier: MIT */
/* memgroup.c - see memgroup.h. */
#include "tests/lib/memgroup.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/harness.h"

static const struct {
	const char *root, *limit, *usage, *none;
} versions[] = {
	{ "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "-1" },
	{ "/sys/fs/cgroup", "memory.max", "memory.current", "max" },
};

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "we");
	ok = f && fputs(text, f) >= 0;
	return f && !fclose(f) && ok;
}

bool memgroup_make(struct memgroup *g)
{
	static int nr;
	char path[256];

	for (int v = 0; v < 2 && geteuid() == 0; v++) {
		snprintf(g->dir, sizeof(g->dir), "%s/ksm-test-%d-%d", versions[v].root,
			 (int)getpid(), nr++);
		if (mkdir(g->dir, 0755))
			continue;
		g->root = versions[v].root;
		g->version = v + 1;
		snprintf(path, sizeof(path), "%s/%s", g->dir, versions[v].limit);
		if (!access(path, W_OK))
			return true;
		rmdir(g->dir);
	}
	printf("SKIP: no memory cgroup can be made\n");
	return false;
}

void memgroup_limit(const struct memgroup *g, uint64_t bytes)
{
	char text[32];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)bytes);
	if (!write_file(g->dir, versions[g->version - 1].limit,
			bytes ? text : versions[g->version - 1].none))
		harness_die("%s: no limit of %s: %s", g->dir, text, strerror(errno));
}

uint64_t memgroup_usage(const struct memgroup *g)
{
	char path[256];
	unsigned long long v = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", g->dir, versions[g->version - 1].usage);
	f = fopen(path, "re");
	if (!f || fscanf(f, "%llu", &v) != 1)
		harness_die("%s cannot be read", path);
	fclose(f);
	return v;
}

static void move_to(const char *dir, pid_t pid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", (int)pid);
	if (!write_file(dir, "cgroup.procs", text))
		harness_die("%s: process %s: %s", dir, text, strerror(errno));
}

void memgroup_enter(const struct memgroup *g, pid_t pid)
{
	move_to(g->dir, pid);
}

void memgroup_leave(const struct memgroup *g, pid_t pid)
{
	move_to(g->root, pid);
}

void memgroup_remove(struct memgroup *g)
{
	wait_until(!rmdir(g->dir), WAIT_MS, "the group is empty");
}
