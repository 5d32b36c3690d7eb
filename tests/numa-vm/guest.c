/* SPDX-License-Identifier: MIT */
/*
 * guest.c - what the daemon does on a machine with several NUMA nodes; runs inside the guest.
 *
 *	guest SUITE...
 *	guest torture SECONDS SEED
 *
 * The second is the torture (tests/torture) with the daemon on the guest's nodes.
 *
 * Where a page lies is what move_pages(2) says in the process that maps it. Every page's contents
 * are checked after everything that was done to it.
 */
#include <check.h>
#include <numaif.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/numa-vm/nodes.h"
#include "tests/numa-vm/scene.h"

/* Two puppets for each node with memory, the same contents everywhere. */
struct crowd {
	int nr;
	struct puppet *p[2 * MAX_NODES];
	long a[2 * MAX_NODES];
	int node[2 * MAX_NODES];
};

static struct crowd gather(void)
{
	struct crowd c = { 0 };

	for (int node = 0; node < nodes_nr(); node++) {
		if (!node_has_memory(node))
			continue;
		for (int i = 0; i < 2; i++, c.nr++) {
			c.p[c.nr] = puppet_new();
			c.node[c.nr] = node;
			c.a[c.nr] = puppet_call(c.p[c.nr], fn_offer_on, PAGES, 1, 1, node);
			ck_assert_int_gt(c.a[c.nr], 0);
		}
	}
	return c;
}

static void dismiss(struct crowd *c)
{
	for (int i = 0; i < c->nr; i++) {
		expect_whole(c->p[i], c->a[i], PAGES, 1);
		puppet_end(c->p[i]);
	}
}

/* merge_across_nodes 0: as many sets as nodes with memory, each frame on the node of its pages. */
START_TEST(formulas_per_node)
{
	struct daemon *d = start(0);
	struct crowd c = gather();

	expect_counts(d, (uint64_t)(c.nr / 2 * PAGES), (uint64_t)(c.nr / 2 * PAGES));
	for (int i = 0; i < c.nr; i++)
		expect_on(c.p[i], c.a[i], PAGES, c.node[i]);
	for (int node = 0; node < nodes_nr(); node++) {
		uint64_t pages = node_has_memory(node) ? PAGES : 0;

		ck_assert_uint_eq(node_u64(d, node, "pages_shared"), pages);
		ck_assert_uint_eq(node_u64(d, node, "pages_sharing"), pages);
	}
	dismiss(&c);
	daemon_stop(d);
}
END_TEST

START_TEST(formulas_across)
{
	struct daemon *d = start(1);
	struct crowd c = gather();

	expect_counts(d, PAGES, (uint64_t)((c.nr - 1) * PAGES));
	dismiss(&c);
	daemon_stop(d);
}
END_TEST

/* A: a page that is written afterwards lies where its writer runs. */
START_TEST(copies_at_the_writer)
{
	struct daemon *d = start(1);
	struct puppet *p = puppet_on(0), *q = puppet_on(0);
	long a = puppet_call(p, fn_offer_on, PAGES, 1, 1, 0);
	long b = puppet_call(q, fn_offer_on, PAGES, 1, 1, 0);

	expect_counts(d, PAGES, PAGES);
	ck_assert_int_eq(ctl_set(d, "ksm/run", "0"), 0);
	expect_on(q, b, PAGES, 0);
	ck_assert_int_eq(puppet_call(q, fn_run_on, 1), 0);
	puppet_call(q, fn_fill, b, PAGES, 1000, 1);
	expect_on(q, b, PAGES, 1);
	expect_whole(q, b, PAGES, 1000);
	/* A writer's own policy says so even where it runs elsewhere. */
	ck_assert_int_eq(puppet_call(p, fn_policy, MPOL_BIND, 1), 0);
	puppet_call(p, fn_fill, a, PAGES, 2000, 1);
	expect_on(p, a, PAGES, 1);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* B: what a client says of its mapping of the arena is nobody else's. */
START_TEST(no_policy_for_others)
{
	struct daemon *d = start(0);
	struct puppet *p = puppet_on(0), *q = puppet_on(0), *liar = puppet_on(0);
	long a = puppet_call(p, fn_offer_on, PAGES, 1, 1, 0);
	long b = puppet_call(q, fn_offer_on, PAGES, 1, 1, 0), c;

	expect_counts(d, PAGES, PAGES);
	c = puppet_call(liar, fn_offer_on, PAGES, 1, 1, 0);
	expect_counts(d, PAGES, 2 * PAGES);
	puppet_call(liar, fn_mbind, c, PAGES, MPOL_BIND, 1, 0);
	wait_until(puppet_call(q, fn_policy_at, b) == MPOL_DEFAULT, WAIT_MS, "the policy goes");
	puppet_call(q, fn_fill, b, PAGES / 2, 1000, 1);
	expect_on(q, b, PAGES / 2, 0);
	/* New frames come where they belong, also where the old ones were. */
	puppet_call(p, fn_fill, a, PAGES, 5000, 1);
	puppet_call(q, fn_fill, b, PAGES, 5000, 1);
	puppet_kill(liar);
	expect_counts(d, PAGES, PAGES);
	expect_on(p, a, PAGES, 0);
	expect_on(q, b, PAGES, 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* C: pages that nobody writes, and that have gone to another node, are of that node. */
START_TEST(calm_pages_that_move)
{
	struct daemon *d = start(0);
	struct puppet *p = puppet_on(0), *q = puppet_on(1);
	long a = puppet_call(p, fn_offer_on, PAGES, 1, 1, 0);
	long b = puppet_call(q, fn_offer_on, PAGES, 1, 1, 1);

	wait_counter(d, "pages_unshared", 2 * PAGES);
	wait_full_scans(d, 3, WAIT_MS);
	move_all(p, a, 1, MPOL_MF_MOVE);
	expect_counts(d, PAGES, PAGES);
	expect_on(p, a, PAGES, 1);
	expect_whole(p, a, PAGES, 1);
	expect_whole(q, b, PAGES, 1);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* D: a frame that has gone to another node takes pages of that node, and only of that. */
START_TEST(frames_that_move)
{
	struct daemon *d = start(0);
	struct puppet *p = puppet_on(0), *q = puppet_on(0), *r;
	long a = puppet_call(p, fn_offer_on, PAGES, 1, 1, 0), c;
	long b = puppet_call(q, fn_offer_on, PAGES, 1, 1, 0);

	expect_counts(d, PAGES, PAGES);
	move_all(p, a, 1, MPOL_MF_MOVE_ALL);
	expect_on(q, b, PAGES, 1);
	wait_full_scans(d, 3, WAIT_MS);
	r = puppet_on(1);
	c = puppet_call(r, fn_offer_on, PAGES, 1, 1, 1);
	expect_counts(d, PAGES, 2 * PAGES);
	expect_on(r, c, PAGES, 1);
	expect_whole(p, a, PAGES, 1);
	expect_whole(q, b, PAGES, 1);
	expect_whole(r, c, PAGES, 1);
	puppet_end(p);
	puppet_end(q);
	puppet_end(r);
	daemon_stop(d);
}
END_TEST

/* F: frames for which their node has no room are made elsewhere, and come back when it has. */
START_TEST(full_node)
{
	struct daemon *d = start(0);
	struct puppet *p = puppet_on(0), *q = puppet_on(0), *hog = puppet_on(0);
	long a, b;

	ck_assert_int_eq(ctl_set(d, "ksm/run", "0"), 0);
	a = puppet_call(p, fn_offer_on, PAGES, 1, 1, 0);
	b = puppet_call(q, fn_offer_on, PAGES, 1, 1, 0);
	ck_assert_int_gt(puppet_call(hog, fn_fill_node, 0), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/run", "1"), 0);
	expect_counts(d, PAGES, PAGES);
	ck_assert_uint_gt(ctl_get_u64(d, "ksm/frames_away"), 0);
	ck_assert_int_lt(puppet_call(p, fn_where, a, PAGES, 0), PAGES);
	expect_whole(p, a, PAGES, 1);
	puppet_kill(hog);
	wait_counter(d, "frames_away", 0);
	ck_assert_uint_gt(ctl_get_u64(d, "ksm/frames_brought_back"), 0);
	expect_on(p, a, PAGES, 0);
	expect_whole(p, a, PAGES, 1);
	expect_whole(q, b, PAGES, 1);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* G: memory with a policy merges. */
START_TEST(memory_with_a_policy)
{
	struct daemon *d = start(1);
	struct puppet *p = puppet_on(0), *q = puppet_on(0);
	long a, b;

	puppet_call(p, fn_policy, MPOL_BIND, 1);
	puppet_call(q, fn_policy, MPOL_INTERLEAVE, 0);
	a = puppet_call(p, fn_offer, PAGES, 1, 1);
	b = puppet_call(q, fn_offer, PAGES, 1, 1);
	expect_counts(d, PAGES, PAGES);
	puppet_call(p, fn_map, 1);
	expect_whole(p, a, PAGES, 1);
	expect_whole(q, b, PAGES, 1);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* Pages of the daemon that are to lie on the node and do, and those that do not. */
struct records {
	long there, elsewhere;
};

static struct records records_of(const struct daemon *d, int node)
{
	char path[64], line[1024], wish[16];
	struct records r = { 0, 0 };
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/numa_maps", (int)d->pid);
	snprintf(wish, sizeof(wish), " prefer:%d ", node);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, wish))
			continue;
		for (char *at = line; (at = strstr(at, " N"));) {
			long n = strtol(at + 2, &at, 10), pages;

			if (*at != '=')
				continue;
			pages = strtol(at + 1, &at, 10);
			*(n == node ? &r.there : &r.elsewhere) += pages;
		}
	}
	fclose(f);
	return r;
}

/*
 * What the daemon keeps of pages lies on the node whose scan threads walk it, whatever thread
 * touches it first.
 */
START_TEST(records_on_their_nodes)
{
	/* Of a page the daemon keeps at least a hash, and the links of a tree. */
	enum { MANY = 2048, LEAST = MANY * 20 / 4096 };
	struct daemon *d = start(0);
	struct puppet *p[4];
	struct records first;

	for (int node = 0; node < 2; node++) {
		for (int i = 0; i < 2; i++) {
			p[2 * node + i] = puppet_on(node);
			puppet_call(p[2 * node + i], fn_offer_on, MANY, 1 + i * MANY, 1, node);
		}
		wait_until(ctl_get_u64(d, "ksm/pages_unshared") == 2ul * MANY * (1ul + node),
			   WAIT_MS, "all pages are known");
		ck_assert_int_ge(records_of(d, node).there, 2 * LEAST);
		ck_assert_int_eq(records_of(d, node).elsewhere, 0);
		if (node)
			ck_assert_int_eq(records_of(d, 0).there, first.there);
		first = records_of(d, 0);
	}
	/* So do stable nodes. */
	first = records_of(d, 1);
	for (int i = 2; i < 4; i++)
		puppet_call(p[i], fn_offer_on, MANY, 9 * MANY, 1, 1);
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") == MANY, WAIT_MS, "merged");
	ck_assert_int_ge(records_of(d, 1).there - first.there, 2 * LEAST + MANY * 40 / 4096);
	ck_assert_int_eq(records_of(d, 1).elsewhere, 0);
	for (int i = 0; i < 4; i++)
		puppet_end(p[i]);
	daemon_stop(d);
}
END_TEST

/*
 * How much of the daemon's lies on the node that is to lie there. The kernel moves a page for that,
 * so that the daemon sees that something has moved.
 */
static long records_after_a_move(const struct daemon *d, struct puppet *p, long addr, int node)
{
	static int to;

	to = !to;
	puppet_call(p, fn_move, addr, 1, to, MPOL_MF_MOVE_ALL);
	return records_of(d, node).there;
}

/*
 * Processes go to another node, and the kernel moves what they share there, too. What the daemon
 * keeps of both goes with them, in the round that looks at what has moved.
 */
START_TEST(records_follow)
{
	enum { MANY = 2048, LEAST = MANY * 20 / 4096 };
	struct daemon *d = start(1);
	struct puppet *p[2], *q = puppet_on(0);
	long here = puppet_call(q, fn_map, 1), a[2], before;

	puppet_call(q, fn_fill, here, 1, 1, 1);
	for (int i = 0; i < 2; i++) {
		p[i] = puppet_on(0);
		a[i] = puppet_call(p[i], fn_offer_on, MANY, 9 * MANY, 1, 0);
	}
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") == MANY, WAIT_MS, "merged");
	before = records_of(d, 1).there;
	ck_assert_int_ge(records_of(d, 0).there, before + 5 * LEAST);
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(puppet_call(p[i], fn_run_on, 1), 0);
	wait_until(puppet_call(p[0], fn_move, a[0], MANY, 1, MPOL_MF_MOVE_ALL) == MANY, WAIT_MS,
		   "the kernel moves the frames");
	wait_until(records_after_a_move(d, q, here, 0) < before + LEAST, WAIT_MS, "the records go");
	ck_assert_int_ge(records_of(d, 1).there, before + 5 * LEAST);
	ck_assert_int_eq(records_of(d, 1).elsewhere, 0);
	for (int i = 0; i < 2; i++) {
		expect_whole(p[i], a[i], MANY, 9 * MANY);
		puppet_end(p[i]);
	}
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

static void add(SRunner *sr, const char *name)
{
	Suite *s = suite_create(name);
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 300);
	if (!strcmp(name, "formulas")) {
		tcase_add_test(tc, formulas_per_node);
		tcase_add_test(tc, formulas_across);
	} else if (!strcmp(name, "placement")) {
		tcase_add_test(tc, copies_at_the_writer);
		tcase_add_test(tc, no_policy_for_others);
		tcase_add_test(tc, memory_with_a_policy);
		tcase_add_test(tc, records_on_their_nodes);
		tcase_add_test(tc, records_follow);
	} else if (!strcmp(name, "following")) {
		tcase_add_test(tc, calm_pages_that_move);
		tcase_add_test(tc, frames_that_move);
		tcase_add_test(tc, full_node);
	} else if (!migration_add(tc, name) && !coming_add(tc, name)) {
		harness_die("no suite %s", name);
	}
	suite_add_tcase(s, tc);
	srunner_add_suite(sr, s);
}

/* Returns if it cannot be begun. */
static int torture(const char *seconds, const char *seed)
{
	setenv("TORTURE_TOPOLOGY", "auto", 1);
	execl(build_path("tests/torture/torture"), "torture", "--small", "--jobs", "1", "--time",
	      seconds, "--seed", seed, NULL);
	perror("torture");
	return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	SRunner *sr = srunner_create(NULL);
	int failed;

	if (argc == 4 && !strcmp(argv[1], "torture"))
		return torture(argv[2], argv[3]);
	for (int i = 1; i < argc; i++)
		add(sr, argv[i]);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
