/* SPDX-License-Identifier: MIT */
/*
 * test_policy.c - merge_policy: who shares frames on several nodes, and where these lie.
 *
 * The machine's nodes are pretended. A puppet says by its name on which node it runs, and chooses
 * by its addresses on which its private pages lie. Where frames lie afterwards is what the daemon
 * says; where it may not move them (no "moves"), /proc/PID/maps shows the numbers of the frames
 * that are mapped now, and with them the node. Contents are checked after everything.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"

enum { PAGES = 100, STRIPE = 2 << 20 };
#define SOCKETS "emulated:4,10:12:32:32,12:10:32:32,32:32:10:12,32:32:12:10"

static struct daemon *start(const char *topology)
{
	struct daemon *d = daemon_start((const char *const[]){ "--topology", topology, NULL });

	daemon_hasten(d);
	return d;
}

/* (node): the puppet runs there from now on. */
static long fn_run_on(const long a[6])
{
	char name[16];

	snprintf(name, sizeof(name), "puppet@%ld", a[0]);
	return prctl(PR_SET_NAME, name);
}

/* (pages, content, node, nodes): offer pages that lie on that node; address. */
static long fn_offer_on(const long a[6])
{
	size_t cycle = (size_t)a[3] * STRIPE;
	char *m = mmap(NULL, 2 * cycle, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long at;

	if (m == MAP_FAILED)
		return -errno;
	at = ((long)m + (long)cycle - 1) / (long)cycle * (long)cycle + a[2] * STRIPE;
	fn_fill((const long[6]){ at, a[0], a[1], 1 });
	return ksm_madvise((void *)at, (size_t)a[0] * PUPPET_PAGE, MADV_MERGEABLE) ? -errno : at;
}

struct reader {
	struct puppet *p;
	long at;
};

static struct reader reader_on(int node, int nodes)
{
	struct reader r = { .p = puppet_new() };

	ck_assert_int_eq(puppet_call(r.p, fn_run_on, node), 0);
	r.at = puppet_call(r.p, fn_offer_on, PAGES, 1, node, nodes);
	ck_assert_int_gt(r.at, 0);
	return r;
}

static void reader_end(struct reader *r)
{
	ck_assert_int_eq(puppet_call(r->p, fn_check, r->at, PAGES, 1, 1), 0);
	puppet_end(r->p);
}

static uint64_t node_u64(struct daemon *d, int nid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "node/%d/%s", nid, name);
	return ctl_get_u64(d, path);
}

static uint64_t over_nodes(struct daemon *d, int nodes, const char *name)
{
	uint64_t sum = 0;

	for (int nid = 0; nid < nodes; nid++)
		sum += node_u64(d, nid, name);
	return sum;
}

/* Pages of the reader that the daemon says are on this node, address by address. */
static int listed_on(struct daemon *d, const struct reader *r, int node)
{
	char what[64], buf[8192], *save = NULL;
	int nr = 0;

	snprintf(what, sizeof(what), "client/%d/nodes", (int)r->p->pid);
	ck_assert_int_gt(ctl_do(d, what, buf, sizeof(buf)), 0);
	for (char *line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		unsigned long start, end;
		int nid;

		ck_assert_int_eq(sscanf(line, "%lx-%lx %d", &start, &end, &nid), 3);
		ck_assert(start >= (unsigned long)r->at && start < end);
		ck_assert_uint_le(end, (unsigned long)r->at + PAGES * PUPPET_PAGE);
		nr += nid == node ? (int)((end - start) / PUPPET_PAGE) : 0;
	}
	return nr;
}

static uint64_t local(struct daemon *d, const struct reader *r)
{
	return ctl_client_u64(d, r->p->pid, "pages_local");
}

static void expect_counts(struct daemon *d, uint64_t shared, uint64_t sharing)
{
	wait_until(ctl_get_u64(d, "ksm/pages_shared") == shared &&
			   ctl_get_u64(d, "ksm/pages_sharing") == sharing,
		   WAIT_MS, "pages_shared and pages_sharing");
}

/* Pages of the reader that are mapped to frames of this node's zone. */
static int in_zone(struct daemon *d, const struct reader *r, int nid)
{
	uint64_t zone = node_u64(d, 0, "frames_end");
	unsigned long start = (unsigned long)r->at, end = start + PAGES * PUPPET_PAGE;
	FILE *f = mapping_open(r->p->pid);
	struct mapping m;
	int nr = 0;

	while (mapping_next(f, &m))
		for (unsigned long at = m.start; m.arena && at < m.end; at += PUPPET_PAGE)
			nr += at >= start && at < end &&
			      (m.offset + at - m.start) / PUPPET_PAGE / zone == (uint64_t)nid;
	return nr;
}

/*
 * The daemon knows where a client runs before it sees the pages, because their records are to lie
 * there. Seen to fail when only readers.c looks, twice a second.
 */
START_TEST(known_from_the_start)
{
	enum { CLIENTS = 10 };
	struct daemon *d = start("emulated:2");
	struct reader r[CLIENTS];
	char path[64], node[16];

	for (int i = 0; i < CLIENTS; i++) {
		r[i] = reader_on(i % 2, 2);
		snprintf(path, sizeof(path), "client/%d/node", (int)r[i].p->pid);
		wait_until(ctl_get(d, path, node, sizeof(node)) > 0, WAIT_MS, "it is a client");
		ck_assert_str_eq(node, i % 2 ? "1" : "0");
	}
	for (int i = 0; i < CLIENTS; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

/* Frames follow their readers: in their place, or others are mapped. */
static const char *const movers[] = { "emulated:2,moves", "emulated:2" };

START_TEST(majority_follows)
{
	struct daemon *d = start(movers[_i]);
	struct reader r[3];
	char buf[64];

	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "majority"), 0);
	for (int i = 0; i < 3; i++)
		r[i] = reader_on(0, 2);
	expect_counts(d, PAGES, 2 * PAGES);
	wait_until(local(d, &r[0]) == PAGES, WAIT_MS, "pages are read where they lie");
	ck_assert_int_eq(listed_on(d, &r[0], 0), PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "pages_shared"), PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "pages_sharing"), 2 * PAGES);
	/* Two of three go. */
	puppet_call(r[0].p, fn_run_on, 1);
	puppet_call(r[1].p, fn_run_on, 1);
	wait_until(local(d, &r[0]) == PAGES && node_u64(d, 1, "pages_shared") == PAGES, WAIT_MS,
		   "frames follow");
	snprintf(buf, sizeof(buf), "client/%d/node", (int)r[0].p->pid);
	ck_assert_uint_eq(ctl_get_u64(d, buf), 1);
	wait_until(ctl_client_u64(d, r[2].p->pid, "pages_local") == 0, WAIT_MS,
		   "the third reads from the other node");
	ck_assert_uint_eq(ctl_client_u64(d, r[2].p->pid, "pages_remote"), PAGES);
	/* Frames count when all their pages have answered, and the mover has seen that. */
	wait_until(node_u64(d, 1, "policy_moved") == PAGES, WAIT_MS, "moves are counted");
	ck_assert_uint_eq(node_u64(d, 1, "clients"), 2);
	ck_assert_uint_eq(node_u64(d, 1, "pages_local"), 2 * PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "pages_remote"), PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "pages_distance"), 20 * PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "frames_elsewhere"), _i ? 0 : PAGES);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(in_zone(d, &r[i], _i), PAGES);
		ck_assert_int_eq(listed_on(d, &r[i], 1), PAGES);
	}
	expect_counts(d, PAGES, 2 * PAGES);
	for (int i = 0; i < 3; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

static uint64_t replicas(struct daemon *d, int nodes)
{
	return over_nodes(d, nodes, "replicas");
}

START_TEST(replicate)
{
	struct daemon *d = start(SOCKETS ",moves");
	struct reader r[6];

	ck_assert_int_eq(ctl_set(d, "ksm/replica_budget_percent", "0"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/replica_min_free_percent", "0"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "replicate"), 0);
	for (int i = 0; i < 6; i++)
		r[i] = reader_on(i / 2, 4);
	expect_counts(d, PAGES, 5 * PAGES);
	ck_assert_uint_eq(replicas(d, 4), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/replica_budget_percent", "100"), 0);
	expect_counts(d, 3 * PAGES, 3 * PAGES);
	for (int i = 0; i < 6; i++)
		wait_until(local(d, &r[i]) == PAGES, WAIT_MS, "each node has its copies");
	ck_assert_uint_eq(replicas(d, 4), 2 * PAGES);
	ck_assert_uint_eq(over_nodes(d, 4, "pages_shared"), 3 * PAGES);
	for (int i = 0; i < 6; i++) {
		ck_assert_int_eq(in_zone(d, &r[i], i / 2), PAGES);
		ck_assert_int_eq(puppet_call(r[i].p, fn_check, r[i].at, PAGES, 1, 1), 0);
	}
	/* A fifth of what merging saves. */
	ck_assert_int_eq(ctl_set(d, "ksm/replica_budget_percent", "20"), 0);
	wait_until(replicas(d, 4) == PAGES, WAIT_MS, "copies beyond the budget go");
	for (int i = 0; i < 6; i++) {
		int nr = 0;

		for (int nid = 0; nid < 4; nid++)
			nr += listed_on(d, &r[i], nid);
		ck_assert_int_eq(nr, PAGES);
	}
	expect_counts(d, 2 * PAGES, 4 * PAGES);
	/* Memory is short. */
	ck_assert_int_eq(ctl_set(d, "ksm/replica_min_free_percent", "100"), 0);
	wait_until(replicas(d, 4) == 0, WAIT_MS, "copies go");
	expect_counts(d, PAGES, 5 * PAGES);
	ck_assert_int_eq(ctl_set(d, "ksm/replica_min_free_percent", "0"), 0);
	wait_until(replicas(d, 4) == PAGES, WAIT_MS, "and come back");
	/* Another policy has none. */
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "global"), 0);
	expect_counts(d, PAGES, 5 * PAGES);
	wait_until(over_nodes(d, 4, "policy_copied") > 2 * PAGES &&
			   over_nodes(d, 4, "policy_joined") > 2 * PAGES,
		   WAIT_MS, "copies are counted");
	for (int i = 0; i < 6; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

/* A copy is a frame like others: what is written in one process changes nowhere else. */
START_TEST(copies_are_written)
{
	struct daemon *d = start("emulated:2");
	struct reader r[4];

	ck_assert_int_eq(ctl_set(d, "ksm/replica_budget_percent", "100"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/replica_min_free_percent", "0"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "replicate"), 0);
	for (int i = 0; i < 4; i++)
		r[i] = reader_on(i / 2, 2);
	expect_counts(d, 2 * PAGES, 2 * PAGES);
	puppet_call(r[3].p, fn_fill, r[3].at, PAGES / 2, 7000, 1);
	ck_assert_int_eq(puppet_call(r[3].p, fn_check, r[3].at, PAGES / 2, 7000, 1), 0);
	/* One reader alone needs no copy. */
	wait_until(ctl_get_u64(d, "ksm/pages_shared") == 2 * PAGES - PAGES / 2 ||
			   ctl_get_u64(d, "ksm/pages_sharing") == 2 * PAGES - PAGES / 2,
		   WAIT_MS, "what was written is private");
	puppet_call(r[3].p, fn_fill, r[3].at, PAGES / 2, 1, 1);
	expect_counts(d, 2 * PAGES, 2 * PAGES);
	for (int i = 0; i < 4; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

START_TEST(interleave)
{
	struct daemon *d = start(SOCKETS ",moves");
	struct reader r[4];

	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "interleave"), 0);
	for (int i = 0; i < 4; i++)
		r[i] = reader_on(1, 4);
	expect_counts(d, PAGES, 3 * PAGES);
	for (int nid = 0; nid < 4; nid++)
		wait_until(node_u64(d, nid, "pages_shared") > PAGES / 4 / 3, WAIT_MS,
			   "each node has a part");
	ck_assert_uint_eq(over_nodes(d, 4, "pages_shared"), PAGES);
	for (int i = 0; i < 4; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

START_TEST(distance)
{
	struct daemon *d = start(SOCKETS);
	struct reader r[4];
	char buf[64];

	ck_assert_int_gt(ctl_get(d, "node/2/distances", buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "32 32 10 12");
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "distance"), 0);
	for (int i = 0; i < 4; i++)
		r[i] = reader_on(i, 4);
	/* 20: inside of a socket. */
	expect_counts(d, 2 * PAGES, 2 * PAGES);
	for (int i = 0; i < 4; i++)
		ck_assert_int_eq(in_zone(d, &r[i], i / 2 * 2) + in_zone(d, &r[i], i / 2 * 2 + 1),
				 PAGES);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_distance", "32"), 0);
	expect_counts(d, PAGES, 3 * PAGES);
	for (int i = 0; i < 4; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

static void expect_knobs(struct daemon *d, const char *policy, int across)
{
	char buf[128];

	ck_assert_int_gt(ctl_get(d, "ksm/merge_policy", buf, sizeof(buf)), 0);
	ck_assert_ptr_nonnull(strstr(buf, policy));
	ck_assert_int_eq(ctl_get_u64(d, "ksm/merge_across_nodes"), across);
}

START_TEST(one_knob_of_the_kernel)
{
	struct daemon *d = start("emulated:2");
	struct reader r[2];

	expect_knobs(d, "[global]", 1);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_across_nodes", "0"), 0);
	expect_knobs(d, "[node]", 0);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "majority"), 0);
	expect_knobs(d, "[majority]", 1);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_across_nodes", "1"), 0);
	expect_knobs(d, "[majority]", 1);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "node"), 0);
	expect_knobs(d, "[node]", 0);
	for (int i = 0; i < 2; i++)
		r[i] = reader_on(i, 2);
	wait_counter(d, "pages_unshared", 2 * PAGES);
	/* While pages are shared the policy changes, as the kernel's knob does not. */
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "global"), 0);
	expect_counts(d, PAGES, PAGES);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_across_nodes", "0"), -EBUSY);
	expect_knobs(d, "[global]", 1);
	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "node"), 0);
	expect_knobs(d, "[node]", 0);
	/* What is shared stays; what is written is merged by nodes. */
	puppet_call(r[0].p, fn_fill, r[0].at, PAGES, 5000, 1);
	puppet_call(r[1].p, fn_fill, r[1].at, PAGES, 5000, 1);
	wait_counter(d, "pages_shared", 0);
	puppet_call(r[0].p, fn_fill, r[0].at, PAGES, 1, 1);
	puppet_call(r[1].p, fn_fill, r[1].at, PAGES, 1, 1);
	wait_full_scans(d, 4, WAIT_MS);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), 0);
	for (int i = 0; i < 2; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

/*
 * The node is emptied between the first look at some pages and the first look at their like, so
 * that they count for different nodes. They are merged nevertheless, and not only when everything
 * is asked about once a minute: that would not do for all rounds.
 */
START_TEST(node_goes_between_two_looks)
{
	struct daemon *d = start("emulated:2");
	uint64_t end = harness_now_ms() + WAIT_MS;
	struct reader r[2];
	char buf[64];

	ck_assert_int_eq(ctl_set(d, "ksm/merge_across_nodes", "0"), 0);
	for (int round = 0; round < 3; round++) {
		r[0] = reader_on(0, 2);
		wait_counter(d, "pages_unshared", PAGES);
		ck_assert_int_eq(ctl_set(d, "node/0/drain", "1"), 0);
		wait_until(ctl_get(d, "node/0/drain_result", buf, sizeof(buf)) > 0 &&
				   !strcmp(buf, "done"),
			   WAIT_MS, "it is empty");
		r[1] = reader_on(0, 2);
		wait_until(ctl_get_u64(d, "ksm/pages_sharing") == PAGES,
			   end > harness_now_ms() ? end - harness_now_ms() : 0, "merged");
		for (int i = 0; i < 2; i++)
			reader_end(&r[i]);
		expect_counts(d, 0, 0);
		ck_assert_int_eq(ctl_set(d, "node/0/drain", "0"), 0);
	}
	daemon_stop(d);
}
END_TEST

START_TEST(senseless_values)
{
	static const char *const bad[][2] = {
		{ "ksm/merge_policy", "" },
		{ "ksm/merge_policy", "nearest" },
		{ "ksm/merge_policy", "1" },
		{ "ksm/merge_policy", "Global" },
		{ "ksm/merge_distance", "9" },
		{ "ksm/merge_distance", "255" },
		{ "ksm/merge_distance", "-20" },
		{ "ksm/hot_sharers", "1" },
		{ "ksm/hot_sharers", "many" },
		{ "ksm/replica_budget_percent", "101" },
		{ "ksm/replica_budget_percent", "-1" },
		{ "ksm/replica_min_free_percent", "200" },
	};
	struct daemon *d = start("emulated:2");
	char before[128], after[128];

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_int_gt(ctl_get(d, bad[i][0], before, sizeof(before)), 0);
		ck_assert_int_eq(ctl_set(d, bad[i][0], bad[i][1]), -EINVAL);
		ck_assert_int_gt(ctl_get(d, bad[i][0], after, sizeof(after)), 0);
		ck_assert_str_eq(before, after);
	}
	daemon_stop(d);
}
END_TEST

/* Nobody says on one node what would be the same everywhere. */
START_TEST(one_node)
{
	struct daemon *d = start("emulated:1");
	struct reader r[2];

	ck_assert_int_eq(ctl_set(d, "ksm/merge_policy", "replicate"), 0);
	for (int i = 0; i < 2; i++)
		r[i] = reader_on(0, 1);
	expect_counts(d, PAGES, PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "clients"), 0);
	for (int i = 0; i < 2; i++)
		reader_end(&r[i]);
	daemon_stop(d);
}
END_TEST

static const struct {
	const char *topology, *why;
} bad_topologies[] = {
	{ "emulated:2,10:20", "there are 1 rows of distances for 2 nodes" },
	{ "emulated:2,10:20,20:10,20:10", "there are more rows of distances than nodes (2)" },
	{ "emulated:2,10:20:30,20:10:30", "node 0 has more distances than there are nodes (2)" },
	{ "emulated:2,10:20,20", "node 1 has fewer distances than there are nodes (2)" },
	{ "emulated:2,11:20,20:10", "node 0 is at distance 11 from itself, and must be at 10" },
	{ "emulated:2,10:10,20:10", "the distance from node 0 to 1 is 10, and must be 11 to 254" },
	{ "emulated:2,10:20,255:10", "the distance from node 1 to 0 is 255, and must be 11 to" },
	{ "emulated:2,10:-20,20:10", "distance 1 of node 0 is no number" },
	{ "emulated:65", "the number of nodes must be 1 to 64" },
	{ "real", "it is neither auto nor emulated:N" },
};

START_TEST(distances_are_checked)
{
	const char *const args[] = { "--topology", bad_topologies[_i].topology, NULL };
	char err[1024];

	ck_assert_int_eq(daemon_expect_exit("/nonexistent", args, err, sizeof(err)), 2);
	ck_assert_msg(strstr(err, bad_topologies[_i].why), "%s", err);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("policy");
	TCase *tc = tcase_create("policy");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, known_from_the_start);
	tcase_add_loop_test(tc, majority_follows, 0, 2);
	tcase_add_test(tc, replicate);
	tcase_add_test(tc, copies_are_written);
	tcase_add_test(tc, interleave);
	tcase_add_test(tc, distance);
	tcase_add_test(tc, one_knob_of_the_kernel);
	tcase_add_test(tc, node_goes_between_two_looks);
	tcase_add_test(tc, senseless_values);
	tcase_add_test(tc, one_node);
	tcase_add_loop_test(tc, distances_are_checked, 0,
			    sizeof(bad_topologies) / sizeof(bad_topologies[0]));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
