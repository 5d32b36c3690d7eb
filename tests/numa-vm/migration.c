/* SPDX-License-Identifier: MIT */
/*
 * migration.c - frames that move from node to node, and contents that meet there.
 *
 * Which pages lie where is asked page by page, by move_pages(2), before and after.
 */
#include <errno.h>
#include <linux/capability.h>
#include <numaif.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <time.h>

#include "ksm.h"
#include "tests/lib/puppet.h"
#include "tests/numa-vm/scene.h"

/* Under their mappings, at once: no client is asked, so a stopped one is no hindrance. */
START_TEST(no_collision)
{
	struct daemon *d = start(_i);
	struct pairs s = pairs_on(d, 1, 1);
	uint64_t orders = ctl_get_u64(d, "ksm/orders_given");

	ck_assert_int_eq(kill(s.p[1]->pid, SIGSTOP), 0);
	migrate(d, 0, 1);
	expect_on(s.p[0], s.a[0], PAGES, 1);
	ck_assert_uint_eq(node_u64(d, 0, "pgmigrate_placed"), PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "pgmigrate_fail"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/orders_given"), orders);
	ck_assert_int_eq(kill(s.p[1]->pid, SIGCONT), 0);
	expect_all_on(&s, 1);
	migrate(d, 1, 0);
	expect_all_on(&s, 0);
	ck_assert_int_eq(pages_sharing_frames(s.p[0], s.a[0], s.p[1], s.a[1], PAGES), PAGES);
	end(&s, d);
}
END_TEST

/* The contents stand there: one frame takes all. Who has written keeps what it has. */
START_TEST(collision)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 2, 0);

	puppet_call(s.p[1], fn_fill, s.a[1], PAGES / 2, 1000, 1);
	migrate(d, 0, 1);
	expect_counts(d, PAGES, 2 * PAGES + PAGES / 2);
	expect_on(s.p[0], s.a[0], PAGES, 1);
	expect_on(s.p[1], s.a[1], PAGES / 2, 0);
	expect_on(s.p[1], s.a[1] + PAGES / 2 * (long)PUPPET_PAGE, PAGES / 2, 1);
	expect_whole(s.p[1], s.a[1], PAGES / 2, 1000);
	expect_whole(s.p[1], s.a[1] + PAGES / 2 * (long)PUPPET_PAGE, PAGES / 2, 1 + PAGES / 2);
	ck_assert_uint_eq(node_u64(d, 0, "migrate_collisions"), PAGES);
	ck_assert_int_eq(pages_sharing_frames(s.p[0], s.a[0], s.p[2], s.a[2], PAGES), PAGES);
	for (int i = 0; i < 4; i += i ? 1 : 2)
		expect_whole(s.p[i], s.a[i], PAGES, 1);
	end(&s, d);
}
END_TEST

/* A client that does not answer: its frame moves nevertheless, and is merged when it can be. */
START_TEST(collision_with_stopped)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 2, 0);

	ck_assert_int_eq(kill(s.p[1]->pid, SIGSTOP), 0);
	migrate(d, 0, 1);
	ck_assert_uint_eq(node_u64(d, 0, "pgmigrate_fail"), 0);
	ck_assert_int_eq(kill(s.p[1]->pid, SIGCONT), 0);
	expect_all_on(&s, 1);
	expect_counts(d, PAGES, 3 * PAGES);
	expect_all_on(&s, 1);
	end(&s, d);
}
END_TEST

/* max_page_sharing: the frames that come are dups of those that are there. */
START_TEST(collision_without_room)
{
	struct daemon *d = start(0);
	struct pairs s;

	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 2), 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/max_page_sharing", 3), 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 1), 0);
	s = pairs_on(d, 2, 0);
	migrate(d, 0, 1);
	expect_all_on(&s, 1);
	expect_counts(d, 2 * PAGES, 2 * PAGES);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/stable_node_chains"), PAGES);
	end(&s, d);
}
END_TEST

/* The kernel has moved frames to where their contents stood. */
START_TEST(kernel_makes_them_meet)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 2, 0);

	move_all(s.p[0], s.a[0], 1, MPOL_MF_MOVE_ALL);
	expect_counts(d, PAGES, 3 * PAGES);
	expect_all_on(&s, 1);
	wait_counter(d, "frames_met_merged", PAGES);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/frames_met"), 0);
	end(&s, d);
}
END_TEST

/* A client whose answer takes seconds is asked again. Frames that moved, as the daemon says. */
static unsigned long migrate_client(struct daemon *d, struct puppet *p, long addr, int to)
{
	char path[64], result[128];
	unsigned long sum = 0, nr, failed = 1;

	for (int tries = 0; failed && tries < 20; tries++) {
		snprintf(path, sizeof(path), "client/%d/migrate_to", (int)p->pid);
		ck_assert_int_eq(ctl_set_u64(d, path, (uint64_t)to), 0);
		wait_until(says(d, path, "none"), WAIT_MS, "the move ends");
		snprintf(path, sizeof(path), "client/%d/migrate_result", (int)p->pid);
		ck_assert_int_gt(ctl_get(d, path, result, sizeof(result)), 0);
		ck_assert_msg(sscanf(result, "done: frames %lu failed %lu", &nr, &failed) == 2,
			      "%s", result);
		sum += nr;
	}
	expect_on(p, addr, PAGES, to);
	return sum;
}

/* Of a frame with others' pages on it, the client's alone move. */
START_TEST(one_client)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 1, 1);
	char path[64];

	ck_assert_uint_eq(migrate_client(d, s.p[0], s.a[0], 1), PAGES);
	expect_on(s.p[1], s.a[1], PAGES, 0);
	snprintf(path, sizeof(path), "client/%d/migrate_result", (int)s.p[0]->pid);
	ck_assert_int_eq(ctl_set(d, path, "1"), -EACCES);
	snprintf(path, sizeof(path), "client/%d/migrate_to", (int)s.p[1]->pid);
	ck_assert_int_eq(ctl_set(d, path, "9"), -ENXIO);
	ck_assert_int_eq(ctl_set(d, path, "x"), -EINVAL);
	migrate_client(d, s.p[1], s.a[1], 1);
	expect_counts(d, PAGES, PAGES);
	expect_all_on(&s, 1);
	end(&s, d);
}
END_TEST

/* Without CAP_SYS_NICE the clients are asked. */
START_TEST(without_the_right)
{
	struct daemon *d;
	struct pairs s;

	ck_assert_int_eq(prctl(PR_CAPBSET_DROP, CAP_SYS_NICE, 0, 0, 0), 0);
	d = start(0);
	s = pairs_on(d, 1, 1);
	/* A client whose answer takes seconds is asked again. */
	for (int tries = 0; node_u64(d, 0, "pages_shared") && tries < 20; tries++)
		migrate(d, 0, 1);
	expect_all_on(&s, 1);
	ck_assert_uint_eq(node_u64(d, 0, "pgmigrate_placed"), 0);
	ck_assert_uint_eq(node_u64(d, 0, "pgmigrate_success"), PAGES);
	expect_counts(d, PAGES, PAGES);
	end(&s, d);
}
END_TEST

/* ---- a node that is to be empty, and one that the daemon may not use ---- */

static bool drained(struct daemon *d, int node, const char *result)
{
	char path[64], buf[256];

	path_of(path, sizeof(path), node, "drain_result");
	ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
	return !strncmp(buf, result, strlen(result));
}

static void drain(struct daemon *d, int node, const char *result)
{
	enum { LAST_MS = 8 * 15000 }; /* then it is given up, though some frames may still leave */
	char path[64], buf[256];

	path_of(path, sizeof(path), node, "drain");
	ck_assert_int_eq(ctl_set(d, path, "1"), 0);
	wait_until(!drained(d, node, "under way"), LAST_MS + WAIT_MS,
		   "it is empty, or in use again");
	path_of(path, sizeof(path), node, "drain_result");
	ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
	ck_assert_msg(drained(d, node, result), "%s: not %s", buf, result);
	ck_assert_uint_eq(node_u64(d, node, "drain"), !strcmp(result, "done"));
}

/* Frames go, contents that meet are merged, and nothing comes until the node is given back. */
START_TEST(empty_node)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 2, 0);
	struct puppet *p = puppet_on(0), *q = puppet_on(0);
	long a, b;

	drain(d, 0, "done");
	expect_all_on(&s, 1);
	ck_assert_uint_eq(node_u64(d, 0, "pages_shared"), 0);
	ck_assert_int_eq(ctl_set(d, "node/0/drain", "1"), -EALREADY);
	ck_assert_int_eq(ctl_set(d, "node/0/migrate_to", "1"), -EALREADY);
	ck_assert_int_eq(ctl_set(d, "node/1/migrate_to", "0"), -EHOSTDOWN);
	ck_assert_int_eq(ctl_set(d, "node/1/drain", "1"), -ENOMEM);
	ck_assert_int_eq(ctl_set(d, "node/1/drain", "2"), -EINVAL);
	expect_counts(d, PAGES, 3 * PAGES);
	a = puppet_call(p, fn_offer_on, PAGES, 1000, 1, 0);
	b = puppet_call(q, fn_offer_on, PAGES, 1000, 1, 0);
	expect_counts(d, 2 * PAGES, 4 * PAGES);
	expect_on(p, a, PAGES, 1);
	expect_on(q, b, PAGES, 1);
	/* What is moved there goes again. */
	move_all(p, a, 0, MPOL_MF_MOVE_ALL);
	wait_until(puppet_call(p, fn_where, a, PAGES, 1) == PAGES, WAIT_MS, "frames go again");
	ck_assert_int_eq(ctl_set(d, "node/0/drain", "0"), 0);
	ck_assert(drained(d, 0, "none"));
	puppet_call(p, fn_fill, a, PAGES, 3000, 1);
	puppet_call(q, fn_fill, b, PAGES, 3000, 1);
	wait_until(puppet_call(p, fn_where, a, PAGES, 0) == PAGES, WAIT_MS, "the node is used");
	expect_counts(d, 2 * PAGES, 4 * PAGES);
	expect_on(p, a, PAGES, 0);
	expect_whole(p, a, PAGES, 3000);
	expect_whole(q, b, PAGES, 3000);
	puppet_end(p);
	puppet_end(q);
	end(&s, d);
}
END_TEST

/* The others are full: all stays, and the reason is named. */
START_TEST(empty_node_without_room)
{
	enum { MANY = 8000 }; /* more than the kernel keeps back for those who may wait */
	struct daemon *d = start(0);
	struct puppet *p = puppet_on(0), *q = puppet_on(0), *hog = puppet_on(1);
	long a = puppet_call(p, fn_offer_on, MANY, 1, 1, 0);
	long b = puppet_call(q, fn_offer_on, MANY, 1, 1, 0);

	/* Nor do CPUs keep free pages for themselves, which would be room later (38 MiB were). */
	write_to("/proc/sys/vm/percpu_pagelist_high_fraction", "1000000");
	expect_counts(d, MANY, MANY);
	ck_assert_int_gt(puppet_call(hog, fn_fill_node, 1), 0);
	drain(d, 0, "ENOMEM domain ");
	expect_counts(d, MANY, MANY);
	ck_assert_int_gt(puppet_call(p, fn_where, a, MANY, 0), 0);
	expect_whole(p, a, MANY, 1);
	expect_whole(q, b, MANY, 1);
	puppet_kill(hog);
	drain(d, 0, "done");
	expect_on(p, a, MANY, 1);
	expect_whole(p, a, MANY, 1);
	expect_whole(q, b, MANY, 1);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* The daemon is in a cpuset of memory node 1 from now on. */
static void confine(struct daemon *d)
{
	char pid[16];

	mkdir("/tmp/cgroup", 0755);
	ck_assert_int_eq(mount("none", "/tmp/cgroup", "cgroup2", 0, NULL), 0);
	write_to("/tmp/cgroup/cgroup.subtree_control", "+cpuset");
	ck_assert_int_eq(mkdir("/tmp/cgroup/d", 0755), 0);
	write_to("/tmp/cgroup/d/cpuset.mems", "1");
	snprintf(pid, sizeof(pid), "%d", (int)d->pid);
	write_to("/tmp/cgroup/d/cgroup.procs", pid);
}

/*
 * E: pages of a node that the daemon may not use are of that node nevertheless. Their frames are
 * made where it may, and come to them when it may.
 */
START_TEST(daemon_in_a_cpuset)
{
	struct daemon *d = start(0);
	struct pairs s;

	confine(d);
	s = pairs_on(d, 2, 0);
	expect_all_on(&s, 1);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/frames_away"), PAGES);
	ck_assert_int_eq(ctl_set(d, "node/1/migrate_to", "0"), -EPERM);
	ck_assert_int_eq(ctl_set(d, "node/1/drain", "1"), -ENOMEM);
	write_to("/tmp/cgroup/d/cpuset.mems", "0-1");
	wait_counter(d, "frames_away", 0);
	for (int i = 0; i < 4; i++) {
		expect_on(s.p[i], s.a[i], PAGES, i / 2);
		expect_whole(s.p[i], s.a[i], PAGES, 1);
	}
	write_to("/tmp/cgroup/d/cpuset.mems", "0");
	ck_assert_int_eq(ctl_set(d, "node/0/migrate_to", "1"), -EPERM);
	ck_assert_int_eq(ctl_set(d, "node/1/migrate_to", "0"), 0);
	expect_counts(d, PAGES, 3 * PAGES);
	expect_all_on(&s, 0);
	end(&s, d);
	rmdir("/tmp/cgroup/d");
	umount("/tmp/cgroup");
}
END_TEST

/* Each node with memory has some of the pages, and those together all. */
static bool spread(struct puppet *p, long addr)
{
	int sum = 0;

	for (int node = 0; node < nodes_nr(); node++) {
		int on = node_has_memory(node) ? (int)puppet_call(p, fn_where, addr, PAGES, node) :
						 0;

		if (!on && node_has_memory(node))
			return false;
		sum += on;
	}
	return sum == PAGES;
}

/* Nothing comes to lie on a node without memory, nor can it be sent there. */
START_TEST(node_without_memory)
{
	struct daemon *d = start(1);
	struct puppet *p, *q;
	char path[64];
	long a, b;
	int absent = 0;

	while (absent < nodes_nr() && node_has_memory(absent))
		absent++;
	ck_assert_int_lt(absent, nodes_nr());
	ck_assert_int_eq(ctl_set_u64(d, "node/0/migrate_to", (uint64_t)absent), -ENODEV);
	path_of(path, sizeof(path), absent, "drain");
	ck_assert_int_eq(ctl_set(d, path, "1"), -ENODEV);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "interleave"), 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/hot_sharers", 2), 0);
	p = puppet_on(0);
	q = puppet_on(absent); /* it has CPUs */
	a = puppet_call(p, fn_offer_on, PAGES, 1, 1, 0);
	b = puppet_call(q, fn_offer_on, PAGES, 1, 1, 0);
	expect_counts(d, PAGES, PAGES);
	wait_until(spread(p, a), WAIT_MS, "it is spread");
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/frames_away"), 0);
	ck_assert_uint_eq(node_u64(d, absent, "policy_failed"), 0);
	expect_whole(p, a, PAGES, 1);
	expect_whole(q, b, PAGES, 1);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

bool migration_add(TCase *tc, const char *name)
{
	if (!strcmp(name, "absent")) {
		tcase_add_test(tc, node_without_memory);
		return true;
	}
	if (!strcmp(name, "drain")) {
		tcase_add_test(tc, empty_node);
		tcase_add_test(tc, empty_node_without_room);
		return true;
	}
	if (!strcmp(name, "cpuset")) {
		tcase_add_test(tc, daemon_in_a_cpuset);
		return true;
	}
	if (strcmp(name, "migration") != 0)
		return false;
	tcase_add_loop_test(tc, no_collision, 0, 2);
	tcase_add_test(tc, collision);
	tcase_add_test(tc, collision_with_stopped);
	tcase_add_test(tc, collision_without_room);
	tcase_add_test(tc, kernel_makes_them_meet);
	tcase_add_test(tc, one_client);
	tcase_add_test(tc, without_the_right);
	return true;
}
