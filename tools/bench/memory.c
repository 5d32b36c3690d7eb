/* SPDX-License-Identifier: MIT */
/* memory.c - what memory merging gives back, and what it takes. */
#include "memory.h"

#include "base/kernel_cost.h"
#include "machine.h"
#include "run.h"
#include "workload.h"

int memory_look(struct run *r, struct memory *m)
{
	int err = fleet_memory(&r->fleet, &m->fleet);

	m->used = machine_used();
	return err ? err : side_metadata_anon(&r->side, &m->anon);
}

int memory_saved(struct run *r, const struct memory *before)
{
	double saved, vmas, clients = r->fleet.nr, *v = r->out->value;
	struct fleet_memory after;
	uint64_t metadata;
	int err = fleet_memory(&r->fleet, &after);

	err = err ? err : side_metadata(&r->side, &metadata);
	if (err)
		return err;
	saved = (double)before->fleet.pss - (double)after.pss;
	vmas = (double)after.vmas - (double)before->fleet.vmas;
	v[M_VMAS] = vmas / clients;
	if (!r->cfg->workload->real)
		v[M_REGION_VMAS] =
			((double)after.region_vmas - (double)before->fleet.region_vmas) / clients;
	v[M_SAVED_MIB] = saved / 1048576;
	v[M_SAVED_NET_MIB] = (saved - (double)metadata - vmas * KERNEL_VMA_BYTES -
			      ((double)after.pte - (double)before->fleet.pte)) /
			     1048576;
	v[M_SAVED_SYSTEM_MIB] = (before->used - machine_used()) / 1048576;
	return 0;
}

int memory_of_page(struct run *r, const struct memory *before)
{
	uint64_t now, tracked = r->cfg->processes * r->nr_pages;
	int err = side_metadata_anon(&r->side, &now);

	if (!err)
		r->out->value[M_PAGE_BYTES] =
			((double)now - (double)before->anon) / (double)tracked;
	return err;
}
