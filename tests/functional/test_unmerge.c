/* SPDX-License-Identifier: MIT */
/*
 * test_unmerge.c - `run` set to 2 among clients that are stopped or refuse.
 *
 * Two clients share pages, and behave. A third is stopped, or a fourth (that speaks the protocol
 * itself) refuses. Whatever these do, the first two get private memory back, and the operator is
 * told whom it could not reach.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/fake_client.h"
#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"

enum { NR = 200 };

#define ANSWER_MS 10000 /* a promise of unmerge.c */

struct world {
	struct daemon *d;
	struct puppet *p[3]; /* the last is stopped */
	long mem[3];
};

static int nr_on_frames(const struct world *w, int i)
{
	return pages_on_frames(w->p[i]->pid, w->mem[i], NR);
}

/* Three clients share NR pages. */
static void begin(struct world *w)
{
	w->d = daemon_start(NULL);
	ck_assert_int_eq(ctl_set(w->d, "ksm/sleep_millisecs", "2"), 0);
	for (int i = 0; i < 3; i++) {
		w->p[i] = puppet_new();
		w->mem[i] = puppet_call(w->p[i], fn_offer, NR, 1, 1);
		ck_assert_int_gt(w->mem[i], 0);
	}
	wait_until(ctl_get_u64(w->d, "ksm/pages_sharing") == 2 * NR, WAIT_MS, "merged");
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(puppet_pages_on_frames(w->p[i], w->mem[i], NR), NR);
	ck_assert_int_eq(kill(w->p[2]->pid, SIGSTOP), 0);
}

static void end(struct world *w)
{
	for (int i = 0; i < 3; i++)
		puppet_end(w->p[i]);
	daemon_stop(w->d);
}

/* Ask on a connection of its own, without waiting for the answer. */
static int ask(const struct world *w, const char *line)
{
	int fd = harness_connect(w->d->dir, KSM_CONTROL_SOCKET, SOCK_STREAM);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(send(fd, line, strlen(line), MSG_NOSIGNAL), (ssize_t)strlen(line));
	return fd;
}

static void expect_answer(int fd, const char *want)
{
	char buf[1024];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	ck_assert_int_gt(n, 0);
	buf[n] = '\0';
	ck_assert_str_eq(buf, want);
	close(fd);
}

/* Seen to fail (30 s, and no name) when the job waited as long as it used to. */
START_TEST(stopped_client_is_named_and_unmerges_later)
{
	struct world w;
	char want[256];
	uint64_t at;
	int fd;

	begin(&w);
	at = harness_now_ms();
	fd = ask(&w, "set ksm/run 2\n");
	wait_until(nr_on_frames(&w, 0) + nr_on_frames(&w, 1) == 0, 2000, "the others unmerge");
	snprintf(want, sizeof(want),
		 "error ETIMEDOUT client %d did not answer, and will unmerge on going on\n",
		 (int)w.p[2]->pid);
	expect_answer(fd, want);
	ck_assert_uint_lt(harness_now_ms() - at, ANSWER_MS);
	ck_assert_uint_eq(ctl_get_u64(w.d, "ksm/run"), 2);
	ck_assert_int_eq(nr_on_frames(&w, 2), NR);
	ck_assert_int_eq(kill(w.p[2]->pid, SIGCONT), 0);
	wait_until(nr_on_frames(&w, 2) == 0, WAIT_MS, "it unmerges when it goes on");
	wait_until(ctl_get_u64(w.d, "ksm/pages_shared") == 0, WAIT_MS, "the daemon knows");
	/* The next store of 2 finds nothing left to do. */
	ck_assert_int_eq(ctl_set(w.d, "ksm/run", "2"), 0);
	end(&w);
}
END_TEST

static void answer_unmerge(struct fake *f, int error)
{
	struct ksm_msg_unmerge done = { .error = error };
	union ksm_msg msg;

	do
		ck_assert_int_gt(recv_msg(f->sock, &msg, NULL), 0);
	while (msg.hdr.type != KSM_MSG_UNMERGE);
	done.id = msg.unmerge.id;
	send_msg(f->sock, &done, KSM_MSG_UNMERGE_DONE);
}

/* Seen to fail (the stopped client is not named) when a refusal ends the job. */
START_TEST(refusal_stops_nobody)
{
	struct world w;
	struct fake f;
	char want[256];
	int fd;

	begin(&w);
	fake_ready(w.d, &f);
	expect_served(&f);
	fd = ask(&w, "set ksm/run 2\n");
	answer_unmerge(&f, ENOSPC);
	wait_until(nr_on_frames(&w, 0) + nr_on_frames(&w, 1) == 0, 2000, "the others unmerge");
	snprintf(want, sizeof(want),
		 "error ENOSPC client %d cannot unmerge, and can be asked again; "
		 "client %d did not answer, and will unmerge on going on\n",
		 (int)getpid(), (int)w.p[2]->pid);
	expect_answer(fd, want);
	ck_assert_uint_eq(ctl_get_u64(w.d, "ksm/run"), 2);
	ck_assert_int_eq(kill(w.p[2]->pid, SIGCONT), 0);
	/* Asked again, it does its part. */
	fd = ask(&w, "set ksm/run 2\n");
	answer_unmerge(&f, 0);
	expect_answer(fd, "ok 0\n");
	fake_close(&f);
	end(&w);
}
END_TEST

/* The frame of a merged page. */
static uint32_t frame_of(pid_t pid, long addr)
{
	struct mapping m;

	ck_assert(mapping_of_frame(pid, (unsigned long)addr, &m));
	return (uint32_t)((m.offset + ((unsigned long)addr - m.start)) / PUPPET_PAGE);
}

/* Say that a page, at an address that nobody uses, stands on this frame. */
static void adopt(struct fake *f, uint32_t frame)
{
	const uint64_t addr = 1ull << 40;
	struct ksm_msg_adopt a = { .addr = addr, .nr_pages = 1, .frame = frame };

	send_range(f, KSM_MSG_ADD, addr, addr + PUPPET_PAGE);
	a.seq = ++f->seq;
	send_msg(f->sock, &a, KSM_MSG_ADOPT);
}

/*
 * A client that comes with frames while the others unmerge, as a forked child does, is waited for,
 * too. Seen to fail ("ok 0" while pages are shared) without await_newcomers() (unmerge.c).
 */
START_TEST(newcomer_is_waited_for)
{
	struct world w;
	struct fake f;
	char buf[64];
	int fd;

	begin(&w);
	fd = ask(&w, "set ksm/run 2\n");
	wait_until(nr_on_frames(&w, 0) + nr_on_frames(&w, 1) == 0, 2000, "the others unmerge");
	fake_ready(w.d, &f);
	adopt(&f, frame_of(w.p[2]->pid, w.mem[2]));
	wait_until(ctl_client_u64(w.d, getpid(), "ksm_merging_pages") > 0, WAIT_MS, "adopted");
	ck_assert_int_eq(kill(w.p[2]->pid, SIGCONT), 0);
	wait_until(nr_on_frames(&w, 2) == 0, WAIT_MS, "it unmerges when it goes on");
	wait_until(ctl_client_u64(w.d, w.p[2]->pid, "ksm_merging_pages") == 0, WAIT_MS, "known");
	ck_assert_uint_gt(ctl_get_u64(w.d, "ksm/pages_shared"), 0);
	ck_assert_int_eq(recv(fd, buf, sizeof(buf), MSG_DONTWAIT), -1);
	answer_unmerge(&f, 0);
	expect_answer(fd, "ok 0\n");
	ck_assert_uint_eq(ctl_get_u64(w.d, "ksm/pages_shared"), 0);
	fake_close(&f);
	end(&w);
}
END_TEST

/* Seen to fail (8 s pass) when a store that waits is no reason to hurry. */
START_TEST(merging_goes_on_without_a_stopped_client)
{
	struct world w;
	uint64_t at;
	int fd;

	begin(&w);
	fd = ask(&w, "set ksm/run 2\n");
	wait_until(nr_on_frames(&w, 0) + nr_on_frames(&w, 1) == 0, 2000, "the others unmerge");
	at = harness_now_ms();
	ck_assert_int_eq(ctl_set(w.d, "ksm/run", "1"), 0);
	ck_assert_uint_lt(harness_now_ms() - at, 3000);
	close(fd);
	wait_until(puppet_pages_on_frames(w.p[0], w.mem[0], NR) == NR, WAIT_MS, "merged again");
	/* It answers UNMERGE first, and is merged like everybody then. */
	ck_assert_int_eq(kill(w.p[2]->pid, SIGCONT), 0);
	wait_until(ctl_get_u64(w.d, "ksm/pages_sharing") == 2 * NR, WAIT_MS, "all are merged");
	end(&w);
}
END_TEST

/* A store of 2, or of what cannot be, is no reason. Seen to fail (1 s) when every store is. */
START_TEST(bad_store_cuts_no_wait_short)
{
	struct world w;
	uint64_t at;
	int fd;

	begin(&w);
	at = harness_now_ms();
	fd = ask(&w, "set ksm/run 2\n");
	close(ask(&w, "set ksm/run 3\n"));
	close(ask(&w, "set ksm/run 2\n"));
	while (recv(fd, &(char){ 0 }, 1, 0) != 1)
		;
	ck_assert_uint_gt(harness_now_ms() - at, 4000);
	close(fd);
	ck_assert_int_eq(kill(w.p[2]->pid, SIGCONT), 0);
	end(&w);
}
END_TEST

static Suite *unmerge_suite(void)
{
	Suite *s = suite_create("unmerge");
	TCase *tc = tcase_create("unmerge");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, stopped_client_is_named_and_unmerges_later);
	tcase_add_test(tc, refusal_stops_nobody);
	tcase_add_test(tc, newcomer_is_waited_for);
	tcase_add_test(tc, merging_goes_on_without_a_stopped_client);
	tcase_add_test(tc, bad_store_cuts_no_wait_short);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(unmerge_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
