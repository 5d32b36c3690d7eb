/* SPDX-License-Identifier: MIT */
/* as_advice.c - advice for a mapping that takes another's place. */
#include "client/as_advice.h"

#include <sys/mman.h>

#include "client/sysc.h"
#include "wire/wire.h"

/*
 * Advice that fails for want of memory may succeed later. The tries end because the limit of
 * mappings fails in the same way and does not pass.
 */
#define TRIES 100

static void repeat(uint64_t start, uint64_t end, int advice)
{
	for (int i = 0; i < TRIES && sysc3(SYS_madvise, start, end - start, advice); i++)
		sysc0(SYS_sched_yield);
}

void as_repeat_advice(uint64_t start, uint64_t end, uint16_t left_out)
{
	if (left_out & 1u << KSM_LEFT_DONTFORK)
		repeat(start, end, MADV_DONTFORK);
	if (left_out & 1u << KSM_LEFT_WIPEONFORK)
		repeat(start, end, MADV_WIPEONFORK);
	if (left_out & 1u << KSM_LEFT_DONTDUMP)
		repeat(start, end, MADV_DONTDUMP);
}
