/* SPDX-License-Identifier: MIT */
/*
 * sysc.h - system calls without the C library.
 *
 * The library runs inside programs whose mmap, munmap and syscall() it may itself interpose, and
 * at moments (between fork and exec, in the loader) when errno and the C library's locks are not
 * ours to touch. These return the kernel's value: negative errno on failure.
 */
#ifndef KSM_SYSC_H
#define KSM_SYSC_H

#include <stdint.h>
#include <sys/syscall.h>

/* Straight to the kernel. */
static inline long sysc6_kernel(long nr, long a, long b, long c, long d, long e, long f)
{
#if defined(__x86_64__)
	long ret;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory");
	return x0;
#else
#error "no system call stub for this architecture"
#endif
}

#ifdef KSM_SYSC_TEST
/* A test stands between the library and the kernel: tests/fuzz/fuzz_agent.c. */
long sysc6(long nr, long a, long b, long c, long d, long e, long f);
#else
#define sysc6 sysc6_kernel
#endif
#define sysc0(nr) sysc6((nr), 0, 0, 0, 0, 0, 0)
#define sysc1(nr, a) sysc6((nr), (long)(a), 0, 0, 0, 0, 0)
#define sysc2(nr, a, b) sysc6((nr), (long)(a), (long)(b), 0, 0, 0, 0)
#define sysc3(nr, a, b, c) sysc6((nr), (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define sysc4(nr, a, b, c, d) sysc6((nr), (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define sysc5(nr, a, b, c, d, e)                                                                   \
	sysc6((nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* Addresses the kernel can return never lie in the last page, errno values do. */
static inline int sysc_failed(long r)
{
	return (unsigned long)r >= (unsigned long)-4095;
}

#endif
