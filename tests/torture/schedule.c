/* SPDX-License-Identifier: MIT */
/*
 * schedule.c - one torture from beginning to end; see schedule.h.
 *
 * A watchdog thread ticks the clock that actors live by. It looks for the first failure, for
 * threads that do not move and for a schedule that does not. So nothing that hangs, hangs the
 * torture.
 */
#include "tests/torture/schedule.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define ACTORS 4 /* started by the schedule; their children come on top */
#define SMALL_ACTORS 2
#define CALM_EVERY_MS 12000
#define REST_MS 120000 /* until a daemon with nothing to do says so, at the latest */
#define END_MS 120000
#define MOST_TIMES 3 /* the time asked for, until everything has been shown: on a loaded machine */
#define COVERED_SECONDS 30 /* so long a run shows every kind of operation */

/* ---- pulses ---- */

struct pulses {
	uint64_t beat[SEATS][THREADS], moved_ms[SEATS][THREADS];
	uint64_t step, step_ms;
};

static void feel_pulse(struct pulses *w, int seat, int k)
{
	struct proc_seat *p = &ctl->p[seat];
	uint64_t beat = atomic_load(&p->t[k].beat), now = now_ms();
	bool idle = atomic_load(&p->state) != SEAT_LIVE || !atomic_load(&p->t[k].alive) ||
		    atomic_load(&p->stopped) || atomic_load(&p->killed);

	if (idle || beat != w->beat[seat][k] || !w->moved_ms[seat][k]) {
		w->beat[seat][k] = beat;
		w->moved_ms[seat][k] = now;
	} else if (now - w->moved_ms[seat][k] > HANG_MS && failure_begin()) {
		ctl->fail.kind = FAIL_OTHER;
		ctl->fail.pid = atomic_load(&p->pid);
		ctl->fail.seat = seat;
		ctl->fail.thread = k;
		snprintf(ctl->fail.text, sizeof(ctl->fail.text), "has not moved for %d ms",
			 HANG_MS);
		failure_end();
	}
}

static void *watchdog(void *arg)
{
	static struct pulses w;
	struct job *j = arg;

	for (;;) {
		uint64_t now = now_ms(), step = atomic_load(&j->step);

		atomic_store(&ctl->alive_ms, now);
		if (step != w.step || !w.step_ms) {
			w.step = step;
			w.step_ms = now;
		} else if (now - w.step_ms > 2 * HANG_MS) {
			fail_schedule("the schedule has not moved for %d ms (does the daemon "
				      "answer?)",
				      2 * HANG_MS);
		}
		for (int i = 0; i < SEATS; i++)
			for (int k = 0; k < THREADS; k++)
				feel_pulse(&w, i, k);
		if (atomic_load(&ctl->failed))
			report_failure(j);
		nap_us(5000);
	}
	return NULL;
}

/* ---- calm ---- */

static int waited_for; /* the process that a wait was about, for the report */

/* All values of a directory of the daemon's, on a line. */
static void print_values(struct job *j, const char *dir)
{
	char names[8192], value[1024], path[512], *next = names;

	if (ctl_ls(j->daemon, dir, names, sizeof(names)) < 0)
		return;
	printf("  %s:", dir);
	for (char *name; (name = strsep(&next, "\n"));) {
		snprintf(path, sizeof(path), "%s/%s", dir, name);
		if (ctl_get(j->daemon, path, value, sizeof(value)) > 0)
			printf(" %s %s", name, value);
	}
	printf("\n");
}

/* What goes on in a daemon that should be at rest: three looks, for whoever reads the report. */
static void print_unrest(struct job *j)
{
	char pids[8192], dir[64], *next;

	for (int i = 0; i < 3; i++) {
		print_values(j, "ksm");
		next = pids;
		if (ctl_ls(j->daemon, "client", pids, sizeof(pids)) < 0)
			break;
		for (char *pid; (pid = strsep(&next, "\n/"));) {
			if (!*pid)
				continue;
			snprintf(dir, sizeof(dir), "client/%s", pid);
			print_values(j, dir);
		}
		fflush(stdout);
		nap_us(1000000);
	}
}

static bool wait_for(struct job *j, bool (*done)(struct job *j), uint64_t ms, const char *what)
{
	uint64_t end = now_ms() + ms;

	waited_for = 0;

	while (!done(j)) {
		if (atomic_load(&ctl->failed))
			pause(); /* the watchdog reports */
		if (now_ms() > end) {
			print_unrest(j);
			fail_about(waited_for, "not within %llu ms: %s", (unsigned long long)ms,
				   what);
			pause();
		}
		actors_reap(j);
		atomic_fetch_add(&j->step, 1);
		nap_us(5000);
	}
	return true;
}

static bool every_thread(bool (*ok)(const struct thread_seat *t))
{
	for (int i = 0; i < SEATS; i++) {
		struct proc_seat *p = &ctl->p[i];
		uint32_t state = atomic_load(&p->state);

		if (state == SEAT_FREE || state == SEAT_GONE || atomic_load(&p->killed))
			continue;
		waited_for = atomic_load(&p->pid);
		if (state == SEAT_TAKEN)
			return false;
		for (int k = 0; k < THREADS; k++)
			if (atomic_load(&p->t[k].alive) && !ok(&p->t[k]))
				return false;
	}
	return true;
}

static bool is_parked(const struct thread_seat *t)
{
	return atomic_load(&t->parked);
}

static bool has_verified(const struct thread_seat *t)
{
	return atomic_load(&t->verified);
}

static bool all_parked(struct job *j)
{
	(void)j;
	return every_thread(is_parked);
}

static bool all_verified(struct job *j)
{
	(void)j;
	return every_thread(has_verified);
}

/* Every process that should have found the daemon again has done so. */
static bool all_connected(struct job *j)
{
	for (int i = 0; i < SEATS; i++) {
		struct proc_seat *p = &ctl->p[i];
		char path[64], buf[64];

		if (atomic_load(&p->state) != SEAT_LIVE || !p->client || atomic_load(&p->killed) ||
		    !atomic_load(&p->t[0].alive))
			continue;
		snprintf(path, sizeof(path), "client/%d/uid", atomic_load(&p->pid));
		if (ctl_get(j->daemon, path, buf, sizeof(buf)) <= 0) {
			waited_for = atomic_load(&p->pid);
			return false;
		}
	}
	return true;
}

/*
 * Six passes have merged nothing and found nothing broken. (What is refused is tried again for
 * ever.) Without a client there are no passes: all actors may have been killed, or be of a kind
 * that is none, and a daemon that was started since waits for one.
 */
static bool at_rest(struct job *j)
{
	static uint64_t merged, breaks, scans;
	uint64_t m = ctl_get_u64(j->daemon, "ksm/pages_merged"),
		 b = ctl_get_u64(j->daemon, "ksm/cow_breaks"),
		 s = ctl_get_u64(j->daemon, "ksm/full_scans");

	if (!ctl_get_u64(j->daemon, "ksm/clients"))
		return true;
	if (m != merged || b != breaks || s < scans) {
		merged = m;
		breaks = b;
		scans = s;
		return false;
	}
	if (s < scans + 6)
		return false;
	scans = s; /* who asks again wants six more */
	return true;
}

static bool nothing_moves(struct job *j)
{
	return !daemon_moves(j);
}

/*
 * With `run` 0, the answers to orders that were sent have come in. (Other orders may wait until it
 * is 1 again.) The daemon does not tell these apart. So the sign is that nothing moves for 50 looks
 * of 5 ms each. They are longer for a daemon of another build, which has a sanitizer and is ten
 * times as slow.
 */
static bool orders_rest(struct job *j)
{
	static uint64_t last, looks;
	uint64_t now = ctl_get_u64(j->daemon, "ksm/orders") +
		       ctl_get_u64(j->daemon, "ksm/pages_merged") +
		       ctl_get_u64(j->daemon, "ksm/order_pages_failed");

	looks = now == last ? looks + 1 : 0;
	last = now;
	return looks >= (getenv("KSM_DAEMON") ? 500 : 50);
}

static void calm(struct job *j)
{
	actors_resume(j, true);
	daemon_up(j);
	daemon_hurry(j);
	atomic_store(&ctl->phase, PHASE_PARK);
	wait_for(j, all_parked, HANG_MS, "all actors are parked");
	wait_for(j, all_connected, REST_MS, "all actors are connected");
	daemon_use_nodes(j);
	wait_for(j, nothing_moves, REST_MS, "no node is being emptied");
	daemon_online(j);
	wait_for(j, at_rest, REST_MS, "the daemon comes to rest");
	atomic_store(&ctl->phase, PHASE_VERIFY);
	wait_for(j, all_verified, HANG_MS, "all actors have looked at all their memory");
	wait_for(j, at_rest, REST_MS, "the daemon comes to rest again");
	daemon_rest(j);
	wait_for(j, orders_rest, REST_MS, "all orders are answered");
	audit(j);
	if (atomic_load(&ctl->failed))
		pause();
	daemon_look(j);
	daemon_hurry(j);
	daemon_unhurried(j);
	atomic_store(&ctl->phase, PHASE_RUN);
}

/* ---- the whole ---- */

static void disturb(struct job *j)
{
	uint64_t kind = below(j, 100);

	if (j->small && below(j, 2))
		daemon_move(j);
	else if (kind < 70)
		daemon_disturb(j);
	else if (kind < 85)
		actors_stop_one(j);
	else if (kind < 93)
		actors_kill_one(j);
}

/* Tell the actors which kinds never ran. Returns the number of these. */
static unsigned int want_missing(void)
{
	unsigned int nr = 0;

	for (int i = 0; i < OP_NR; i++) {
		bool missing = op_is_missing((enum op)i);

		atomic_store(&ctl->wanted[i], missing);
		nr += missing;
	}
	atomic_store(&ctl->nr_wanted, nr);
	return nr;
}

static bool has_merged_enough(const struct job *j)
{
	if (j->small)
		return j->merged.all && j->frames_moved.all;
	return j->best_share >= 10 && j->merged.all >= 100ull * j->seconds;
}

/* Does it show every kind of operation? */
static bool is_covering(const struct job *j)
{
	return j->seconds >= COVERED_SECONDS && !j->small;
}

/*
 * The run lasts as long as it was asked to, and longer while it has not shown all that a torture
 * must show: the machine decides how much the actors get done in a second. From half the time on
 * they prefer kinds that never ran. With --small no kind is waited for.
 */
static bool goes_on(const struct job *j, uint64_t start)
{
	uint64_t length = j->seconds * 1000ull, run_ms = now_ms() - start;
	unsigned int missing = 0;

	if (is_covering(j) && run_ms > length / 2)
		missing = want_missing();
	if (run_ms < length)
		return true;
	return run_ms < MOST_TIMES * length && (missing || !has_merged_enough(j));
}

static void run(struct job *j)
{
	uint64_t start = now_ms(), next_calm = start + 4000;

	while (goes_on(j, start)) {
		atomic_fetch_add(&j->step, 1);
		actors_reap(j);
		actors_resume(j, false);
		while (seats_live() < (j->small ? SMALL_ACTORS : ACTORS))
			actors_spawn(j);
		disturb(j);
		if (now_ms() > next_calm) {
			calm(j);
			next_calm = now_ms() + CALM_EVERY_MS;
		}
		nap_us(below(j, 4) ? below(j, 50000) : below(j, 400000));
	}
	calm(j);
}

static bool all_gone(struct job *j)
{
	(void)j;
	for (int i = 0; i < SEATS; i++)
		if (atomic_load(&ctl->p[i].state) != SEAT_FREE)
			return false;
	return true;
}

static bool all_free(struct job *j)
{
	static const char *const names[] = { "clients",        "pages_shared",   "pages_sharing",
					     "frames_used",    "frames_retired", "pages_tracked",
					     "ksm_zero_pages", "orders" };
	char path[64];

	for (unsigned int i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(path, sizeof(path), "ksm/%s", names[i]);
		if (ctl_get_u64(j->daemon, path))
			return false;
	}
	return true;
}

static void make_data(struct job *j)
{
	static uint8_t page[PG];
	const char *tmp = getenv("TMPDIR");
	int fd;

	snprintf(ctl->data_path, sizeof(ctl->data_path), "%s/ksm-torture-data.XXXXXX",
		 tmp ? tmp : "/tmp");
	fd = mkstemp(ctl->data_path);
	if (fd < 0)
		harness_die("%s: %s", ctl->data_path, strerror(errno));
	fchmod(fd, 0644);
	for (uint32_t i = 0; i < DATA_PAGES; i++) {
		content_fill(page, 100 + i);
		if (write(fd, page, PG) != (ssize_t)PG)
			harness_die("%s: %s", ctl->data_path, strerror(errno));
	}
	fsync(fd);
	close(fd);
	(void)j;
}

static void make_ctl(struct job *j)
{
	const char *plain = getenv("TORTURE_PLAIN");
	int fd = memfd_create("torture-ctl", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, sizeof(*ctl)) || !ctl_map(fd))
		harness_die("memfd: %s", strerror(errno));
	snprintf(ctl->ctl_path, sizeof(ctl->ctl_path), "/proc/%d/fd/%d", (int)getpid(), fd);
	ctl->seed = j->seed;
	ctl->small = j->small;
	ctl->max_live = j->small ? SMALL_LIVE : MAX_LIVE;
	ctl->is_root = geteuid() == 0;
	ctl->plain_percent = (uint32_t)below(j, 3) * 50;
	if (plain)
		ctl->plain_percent = (uint32_t)atoi(plain);
	if (!realpath(build_path("tests/torture/actor-ksm"), ctl->actor_ksm) ||
	    !realpath(build_path("tests/torture/actor-plain"), ctl->actor_plain) ||
	    !realpath(build_path("ksm-run"), ctl->ksm_run))
		harness_die("the actors are not built in %s", build_path(""));
	atomic_store(&ctl->alive_ms, now_ms());
}

static struct job *the_job;

/* For harness_die(): nothing may be left running. */
static void on_abort(int sig)
{
	(void)sig;
	kill_everything(the_job); /* NOLINT(bugprone-signal-handler): we end right after */
	_exit(1);
}

int job_run(struct job *j)
{
	unsigned int missing = 0;
	pthread_t thread;

	the_job = j;
	j->rnd = j->seed * 0x9e3779b97f4a7c15ull | 1;
	for (int i = 0; i < 10; i++)
		rnd(&j->rnd);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	make_ctl(j);
	make_data(j);
	signal(SIGABRT, on_abort);
	signal(SIGTERM, on_abort);
	signal(SIGHUP, SIG_IGN);
	j->outside = fork();
	if (j->outside == 0)
		outside_main();
	daemon_up(j);
	if (pthread_create(&thread, NULL, watchdog, j))
		harness_die("no thread");
	run(j);
	atomic_store(&ctl->phase, PHASE_STOP);
	wait_for(j, all_gone, HANG_MS, "all actors have ended");
	wait_for(j, all_free, END_MS, "all counters and frames are back to 0");
	if (is_covering(j))
		missing = report_coverage();
	if (missing)
		fail_schedule("%u kinds of operation never ran in %u s", missing,
			      MOST_TIMES * j->seconds);
	if (!has_merged_enough(j))
		fail_schedule("%llu pages merged, %llu%% at best, %llu moved: that is no torture",
			      (unsigned long long)j->merged.all, (unsigned long long)j->best_share,
			      (unsigned long long)j->frames_moved.all);
	if (atomic_load(&ctl->failed))
		pause();
	kill(j->outside, SIGKILL);
	waitpid(j->outside, NULL, 0);
	j->outside = 0;
	daemon_stop(j->daemon);
	j->daemon = NULL;
	unlink(ctl->data_path);
	report_end(j, "passed");
	return 0;
}
