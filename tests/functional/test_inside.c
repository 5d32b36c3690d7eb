/* SPDX-License-Identifier: MIT */
/*
 * test_inside.c - those who must share a domain with a neighbour that they do not quite trust.
 *
 * min_sharers: contents that one service holds, a parent and the children that it forked, get no
 * frame, so no neighbour can read them. merge_delay_millisecs: equal pages are not merged at once.
 * ksm_exclude() and ksm-run --respect-dontdump: what must not be shared is not.
 *
 * Puppets are forks of the test, so all of them are one family; a holder is a program of its own.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

#define HOLD "--hold"
#define PAGES 64
#define CONTENT 1000 /* of the first page; the others count up */

/* ---- holders ---- */

/* The program itself under HOLD: offers PAGES pages and waits to be killed. */
static int hold(void)
{
	long addr = fn_offer((const long[6]){ PAGES, CONTENT, 1 });

	if (addr > 0)
		for (;;)
			pause();
	return EXIT_FAILURE;
}

static pid_t start_holder(void)
{
	pid_t test = getpid(), pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() == test)
		execl("/proc/self/exe", "holder", HOLD, NULL);
	_exit(EXIT_FAILURE);
}

static void stop_holder(pid_t pid)
{
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}

/* ---- min_sharers ---- */

static struct daemon *start(const char *const args[], const char *knob, uint64_t value)
{
	struct daemon *d = daemon_start(args);

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, knob, value), 0);
	return d;
}

/* Seen to fail (64 frames) when every client is a family of its own (join.c). */
START_TEST(a_service_keeps_its_secrets)
{
	struct daemon *d = start(NULL, "ksm/min_sharers", 2);
	struct puppet *parent = puppet_new(), *child;
	long addr = puppet_call(parent, fn_offer, PAGES, CONTENT, 1);
	pid_t holder;

	ck_assert_int_gt(addr, 0);
	child = puppet_fork(parent);
	/* Written by each: now they are two pages of the same contents. */
	puppet_call(parent, fn_fill, addr, PAGES, CONTENT, 1);
	puppet_call(child, fn_fill, addr, PAGES, CONTENT, 1);
	wait_counter(d, "pages_waiting", 2 * PAGES);
	wait_full_scans(d, 3, WAIT_MS);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/frames_used"), 0);
	ck_assert_int_eq(puppet_pages_on_frames(parent, addr, PAGES), 0);
	ck_assert_int_eq(puppet_pages_on_frames(child, addr, PAGES), 0);
	/* Another service turns out to hold the same. */
	holder = start_holder();
	wait_counter(d, "pages_sharing", 2 * PAGES);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_waiting"), 0);
	ck_assert_int_eq(puppet_pages_on_frames(child, addr, PAGES), PAGES);
	ck_assert_int_eq(puppet_call(parent, fn_check, addr, PAGES, CONTENT, 1), 0);
	ck_assert_int_eq(puppet_call(child, fn_check, addr, PAGES, CONTENT, 1), 0);
	stop_holder(holder);
	puppet_end(child);
	puppet_end(parent);
	daemon_stop(d);
}
END_TEST

/* A family stays one when the process in the middle has ended, and the daemon was replaced. */
START_TEST(a_family_is_known_again)
{
	struct daemon *d = start(NULL, "ksm/min_sharers", 2);
	struct puppet *parent = puppet_new(), *child;
	long addr = puppet_call(parent, fn_offer, PAGES, CONTENT, 1);

	child = puppet_fork(parent);
	puppet_call(parent, fn_fill, addr, PAGES, CONTENT, 1);
	puppet_call(child, fn_fill, addr, PAGES, CONTENT, 1);
	daemon_kill(d);
	daemon_restart(d, NULL);
	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 0), 0);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/min_sharers", 2), 0);
	puppet_call(parent, fn_fill, addr, PAGES, CONTENT + 500, 1);
	puppet_call(child, fn_fill, addr, PAGES, CONTENT + 500, 1);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/run", 1), 0);
	wait_counter(d, "pages_waiting", 2 * PAGES);
	wait_full_scans(d, 3, WAIT_MS);
	ck_assert_int_eq(puppet_pages_on_frames(child, addr, PAGES), 0);
	puppet_end(child);
	puppet_end(parent);
	daemon_stop(d);
}
END_TEST

START_TEST(strangers_count_each)
{
	static const char *const process[] = { "--domain", "process", NULL };
	struct daemon *d = start(NULL, "ksm/min_sharers", 3);
	pid_t v[3];
	struct puppet *p;

	for (int i = 0; i < 3; i++) {
		v[i] = start_holder();
		if (i)
			wait_counter(d, "pages_waiting", i == 1 ? 2 * PAGES : 0);
	}
	wait_counter(d, "pages_sharing", 2 * PAGES);
	/* What is merged stays, whoever leaves. */
	stop_holder(v[0]);
	stop_holder(v[1]);
	wait_counter(d, "pages_sharing", 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), PAGES);
	stop_holder(v[2]);
	daemon_stop(d);
	/* Who is alone in the domain needs no bar. */
	d = start(process, "ksm/min_sharers", 3);
	p = puppet_new();
	ck_assert_int_gt(puppet_call(p, fn_offer, PAGES, CONTENT, 0), 0);
	wait_counter(d, "pages_sharing", PAGES - 1);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/* ---- merge_delay_millisecs ---- */

START_TEST(merging_is_delayed)
{
	enum { DELAY_MS = 4000 };
	struct daemon *d = start(NULL, "ksm/merge_delay_millisecs", DELAY_MS);
	uint64_t begun = harness_now_ms();
	pid_t a = start_holder(), b = start_holder(), c;

	wait_counter(d, "pages_waiting", 2 * PAGES);
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") > 0, WAIT_MS, "some are merged");
	ck_assert_msg(harness_now_ms() - begun > DELAY_MS || ctl_get_u64(d, "ksm/pages_waiting"),
		      "all were merged at once");
	wait_counter(d, "pages_sharing", PAGES);
	ck_assert_uint_lt(harness_now_ms() - begun, 10 * DELAY_MS);
	/* Who comes to frames that are there waits as well. */
	c = start_holder();
	wait_until(ctl_get_u64(d, "ksm/pages_waiting") > 0, WAIT_MS, "the third waits");
	wait_counter(d, "pages_sharing", 2 * PAGES);
	stop_holder(a);
	stop_holder(b);
	stop_holder(c);
	daemon_stop(d);
}
END_TEST

/* ---- exclusion ---- */

/* (addr, pages, exclude) */
static long fn_exclude(const long a[6])
{
	return ksm_exclude((void *)a[0], (size_t)a[1] * PUPPET_PAGE, a[2]) ? -errno : 0;
}

START_TEST(excluded_memory_stays_private)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new();
	pid_t holder = start_holder();
	long addr = puppet_call(p, fn_offer, PAGES, CONTENT, 1);

	daemon_hasten(d);
	wait_counter(d, "pages_sharing", PAGES);
	/* Un-shared when the call returns, and not merged again. */
	ck_assert_int_eq(puppet_call(p, fn_exclude, addr, PAGES / 2, 1), 0);
	ck_assert_int_eq(pages_on_frames(p->pid, addr, PAGES / 2), 0);
	wait_until(ctl_client_u64(d, p->pid, "left_out/excluded") == PAGES / 2, WAIT_MS,
		   "they are counted");
	ck_assert_int_eq(puppet_call(p, fn_madvise, addr, PAGES * PUPPET_PAGE, MADV_MERGEABLE), 0);
	wait_full_scans(d, 3, WAIT_MS);
	ck_assert_int_eq(puppet_pages_on_frames(p, addr, PAGES / 2), 0);
	ck_assert_int_eq(puppet_pages_on_frames(p, addr, PAGES), PAGES / 2);
	/* Before anything is offered, too. */
	ck_assert_int_eq(puppet_call(p, fn_exclude, addr, PAGES / 2, 0), 0);
	wait_counter(d, "pages_sharing", PAGES);
	ck_assert_int_eq(puppet_call(p, fn_check, addr, PAGES, CONTENT, 1), 0);
	ck_assert_int_eq(puppet_call(p, fn_exclude, addr + 1, 1, 1), -EINVAL);
	ck_assert_int_eq(puppet_call(p, fn_exclude, addr, 0, 1), 0);
	stop_holder(holder);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

START_TEST(excluded_before_it_is_offered)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new();
	long addr = puppet_call(p, fn_map, PAGES);

	daemon_hasten(d);
	puppet_call(p, fn_fill, addr, PAGES, CONTENT, 0);
	ck_assert_int_eq(puppet_call(p, fn_exclude, addr, PAGES / 2, 1), 0);
	ck_assert_int_eq(puppet_call(p, fn_madvise, addr, PAGES * PUPPET_PAGE, MADV_MERGEABLE), 0);
	wait_counter(d, "pages_sharing", PAGES / 2 - 1);
	wait_full_scans(d, 3, WAIT_MS);
	ck_assert_int_eq(puppet_pages_on_frames(p, addr, PAGES / 2), 0);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/* Two mappings of equal pages; the second is kept out of core dumps. It says where they are. */
static const char undumped[] =
	"import mmap, sys, time\n"
	"v = [mmap.mmap(-1, 64 * 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) for _ in range(2)]\n"
	"for m in v: m.write(b'equal'.ljust(4096) * 64)\n"
	"v[1].madvise(mmap.MADV_DONTDUMP)\n"
	"import ctypes\n"
	"print(*(ctypes.addressof(ctypes.c_char.from_buffer(m)) for m in v), flush=True)\n"
	"time.sleep(1000)\n";

/* Seen to fail (64 pages) without the option, once DONTDUMP is no reason to leave memory out. */
START_TEST(undumped_memory_stays_out)
{
	struct daemon *d = daemon_start(NULL);
	long dumped, kept;
	int fd[2];
	FILE *out;
	pid_t pid;

	daemon_hasten(d);
	ck_assert_int_eq(pipe(fd), 0);
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fd[1], STDOUT_FILENO);
		execlp(build_path("ksm-run"), "ksm-run", "--respect-dontdump", "python3", "-c",
		       undumped, NULL);
		_exit(EXIT_FAILURE);
	}
	close(fd[1]);
	out = fdopen(fd[0], "r");
	ck_assert_int_eq(fscanf(out, "%ld %ld", &dumped, &kept), 2);
	wait_until(pages_on_frames(pid, dumped, 64) == 64, WAIT_MS, "the others are merged");
	wait_until(ctl_client_u64(d, pid, "left_out/excluded") >= 64, WAIT_MS, "they are counted");
	wait_full_scans(d, 3, WAIT_MS);
	ck_assert_int_eq(pages_on_frames(pid, kept, 64), 0);
	fclose(out);
	stop_holder(pid);
	daemon_stop(d);
}
END_TEST

static Suite *inside_suite(void)
{
	Suite *s = suite_create("inside");
	TCase *tc = tcase_create("inside");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, a_service_keeps_its_secrets);
	tcase_add_test(tc, a_family_is_known_again);
	tcase_add_test(tc, strangers_count_each);
	tcase_add_test(tc, merging_is_delayed);
	tcase_add_test(tc, excluded_memory_stays_private);
	tcase_add_test(tc, excluded_before_it_is_offered);
	if (!SANITIZED)
		tcase_add_test(tc, undumped_memory_stays_out);
	suite_add_tcase(s, tc);
	return s;
}

int main(int argc, char **argv)
{
	SRunner *sr;
	int failed;

	if (argc > 1 && !strcmp(argv[1], HOLD))
		return hold();
	sr = srunner_create(inside_suite());
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
