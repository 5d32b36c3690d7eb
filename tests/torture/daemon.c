/* SPDX-License-Identifier: MIT */
/*
 * daemon.c - what happens to the daemon: knobs, questions, SIGSTOP, SIGKILL, a new start with other
 * options.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pool/pageblock.h"
#include "tests/lib/ending.h"
#include "tests/lib/mapping.h"
#include "tests/torture/schedule.h"
#include "wire/abi.h"

#define BLOCK_FRAMES (uint64_t) PAGEBLOCK_FRAMES

static void pick_args(struct job *j)
{
	static const char *const domains[] = { "uid", "uid", "shared", "process" };
	static const char *const topologies[] = { "auto", "emulated:2", "emulated:2,moves",
						  "emulated:4" };
	const char *topology = getenv("TORTURE_TOPOLOGY");
	int n = 0;

	j->daemon_args[n++] = "--log-level";
	j->daemon_args[n++] = "warning";
	j->daemon_args[n++] = "--domain";
	j->daemon_args[n++] = domains[below(j, 4)];
	j->daemon_args[n++] = "--topology";
	j->daemon_args[n++] = topologies[below(j, 4)];
	if (topology)
		j->daemon_args[n - 1] = topology;
	j->daemon_args[n++] = "--allow-group"; /* actors become other users */
	j->daemon_args[n++] = "all";
	if (below(j, 8) == 0) { /* frames run out */
		j->daemon_args[n++] = "--arena-limit";
		j->daemon_args[n++] = "4";
	}
	j->daemon_args[n] = NULL;
}

void daemon_up(struct job *j)
{
	if (j->daemon && j->daemon->pid)
		return;
	pick_args(j);
	if (j->daemon)
		daemon_restart(j->daemon, j->daemon_args);
	else
		j->daemon = daemon_start(j->daemon_args);
	j->merged.seen = j->cow_breaks.seen = j->migrated.seen = j->frames_moved.seen = 0;
	j->ended_since_up = 0;
	daemon_hurry(j);
}

void daemon_must_live(struct job *j)
{
	int status;

	if (j->daemon->pid && waitpid(j->daemon->pid, &status, WNOHANG) == j->daemon->pid) {
		j->daemon->pid = 0;
		fail_schedule("the daemon ended by itself, status %#x", (unsigned int)status);
	}
}

static void store(struct job *j, const char *knob, const char *value)
{
	char path[128];
	int r;

	snprintf(path, sizeof(path), "ksm/%s", knob);
	r = ctl_set(j->daemon, path, value);
	j->knob_stores++;
	daemon_must_live(j);
	/* ETIMEDOUT: `run` 2 while an actor is stopped. */
	if (r && r != -EINVAL && r != -EBUSY && r != -ETIMEDOUT)
		fail_schedule("set %s %s: %s", path, value, strerrorname_np(-r));
}

static void store_must(struct job *j, const char *knob, const char *value)
{
	char path[128];
	int r;

	snprintf(path, sizeof(path), "ksm/%s", knob);
	r = ctl_set(j->daemon, path, value);
	daemon_must_live(j);
	if (r)
		fail_schedule("set %s %s: %s", path, value, strerrorname_np(-r));
}

void daemon_hurry(struct job *j)
{
	store_must(j, "run", "1");
	store_must(j, "advisor_mode", "none");
	store_must(j, "pages_to_scan", "100000");
	store_must(j, "sleep_millisecs", "5");
	store_must(j, "max_idle_millisecs", "20");
	store_must(j, "max_cpu_percent", "100");
	store_must(j, "smart_scan", "0");
	store_must(j, "vma_budget_percent", "50");
	store_must(j, "fork_cost_percent", "1");
	store_must(j, "max_retired_frames", "131072");
	store_must(j, "merge_policy", "global");        /* no other moves frames by itself */
	store_must(j, "compaction_proactiveness", "0"); /* nothing moves by itself */
}

void daemon_rest(struct job *j)
{
	store_must(j, "run", "0");
}

void daemon_unhurried(struct job *j)
{
	store_must(j, "compaction_proactiveness", "20");
}

static void look(struct counted *c, uint64_t now)
{
	c->all += now > c->seen ? now - c->seen : 0;
	c->seen = now;
}

static uint64_t get_number(struct job *j, const char *path)
{
	char buf[64];

	return ctl_get(j->daemon, path, buf, sizeof(buf)) > 0 ? strtoull(buf, NULL, 10) : 0;
}

void daemon_look(struct job *j)
{
	if (!j->daemon->pid)
		return;
	look(&j->merged, get_number(j, "ksm/pages_merged"));
	look(&j->migrated, get_number(j, "ksm/pages_migrated"));
	look(&j->cow_breaks, get_number(j, "ksm/cow_breaks"));
	look(&j->frames_moved,
	     get_number(j, "node/0/pgmigrate_success") + get_number(j, "node/1/pgmigrate_success"));
}

static const struct {
	const char *name;
	uint32_t low, high;
} knobs[] = {
	{ "pages_to_scan", 1, 100000 },
	{ "sleep_millisecs", 0, 40 },
	{ "merge_across_nodes", 0, 2 },
	{ "max_page_sharing", 1, 300 },
	{ "stable_node_chains_prune_millisecs", 0, 3000 },
	{ "use_zero_pages", 0, 1 },
	{ "use_zero_pages", 0, 1 },
	{ "smart_scan", 0, 1 },
	{ "advisor_max_cpu", 1, 100 },
	{ "advisor_target_scan_time", 1, 100 },
	{ "advisor_min_pages_to_scan", 1, 5000 },
	{ "advisor_max_pages_to_scan", 1, 50000 },
	{ "max_idle_millisecs", 1, 100 },
	{ "max_cpu_percent", 0, 101 },
	{ "vma_budget_percent", 0, 101 },
	{ "fork_cost_percent", 0, 101 },
	{ "max_retired_frames", 0, 2000 },
	{ "compaction_proactiveness", 0, 101 },
	{ "merge_distance", 9, 30 },
	{ "hot_sharers", 1, 6 },
	{ "replica_budget_percent", 0, 101 },
};
#define NR_KNOBS (sizeof(knobs) / sizeof(knobs[0]))

static const char *const policies[] = { "global",   "node",      "distance",
					"majority", "replicate", "interleave" };

static void turn_a_knob(struct job *j)
{
	uint64_t i = below(j, NR_KNOBS + 4);
	char value[32];

	if (i == NR_KNOBS) {
		store(j, "advisor_mode", below(j, 2) ? "scan-time" : "none");
		return;
	}
	if (i > NR_KNOBS) {
		store(j, "merge_policy",
		      policies[below(j, sizeof(policies) / sizeof(policies[0]))]);
		return;
	}
	snprintf(value, sizeof(value), "%u",
		 knobs[i].low + (unsigned int)below(j, knobs[i].high - knobs[i].low + 1));
	store(j, knobs[i].name, value);
}

/* One of those that live, or 0. */
static pid_t some_actor(struct job *j)
{
	for (int i = 0; i < 2 * SEATS; i++) {
		const struct proc_seat *p = &ctl->p[below(j, SEATS)];

		if (atomic_load(&p->state) == SEAT_LIVE && atomic_load(&p->pid) > 0)
			return atomic_load(&p->pid);
	}
	return 0;
}

/*
 * Move what stands on a node, or what an actor stands on, to another node, now and then to one that
 * is being filled; or end that.
 */
static void ask_for_move(struct job *j)
{
	unsigned int from = (unsigned int)below(j, 2), to = from ^ 1u;
	char path[32], value[16] = "none";
	int r;

	if (!below(j, 8))
		to = (unsigned int)below(j, 5);
	snprintf(path, sizeof(path), "node/%u/migrate_to", from);
	if (!below(j, 3))
		snprintf(path, sizeof(path), "client/%d/migrate_to", (int)some_actor(j));
	if (below(j, 8))
		snprintf(value, sizeof(value), "%u", to);
	r = ctl_set(j->daemon, path, value);
	daemon_must_live(j);
	j->moves += !r;
	/* EHOSTDOWN: that node is to be empty. */
	if (r && r != -ENOENT && r != -ENXIO && r != -ELOOP && r != -EALREADY && r != -EHOSTDOWN)
		fail_schedule("set %s %s: %s", path, value, strerrorname_np(-r));
}

/*
 * The kernel moves all pages of an actor that lie on one node, also the frames that others map. On
 * a machine with one node it does nothing.
 */
static void have_kernel_move(struct job *j)
{
	pid_t pid = some_actor(j);
	unsigned long from = 1ul << below(j, 2), to = from ^ 3ul;

	if (pid > 0 && syscall(SYS_migrate_pages, pid, 64ul, &from, &to) >= 0)
		j->kernel_moves++;
}

void daemon_move(struct job *j)
{
	if (below(j, 3))
		ask_for_move(j);
	else
		have_kernel_move(j);
}

/* Have a node empty for a while. */
static void empty(struct job *j)
{
	char path[32];
	int r;

	snprintf(path, sizeof(path), "node/%u/drain", (unsigned int)below(j, 2));
	r = ctl_set(j->daemon, path, below(j, 2) ? "1" : "0");
	daemon_must_live(j);
	j->empties += !r;
	/* ENOMEM: it is the last one. */
	if (r && r != -ENOENT && r != -EALREADY && r != -ENOMEM)
		fail_schedule("set %s: %s", path, strerrorname_np(-r));
}

/* First frame of a pageblock that some actor stands on now, or of any near the beginning. */
static uint64_t some_block(struct job *j)
{
	pid_t pid = some_actor(j);
	uint64_t frame = below(j, 64 * BLOCK_FRAMES), seen = 0;
	struct mapping m;
	char path[32];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = pid > 0 ? fopen(path, "re") : NULL;
	while (f && mapping_next(f, &m))
		if (m.arena && !below(j, ++seen))
			frame = m.offset / KSM_PAGE_SIZE;
	return frame / BLOCK_FRAMES * BLOCK_FRAMES;
}

/* Take a pageblock or a node out of use, or put back what is under way, or use all again. */
static void drain(struct job *j)
{
	unsigned int nid = (unsigned int)below(j, 2);
	uint64_t kind = below(j, 16), block = some_block(j), end;
	char path[32], value[64] = "all";
	int r;

	snprintf(path, sizeof(path), "node/%u/frames_end", nid);
	if (ctl_get(j->daemon, path, value, sizeof(value)) <= 0)
		return;
	end = strtoull(value, NULL, 10);
	if (block >= end)
		nid = 1;
	snprintf(path, sizeof(path), "node/%u/%s", nid, kind < 5 ? "online" : "offline");
	snprintf(value, sizeof(value), kind == 15 ? "none" : "all");
	if (kind >= 5 && kind < 13)
		snprintf(value, sizeof(value), "%llu %llu", (unsigned long long)block,
			 (unsigned long long)block + BLOCK_FRAMES * (1 + below(j, 3)));
	r = ctl_set(j->daemon, path, value);
	daemon_must_live(j);
	j->drains += !r && kind >= 5 && kind < 15;
	/* ENOMEM: there is one node only; EINVAL: the range reaches over its end. */
	if (r && r != -ENOENT && r != -EALREADY && r != -EADDRINUSE && r != -ENOMEM && r != -EINVAL)
		fail_schedule("set %s %s: %s", path, value, strerrorname_np(-r));
}

static void compact(struct job *j)
{
	unsigned int nid = (unsigned int)below(j, 2);
	char path[32] = "ksm/compact_memory";
	const char *value = "1";
	int r;

	if (below(j, 2)) {
		snprintf(path, sizeof(path), "node/%u/compact", nid);
		value = below(j, 8) ? "1" : "0";
	}
	r = ctl_set(j->daemon, path, value);
	daemon_must_live(j);
	j->compactions += !r;
	if (r && r != -ENOENT && r != -EALREADY)
		fail_schedule("set %s %s: %s", path, value, strerrorname_np(-r));
}

static bool is_under_way(struct job *j, const char *fmt, int nid)
{
	char path[32], buf[32];

	snprintf(path, sizeof(path), fmt, nid);
	return ctl_get(j->daemon, path, buf, sizeof(buf)) > 0 && strcmp(buf, "none") != 0 &&
	       strcmp(buf, "0") != 0;
}

bool daemon_moves(struct job *j)
{
	for (int nid = 0; nid < 4; nid++) {
		char path[32];

		if (is_under_way(j, "node/%d/gathering", nid)) {
			/* It takes its time, but not when somebody asks for it. */
			snprintf(path, sizeof(path), "node/%d/compact", nid);
			ctl_set(j->daemon, path, "1");
			return true;
		}
		if (is_under_way(j, "node/%d/migrate_to", nid) ||
		    is_under_way(j, "node/%d/offline", nid) ||
		    is_under_way(j, "node/%d/compact", nid))
			return true;
	}
	return false;
}

static void end(struct job *j, const char *path, const char *value)
{
	int r = ctl_set(j->daemon, path, value);

	if (r && r != -ENOENT)
		fail_schedule("set %s %s: %s", path, value, strerrorname_np(-r));
}

void daemon_use_nodes(struct job *j)
{
	char path[32];

	for (int nid = 0; nid < 4; nid++) {
		snprintf(path, sizeof(path), "node/%d/drain", nid);
		end(j, path, "0");
	}
	for (int i = 0; i < SEATS; i++) {
		snprintf(path, sizeof(path), "client/%d/migrate_to",
			 (int)atomic_load(&ctl->p[i].pid));
		end(j, path, "none");
	}
}

void daemon_online(struct job *j)
{
	char path[32];

	for (int nid = 0; nid < 4; nid++) {
		int r;

		snprintf(path, sizeof(path), "node/%d/online", nid);
		r = ctl_set(j->daemon, path, "all");
		if (r && r != -ENOENT)
			fail_schedule("set %s all: %s", path, strerrorname_np(-r));
	}
}

/* Read some of all that there is to read. */
static void ask(struct job *j)
{
	static const char *const dirs[] = { "",       "ksm",    "client",       "domain",
					    "node/0", "daemon", "ksm/left_out", "help/client" };
	const char *dir = dirs[below(j, sizeof(dirs) / sizeof(dirs[0]))];
	char list[8192], path[256], value[512];
	int n = ctl_ls(j->daemon, dir, list, sizeof(list));

	j->queries++;
	if (n < 0)
		fail_schedule("ls %s: %s", dir, strerrorname_np(-n));
	for (char *save, *name = strtok_r(list, "\n", &save); name;
	     name = strtok_r(NULL, "\n", &save)) {
		if (below(j, 4))
			continue;
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		n = ctl_get(j->daemon, path[0] == '/' ? path + 1 : path, value, sizeof(value));
		if (n < 0 && n != -EISDIR && n != -ENOENT)
			fail_schedule("get %s: %s", path, strerrorname_np(-n));
	}
}

static void stop_for_a_while(struct job *j)
{
	j->stops++;
	kill(j->daemon->pid, SIGSTOP);
	nap_us(below(j, 4) ? below(j, 100000) : below(j, 1500000));
	kill(j->daemon->pid, SIGCONT);
}

static void end_and_start(struct job *j)
{
	if (below(j, 4)) {
		j->kills++;
		daemon_kill(j->daemon);
	} else {
		int status;

		j->terms++;
		status = ending_term(j->daemon->pid, WAIT_MS);
		if (status)
			fail_schedule("after SIGTERM the daemon ended with %#x",
				      (unsigned int)status);
		j->daemon->pid = 0;
	}
	nap_us(below(j, 3) ? below(j, 200000) : below(j, 2000000));
	daemon_up(j);
}

void daemon_disturb(struct job *j)
{
	uint64_t kind = below(j, 100);

	daemon_look(j);
	if (kind < 32) {
		turn_a_knob(j);
	} else if (kind < 40) {
		daemon_move(j);
	} else if (kind < 43) {
		empty(j);
	} else if (kind < 48) {
		drain(j);
	} else if (kind < 52) {
		compact(j);
	} else if (kind < 60) {
		daemon_hurry(j);
	} else if (kind < 67) {
		store(j, "run", "0");
	} else if (kind < 72) {
		j->unmerges++;
		actors_resume(j, true); /* it waits for everybody */
		store(j, "run", "2");
		daemon_hurry(j);
	} else if (kind < 84) {
		ask(j);
	} else if (kind < 93) {
		stop_for_a_while(j);
	} else if (kind < 97) {
		end_and_start(j);
	} else {
		store(j, "run", below(j, 2) ? "3" : "1");
		store(j, "pages_to_scan", "no number");
	}
	daemon_must_live(j);
}
