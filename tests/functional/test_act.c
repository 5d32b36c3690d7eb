/* SPDX-License-Identifier: MIT */
/*
 * test_act.c - what a client's user and operators can ask of one client, or have it do.
 *
 * What `why` says of a client is compared with its pagemap and with what the test wrote there.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/engine.h"
#include "ksm.h"
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
	ck_assert_int_eq(ctl_set(w.d, "ksm/use_zero_pages", "1"), 0);
	unique = puppet_call(w.p, fn_offer, UNIQUE, 5000, 1);
	zeros = puppet_call(w.p, fn_offer, UNIQUE, 0, 0);
	ck_assert_int_gt(unique, 0);
	ck_assert_int_gt(zeros, 0);
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

/* The same with the process ID behind it. */
static int ctl_of(const char *args, pid_t pid)
{
	char line[128];

	snprintf(line, sizeof(line), "%s %d", args, (int)pid);
	return ctl(line);
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

/* ---- release and join ---- */

static bool is_client(struct daemon *d, pid_t pid)
{
	char path[64], buf[64];

	snprintf(path, sizeof(path), "client/%d/uid", (int)pid);
	return ctl_get(d, path, buf, sizeof(buf)) >= 0;
}

/* The number that a command prints, which is given the process ID. */
static int count_lines(const char *how, pid_t pid)
{
	char line[256], buf[16] = "";
	FILE *f;

	snprintf(line, sizeof(line), how, (int)pid);
	f = popen(line, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(buf, sizeof(buf), f));
	pclose(f);
	return atoi(buf);
}

/* Nothing that a program without us has not. */
static void check_clean(pid_t pid)
{
	ck_assert_int_eq(count_lines("grep -cE 'ksm-(arena|sentinel)' /proc/%d/maps", pid), 0);
	ck_assert_int_eq(count_lines("grep -cE '^VmFlags.* u[wm]' /proc/%d/smaps", pid), 0);
	ck_assert_int_eq(count_lines("find /proc/%d/task/*/fd -lname '*userfaultfd*' | wc -l", pid),
			 0);
	ck_assert_int_eq(count_lines("find $(grep -lx ksm-agent /proc/%d/task/*/comm | "
				     "sed s/comm$/fd/) -mindepth 1 | wc -l",
				     pid),
			 0);
}

static long fn_refused(const long a[6])
{
	struct ksm_stat st = { .size = sizeof(st) };

	(void)a;
	return ksm_stat(&st) ? -errno : (long)st.refused;
}

/* No sentinel, and no page in a mapping of frames: those that were written leave it, too. */
START_TEST(release_leaves_nothing)
{
	struct world w;
	struct puppet *child;

	begin(&w);
	ck_assert_int_eq(puppet_pages_on_frames(w.p, w.mem, NR), NR);
	puppet_call(w.p, fn_fill, w.mem, 5, 3000, 1);
	ck_assert_int_eq(ctl_of("release", w.p->pid), 0);
	check_clean(w.p->pid);
	ck_assert(!is_client(w.d, w.p->pid));
	ck_assert_int_eq(puppet_call(w.p, fn_check, w.mem, 5, 3000, 1), 0);
	ck_assert_int_eq(puppet_call(w.p, fn_check, w.mem + 5 * 4096L, NR - 5, 6, 1), 0);
	ck_assert_int_eq(pages_on_frames(w.p->pid, w.mem, NR), 0);
	ck_assert_int_eq(puppet_call(w.p, fn_refused), ECANCELED);
	/* It keeps away from the next daemon, too, and so does a child. */
	child = puppet_fork(w.p);
	daemon_kill(w.d);
	daemon_restart(w.d, NULL);
	daemon_hasten(w.d);
	wait_until(is_client(w.d, w.q->pid), WAIT_MS, "the other comes back");
	wait_full_scans(w.d, 2, WAIT_MS);
	ck_assert(!is_client(w.d, w.p->pid));
	ck_assert(!is_client(w.d, child->pid));
	check_clean(w.p->pid);
	ck_assert_int_eq(puppet_call(child, fn_check, w.mem, 5, 3000, 1), 0);
	ck_assert_int_eq(ctl_of("join", child->pid), 0);
	puppet_end(child);
	ck_assert(!is_client(w.d, w.p->pid));
	/* What it offers meanwhile is merged when it has come back. */
	ck_assert_int_gt(puppet_call(w.p, fn_offer, UNIQUE, 1, 1), 0);
	ck_assert_int_eq(ctl_of("join", w.p->pid), 0);
	ck_assert_int_eq(ctl_of("merge --wait", w.p->pid), 0);
	ck_assert_int_eq(puppet_pages_on_frames(w.p, w.mem, NR), NR - 5);
	end(&w);
}
END_TEST

static long fn_open_direct(const long a[6])
{
	char path[] = "/var/tmp/test_act.XXXXXX";
	int fd = mkostemp(path, O_DIRECT);

	(void)a;
	if (fd >= 0)
		unlink(path);
	return fd >= 0 ? fd : -errno;
}

static long fn_close(const long a[6])
{
	return close((int)a[0]);
}

/* Pages that were written since may be pinned by direct I/O. Then nothing is released. */
START_TEST(release_is_refused_whole)
{
	struct world w;
	long fd;

	begin(&w);
	ck_assert_int_eq(puppet_pages_on_frames(w.p, w.mem, NR), NR);
	puppet_call(w.p, fn_fill, w.mem, 5, 3000, 1);
	fd = puppet_call(w.p, fn_open_direct);
	if (fd < 0) {
		printf("SKIP: no O_DIRECT in /var/tmp\n");
	} else {
		ck_assert_int_eq(ctl_of("release", w.p->pid), 1);
		ck_assert(is_client(w.d, w.p->pid));
		ck_assert_int_eq(puppet_call(w.p, fn_check, w.mem, 5, 3000, 1), 0);
		ck_assert_int_eq(puppet_call(w.p, fn_check, w.mem + 5 * 4096L, NR - 5, 6, 1), 0);
		/* It goes on as a client. */
		ck_assert_int_eq(ctl_of("merge --wait", w.p->pid), 0);
		ck_assert_int_eq(puppet_pages_on_frames(w.p, w.mem, NR), NR - 5);
		ck_assert_int_eq(puppet_call(w.p, fn_close, fd), 0);
		ck_assert_int_eq(ctl_of("release", w.p->pid), 0);
		check_clean(w.p->pid);
	}
	end(&w);
}
END_TEST

static void act_as_stranger(struct daemon *d)
{
	pid_t pid = (pid_t)atoi(getenv("VICTIM_PID"));
	char buf[ANSWER];

	ck_assert_int_eq(act(d, pid, "release", buf), -ENOENT);
	ck_assert_int_eq(act(d, pid, "merge", buf), -ENOENT);
	ck_assert_int_eq(ctl_of("release", pid), 1);
	ck_assert_int_eq(ctl_of("join", pid), 1);
}

static void act_as_owner(struct daemon *d)
{
	pid_t pid = (pid_t)atoi(getenv("VICTIM_PID"));

	(void)d;
	ck_assert_int_eq(ctl_of("release", pid), 0);
	ck_assert_int_eq(ctl_of("join", pid), 0);
	ck_assert_int_eq(ctl_of("merge --wait", pid), 0);
}

START_TEST(ones_own_programs_alone)
{
	struct user owner = { VICTIM, VICTIM, 0, 0 }, stranger = { STRANGER, STRANGER, 0, 0 };
	struct world w;
	char pid[16];

	if (not_root())
		return;
	begin_as(&w, VICTIM);
	snprintf(pid, sizeof(pid), "%d", (int)w.p->pid);
	setenv("VICTIM_PID", pid, 1);
	as_user(&stranger, act_as_stranger, w.d);
	ck_assert_int_eq(pages_on_frames(w.p->pid, w.mem, NR) > 0, 1);
	as_user(&owner, act_as_owner, w.d);
	end(&w);
}
END_TEST

/* A command in the background. */
static pid_t spawn_ctl(const char *args, pid_t pid)
{
	pid_t child = fork();

	if (!child)
		_exit(ctl_of(args, pid));
	ck_assert_int_gt(child, 0);
	return child;
}

static int exit_code(pid_t child)
{
	int status;

	ck_assert_int_eq(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

START_TEST(release_and_bad_clients)
{
	char buf[ANSWER];
	struct world w;
	pid_t a, b;

	begin(&w);
	ck_assert_int_eq(ctl_of("release", getpid()), 1);
	ck_assert_int_eq(ctl_of("join", getpid()), 1);
	ck_assert_int_eq(ctl("release x"), 2);
	ck_assert_int_eq(ctl("join 0"), 1);
	ck_assert_int_eq(ctl("release 999999999"), 1);
	ck_assert_int_eq(act(w.d, w.p->pid, "release now", buf), -EINVAL);
	ck_assert_int_eq(act(w.d, w.p->pid, "release look", buf), 0);
	/* Two at once. */
	a = spawn_ctl("release", w.p->pid);
	b = spawn_ctl("join", w.p->pid);
	ck_assert_int_ge(exit_code(b), 0);
	exit_code(a);
	ck_assert_int_eq(ctl_of("join", w.p->pid), 0);
	a = spawn_ctl("release", w.p->pid);
	b = spawn_ctl("release", w.p->pid);
	ck_assert_int_eq(exit_code(a) && exit_code(b), 0);
	wait_until(!is_client(w.d, w.p->pid), WAIT_MS, "one of them did it");
	ck_assert_int_eq(ctl_of("join", w.p->pid), 0);
	/* Stopped: it is named, and does it later. */
	ck_assert_int_eq(kill(w.p->pid, SIGSTOP), 0);
	ck_assert_int_eq(ctl_of("release --timeout 0.2", w.p->pid), 1);
	ck_assert(is_client(w.d, w.p->pid));
	ck_assert_int_eq(kill(w.p->pid, SIGCONT), 0);
	wait_until(!is_client(w.d, w.p->pid), WAIT_MS, "released when it goes on");
	/* Dead in the middle. */
	ck_assert_int_eq(kill(w.q->pid, SIGSTOP), 0);
	a = spawn_ctl("release", w.q->pid);
	wait_until(act(w.d, w.q->pid, "release look", buf) == -EINPROGRESS, WAIT_MS, "asked");
	puppet_kill(w.q);
	ck_assert_int_eq(exit_code(a), 1);
	puppet_end(w.p);
	daemon_stop(w.d);
}
END_TEST

/* ---- merge ---- */

static long fn_ksm_merge(const long a[6])
{
	return ksm_merge((void *)a[0], (size_t)a[1], (int)a[2]) ? -errno : 0;
}

/*
 * When the call returns it is done: nothing is waited for afterwards. So the daemon is asked when
 * it has heard of the memory.
 */
START_TEST(merge_returns_when_it_is_done)
{
	struct world w;

	begin(&w);
	for (int i = 0; i < 10; i++) {
		long a = puppet_call(w.p, fn_map, NR, 0, 0), b = puppet_call(w.q, fn_map, NR, 0, 0);

		ck_assert_int_eq(puppet_call(w.p, fn_fill, a, NR, 10000 + i * 1000, 1), 0);
		ck_assert_int_eq(puppet_call(w.q, fn_fill, b, NR, 10000 + i * 1000, 1), 0);
		ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, a, NR * 4096L, WAIT_MS), 0);
		ck_assert_int_eq(puppet_call(w.q, fn_ksm_merge, b, NR * 4096L, WAIT_MS), 0);
		ck_assert_int_eq(puppet_pages_on_frames(w.q, b, NR), NR);
		/* Written since, and to be merged again. */
		ck_assert_int_eq(puppet_call(w.q, fn_fill, b, NR, 10000 + i * 1000, 1), 0);
		ck_assert_int_eq(puppet_call(w.q, fn_ksm_merge, b, NR * 4096L, WAIT_MS), 0);
		ck_assert_int_eq(puppet_pages_on_frames(w.q, b, NR), NR);
	}
	end(&w);
}
END_TEST

START_TEST(merge_says_what_is_wrong)
{
	struct world w;
	struct puppet *fresh;
	long mem, len = NR * 4096L;
	char buf[ANSWER];

	begin(&w);
	mem = w.mem;
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, mem + 1, len, WAIT_MS), -EINVAL);
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, mem, len, -1), -EINVAL);
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, mem, len, 0), -ETIMEDOUT);
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, 4096, 4096, WAIT_MS), -ENOMEM);
	ck_assert_int_eq(act(w.d, w.p->pid, "merge x", buf), -EINVAL);
	ck_assert_int_eq(act(w.d, w.p->pid, "merge 99999999999", buf), -EINPROGRESS);
	ck_assert_int_eq(ctl_of("merge --wait", getpid()), 1);
	ck_assert_int_eq(ctl("merge x"), 2);
	ck_assert_int_eq(ctl_set(w.d, "ksm/run", "0"), 0);
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, mem, len, WAIT_MS), -EAGAIN);
	ck_assert_int_eq(ctl_of("merge", w.p->pid), 1);
	ck_assert_int_eq(ctl_set(w.d, "ksm/run", "1"), 0);
	ck_assert_int_eq(ctl_of("merge", w.p->pid), 0);
	ck_assert_int_eq(ctl_of("release", w.p->pid), 0);
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, mem, len, WAIT_MS), -ECANCELED);
	ck_assert_int_eq(ctl_of("join", w.p->pid), 0);
	/* A daemon that is stopped delays no longer than told, one that is gone not at all. */
	ck_assert_int_eq(kill(w.d->pid, SIGSTOP), 0);
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, mem, len, 100), -ETIMEDOUT);
	ck_assert_int_eq(kill(w.d->pid, SIGCONT), 0);
	ck_assert_int_eq(puppet_call(w.p, fn_ksm_merge, mem, len, WAIT_MS), 0);
	daemon_kill(w.d);
	fresh = puppet_new();
	mem = puppet_call(fresh, fn_map, NR, 0, 0);
	ck_assert_int_eq(puppet_call(fresh, fn_ksm_merge, mem, len, WAIT_MS), -ENOTCONN);
	puppet_end(fresh);
	daemon_restart(w.d, NULL);
	end(&w);
}
END_TEST

/* One that is stopped is named; the other is merged all the same. */
START_TEST(merge_among_stopped_clients)
{
	struct world w;
	long b;

	begin(&w);
	ck_assert_int_gt(puppet_call(w.p, fn_offer, NR, 5000, 1), 0);
	ck_assert_int_eq(ctl_of("merge --wait", w.p->pid), 0);
	ck_assert_int_eq(kill(w.p->pid, SIGSTOP), 0);
	b = puppet_call(w.q, fn_offer, NR, 5000, 1);
	ck_assert_int_eq(ctl_of("merge --wait", w.q->pid), 0);
	ck_assert_int_eq(puppet_pages_on_frames(w.q, b, NR), NR);
	ck_assert_int_eq(ctl_of("merge --wait --timeout 30", w.p->pid), 1);
	ck_assert_int_eq(kill(w.p->pid, SIGCONT), 0);
	ck_assert_int_eq(ctl_of("merge --wait", w.p->pid), 0);
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
	tcase_add_test(tc, release_leaves_nothing);
	tcase_add_test(tc, release_is_refused_whole);
	tcase_add_test(tc, ones_own_programs_alone);
	tcase_add_test(tc, release_and_bad_clients);
	tcase_add_test(tc, merge_returns_when_it_is_done);
	tcase_add_test(tc, merge_says_what_is_wrong);
	tcase_add_test(tc, merge_among_stopped_clients);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
