/* SPDX-License-Identifier: MIT */
/*
 * test_delay.c - whatever one client sends, holds or leaves behind, the others are served.
 *
 * The daemon promises its other clients an answer within 50 ms, and its end within 1 s. A loaded
 * machine is slow, so the tests allow ten times as much; what they guard against took many
 * seconds. Clients speak the wire protocol themselves.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/fake_client.h"
#include "tests/lib/harness.h"
#include "wire/wire.h"

#define ANSWER_MS 500 /* 50 are promised */
#define END_MS 10000  /* 1,000 are promised */

static const char *const own_domains[] = { "--domain", "process", NULL };

/* How long a round trip takes, in milliseconds. */
static uint64_t round_trip(struct fake *f)
{
	uint64_t begin = harness_now_ms();

	expect_served(f);
	return harness_now_ms() - begin;
}

/* The longest round trip of a bystander during `ms` milliseconds. */
static uint64_t longest_wait(struct fake *f, uint64_t ms)
{
	uint64_t end = harness_now_ms() + ms, longest = 0, took;

	while (harness_now_ms() < end) {
		took = round_trip(f);
		longest = took > longest ? took : longest;
		harness_nap();
	}
	return longest;
}

/* ---- members that leave ---- */

/* A process with `nr` connections, which exist when this returns. */
static pid_t crowd(struct daemon *d, int nr)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		for (int i = 0; i < nr; i++) {
			struct fake f;

			fake_ready(d, &f);
			expect_served(&f);
			close_fds(f.fds);
		}
		raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	return pid;
}

static void end_of(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/*
 * Seen to fail (12.7 s) when the client thread frees domains itself, with an
 * rcu_barrier() for each.
 */
START_TEST(many_domains_end_at_once)
{
	struct daemon *d = daemon_start(own_domains);
	struct fake bystander;

	fake_ready(d, &bystander);
	end_of(crowd(d, 700));
	ck_assert_uint_lt(longest_wait(&bystander, 1500), ANSWER_MS);
	fake_close(&bystander);
	wait_until(ctl_get_u64(d, "ksm/clients") == 0, WAIT_MS, "all have left");
	daemon_stop(d);
}
END_TEST

/* Seen to fail (20 s) when domain_table_deinit() waits for each domain by itself. */
START_TEST(ends_soon_with_many_clients)
{
	struct daemon *d = daemon_start(own_domains);
	pid_t pid = crowd(d, 700);
	uint64_t begin = harness_now_ms();

	daemon_stop(d);
	ck_assert_uint_lt(harness_now_ms() - begin, END_MS);
	end_of(pid);
}
END_TEST

static Suite *delay_suite(void)
{
	Suite *s = suite_create("delay");
	TCase *tc = tcase_create("delay");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, many_domains_end_at_once);
	tcase_add_test(tc, ends_soon_with_many_clients);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(delay_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
