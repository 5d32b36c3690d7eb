/* SPDX-License-Identifier: MIT */
/*
 * usdt.h - places at which bpftrace, perf and the like can look on: user-space tracepoints.
 *
 * The kernel's KSM has tracepoints, and tools that use them. Each of those is here, under its name
 * and with its arguments in their order (provider "ksmd"). A probe is one nop in the code and a
 * note in the file, so it costs nothing while nobody looks, and touches no state: it may stand
 * under any lock. A tracer puts a breakpoint there, and a hit takes some 2 us.
 *
 * Arguments are integers or pointers, at most twelve; they are evaluated whether somebody looks or
 * not. Where systemtap's <sys/sdt.h> is missing at the build there are no probes.
 */
#ifndef KSM_USDT_H
#define KSM_USDT_H

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define USDT(...) STAP_PROBEV(ksmd, __VA_ARGS__)
#endif
#endif

#ifndef USDT
static inline void usdt_none(int none, ...)
{
	(void)none;
}
#define USDT(name, ...) usdt_none(0, __VA_ARGS__)
#endif

#endif
