/* SPDX-License-Identifier: MIT */
/*
 * test_movers.c - all that moves frames at once, each on a node of its own, under processes that
 * write, fork, come and are killed; and whoever reads the daemon's counters does not wait for it.
 *
 * It is worth most against a daemon that is built with the thread sanitizer.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/lib/harness.h"
#include "tests/lib/load.h"
#include "tests/lib/puppet.h"

enum { PAGES = 600, CLIENTS = 3, MS = 5000, ROUNDS = 4, NODES = 3 };
/*
 * 50 ms are promised. A machine that does ten other things may take ten times that, a sanitizer's
 * build ten times more.
 */
#define READ_MS (strstr(build_path(""), "san") ? 5000u : 500u)

static bool is(struct daemon *d, const char *path, const char *what)
{
	char buf[64];

	ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
	return !strcmp(buf, what);
}

static bool at_rest(struct daemon *d)
{
	return is(d, "node/0/offline", "none") && is(d, "node/1/compact", "0") &&
	       is(d, "node/2/migrate_to", "none");
}

/* What an operator looks at, while frames move. */
static bool read_all(struct daemon *d)
{
	static const char *const path[] = { "zone/0/free",           "zone/1/buddyinfo",
					    "node/0/offline_result", "ksm/pages_sharing",
					    "ksm/frames_used",       "node/2/pgmigrate_success" };
	char buf[512];

	for (size_t i = 0; i < sizeof(path) / sizeof(path[0]); i++) {
		uint64_t begun = harness_now_ms();

		ck_assert_int_ge(ctl_get(d, path[i], buf, sizeof(buf)), 0);
		ck_assert_msg(harness_now_ms() - begun < READ_MS, "%s took %llu ms", path[i],
			      (unsigned long long)(harness_now_ms() - begun));
	}
	return true;
}

static uint64_t sum_of(struct daemon *d, const char *name)
{
	uint64_t sum = 0;

	for (int nid = 0; nid < NODES; nid++) {
		char path[64];

		snprintf(path, sizeof(path), "zone/%d/%s", nid, name);
		sum += ctl_get_u64(d, path);
	}
	return sum;
}

/* A process that merges with the others meanwhile, and goes. */
static void pass_by(struct daemon *d, int round)
{
	struct puppet *p = puppet_new();

	puppet_call(p, fn_offer, PAGES, 1, 1);
	wait_until(read_all(d) && at_rest(d), WAIT_MS, "all have ended");
	if (round % 2)
		puppet_kill(p);
	else
		puppet_end(p);
}

START_TEST(all_at_once)
{
	struct daemon *d = daemon_start((const char *const[]){ "--topology", "emulated:3", NULL });
	struct puppet *v[CLIENTS];
	long a[CLIENTS];

	daemon_hasten(d);
	for (int i = 0; i < CLIENTS; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, PAGES, 1, 1);
	}
	wait_counter(d, "pages_sharing", (CLIENTS - 1) * PAGES);
	for (int i = 0; i < CLIENTS; i++)
		puppet_post(v[i], fn_write_and_check, a[i], MS, 4711 + i, PAGES);
	for (int i = 0; i < ROUNDS; i++) {
		ck_assert_int_eq(ctl_set(d, "node/0/offline", "all"), 0);
		ck_assert_int_eq(ctl_set(d, "node/1/compact", "1"), 0);
		ck_assert_int_eq(ctl_set(d, "node/2/migrate_to", i % 2 ? "1" : "0"), 0);
		pass_by(d, i);
		ck_assert_int_eq(ctl_set(d, "node/0/online", "all"), 0);
		/* And back, so that there is something on each the next time. */
		ck_assert_int_eq(ctl_set(d, "node/1/migrate_to", i % 2 ? "0" : "2"), 0);
		wait_until(read_all(d) && is(d, "node/1/migrate_to", "none"), WAIT_MS,
			   "the move ends");
	}
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(puppet_result(v[i]), 0);
	ck_assert_uint_gt(ctl_get_u64(d, "ksm/pages_migrated"), 0);
	wait_until(ctl_get_u64(d, "ksm/pages_shared") + ctl_get_u64(d, "ksm/pages_sharing") ==
			   CLIENTS * PAGES,
		   WAIT_MS, "all is merged again");
	for (int i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], PAGES, 1, 1), 0);
		puppet_end(v[i]);
	}
	wait_counter(d, "frames_used", 0);
	ck_assert_uint_eq(sum_of(d, "isolated"), 0);
	ck_assert_uint_eq(sum_of(d, "used"), 0);
	daemon_stop(d);
}
END_TEST

static Suite *movers_suite(void)
{
	Suite *s = suite_create("movers");
	TCase *tc = tcase_create("movers");

	tcase_set_timeout(tc, 600);
	tcase_add_test(tc, all_at_once);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(movers_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
