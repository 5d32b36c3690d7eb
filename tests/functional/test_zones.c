/* SPDX-License-Identifier: MIT */
/*
 * test_zones.c - the frames of each domain, in domain/D/zone/N/.
 *
 * What zone/N/ says is what those of all domains add up to; nobody but operators sees them, and
 * paths that are not there change nothing.
 */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/load.h"
#include "tests/lib/puppet.h"

enum { PAGES = 300, ORDERS = 11, BLOCK = 512 };

static const char *const numbers[] = { "span",
				       "free",
				       "cached",
				       "isolated",
				       "used",
				       "retired",
				       "guard",
				       "window_reserved",
				       "absent",
				       "pageblocks",
				       "pageblocks_offline",
				       "free_by_type/movable",
				       "free_by_type/unmovable",
				       "free_by_type/reserve",
				       "used_by_type/movable",
				       "used_by_type/unmovable",
				       "used_by_type/reserve" };
#define NR (sizeof(numbers) / sizeof(numbers[0]))

/* The numbers of a zone, and behind them its free runs of each order. */
struct look {
	uint64_t v[NR + ORDERS];
};

static void look(struct daemon *d, const char *dir, struct look *l)
{
	char path[128], buf[512], *at = buf;

	for (size_t i = 0; i < NR; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, numbers[i]);
		l->v[i] = ctl_get_u64(d, path);
	}
	snprintf(path, sizeof(path), "%s/buddyinfo", dir);
	ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
	for (int o = 0; o < ORDERS; o++)
		l->v[NR + (size_t)o] = strtoull(at, &at, 10);
	ck_assert_str_eq(at, "");
}

/* Do those of both domains add up to the zone's? Counted between two looks that agree. */
static bool adds_up(struct daemon *d, int nid)
{
	struct look before, of[2], after;
	char dir[64];

	snprintf(dir, sizeof(dir), "zone/%d", nid);
	look(d, dir, &before);
	for (int i = 0; i < 2; i++) {
		snprintf(dir, sizeof(dir), "domain/%d/zone/%d", i + 1, nid);
		look(d, dir, &of[i]);
	}
	snprintf(dir, sizeof(dir), "zone/%d", nid);
	look(d, dir, &after);
	if (memcmp(&before, &after, sizeof(before)) != 0)
		return false;
	for (size_t i = 0; i < NR + ORDERS; i++)
		ck_assert_msg(of[0].v[i] + of[1].v[i] == after.v[i], "%s of node %d: %llu, %llu",
			      i < NR ? numbers[i] : "buddyinfo", nid,
			      (unsigned long long)of[0].v[i], (unsigned long long)of[1].v[i]);
	return true;
}

/* Two domains, each with frames, on a machine with two nodes. The reserve is free: it has runs. */
static struct daemon *start(struct puppet *p[2])
{
	struct daemon *d = daemon_start((const char *const[]){
		"--topology", "emulated:2", "--domain", "process", "--contig-reserve", "6", NULL });

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set(d, "ksm/compaction_proactiveness", "0"), 0);
	for (int i = 0; i < 2; i++) {
		p[i] = puppet_new();
		puppet_call(p[i], fn_offer, PAGES, 1, 2);
		puppet_call(p[i], fn_offer, PAGES, 1, 2);
	}
	wait_counter(d, "pages_sharing", 2 * PAGES);
	wait_counter(d, "orders", 0);
	ck_assert_int_eq(ctl_set(d, "ksm/run", "0"), 0);
	return d;
}

static void stop(struct daemon *d, struct puppet *p[2])
{
	for (int i = 0; i < 2; i++)
		puppet_end(p[i]);
	daemon_stop(d);
}

START_TEST(domains_add_up)
{
	static const char *const alike[] = { "unusable_index", "extfrag_index", "pagetypeinfo" };
	struct puppet *p[2];
	struct daemon *d = start(p);
	char buf[1024], path[64];
	uint64_t free_runs = 0;
	struct look l;

	ck_assert_int_gt(ctl_ls(d, "domain/1/zone", buf, sizeof(buf)), 0);
	ck_assert_str_eq(buf, "0/\n1/");
	ck_assert_int_gt(ctl_ls(d, "domain/1", buf, sizeof(buf)), 0);
	ck_assert_msg(strstr(buf, "\nzone/"), "%s", buf);
	for (int nid = 0; nid < 2; nid++)
		wait_until(adds_up(d, nid), WAIT_MS, "nothing moves for a moment");
	for (int i = 1; i <= 2; i++) {
		uint64_t used = 0;

		for (int nid = 0; nid < 2; nid++) {
			snprintf(path, sizeof(path), "domain/%d/zone/%d/used", i, nid);
			used += ctl_get_u64(d, path);
		}
		ck_assert_uint_gt(used, 0);
	}
	ck_assert_uint_eq(ctl_get_u64(d, "domain/1/zone/1/free_by_type/reserve"), 3 * BLOCK);
	look(d, "domain/1/zone/1", &l);
	for (int o = 0; o < ORDERS; o++)
		free_runs += l.v[NR + (size_t)o] << o;
	ck_assert_uint_eq(free_runs, l.v[1]);
	for (int i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), "domain/2/zone/1/%s", alike[i]);
		ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
		snprintf(path, sizeof(path), "help/domain/zone/%s", alike[i]);
		ck_assert_int_gt(ctl_get(d, path, buf, sizeof(buf)), 0);
	}
	ck_assert_uint_eq(ctl_get_u64(d, "domain/1/zone/0/limit"),
			  MIN(ctl_get_u64(d, "domain/1/zone/0/span"),
			      ctl_get_u64(d, "daemon/arena_limit_bytes") / 4096));
	/* Half a MiB for all: 128 frames, of whichever node. */
	ck_assert_int_eq(ctl_set(d, "limit/arena_bytes", "524288"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "domain/1/zone/1/limit"), 128);
	stop(d, p);
}
END_TEST

START_TEST(paths_that_are_not_there)
{
	static const struct {
		const char *path;
		int err;
	} bad[] = {
		{ "domain/99/zone/0/alloc_contig", -ENOENT },
		{ "domain/99/zone/0", -ENOENT },
		{ "domain/99/zone", -ENOENT },
		{ "domain/0/zone/0/alloc_contig", -ENOENT },
		{ "domain/x/zone/0/alloc_contig", -ENOENT },
		{ "domain/1/zone/2/alloc_contig", -ENOENT },
		{ "domain/1/zone/64/alloc_contig", -ENOENT },
		{ "domain/1/zone/64", -ENOENT },
		{ "domain/1/zone/x/alloc_contig", -ENOENT },
		{ "domain/1/zone/x", -ENOENT },
		{ "domain/1/zone/-1/alloc_contig", -ENOENT },
		{ "domain/1/zone/4294967296/alloc_contig", -ENOENT },
		{ "domain/4294967297/zone/0/alloc_contig", -ENOENT },
		{ "domain/1/zone//alloc_contig", -ENOENT },
		{ "domain/1/zone/alloc_contig", -ENOENT },
		{ "domain/1/alloc_contig", -ENOENT },
		{ "domain/zone/0/alloc_contig", -ENOENT },
		{ "domain/1/zone/0/zone/0/alloc_contig", -ENOENT },
		{ "zone/0/alloc_contig", -ENOENT },
		{ "pool/64/alloc_contig", -ENOENT },
		{ "domain/1/zone", -EISDIR },
		{ "domain/1/zone/", -EISDIR },
		{ "domain/1/zone/0", -EISDIR },
		{ "domain/1/zone/1/free_by_type", -EISDIR },
	};
	struct look before, after;
	struct puppet *p[2];
	struct daemon *d = start(p);
	char buf[256];

	wait_until(adds_up(d, 0), WAIT_MS, "nothing moves for a moment");
	look(d, "zone/0", &before);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(ctl_get(d, bad[i].path, buf, sizeof(buf)) == bad[i].err, "get %s",
			      bad[i].path);
		ck_assert_msg(ctl_set(d, bad[i].path, "1") == bad[i].err, "set %s", bad[i].path);
	}
	look(d, "zone/0", &after);
	ck_assert(!memcmp(&before, &after, sizeof(before)));
	for (int i = 1; i <= 2; i++) {
		snprintf(buf, sizeof(buf), "domain/%d/zone/0/contig_result", i);
		ck_assert_int_gt(ctl_get(d, buf, buf, sizeof(buf)), 0);
		ck_assert_str_eq(buf, "none");
	}
	stop(d, p);
}
END_TEST

/* As a user who is no operator: 0, or the number of the line that tells him something. */
static int strange(struct daemon *d)
{
	static const char *const paths[] = { "domain/1/zone/0/used", "domain/1/zone/0/alloc_contig",
					     "domain/1/zone/0",      "domain/1/zone",
					     "domain/99/zone/0",     "domain/99/zone" };
	char buf[1024];
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		if (setgid(65534) || setuid(65534))
			_exit(99);
		for (int i = 0; i < 6; i++) {
			if (ctl_get(d, paths[i], buf, sizeof(buf)) != -ENOENT ||
			    ctl_ls(d, paths[i], buf, sizeof(buf)) != -ENOENT)
				_exit(1 + i);
			if (ctl_set(d, paths[i], "1") != -EACCES)
				_exit(11 + i);
		}
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

START_TEST(strangers_see_nothing)
{
	struct puppet *p[2];
	struct daemon *d;

	if (geteuid()) {
		puts("SKIP: needs root to become another user");
		return;
	}
	d = start(p);
	ck_assert_int_eq(strange(d), 0);
	stop(d, p);
}
END_TEST

static Suite *zones_suite(void)
{
	Suite *s = suite_create("zones");
	TCase *tc = tcase_create("zones");

	tcase_set_timeout(tc, 300);
	tcase_add_test(tc, domains_add_up);
	tcase_add_test(tc, paths_that_are_not_there);
	tcase_add_test(tc, strangers_see_nothing);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(zones_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
