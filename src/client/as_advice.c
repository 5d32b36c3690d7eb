/* SPDX-License-Identifier: MIT */
/* as_advice.c - what fails for want of memory is tried again. */
#include "client/as_advice.h"

#include <sys/mman.h>

#include "client/sysc.h"
#include "wire/wire.h"

/* What fails for want of memory may succeed later; not for ever, as the limit of mappings is no such want. */
static void repeat(uint64_t start, uint64_t end, int advice)
{
	for (int i = 0; i < 100 && sysc3(SYS_madvise, start, end - start, advice); i++)
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
