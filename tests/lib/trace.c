/* SPDX-License-Identifier: MIT */
/*
 * trace.c - see trace.h.
 *
 * To make a call fail, the tracer exchanges its number for one that does not exist, and the
 * resulting ENOSYS for the wanted error.
 */
#include "tests/lib/trace.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "wire/kernel_abi.h"

static void must(bool ok, const char *what)
{
	if (!ok)
		harness_die("ptrace: %s: %s", what, strerror(errno));
}

bool trace_possible(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(ptrace(PTRACE_TRACEME, 0, 0, 0) != 0);
	if (waitpid(pid, &status, 0) == pid && !status)
		return true;
	printf("SKIP: ptrace is not to be had here\n");
	return false;
}

pid_t trace_find_thread(pid_t pid, const char *name)
{
	char path[64], comm[32];
	struct dirent *de;
	pid_t tid = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && !tid && (de = readdir(dir))) {
		FILE *f;

		if (de->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/comm", (int)pid, de->d_name);
		f = fopen(path, "re");
		if (f && fgets(comm, sizeof(comm), f) && !strncmp(comm, name, strlen(name)))
			tid = atoi(de->d_name);
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return tid;
}

/* A change of whatever is waited for, or the time is up. SIGCHLD is blocked, so none is missed. */
static pid_t wait_for(pid_t who, int *status, int timeout_ms)
{
	uint64_t until = harness_now_ms() + (uint64_t)timeout_ms, now;
	sigset_t set;
	pid_t pid;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	while (!(pid = waitpid(who, status, WNOHANG | __WALL))) {
		now = harness_now_ms();
		if (now >= until)
			return 0;
		sigtimedwait(&set, NULL,
			     &(struct timespec){ (time_t)((until - now) / 1000),
						 (long)((until - now) % 1000) * 1000000 });
	}
	return pid;
}

void trace_begin(struct trace *t, pid_t tid)
{
	memset(t, 0, sizeof(*t));
	t->tid = tid;
	must(!ptrace(PTRACE_SEIZE, tid, 0, PTRACE_O_TRACESYSGOOD), "seize");
	must(!ptrace(PTRACE_INTERRUPT, tid, 0, 0), "interrupt");
	must(wait_for(tid, &t->status, WAIT_MS) == tid && WIFSTOPPED(t->status), "halt");
}

void trace_exec(struct trace *t, const char *const argv[], int err)
{
	pid_t parent = getpid();

	memset(t, 0, sizeof(*t));
	fflush(NULL);
	t->pid = t->tid = fork();
	must(t->pid >= 0, "fork");
	if (!t->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setpgid(0, 0); /* what is waited for */
		dup2(err, STDERR_FILENO);
		if (getppid() == parent && !raise(SIGSTOP))
			execv(argv[0], (char *const *)argv);
		_exit(126);
	}
	setpgid(t->pid, t->pid);
	must(waitpid(t->pid, &t->status, WUNTRACED) == t->pid, "first stop");
	must(!ptrace(PTRACE_SEIZE, t->pid, 0,
		     PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC |
			     PTRACE_O_EXITKILL),
	     "seize");
	kill(t->pid, SIGCONT);
	while (wait_for(-t->pid, &t->status, WAIT_MS) == t->pid && WIFSTOPPED(t->status)) {
		if (t->status >> 8 == (SIGTRAP | PTRACE_EVENT_EXEC << 8))
			return;
		must(!ptrace(PTRACE_CONT, t->pid, 0, 0), "go on");
	}
	harness_die("%s does not start", argv[0]);
}

static void look(struct trace *t)
{
	struct ptrace_syscall_info {
		uint8_t op;
		uint8_t pad[3];
		uint32_t arch;
		uint64_t ip, sp;
		union {
			struct {
				uint64_t nr, a[6];
			} entry;
			struct {
				int64_t ret;
				uint8_t is_error;
			} exit;
		};
	} i;

	must(ptrace(PTRACE_GET_SYSCALL_INFO, t->tid, sizeof(i), &i) > 0, "look");
	t->entry = i.op == 1;
	if (t->entry) {
		t->nr = (long)i.entry.nr;
		memcpy(t->a, i.entry.a, sizeof(t->a));
	} else {
		t->ret = (long)i.exit.ret;
	}
}

enum trace_event trace_next(struct trace *t, int timeout_ms)
{
	uint64_t until = harness_now_ms() + (uint64_t)timeout_ms;
	long sig = 0;

	for (;;) {
		uint64_t now = harness_now_ms();
		pid_t pid;
		int event;

		/* ESRCH: killed meanwhile, as waitpid will say. */
		if (!t->running)
			ptrace(PTRACE_SYSCALL, t->tid, 0, sig);
		t->running = true;
		pid = wait_for(t->pid ? -t->pid : t->tid, &t->status,
			       until > now ? (int)(until - now) : 0);
		if (!pid)
			return TRACE_QUIET;
		if (pid < 0)
			return TRACE_GONE;
		if (!WIFSTOPPED(t->status)) {
			if (!t->pid || pid == t->pid)
				return TRACE_GONE;
			continue; /* another thread of the program */
		}
		t->tid = pid;
		t->running = false;
		event = t->status >> 16;
		sig = event ? 0 : WSTOPSIG(t->status);
		if (sig == (SIGTRAP | 0x80)) {
			look(t);
			return TRACE_STOP;
		}
	}
}

static void set_call(pid_t tid, long nr)
{
#if defined(__x86_64__)
	must(!ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.orig_rax), nr), "set call");
#else
	int n = (int)nr;
	struct iovec iov = { &n, sizeof(n) };

	must(!ptrace(PTRACE_SETREGSET, tid, 0x404 /* NT_ARM_SYSTEM_CALL */, &iov), "set call");
#endif
}

static void set_result(pid_t tid, long r)
{
#if defined(__x86_64__)
	must(!ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rax), r), "set result");
#else
	struct user_regs_struct regs;
	struct iovec iov = { &regs, sizeof(regs) };

	must(!ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov), "get result");
	regs.regs[0] = (uint64_t)r;
	must(!ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov), "set result");
#endif
}

static void set_two_args(pid_t tid, uint64_t a, uint64_t b)
{
#if defined(__x86_64__)
	must(!ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rdi), a) &&
		     !ptrace(PTRACE_POKEUSER, tid, offsetof(struct user, regs.rsi), b),
	     "set arguments");
#else
	struct user_regs_struct regs;
	struct iovec iov = { &regs, sizeof(regs) };

	must(!ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &iov), "get arguments");
	regs.regs[0] = a;
	regs.regs[1] = b;
	must(!ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &iov), "set arguments");
#endif
}

/* The arguments are the program's registers, which it finds again as they were. */
static void fail_and_unmap_target(struct trace *t)
{
	int status;

	set_call(t->tid, SYS_munmap);
	set_two_args(t->tid, t->a[4], t->a[2]);
	must(!ptrace(PTRACE_SYSCALL, t->tid, 0, 0), "fail");
	must(wait_for(t->tid, &status, WAIT_MS) == t->tid && WIFSTOPPED(status), "return");
	set_two_args(t->tid, t->a[0], t->a[1]);
	set_result(t->tid, -ENOMEM);
}

bool trace_fail_takes(const struct trace *t, int err)
{
	return t->nr == SYS_mremap && err == ENOMEM && t->a[3] & MREMAP_FIXED;
}

void trace_fail(struct trace *t, int err)
{
	pid_t tid = t->tid;
	int status;

	if (trace_fail_takes(t, err)) {
		fail_and_unmap_target(t);
		return;
	}
	set_call(tid, -1);
	must(!ptrace(PTRACE_SYSCALL, tid, 0, 0), "fail");
	must(wait_for(tid, &status, WAIT_MS) == tid && WIFSTOPPED(status), "return");
	set_result(tid, -err);
}

void trace_end(struct trace *t)
{
	int status;

	if (t->running) {
		if (ptrace(PTRACE_INTERRUPT, t->tid, 0, 0) ||
		    wait_for(t->tid, &status, WAIT_MS) != t->tid || !WIFSTOPPED(status))
			return;
	}
	ptrace(PTRACE_DETACH, t->tid, 0, 0);
	t->running = true;
}

static bool ioctl_may_fail(unsigned int cmd, int err)
{
	switch (cmd) {
	case KABI_UFFDIO_MOVE:
		return err == ENOMEM || err == EAGAIN || err == EBUSY;
	case UFFDIO_WRITEPROTECT:
	case UFFDIO_COPY:
		return err == ENOMEM || err == EAGAIN;
	case UFFDIO_REGISTER:
	case UFFDIO_UNREGISTER:
		return err == ENOMEM;
	case KABI_PAGEMAP_SCAN:
		return err == ENOMEM || err == EINTR;
	case KABI_USERFAULTFD_IOC_NEW:
		return err == ENOMEM || err == EMFILE;
	default: /* UFFDIO_WAKE and UFFDIO_API cannot */
		return false;
	}
}

bool trace_may_fail(const struct trace *t, int err)
{
	switch (t->nr) {
	case SYS_mmap:
	case SYS_mremap:
	case SYS_mprotect:
		return err == ENOMEM;
	case SYS_mlock2:
		return err == ENOMEM || err == EAGAIN;
	case SYS_madvise:
		/* What only gives up memory cannot fail. */
		return (err == ENOMEM || err == EINTR || err == EAGAIN) && t->a[2] != 4 &&
		       t->a[2] != 24;
	case SYS_munmap:
		return err == ENOMEM;
	case SYS_openat:
#ifdef SYS_open
	case SYS_open:
#endif
		return err == ENOMEM || err == EMFILE || err == EINTR;
	case SYS_ioctl:
		return ioctl_may_fail((unsigned int)t->a[1], err);
	case SYS_read:
	case SYS_pread64:
		return err == EINTR || err == ENOMEM || err == EAGAIN;
	case SYS_write:
	case SYS_pwrite64:
		return err == EINTR || err == ENOMEM || err == ENOSPC || err == EAGAIN;
	case SYS_fallocate:
		return err == EINTR || err == ENOMEM || err == ENOSPC;
	case SYS_recvmsg:
	case SYS_recvfrom:
	case SYS_sendmsg:
	case SYS_sendto:
		return err == EINTR || err == ENOMEM || err == EAGAIN;
	case SYS_ppoll:
	case SYS_epoll_pwait:
#ifdef SYS_epoll_wait
	case SYS_epoll_wait:
#endif
		return err == EINTR;
	case SYS_socket:
	case SYS_accept4:
	case SYS_memfd_create:
	case SYS_epoll_create1:
	case SYS_eventfd2:
	case SYS_signalfd4:
	case SYS_pidfd_open:
		return err == EMFILE || err == ENOMEM;
	case SYS_connect:
		return err == EINTR || err == EAGAIN;
	case SYS_bind:
	case SYS_getdents64:
	case SYS_get_mempolicy:
	case SYS_epoll_ctl:
	case SYS_ftruncate:
	case SYS_readlinkat:
	case SYS_fstat:
	case SYS_newfstatat:
	case SYS_mkdirat:
#ifdef SYS_mkdir
	case SYS_mkdir:
#endif
		return err == ENOMEM;
	case SYS_flock:
		return err == EINTR || err == ENOMEM;
	case SYS_clone3:
	case SYS_clone:
		return err == EAGAIN || err == ENOMEM;
	default:
		return false;
	}
}
