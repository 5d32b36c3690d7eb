/* SPDX-License-Identifier: MIT */
/*
 * confine.c - see confine.h.
 *
 * The daemon reads descriptors and messages of clients that it does not trust. A fault in that code
 * should be worth little to who finds it. So the serving daemon can start no program, trace nobody,
 * change no mount, namespace or owner, and open no socket but a local one.
 *
 * A call that is not listed fails with EPERM, so the daemon reports it and goes on; killing the
 * process would turn each change in a library into an outage. clone3(2) fails with ENOSYS, because
 * its flags lie in memory where a filter cannot look: glibc then uses clone(2), which is allowed
 * for threads alone. tests/confine.py lists the calls of serving daemons and finds what is refused.
 */
#include "daemon/confine.h"

#include <errno.h>
#include <linux/capability.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A sanitizer's run time forks, traces and looks around at will. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FILTER false
#else
#define FILTER true
#endif

static const int allowed[] = {
	/* clients and the control socket */
	SCMP_SYS(accept4),
	SCMP_SYS(recvmsg),
	SCMP_SYS(recvfrom),
	SCMP_SYS(sendmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(getsockopt),
	SCMP_SYS(shutdown),
	SCMP_SYS(connect),
	/* waiting */
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(restart_syscall),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(futex),
	SCMP_SYS(membarrier),
	SCMP_SYS(sched_yield),
	/* clients' memory, frames, sentinels */
	SCMP_SYS(ioctl),
	SCMP_SYS(pread64),
	SCMP_SYS(pwrite64),
	SCMP_SYS(copy_file_range),
	SCMP_SYS(read),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(fallocate),
	SCMP_SYS(flock),
	SCMP_SYS(ftruncate),
	SCMP_SYS(fcntl),
	SCMP_SYS(memfd_create),
	SCMP_SYS(fchmod),
	/* files: /proc, the vault, the runtime directory's end */
	SCMP_SYS(open),
	SCMP_SYS(openat),
	SCMP_SYS(close),
	SCMP_SYS(lseek),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(access),
	SCMP_SYS(faccessat),
	SCMP_SYS(readlink),
	SCMP_SYS(readlinkat),
	SCMP_SYS(getdents64),
	SCMP_SYS(unlink),
	SCMP_SYS(unlinkat),
	/* own memory, threads, identity */
	SCMP_SYS(mmap),
	SCMP_SYS(munmap),
	SCMP_SYS(mprotect),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	SCMP_SYS(brk),
	SCMP_SYS(getrandom),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(signalfd4),
	SCMP_SYS(tgkill),
	SCMP_SYS(gettid),
	SCMP_SYS(getpid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getresuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(prlimit64),
	SCMP_SYS(getrusage),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
	/* processors and nodes */
	SCMP_SYS(getpriority),
	SCMP_SYS(setpriority),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(sched_setaffinity),
	SCMP_SYS(getcpu),
	SCMP_SYS(mbind),
	SCMP_SYS(set_mempolicy),
	SCMP_SYS(get_mempolicy),
	SCMP_SYS(move_pages),
};

/* Of a process beside the daemon (beside.h). */
static const int allowed_beside[] = {
	SCMP_SYS(recvmsg),    SCMP_SYS(sendmsg),      SCMP_SYS(close),
	SCMP_SYS(exit_group), SCMP_SYS(rt_sigreturn),
};

static int fill_list(scmp_filter_ctx ctx, const int *call, size_t nr)
{
	int err = 0;

	for (size_t i = 0; i < nr && !err; i++)
		err = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call[i], 0);
	return err;
}

static int fill(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp thread = SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD);
	const struct scmp_arg_cmp local = SCMP_A0(SCMP_CMP_EQ, AF_UNIX, 0);
	const struct scmp_arg_cmp plain = SCMP_A1(SCMP_CMP_EQ, SOL_SOCKET, 0);
	const struct scmp_arg_cmp name = SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0);
	int err = fill_list(ctx, allowed, sizeof(allowed) / sizeof(allowed[0]));

	if (!err)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1, &thread);
	if (!err)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(socket), 1, &local);
	if (!err)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(setsockopt), 1, &plain);
	if (!err)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1, &name);
	if (!err)
		err = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	return err;
}

static int fill_beside(scmp_filter_ctx ctx)
{
	return fill_list(ctx, allowed_beside, sizeof(allowed_beside) / sizeof(allowed_beside[0]));
}

static int fill_witness(scmp_filter_ctx ctx)
{
	int err = fill_beside(ctx);

	return err ? err : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(ioctl), 0);
}

/* move_pages(2) without nodes to move to tells where pages lie, and no more. */
static int fill_surveyor(scmp_filter_ctx ctx)
{
	const struct scmp_arg_cmp to_none = SCMP_A3(SCMP_CMP_EQ, 0, 0);
	int err = fill_beside(ctx);

	if (!err)
		err = seccomp_rule_add_array(ctx, SCMP_ACT_ALLOW, SCMP_SYS(move_pages), 1,
					     &to_none);
	return err;
}

static int filter_calls(int (*fill_in)(scmp_filter_ctx))
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int err;

	if (!ctx)
		return -ENOMEM;
	err = fill_in(ctx);
	if (!err)
		err = seccomp_load(ctx);
	seccomp_release(ctx);
	return err;
}

/* The bounding set, too, where the process may; without exec(2) it has no effect anyway. */
static int drop_capabilities(unsigned int but)
{
	struct __user_cap_header_struct hdr = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	unsigned int keep = 1u << but;

	if (syscall(SYS_capget, &hdr, data))
		return -errno;
	for (unsigned long cap = 0; cap <= CAP_LAST_CAP; cap++)
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			break;
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	for (int i = 0; i < _LINUX_CAPABILITY_U32S_3; i++) {
		data[i].permitted &= keep;
		data[i].effective = data[i].permitted;
		data[i].inheritable = 0;
		keep = 0;
	}
	return syscall(SYS_capset, &hdr, data) ? -errno : 0;
}

static int confine_helper(int sock, int (*fill_in)(scmp_filter_ctx))
{
	int err;

	if ((sock > 0 && close_range(0, (unsigned int)sock - 1, 0)) ||
	    close_range((unsigned int)sock + 1, ~0u, 0))
		return -errno;
	err = drop_capabilities(CAP_SYS_PTRACE);
	if (!err && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		err = -errno;
	return err || !FILTER ? err : filter_calls(fill_in);
}

int confine_witness(int sock)
{
	return confine_helper(sock, fill_witness);
}

int confine_surveyor(int sock)
{
	return confine_helper(sock, fill_surveyor);
}

int confine(const char **what)
{
	static const char *const name[] = { "capabilities", "no_new_privs", "system call filter" };
	int err[3];

	err[0] = drop_capabilities(CAP_SYS_NICE);
	err[1] = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? -errno : 0;
	err[2] = FILTER ? filter_calls(fill) : 0;
	for (int i = 0; i < 3; i++) {
		*what = name[i];
		if (err[i])
			return err[i];
	}
	return 0;
}
