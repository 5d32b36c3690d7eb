/* SPDX-License-Identifier: MIT */
/*
 * test_stop.c - the daemon ends when it is told to, whatever holds up its threads, and whatever
 * clients and jobs are at. Clients keep what they have.
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

#include "tests/lib/harness.h"
#include "tests/lib/load.h"
#include "tests/lib/puppet.h"
#include "tests/lib/trace.h"

/* --- a thread that is held up --- */

/* Another process halts the thread until that is no more. Its pid. */
static pid_t hold(pid_t daemon, const char *name)
{
	int ready[2];
	char c;
	pid_t pid;

	ck_assert_int_eq(pipe(ready), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		struct trace t;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		trace_begin(&t, trace_find_thread(daemon, name));
		if (write(ready[1], "", 1) != 1)
			_exit(1);
		while (waitpid(t.tid, &t.status, __WALL) == t.tid && WIFSTOPPED(t.status))
			;
		_exit(0);
	}
	close(ready[1]);
	ck_assert_int_eq(read(ready[0], &c, 1), 1);
	close(ready[0]);
	return pid;
}

/*
 * A thread of the daemon is not let go on: each of those that the end waits for. The daemon ends
 * all the same, its sockets are gone, the next one serves there, and the client has its memory.
 */
START_TEST(held_thread)
{
	static const char *const names[] = { "ksmd-client", "ksmd-move", "ksmd-bury", "ksmd-scan" };
	static const char *const args[] = { "--topology", "emulated:2", NULL };
	enum { PAGES = 64 };
	char dir[] = "/tmp/ksmd-test.XXXXXX", path[64];
	struct puppet *p[2];
	struct daemon *d;
	pid_t holder;
	long a[2];
	int status;

	if (!trace_possible())
		return;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	d = daemon_start_in(dir, args);
	daemon_hasten(d);
	for (int i = 0; i < 2; i++) {
		p[i] = puppet_new();
		a[i] = puppet_call(p[i], fn_offer, PAGES, 1, 1);
	}
	wait_counter(d, "pages_sharing", PAGES);
	holder = hold(d->pid, names[_i]);
	daemon_stop(d);
	ck_assert_int_eq(waitpid(holder, &status, 0), holder);
	ck_assert_int_eq(status, 0);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, i ? "client.sock" : "control.sock");
		ck_assert_int_eq(access(path, F_OK), -1);
		ck_assert_int_eq(puppet_call(p[i], fn_check, a[i], PAGES, 1, 1), 0);
	}
	d = daemon_start_in(dir, args);
	wait_counter(d, "clients", 2);
	for (int i = 0; i < 2; i++)
		puppet_end(p[i]);
	daemon_stop(d);
	snprintf(path, sizeof(path), "%s/lock", dir);
	unlink(path);
	rmdir(dir);
}
END_TEST

/* --- much to forget --- */

/*
 * A client with thousands of regions goes, right before the end. A daemon with the thread sanitizer
 * looked for races at each region that was freed, and went on for more than 60 s in four of five
 * runs when tests/lib/tsan_volatile.c did not keep it from that.
 */
START_TEST(many_regions)
{
	enum { REGIONS = 6000 };
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new();
	long a = puppet_call(p, fn_map, 2 * REGIONS, 0, 0);

	daemon_hasten(d);
	for (int i = 0; i < REGIONS; i++)
		ck_assert_int_eq(puppet_call(p, fn_madvise, a + 2 * i * (long)PUPPET_PAGE,
					     PUPPET_PAGE, MADV_MERGEABLE),
				 0);
	puppet_end(p);
	wait_counter(d, "clients", 0);
	daemon_stop(d);
}
END_TEST

/* --- whatever is under way --- */

struct scene {
	uint64_t rng;
	int nr, pages;
	struct puppet *p[5];
	long a[5];
	bool writes;
	int *over;
};

static uint64_t below(struct scene *s, uint64_t n)
{
	s->rng = s->rng * 6364136223846793005ull + 1442695040888963407ull;
	return (s->rng >> 33) % n;
}

/* Begin a job, or two; a refusal is as good. */
static void begin(struct scene *s, struct daemon *d)
{
	static const struct {
		const char *path, *value;
	} jobs[] = {
		{ "node/0/migrate_to", "1" },
		{ "node/0/offline", "all" },
		{ "node/0/drain", "1" },
		{ "ksm/compact_memory", "1" },
		{ "domain/1/zone/0/alloc_contig", "700" },
		{ "domain/1/zone/0/alloc_contig_range", "0 900" },
		{ "ksm/merge_policy", "replicate" },
		{ "ksm/run", "0" },
	};

	for (uint64_t n = 1 + below(s, 2); n; n--) {
		uint64_t i = below(s, sizeof(jobs) / sizeof(jobs[0]));

		ctl_set(d, jobs[i].path, jobs[i].value);
	}
}

static void set_up(struct scene *s, struct daemon *d, bool together)
{
	s->nr = (int)below(s, 6);
	s->pages = 64 << below(s, 6);
	s->writes = below(s, 2);
	for (int i = 0; i < s->nr; i++) {
		s->p[i] = puppet_new();
		s->a[i] = puppet_call(s->p[i], fn_offer, s->pages, 1, 1);
	}
	if (together && s->nr > 1 && below(s, 2))
		wait_until(ctl_get_u64(d, "ksm/pages_sharing"), WAIT_MS, "some have merged");
	*s->over = 0;
	for (int i = 0; s->writes && i < s->nr; i++)
		puppet_post(s->p[i], fn_write_and_check, s->a[i], 100 * WAIT_MS,
			    s->rng + (uint64_t)i, s->pages, 16, s->over);
	for (int i = 0; i < s->nr; i++)
		if (!below(s, 3))
			kill(s->p[i]->pid, SIGSTOP);
}

/* Some go before the end, some are killed right before it. */
static void lose_some(struct scene *s)
{
	int left = 0;

	for (int i = 0; i < s->nr; i++) {
		if (below(s, 4)) {
			s->p[left] = s->p[i];
			s->a[left++] = s->a[i];
		} else {
			kill(s->p[i]->pid, SIGCONT);
			puppet_kill(s->p[i]);
		}
	}
	s->nr = left;
}

static void check_all(struct scene *s)
{
	*s->over = 1;
	for (int i = 0; i < s->nr; i++) {
		kill(s->p[i]->pid, SIGCONT);
		if (s->writes)
			ck_assert_int_eq(puppet_result(s->p[i]), 0);
		ck_assert_int_eq(puppet_call(s->p[i], fn_check, s->a[i], s->pages, 1, 1), 0);
		puppet_end(s->p[i]);
	}
}

/* With clients that write, are stopped, have just died, or none; with jobs of all kinds. */
START_TEST(whatever_is_under_way)
{
	static const char *const domains[] = { "uid", "shared", "process" };
	static const char *const topologies[] = { "emulated:1", "emulated:2", "emulated:2,moves",
						  "emulated:4" };
	struct scene s = { .rng = harness_now_ms() };

	s.over = mmap(NULL, sizeof(*s.over), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
		      0);
	ck_assert_ptr_ne(s.over, MAP_FAILED);
	printf("seed %llu\n", (unsigned long long)s.rng);
	for (int n = 0; n < 20; n++) {
		const char *domain = domains[below(&s, 3)];
		struct daemon *d = daemon_start((const char *const[]){
			"--log-level", "warning", "--domain", domain, "--topology",
			topologies[below(&s, 4)], "--contig-reserve", "16", NULL });

		daemon_hasten(d);
		set_up(&s, d, strcmp(domain, "process") != 0);
		begin(&s, d);
		lose_some(&s);
		daemon_stop(d);
		check_all(&s);
	}
	munmap(s.over, sizeof(*s.over));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("stop");
	TCase *t = tcase_create("stop");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 600);
	suite_add_tcase(s, t);
	/* A daemon with a sanitizer is given much longer. */
	if (!getenv("KSM_DAEMON"))
		tcase_add_loop_test(t, held_thread, 0, 4);
	tcase_add_test(t, many_regions);
	tcase_add_test(t, whatever_is_under_way);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
