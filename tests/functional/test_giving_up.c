/* SPDX-License-Identifier: MIT */
/*
 * test_giving_up.c - a client whose memory limit lies below what it would need without frames. What
 * was shared becomes its own again only as far as the limit leaves room.
 */
#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/memgroup.h"
#include "tests/lib/puppet.h"

#define MIB (1ul << 20)
enum { PAGES = 8192, LIMIT_MIB = 20 }; /* 32 MiB of pages */

/* A pair that shares PAGES pages. The first has a limit below them. */
struct pair {
	struct daemon *d;
	struct puppet *p, *q;
	long at, other;
	struct memgroup group;
};

static bool pair_make(struct pair *t)
{
	if (!memgroup_make(&t->group))
		return false;
	t->d = daemon_start(NULL);
	daemon_hasten(t->d);
	t->p = puppet_new();
	t->q = puppet_new();
	t->at = puppet_call(t->p, fn_offer, PAGES, 1, 1);
	t->other = puppet_call(t->q, fn_offer, PAGES, 1, 1);
	ck_assert_int_gt(t->at, 0);
	wait_counter(t->d, "pages_sharing", PAGES);
	memgroup_enter(&t->group, t->p->pid);
	memgroup_limit(&t->group, LIMIT_MIB * MIB);
	return true;
}

/* It lives, nothing is lost, some of it stands on frames still, and the limit was not met. */
static void check_limited(const struct pair *t)
{
	ck_assert_int_eq(kill(t->p->pid, 0), 0);
	ck_assert_uint_lt(memgroup_usage(&t->group), LIMIT_MIB * MIB);
	ck_assert_int_gt(pages_on_frames(t->p->pid, t->at, PAGES), 0);
	ck_assert_int_lt(pages_on_frames(t->p->pid, t->at, PAGES), PAGES);
	ck_assert_int_eq(puppet_call(t->p, fn_check, t->at, PAGES, 1, 1), 0);
	wait_until(ctl_get_u64(t->d, "ksm/clients_short_of_memory") == 1, WAIT_MS, "it says so");
}

static void pair_end(struct pair *t)
{
	ck_assert_int_eq(pages_on_frames(t->p->pid, t->at, PAGES), 0);
	ck_assert_int_eq(puppet_call(t->p, fn_check, t->at, PAGES, 1, 1), 0);
	wait_until(!ctl_get_u64(t->d, "ksm/clients_short_of_memory"), WAIT_MS, "it has room");
	puppet_end(t->p);
	memgroup_remove(&t->group);
	daemon_stop(t->d);
}

/*
 * The daemon is replaced, and the client's partner has gone, so what stands on the frames of the
 * daemon before saves nothing and is given up. Seen to fail without headroom.c: the client was
 * killed for its memory some seconds after the restart.
 */
START_TEST(old_frames_stay_at_the_limit)
{
	struct pair t;

	if (!pair_make(&t))
		return;
	puppet_end(t.q);
	daemon_kill(t.d);
	daemon_restart(t.d, NULL);
	daemon_hasten(t.d);
	wait_until(ctl_client_u64(t.d, t.p->pid, "short_of_memory") == 1, WAIT_MS, "it stops");
	check_limited(&t);
	ck_assert_uint_eq(ctl_client_u64(t.d, t.p->pid, "left_out/kept"),
			  pages_on_frames(t.p->pid, t.at, PAGES));
	/* With room for the rest it goes on by itself. */
	memgroup_limit(&t.group, 0);
	wait_until(!pages_on_frames(t.p->pid, t.at, PAGES), WAIT_MS, "it goes on");
	pair_end(&t);
}
END_TEST

/*
 * `run` 2 says that this client could not be unmerged, and which frames are left. Seen to fail
 * without headroom.c: the client was killed; and without what it says after its refusal: as many
 * merging pages were counted as before.
 */
START_TEST(run_2_stops_at_the_limit)
{
	struct pair t;

	if (!pair_make(&t))
		return;
	ck_assert_int_eq(ctl_set_u64(t.d, "ksm/run", 2), -ENOMEM);
	ck_assert_int_eq(pages_on_frames(t.q->pid, t.other, PAGES), 0);
	check_limited(&t);
	wait_until(ctl_client_u64(t.d, t.p->pid, "ksm_merging_pages") ==
			   (uint64_t)pages_on_frames(t.p->pid, t.at, PAGES),
		   WAIT_MS, "what is left is counted");
	memgroup_limit(&t.group, 0);
	ck_assert_int_eq(ctl_set_u64(t.d, "ksm/run", 2), 0);
	wait_counter(t.d, "frames_used", 0);
	puppet_end(t.q);
	pair_end(&t);
}
END_TEST

/* What the program itself asks for is done, whatever the limit: as the kernel's KSM does it. */
START_TEST(a_wish_of_the_program_is_carried_out)
{
	struct pair t;

	if (!pair_make(&t))
		return;
	memgroup_limit(&t.group, 2 * PAGES * PUPPET_PAGE);
	ck_assert_int_eq(puppet_call(t.p, fn_madvise, t.at, PAGES * PUPPET_PAGE, MADV_UNMERGEABLE),
			 0);
	puppet_end(t.q);
	pair_end(&t);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("giving_up");
	TCase *t = tcase_create("giving_up");
	SRunner *sr;
	int failed;

	tcase_set_timeout(t, 250);
	suite_add_tcase(s, t);
	tcase_add_test(t, old_frames_stay_at_the_limit);
	tcase_add_test(t, run_2_stops_at_the_limit);
	tcase_add_test(t, a_wish_of_the_program_is_carried_out);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
