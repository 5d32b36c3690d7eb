/* SPDX-License-Identifier: MIT */
/*
 * group_ksm.c - see group_ksm.h.
 *
 * All of it is for operators. Each of these sums moves with what is in somebody's memory, by one
 * for one page, and somebody who can change his own part of a sum reads the rest from it however it
 * is rounded. Domains keep users from learning of each other's contents; a counter must not tell.
 */
#include "daemon/group_ksm.h"

#include "base/kernel_cost.h"
#include "daemon/attr.h"
#include "daemon/daemon.h"
#include "daemon/client_view.h"
#include "daemon/looker.h"
#include "daemon/mover.h"
#include "daemon/profit.h"

static const char *const left_names[KSM_LEFT_NR] = KSM_LEFT_NAMES;

struct ksm_values {
	struct engine_counters c;
	uint64_t added_vmas, nr_short, nameless;
	int64_t general_profit;
	uint64_t orders, frames_brought, twins_merged, twins_failed;
	uint64_t held, debt_bytes, debt_limit_bytes;
	uint64_t left_out[KSM_LEFT_NR];
};

static void gather_twins(struct daemon *d, struct ksm_values *v)
{
	struct mover_counts c;

	mover_counts(d->mover, ENGINE_JOB_TWINS, &c);
	v->twins_merged = c.sum.frames;
	for (int i = 1; i < MOVE_FAILED_NR; i++)
		v->twins_failed += c.sum.failed[i];
}

static int gather(void *owner, uint64_t subject, void *values)
{
	struct daemon *d = owner;
	struct ksm_values *v = values;
	struct account_limits limits;
	struct client_totals s;

	(void)subject;
	looker_look(d->looker, 0);
	domain_table_counters(&d->domains, &v->c);
	client_totals(d->clients, &s);
	v->added_vmas = s.added_vmas;
	v->nr_short = s.nr_short;
	v->nameless = s.nameless;
	account_limits(&d->accounts, &limits);
	v->held = d->shortage.held;
	v->debt_bytes = v->c.pages_indebted << KSM_PAGE_SHIFT;
	v->debt_limit_bytes = limits.most[ACCOUNT_DEBT_BYTES];
	if (v->debt_limit_bytes == ACCOUNT_NO_LIMIT)
		v->debt_limit_bytes = 0;
	v->orders = domain_table_orders(&d->domains);
	v->frames_brought = d->mover->watch.brought;
	gather_twins(d, v);
	v->general_profit = profit_bytes(v->c.pages_sharing + v->c.zero_pages, v->c.metadata_bytes,
					 s.added_vmas);
	for (int i = 0; i < KSM_LEFT_NR; i++)
		v->left_out[i] = v->c.left_out[i] + (i < KSM_LEFT_CLIENT_NR ? s.left_out[i] : 0);
	return 0;
}

#define KSM(name, field, help) ATTR_FIELD(struct ksm_values, field, name, help)
static const struct attr attrs[] = {
	KSM("pages_shared", c.pages_shared, "frames that pages stand on"),
	KSM("pages_sharing", c.pages_sharing,
	    "pages beyond the first that stand on a frame: how much is saved"),
	KSM("pages_unshared", c.pages_unshared,
	    "tracked pages whose contents no other page has so far"),
	KSM("pages_waiting", c.pages_waiting,
	    "pages equal to others that wait for min_sharers or merge_delay_millisecs"),
	KSM("pages_volatile", c.pages_volatile, "tracked pages that change too often, or are new"),
	KSM("pages_nameless", nameless,
	    "pages on frames that programs named (PR_SET_VMA_ANON_NAME), and that maps shows "
	    "without the name"),
	KSM("pages_tracked", c.pages_tracked,
	    "tracked pages, for each of which the daemon keeps an item"),
	KSM("pages_scanned", c.total.pages_scanned, "pages read and hashed, since the start"),
	KSM("pages_skipped", c.total.pages_skipped,
	    "pages passed over by smart_scan, since the start: those that keep changing. (The "
	    "kernel's are pages that do not change, and these are never read again here.)"),
	KSM("pages_merged", c.total.pages_merged, "pages merged, since the start"),
	KSM("pages_migrated", c.total.pages_migrated,
	    "pages moved from a frame to another of the same contents, since the start"),
	KSM("ksm_zero_pages", c.zero_pages,
	    "zero pages given back and still untouched; in neither shared nor sharing"),
	KSM("stable_node_chains", c.stable_node_chains, "contents that have two or more frames"),
	KSM("stable_node_dups", c.stable_node_dups,
	    "frames of those contents, the first of each included"),
	ATTR_FIELD(struct ksm_values, general_profit, "general_profit",
		   "bytes saved less all metadata: (pages_sharing + ksm_zero_pages) * 4096 - "
		   "metadata_bytes - added_vmas * " KERNEL_VMA_BYTES_TEXT
		   ", the last being the kernel's memory for a "
		   "mapping (vm_area_struct and its share of the maple tree)"),
	KSM("metadata_bytes", c.metadata_bytes,
	    "daemon memory for stable nodes, items, block and region tables"),
	KSM("added_vmas", added_vmas, "mappings that merging added to all clients"),
	KSM("cow_breaks", c.total.cow_breaks, "merged pages found written, since the start"),
	KSM("frames_used", c.frames_used, "frames that hold memory"),
	KSM("frames_held_up", c.total.frames_held_up,
	    "times that max_retired_frames kept a frame from being made"),
	KSM("frames_retired", c.frames_retired,
	    "frames without a page, kept until no process can map them any more"),
	KSM("frames_away", c.frames_away,
	    "frames that could not be made on their NUMA node, and lie elsewhere for now"),
	KSM("frames_brought_back", frames_brought,
	    "frames moved to their NUMA node when that had room again, since the start"),
	KSM("pages_followed", c.total.pages_followed,
	    "unmerged pages seen on another node than before, since the start"),
	KSM("frames_followed", c.total.frames_followed,
	    "frames seen on another node than before, since the start"),
	KSM("debt_bytes", debt_bytes,
	    "memory that would be needed if everything merged, zeros included, were written at "
	    "once; pages about to be merged count"),
	KSM("debt_limit_bytes", debt_limit_bytes,
	    "what limit/debt_bytes comes to now; 0: no limit"),
	KSM("domains_at_debt_limit", c.nr_indebted,
	    "domains in which nothing is merged because of limit/debt_bytes, or a user's share"),
	KSM("merging_held", held,
	    "1 while nothing is merged because memory is not short: merge_below_available, "
	    "merge_on_pressure"),
	KSM("frames_met", c.frames_met,
	    "frames whose contents stand on another of their node since something was moved, "
	    "and are to be merged with that"),
	KSM("frames_met_merged", twins_merged, "such frames that were, since the start"),
	KSM("frames_met_failed", twins_failed,
	    "such frames that were not, after three tries, since the start"),
	KSM("orders", orders, "orders waiting or under way"),
	KSM("orders_given", c.total.orders, "orders given, since the start"),
	KSM("order_pages_failed", c.total.order_pages_failed, "pages of them that were not merged"),
	KSM("clients_short_of_memory", nr_short,
	    "clients that keep frames of an earlier daemon, or after run 2, because giving them up "
	    "would exceed their memory limits"),
	ATTR_NUMBERS(struct ksm_values, left_out, "left_out", left_names, "pages left out"),
};

static const struct attr_group group = {
	.name = "ksm",
	ATTR_TABLE(attrs),
	.size = sizeof(struct ksm_values),
	.gather = gather,
};

void group_ksm_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &group, d);
}
