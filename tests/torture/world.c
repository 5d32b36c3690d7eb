/* SPDX-License-Identifier: MIT */
/*
 * world.c - what the threads of an actor share: locks, the log of operations, and the end.
 *
 * A crash is a failure with its address: the actor catches these signals. SIGUSR2 is for handlers
 * on alternate stacks (ops_stack.c).
 */
#include "tests/torture/actor.h"

#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

struct world *world;
_Thread_local struct thread *me;
static _Thread_local struct log_entry *entry;

/* ---- locks that survive a fork by being set to 0 ---- */

static void lock_shared(_Atomic int32_t *l, _Atomic uint32_t *wanted)
{
	for (;;) {
		int32_t n = atomic_load(l);

		if (n >= 0 && !(wanted && atomic_load(wanted)) &&
		    atomic_compare_exchange_weak(l, &n, n + 1))
			return;
		beat();
		nap_us(50);
	}
}

static void lock_exclusive(_Atomic int32_t *l)
{
	int32_t none = 0;

	while (!atomic_compare_exchange_weak(l, &none, -1)) {
		none = 0;
		beat();
		nap_us(50);
	}
}

void gate_enter(void)
{
	lock_shared(&world->gate, &world->gate_wanted);
}

void gate_leave(void)
{
	atomic_fetch_sub(&world->gate, 1);
}

void gate_close(void)
{
	atomic_fetch_add(&world->gate_wanted, 1);
	lock_exclusive(&world->gate);
}

void gate_open(void)
{
	atomic_store(&world->gate, 0);
	atomic_fetch_sub(&world->gate_wanted, 1);
}

void area_lock(struct area *a, bool exclusive)
{
	if (a->owner != AREA_SHARED || world->solo)
		return;
	if (exclusive)
		lock_exclusive(&a->lock);
	else
		lock_shared(&a->lock, NULL);
}

void area_unlock(struct area *a, bool exclusive)
{
	if (a->owner != AREA_SHARED || world->solo)
		return;
	if (exclusive)
		atomic_store(&a->lock, 0);
	else
		atomic_fetch_sub(&a->lock, 1);
}

/* ---- what is known of a thread from outside ---- */

void beat(void)
{
	atomic_fetch_add_explicit(&my_seat()->beat, 1, memory_order_relaxed);
}

void log_begin(enum op op, const struct piece *p, uint64_t arg)
{
	struct thread_seat *t = my_seat();

	entry = &t->ring[t->head % RING];
	*entry = (struct log_entry){ .ns = now_ns(), .op = (uint16_t)op, .arg = arg, .area = 0xff };
	if (p && p->a) {
		entry->area = (uint8_t)(p->a - world->area);
		entry->addr = (uintptr_t)piece_mem(p);
		entry->first = p->first;
		entry->nr = p->nr;
	}
	t->head++;
	beat();
}

void log_end(int64_t res)
{
	entry->res = res;
	entry->done = 1;
	beat();
}

static struct failure *fail_here(enum fail_kind kind)
{
	struct failure *f = &ctl->fail;

	f->kind = kind;
	f->pid = getpid();
	f->tid = (int)syscall(SYS_gettid);
	f->seat = world->seat;
	f->thread = me ? (int)me->index : -1;
	f->op = entry ? entry->op : OP_NR;
	f->addr = entry ? entry->addr : 0;
	return f;
}

_Noreturn static void stop_here(void)
{
	raise(SIGSTOP); /* to be examined */
	_exit(1);
}

void fail_call(const char *what, long err)
{
	if (failure_begin()) {
		struct failure *f = fail_here(FAIL_CALL);

		snprintf(f->text, sizeof(f->text), "%s: %s", what, strerrorname_np((int)err));
		failure_end();
	}
	stop_here();
}

void fail_other(const char *fmt, ...)
{
	va_list ap;

	if (failure_begin()) {
		struct failure *f = fail_here(FAIL_OTHER);

		va_start(ap, fmt);
		vsnprintf(f->text, sizeof(f->text), fmt, ap);
		va_end(ap);
		failure_end();
	}
	stop_here();
}

static void on_crash(int sig, siginfo_t *si, void *context)
{
	const ucontext_t *uc = context;

	if (failure_begin()) {
		struct failure *f = fail_here(FAIL_CRASH);

		f->addr = (uintptr_t)si->si_addr;
		f->aux = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
		snprintf(f->text, sizeof(f->text), "%s, code %d", strsignal(sig), si->si_code);
		failure_end();
	}
	stop_here();
}

void op_lacks(enum op op, int err)
{
	atomic_store(&ctl->lacks[op], (uint32_t)err);
}

/* ---- start ---- */

void world_catch_crashes(void)
{
	static char stack[65536] __attribute__((aligned(4096)));
	struct sigaction sa = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	static const int sigs[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT };

	sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof(stack) }, NULL);
	for (unsigned int i = 0; i < sizeof(sigs) / sizeof(sigs[0]); i++)
		sigaction(sigs[i], &sa, NULL);
}

bool world_make(int seat)
{
	size_t shadows = (size_t)AREAS * AREA_PAGES * PG, size = (sizeof(*world) + PG - 1) & -PG;
	int fd = memfd_create("torture-world", MFD_CLOEXEC);
	uint8_t *p;

	if (fd < 0 || ftruncate(fd, (off_t)(size + shadows)))
		return false;
	p = mmap(NULL, size + shadows, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	close(fd);
	if (p == MAP_FAILED)
		return false;
	world = (struct world *)p;
	world->seat = seat;
	for (unsigned int i = 0; i < AREAS; i++)
		world->area[i].shadow = p + size + (size_t)i * AREA_PAGES * PG;
	return true;
}

void world_seed(void)
{
	uint64_t x = ctl->seed * 1000003 + (uint64_t)world->seat * 97 +
		     ctl->p[world->seat].generation * 8191u + 1;

	for (int i = 0; i < 10; i++)
		rnd(&x);
	world->nr_threads = 1 + (uint32_t)rnd_below(&x, THREADS);
	for (uint32_t i = 0; i < THREADS; i++) {
		struct thread *t = &world->thread[i];

		t->index = i;
		t->seed = rnd(&x) | 1;
		t->pipe[0] = t->pipe[1] = t->sock[0] = t->sock[1] = -1;
	}
}
