/* SPDX-License-Identifier: MIT */
/* readers.c - see readers.h. */
#include "daemon/readers.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <urcu.h>

#include "base/clock.h"
#include "base/span.h"
#include "daemon/client_view.h"
#include "wire/abi.h"

#define ROUND_MS 500     /* between two rounds over all clients, at least */
#define SLICE_NS 1000000 /* CPU time of a step, about; 20 to 30 us for each thread looked at */
#define PARTS 200        /* the steps take no more than one part in so many of a core */
#define THREADS_MAX 16   /* of a client: the first ones, which /proc lists first */
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

/* The node of most; -1: nothing is known. */
static int node_of(struct numa_topology *t, pid_t pid)
{
	unsigned int count[NUMA_MAX_NODES] = { 0 };
	int best = -1, threads = 0;
	const struct dirent *e;
	char path[64];
	DIR *d;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	d = opendir(path);
	while (d && threads < THREADS_MAX && (e = readdir(d)))
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

static void tell(struct clients *c, pid_t pid, int nid)
{
	struct session *s;

	rcu_read_lock();
	s = clients_find(c, pid);
	if (s && s->mm)
		engine_mm_set_reader(s->mm, nid);
	rcu_read_unlock();
}

uint64_t readers_step(struct readers *r, struct clients *c, struct numa_topology *t)
{
	uint64_t now = clock_ms(), begun = clock_thread_cpu_ns(), cost = 0;

	if (now < r->due_ms)
		return r->due_ms;
	if (!r->pid) {
		r->pid = client_pids(c, &r->nr);
		r->next = 0;
	}
	while (r->pid && r->next < r->nr && cost < SLICE_NS) {
		pid_t pid = r->pid[r->next++];

		tell(c, pid, node_of(t, pid));
		cost = clock_thread_cpu_ns() - begun;
	}
	r->due_ms = now + u64_max(cost * PARTS / 1000000, 1);
	if (!r->pid || r->next == r->nr) {
		readers_deinit(r);
		r->due_ms = u64_max(r->due_ms, now + ROUND_MS);
	}
	return r->due_ms;
}

void readers_deinit(struct readers *r)
{
	free(r->pid);
	r->pid = NULL;
}
