/* SPDX-License-Identifier: MIT */
/*
 * test_bench.c - the benchmark itself: what it computes, what it reads, and that it gives back what
 * it borrowed.
 *
 * A benchmark that errs is believed. So its sums are checked against cases that can be done by
 * hand, its expectations against counting, its reader against text that nobody means well with. The
 * kernel's knobs are stood in for by a directory ($KSM_BENCH_DIR), in which no page is ever merged:
 * a round in progress can be interrupted there at leisure, and one that would never end must be
 * given up.
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
#include "tools/bench/bench.h"

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
	       !strcmp(get("ksm/advisor_mode"), "none");
}

/* A run that is in the middle of merging, and will stay there. */
static pid_t start_endless(void)
{
	pid_t pid = start((const char *const[]){ "kernel", "--only", "kernel", "--size", "1",
						 "--limit", "600", NULL });

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
	ck_assert_int_ge(nr, 2); /* a worker or two, and the watchdog */
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

/* ---- what does not end ---- */

static int load(struct bench_result **r)
{
	const char *text = get("out"), *why;
	int nr = 0;

	*r = NULL;
	ck_assert_int_eq(load_results(text, strlen(text), r, &nr, &why), 0);
	return nr;
}

START_TEST(endless_round_is_reported_and_the_others_go_on)
{
	struct bench_result *r;

	if (no_ksmd())
		return;
	ck_assert_int_eq(RUN("kernel", "--only", "kernel", "--size", "1", "--limit", "1", "--json",
			     "--workload", "clones,scattered"),
			 3);
	ck_assert(knobs_as_before());
	ck_assert_int_eq(load(&r), 2);
	for (int i = 0; i < 2; i++) {
		const struct series *s = r[i].series[SIDE_KERNEL];

		ck_assert(r[i].incomplete[SIDE_KERNEL] && !r[i].incomplete[SIDE_USER]);
		ck_assert_int_eq(r[i].nr_notes, 1);
		ck_assert_ptr_nonnull(strstr(r[i].note[0], "no end of merging within 1 s"));
		/* Three rounds were asked for; a side that does not end gets no second. */
		ck_assert_int_eq(s[M_MERGED_PCT].nr, 1);
		ck_assert_double_eq(s[M_MERGED_PCT].v[0], 0);
		ck_assert_int_eq(series_summary(&s[M_MERGE_S]).nr, 0);
		ck_assert_int_eq(series_summary(&s[M_SAVED_MIB]).nr, 1);
	}
	free(r);
}
END_TEST

START_TEST(too_large_is_skipped)
{
	struct bench_result *r;

	ck_assert_int_eq(RUN("kernel", "--only", "ksmd-user", "--size", "1048576", "--processes",
			     "1000", "--json"),
			 0);
	ck_assert_int_eq(load(&r), 1);
	ck_assert_ptr_nonnull(strstr(r->skipped, "MiB of memory"));
	free(r);
}
END_TEST

START_TEST(missing_programs_are_skipped)
{
	const char *was = getenv("PATH");
	char *path = strdup(was ? was : "");
	struct bench_result *r;

	setenv("PATH", dir, 1);
	ck_assert_int_eq(RUN("kernel", "--only", "ksmd-user", "--workload", "real", "--json"), 0);
	setenv("PATH", path, 1);
	ck_assert_int_eq(load(&r), 1);
	ck_assert_ptr_nonnull(strstr(r->skipped, "redis-server is not installed"));
	ck_assert_ptr_nonnull(strstr(get("err"), "redis-server is not installed"));
	free(r);
	free(path);
}
END_TEST

/* ---- a real daemon ---- */

static double value(const struct bench_result *r, enum metric m)
{
	return series_summary(&r->series[SIDE_USER][m]).median;
}

START_TEST(measures_ksmd_user)
{
	struct bench_result *r;

	ck_assert_int_eq(RUN("kernel", "--only", "ksmd-user", "--size", "8", "--rounds", "1",
			     "--json", "--workload", "clones,unique,zero"),
			 0);
	ck_assert_int_eq(load(&r), 3);
	ck_assert_double_eq(value(&r[0], M_MERGED_PCT), 100);
	ck_assert_double_gt(value(&r[0], M_CPU_S), 0);
	ck_assert_double_gt(value(&r[0], M_MERGE_S), 0);
	ck_assert_double_gt(value(&r[0], M_SAVED_MIB), 7);
	ck_assert_double_lt(value(&r[0], M_SAVED_NET_MIB), 8);
	ck_assert_double_gt(value(&r[0], M_COW_NS), 0);
	ck_assert_double_gt(value(&r[0], M_PROBES), 10);
	ck_assert_double_ge(value(&r[0], M_STORE_MAX_US), value(&r[0], M_STORE_P999_US));
	ck_assert_double_gt(value(&r[1], M_PAGE_BYTES), 0);
	ck_assert(isnan(value(&r[0], M_PAGE_BYTES)));
	ck_assert_double_eq(value(&r[2], M_MERGED_PCT), 100);
	free(r);
}
END_TEST

START_TEST(measures_the_merge_alone)
{
	struct bench_result *r;

	ck_assert_int_eq(RUN("kernel", "--only", "ksmd-user", "--size", "8", "--rounds", "1",
			     "--json", "--workload", "clones", "--merge-only"),
			 0);
	ck_assert_int_eq(load(&r), 1);
	ck_assert_double_eq(value(r, M_MERGED_PCT), 100);
	ck_assert_double_gt(value(r, M_CPU_S), 0);
	ck_assert(isnan(value(r, M_REST_CPU_MS)) && isnan(value(r, M_COW_NS)) &&
		  isnan(value(r, M_PROBES)));
	free(r);
}
END_TEST

START_TEST(measures_real_programs)
{
	struct bench_result *r;

	if (access(build_path("libksm-preload.so"), F_OK)) {
		puts("SKIP: this build has no libksm-preload.so");
		return;
	}
	ck_assert_int_eq(RUN("kernel", "--only", "ksmd-user", "--size", "8", "--rounds", "1",
			     "--json", "--workload", "real"),
			 0);
	ck_assert_int_eq(load(&r), 1);
	if (*r->skipped)
		printf("SKIP: %s\n", r->skipped);
	else
		ck_assert_double_gt(value(r, M_SAVED_MIB), 8); /* 8 MiB of each pair, and more */
	free(r);
}
END_TEST

/* ---- sums ---- */

/* pages_sharing and zero pages that would be, by counting equal pages. */
static uint64_t count_alike(const struct workload *w, uint32_t processes, uint64_t nr_pages)
{
	uint64_t total = processes * nr_pages, *all = malloc(total * sizeof(*all)), nr = 0, n = 0;

	for (uint32_t p = 0; p < processes; p++)
		for (uint64_t i = 0; i < nr_pages; i++)
			all[n++] = workload_content(w, p, i, nr_pages);
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
	for (const struct workload *w = workloads; w->name; w++)
		if (!w->real && !w->growth)
			for (uint32_t processes = 1; processes < 4; processes++)
				ck_assert_msg(workload_expected(w, processes, 257) ==
						      count_alike(w, processes, 257),
					      "%s, %u processes", w->name, processes);
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

START_TEST(summaries_and_gains)
{
	static struct bench_result r;
	struct series *k = &r.series[SIDE_KERNEL][M_MERGE_S];
	struct series *u = &r.series[SIDE_USER][M_MERGE_S];
	struct summary s;

	*k = (struct series){ .v = { 6, 8, 10 }, .nr = 3 };
	*u = (struct series){ .v = { 2, NAN, 1 }, .nr = 3 };
	s = series_summary(u);
	ck_assert(s.nr == 2 && s.median == 1.5 && s.min == 1 && s.max == 2);
	s = result_gain(&r, M_MERGE_S); /* of medians 8 and 1.5; rounds 6/2 and 10/1 */
	ck_assert_double_eq_tol(s.median, 8 / 1.5, 1e-9);
	ck_assert(s.nr == 2 && s.min == 3 && s.max == 10);
	ck_assert_int_eq(result_gain(&r, M_CPU_S).nr, 0);
	*u = (struct series){ .v = { 0 }, .nr = 1 };
	ck_assert_int_eq(result_gain(&r, M_MERGE_S).nr, 0); /* division by 0 is no gain */
}
END_TEST

/* ---- reading ---- */

static const char *const good[] = {
	"null",
	"true",
	"-1.5e3",
	"\"a\\\"b\\\\c\\u0041\\n\"",
	"[]",
	"{}",
	" [1 , [2], {\"a\":[]}] ",
	"{\"a\":{\"b\":null}}",
};
static const char *const bad[] = {
	"nan",   "inf",     "-inf",     "0x10",       "+1",    "1e999", "[1,]",    "[,1]",
	"[1 2]", "{\"a\"}", "{\"a\":}", "{\"a\"",     "{a:1}", "\"abc", "\"abc\\", "[",
	"{",     "]",       "-",        "{\"a\":1,}", "tru",   ":",
};

START_TEST(json_reader)
{
	char deep[4096];
	const char *t;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct json *j;

		t = good[i];
		j = json_parse(&t);
		ck_assert_msg(j != NULL, "%s", good[i]);
		json_free(j);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		t = bad[i];
		ck_assert_msg(json_parse(&t) == NULL, "%s", bad[i]);
	}
	memset(deep, '[', sizeof(deep) - 1);
	deep[sizeof(deep) - 1] = 0;
	t = deep;
	ck_assert_ptr_null(json_parse(&t));
}
END_TEST

/* One with something in every place, as --json writes it. */
static void result_fill(struct bench_result *r)
{
	memset(r, 0, sizeof(*r));
	snprintf(r->machine.cpu, sizeof(r->machine.cpu), "A \"CPU\" & <more>");
	snprintf(r->machine.kernel, sizeof(r->machine.kernel), "Linux 6.18");
	r->machine.cpus = 2;
	snprintf(r->workload, sizeof(r->workload), "clones");
	r->size_mib = 512;
	r->processes = 2;
	r->rounds = 3;
	r->series[SIDE_KERNEL][M_MERGE_S] = (struct series){ .v = { 6, 7, 8 }, .nr = 3 };
	r->series[SIDE_USER][M_MERGE_S] = (struct series){ .v = { 1, 1, 1 }, .nr = 3 };
	r->series[SIDE_KERNEL][M_CPU_S] = (struct series){ .v = { 4, 4, 4 }, .nr = 3 };
	r->series[SIDE_USER][M_CPU_S] = (struct series){ .v = { 1, NAN, 2 }, .nr = 3 };
}

static size_t result_text(const struct bench_result *r, char *text, size_t size)
{
	FILE *f = fmemopen(text, size, "w");

	report_json(f, r);
	ck_assert_int_eq(fclose(f), 0);
	return strlen(text);
}

START_TEST(what_is_written_is_read_back)
{
	static struct bench_result r;
	static char text[1 << 16];
	struct bench_result *in = NULL;
	const char *why;
	size_t len;
	int nr = 0;

	result_fill(&r);
	r.incomplete[SIDE_USER] = true;
	result_note(&r, "a note");
	len = result_text(&r, text, sizeof(text));
	ck_assert_int_eq(load_results(text, len, &in, &nr, &why), 0);
	ck_assert_int_eq(nr, 1);
	ck_assert_str_eq(in->workload, "clones");
	ck_assert_str_eq(in->machine.cpu, "A \"CPU\" ? ?more?"); /* goes into XML and Markdown */
	ck_assert_str_eq(in->note[0], "a note");
	ck_assert(in->incomplete[SIDE_USER] && !in->incomplete[SIDE_KERNEL]);
	for (int s = 0; s < SIDE_NR; s++)
		for (int m = 0; m < M_NR; m++) {
			ck_assert_int_eq(in->series[s][m].nr, r.series[s][m].nr);
			for (int i = 0; i < r.series[s][m].nr; i++)
				ck_assert(isnan(r.series[s][m].v[i]) ?
						  isnan(in->series[s][m].v[i]) :
						  in->series[s][m].v[i] == r.series[s][m].v[i]);
		}
	free(in);
}
END_TEST

START_TEST(hostile_results)
{
	static struct bench_result r;
	static char whole[1 << 16], text[1 << 16];
	unsigned int seed = (unsigned int)time(NULL) ^ (unsigned int)getpid();
	struct bench_result *in = NULL;
	const char *why;
	size_t len;
	int nr = 0;

	printf("seed %u\n", seed);
	result_fill(&r);
	len = result_text(&r, whole, sizeof(whole)) - 1; /* without the newline */
	ck_assert_uint_gt(len, 100);
	for (size_t cut = 0; cut < len; cut++) { /* no beginning of a document is one */
		memcpy(text, whole, cut);
		text[cut] = 0;
		ck_assert_int_eq(load_results(text, cut, &in, &nr, &why), -EINVAL);
		ck_assert_int_eq(nr, 0);
	}
	for (int i = 0; i < 20000; i++) {
		memcpy(text, whole, len + 1);
		for (int k = 0; k < 1 + i % 4; k++)
			text[(size_t)rand_r(&seed) % len] = (char)rand_r(&seed);
		load_results(text, len, &in, &nr, &why); /* whatever it says, it survives */
		for (int n = 0; n < nr; n++)
			for (int m = 0; m < M_NR; m++)
				ck_assert_int_le(in[n].series[0][m].nr, BENCH_MAX_ROUNDS);
		free(in);
		in = NULL;
		nr = 0;
	}
	memcpy(text, whole, len + 1);
	text[len] = 0;
	text[len + 1] = 'x';
	ck_assert_int_eq(load_results(text, len + 2, &in, &nr, &why), -EINVAL); /* behind a NUL */
	free(in);
}
END_TEST

static const char *const no_results[] = {
	"",
	"{}",
	"[]",
	"{\"benchmark\":\"kernel\"}",
	"{\"benchmark\":\"other\",\"machine\":{},\"sides\":{}}",
	"hello",
	"{\"benchmark\":\"kernel\",\"machine\":{},\"sides\":{}} trailing",
};
enum { NR_NO_RESULTS = sizeof(no_results) / sizeof(no_results[0]) };

START_TEST(report_refuses_what_is_no_result)
{
	put("in.json", no_results[_i]);
	ck_assert_int_eq(RUN("report", in_dir("in.json"), "--svg", in_dir("out.svg")), 1);
	ck_assert_str_eq(get("out"), "");
	ck_assert_ptr_nonnull(strstr(get("err"), "in.json: is "));
	ck_assert(access(in_dir("out.svg"), F_OK) != 0);
}
END_TEST

/* Values no honest run would give. */
START_TEST(report_survives_absurd_values)
{
	put("in.json",
	    "{\"benchmark\":\"kernel\","
	    "\"machine\":{\"cpu\":7,\"cpus\":-1e300,\"memory_mib\":1e300},"
	    "\"workload\":\"a<b>&c|d\",\"size_mib\":-5,\"processes\":1e18,\"rounds\":\"x\","
	    "\"sides\":{\"kernel\":{\"merge_s\":{\"values\":[1e308,1e-308,0,-1]},"
	    "\"cow_ns\":{\"values\":[1e300]},\"saved_net_mib\":7},"
	    "\"ksmd-user\":{\"merge_s\":{\"values\":[1e-308,0,-5]},"
	    "\"cow_ns\":{\"values\":[1e-5]}}}}");
	ck_assert_int_eq(RUN("report", in_dir("in.json"), "--svg", in_dir("out.svg")), 0);
	ck_assert_ptr_nonnull(strstr(get("out"), "a?b??c?d"));
	ck_assert_ptr_null(strstr(get("out.svg"), "nan"));
	ck_assert_ptr_null(strstr(get("out.svg"), "inf"));
}
END_TEST

/* ---- reports ---- */

static void store(const struct bench_result *r, const char *name)
{
	FILE *f = fopen(in_dir(name), "ae");

	report_json(f, r);
	ck_assert_int_eq(fclose(f), 0);
}

static void has_line(const char *text, const char *line)
{
	ck_assert_msg(strstr(text, line) != NULL, "no \"%s\" in\n%s", line, text);
}

static bool xml_is_well_formed(const char *path)
{
	pid_t pid = fork();

	if (!pid) {
		execl("/usr/bin/python3", "python3", "-c",
		      "import sys,xml.dom.minidom as m; m.parse(sys.argv[1])", path, (char *)NULL);
		_exit(127);
	}
	return finish(pid) == 0;
}

START_TEST(report_tells_what_holds)
{
	static struct bench_result r;

	result_fill(&r);
	store(&r, "in.json");
	snprintf(r.workload, sizeof(r.workload), "permuted");
	r.series[SIDE_KERNEL][M_MERGED_PCT] = (struct series){ .v = { 100 }, .nr = 1 };
	r.series[SIDE_USER][M_MERGED_PCT] = (struct series){ .v = { 45 }, .nr = 1 };
	store(&r, "in.json");
	snprintf(r.workload, sizeof(r.workload), "scattered");
	r.incomplete[SIDE_USER] = true;
	r.series[SIDE_USER][M_MERGE_S].nr = 0;
	store(&r, "two.json");
	snprintf(r.workload, sizeof(r.workload), "real");
	snprintf(r.skipped, sizeof(r.skipped), "no programs");
	store(&r, "two.json");
	ck_assert_int_eq(RUN("report", in_dir("in.json"), in_dir("two.json"), "--svg",
			     in_dir("out.svg")),
			 0);
	has_line(get("out"), "| clones | time to the last merge | >= 6x | 7x (6..8) | yes |");
	has_line(get("out"), "| clones | CPU spent until then | >= 5x | 2.67x (2..4) | **no** |");
	has_line(get("out"), "| permuted | time to the last merge | >= 3x | 7x (6..8) | **no**: "
			     "merged only 45 % |");
	has_line(get("out"),
		 "| scattered | time to the last merge | >= 3x | - | **no**: did not end |");
	has_line(get("out"), "| real | all | | skipped: no programs | ? |");
	has_line(get("out"), "### permuted: 2 x 512 MiB, 3 rounds");
	has_line(get("out.svg"), "Time to the last merge");
	ck_assert(xml_is_well_formed(in_dir("out.svg")));
}
END_TEST

START_TEST(report_updates_a_document)
{
	static struct bench_result r;

	result_fill(&r);
	store(&r, "in.json");
	put("doc.md", "before\n<!-- results: begin -->\nyesterday\n<!-- results: end -->\nafter\n");
	ck_assert_int_eq(RUN("report", in_dir("in.json"), "--update", in_dir("doc.md")), 0);
	ck_assert_int_eq(strncmp(get("doc.md"), "before\n<!-- results: begin -->\n\nMeasured", 39),
			 0);
	has_line(get("doc.md"), "| clones |");
	has_line(get("doc.md"), "\n<!-- results: end -->\nafter\n");
	ck_assert_ptr_null(strstr(get("doc.md"), "yesterday"));
	put("doc.md", "no marks\n");
	ck_assert_int_eq(RUN("report", in_dir("in.json"), "--update", in_dir("doc.md")), 1);
	ck_assert_str_eq(get("doc.md"), "no marks\n");
	/* Too large, and a directory: that was not said at all, this was said to have no marks. */
	ck_assert_int_eq(truncate(in_dir("doc.md"), 64 << 20), 0);
	ck_assert_int_eq(RUN("report", in_dir("in.json"), "--update", in_dir("doc.md")), 1);
	has_line(get("err"), "doc.md: is too large\n");
	ck_assert_int_eq(RUN("report", in_dir("in.json"), "--update", in_dir(".")), 1);
	has_line(get("err"), ".: cannot be read\n");
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
	tcase_add_loop_test(tc, next_run_restores_knobs, 0, 2);
	tcase_add_test(tc, restore_without_need);
	tcase_add_loop_test(tc, damaged_file_is_refused, 0, NR_DAMAGED);
	tcase_add_test(tc, others_merged_memory_is_left_alone);
	tcase_add_test(tc, one_at_a_time);
	tcase_add_test(tc, endless_round_is_reported_and_the_others_go_on);
	tcase_add_test(tc, too_large_is_skipped);
	tcase_add_test(tc, missing_programs_are_skipped);
	tcase_add_test(tc, measures_ksmd_user);
	tcase_add_test(tc, measures_the_merge_alone);
/* Nothing is preloaded that a sanitizer's run time would have to be in. */
#ifdef __SANITIZE_ADDRESS__
	(void)measures_real_programs;
#else
	tcase_add_test(tc, measures_real_programs);
#endif
	tcase_add_test(tc, expectations_are_what_counting_gives);
	tcase_add_test(tc, quantiles);
	tcase_add_test(tc, stalls_beyond_control);
	tcase_add_test(tc, summaries_and_gains);
	tcase_add_test(tc, json_reader);
	tcase_add_test(tc, what_is_written_is_read_back);
	tcase_add_test(tc, hostile_results);
	tcase_add_loop_test(tc, report_refuses_what_is_no_result, 0, NR_NO_RESULTS);
	tcase_add_test(tc, report_survives_absurd_values);
	tcase_add_test(tc, report_tells_what_holds);
	tcase_add_test(tc, report_updates_a_document);
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
