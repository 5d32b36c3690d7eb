/* SPDX-License-Identifier: MIT */
/*
 * process.c - copies of a process, and prctl.
 *
 * fork(3) tells the client library through pthread_atfork, which puts all in order in the child.
 * The interposer adds the agent of the child. A handler cannot start it, because starting a thread
 * allocates, and the handlers of an allocator that was there first run after ours. So it starts
 * when fork returns.
 *
 * _Fork(3) and clone(2) without CLONE_VM call no handlers. The interposers take the same three
 * steps by hand. A child of theirs has no agent: it keeps what it inherited, and merges nothing
 * more. With CLONE_VM (vfork, threads) there is one address space, and nothing to do. CLONE_VFORK
 * without CLONE_VM copies and then waits for the child, without the library's lock.
 */
#include "preload/process.h"

#include <linux/seccomp.h>
#include <pty.h>
#include <sched.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "client/client.h"
#include "preload/exec.h"
#include "preload/malloc.h"
#include "preload/occasion.h"
#include "preload/preload.h"
#include "preload/rights.h"
#include "wire/kernel_abi.h"

typedef pid_t (*fork_fn)(void);
typedef int (*daemon_fn)(int, int);
typedef pid_t (*forkpty_fn)(int *, char *, const struct termios *, const struct winsize *);
typedef int (*clone_fn)(int (*)(void *), void *, int, void *, ...);

static void *next_fork, *next__fork, *next_daemon, *next_forkpty, *next_clone;

void process_resolve(void)
{
	preload_next(&next_fork, "fork");
	preload_next(&next__fork, "_Fork");
	preload_next(&next_daemon, "daemon");
	preload_next(&next_forkpty, "forkpty");
	preload_next(&next_clone, "clone");
}

static pid_t start_agent_in_child(pid_t pid)
{
	int keep = errno;

	if (pid == 0)
		occasion_in_child();
	else
		occasion();
	errno = keep;
	return pid;
}

EXPORT pid_t fork(void)
{
	return start_agent_in_child(((fork_fn)preload_next(&next_fork, "fork"))());
}

EXPORT_ALIAS(__fork, fork);

EXPORT int daemon(int nochdir, int noclose)
{
	return start_agent_in_child(
		((daemon_fn)preload_next(&next_daemon, "daemon"))(nochdir, noclose));
}

EXPORT pid_t forkpty(int *amaster, char *name, const struct termios *termp,
		     const struct winsize *winp)
{
	return start_agent_in_child(
		((forkpty_fn)preload_next(&next_forkpty, "forkpty"))(amaster, name, termp, winp));
}

EXPORT pid_t _Fork(void)
{
	fork_fn real = (fork_fn)preload_next(&next__fork, "_Fork");
	pid_t pid;

	if (!preload_active())
		return real();
	ksmc_fork_prepare();
	pid = real();
	if (pid == 0)
		ksmc_fork_child();
	else
		ksmc_fork_parent();
	return pid;
}

/* ---- clone ---- */

static long clone_and_wait(long nr, long a, long b, long c, long d, long e)
{
	struct ksmc_vfork v;
	long r;

	ksmc_vfork_prepare(&v);
	r = sysc5(nr, a, b, c, d, e);
	if (r == 0)
		ksmc_vfork_child(&v);
	else
		ksmc_vfork_parent(&v);
	return r;
}

long proc_clone(long nr, long a, long b, long c, long d, long e, enum copy_kind kind)
{
	long r;

	if (kind == COPY_NONE || !preload_active())
		return sysc5(nr, a, b, c, d, e);
	if (kind == COPY_AND_WAIT)
		return clone_and_wait(nr, a, b, c, d, e);
	ksmc_fork_prepare();
	r = sysc5(nr, a, b, c, d, e);
	if (r == 0)
		ksmc_fork_child();
	else
		ksmc_fork_parent();
	return r;
}

struct clone_start {
	int (*fn)(void *);
	void *arg;
	bool waits;
	struct ksmc_vfork v;
};

/* First in the child, which has a copy of the parent's stack to read `start` from. */
static int clone_child(void *arg)
{
	struct clone_start *start = arg;

	if (start->waits)
		ksmc_vfork_child(&start->v);
	else
		ksmc_fork_child();
	return start->fn(start->arg);
}

EXPORT int clone(int (*fn)(void *), void *stack, int flags, void *arg, ...)
{
	clone_fn real = (clone_fn)preload_next(&next_clone, "clone");
	struct clone_start start = { .fn = fn, .arg = arg, .waits = flags & CLONE_VFORK };
	void *ptid, *tls, *ctid;
	va_list ap;
	int r;

	va_start(ap, arg);
	ptid = va_arg(ap, void *);
	tls = va_arg(ap, void *);
	ctid = va_arg(ap, void *);
	va_end(ap);
	if ((flags & CLONE_VM) || !fn || !stack || !preload_active())
		return real(fn, stack, flags, arg, ptid, tls, ctid);
	if (start.waits)
		ksmc_vfork_prepare(&start.v);
	else
		ksmc_fork_prepare();
	r = real(clone_child, stack, flags, &start, ptid, tls, ctid);
	if (start.waits)
		ksmc_vfork_parent(&start.v);
	else
		ksmc_fork_parent();
	return r;
}

EXPORT_ALIAS(__clone, clone);

/* ---- prctl ---- */

long proc_merge_any(bool enable)
{
	long r = ksmc_set_merge_any(enable);

	if (r)
		return r;
	exec_note_merge_any(enable);
	if (enable) {
		malloc_offer_heap();
		ksmc_start_agent();
	}
	return 0;
}

long proc_prctl(int op, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
{
	long r;

	if (op == PR_SET_SECCOMP)
		return rights_filter(SYS_prctl, op, (long)a, (long)b, (long)c, (long)d,
				     a == SECCOMP_MODE_FILTER ? (const void *)b : NULL);
	if (rights_prctl(op))
		return rights_call(SYS_prctl, op, (long)a, (long)b, (long)c, (long)d);
	if (op == KABI_PR_SET_VMA && a == KABI_PR_SET_VMA_ANON_NAME && preload_active())
		return ksmc_name((void *)b, c, (const char *)d);
	if ((op != PR_SET_MEMORY_MERGE && op != PR_GET_MEMORY_MERGE) || !preload_active())
		return sysc5(SYS_prctl, op, a, b, c, d);
	if (b || c || d || (op == PR_GET_MEMORY_MERGE && a))
		return -EINVAL;
	if (op == PR_GET_MEMORY_MERGE)
		return ksmc_get_merge_any();
	r = proc_merge_any(a != 0);
	if (a)
		ksmc_connect_at_once();
	return r;
}

EXPORT int prctl(int op, ...)
{
	unsigned long a, b, c, d;
	va_list ap;

	va_start(ap, op);
	a = va_arg(ap, unsigned long);
	b = va_arg(ap, unsigned long);
	c = va_arg(ap, unsigned long);
	d = va_arg(ap, unsigned long);
	va_end(ap);
	return (int)preload_ret(proc_prctl(op, a, b, c, d));
}
