/* SPDX-License-Identifier: MIT */
/*
 * test_ends.c - programs come to the end that they come to without merging.
 *
 * What some programs offer here is unusual: memory that they have sealed, memory at the last
 * address that a program can have. The program neither hangs nor loses a byte, and its calls answer
 * what they answer on memory that nobody merges.
 *
 * Others know nothing of merging. The test starts itself again as such a program ("--inside NAME",
 * see `programs`), once as it is and once under ksm-run with an agent that runs. Both times it must
 * print the same and end in the same way.
 */
#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <ucontext.h>
#include <unistd.h>

#include "client/sysc.h"
#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

#ifndef SYS_mseal
#define SYS_mseal 462 /* since Linux 6.10, the same everywhere */
#endif

static const long PG = PUPPET_PAGE;
static char self[4096]; /* path of this program */
static bool covered_here;
enum { NR = 150 }; /* more than two blocks of 64, and no multiple */

/* ---- sealed memory ---- */

static long fn_seal(const long a[6])
{
	return syscall(SYS_mseal, a[0], a[1], 0) ? -errno : 0;
}

/* Also in a child, and the fork itself comes back: pages that hold other bytes there, or -1. */
static long fn_check_in_child(const long a[6])
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn_check(a) != 0);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool can_seal(void)
{
	return !syscall(SYS_mseal, 0, 0, 0);
}

/* Both processes have the same NR pages; those of the first are sealed before they are offered. */
START_TEST(sealed_memory_stays_as_it_is)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_map, NR), b;

	daemon_hasten(d);
	puppet_call(p, fn_fill, a, NR, 1, 1);
	ck_assert_int_eq(puppet_call(p, fn_seal, a, NR * PG), 0);
	ck_assert_int_eq(puppet_call(p, fn_madvise, a, NR * PG, MADV_MERGEABLE), 0);
	b = puppet_call(q, fn_offer, NR, 1, 1);
	ck_assert_int_gt(b, 0);
	wait_until(ctl_client_u64(d, p->pid, "left_out/sealed") == NR, WAIT_MS, "counted");
	ck_assert_int_eq(puppet_call(p, fn_check, a, NR, 1, 1), 0);
	ck_assert_int_eq(puppet_call(p, fn_check_in_child, a, NR, 1, 1), 0);
	ck_assert_int_eq(puppet_pages_on_frames(p, a, NR), 0);
	puppet_call(p, fn_fill, a, NR, 7, 1);
	ck_assert_int_eq(puppet_call(p, fn_check, a, NR, 7, 1), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, NR, 1, 1), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

struct sealed {
	struct daemon *d;
	struct puppet *p, *q;
	long a, b;
};

/* Merged first, then sealed in the first process, with protection `prot`. */
static struct sealed merged_and_sealed(int prot)
{
	struct sealed t = { .d = daemon_start(NULL), .p = puppet_new(), .q = puppet_new() };

	daemon_hasten(t.d);
	t.a = puppet_call(t.p, fn_offer, NR, 1, 1);
	t.b = puppet_call(t.q, fn_offer, NR, 1, 1);
	wait_until(puppet_pages_on_frames(t.p, t.a, NR) == NR, WAIT_MS, "merged");
	ck_assert_int_eq(puppet_call(t.p, fn_mprotect, t.a, NR * PG, prot), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_seal, t.a, NR * PG), 0);
	return t;
}

static void end_sealed(struct sealed *t)
{
	puppet_end(t->p);
	puppet_end(t->q);
	wait_counter(t->d, "pages_shared", 0);
	daemon_stop(t->d);
}

static const int prots[] = { PROT_READ | PROT_WRITE, PROT_READ };

/* The calls say what the kernel says of sealed memory, and leave it as it was. */
START_TEST(calls_on_sealed_memory)
{
	struct sealed t = merged_and_sealed(prots[_i]);
	bool writable = prots[_i] & PROT_WRITE;
	long to = puppet_call(t.p, fn_map, 2 * NR);

	puppet_call(t.p, fn_fill, to, 1, 99, 1);
	ck_assert_int_eq(puppet_call(t.p, fn_munmap, t.a, NR * PG), -EPERM);
	ck_assert_int_eq(puppet_call(t.p, fn_mprotect, t.a, NR * PG, PROT_NONE), -EPERM);
	ck_assert_int_eq(puppet_call(t.p, fn_mremap, t.a, NR * PG, 2 * NR * PG, MREMAP_MAYMOVE),
			 -EPERM);
	ck_assert_int_eq(puppet_call(t.p, fn_mremap, t.a, NR * PG, NR * PG,
				     MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 -EPERM);
	ck_assert_int_eq(puppet_call(t.p, fn_check, to, 1, 99, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_madvise, t.a, 10 * PG, MADV_DONTNEED),
			 writable ? 0 : -EPERM);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, 10, writable ? 0 : 1, !writable), 0);
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a + 10 * PG, NR - 10, 11, 1), 0);
	end_sealed(&t);
}
END_TEST

/* Sharing ends, by the program's wish or the operator's. */
START_TEST(sealed_memory_is_given_back)
{
	struct sealed t = merged_and_sealed(prots[_i % 2]);

	if (_i < 2) {
		ck_assert_int_eq(puppet_call(t.p, fn_madvise, t.a, NR * PG, MADV_UNMERGEABLE), 0);
	} else {
		ck_assert_int_eq(ctl_set(t.d, "ksm/run", "2"), 0);
		wait_counter(t.d, "pages_shared", 0);
	}
	ck_assert_int_eq(puppet_call(t.p, fn_check, t.a, NR, 1, 1), 0);
	if (pfns_visible())
		ck_assert_int_eq(pages_sharing_frames(t.p, t.a, t.q, t.b, NR), 0);
	end_sealed(&t);
}
END_TEST

/* ---- addresses ---- */

static long fn_map_at(const long a[6])
{
	void *p = ksm_mmap((void *)a[0], (size_t)(a[1] * PG), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == MAP_FAILED ? -errno : (long)p;
}

/* The block of 64 pages ends behind what a program can have. */
START_TEST(last_addresses_merge)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long end = (1l << 47) - PG, nr = 8, b;
	long a = puppet_call(p, fn_map_at, end - nr * PG, nr);

	daemon_hasten(d);
	if (a == -EEXIST || a == -ENOMEM) { /* the stack is there, or other addresses end */
		printf("SKIP: the last addresses are taken\n");
	} else {
		ck_assert_int_eq(a, end - nr * PG);
		puppet_call(p, fn_fill, a, nr, 1, 1);
		ck_assert_int_eq(puppet_call(p, fn_madvise, a, nr * PG, MADV_MERGEABLE), 0);
		b = puppet_call(q, fn_offer, nr, 1, 1);
		wait_counter(d, "pages_sharing", nr);
		ck_assert_int_eq(puppet_call(p, fn_check, a, nr, 1, 1), 0);
		ck_assert_int_eq(puppet_call(q, fn_check, b, nr, 1, 1), 0);
	}
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* ---- programs ---- */

/* Threads of this process, one that has ended and waits for the others included. */
static int nr_threads(void)
{
	struct stat st;

	return stat("/proc/self/task", &st) ? -1 : (int)st.st_nlink - 2;
}

static void print_at_exit(void)
{
	printf("handlers ran\n");
}

/* Not through the C library's syscall(), which ksm-run sees. */
static void exit_by_kernel(int status)
{
	sysc1(SYS_exit, status);
}

static void *leave_later(void *arg)
{
	usleep(300000);
	printf("other thread\n");
	return arg;
}

static void *exit_by_kernel_later(void *arg)
{
	leave_later(NULL);
	fflush(stdout);
	exit_by_kernel(4);
	return arg;
}

static void start_thread(void *(*fn)(void *arg))
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, NULL) || pthread_detach(t))
		_exit(99);
}

static int first_thread_last(void)
{
	pthread_exit(NULL);
}

static int first_thread_last_c11(void)
{
	thrd_exit(0);
}

static int other_thread_last(void)
{
	start_thread(leave_later);
	pthread_exit(NULL);
}

static int other_thread_last_by_kernel(void)
{
	start_thread(exit_by_kernel_later);
	pthread_exit(NULL);
}

static int raw_exit(void)
{
	exit_by_kernel(3);
	return 98;
}

static int raw_exit_by_syscall(void)
{
	syscall(SYS_exit, 5);
	return 98;
}

static int raw_exit_other_last(void)
{
	start_thread(leave_later);
	exit_by_kernel(6);
	return 98;
}

static void say(const char *what, long r)
{
	printf("%s: %s\n", what, r < 0 ? strerror(errno) : "ok");
}

/* What a process of one thread alone may do. */
static int namespaces(void)
{
	say("setns", setns(open("/proc/self/ns/mnt", O_RDONLY), CLONE_NEWNS));
	say("VM", unshare(CLONE_VM));
	say("THREAD", unshare(CLONE_THREAD));
	say("NEWUSER", unshare(CLONE_NEWUSER));
	return 0;
}

static int namespaces_by_number(void)
{
	say("NEWUSER", syscall(SYS_unshare, CLONE_NEWUSER));
	return 0;
}

/* The C library insists that all threads agree on what setgid() answers. */
static int gives_up_rights(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { 0 };

	say("KEEPCAPS", prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));
	say("setresuid", setresuid(65534, 65534, 65534));
	say("capget", syscall(SYS_capget, &h, d));
	for (int i = 0; i < 2; i++)
		d[i].effective = d[i].permitted;
	say("capset", syscall(SYS_capset, &h, d));
	say("setresgid", setresgid(65534, 65534, 65534));
	return 0;
}

/* The same value of `key` in every thread's status? */
static bool threads_agree(const char *key)
{
	DIR *tasks = opendir("/proc/self/task");
	long first = -1, v;
	bool agree = tasks;

	for (struct dirent *e; agree && (e = readdir(tasks));) {
		char path[300], line[256];
		FILE *f;

		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		f = e->d_name[0] == '.' ? NULL : fopen(path, "r");
		while (f && fgets(line, sizeof(line), f))
			if (!strncmp(line, key, strlen(key)) &&
			    sscanf(line + strlen(key), ":%lx", &v) == 1) {
				agree &= first == -1 || v == first;
				first = v;
			}
		if (f)
			fclose(f);
	}
	if (tasks)
		closedir(tasks);
	return agree;
}

static int has_no_more_rights(void)
{
	struct __user_cap_header_struct h = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct d[2] = { 0 };

	say("NO_NEW_PRIVS", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	say("capset", syscall(SYS_capset, &h, d));
	printf("%d %d\n", threads_agree("NoNewPrivs"), threads_agree("CapEff"));
	return 0;
}

enum { THREADS_MAX = 16 };

/* Their IDs, without the caller's. Returns how many. */
static int other_threads(int id[THREADS_MAX])
{
	DIR *tasks = opendir("/proc/self/task");
	int nr = 0;

	for (struct dirent *e; tasks && (e = readdir(tasks));)
		if (e->d_name[0] != '.' && atoi(e->d_name) != gettid() && nr < THREADS_MAX)
			id[nr++] = atoi(e->d_name);
	if (tasks)
		closedir(tasks);
	return nr;
}

/*
 * Landlock shows nowhere what holds for a thread. So no thread may be there that was there before:
 * it would open what this one may not. (Files may still be opened, or the look would fail.)
 */
static int locks_itself_in(void)
{
	const struct landlock_ruleset_attr attr = { .handled_access_fs =
							    LANDLOCK_ACCESS_FS_MAKE_SOCK };
	int before[THREADS_MAX], nr, left = 0;
	long fd = syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	say("ruleset", fd);
	say("NO_NEW_PRIVS", prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	while (!(nr = other_threads(before)) && covered_here) /* the agent begins again */
		usleep(1000);
	say("restrict_self", syscall(SYS_landlock_restrict_self, fd, 0));
	for (int i = 0; i < nr; i++)
		left += !syscall(SYS_tgkill, getpid(), before[i], 0);
	printf("%d\n", left);
	return 0;
}

/* So often that the agent does not begin again. */
static int changes_all_the_time(void)
{
	long failed = 0;

	for (int i = 0; i < 200; i++)
		failed += prctl(PR_SET_KEEPCAPS, i % 2, 0, 0, 0) != 0;
	printf("%ld failed, %d\n", failed, nr_threads() <= 2);
	return 0;
}

static _Atomic bool over;

static void *change_user(void *arg)
{
	while (!over)
		if (setresuid((uid_t)-1, (uid_t)-1, (uid_t)-1))
			_exit(94);
	return arg;
}

/* The C library has each thread take part in that, also one that ends. */
static int changes_while_users_change(void)
{
	pthread_t t;

	if (pthread_create(&t, NULL, change_user, NULL))
		return 93;
	for (int i = 0; i < 10; i++) {
		if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0))
			return 92;
		usleep(20000);
	}
	over = true;
	return pthread_join(t, NULL);
}

static char quiet[16 * 4096] __attribute__((aligned(4096))); /* nobody has offered it */

/* Calls about single pages, for which the library would like to read /proc/self/maps. */
static int calls_about_pages(void)
{
	char *known =
		mmap(NULL, 64 * PG, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(quiet, 1, sizeof(quiet));
	memset(known, 2, 64 * PG);
	say("mlock", mlock(quiet, PG));
	say("mlock known", mlock(known, PG));
	say("DONTDUMP", madvise(quiet + 2 * PG, PG, MADV_DONTDUMP));
	say("DONTFORK", madvise(quiet + 4 * PG, PG, MADV_DONTFORK));
	say("WIPEONFORK", madvise(quiet + 6 * PG, PG, MADV_WIPEONFORK));
	say("DONTDUMP known", madvise(known + 8 * PG, PG, MADV_DONTDUMP));
	say("MERGEABLE", madvise(quiet + 8 * PG, PG, MADV_MERGEABLE));
	say("MERGEABLE known", madvise(known, 32 * PG, MADV_MERGEABLE));
	say("gap", madvise(known, 1l << 40, MADV_MERGEABLE));
	say("mlockall", mlockall(MCL_CURRENT));
	say("munlockall", munlockall());
	return 0;
}

static int no_descriptors(void)
{
	struct rlimit few = { 64, 64 };

	setrlimit(RLIMIT_NOFILE, &few);
	while (open("/dev/null", O_RDONLY) >= 0)
		;
	return calls_about_pages();
}

static int no_proc(void)
{
	if (chroot("/usr") || chdir("/"))
		printf("chroot: %s\n", strerror(errno));
	return calls_about_pages();
}

static ucontext_t back, small;

static void call_on_small_stack(void)
{
	say("mlock", mlock(quiet, PG));
	say("DONTDUMP", madvise(quiet, PG, MADV_DONTDUMP));
	say("MERGEABLE", madvise(quiet, PG, MADV_MERGEABLE));
}

/* A guard page lies below. printf() takes a part of it, too. */
static int small_stack(void)
{
	char *p = mmap(NULL, 4 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);

	if (p == MAP_FAILED || mprotect(p + PG, 2 * PG, PROT_READ | PROT_WRITE))
		return 94;
	memset(quiet, 1, sizeof(quiet));
	say("before", 0);
	getcontext(&small);
	small.uc_stack.ss_sp = p + PG;
	small.uc_stack.ss_size = 2 * (size_t)PG;
	small.uc_link = &back;
	makecontext(&small, call_on_small_stack, 0);
	return swapcontext(&back, &small);
}

/* Each is for the process, and blocked until somebody asks: the agent must not take it. */
static int waits_for_signals(void)
{
	const int nr[] = { SIGURG, SIGSTKFLT, SIGUSR1, SIGWINCH, SIGCHLD };
	union sigval v = { .sival_int = 4711 };
	siginfo_t si;
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int i = 0; i < 50; i++) {
		int sig = nr[i % 5], r;

		r = i % 2 ? kill(getpid(), sig) : sigqueue(getpid(), sig, v);
		usleep(2000); /* so that the agent has time */
		if (r || sigtimedwait(&all, &si, &(struct timespec){ WAIT_MS / 1000, 0 }) != sig) {
			printf("signal %d: %s\n", sig, strerror(errno));
			return 91;
		}
		printf("%d", i % 2 ? si.si_code : si.si_value.sival_int / 4711);
	}
	return 0;
}

/* ---- what the kernel writes for a thread that ends ---- */

enum { NR_THREADS = 64, STACK_PAGES = 32, WORDS_S = 2 };

static void *dies_holding(void *mutex)
{
	pthread_mutex_lock(mutex);
	return NULL;
}

static void *does_nothing(void *arg)
{
	return arg;
}

static char *fresh_pages(void)
{
	char *p = mmap(NULL, NR_THREADS * STACK_PAGES * PG, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		_exit(93);
	return p;
}

static struct timespec in_seconds(int s)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += s;
	return ts;
}

/* Their owners end without giving them up. Returns how many nobody gets any more. */
static int lost_mutexes(pthread_mutex_t *m[NR_THREADS])
{
	struct timespec patience = in_seconds(20);
	pthread_t t[NR_THREADS];
	int lost = 0;

	for (int i = 0; i < NR_THREADS; i++) {
		if (pthread_create(&t[i], NULL, dies_holding, m[i]))
			_exit(92);
		if (i % 8 == 7)
			usleep(1000);
	}
	for (int i = 0; i < NR_THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < NR_THREADS && !lost; i++) {
		lost += pthread_mutex_timedlock(m[i], &patience) != EOWNERDEAD;
		pthread_mutex_consistent(m[i]);
		pthread_mutex_unlock(m[i]);
	}
	return lost;
}

/* Mutexes in memory of equal pages, which is merged meanwhile. */
static int robust_mutexes(void)
{
	struct timespec end = in_seconds(WORDS_S);
	int lost = 0;

	while (time(NULL) < end.tv_sec && !lost) {
		char *p = fresh_pages();
		pthread_mutex_t *m[NR_THREADS];
		pthread_mutexattr_t a;

		pthread_mutexattr_init(&a);
		pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
		for (int i = 0; i < NR_THREADS; i++) {
			m[i] = (void *)(p + i * PG);
			pthread_mutex_init(m[i], &a);
		}
		for (int i = 0; i < 20 && !lost; i++) {
			lost = lost_mutexes(m);
			usleep(15000);
		}
		munmap(p, NR_THREADS * STACK_PAGES * PG);
	}
	printf("%d lost\n", lost);
	return 0;
}

/* Threads on stacks in such memory, and what pthread_join() waits for in it. */
static int stacks_of_its_own(void)
{
	struct timespec end = in_seconds(WORDS_S);
	int lost = 0;

	while (time(NULL) < end.tv_sec && !lost) {
		char *p = fresh_pages();
		pthread_t t[NR_THREADS];
		struct timespec patience;

		for (int i = 0; i < NR_THREADS; i++) {
			pthread_attr_t a;

			pthread_attr_init(&a);
			pthread_attr_setstack(&a, p + i * STACK_PAGES * PG, STACK_PAGES * PG);
			if (pthread_create(&t[i], &a, does_nothing, NULL))
				_exit(92);
			if (i % 8 == 7)
				usleep(1000);
		}
		patience = in_seconds(20);
		for (int i = 0; i < NR_THREADS && !lost; i++)
			lost += pthread_timedjoin_np(t[i], NULL, &patience) != 0;
		munmap(p, NR_THREADS * STACK_PAGES * PG);
	}
	printf("%d lost\n", lost);
	return 0;
}

static const struct {
	const char *name;
	int (*fn)(void);
} programs[] = {
#define PROGRAM(f)                                                                                 \
	{                                                                                          \
#f, f                                                                              \
	}
	PROGRAM(first_thread_last),
	PROGRAM(first_thread_last_c11),
	PROGRAM(other_thread_last),
	PROGRAM(other_thread_last_by_kernel),
	PROGRAM(raw_exit),
	PROGRAM(raw_exit_by_syscall),
	PROGRAM(raw_exit_other_last),
	PROGRAM(namespaces),
	PROGRAM(namespaces_by_number),
	PROGRAM(gives_up_rights),
	PROGRAM(has_no_more_rights),
	PROGRAM(locks_itself_in),
	PROGRAM(changes_all_the_time),
	PROGRAM(changes_while_users_change),
	PROGRAM(no_descriptors),
	PROGRAM(no_proc),
	PROGRAM(small_stack),
	PROGRAM(robust_mutexes),
	PROGRAM(stacks_of_its_own),
	PROGRAM(waits_for_signals),
#undef PROGRAM
};
enum { NR_PROGRAMS = sizeof(programs) / sizeof(programs[0]) };

/* covered: only when the agent is there. There is one once a program has so much memory. */
static int inside(const char *name, bool covered)
{
	if (mmap(NULL, 2 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
	    MAP_FAILED)
		_exit(94);
	for (int i = 0; covered && nr_threads() != 2; i++) {
		if (i > WAIT_MS / 10)
			_exit(97);
		usleep(10000);
	}
	covered_here = covered;
	atexit(print_at_exit);
	for (size_t i = 0; i < NR_PROGRAMS; i++)
		if (!strcmp(programs[i].name, name))
			return programs[i].fn();
	return 96;
}

struct outcome {
	int status;
	char out[512]; /* what it printed */
};

static struct outcome run(const char *name, bool covered)
{
	const char *kind = covered ? "--covered" : "--inside";
	struct outcome o = { 0 };
	size_t have = 0;
	int fd[2];
	pid_t pid;
	ssize_t n;

	ck_assert_int_eq(pipe(fd), 0);
	pid = fork();
	ck_assert_int_ge(pid, 0);
	if (!pid) {
		dup2(fd[1], 1);
		close(fd[0]);
		close(fd[1]);
		if (covered)
			execl(build_path("ksm-run"), "ksm-run", self, kind, name, NULL);
		else
			execl(self, self, kind, name, NULL);
		_exit(95);
	}
	close(fd[1]);
	while (have < sizeof(o.out) - 1 &&
	       (n = read(fd[0], o.out + have, sizeof(o.out) - 1 - have)) > 0)
		have += (size_t)n;
	close(fd[0]);
	ck_assert_int_eq(waitpid(pid, &o.status, 0), pid);
	return o;
}

START_TEST(ends_as_without)
{
	struct daemon *d = daemon_start(NULL);
	struct outcome want, is;

	daemon_hasten(d);
	want = run(programs[_i].name, false);
	is = run(programs[_i].name, true);
	ck_assert_msg(want.status == is.status, "%s: status %x and not %x", programs[_i].name,
		      is.status, want.status);
	ck_assert_str_eq(is.out, want.out);
	daemon_stop(d);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("ends");
	TCase *sealed = tcase_create("sealed"), *addresses = tcase_create("addresses");
	TCase *tc_programs = tcase_create("programs");
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	SRunner *sr;
	int failed;

	if (n < 0)
		return 1;
	if (argc == 3)
		return inside(argv[2], !strcmp(argv[1], "--covered"));
	tcase_set_timeout(tc_programs, 2.0 * WAIT_MS / 1000);
	tcase_set_timeout(sealed, 2.0 * WAIT_MS / 1000);
	tcase_set_timeout(addresses, 2.0 * WAIT_MS / 1000);
	if (can_seal()) {
		tcase_add_test(sealed, sealed_memory_stays_as_it_is);
		tcase_add_loop_test(sealed, calls_on_sealed_memory, 0, 2);
		tcase_add_loop_test(sealed, sealed_memory_is_given_back, 0, 4);
	} else {
		printf("SKIP: this kernel has no mseal(2)\n");
	}
	tcase_add_test(addresses, last_addresses_merge);
	suite_add_tcase(s, sealed);
	if (!SANITIZED)
		tcase_add_loop_test(tc_programs, ends_as_without, 0, NR_PROGRAMS);
	suite_add_tcase(s, addresses);
	suite_add_tcase(s, tc_programs);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
