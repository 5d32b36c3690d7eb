/* SPDX-License-Identifier: MIT */
/* memory.c - what memory merging gives back, and what it takes. */
#include "memory.h"

#include "base/kernel_cost.h"
#include "machine.h"
#include "run.h"

int memory_look(struct run *r, struct memory *m)
{
	int err = fleet_memory(&r->fleet, &m->fleet);

	m->used = machine_used();
	return err ? err : side_metadata_anon(&r->side, &m->anon);
}

int memory_saved(struct run *r, const struct memory *before)
{
	double saved, net, vmas, clients = r->fleet.nr;
	struct fleet_memory after;
	uint64_t metadata, shared = 0;
	int err = fleet_memory(&r->fleet, &after);

	err = err ? err : side_metadata(&r->side, &metadata);
	err = err ? err : side_get(&r->side, "pages_shared", &shared);
	if (err)
		return err;
	saved = (double)before->fleet.pss - (double)after.pss;
	vmas = (double)after.vmas - (double)before->fleet.vmas;
	round_value(r->out, "vmas", vmas / clients);
	if (r->merged)
		round_value(r->out, "page_vmas", vmas / (double)(r->merged + shared));
	if (!r->real)
		round_value(r->out, "region_vmas",
			    ((double)after.region_vmas - (double)before->fleet.region_vmas) /
				    clients);
	round_value(r->out, "saved_mib", saved / 1048576);
	net = saved - (double)metadata - vmas * KERNEL_VMA_BYTES -
	      ((double)after.pte - (double)before->fleet.pte);
	round_value(r->out, "saved_net_mib", net / 1048576);
	if (r->merge_cpu_s > 0)
		round_value(r->out, "saved_per_cpu", net / 1048576 / r->merge_cpu_s);
	round_value(r->out, "saved_system_mib", (before->used - machine_used()) / 1048576);
	return 0;
}

int memory_of_page(struct run *r, const struct memory *before)
{
	uint64_t now, tracked = r->cfg->processes * r->nr_pages;
	int err = side_metadata_anon(&r->side, &now);

	if (!err)
		round_value(r->out, "page_bytes",
			    ((double)now - (double)before->anon) / (double)tracked);
	return err;
}
