/* SPDX-License-Identifier: MIT */
/*
 * test_faults.c - the agent of a real process is halted at each of its system calls, one after the
 * other, while threads of the program load from and store to the pages that it has in hand. There
 *  - the daemon is killed, or stopped,
 *  - the process itself is killed, or stopped while others go on,
 *  - the program locks the memory, past the library,
 *  - the call fails, with each of the errors that it can give.
 * Afterwards every byte must be right, every thread must have gone on, and memory must be merged
 * again.
 *
 * How long the slowest access took is measured by the threads themselves, printed, and bounded.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"
#include "tests/lib/trace.h"
#include "wire/wire.h"

static const long PG = PUPPET_PAGE;

/*
 * The longest that an access may take. An order is some 60 system calls; none waits, and together
 * they take less than a millisecond. The rest allows for a loaded machine's scheduler, which may
 * give other processes several time slices between two calls, and for the test's own tracing. The
 * bound is far below every time limit in the library, so an access that waits for the daemon
 * exceeds it.
 */
#define BOUND_MS 2000

/* ---- threads of the client that use the memory ---- */

enum { THREADS = 3, PAGES = KSM_ORDER_PAGES };

/* Shared with the test. */
struct work {
	_Atomic int storing; /* else they load only, and pages are calm */
	_Atomic int stop;
	_Atomic int rest; /* touch nothing of the memory */
	_Atomic pid_t tid[THREADS];
	_Atomic int resting[THREADS];
	_Atomic uint64_t nr, worst_ns, bad;
	_Atomic uint64_t stored; /* rounds over all pages, by all threads */
	long addr;
	uint64_t word[THREADS][PAGES]; /* what thread t has stored in word 8 + t of each page */
};
static struct work *work;
static pthread_t thread[THREADS]; /* of the puppet */

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void note_time(uint64_t ns)
{
	uint64_t worst = atomic_load(&work->worst_ns);

	while (ns > worst && !atomic_compare_exchange_weak(&work->worst_ns, &worst, ns))
		;
	work->nr++;
}

static void rest(long t)
{
	work->resting[t] = 1;
	while (work->rest)
		usleep(100);
	work->resting[t] = 0;
}

/* Pages are visited in different orders, so that the threads meet the agent everywhere. */
static void *use_memory(void *arg)
{
	long t = (long)arg, last = PAGES - 1;
	uint64_t first[PAGES];

	work->tid[t] = gettid();
	for (long i = 0; i < PAGES; i++)
		first[i] = *(uint64_t *)(work->addr + i * PG);
	for (uint64_t round = 1; !work->stop; round++) {
		for (long k = 0; k < PAGES; k++) {
			long i = t == 0 ? k : t == 1 ? last - k : k * 29 % PAGES;
			volatile uint64_t *p = (volatile uint64_t *)(work->addr + i * PG);
			uint64_t begin;
			bool store;

			if (work->rest)
				rest(t);
			begin = now_ns();
			store = work->storing;

			if (store) {
				p[8 + t] = round;
				work->word[t][i] = round;
			}
			if (p[0] != first[i] || (work->word[t][i] && p[8 + t] != work->word[t][i]))
				work->bad++;
			note_time(now_ns() - begin);
		}
		if (work->storing)
			work->stored++;
		else
			usleep(1000); /* leave the processor to those who merge */
	}
	return NULL;
}

/* The block looks like this. Two stretches to merge, and a page of zeros, or all of it. */
static bool is_unique(long i)
{
	return (i >= 14 && i < 18) || (i >= 24 && i < 40) || i >= 60;
}

static uint64_t content_of(long i, long content, long salt)
{
	return (uint64_t)(content + i + (is_unique(i) ? salt : 0));
}

/* (content, salt): a block, filled and offered. */
static long fn_offer_block(const long a[6])
{
	long m = fn_map((const long[6]){ 2 * PAGES });
	long at = (m + PAGES * PG - 1) / (PAGES * PG) * (PAGES * PG);

	if (m < 0)
		return m;
	munmap((void *)m, (size_t)(at - m));
	munmap((void *)(at + PAGES * PG), (size_t)(m + PAGES * PG - at));
	for (long i = 0; i < PAGES; i++)
		page_fill((void *)(at + i * PG), content_of(i, a[0], a[1]));
	return ksm_madvise((void *)at, (size_t)(PAGES * PG), MADV_MERGEABLE) ? -errno : at;
}

/* (addr) */
static long fn_start_threads(const long a[6])
{
	memset(work, 0, sizeof(*work));
	work->addr = a[0];
	for (long t = 0; t < THREADS; t++)
		if (pthread_create(&thread[t], NULL, use_memory, (void *)t))
			return -1;
	return 0;
}

static long fn_stop_threads(const long a[6])
{
	(void)a;
	work->stop = 1;
	for (long t = 0; t < THREADS; t++)
		pthread_join(thread[t], NULL);
	return 0;
}

/* (content, salt): pages that hold other bytes than the test stored. */
static long fn_check_block(const long a[6])
{
	uint64_t want[PUPPET_PAGE / 8];
	long bad = (long)work->bad;

	for (long i = 0; i < PAGES; i++) {
		page_fill(want, content_of(i, a[0], a[1]));
		for (int t = 0; t < THREADS; t++)
			if (work->word[t][i])
				want[8 + t] = work->word[t][i];
		bad += memcmp((void *)(work->addr + i * PG), want, PUPPET_PAGE) != 0;
	}
	return bad;
}

/* (addr): store every word again, which breaks copy-on-write and changes nothing. */
static long fn_rewrite(const long a[6])
{
	for (long i = 0; i < PAGES; i++) {
		volatile uint64_t *p = (volatile uint64_t *)(a[0] + i * PG);

		p[0] = p[0];
	}
	return 0;
}

/* ---- one life of a block, and where in it to halt ---- */

enum life {
	MERGE,   /* an order for fresh memory */
	INPLACE, /* an order for memory that was merged before and written */
	UNSHARE, /* merged memory is withdrawn */
	CONNECT, /* merged memory, and another daemon */
	LIVES
};
static const char *const life_name[] = { "merge", "merge in place", "un-share", "connect" };

struct scene {
	struct daemon *d;
	struct puppet *p, *q; /* p is halted; q has the same pages */
	struct trace t;
	long a, b, content;
	enum life life;
	uint64_t worst_ns, nr;
	int steps, faults;
	int err;    /* that a call was given */
	bool early; /* threads store from the beginning: pages differ, and go back */
};

enum { SALT = 1 << 20, EQUAL = 40 };

static int merged(struct puppet *p, long at)
{
	return puppet_pages_on_frames(p, at, PAGES);
}

/* The engine may make a frame of a unique page between equal ones on trial, and it stays. */
static bool equal_merged(struct puppet *p, long at)
{
	int nr = 0;

	for (long i = 0; i < PAGES; i++)
		nr += !is_unique(i) && puppet_pages_on_frames(p, at + i * PG, 1);
	return nr == EQUAL;
}

static void new_p(struct scene *s)
{
	s->p = puppet_new();
	ck_assert_int_gt(puppet_call(s->p, fn_offer_block, 1, 0), 0);
	wait_until(puppet_call(s->p, fn_connected) == 1, WAIT_MS, "connected");
}

static void scene_begin(struct scene *s, enum life life)
{
	memset(s, 0, sizeof(*s));
	work = mmap(NULL, sizeof(*work), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(work, MAP_FAILED);
	s->life = life;
	s->d = daemon_start(NULL);
	daemon_hasten(s->d);
	s->q = puppet_new();
	new_p(s);
	s->content = 1000;
}

static void offer_both(struct scene *s)
{
	s->content += PAGES;
	s->a = puppet_call(s->p, fn_offer_block, s->content, SALT);
	s->b = puppet_call(s->q, fn_offer_block, s->content, 2 * SALT);
	ck_assert_int_gt(s->a, 0);
	ck_assert_int_gt(s->b, 0);
}

static void wait_merged(struct scene *s)
{
	wait_until(equal_merged(s->p, s->a) && equal_merged(s->q, s->b), WAIT_MS, "merged");
}

/* From here on the threads store. Some of them wait for pages that the agent has in hand. */
static void let_store(void)
{
	work->storing = 1;
	harness_nap();
}

static bool life_begins(struct scene *s, enum trace_event e)
{
	ck_assert_int_ne(e, TRACE_GONE);
	if (e == TRACE_QUIET)
		harness_die("%s: nothing happens", life_name[s->life]);
	if (s->life == UNSHARE)
		return true;
	if (s->life == CONNECT)
		return s->t.entry && s->t.nr == SYS_socket;
	return !s->t.entry && s->t.nr == SYS_recvmsg && s->t.ret == sizeof(struct ksm_msg_order);
}

/*
 * Testing every step takes minutes (`make faults`, or KSM_TEST_EVERY_STEP). Otherwise each run
 * tests some steps, starting at another one, and fewer under the address sanitizer.
 */
static int stride(int some)
{
	if (getenv("KSM_TEST_EVERY_STEP"))
		return 1;
#ifdef __SANITIZE_ADDRESS__
	some *= 3;
#endif
	return some;
}

static int first_step(void)
{
	static int step;

	if (!step) {
		const char *env = getenv("KSM_TEST_SEED");
		unsigned long seed = env ? strtoul(env, NULL, 0) : now_ns() / 1000000 % 1000;

		step = getenv("KSM_TEST_EVERY_STEP") ? 1 : 1 + (int)(seed % 13);
		printf("seed %lu (set KSM_TEST_SEED to repeat)\n", seed);
	}
	return step;
}

/*
 * The agent reads files of /proc in dozens of calls, between which nothing changes. Only the first
 * few count as steps.
 */
static bool is_step(const struct trace *t, int *reads)
{
	if (t->nr != SYS_openat && t->nr != SYS_read && t->nr != SYS_getdents64 &&
	    t->nr != SYS_close)
		return true;
	return ++*reads <= 9;
}

/*
 * Halt the agent at the nth call of this life. With an error to inject: at the next call from there
 * that can return it. False: the life is over. *n: the call at which the agent is.
 */
static bool halt_at(struct scene *s, int *n, int err)
{
	const bool verbose = getenv("KSM_TEST_VERBOSE");
	pid_t agent = trace_find_thread(s->p->pid, "ksm-agent");
	enum trace_event e;
	int at = 0, reads = 0;

	s->err = err;
	if (s->life == MERGE) {
		trace_begin(&s->t, agent);
		offer_both(s);
	} else {
		offer_both(s);
		wait_merged(s);
		if (s->life == CONNECT)
			daemon_kill(s->d);
		trace_begin(&s->t, agent);
		if (s->life == CONNECT) {
			daemon_restart(s->d, NULL);
			daemon_hasten(s->d);
		}
	}
	ck_assert_int_eq(puppet_call(s->p, fn_start_threads, s->a), 0);
	if (s->life == INPLACE)
		ck_assert_int_eq(puppet_call(s->p, fn_rewrite, s->a), 0);
	if (s->life == UNSHARE)
		puppet_post(s->p, fn_madvise, s->a, PAGES * PG, MADV_UNMERGEABLE);
	do
		e = trace_next(&s->t, WAIT_MS);
	while (!life_begins(s, e));
	if (s->early)
		let_store();
	/* When no call comes for this long the life is over: the agent waits. */
	while (e == TRACE_STOP) {
		if (s->t.entry && is_step(&s->t, &reads) && ++at >= *n &&
		    (!err || trace_may_fail(&s->t, err))) {
			*n = at;
			if (verbose)
				printf("%s: at %d, call %ld %#lx: %s\n", life_name[s->life], at,
				       s->t.nr, (unsigned long)s->t.a[1], strerrorname_np(err));
			return true;
		}
		e = trace_next(&s->t, 200);
	}
	if (!s->early || !s->steps)
		s->steps = at;
	return false;
}

/* Every thread passes over all pages, and then the bytes are looked at. */
static void life_ends(struct scene *s, bool bounded)
{
	uint64_t goal = work->stored + 2 * THREADS;

	wait_until(work->stored >= goal, WAIT_MS, "the threads of the client go on");
	if (s->life == UNSHARE) {
		long r = puppet_result(s->p);

		/* What the kernel's madvise() may say, too. Then it has to be asked again. */
		if (r == -ENOMEM && s->err)
			r = puppet_call(s->p, fn_madvise, s->a, PAGES * PG, MADV_UNMERGEABLE);
		ck_assert_int_eq(r, 0);
		ck_assert_int_eq(merged(s->p, s->a), 0);
	}
	ck_assert_int_eq(puppet_call(s->p, fn_stop_threads), 0);
	ck_assert_int_eq(puppet_call(s->p, fn_check_block, s->content, SALT), 0);
	s->nr += work->nr;
	if (work->worst_ns > s->worst_ns)
		s->worst_ns = work->worst_ns;
	if (bounded)
		ck_assert_msg(work->worst_ns < BOUND_MS * 1000000ull, "an access took %llu ms",
			      (unsigned long long)work->worst_ns / 1000000);
	ck_assert_int_eq(puppet_call(s->p, fn_munmap, s->a, PAGES * PG), 0);
}

static void q_ends(struct scene *s)
{
	long bad = 0;

	for (long i = 0; i < PAGES; i++)
		bad += puppet_call(s->q, fn_check, s->b + i * PG, 1,
				   content_of(i, s->content, 2 * SALT), 0);
	ck_assert_int_eq(bad, 0);
	ck_assert_int_eq(puppet_call(s->q, fn_munmap, s->b, PAGES * PG), 0);
}

static void scene_end(struct scene *s, const char *what, int least)
{
	/* The last life went by undisturbed. */
	let_store();
	trace_end(&s->t);
	life_ends(s, true);
	q_ends(s);
	printf("%s, %s: %d steps; slowest of %llu accesses %.3f ms\n", life_name[s->life], what,
	       s->steps, (unsigned long long)s->nr, (double)s->worst_ns / 1e6);
	ck_assert_int_ge(s->steps, least);
	offer_both(s);
	wait_merged(s);
	q_ends(s);
	ck_assert_int_eq(puppet_call(s->p, fn_munmap, s->a, PAGES * PG), 0);
	ck_assert_uint_eq(ctl_get_u64(s->d, "ksm/protocol_errors"), 0);
	puppet_end(s->p);
	puppet_end(s->q);
	wait_counter(s->d, "frames_used", 0);
	wait_counter(s->d, "frames_retired", 0);
	daemon_stop(s->d);
}

static const int least_steps[LIVES] = { 25, 10, 10, 20 };

/* ---- what happens there ---- */

START_TEST(daemon_stopped_at_each_step)
{
	struct scene s;

	scene_begin(&s, (enum life)_i);
	for (int n = first_step(); halt_at(&s, &n, 0); n += stride(6)) {
		let_store();
		kill(s.d->pid, SIGSTOP);
		trace_end(&s.t);
		life_ends(&s, true);
		kill(s.d->pid, SIGCONT);
		q_ends(&s);
	}
	scene_end(&s, "the daemon stopped", least_steps[_i]);
}
END_TEST

START_TEST(daemon_killed_at_each_step)
{
	struct scene s;

	scene_begin(&s, (enum life)_i);
	for (int n = first_step(); halt_at(&s, &n, 0); n += stride(9)) {
		let_store();
		daemon_kill(s.d);
		trace_end(&s.t);
		life_ends(&s, true);
		q_ends(&s);
		daemon_restart(s.d, NULL);
		daemon_hasten(s.d);
		wait_until(puppet_call(s.p, fn_connected) == 1, WAIT_MS, "connected again");
	}
	scene_end(&s, "the daemon killed", least_steps[_i]);
}
END_TEST

/* Two others merge while it stands still. */
START_TEST(client_stopped_at_each_step)
{
	struct scene s;
	struct puppet *r;

	scene_begin(&s, (enum life)_i);
	r = puppet_new();
	for (int n = first_step(); halt_at(&s, &n, 0); n += stride(6)) {
		long content = 1000000 + s.content, c, e;

		let_store();
		kill(s.p->pid, SIGSTOP);
		trace_end(&s.t);
		c = puppet_call(s.q, fn_offer_block, content, SALT);
		e = puppet_call(r, fn_offer_block, content, 2 * SALT);
		wait_until(equal_merged(s.q, c) && equal_merged(r, e), WAIT_MS,
			   "others merge meanwhile");
		puppet_call(s.q, fn_munmap, c, PAGES * PG);
		puppet_call(r, fn_munmap, e, PAGES * PG);
		kill(s.p->pid, SIGCONT);
		life_ends(&s, false);
		q_ends(&s);
	}
	s.worst_ns = 0;
	puppet_end(r);
	scene_end(&s, "the client stopped", least_steps[_i]);
}
END_TEST

START_TEST(client_killed_at_each_step)
{
	struct scene s;

	scene_begin(&s, (enum life)_i);
	for (int n = first_step(); halt_at(&s, &n, 0); n += stride(13)) {
		let_store();
		kill(s.p->pid, SIGKILL);
		while (trace_next(&s.t, WAIT_MS) == TRACE_STOP)
			;
		puppet_kill(s.p);
		q_ends(&s);
		wait_counter(s.d, "pages_shared", 0);
		wait_counter(s.d, "pages_sharing", 0);
		wait_counter(s.d, "frames_used", 0);
		ck_assert_uint_eq(ctl_get_u64(s.d, "ksm/protocol_errors"), 0);
		new_p(&s);
	}
	scene_end(&s, "the client killed", least_steps[_i]);
}
END_TEST

static bool sleeps(pid_t tid)
{
	char path[64], text[256] = "";
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0)
		harness_die("%s: %s", path, strerror(errno));
	close(fd);
	return strstr(text, ") S");
}

/*
 * A call that fails after it has unmapped memory leaves a gap: a few microseconds in reality
 * ("Known limits" in docs/design.md), as long as the tracing takes here. No thread may touch that
 * memory in the meantime. Threads that wait for the agent stay in the kernel.
 */
static void threads_rest(void)
{
	work->rest = 1;
	for (int t = 0; t < THREADS; t++)
		wait_until(work->resting[t] || (work->tid[t] && sleeps(work->tid[t])), WAIT_MS,
			   "a thread rests, or waits for the agent");
}

/* Let the call fail, and wait until the memory that it unmapped is back. */
static void let_fail(struct scene *s, int err)
{
	bool takes = trace_fail_takes(&s->t, err);

	if (takes)
		threads_rest();
	trace_fail(&s->t, err);
	while (takes) {
		enum trace_event e = trace_next(&s->t, WAIT_MS);

		ck_assert_int_eq(e, TRACE_STOP);
		/* The last call of mend_hole(), or the move that unshare.c tries again. */
		takes = s->t.entry || (s->t.nr != SYS_mprotect && s->t.nr != SYS_mremap);
	}
	work->rest = 0;
}

/* Past the library. */
static long fn_mlock_raw(const long a[6])
{
	return syscall(a[2] ? SYS_munlock : SYS_mlock, a[0], a[1]) ? -errno : 0;
}

/*
 * The program locks the memory that the agent has in hand; in half of it nothing else happens. The
 * agent then cannot move pages back to their place. Seen to fail (threads wait for ever for pages
 * in the staging area) without copy_back(). The torture found it.
 */
START_TEST(memory_is_locked_at_each_step)
{
	struct scene s;

	scene_begin(&s, (enum life)_i);
	for (int n = first_step();; n += stride(5)) {
		long from, len = PAGES / 2 * PG;

		s.early = n % 2;
		if (!halt_at(&s, &n, 0))
			break;
		from = s.a + n % 4 * 8 * PG;
		let_store();
		puppet_post(s.p, fn_mlock_raw, from, len, 0);
		wait_until(harness_status(s.p->pid, "VmLck") >= len / 1024, WAIT_MS, "locked");
		trace_end(&s.t);
		ck_assert_int_eq(puppet_result(s.p), 0);
		life_ends(&s, true);
		q_ends(&s);
	}
	s.early = false;
	scene_end(&s, "the memory locked", least_steps[_i]);
}
END_TEST

static void sweep_errors(struct scene *s, int err, bool early)
{
	s->early = early;
	for (int n = first_step(); halt_at(s, &n, err); n += stride(9)) {
		let_fail(s, err);
		let_store();
		trace_end(&s->t);
		life_ends(s, true);
		q_ends(s);
		s->faults++;
	}
	s->early = false;
}

/* The next life finds the agent at work again, or does not begin. */
START_TEST(call_fails_at_each_step)
{
	static const int errors[] = { ENOMEM, EINTR, EAGAIN, EBUSY, EMFILE };
	struct scene s;

	scene_begin(&s, (enum life)_i);
	for (int e = 0; e < 5; e++) {
		sweep_errors(&s, errors[e], false);
		/* The last life went by undisturbed. */
		let_store();
		trace_end(&s.t);
		life_ends(&s, true);
		q_ends(&s);
	}
	sweep_errors(&s, ENOMEM, true);
	printf("%d faults\n", s.faults);
	scene_end(&s, "a call fails", least_steps[_i]);
}
END_TEST

/* ---- the daemon lags behind ---- */

/*
 * (addr, content, salt, how): other contents, in new memory at the same place or where it was
 * emptied.
 */
static long fn_replace_block(const long a[6])
{
	void *at = (void *)a[0];

	if (a[3] && ksm_madvise(at, PAGES * PUPPET_PAGE, MADV_DONTNEED))
		return -errno;
	if (!a[3] && (ksm_munmap(at, PAGES * PUPPET_PAGE) ||
		      mmap(at, PAGES * PUPPET_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != at))
		return -errno;
	for (long i = 0; i < PAGES; i++)
		page_fill((char *)at + i * PG, content_of(i, a[1], a[2]));
	return ksm_madvise(at, PAGES * PUPPET_PAGE, MADV_MERGEABLE) ? -errno : 0;
}

/*
 * The daemon scans replaced memory before it hears of the replacement. Seen to fail without
 * look_unseen() in scan.c: the daemon took the pages for the old ones, forgot them with these, and
 * did not look again until a thread wrote to them.
 */
START_TEST(memory_is_replaced_unheard)
{
	struct scene s;

	scene_begin(&s, MERGE);
	offer_both(&s);
	wait_merged(&s);
	for (int i = 0; i < 3; i++) {
		trace_begin(&s.t, trace_find_thread(s.d->pid, "ksmd-client"));
		s.content += PAGES;
		ck_assert_int_eq(puppet_call(s.p, fn_replace_block, s.a, s.content, SALT, _i), 0);
		ck_assert_int_eq(puppet_call(s.q, fn_replace_block, s.b, s.content, 2 * SALT, _i),
				 0);
		wait_full_scans(s.d, 3, WAIT_MS);
		trace_end(&s.t);
		wait_merged(&s);
	}
	puppet_end(s.p);
	puppet_end(s.q);
	wait_counter(s.d, "frames_used", 0);
	daemon_stop(s.d);
}
END_TEST

/* ---- no memory for the daemon ---- */

static bool write_file(const char *dir, const char *name, const char *text)
{
	char path[256];
	bool ok;
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Make a memory cgroup with this limit. False, and SKIP: this machine offers none. */
static bool make_cgroup(char *dir, size_t size, const char *limit)
{
	static const char *const root[] = { "/sys/fs/cgroup/memory", "/sys/fs/cgroup" };
	static const char *const file[] = { "memory.limit_in_bytes", "memory.max" };

	for (int i = 0; i < 2; i++) {
		snprintf(dir, size, "%s/ksmd-test-%d", root[i], (int)getpid());
		if (mkdir(dir, 0755))
			continue;
		if (write_file(dir, file[i], limit))
			return true;
		rmdir(dir);
	}
	printf("SKIP: no memory cgroup can be made\n");
	return false;
}

/* The kernel often kills the daemon here for want of memory. The clients' bytes stay right. */
START_TEST(daemon_in_a_small_cgroup)
{
	enum { BIG = 8192, LIMIT = 8 << 20 };
	char dir[200], text[32];
	struct puppet *p, *q;
	struct daemon *d;
	long a, b;

	snprintf(text, sizeof(text), "%d", LIMIT);
	if (!make_cgroup(dir, sizeof(dir), text))
		return;
	d = daemon_start(NULL);
	snprintf(text, sizeof(text), "%d", (int)d->pid);
	ck_assert(write_file(dir, "cgroup.procs", text));
	daemon_hasten(d);
	p = puppet_new();
	q = puppet_new();
	/* Frames for 32 MiB, which are charged to the daemon. */
	a = puppet_call(p, fn_offer, BIG, 1, 1);
	b = puppet_call(q, fn_offer, BIG, 1, 1);
	wait_until(waitpid(d->pid, NULL, WNOHANG) == d->pid ||
			   (ctl_get(d, "ksm/full_scans", text, sizeof(text)) > 0 &&
			    atoi(text) > 50),
		   WAIT_MS, "it goes on, or is killed");
	d->pid = kill(d->pid, 0) ? 0 : d->pid;
	printf("limit of %d MiB: the daemon %s\n", LIMIT >> 20, d->pid ? "goes on" : "was killed");
	ck_assert_int_eq(puppet_call(p, fn_check, a, BIG, 1, 1), 0);
	puppet_call(p, fn_fill, a, BIG / 2, 500000, 1);
	ck_assert_int_eq(puppet_call(q, fn_check, b, BIG, 1, 1), 0);
	ck_assert_int_eq(puppet_call(p, fn_check, a, BIG / 2, 500000, 1), 0);
	if (d->pid)
		daemon_kill(d);
	daemon_restart(d, NULL); /* without a limit */
	daemon_hasten(d);
	wait_until(puppet_pages_on_frames(p, a + BIG / 2 * PG, BIG / 2) == BIG / 2, WAIT_MS,
		   "merging resumes");
	ck_assert_int_eq(puppet_call(q, fn_check, b, BIG, 1, 1), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
	rmdir(dir);
}
END_TEST

static void add(Suite *suite, const char *name, const TTest *test, int lives)
{
	TCase *t = tcase_create(name);

	tcase_set_timeout(t, 180);
	tcase_add_loop_test(t, test, 0, lives);
	suite_add_tcase(suite, t);
}

int main(void)
{
	Suite *suite = suite_create("faults");
	SRunner *sr;
	int failed;

	if (!trace_possible())
		return 0;
	if (geteuid())
		printf("SKIP: only root may trace a daemon\n");
	else
		add(suite, "daemon_lags", memory_is_replaced_unheard, 2);
	add(suite, "small_cgroup", daemon_in_a_small_cgroup, 1);
	add(suite, "daemon_stopped", daemon_stopped_at_each_step, CONNECT);
	add(suite, "daemon_killed", daemon_killed_at_each_step, CONNECT);
	add(suite, "client_stopped", client_stopped_at_each_step, CONNECT);
	add(suite, "memory_locked", memory_is_locked_at_each_step, 2);
	add(suite, "client_killed", client_killed_at_each_step, LIVES);
	add(suite, "call_fails", call_fails_at_each_step, LIVES);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
