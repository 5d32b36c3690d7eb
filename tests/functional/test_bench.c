/* SPDX-License-Identifier: MIT */
/*
 * test_bench.c - ksm-bench gives back what it borrowed, and its sums are right.
 *
 * A benchmark that errs is believed. So its sums are checked against cases that can be done by
 * hand, and its expectations against counting. A directory ($KSM_BENCH_DIR) stands in for the
 * kernel's knobs. No page is ever merged there, so the tests interrupt a round in progress at
 * leisure.
 *
 * test_bench_report.py tests what is made of results, test_bench_rounds.py the results themselves.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tools/bench/file.h"
#include "tools/bench/hist.h"
#include "tools/bench/workload.h"

static char dir[64];

/* ---- files below dir ---- */

static const char *in_dir(const char *name)
{
	static char path[8][256]; /* start() makes two, its caller more */
	static int next;
	char *p = path[next++ % 8];

	snprintf(p, sizeof(path[0]), "%s/%s", dir, name);
	return p;
}

static void put(const char *name, const char *text)
{
	FILE *f = fopen(in_dir(name), "we");

	ck_assert_ptr_nonnull(f);
	fputs(text, f);
	ck_assert_int_eq(fclose(f), 0);
}

/* "" when it is not there. Static buffer of 1 MiB. */
static const char *get(const char *name)
{
	static char text[1 << 20];

	if (file_read(in_dir(name), text, sizeof(text)) < 0)
		text[0] = 0;
	return text;
}

static const struct {
	const char *name, *value;
} knobs[] = {
	{ "ksm/run", "1" },
	{ "ksm/sleep_millisecs", "21" },
	{ "ksm/pages_to_scan", "101" },
	{ "ksm/merge_across_nodes", "1" },
	{ "ksm/max_page_sharing", "257" },
	{ "ksm/use_zero_pages", "0" },
	{ "ksm/smart_scan", "1" },
	{ "vm/max_map_count", "65531" },
	{ "ksm/advisor_mode", "none [scan-time]" },
};
enum { NR_KNOBS = sizeof(knobs) / sizeof(knobs[0]) };

/* A kernel whose KSM never gets anywhere. */
static void setup(void)
{
	static const char *const counters[] = {
		"pages_shared",   "pages_sharing", "pages_unshared",
		"pages_volatile", "full_scans",    "ksm_zero_pages"
	};
	char name[64];

	snprintf(dir, sizeof(dir), "/tmp/ksm-test-bench.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(mkdir(in_dir("ksm"), 0700), 0);
	ck_assert_int_eq(mkdir(in_dir("vm"), 0700), 0);
	for (int i = 0; i < NR_KNOBS; i++)
		put(knobs[i].name, knobs[i].value);
	for (size_t i = 0; i < sizeof(counters) / sizeof(counters[0]); i++) {
		snprintf(name, sizeof(name), "ksm/%s", counters[i]);
		put(name, "0\n");
	}
	setenv("KSM_BENCH_DIR", dir, 1);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
}

static bool knobs_as_before(void)
{
	for (int i = 0; i < NR_KNOBS; i++) {
		/* What is shown as a choice is written as the word. */
		const char *want = strchr(knobs[i].value, '[') ? "scan-time" : knobs[i].value;

		if (strcmp(get(knobs[i].name), want) != 0)
			return false;
	}
	return access(in_dir("ksm-bench.knobs"), F_OK) != 0;
}

/* ---- running ksm-bench ---- */

static pid_t start(const char *const args[])
{
	const char *argv[32] = { build_path("ksm-bench") };
	pid_t pid;

	for (int i = 0; args[i]; i++)
		argv[i + 1] = args[i];
	fflush(NULL);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		int out = open(in_dir("out"), O_WRONLY | O_CREAT | O_TRUNC, 0600);
		int err = open(in_dir("err"), O_WRONLY | O_CREAT | O_APPEND, 0600);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(out, 1);
		dup2(err, 2);
		execv(argv[0], (char *const *)(uintptr_t)argv);
		_exit(127);
	}
	return pid;
}

static int finish(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

#define RUN(...) finish(start((const char *const[]){ __VA_ARGS__, NULL }))

static bool no_ksmd(void)
{
	if (!access("/sys/kernel/mm/ksm/run", F_OK))
		return false;
	puts("SKIP: this kernel has no KSM");
	return true;
}

/* Knobs as they are while it merges. */
static bool merging(void)
{
	return !strcmp(get("ksm/sleep_millisecs"), "0") && !strcmp(get("ksm/run"), "1") &&
	       !strcmp(get("ksm/advisor_mode"), "none") &&
	       !strcmp(get("vm/max_map_count"), "60000");
}

/* A run that is in the middle of merging, and will stay there. */
static pid_t start_endless(void)
{
	pid_t pid =
		start((const char *const[]){ "kernel", "--only", "kernel", "--size", "1", "--limit",
					     "600", "--max-map-count", "60000", NULL });

	wait_until(merging(), WAIT_MS, "it merges");
	return pid;
}

static const int asked[] = { SIGINT, SIGTERM, SIGHUP };

START_TEST(signal_restores_knobs)
{
	pid_t pid;

	if (no_ksmd())
		return;
	pid = start_endless();
	kill(pid, asked[_i]);
	ck_assert_int_eq(finish(pid), 128 + asked[_i]);
	ck_assert(knobs_as_before());
	ck_assert_ptr_nonnull(strstr(get("out"), "interrupted"));
}
END_TEST

START_TEST(kill_restores_knobs)
{
	pid_t pid;

	if (no_ksmd())
		return;
	pid = start_endless();
	kill(pid, SIGKILL);
	ck_assert_int_eq(finish(pid), 1000 + SIGKILL);
	wait_until(knobs_as_before(), WAIT_MS, "the watchdog puts the knobs back");
}
END_TEST

/* The program that decides what is measured; 0 when there is none. */
static pid_t python_of(pid_t pid)
{
	char path[64], text[4096], comm[64], *save = NULL;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	ck_assert_int_gt((int)file_read(path, text, sizeof(text)), 0);
	for (char *c = strtok_r(text, " \n", &save); c; c = strtok_r(NULL, " \n", &save)) {
		snprintf(path, sizeof(path), "/proc/%.10s/comm", c);
		if (file_read(path, comm, sizeof(comm)) > 0 && !strncmp(comm, "python3", 7))
			return atoi(c);
	}
	return 0;
}

START_TEST(end_of_python_restores_knobs)
{
	pid_t pid, python;

	if (no_ksmd())
		return;
	pid = start_endless();
	python = python_of(pid);
	ck_assert_int_gt(python, 1);
	kill(python, SIGKILL);
	ck_assert_int_eq(finish(pid), 128 + SIGHUP); /* long before its limit of 600 s */
	ck_assert(knobs_as_before());
}
END_TEST

/* The process and all its children, the watchdog among them, without a moment to react. */
static void kill_all(pid_t pid)
{
	char path[64], text[4096], *save = NULL;
	int nr = 0;

	kill(pid, SIGSTOP);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	ck_assert_int_gt((int)file_read(path, text, sizeof(text)), 0);
	for (char *c = strtok_r(text, " \n", &save); c; c = strtok_r(NULL, " \n", &save), nr++) {
		ck_assert_int_gt(atoi(c), 1);
		kill(atoi(c), SIGKILL);
	}
	ck_assert_int_ge(nr, 3); /* a tenant or two, the watchdog, and Python */
	kill(pid, SIGKILL);
	finish(pid);
}

START_TEST(next_run_restores_knobs)
{
	pid_t pid;

	if (no_ksmd())
		return;
	pid = start_endless();
	kill_all(pid);
	ck_assert_str_eq(get("ksm/sleep_millisecs"), "0"); /* or this tests nothing */
	if (_i) {
		ck_assert_int_eq(RUN("restore"), 0);
	} else {
		put("ksm/run", "as the next run has not yet touched it");
		pid = start_endless(); /* it must not take the changed knobs for the operator's */
		kill(pid, SIGINT);
		ck_assert_int_eq(finish(pid), 128 + SIGINT);
	}
	ck_assert(knobs_as_before());
	ck_assert_ptr_nonnull(strstr(get("err"), "put the kernel's knobs back"));
}
END_TEST

START_TEST(restore_without_need)
{
	ck_assert_int_eq(RUN("restore"), 0);
	ck_assert_str_eq(get("ksm/advisor_mode"), "none [scan-time]"); /* nothing was written */
}
END_TEST

/* Every run that is physically possible is had when what is in the way is moved, and none else. */
START_TEST(pool_gives_what_is_possible)
{
	ck_assert_int_eq(RUN("pool"), 0);
	ck_assert_ptr_nonnull(strstr(get("out"), "| left | 0 of 250 | 0 % |"));
	ck_assert_ptr_nonnull(strstr(get("out"), "| moved | 250 of 250 | 100 % |"));
	ck_assert_ptr_nonnull(strstr(get("out"), "| done |"));
}
END_TEST

/* What the file of saved knobs must never make us write. */
static const char *const damaged[] = {
	"",
	"run",
	"run 0",
	"sleep_millisecs 20\n",
	"run 0\nnosuch 1\n",
	"run 0\n../../etc/passwd 1\n",
	"run 0 0\n",
	"run\n0\n",
};
enum { NR_DAMAGED = sizeof(damaged) / sizeof(damaged[0]) };

START_TEST(damaged_file_is_refused)
{
	put("ksm-bench.knobs", damaged[_i]);
	ck_assert_int_eq(RUN("restore"), 1);
	ck_assert_int_eq(RUN("kernel", "--size", "1"), 1);
	ck_assert_str_eq(get("ksm/run"), "1");
	ck_assert_str_eq(get("ksm/sleep_millisecs"), "21");
	ck_assert_ptr_nonnull(strstr(get("err"), "cannot be used"));
	ck_assert_str_eq(get("ksm-bench.knobs"), damaged[_i]);
}
END_TEST

START_TEST(others_merged_memory_is_left_alone)
{
	put("ksm/pages_shared", "7\n");
	ck_assert_int_eq(RUN("kernel", "--size", "1"), 1);
	ck_assert_str_eq(get("ksm/run"), "1");
	ck_assert_ptr_nonnull(strstr(get("err"), "already at work"));
	ck_assert(access(in_dir("ksm-bench.knobs"), F_OK) != 0);
}
END_TEST

START_TEST(one_at_a_time)
{
	int fd = open(in_dir("ksm-bench.lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	pid_t pid;

	ck_assert_int_eq(flock(fd, LOCK_EX), 0);
	pid = start((const char *const[]){ "kernel", "--only", "kernel", "--size", "1", NULL });
	wait_until(strstr(get("err"), "another ksm-bench"), WAIT_MS, "it says that it waits");
	ck_assert_str_eq(get("ksm/sleep_millisecs"), "21");
	kill(pid, SIGTERM);
	ck_assert_int_eq(finish(pid), 128 + SIGTERM);
	close(fd);
}
END_TEST

/* ---- sums ---- */

/* pages_sharing and zero pages that would be, by counting equal pages. */
static uint64_t count_alike(enum contents c, uint32_t processes, uint64_t nr_pages)
{
	uint64_t total = processes * nr_pages, *all = malloc(total * sizeof(*all)), nr = 0, n = 0;

	for (uint32_t p = 0; p < processes; p++)
		for (uint64_t i = 0; i < nr_pages; i++)
			all[n++] = workload_content(c, p, i, nr_pages);
	for (uint64_t i = 0; i < total; i++) {
		bool seen = all[i] == 0;

		for (uint64_t k = 0; k < i && !seen; k++)
			seen = all[k] == all[i];
		nr += seen;
	}
	free(all);
	return nr;
}

START_TEST(expectations_are_what_counting_gives)
{
	for (enum contents c = 0; c < CONTENTS_NR; c++)
		if (!workload_is_real(c)) /* nobody knows what programs have alike */
			for (uint32_t processes = 1; processes < 4; processes++)
				ck_assert_msg(workload_expected(c, processes, 257) ==
						      count_alike(c, processes, 257),
					      "%s, %u processes", contents_name[c], processes);
}
END_TEST

START_TEST(quantiles)
{
	static struct hist h;

	memset(&h, 0, sizeof(h));
	ck_assert(isnan(hist_quantile(&h, 0.5)));
	for (uint64_t i = 1; i <= 100000; i++)
		hist_add(&h, i);
	for (int permille = 1; permille < 1000; permille += 49) {
		double q = permille / 1000.0, want = q * 100000, seen = hist_quantile(&h, q);

		ck_assert_msg(seen >= want * 0.999 && seen <= want * 1.07, "%g: %g", q, seen);
	}
	ck_assert_double_eq(hist_quantile(&h, 1), 100000);
	hist_add(&h, UINT64_MAX); /* the last bucket */
	ck_assert(h.max == UINT64_MAX);
}
END_TEST

START_TEST(stalls_beyond_control)
{
	static struct hist h, control;

	memset(&h, 0, sizeof(h));
	memset(&control, 0, sizeof(control));
	/* Both: one in 200 takes 100 us. The touches alone: one in 500 takes 1 ms. */
	for (int i = 0; i < 100000; i++) {
		uint64_t common = i % 200 ? 300 : 100000;

		hist_add(&control, common);
		hist_add(&h, i % 500 == 250 ? 1000000 : common);
	}
	ck_assert_double_ge(hist_quantile_beyond(&h, &control, 0.999), 1000000);
	ck_assert_double_lt(hist_quantile_beyond(&h, &control, 0.999), 1070000);
	/* What is wholly explained by the control is nothing, however bad. */
	ck_assert_double_eq(hist_quantile_beyond(&control, &control, 0.999), 0);
	ck_assert_double_ge(hist_quantile(&control, 0.999), 100000);
	memset(&control, 0, sizeof(control));
	ck_assert(isnan(hist_quantile_beyond(&h, &control, 0.999)));
}
END_TEST

static Suite *bench_suite(void)
{
	Suite *s = suite_create("bench");
	TCase *tc = tcase_create("bench");

	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, signal_restores_knobs, 0, 3);
	tcase_add_test(tc, kill_restores_knobs);
	tcase_add_test(tc, end_of_python_restores_knobs);
	tcase_add_loop_test(tc, next_run_restores_knobs, 0, 2);
	tcase_add_test(tc, restore_without_need);
	tcase_add_test(tc, pool_gives_what_is_possible);
	tcase_add_loop_test(tc, damaged_file_is_refused, 0, NR_DAMAGED);
	tcase_add_test(tc, others_merged_memory_is_left_alone);
	tcase_add_test(tc, one_at_a_time);
	tcase_add_test(tc, expectations_are_what_counting_gives);
	tcase_add_test(tc, quantiles);
	tcase_add_test(tc, stalls_beyond_control);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(bench_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
