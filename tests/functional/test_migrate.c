/* SPDX-License-Identifier: MIT */
/*
 * test_migrate.c - what stands on one node's frames moves to another's, in processes that go on.
 *
 * The machine's nodes are emulated: a frame lies on node N when its number is in N's zone, which
 * /proc/PID/maps shows. Every page's contents are checked after every move.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/load.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"

enum { PAGES = 600 };

static struct daemon *start(void)
{
	struct daemon *d = daemon_start((const char *const[]){ "--topology", "emulated:2", NULL });

	daemon_hasten(d);
	return d;
}

static bool is_idle(struct daemon *d, int nid)
{
	char path[32], buf[32];

	snprintf(path, sizeof(path), "node/%d/migrate_to", nid);
	ck_assert_int_ge(ctl_get(d, path, buf, sizeof(buf)), 0);
	return !strcmp(buf, "none");
}

static uint64_t node_u64(struct daemon *d, int nid, const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "node/%d/%s", nid, name);
	return ctl_get_u64(d, path);
}

static void begin(struct daemon *d, int from, int to)
{
	char path[32];

	snprintf(path, sizeof(path), "node/%d/migrate_to", from);
	ck_assert_int_eq(ctl_set_u64(d, path, (uint64_t)to), 0);
}

static void migrate(struct daemon *d, int from, int to)
{
	begin(d, from, to);
	wait_until(is_idle(d, from), WAIT_MS, "the move ends");
}

/* Pages of [addr, addr + pages) that are mapped to frames of this node. */
static int on_node(struct daemon *d, pid_t pid, long addr, int pages, int nid)
{
	uint64_t zone = node_u64(d, 0, "frames_end"), first = zone * (uint64_t)nid, one;

	return mapping_on_frames(pid, addr, pages, first, first + zone, &one);
}

static int pages_on_node(struct daemon *d, struct puppet *p, long addr, int nid)
{
	return on_node(d, p->pid, addr, PAGES, nid);
}

/* A move may meet a page whose last write the scan has not seen, or its order; it is repeated. */
static void migrate_all(struct daemon *d, struct puppet *p, long addr, int from, int to)
{
	for (int i = 0; i < 20 && pages_on_node(d, p, addr, to) < PAGES; i++)
		migrate(d, from, to);
	ck_assert_int_eq(pages_on_node(d, p, addr, to), PAGES);
}

/* Frames of the free runs that zone/N/buddyinfo shows, and how many orders it has. */
static uint64_t free_by_runs(struct daemon *d, int nid, int *orders)
{
	char path[32], buf[512], *at = buf;
	uint64_t frames = 0;

	snprintf(path, sizeof(path), "zone/%d/buddyinfo", nid);
	ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
	for (*orders = 0; *at; (*orders)++)
		frames += strtoull(at, &at, 10) << *orders;
	return frames;
}

/*
 * Pages that moved stand on runs of pageblocks of the other zone, whose rest is free; or in
 * windows, where pages of neighbouring addresses are on that node and have merged there.
 */
static void expect_free_runs(struct daemon *d)
{
	bool windows = ctl_get_u64(d, "zone/1/window_reserved") > 0;
	char buf[512];
	int orders;

	wait_until(free_by_runs(d, 1, &orders) == ctl_get_u64(d, "zone/1/free"), WAIT_MS,
		   "the runs are all that is free");
	ck_assert_int_eq(orders, 11);
	if (windows)
		return;
	ck_assert_uint_gt(ctl_get_u64(d, "zone/1/free"), 0);
	/* Every free frame is a run of one, and there is no free run of 1,024 beside 600 pages. */
	ck_assert_int_gt(ctl_get(d, "zone/1/unusable_index", buf, sizeof(buf)), 0);
	ck_assert_int_eq(strncmp(buf, "0.000 ", 6), 0);
	ck_assert_str_eq(buf + strlen(buf) - 6, " 1.000");
	ck_assert_int_gt(ctl_get(d, "zone/1/extfrag_index", buf, sizeof(buf)), 0);
	ck_assert_int_eq(strncmp(buf, "-1.000 ", 7), 0);
}

/* Seen to fail at the end (0 pages migrated) when the totals of a domain that ends are dropped. */
START_TEST(there_and_back)
{
	struct daemon *d = start();
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_offer, PAGES, 1, 1), b = puppet_call(q, fn_offer, PAGES, 1, 1);
	uint64_t merged, migrated;

	wait_counter(d, "pages_sharing", PAGES);
	wait_counter(d, "orders", 0);
	merged = ctl_get_u64(d, "ksm/pages_merged");
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", (uint64_t)_i), 0); /* a move needs no scan */
	migrate_all(d, p, a, 0, 1);
	ck_assert_int_eq(pages_on_node(d, q, b, 1), PAGES);
	expect_free_runs(d);
	migrate_all(d, q, b, 1, 0);
	ck_assert_int_eq(pages_on_node(d, p, a, 0), PAGES);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 1, 1), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, PAGES, 1, 1), 0);
	/* A client may have moved what the mover gave up, and have answered later. */
	wait_counter(d, "orders", 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), PAGES);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), PAGES);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_merged"), merged);
	ck_assert_uint_ge(ctl_get_u64(d, "ksm/pages_migrated"), 2 * PAGES);
	ck_assert_uint_ge(node_u64(d, 1, "pgmigrate_success"), PAGES);
	ck_assert_int_eq(pages_sharing_frames(p, a, q, b, PAGES), pfns_visible() ? PAGES : 0);
	/* The old frames go after their grace period. */
	wait_counter(d, "frames_used", PAGES);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/1/used"), 0);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 1, 1), 0);
	migrated = ctl_get_u64(d, "ksm/pages_migrated");
	puppet_end(p);
	puppet_end(q);
	wait_until(ctl_get_u64(d, "ksm/metadata_bytes") == 0, WAIT_MS, "the domain ends");
	ck_assert_uint_ge(ctl_get_u64(d, "ksm/pages_migrated"), migrated);
	daemon_stop(d);
}
END_TEST

/* (): identical pages on both nodes, each 2 MiB stripe on one; address of the first stripe. */
static long fn_offer_both(const long a[6])
{
	const long stripe = 2 << 20;
	char *m = mmap(NULL, (size_t)stripe * 4, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	long base = ((long)m + 2 * stripe - 1) / (2 * stripe) * (2 * stripe);

	(void)a;
	if (m == MAP_FAILED)
		return -errno;
	for (int n = 0; n < 2; n++)
		for (int half = 0; half < 2; half++)
			fn_fill((const long[6]){ base + n * stripe + half * 100 * 4096, 100, 1,
						 1 });
	return ksm_madvise((void *)base, (size_t)stripe * 2, MADV_MERGEABLE) ? -errno : base;
}

START_TEST(collision)
{
	struct daemon *d = start();
	struct puppet *p = puppet_new();
	long a;

	ck_assert_int_eq(ctl_set_u64(d, "ksm/merge_across_nodes", 0), 0);
	a = puppet_call(p, fn_offer_both);
	ck_assert_int_gt(a, 0);
	wait_counter(d, "pages_shared", 200);
	wait_counter(d, "pages_sharing", 200);
	wait_counter(d, "orders", 0);
	migrate(d, 0, 1);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), 100);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), 300);
	ck_assert_uint_eq(node_u64(d, 0, "migrate_collisions"), 100);
	ck_assert_uint_eq(node_u64(d, 0, "pgmigrate_success"), 100);
	for (int n = 0; n < 2; n++)
		for (int half = 0; half < 2; half++) {
			long at = a + n * (2l << 20) + half * 100 * 4096;

			ck_assert_int_eq(puppet_call(p, fn_check, at, 100, 1, 1), 0);
			ck_assert_int_eq(on_node(d, p->pid, at, 100, 1), 100);
		}
	wait_counter(d, "frames_used", 100);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

START_TEST(stopped_client)
{
	struct daemon *d = start();
	struct puppet *p = puppet_new(), *q = puppet_new(), *r = puppet_new();
	struct puppet *v[] = { p, q, r };
	long a[3];
	uint64_t begun;
	char buf[128], want[64];

	for (int i = 0; i < 3; i++)
		a[i] = puppet_call(v[i], fn_offer, PAGES, 1, 1);
	wait_counter(d, "pages_sharing", 2 * PAGES);
	wait_counter(d, "orders", 0);
	migrate_all(d, r, a[2], 1, 0);
	kill(r->pid, SIGSTOP);
	begun = harness_now_ms();
	migrate(d, 0, 1);
	ck_assert_uint_lt(harness_now_ms() - begun, 20000); /* promised: 2 s */
	ck_assert_int_eq(pages_on_node(d, p, a[0], 1), PAGES);
	ck_assert_int_eq(pages_on_node(d, q, a[1], 1), PAGES);
	ck_assert_int_eq(pages_on_node(d, r, a[2], 0), PAGES);
	ck_assert_uint_eq(node_u64(d, 0, "migrate_failed/silent"), PAGES);
	ck_assert_int_ge(ctl_get(d, "node/0/migrate_culprit", buf, sizeof(buf)), 0);
	snprintf(want, sizeof(want), "client %d silent", (int)r->pid);
	ck_assert_msg(strstr(buf, want) != NULL, "%s: not %s", buf, want);
	kill(r->pid, SIGCONT);
	migrate_all(d, r, a[2], 0, 1);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], PAGES, 1, 1), 0);
		puppet_end(v[i]);
	}
	daemon_stop(d);
}
END_TEST

/* Writes, forks and exits while everything moves there and back, both ways at once. */
START_TEST(under_load)
{
	enum { CLIENTS = 3, MS = 2500 };
	struct daemon *d = start();
	struct puppet *v[CLIENTS + 1];
	long a[CLIENTS + 1];
	uint64_t moved;

	for (int i = 0; i <= CLIENTS; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, PAGES, 1, 1);
	}
	wait_counter(d, "pages_sharing", CLIENTS * PAGES);
	for (int i = 0; i < CLIENTS; i++)
		puppet_post(v[i], fn_write_and_check, a[i], MS, 77 + i, PAGES);
	for (int i = 0; i < 4; i++) {
		begin(d, 0, 1);
		begin(d, 1, 0);
		if (i == 1)
			puppet_kill(v[CLIENTS]);
		wait_until(is_idle(d, 0) && is_idle(d, 1), WAIT_MS, "both moves end");
	}
	moved = ctl_get_u64(d, "ksm/pages_migrated");
	ck_assert_uint_gt(moved, PAGES);
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(puppet_result(v[i]), 0);
	wait_until(ctl_get_u64(d, "ksm/pages_shared") + ctl_get_u64(d, "ksm/pages_sharing") ==
			   CLIENTS * PAGES,
		   WAIT_MS, "all is merged again");
	wait_counter(d, "orders", 0);
	/* What was put back stands beside its dup; a way on which both move makes them one. */
	for (int i = 0; i < 2 * CLIENTS; i++)
		migrate_all(d, v[i % CLIENTS], a[i % CLIENTS], i / CLIENTS, !(i / CLIENTS));
	wait_counter(d, "orders", 0); /* of moves that were given up */
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), PAGES);
	for (int i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], PAGES, 1, 1), 0);
		ck_assert_int_eq(pages_on_node(d, v[i], a[i], 0), PAGES);
		puppet_end(v[i]);
	}
	wait_counter(d, "frames_used", 0);
	daemon_stop(d);
}
END_TEST

START_TEST(bad_input)
{
	static const struct {
		const char *path, *value;
		int err;
	} bad[] = {
		{ "node/0/migrate_to", "0", ELOOP },
		{ "node/0/migrate_to", "2", ENXIO },
		{ "node/0/migrate_to", "64", ENXIO },
		{ "node/0/migrate_to", "-1", EINVAL },
		{ "node/0/migrate_to", "1x", EINVAL },
		{ "node/0/migrate_to", "", EINVAL },
		{ "node/0/migrate_to", " 1", EINVAL },
		{ "node/2/migrate_to", "0", ENOENT },
		{ "node/2/drain", "1", ENOENT },
		{ "node/0/drain", "", EINVAL },
		{ "node/0/drain", "2", EINVAL },
		{ "node/0/drain", "none", EINVAL },
		{ "node/0/drain_result", "0", EACCES },
		{ "node/0/pgmigrate_fail", "0", EACCES },
		{ "zone/0/migrate_to", "1", ENOENT },
		{ "node/0/migrate_to", "99999999999999999999", ENXIO },
	};
	struct daemon *d = start();
	struct puppet *p = puppet_new();
	long a = puppet_call(p, fn_offer, PAGES, 7, 0);
	int nid;

	wait_counter(d, "pages_sharing", PAGES - (PAGES + 255) / 256);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(ctl_set(d, bad[i].path, bad[i].value) == -bad[i].err, "%s %s",
			      bad[i].path, bad[i].value);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_migrated"), 0);
	/* One at a time, and it can be ended. */
	kill(p->pid, SIGSTOP);
	nid = on_node(d, p->pid, a, 1, 0) ? 0 : 1;
	begin(d, nid, !nid);
	ck_assert_int_eq(ctl_set(d, nid ? "node/1/migrate_to" : "node/0/migrate_to",
				 nid ? "0" : "1"),
			 -EALREADY);
	ck_assert_int_eq(ctl_set(d, "node/0/migrate_to", "none"), 0);
	ck_assert_int_eq(ctl_set(d, "node/1/migrate_to", "none"), 0);
	wait_until(is_idle(d, 0) && is_idle(d, 1), WAIT_MS, "it ends");
	kill(p->pid, SIGCONT);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 7, 0), 0);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

static const char *drain_result(struct daemon *d, int nid)
{
	static char buf[256];
	char path[32];

	snprintf(path, sizeof(path), "node/%d/drain_result", nid);
	ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
	return buf;
}

static const char *drain(struct daemon *d, int nid)
{
	char path[32];

	snprintf(path, sizeof(path), "node/%d/drain", nid);
	ck_assert_int_eq(ctl_set(d, path, "1"), 0);
	wait_until(strncmp(drain_result(d, nid), "under way", 9) != 0, WAIT_MS, "it ends");
	return drain_result(d, nid);
}

/* With what the kernel would move, and with what clients do. A domain that comes later, too. */
START_TEST(empty_node)
{
	const char *topology = _i ? "emulated:3,10:12:20,12:10:20,20:20:10,moves" :
				    "emulated:3,10:12:20,12:10:20,20:20:10";
	struct daemon *d = daemon_start((const char *const[]){ "--topology", topology, NULL });
	struct puppet *v[4];
	long a[4];

	daemon_hasten(d);
	for (int i = 0; i < 2; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, PAGES, 1, 1);
	}
	wait_counter(d, "pages_sharing", PAGES);
	ck_assert_str_eq(drain(d, 0), "done");
	ck_assert_uint_eq(node_u64(d, 0, "pages_shared"), 0);
	ck_assert_str_eq(drain(d, 2), "done");
	ck_assert_uint_eq(node_u64(d, 1, "pages_shared"), PAGES);
	ck_assert_int_eq(ctl_set(d, "node/1/drain", "1"), -ENOMEM);
	ck_assert_int_eq(ctl_set(d, "node/1/migrate_to", "0"), -EHOSTDOWN);
	for (int i = 2; i < 4; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, PAGES, 5000, 1);
	}
	wait_counter(d, "pages_sharing", 2 * PAGES);
	wait_until(node_u64(d, 1, "pages_shared") == 2 * PAGES, WAIT_MS, "all is on node 1");
	ck_assert_int_eq(ctl_set(d, "node/0/drain", "0"), 0);
	ck_assert_int_eq(ctl_set(d, "node/0/drain", "0"), 0);
	ck_assert_str_eq(drain_result(d, 0), "none");
	ck_assert_str_eq(drain(d, 1), "done");
	ck_assert_uint_eq(node_u64(d, 0, "pages_shared"), 2 * PAGES);
	for (int i = 0; i < 4; i++) {
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], PAGES, i < 2 ? 1 : 5000, 1), 0);
		puppet_end(v[i]);
	}
	daemon_stop(d);
}
END_TEST

/* Who keeps a node is named, and it is in use as before; so it is when that is ended. */
START_TEST(empty_node_of_a_stopped_client)
{
	struct daemon *d = start();
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_offer, PAGES, 1, 1), b = puppet_call(q, fn_offer, PAGES, 1, 1);
	char want[64];

	wait_counter(d, "pages_sharing", PAGES);
	wait_counter(d, "orders", 0);
	migrate_all(d, p, a, 1, 0);
	kill(q->pid, SIGSTOP);
	ck_assert_int_eq(ctl_set(d, "node/0/drain", "1"), 0);
	ck_assert_int_eq(ctl_set(d, "node/0/drain", "1"), -EALREADY);
	ck_assert_int_eq(ctl_set(d, "node/0/migrate_to", "1"), -EALREADY);
	ck_assert_int_eq(ctl_set(d, "node/0/drain", "0"), 0);
	ck_assert_str_eq(drain_result(d, 0), "ECANCELED");
	wait_until(is_idle(d, 0), WAIT_MS, "the round ends");
	snprintf(want, sizeof(want), "client %d silent", (int)q->pid);
	ck_assert_msg(strstr(drain(d, 0), want) != NULL, "%s: not %s", drain_result(d, 0), want);
	ck_assert_int_eq(strncmp(drain_result(d, 0), "EBUSY domain ", 13), 0);
	ck_assert_uint_eq(node_u64(d, 0, "drain"), 0);
	ck_assert_int_eq(pages_on_node(d, q, b, 0), PAGES);
	kill(q->pid, SIGCONT);
	ck_assert_str_eq(drain(d, 0), "done");
	ck_assert_int_eq(pages_on_node(d, p, a, 1), PAGES);
	ck_assert_int_eq(pages_on_node(d, q, b, 1), PAGES);
	wait_counter(d, "orders", 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), PAGES);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 1, 1), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, PAGES, 1, 1), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

static Suite *migrate_suite(void)
{
	Suite *s = suite_create("migrate");
	TCase *tc = tcase_create("migrate");

	tcase_set_timeout(tc, 300);
	tcase_add_loop_test(tc, there_and_back, 0, 2);
	tcase_add_test(tc, collision);
	tcase_add_test(tc, stopped_client);
	tcase_add_test(tc, under_load);
	tcase_add_test(tc, bad_input);
	tcase_add_loop_test(tc, empty_node, 0, 2);
	tcase_add_test(tc, empty_node_of_a_stopped_client);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(migrate_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
