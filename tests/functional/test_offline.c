/* SPDX-License-Identifier: MIT */
/*
 * test_offline.c - frames are taken out of use under processes that stand on them and go on.
 *
 * /proc/PID/maps shows which frames pages stand on. Every page's contents are checked after every
 * drain.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/load.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"

enum { PAGES = 600, BLOCK = 512 };

static struct daemon *start(const char *topology)
{
	struct daemon *d = daemon_start((const char *const[]){ "--topology", topology, NULL });

	daemon_hasten(d);
	return d;
}

/* The first frame of the pageblock that some page of this range stands in. */
static uint64_t a_block(const struct puppet *p, long addr, int pages)
{
	uint64_t frame = 0;

	ck_assert_int_gt(mapping_on_frames(p->pid, addr, pages, 0, UINT64_MAX, &frame), 0);
	return frame / BLOCK * BLOCK;
}

static int begin(struct daemon *d, const char *what, uint64_t first, uint64_t end)
{
	char value[64], path[32];

	snprintf(value, sizeof(value), "%llu %llu", (unsigned long long)first,
		 (unsigned long long)end);
	snprintf(path, sizeof(path), "node/0/%s", what);
	return ctl_set(d, path, value);
}

static bool is_idle(struct daemon *d)
{
	char buf[64];

	ck_assert_int_gt(ctl_get(d, "node/0/offline", buf, sizeof(buf)), 0);
	return !strcmp(buf, "none");
}

/* Wait for the end. Returns what became of it. */
static const char *result(struct daemon *d)
{
	static char buf[256];

	wait_until(is_idle(d), WAIT_MS, "it ends");
	ck_assert_int_gt(ctl_get(d, "node/0/offline_result", buf, sizeof(buf)), 0);
	return buf;
}

/* What ksmdctl says. Returns its exit status. */
static int ksmdctl(struct daemon *d, const char *args, char *buf, size_t size)
{
	char line[1024];
	FILE *f;

	snprintf(line, sizeof(line), "exec \"%s\" --runtime-dir \"%s\" %s 2>&1",
		 build_path("ksmdctl"), d->dir, args);
	f = popen(line, "r"); /* NOLINT(cert-env33-c) */
	ck_assert_ptr_nonnull(f);
	buf[fread(buf, 1, size - 1, f)] = '\0';
	return pclose(f);
}

START_TEST(pageblock_and_back)
{
	struct daemon *d = start("emulated:1");
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_offer, PAGES, 1, 1), b = puppet_call(q, fn_offer, PAGES, 1, 1);
	uint64_t block, one;
	char map[16384];

	wait_counter(d, "pages_sharing", PAGES);
	wait_counter(d, "orders", 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", (uint64_t)_i), 0); /* it needs no scan */
	block = a_block(p, a, PAGES);
	ck_assert_int_gt(mapping_on_frames(p->pid, a, PAGES, block, block + BLOCK, &one), 0);
	ck_assert_int_eq(begin(d, "offline", block, block + BLOCK), 0);
	ck_assert_str_eq(result(d), "done");
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/pageblocks_offline"), 1);
	ck_assert_uint_eq(ctl_get_u64(d, "domain/1/zone/0/used"), ctl_get_u64(d, "zone/0/used"));
	ck_assert_int_gt(ctl_get(d, "domain/1/zone/0/map", map, sizeof(map)), 0);
	ck_assert_msg(strstr(map, "xx"), "%s", map);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/isolated"), 0);
	ck_assert_int_eq(mapping_on_frames(p->pid, a, PAGES, block, block + BLOCK, &one), 0);
	ck_assert_int_eq(mapping_on_frames(q->pid, b, PAGES, block, block + BLOCK, &one), 0);
	ck_assert_int_eq(pages_on_frames(p->pid, a, PAGES), PAGES); /* none was un-shared */
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), PAGES);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 1, 1), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, PAGES, 1, 1), 0);
	ck_assert_int_eq(ksmdctl(d, "pool", map, sizeof(map)), 0);
	ck_assert_msg(strchr(strstr(map, "domain 1 node 0: 600 frames"), 'x'), "%s", map);
	ck_assert_int_eq(ksmdctl(d, "pool svg", map, sizeof(map)), 0);
	ck_assert_msg(strstr(map, "<rect ") && strstr(map, "</svg>"), "%s", map);
	ck_assert_int_eq(begin(d, "offline", block, block + BLOCK), -EADDRINUSE);
	ck_assert_int_eq(begin(d, "online", block, block + BLOCK), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/pageblocks_offline"), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* All of a node while clients write, fork, merge and one is killed. Each drain ends, either way. */
START_TEST(whole_zone_under_load)
{
	enum { CLIENTS = 3, MS = 4000 };
	struct daemon *d = start("emulated:2");
	struct puppet *v[CLIENTS + 1];
	uint64_t end = ctl_get_u64(d, "node/0/frames_end"), one, begun;
	long a[CLIENTS + 1];

	for (int i = 0; i <= CLIENTS; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, PAGES, 1, 1);
	}
	wait_counter(d, "pages_sharing", CLIENTS * PAGES);
	for (int i = 0; i < CLIENTS; i++)
		puppet_post(v[i], fn_write_and_check, a[i], MS, 7 + i, PAGES);
	for (int i = 0; i < 2; i++) {
		begun = harness_now_ms();
		ck_assert_int_eq(ctl_set(d, "node/0/offline", "all"), 0);
		if (!i)
			puppet_kill(v[CLIENTS]);
		result(d);
		ck_assert_uint_lt(harness_now_ms() - begun, 400000); /* promised: some 30 s */
		ck_assert_int_eq(ctl_set(d, "node/0/online", "all"), 0);
	}
	for (int i = 0; i < CLIENTS; i++)
		ck_assert_int_eq(puppet_result(v[i]), 0);
	/* At rest it succeeds. */
	wait_until(ctl_get_u64(d, "ksm/pages_shared") + ctl_get_u64(d, "ksm/pages_sharing") ==
			   CLIENTS * PAGES,
		   WAIT_MS, "all is merged again");
	wait_counter(d, "orders", 0);
	for (int i = 0; i < 20 && ctl_get_u64(d, "zone/0/pageblocks_offline") == 0; i++) {
		ck_assert_int_eq(ctl_set(d, "node/0/offline", "all"), 0);
		result(d);
	}
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/used"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/absent"), ctl_get_u64(d, "zone/0/span"));
	for (int i = 0; i < CLIENTS; i++) {
		ck_assert_int_eq(mapping_on_frames(v[i]->pid, a[i], PAGES, 0, end, &one), 0);
		ck_assert_int_eq(mapping_on_frames(v[i]->pid, a[i], PAGES, end, 2 * end, &one),
				 PAGES);
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], PAGES, 1, 1), 0);
		puppet_end(v[i]);
	}
	daemon_stop(d);
}
END_TEST

/* A client that is stopped keeps its frames; it is named, and everything is in use as before. */
START_TEST(stopped_client)
{
	struct daemon *d = start("emulated:1");
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_offer, PAGES, 1, 1), b = puppet_call(q, fn_offer, PAGES, 1, 1);
	uint64_t block, begun;
	char want[64];

	wait_counter(d, "pages_sharing", PAGES);
	wait_counter(d, "orders", 0);
	block = a_block(p, a, PAGES);
	kill(q->pid, SIGSTOP);
	begun = harness_now_ms();
	ck_assert_int_eq(begin(d, "offline", block, block + BLOCK), 0);
	ck_assert_int_eq(begin(d, "offline", block, block + BLOCK), -EALREADY);
	snprintf(want, sizeof(want), "client %d silent", (int)q->pid);
	if (_i)
		ck_assert_int_eq(ctl_set(d, "node/0/offline", "none"), 0);
	if (_i)
		ck_assert_ptr_eq(strstr(result(d), "ECANCELED"), result(d));
	else
		ck_assert_msg(!strncmp(result(d), "EBUSY ", 6) && strstr(result(d), want),
			      "%s: not %s", result(d), want);
	ck_assert_uint_lt(harness_now_ms() - begun, 300000); /* promised: 30 s */
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/pageblocks_offline"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/isolated"), 0);
	kill(q->pid, SIGCONT);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 1, 1), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, PAGES, 1, 1), 0);
	ck_assert_int_eq(begin(d, "offline", block, block + BLOCK), 0);
	ck_assert_str_eq(result(d), "done");
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* A range goes out of use in all domains or in none. */
START_TEST(two_domains)
{
	struct daemon *d = daemon_start(
		(const char *const[]){ "--topology", "emulated:2", "--domain", "process", NULL });
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer, PAGES, 7, 0);
	b = puppet_call(q, fn_offer, PAGES, 7, 0);
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= 2 * (PAGES - 10), WAIT_MS, "it merges");
	wait_counter(d, "orders", 0);
	ck_assert_int_eq(ctl_set(d, "node/0/offline", "all"), 0);
	ck_assert_str_eq(result(d), "done");
	ck_assert_int_eq(ctl_set(d, "node/0/online", "all"), 0);
	ck_assert_int_eq(ctl_set(d, "node/1/migrate_to", "0"), 0);
	wait_until(ctl_get_u64(d, "zone/1/used") == 0, WAIT_MS, "all goes back");
	kill(q->pid, SIGSTOP);
	ck_assert_int_eq(ctl_set(d, "node/0/offline", "all"), 0);
	ck_assert_ptr_eq(strstr(result(d), "EBUSY"), result(d));
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/pageblocks_offline"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/isolated"), 0);
	kill(q->pid, SIGCONT);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 7, 0), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, PAGES, 7, 0), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/*
 * A frame is kept empty behind each single frame, and at the end of each window. Programs see
 * nothing of it; a pageblock is emptied as without; and when all have gone so have the guards.
 */
START_TEST(guarded)
{
	struct daemon *d = daemon_start((const char *const[]){ "--guard-frames", NULL });
	struct puppet *v[3], *other = puppet_new();
	uint64_t block;
	long a[3];

	daemon_hasten(d);
	/* Nobody gathers them meanwhile. */
	ck_assert_int_eq(ctl_set(d, "ksm/compaction_proactiveness", "0"), 0);
	puppet_call(other, fn_offer, 1, 1000000, 1); /* so that the domain stays */
	for (int i = 0; i < 3; i++) {
		v[i] = puppet_new();
		a[i] = puppet_call(v[i], fn_offer, PAGES, 7, 1);
	}
	wait_counter(d, "pages_sharing", 2 * PAGES);
	wait_counter(d, "orders", 0);
	ck_assert_uint_gt(ctl_get_u64(d, "zone/0/guard"), 0);
	block = a_block(v[0], a[0], PAGES);
	ck_assert_int_eq(begin(d, "offline", block, block + BLOCK), 0);
	ck_assert_str_eq(result(d), "done");
	/* They have gone elsewhere, as runs or as single frames, and each of these has a guard. */
	ck_assert_uint_gt(ctl_get_u64(d, "zone/0/guard"), 0);
	ck_assert_int_eq(begin(d, "online", block, block + BLOCK), 0);
	for (int i = 0; i < 3; i++) {
		ck_assert_int_eq(puppet_call(v[i], fn_check, a[i], PAGES, 7, 1), 0);
		puppet_end(v[i]);
	}
	wait_until(ctl_get_u64(d, "zone/0/guard") == 0, WAIT_MS, "the guards go");
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/used"), 0);
	puppet_end(other);
	daemon_stop(d);
}
END_TEST

/* What the daemon answers to this command. Static buffer. */
static const char *answer_to(struct daemon *d, const char *path, const char *value)
{
	static char answer[256];
	int fd = harness_connect(d->dir, "control.sock", SOCK_STREAM), len;
	char line[128];
	ssize_t r;

	ck_assert_int_ge(fd, 0);
	len = snprintf(line, sizeof(line), "set %s %s\n", path, value);
	ck_assert_int_eq(write(fd, line, (size_t)len), len);
	r = read(fd, answer, sizeof(answer) - 1);
	ck_assert_int_gt(r, 0);
	answer[r] = '\0';
	close(fd);
	return answer;
}

/* A range of a node that is refused, with the reason. */
START_TEST(bad_ranges)
{
	static const char syntax[] = "neither FIRST END, two numbers of frames, nor all";
	static const char beyond[] = "not all of it is the node's: see frames_start, frames_end";
	static const char part[] = "no whole pageblocks of 512 frames";
	static const struct {
		const char *value, *why;
	} bad[] = {
		{ "0", syntax },
		{ "", syntax },
		{ "0 512 1024", syntax },
		{ "0 512x", syntax },
		{ "-512 512", syntax },
		{ "512 0", "it ends before it starts" },
		{ "512 512", "no frames: it ends where it starts" },
		{ "0 511", part },
		{ "1 513", part },
		{ "0 99999999999999999999", beyond },
		{ "4294967296 4294967808", beyond },
		{ "0 99999999999", beyond },
	};
	static const char *const paths[] = { "node/0/offline", "node/0/online" };
	struct daemon *d = start("emulated:1");

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		for (int p = 0; p < 2; p++) {
			char wanted[128];

			snprintf(wanted, sizeof(wanted), "error EINVAL %s\n", bad[i].why);
			ck_assert_str_eq(answer_to(d, paths[p], bad[i].value), wanted);
			ck_assert_int_eq(ctl_set(d, paths[p], bad[i].value), -EINVAL);
		}
	ck_assert_str_eq(answer_to(d, "node/0/online", "none"),
			 "error EINVAL neither FIRST END, two numbers of frames, nor all\n");
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/pageblocks_offline"), 0);
	ck_assert_str_eq(result(d), "none");
	daemon_stop(d);
}
END_TEST

START_TEST(bad_input)
{
	static const struct {
		const char *path, *value;
		int err;
	} bad[] = {
		{ "node/0/offline", "all", ENOMEM }, /* there is no other node */
		{ "node/1/offline", "all", ENOENT },    { "node/0/compact", "2", EINVAL },
		{ "node/1/compact", "1", ENOENT },      { "ksm/compact_memory", "0", EINVAL },
		{ "node/0/compact_fail", "1", EACCES }, { "node/0/offline_result", "all", EACCES },
	};
	struct daemon *d = start("emulated:1");
	struct puppet *p = puppet_new();
	long a = puppet_call(p, fn_offer, PAGES, 7, 0);

	wait_counter(d, "pages_sharing", PAGES - (PAGES + 255) / 256);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		ck_assert_msg(ctl_set(d, bad[i].path, bad[i].value) == -bad[i].err, "%s %s",
			      bad[i].path, bad[i].value);
	ck_assert_uint_eq(ctl_get_u64(d, "zone/0/pageblocks_offline"), 0);
	ck_assert_int_eq(puppet_call(p, fn_check, a, PAGES, 7, 0), 0);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

static Suite *offline_suite(void)
{
	Suite *s = suite_create("offline");
	TCase *tc = tcase_create("offline");

	tcase_set_timeout(tc, 600);
	tcase_add_loop_test(tc, pageblock_and_back, 0, 2);
	tcase_add_test(tc, whole_zone_under_load);
	tcase_add_loop_test(tc, stopped_client, 0, 2);
	tcase_add_test(tc, two_domains);
	tcase_add_test(tc, guarded);
	tcase_add_test(tc, bad_ranges);
	tcase_add_test(tc, bad_input);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(offline_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
