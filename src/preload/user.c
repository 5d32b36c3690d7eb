/* SPDX-License-Identifier: MIT */
/*
 * user.c - a program that is about to give up its user.
 *
 * Servers start as root and go on as somebody else. From then on the kernel lets such a process
 * open neither its own /proc/self/mem nor its pagemap, which the agent needs. So the last moment at
 * which an agent can open them is before the call, whatever memory the program has by then. An
 * agent that is there already keeps what it has open.
 */
#include <stdint.h>
#include <unistd.h>

#include "preload/occasion.h"
#include "preload/preload.h"
#include "preload/rights.h"

typedef int (*one_fn)(uint32_t);
typedef int (*two_fn)(uint32_t, uint32_t);
typedef int (*three_fn)(uint32_t, uint32_t, uint32_t);

static void before(void)
{
	if (!rights_filtered())
		occasion_last();
}

#define ONE(name)                                                                                  \
	EXPORT int name(uint32_t id)                                                               \
	{                                                                                          \
		static void *next;                                                                 \
                                                                                                   \
		before();                                                                          \
		return ((one_fn)preload_next(&next, #name))(id);                                   \
	}
#define TWO(name)                                                                                  \
	EXPORT int name(uint32_t real, uint32_t effective)                                         \
	{                                                                                          \
		static void *next;                                                                 \
                                                                                                   \
		before();                                                                          \
		return ((two_fn)preload_next(&next, #name))(real, effective);                      \
	}
#define THREE(name)                                                                                \
	EXPORT int name(uint32_t real, uint32_t effective, uint32_t saved)                         \
	{                                                                                          \
		static void *next;                                                                 \
                                                                                                   \
		before();                                                                          \
		return ((three_fn)preload_next(&next, #name))(real, effective, saved);             \
	}

ONE(setuid)
ONE(setgid)
ONE(seteuid)
ONE(setegid)
TWO(setreuid)
TWO(setregid)
THREE(setresuid)
THREE(setresgid)
