/* SPDX-License-Identifier: MIT */
/*
 * coming.c - nodes whose memory and CPUs come and go while the daemon runs, and nodes that have
 * only one of the two.
 *
 * The guest's last node has memory in a DIMM, out of use at first ("1x+256"). The kernel empties
 * that memory before it lets go of it, so the daemon's frames are moved by somebody else, all of
 * them, whatever they are doing.
 */
#include <errno.h>
#include <numaif.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/lib/puppet.h"
#include "tests/numa-vm/scene.h"

/* The last node, and the nearest to it. */
enum { LATE = 2, NEAR = 1 };

/* One that refuses at first is asked again: the daemon looks at nodes once a second. */
static void migrate_when_known(struct daemon *d, int from, int to)
{
	char path[64];

	path_of(path, sizeof(path), from, "migrate_to");
	wait_until(!ctl_set_u64(d, path, (uint64_t)to), WAIT_MS, "the node is known");
	wait_until(says(d, path, "none"), WAIT_MS, "the move ends");
}

static void expect_refused(struct daemon *d, int from, int to, int err)
{
	char path[64];

	path_of(path, sizeof(path), from, "migrate_to");
	wait_until(ctl_set_u64(d, path, (uint64_t)to) == err, WAIT_MS, "it is refused");
}

/* What was refused has changed nothing. */
static void expect_all_on_their_nodes(struct pairs *s)
{
	for (int i = 0; i < s->nr; i++)
		expect_on(s->p[i], s->a[i], PAGES, i / 2);
}

/* Both offer pages of this node, which merge. */
static void offer_both(struct puppet *p, long *a, struct puppet *q, long *b, long content, int nid)
{
	*a = puppet_call(p, fn_offer_on, PAGES, content, 1, nid);
	*b = puppet_call(q, fn_offer_on, PAGES, content, 1, nid);
	wait_until(pages_sharing_frames(p, *a, q, *b, PAGES) == PAGES, WAIT_MS, "merged");
}

/*
 * Offers pages of the late node. False: they were merged elsewhere, and are gone. The daemon asks
 * once a second which nodes have memory.
 */
static bool merges_there(struct puppet *p, long *a, struct puppet *q, long *b, long content)
{
	offer_both(p, a, q, b, content, LATE);
	if (puppet_call(p, fn_where, *a, PAGES, LATE) == PAGES)
		return true;
	puppet_call(p, fn_munmap, *a, PAGES * (long)PUPPET_PAGE);
	puppet_call(q, fn_munmap, *b, PAGES * (long)PUPPET_PAGE);
	return false;
}

/*
 * Nothing goes to a node without memory; when it has some it is used as any other; and when that
 * goes its frames are on the nearest node, merged with those of their contents there.
 */
START_TEST(memory_comes_and_goes)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 2, 0);
	struct puppet *p = puppet_on(LATE), *q = puppet_on(LATE);
	char path[64];
	long a, b;

	expect_refused(d, 0, LATE, -ENODEV);
	path_of(path, sizeof(path), LATE, "drain");
	ck_assert_int_eq(ctl_set(d, path, "1"), -ENODEV);
	snprintf(path, sizeof(path), "client/%d/migrate_to", (int)s.p[0]->pid);
	ck_assert_int_eq(ctl_set_u64(d, path, LATE), -ENODEV);
	expect_all_on_their_nodes(&s);
	for (int round = 0; round < 2; round++) {
		ck_assert(node_use_memory(LATE, true));
		migrate_when_known(d, round ? NEAR : 0, LATE);
		for (int i = 0; i < (round ? 4 : 2); i++)
			expect_on(s.p[i], s.a[i], PAGES, LATE);
		wait_until(merges_there(p, &a, q, &b, 1000 + round), WAIT_MS, "it is used");
		wait_until(node_use_memory(LATE, false), WAIT_MS, "its memory goes");
		ck_assert(!node_has_memory(LATE));
		wait_until(pages_sharing_frames(s.p[0], s.a[0], s.p[2], s.a[2], PAGES) == PAGES,
			   WAIT_MS, "what was there is merged with what is here");
		expect_all_on(&s, NEAR);
		expect_on(p, a, PAGES, NEAR);
		expect_whole(p, a, PAGES, 1000 + round);
		expect_whole(q, b, PAGES, 1000 + round);
		expect_refused(d, NEAR, LATE, -ENODEV);
		puppet_call(p, fn_munmap, a, PAGES * (long)PUPPET_PAGE);
		puppet_call(q, fn_munmap, b, PAGES * (long)PUPPET_PAGE);
		expect_counts(d, PAGES, 3 * PAGES);
	}
	puppet_end(p);
	puppet_end(q);
	end(&s, d);
}
END_TEST

/* A node that is being emptied loses its memory. */
START_TEST(memory_goes_from_a_drained_node)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 2, 0);
	char path[64];

	ck_assert(node_use_memory(LATE, true));
	migrate_when_known(d, 0, LATE);
	path_of(path, sizeof(path), LATE, "drain");
	ck_assert_int_eq(ctl_set(d, path, "1"), 0);
	wait_until(node_use_memory(LATE, false), WAIT_MS, "its memory goes");
	wait_until(!node_u64(d, LATE, "pages_shared"), WAIT_MS, "it is empty");
	for (int i = 0; i < s.nr; i++) {
		ck_assert_int_eq(puppet_call(s.p[i], fn_where, s.a[i], PAGES, LATE), 0);
		expect_whole(s.p[i], s.a[i], PAGES, 1);
	}
	ck_assert_int_eq(ctl_set(d, path, "0"), 0);
	end(&s, d);
}
END_TEST

/* The frames are where most of their readers run, also on CPUs that came when all had begun. */
static void expect_followed(struct pairs *s, int node)
{
	for (int i = 0; i < s->nr; i++)
		ck_assert_int_eq(puppet_call(s->p[i], fn_run_on, node), 0);
	for (int i = 0; i < s->nr; i++)
		wait_until(puppet_call(s->p[i], fn_where, s->a[i], PAGES, node) == PAGES, WAIT_MS,
			   "frames follow their readers");
	for (int i = 0; i < s->nr; i++)
		expect_whole(s->p[i], s->a[i], PAGES, 1);
}

/* _i: the node has no CPU when the daemon begins, and gets it then. */
START_TEST(cpus_come_and_go)
{
	int cpu = node_first_cpu(NEAR);
	struct puppet *p, *q;
	struct daemon *d;
	struct pairs s;
	long a, b;

	if (_i)
		cpu_use(cpu, false);
	d = start(1);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "majority"), 0);
	s = pairs_on(d, 1, 1);
	for (int round = 0; round < 2; round++) {
		if (_i || round)
			cpu_use(cpu, true);
		expect_followed(&s, NEAR);
		cpu_use(cpu, false);
		ck_assert(!node_has_cpus(NEAR));
		expect_followed(&s, 0);
		/* Its memory is used as before. */
		p = puppet_on(0);
		q = puppet_on(0);
		ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "node"), 0);
		wait_full_scans(d, 2, WAIT_MS); /* it is taken over by a pass that begins */
		offer_both(p, &a, q, &b, 1000, NEAR);
		expect_on(p, a, PAGES, NEAR);
		expect_whole(q, b, PAGES, 1000);
		ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "majority"), 0);
		puppet_end(p);
		puppet_end(q);
	}
	cpu_use(cpu, true);
	end(&s, d);
}
END_TEST

/* A client's cpuset is changed while it runs: the kernel moves its pages, and we follow. */
START_TEST(client_in_a_cpuset)
{
	struct daemon *d = start(0);
	struct pairs s = pairs_on(d, 2, 0);
	char pid[16];

	mkdir("/tmp/cgroup", 0755);
	ck_assert_int_eq(mount("none", "/tmp/cgroup", "cgroup2", 0, NULL), 0);
	write_to("/tmp/cgroup/cgroup.subtree_control", "+cpuset");
	ck_assert_int_eq(mkdir("/tmp/cgroup/c", 0755), 0);
	write_to("/tmp/cgroup/c/cpuset.mems", "0");
	for (int i = 0; i < 2; i++) {
		snprintf(pid, sizeof(pid), "%d", (int)s.p[i]->pid);
		write_to("/tmp/cgroup/c/cgroup.procs", pid);
	}
	expect_counts(d, 2 * PAGES, 2 * PAGES);
	write_to("/tmp/cgroup/c/cpuset.mems", "1");
	expect_counts(d, PAGES, 3 * PAGES);
	expect_all_on(&s, 1);
	/* A copy after a write is where the cpuset allows it. */
	puppet_call(s.p[0], fn_fill, s.a[0], PAGES, 1000, 1);
	expect_on(s.p[0], s.a[0], PAGES, 1);
	expect_whole(s.p[0], s.a[0], PAGES, 1000);
	end(&s, d);
	rmdir("/tmp/cgroup/c");
	umount("/tmp/cgroup");
}
END_TEST

/* A node without CPUs: frames go there and come back, and no reader draws them there. */
START_TEST(node_without_cpus)
{
	struct daemon *d = start(1);
	struct pairs s = pairs_on(d, 1, 1);
	int far = 0;

	while (far < nodes_nr() && (node_has_cpus(far) || !node_has_memory(far)))
		far++;
	ck_assert_int_lt(far, nodes_nr());
	migrate(d, 0, far);
	expect_all_on(&s, far);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "majority"), 0);
	for (int i = 0; i < s.nr; i++)
		wait_until(puppet_call(s.p[i], fn_where, s.a[i], PAGES, 0) == PAGES, WAIT_MS,
			   "frames are where their readers are");
	expect_all_on(&s, 0);
	end(&s, d);
}
END_TEST

bool coming_add(TCase *tc, const char *name)
{
	if (!strcmp(name, "lone")) {
		tcase_add_test(tc, node_without_cpus);
		return true;
	}
	if (!strcmp(name, "clients")) {
		tcase_add_test(tc, client_in_a_cpuset);
		return true;
	}
	if (strcmp(name, "coming") != 0)
		return false;
	tcase_add_test(tc, memory_comes_and_goes);
	tcase_add_test(tc, memory_goes_from_a_drained_node);
	tcase_add_loop_test(tc, cpus_come_and_go, 0, 2);
	return true;
}
