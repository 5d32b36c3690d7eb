/* SPDX-License-Identifier: MIT */
/*
 * filter.c - see filter.h.
 *
 * Most filters forbid a few calls, or allow so many that the interposers and the agent pass: QEMU
 * is started with one, and its guests are to merge. Others allow exactly what the program calls,
 * and kill for anything else. So the filter is asked beforehand, as the kernel would: its program
 * is run on each call that we may make, with such arguments as we pass. Jumps lead forward only, so
 * a run ends.
 */
#include "preload/filter.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "client/user.h"
#include "wire/kernel_abi.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_AARCH64
#endif

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define THREAD 0x3d0f00 /* clone(2) by pthread_create */

/* What we call. A call that `may_fail` may be answered with an error. */
struct call {
	long nr, arg[4];
	bool may_fail;
};
static const struct call calls[] = {
	/* Interposers. */
	{ SYS_rt_sigprocmask, { 0 }, false },
	{ SYS_futex, { 0, FUTEX_WAIT_PRIVATE }, false },
	{ SYS_futex, { 0, FUTEX_WAKE_PRIVATE }, false },
	{ SYS_mmap, { 0, 0, RW, ANON }, false },
	{ SYS_mmap, { 0, 0, RW, ANON | MAP_FIXED }, false },
	{ SYS_mmap, { 0, 0, RW, MAP_PRIVATE | MAP_FIXED }, false },
	{ SYS_munmap, { 0 }, false },
	{ SYS_mremap, { 0, 0, 0, MREMAP_MAYMOVE | MREMAP_FIXED }, false },
	{ SYS_mprotect, { 0, 0, RW }, false },
	{ SYS_mprotect, { 0, 0, PROT_NONE }, false },
	{ SYS_madvise, { 0, 0, MADV_DONTNEED }, false },
	{ SYS_madvise, { 0, 0, MADV_DONTFORK }, false },
	{ SYS_madvise, { 0, 0, MADV_POPULATE_WRITE }, false },
	{ SYS_msync, { 0, 0, MS_ASYNC }, false },
	{ SYS_brk, { 0 }, false },
	{ SYS_gettid, { 0 }, false },
	{ SYS_getpid, { 0 }, false },
	{ SYS_tgkill, { 0 }, false },
	{ SYS_rt_sigqueueinfo, { 0 }, false },
	{ SYS_sched_yield, { 0 }, false },
	{ SYS_nanosleep, { 0 }, false },
	{ SYS_rt_sigpending, { 0 }, false },
	/* The agent, and the C library for it. */
	{ SYS_openat, { AT_FDCWD, 0, O_RDONLY | O_CLOEXEC }, false },
	{ SYS_read, { 0 }, false },
	{ SYS_pread64, { 0 }, false },
	{ SYS_pwrite64, { 0 }, false },
	{ SYS_close, { 0 }, false },
	{ SYS_close_range, { 0 }, false },
	{ SYS_fstat, { 0 }, false },
	{ SYS_fcntl, { 0, F_GETFL }, false },
	{ SYS_lseek, { 0 }, false },
	{ SYS_getdents64, { 0 }, false },
	{ SYS_ioctl, { 0, (long)KABI_PAGEMAP_SCAN }, false },
	{ SYS_ioctl, { 0, (long)UFFDIO_API }, false },
	{ SYS_ppoll, { 0 }, false },
	{ SYS_socket, { AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK }, false },
	{ SYS_connect, { 0 }, false },
	{ SYS_sendmsg, { 0 }, false },
	{ SYS_sendto, { 0 }, false },
	{ SYS_recvmsg, { 0 }, false },
	{ SYS_vmsplice, { 0 }, false },
	{ SYS_process_vm_readv, { 0 }, false },
	{ SYS_mincore, { 0 }, false },
	{ SYS_signalfd4, { 0 }, false },
	{ SYS_rt_sigtimedwait, { 0 }, false },
	{ SYS_clock_gettime, { 0 }, false },
	{ SYS_kcmp, { 0 }, true },
	{ SYS_readlinkat, { AT_FDCWD }, true },
	{ SYS_newfstatat, { AT_FDCWD }, true },
	{ SYS_pidfd_open, { 0 }, true },
	{ SYS_prlimit64, { 0 }, true },
	{ SYS_getuid, { 0 }, false },
	{ SYS_geteuid, { 0 }, false },
	{ SYS_get_mempolicy, { 0 }, true },
	{ SYS_mbind, { 0 }, true },
	{ SYS_sched_setscheduler, { 0 }, true },
	{ SYS_sched_getscheduler, { 0 }, true },
	{ SYS_sched_getparam, { 0 }, true },
	{ SYS_prctl, { PR_SET_NAME }, true },
	{ SYS_clone, { THREAD }, false },
	{ SYS_clone3, { 0 }, true },
	{ SYS_set_robust_list, { 0 }, true },
	{ SYS_rseq, { 0 }, true },
	{ SYS_exit, { 0 }, false },
};

/* The state of a run: A, X, and the scratch memory. */
struct machine {
	uint32_t a, x, mem[BPF_MEMWORDS];
	const struct seccomp_data *data;
};

/* Value of what the instruction loads. False: it is none that a filter may use. */
static bool load(const struct machine *m, const struct sock_filter *f, uint32_t *to)
{
	switch (BPF_MODE(f->code)) {
	case BPF_ABS:
		if (f->k > sizeof(*m->data) - 4 || f->k % 4)
			return false;
		memcpy(to, (const char *)m->data + f->k, 4);
		return true;
	case BPF_IMM:
		*to = f->k;
		return true;
	case BPF_LEN:
		*to = sizeof(*m->data);
		return true;
	case BPF_MEM:
		if (f->k < BPF_MEMWORDS)
			*to = m->mem[f->k];
		return f->k < BPF_MEMWORDS;
	default:
		return false;
	}
}

static bool compute(struct machine *m, const struct sock_filter *f)
{
	uint32_t k = BPF_SRC(f->code) == BPF_X ? m->x : f->k;

	switch (BPF_OP(f->code)) {
	case BPF_ADD:
		m->a += k;
		return true;
	case BPF_SUB:
		m->a -= k;
		return true;
	case BPF_MUL:
		m->a *= k;
		return true;
	case BPF_DIV:
		m->a = k ? m->a / k : 0;
		return k;
	case BPF_OR:
		m->a |= k;
		return true;
	case BPF_AND:
		m->a &= k;
		return true;
	case BPF_XOR:
		m->a ^= k;
		return true;
	case BPF_LSH:
		m->a = k < 32 ? m->a << k : 0;
		return true;
	case BPF_RSH:
		m->a = k < 32 ? m->a >> k : 0;
		return true;
	case BPF_NEG:
		m->a = -m->a;
		return true;
	default:
		return false;
	}
}

/* How many instructions a jump leaves out. */
static uint32_t jump(const struct machine *m, const struct sock_filter *f)
{
	uint32_t k = BPF_SRC(f->code) == BPF_X ? m->x : f->k;
	bool yes;

	switch (BPF_OP(f->code)) {
	case BPF_JEQ:
		yes = m->a == k;
		break;
	case BPF_JGT:
		yes = m->a > k;
		break;
	case BPF_JGE:
		yes = m->a >= k;
		break;
	case BPF_JSET:
		yes = m->a & k;
		break;
	default: /* BPF_JA */
		return f->k;
	}
	return yes ? f->jt : f->jf;
}

/* What the filter says of a call: SECCOMP_RET_*. What the kernel would refuse kills, to be safe. */
static uint32_t ask(const struct sock_fprog *prog, const struct seccomp_data *data)
{
	struct machine m = { .data = data };

	for (uint64_t pc = 0; pc < prog->len; pc++) {
		const struct sock_filter *f = &prog->filter[pc];
		bool ok = true;

		switch (BPF_CLASS(f->code)) {
		case BPF_LD:
			ok = load(&m, f, &m.a);
			break;
		case BPF_LDX:
			ok = load(&m, f, &m.x);
			break;
		case BPF_ST:
		case BPF_STX:
			ok = f->k < BPF_MEMWORDS;
			if (ok)
				m.mem[f->k] = BPF_CLASS(f->code) == BPF_ST ? m.a : m.x;
			break;
		case BPF_ALU:
			ok = compute(&m, f);
			break;
		case BPF_JMP:
			pc += jump(&m, f);
			break;
		case BPF_RET:
			return BPF_RVAL(f->code) == BPF_A ? m.a : f->k;
		default: /* BPF_MISC */
			if (BPF_MISCOP(f->code) == BPF_TAX)
				m.x = m.a;
			else
				m.a = m.x;
		}
		if (!ok)
			break;
	}
	return SECCOMP_RET_KILL_PROCESS;
}

/* Will the kernel refuse it? */
static bool is_invalid(const struct sock_fprog *prog)
{
	return !user_range(prog, sizeof(*prog)) || !prog->len || prog->len > BPF_MAXINSNS ||
	       !user_range(prog->filter, prog->len * sizeof(*prog->filter));
}

static bool passes(const struct sock_fprog *prog, const struct call *c)
{
	struct seccomp_data data = { .nr = (int)c->nr, .arch = ARCH };
	uint32_t says;

	for (int k = 0; k < 4; k++)
		data.args[k] = (uint64_t)c->arg[k];
	says = ask(prog, &data) & SECCOMP_RET_ACTION_FULL;
	return says == SECCOMP_RET_ALLOW || says == SECCOMP_RET_LOG ||
	       (c->may_fail && says == SECCOMP_RET_ERRNO);
}

bool filter_passes(const struct sock_fprog *prog)
{
	if (is_invalid(prog))
		return true;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
		if (!passes(prog, &calls[i]))
			return false;
	return true;
}

bool filter_lets_name(const struct sock_fprog *prog)
{
	static const struct call name = { SYS_prctl,
					  { KABI_PR_SET_VMA, KABI_PR_SET_VMA_ANON_NAME },
					  true };

	return is_invalid(prog) || passes(prog, &name);
}
