/* SPDX-License-Identifier: MIT */
/*
 * ops_process.c - copies of the process in every way there is, and operations of a process as a
 * whole.
 *
 * A child looks at all memory that it inherited, works on it for a while, and ends, or lives on as
 * an actor of its own. Its parent may be gone by then.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/torture/actor.h"
#include "tests/torture/ops.h"

#define NOBODY 47001
extern char **environ;

struct life life;

/* ---- children that ended ---- */

static void bury(struct kid *k, int status)
{
	struct proc_seat *p = &ctl->p[k->seat];

	if (status && !atomic_load(&p->killed))
		fail_other("child %d ended with status %#x", (int)k->pid, (unsigned int)status);
	atomic_store(&p->state, SEAT_GONE);
	k->pid = 0;
}

/*
 * Has the child ended? The parent buries it before it reaps it. If the parent is killed between the
 * two, it leaves a zombie, and not a seat that no process is in.
 */
static bool has_ended(struct kid *k)
{
	siginfo_t si = { 0 };
	pid_t pid = k->pid;

	if (waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT)) {
		if (errno != EINTR)
			fail_call("waitid", errno);
		return false;
	}
	if (!si.si_pid)
		return false;
	bury(k, si.si_code == CLD_EXITED ? si.si_status << 8 : si.si_status);
	waitpid(pid, NULL, 0);
	return true;
}

void reap_kids(void)
{
	for (unsigned int i = 0; i < KIDS; i++)
		if (me->kid[i].pid)
			has_ended(&me->kid[i]);
}

static struct kid *free_kid(void)
{
	for (unsigned int i = 0; i < KIDS; i++)
		if (!me->kid[i].pid)
			return &me->kid[i];
	return NULL;
}

static void wait_for(struct kid *k)
{
	while (!has_ended(k)) {
		beat();
		nap_us(500);
	}
}

/* ---- the child's side ---- */

static void forget_descriptors(void)
{
	for (unsigned int i = 0; i < THREADS; i++) {
		struct thread *t = &world->thread[i];

		t->pipe[0] = t->pipe[1] = t->sock[0] = t->sock[1] = -1;
	}
}

/* Pipes are the parent's as well: what one of the two writes, the other would read. */
static void close_descriptors(void)
{
	for (unsigned int i = 0; i < THREADS; i++) {
		struct thread *t = &world->thread[i];

		for (unsigned int k = 0; k < 2; k++) {
			if (t->pipe[k] >= 0)
				close(t->pipe[k]);
			if (t->sock[k] >= 0)
				close(t->sock[k]);
		}
	}
	forget_descriptors();
}

/* Take the seat over, with the history of the thread that forked. */
static void child_begin(int seat, bool client)
{
	struct proc_seat *p = &ctl->p[seat];
	const struct thread_seat *old = my_seat();
	struct thread_seat *t = &p->t[me->index];

	memcpy(t->ring, old->ring, sizeof(t->ring)); /* the parent goes on writing to its own */
	t->head = me->head_at_fork;
	world->seat = seat;
	atomic_store(&world->gate, 0);
	atomic_store(&world->gate_wanted, 0);
	atomic_store(&world->leaving, 0);
	close_descriptors();
	for (unsigned int i = 0; i < THREADS; i++) {
		memset(world->thread[i].kid, 0, sizeof(world->thread[i].kid));
		world->thread[i].seed ^= (uint64_t)getpid() * 0x9e3779b97f4a7c15ull;
	}
	areas_after_fork(client);
	p->client = client;
	atomic_store(&t->tid, (int)syscall(SYS_gettid));
	atomic_store(&t->alive, 1);
	atomic_store(&p->pid, getpid());
	atomic_store(&p->state, SEAT_LIVE);
}

/* Areas of threads that did not stop for the fork: their shadows may be of another moment. */
static void forget_others(void)
{
	for (unsigned int i = 0; i < AREAS; i++)
		if (world->area[i].owner != me->index)
			world->area[i].pages = 0;
}

_Noreturn static void child_brief(void)
{
	unsigned int steps = (unsigned int)dice(60);

	world->solo = world->brief = true;
	check_all();
	while (steps-- && atomic_load(&ctl->phase) == PHASE_RUN) {
		life.step();
		if (odds(10))
			nap_us(dice(30000));
	}
	check_all();
	_exit(0);
}

_Noreturn static void child_live(bool raw)
{
	world->brief = false;
	world->solo = raw;
	if (raw)
		world->nr_threads = 1;
	if (raw && me->index) { /* the only thread is the first */
		struct thread *t = &world->thread[0];
		uint8_t old = (uint8_t)me->index;

		t->seed = me->seed;
		atomic_store(&my_seat()->alive, 0);
		for (unsigned int i = 0; i < AREAS; i++)
			if (world->area[i].owner == old)
				world->area[i].owner = 0;
		me = t;
	}
	life.live(me->index);
	__builtin_unreachable();
}

/* ---- the parent's side ---- */

enum how { QUIET = 0, BUSY = 1, RAW = 2 };

static pid_t raw_clone(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	if (odds(50))
		return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
	return (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/*
 * Returns 0 in the child. Returns the kid in the parent, or NULL when there is none; then *none is
 * set.
 */
static struct kid *make_child(enum op op, unsigned int how, bool *child)
{
	struct kid *k = free_kid();
	int seat = k ? seat_take(world->seat) : -1;
	pid_t pid;

	*child = false;
	if (seat < 0)
		return NULL;
	log_begin(op, NULL, how);
	me->head_at_fork = my_seat()->head;
	if (!(how & BUSY))
		gate_close();
	pid = how & RAW ? raw_clone() : fork();
	if (pid == 0) {
		child_begin(seat, !(how & RAW));
		if (how & BUSY)
			forget_others();
		*child = true;
		return NULL;
	}
	if (!(how & BUSY))
		gate_open();
	log_end(pid < 0 ? -errno : pid);
	if (pid < 0) {
		if (errno != EAGAIN && errno != ENOMEM)
			fail_call("fork", errno);
		seat_drop(seat);
		return NULL;
	}
	*k = (struct kid){ pid, seat };
	my_seat()->ops[op]++;
	return k;
}

static bool brief_child(enum op op, unsigned int how)
{
	bool child;
	struct kid *k = make_child(op, how, &child);

	if (child)
		child_brief();
	if (k && odds(50))
		wait_for(k);
	return false; /* counted */
}

static bool fork_check(struct piece *p)
{
	(void)p;
	return brief_child(OP_FORK_CHECK, QUIET);
}

static bool fork_busy(struct piece *p)
{
	(void)p;
	return brief_child(OP_FORK_BUSY, BUSY);
}

/*
 * Fork past the C library. Documented: outside ksm-run this works only where clients have
 * CAP_SYS_PTRACE.
 */
static bool raw_is_allowed(enum op op)
{
	if (calls_are_plain || geteuid() == 0)
		return true;
	if (!ctl->is_root)
		op_lacks(op, EPERM);
	return false;
}

static bool clone_raw(struct piece *p)
{
	(void)p;
	return raw_is_allowed(OP_CLONE_RAW) &&
	       brief_child(OP_CLONE_RAW, RAW | (odds(50) ? BUSY : QUIET));
}

/*
 * Children of the other user are that user's, too. If all were allowed to stay, soon no other actor
 * would be left.
 */
static bool may_stay(void)
{
	return geteuid() == 0 || !ctl->is_root || odds(25);
}

static bool clone_raw_live(struct piece *p)
{
	bool child;

	(void)p;
	if (!raw_is_allowed(OP_CLONE_RAW_LIVE) || !may_stay())
		return false;
	make_child(OP_CLONE_RAW_LIVE, RAW, &child);
	if (child)
		child_live(true);
	return false;
}

static bool fork_live(struct piece *p)
{
	bool child;

	(void)p;
	if (!may_stay())
		return false;
	make_child(OP_FORK_LIVE, QUIET, &child);
	if (child)
		child_live(false);
	return false;
}

/* Fork as daemon(3) does, and with every descriptor closed. */
static bool fork_daemon(struct piece *p)
{
	int seat = may_stay() ? seat_take(-1) : -1, status;
	pid_t pid;

	(void)p;
	if (seat < 0)
		return false;
	log_begin(OP_FORK_DAEMON, NULL, 0);
	me->head_at_fork = my_seat()->head;
	gate_close();
	pid = fork();
	if (pid == 0) {
		setsid();
		pid = fork();
		if (pid)
			_exit(pid < 0 ? 100 : 0);
		child_begin(seat, true);
		close_range(0, ~0u, 0);
		forget_descriptors();
		child_live(false);
	}
	gate_open();
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	log_end(pid);
	if (pid < 0 || WEXITSTATUS(status) == 100) {
		seat_drop(seat);
		return false;
	}
	if (status)
		fail_other("the first child of a daemon ended with status %#x", (unsigned)status);
	my_seat()->ops[OP_FORK_DAEMON]++;
	return false;
}

/* Change to another user, who belongs to another merge domain. */
static bool fork_user(struct piece *p)
{
	bool child;

	(void)p;
	if (geteuid() != 0) {
		if (!ctl->is_root)
			op_lacks(OP_FORK_USER, EPERM);
		return false;
	}
	make_child(OP_FORK_USER, QUIET, &child);
	if (!child)
		return false;
	if (odds(50)) /* in one half of them the agent runs by now */
		nap_us(60000);
	if (setgroups(0, NULL) || setgid(NOBODY) || setuid(NOBODY))
		fail_call("setuid", errno);
	prctl(PR_SET_DUMPABLE, 1);
	child_live(false);
}

static const char *own_program(void)
{
	return calls_are_plain ? ctl->actor_plain : ctl->actor_ksm;
}

static bool fork_exec(struct piece *p)
{
	char fd_arg[16], seat_arg[16];
	bool child;
	int fd;

	(void)p;
	make_child(OP_FORK_EXEC, QUIET, &child);
	if (!child)
		return false;
	check_all();
	fd = open(ctl->ctl_path, O_RDWR);
	if (fd < 0) /* another user may not */
		_exit(0);
	snprintf(fd_arg, sizeof(fd_arg), "%d", fd);
	snprintf(seat_arg, sizeof(seat_arg), "%d", world->seat);
	execl(own_program(), "actor", fd_arg, seat_arg, (char *)NULL);
	_exit(access(own_program(), X_OK) ? 0 : 99);
}

static void expect_end(pid_t pid, const char *what)
{
	int status;
	pid_t r;

	while ((r = waitpid(pid, &status, WNOHANG)) == 0 || (r < 0 && errno == EINTR)) {
		beat();
		nap_us(500);
	}
	if (r != pid || status)
		fail_other("%s: status %#x", what, r == pid ? (unsigned int)status : ~0u);
}

static char *const noop_args[] = { "actor", "--noop", NULL };

/* The child runs on the memory of its parent, and stores there. */
__attribute__((noinline)) static pid_t vfork_and_store(volatile uint8_t *mem, uint8_t value)
{
	pid_t pid = vfork();

	if (pid == 0) {
		*mem = value;
		execve(own_program(), noop_args, environ);
		_exit(99);
	}
	return pid;
}

static bool vfork_exec(struct piece *p)
{
	uint8_t value = (uint8_t)dice(2);
	pid_t pid;

	if (access(own_program(), X_OK))
		return false;
	log_begin(OP_VFORK_EXEC, p, 0);
	pid = vfork_and_store(piece_mem(p) + p->off, value);
	if (pid < 0)
		fail_call("vfork", errno);
	piece_shadow(p)[p->off] = value;
	check_pages(p->a, p->first, p->nr, false);
	expect_end(pid, "vfork and exec");
	log_end(pid);
	return true;
}

static bool spawn(struct piece *p)
{
	pid_t pid;
	int err;

	(void)p;
	if (access(own_program(), X_OK))
		return false;
	log_begin(OP_SPAWN, NULL, 0);
	err = posix_spawn(&pid, own_program(), NULL, NULL, noop_args, environ);
	if (err)
		fail_call("posix_spawn", err);
	expect_end(pid, "posix_spawn");
	log_end(pid);
	my_seat()->ops[OP_SPAWN]++;
	return false;
}

/* ---- the process as a whole ---- */

static void *look(void *arg)
{
	const struct piece *p = arg;

	for (uint32_t i = 0; i < p->nr; i++)
		if (memcmp(piece_mem(p) + i * PG + p->off, piece_shadow(p) + i * PG + p->off,
			   p->len))
			return arg;
	piece_mem(p)[p->off] = piece_shadow(p)[p->off] = 7;
	return NULL;
}

static bool short_thread(struct piece *p)
{
	pthread_t thread;
	void *bad;

	log_begin(OP_THREAD, p, 0);
	if (pthread_create(&thread, NULL, look, p))
		return false;
	pthread_join(thread, &bad);
	log_end(0);
	check_pages(p->a, p->first, p->nr, false);
	if (bad)
		fail_other("a new thread saw other bytes");
	return true;
}

struct offers offers_of_all;

static bool merge_any(struct piece *p)
{
	bool on = odds(75);

	(void)p;
	log_begin(OP_MERGE_ANY, NULL, on);
	atomic_fetch_add(&offers_of_all.begun, on);
	if (call_merge_any(on) && errno != ENOMEM)
		fail_call("merge_any", errno);
	atomic_fetch_add(&offers_of_all.ended, on);
	log_end(0);
	my_seat()->ops[OP_MERGE_ANY]++;
	return false;
}

static bool stat_call(struct piece *p)
{
	(void)p;
	log_begin(OP_STAT, NULL, 0);
	if (call_stat())
		fail_call("ksm_stat", errno);
	log_end(0);
	my_seat()->ops[OP_STAT]++;
	return false;
}

/* Give the area back to malloc; the next look at the areas makes another. */
static bool heap(struct piece *p)
{
	if (!p->a->heap)
		return false;
	log_begin(OP_HEAP, p, 0);
	area_drop(p->a);
	log_end(0);
	return true;
}

const struct op_desc ops_process[] = {
	{ OP_FORK_CHECK, 4, NEED_NOLOCK | NEED_LONE, 1, 1, fork_check },
	{ OP_FORK_BUSY, 8, NEED_NOLOCK | NEED_LONE, 1, 1, fork_busy },
	{ OP_FORK_LIVE, 3, NEED_NOLOCK | NEED_LONE, 1, 1, fork_live },
	{ OP_FORK_DAEMON, 2, NEED_NOLOCK | NEED_LONE, 1, 1, fork_daemon },
	{ OP_FORK_USER, 2, NEED_NOLOCK | NEED_LONE, 1, 1, fork_user },
	{ OP_FORK_EXEC, 2, NEED_NOLOCK | NEED_LONE, 1, 1, fork_exec },
	{ OP_CLONE_RAW, 16, NEED_NOLOCK | NEED_LONE, 1, 1, clone_raw },
	{ OP_CLONE_RAW_LIVE, 3, NEED_NOLOCK | NEED_LONE, 1, 1, clone_raw_live },
	{ OP_VFORK_EXEC, 3, NEED_STORE | NEED_PRIVATE, 8, 1, vfork_exec },
	{ OP_SPAWN, 1, NEED_NOLOCK, 1, 1, spawn },
	{ OP_THREAD, 4, NEED_STORE | NEED_LONE, 64, 1, short_thread },
	{ OP_MERGE_ANY, 1, NEED_NOLOCK, 1, 1, merge_any },
	{ OP_STAT, 3, NEED_NOLOCK, 1, 1, stat_call },
	{ OP_HEAP, 10, NEED_WHOLE | NEED_PRIVATE, 1, 1, heap },
};
const unsigned int nr_ops_process = sizeof(ops_process) / sizeof(ops_process[0]);
