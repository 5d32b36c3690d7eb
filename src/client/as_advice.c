/* SPDX-License-Identifier: MIT */
/*
 * as_advice.c - advice and policy for a mapping that takes another's place.
 *
 * A range keeps in its flags what the kernel was told of it. Of a policy it keeps a number, and
 * the policies themselves stand in as.policy: few differ in one program. They are what the kernel
 * answers, so flags and node masks are in its own form.
 */
#include "client/as_advice.h"

#include <linux/mempolicy.h>
#include <string.h>
#include <sys/mman.h>

#include "client/as_names.h"
#include "client/sysc.h"
#include "wire/wire.h"

/*
 * Advice that fails for want of memory may succeed later. The tries end because the limit of
 * mappings fails in the same way and does not pass.
 */
#define ADVICE_TRIES 100

bool as_repeat(uint64_t start, uint64_t end, int advice)
{
	for (int i = 0; i < ADVICE_TRIES; i++) {
		if (!sysc3(SYS_madvise, start, end - start, advice))
			return true;
		sysc0(SYS_sched_yield);
	}
	return false;
}

static bool repeat_policy(uint64_t start, uint64_t end, const struct as_policy *p)
{
	for (int i = 0; i < ADVICE_TRIES; i++) {
		if (!sysc6(SYS_mbind, (long)start, (long)(end - start), p->mode, (long)p->nodes,
			   AS_POLICY_NODES + 1, 0))
			return true;
		sysc0(SYS_sched_yield);
	}
	return false;
}

bool as_hides_frames(const struct as_range *r)
{
	return as.hide_frames || (r && r->flags & AS_DONTDUMP);
}

bool as_has_advice(const struct as_range *r)
{
	return (r->flags & (AS_DONTFORK | AS_DONTDUMP | AS_POLICY)) ||
	       (r->left_out & 1u << KSM_LEFT_WIPEONFORK) || r->name;
}

bool as_repeat_on_frames(uint64_t start, uint64_t end, const struct as_range *r)
{
	bool ok = true;

	if (r->flags & AS_DONTFORK)
		ok = as_repeat(start, end, MADV_DONTFORK);
	if (ok && as_hides_frames(r))
		ok = as_repeat(start, end, MADV_DONTDUMP);
	return ok;
}

bool as_repeat_advice(uint64_t start, uint64_t end, const struct as_range *r)
{
	unsigned int nr = (r->flags & AS_POLICY) >> AS_POLICY_SHIFT;
	bool ok = true;

	if (r->flags & AS_DONTFORK)
		ok = as_repeat(start, end, MADV_DONTFORK);
	if (r->flags & AS_DONTDUMP)
		ok &= as_repeat(start, end, MADV_DONTDUMP);
	if (r->left_out & 1u << KSM_LEFT_WIPEONFORK)
		ok &= as_repeat(start, end, MADV_WIPEONFORK);
	if (nr && nr <= as.nr_policies)
		ok &= repeat_policy(start, end, &as.policy[nr - 1]);
	as_name_repeat(start, end, r);
	return ok;
}

bool as_has_policy(uint64_t addr)
{
	int mode = 0;
	long r = sysc5(SYS_get_mempolicy, &mode, NULL, 0, addr, MPOL_F_ADDR);

	return r == 0 && mode != MPOL_DEFAULT;
}

uint16_t as_policy_at(uint64_t addr)
{
	struct as_policy p = { 0 };
	unsigned int nr = 0;
	int mode = 0;

	if (sysc5(SYS_get_mempolicy, &mode, p.nodes, AS_POLICY_NODES + 1, addr, MPOL_F_ADDR))
		return AS_POLICY;
	p.mode = mode;
	if (p.mode == MPOL_DEFAULT)
		return 0;
	while (nr < as.nr_policies && memcmp(&as.policy[nr], &p, sizeof(p)) != 0)
		nr++;
	if (nr == AS_POLICIES)
		return AS_POLICY;
	if (nr == as.nr_policies)
		as.policy[as.nr_policies++] = p;
	return (uint16_t)((nr + 1) << AS_POLICY_SHIFT);
}
