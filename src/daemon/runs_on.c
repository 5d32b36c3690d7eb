/* SPDX-License-Identifier: MIT */
/* runs_on.c - see runs_on.h. */
#include "daemon/runs_on.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "wire/abi.h"

/* What counts for a thread's node: more if it runs right now, and a bit more for the first one. */
#define COUNT_SLEEPS 2
#define COUNT_RUNS 8
#define COUNT_FIRST 1

/* "TID (NAME) STATE ..."; the 39th field is the CPU. False: it is not what it should be. */
static bool parse_stat(char *stat, const char **name, char *state, int *cpu)
{
	char *open = strchr(stat, '('), *close = strrchr(stat, ')'), *at;

	if (!open || !close || close < open || !close[1])
		return false;
	*close = '\0';
	*name = open + 1;
	*state = close[2];
	at = close + 2;
	for (int field = 3; field < 39; field++) {
		at = strchr(at, ' ');
		if (!at)
			return false;
		at++;
	}
	*cpu = atoi(at);
	return true;
}

/* Adds what a thread counts to its node. */
static void look_at_thread(struct numa_topology *t, int dir, const char *tid, bool first,
			   unsigned int *count)
{
	char path[64], stat[512], state;
	const char *name;
	int fd, cpu, nid;
	ssize_t n;

	snprintf(path, sizeof(path), "%.16s/stat", tid);
	fd = openat(dir, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, stat, sizeof(stat) - 1);
	close(fd);
	stat[n < 0 ? 0 : n] = '\0';
	if (!parse_stat(stat, &name, &state, &cpu) || !strcmp(name, KSM_AGENT_NAME))
		return;
	nid = t->ops->cpu_nid(t, cpu, name);
	if (nid >= 0)
		count[nid] +=
			(state == 'R' ? COUNT_RUNS : COUNT_SLEEPS) + (first ? COUNT_FIRST : 0);
}

int runs_on(struct numa_topology *t, pid_t pid, unsigned int threads_max)
{
	unsigned int count[NUMA_MAX_NODES] = { 0 };
	unsigned int threads = 0;
	int best = -1;
	const struct dirent *e;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d && threads < threads_max && (e = readdir(d)))
		if (*e->d_name != '.') {
			look_at_thread(t, dirfd(d), e->d_name, !threads, count);
			threads++;
		}
	if (d)
		closedir(d);
	for (int nid = 0; nid < t->nr_nodes; nid++)
		if (count[nid] && (best < 0 || count[nid] > count[best]))
			best = nid;
	return best;
}
