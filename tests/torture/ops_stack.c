/* SPDX-License-Identifier: MIT */
/*
 * ops_stack.c - merged memory as a stack: of signal handlers, where the kernel itself stores the
 * frame, and of coroutines.
 *
 * Before, the pages have contents that others have, too. So they may be frames, or about to become
 * frames, when the first byte is pushed. Nobody can know what a stack leaves behind: the shadow is
 * taken from the memory afterwards.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "tests/torture/actor.h"
#include "tests/torture/ops.h"

#define STACK_PAGES 16 /* the kernel's frame can be 12 KiB, and the functions below want 12 */
#define LOCALS 1024

static _Thread_local uint64_t on_stack_bad;

static void take_shadow(const struct piece *p)
{
	memcpy(piece_shadow(p), piece_mem(p), piece_bytes(p));
}

/* Something on this stack that the program and the kernel store, and that has to stay. */
__attribute__((noinline)) static void use_stack(void)
{
	volatile uint64_t v[LOCALS];
	uint64_t x = rnd(&me->seed) | 1, y = x, in[8];

	for (unsigned int i = 0; i < LOCALS; i++)
		v[i] = rnd(&x);
	nap_us(dice(4) ? dice(500) : dice(20000));
	for (unsigned int i = 0; i < LOCALS; i++)
		on_stack_bad += v[i] != rnd(&y);
	memset(in, 0, sizeof(in));
	x = y;
	for (unsigned int i = 0; i < 8; i++)
		v[i] = rnd(&x);
	if (write(me->pipe[1], (const void *)v, sizeof(in)) != (ssize_t)sizeof(in) ||
	    read(me->pipe[0], in, sizeof(in)) != (ssize_t)sizeof(in))
		on_stack_bad++;
	for (unsigned int i = 0; i < 8; i++)
		on_stack_bad += in[i] != rnd(&y);
}

static void on_signal(int sig)
{
	int keep = errno;

	(void)sig;
	use_stack();
	errno = keep;
}

static void judge(const char *what)
{
	if (on_stack_bad)
		fail_other("%llu wrong values on the stack of a %s",
			   (unsigned long long)on_stack_bad, what);
}

static bool signal_stack(struct piece *p)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_ONSTACK };
	stack_t ss = { .ss_sp = piece_mem(p), .ss_size = piece_bytes(p) }, old;

	make_pipe(me->pipe);
	log_begin(OP_SIGNAL_STACK, p, 0);
	check_pages(p->a, p->first, p->nr, false);
	sigaction(SIGUSR2, &sa, NULL);
	if (sigaltstack(&ss, &old))
		fail_call("sigaltstack", errno);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR2);
	if (sigaltstack(&old, NULL))
		fail_call("sigaltstack back", errno);
	log_end((int64_t)on_stack_bad);
	judge("signal handler");
	take_shadow(p);
	return true;
}

static _Thread_local ucontext_t outer, inner;

static void coroutine_main(void)
{
	use_stack();
	swapcontext(&inner, &outer);
	use_stack();
}

static bool coroutine(struct piece *p)
{
	make_pipe(me->pipe);
	log_begin(OP_COROUTINE, p, 0);
	getcontext(&inner);
	inner.uc_stack.ss_sp = piece_mem(p);
	inner.uc_stack.ss_size = piece_bytes(p);
	inner.uc_link = &outer;
	makecontext(&inner, coroutine_main, 0);
	swapcontext(&outer, &inner);
	nap_us(dice(4) ? dice(500) : dice(30000)); /* suspended: the stack is calm, and live */
	swapcontext(&outer, &inner);
	log_end((int64_t)on_stack_bad);
	judge("coroutine");
	take_shadow(p);
	return true;
}

const struct op_desc ops_stack[] = {
	{ OP_SIGNAL_STACK, 6, NEED_STORE | NEED_PRIVATE, 32, STACK_PAGES, signal_stack },
	{ OP_COROUTINE, 6, NEED_STORE | NEED_PRIVATE, 32, STACK_PAGES, coroutine },
};
const unsigned int nr_ops_stack = sizeof(ops_stack) / sizeof(ops_stack[0]);
