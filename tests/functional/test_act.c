/* SPDX-License-Identifier: MIT */
/*
 * test_act.c - what a client's user and operators can ask of one client, or have it do.
 *
 * What `why` says of a client is compared with its pagemap and with what the test wrote there.
 */
#include <check.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"
#include "tests/lib/user.h"

enum { NR = 200, UNIQUE = 50 };

#define VICTIM 47002u
#define STRANGER 47001u
#define ANSWER (1 << 16)

static const char *const why_names[WHY_NR] = ENGINE_WHY_NAMES;

/* Two clients share NR pages. */
struct world {
	struct daemon *d;
	struct puppet *p, *q;
	long mem, other;
};

static void begin_as(struct world *w, uid_t uid)
{
	const char *const args[] = { "--allow-group", "47002", NULL };

	w->d = daemon_start(args);
	daemon_hasten(w->d);
	w->p = uid ? puppet_new_uid(uid) : puppet_new();
	w->q = uid ? puppet_new_uid(uid) : puppet_new();
	w->mem = puppet_call(w->p, fn_offer, NR, 1, 1);
	w->other = puppet_call(w->q, fn_offer, NR, 1, 1);
	ck_assert_int_gt(w->mem, 0);
	ck_assert_int_gt(w->other, 0);
	wait_until(ctl_get_u64(w->d, "ksm/pages_sharing") == NR, WAIT_MS, "merged");
}

static void begin(struct world *w)
{
	begin_as(w, 0);
}

static void end(struct world *w)
{
	puppet_end(w->p);
	puppet_end(w->q);
	daemon_stop(w->d);
}

/* Ask for an action of client `pid`, as `ctl_do` answers. */
static int act(struct daemon *d, pid_t pid, const char *what, char *buf)
{
	char line[256];

	snprintf(line, sizeof(line), "client/%d/%s", (int)pid, what);
	return ctl_do(d, line, buf, ANSWER);
}

/* ---- why ---- */

struct why {
	int answers, ranges;
	uint64_t pages[WHY_NR];
};

static void take_pages(struct why *w, char *line)
{
	char *save = NULL, *name;

	w->ranges++;
	strtok_r(line, " ", &save);
	while ((name = strtok_r(NULL, " ", &save))) {
		int i = 0;

		while (i < WHY_NR && strcmp(why_names[i], name))
			i++;
		if (i == WHY_NR)
			harness_die("no such kind: %s", name);
		w->pages[i] += strtoull(strtok_r(NULL, " ", &save), NULL, 10);
	}
}

/* All parts of the answer, added up. */
static struct why why(struct daemon *d, pid_t pid)
{
	struct why w = { 0 };
	char buf[ANSWER], what[64], *save = NULL;
	uint64_t from = 0;
	bool more = true;

	while (more) {
		snprintf(what, sizeof(what), "why 0x%" PRIx64, from);
		ck_assert_int_ge(act(d, pid, what, buf), 0);
		w.answers++;
		more = false;
		for (char *l = strtok_r(buf, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
			if (!strncmp(l, "next ", 5)) {
				ck_assert_uint_gt(strtoull(l + 5, NULL, 16), from);
				from = strtoull(l + 5, NULL, 16);
				more = true;
			} else {
				take_pages(&w, l);
			}
	}
	return w;
}

/* Seen to fail when states are taken for others. */
START_TEST(why_tells_what_became_of_each_page)
{
	struct world w;
	struct why y;
	long unique, zeros, broken = 7;

	begin(&w);
	unique = puppet_call(w.p, fn_offer, UNIQUE, 5000, 1);
	zeros = puppet_call(w.p, fn_offer, UNIQUE, 0, 0);
	ck_assert_int_gt(unique, 0);
	ck_assert_int_gt(zeros, 0);
	ck_assert_int_eq(ctl_set(w.d, "ksm/use_zero_pages", "1"), 0);
	wait_until(ctl_client_u64(w.d, w.p->pid, "ksm_zero_pages") == UNIQUE, WAIT_MS, "zeros");
	wait_until(why(w.d, w.p->pid).pages[WHY_UNIQUE] == UNIQUE, WAIT_MS, "unique");
	y = why(w.d, w.p->pid);
	ck_assert_uint_eq(y.pages[WHY_ZERO], UNIQUE);
	ck_assert_int_eq(puppet_pages_on_frames(w.p, w.mem, NR), (int)y.pages[WHY_MERGED]);
	ck_assert_uint_eq(y.pages[WHY_MERGED], NR);
	/* The other writes one: ours is alone on its frame then. */
	puppet_call(w.q, fn_fill, w.other, broken, 9000, 1);
	wait_until(why(w.d, w.p->pid).pages[WHY_ALONE] == (uint64_t)broken, WAIT_MS, "alone");
	ck_assert_uint_eq(why(w.d, w.p->pid).pages[WHY_MERGED], NR - (uint64_t)broken);
	end(&w);
}
END_TEST

/* A table of a thousand regions comes in parts, and nothing is counted twice. */
START_TEST(why_comes_in_parts)
{
	enum { REGIONS = 300 };
	struct world w;
	struct why y;
	long mem;

	begin(&w);
	mem = puppet_call(w.p, fn_offer, 2 * REGIONS, 20000, 1);
	ck_assert_int_gt(mem, 0);
	for (int i = 0; i < REGIONS; i++)
		ck_assert_int_eq(puppet_call(w.p, fn_madvise, mem + (2 * i + 1) * 4096L, 4096L,
					     MADV_UNMERGEABLE),
				 0);
	wait_until(why(w.d, w.p->pid).pages[WHY_UNIQUE] == REGIONS, WAIT_MS, "unique");
	y = why(w.d, w.p->pid);
	ck_assert_int_ge(y.ranges, REGIONS);
	ck_assert_int_ge(y.answers, REGIONS / 64);
	ck_assert_uint_eq(y.pages[WHY_MERGED], NR);
	end(&w);
}
END_TEST

static void ask_as_stranger(struct daemon *d)
{
	char buf[ANSWER];
	pid_t pid = (pid_t)atoi(getenv("VICTIM_PID"));

	ck_assert_int_eq(act(d, pid, "why", buf), -ENOENT);
	ck_assert_int_eq(act(d, pid, "nothing", buf), -ENOENT);
	ck_assert_int_eq(act(d, 1, "why", buf), -ENOENT);
}

static void ask_as_owner(struct daemon *d)
{
	struct why y = why(d, (pid_t)atoi(getenv("VICTIM_PID")));

	ck_assert_uint_eq(y.pages[WHY_FEW_SHARERS], 0);
	ck_assert_uint_eq(y.pages[WHY_UNIQUE], UNIQUE);
	ck_assert_uint_eq(y.pages[WHY_MERGED], NR);
}

/*
 * Its own user is not told that contents are equal to another program's as long as min_sharers
 * hides that. Seen to fail without fold().
 */
START_TEST(why_keeps_secrets)
{
	struct user owner = { VICTIM, VICTIM, 0, 0 }, stranger = { STRANGER, STRANGER, 0, 0 };
	char pid[16], buf[ANSWER];
	struct world w;

	if (not_root())
		return;
	begin_as(&w, VICTIM);
	ck_assert_int_eq(ctl_set(w.d, "ksm/min_sharers", "3"), 0);
	ck_assert_int_gt(puppet_call(w.p, fn_offer, UNIQUE, 7000, 1), 0);
	ck_assert_int_gt(puppet_call(w.q, fn_offer, UNIQUE, 7000, 1), 0);
	wait_until(why(w.d, w.p->pid).pages[WHY_FEW_SHARERS] == UNIQUE, WAIT_MS, "they wait");
	snprintf(pid, sizeof(pid), "%d", (int)w.p->pid);
	setenv("VICTIM_PID", pid, 1);
	as_user(&owner, ask_as_owner, w.d);
	as_user(&stranger, ask_as_stranger, w.d);
	ck_assert_int_eq(act(w.d, w.p->pid, "why what", buf), -EINVAL);
	ck_assert_int_eq(act(w.d, w.p->pid, "why -1", buf), -EINVAL);
	ck_assert_int_eq(act(w.d, w.p->pid, "why 1 2", buf), -EINVAL);
	ck_assert_int_eq(act(w.d, w.p->pid, "nothing", buf), -ENOENT);
	ck_assert_int_eq(act(w.d, getpid(), "why", buf), -ENOENT);
	ck_assert_int_eq(ctl_do(w.d, "ksm/why", buf, sizeof(buf)), -ENOENT);
	ck_assert_int_eq(ctl_do(w.d, "client/why", buf, sizeof(buf)), -ENOENT);
	ck_assert_int_eq(ctl_do(w.d, "", buf, sizeof(buf)), -ENOENT);
	/* Past the end there is nothing, and that is no error. */
	ck_assert_int_eq(act(w.d, w.p->pid, "why 0xffffffffffffffff", buf), 0);
	end(&w);
}
END_TEST

/* ---- ksmdctl ---- */

static int ctl(const char *args)
{
	char line[512];

	snprintf(line, sizeof(line), "%s %s >/dev/null 2>&1", build_path("ksmdctl"), args);
	return WEXITSTATUS(system(line));
}

/* Seen to fail when a reason has no entry in kinds.c. */
START_TEST(each_reason_is_explained)
{
	static const char *const left[KSM_LEFT_NR] = KSM_LEFT_NAMES;
	char line[64];

	for (int i = 0; i < WHY_NR + KSM_LEFT_NR; i++) {
		snprintf(line, sizeof(line), "help %s",
			 i < WHY_NR ? why_names[i] : left[i - WHY_NR]);
		ck_assert_msg(!ctl(line), "%s", line);
	}
	ck_assert_int_eq(ctl("help"), 0);
	ck_assert_int_eq(ctl("help nonsense"), 2);
}
END_TEST

START_TEST(why_for_people)
{
	struct world w;
	char line[64];

	begin(&w);
	snprintf(line, sizeof(line), "why %d", (int)w.p->pid);
	ck_assert_int_eq(ctl(line), 0);
	snprintf(line, sizeof(line), "why %d --all --json", (int)w.p->pid);
	ck_assert_int_eq(ctl(line), 0);
	snprintf(line, sizeof(line), "why %d", (int)getpid());
	ck_assert_int_eq(ctl(line), 1);
	ck_assert_int_eq(ctl("why 0"), 1);
	ck_assert_int_eq(ctl("why 99999999999999999999"), 2);
	ck_assert_int_eq(ctl("why -- -1"), 2);
	ck_assert_int_eq(ctl("why x"), 2);
	ck_assert_int_eq(ctl("why"), 2);
	end(&w);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("actions");
	TCase *tc = tcase_create("why");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, why_tells_what_became_of_each_page);
	tcase_add_test(tc, why_comes_in_parts);
	tcase_add_test(tc, why_keeps_secrets);
	tcase_add_test(tc, each_reason_is_explained);
	tcase_add_test(tc, why_for_people);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
