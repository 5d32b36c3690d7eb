/* SPDX-License-Identifier: MIT */
/*
 * knobs.h - the operator's knobs: one table of names, ranges and defaults.
 *
 * A store validates before it mutates and names the reason as a negative errno, as the kernel's
 * sysfs stores do. Values are single words that the workers read with relaxed atomics; none depends
 * on another being changed in the same instant.
 */
#ifndef KSM_KNOBS_H
#define KSM_KNOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum ksm_run { KSM_RUN_STOP = 0, KSM_RUN_MERGE = 1, KSM_RUN_UNMERGE = 2 };
enum ksm_advisor { KSM_ADVISOR_NONE = 0, KSM_ADVISOR_SCAN_TIME = 1 };

enum knob_id {
	KNOB_RUN,
	KNOB_PAGES_TO_SCAN,
	KNOB_SLEEP_MILLISECS,
	KNOB_MERGE_ACROSS_NODES,
	KNOB_MAX_PAGE_SHARING,
	KNOB_STABLE_NODE_CHAINS_PRUNE_MILLISECS,
	KNOB_USE_ZERO_PAGES,
	KNOB_SMART_SCAN,
	KNOB_ADVISOR_MODE,
	KNOB_ADVISOR_MAX_CPU,
	KNOB_ADVISOR_TARGET_SCAN_TIME,
	KNOB_ADVISOR_MIN_PAGES_TO_SCAN,
	KNOB_ADVISOR_MAX_PAGES_TO_SCAN,
	KNOB_MAX_IDLE_MILLISECS,    /* not the kernel's: longest pause between calm passes */
	KNOB_MAX_CPU_PERCENT,       /* nor this: of a core, for passes that yield little */
	KNOB_VMA_BUDGET_PERCENT,    /* nor this: share of vm.max_map_count for merging */
	KNOB_FORK_COST_PERCENT,     /* nor this: what mappings may cost forks */
	KNOB_SCAN_THREADS,          /* nor this: threads that scan at a time */
	KNOB_MIN_SHARERS,           /* nor this: fork families that must hold contents */
	KNOB_MERGE_DELAY_MILLISECS, /* nor this: longest random wait before merging */
	KNOB_MAX_RETIRED_FRAMES,    /* nor this: retired frames at which a domain makes no more */
	KNOB_EXTFRAG_THRESHOLD,     /* as vm.extfrag_threshold: when to compact for a window */
	KNOB_COMPACTION_PROACTIVENESS, /* as vm.compaction_proactiveness: 0 never unasked */
	KNOB_MERGE_BELOW_AVAILABLE,    /* nor this: merge only while less memory is available */
	KNOB_MERGE_ON_PRESSURE,        /* nor this: or while programs wait for memory */
	/* Nor these: enum policy_kind, and parameters of policies (numa_policy.h). */
	KNOB_MERGE_POLICY,
	KNOB_MERGE_DISTANCE,
	KNOB_HOT_SHARERS,
	KNOB_REPLICA_BUDGET_PERCENT,
	KNOB_REPLICA_MIN_FREE_PERCENT,
	KNOB_NR
};

#define KNOB_MERGE_DELAY_MAX 86400000u /* a day */
#define KNOB_MIN_SHARERS_MAX 8u        /* crowds count no more families */
#define KNOB_SCAN_THREADS_MAX 8u       /* an engine has as many workers */
#define KNOB_PERCENT (1u << 31)        /* an amount of memory is so many per cent, else MiB */

struct ksm_knobs {
	_Atomic uint32_t v[KNOB_NR];
};

/* What a store must know of the rest of the world. */
struct knob_guard {
	bool pages_shared; /* any frame is in use: some knobs must not change (EBUSY) */
};

static inline uint32_t knob_get(const struct ksm_knobs *k, enum knob_id id)
{
	return atomic_load_explicit(&k->v[id], memory_order_relaxed);
}

void knobs_init(struct ksm_knobs *k);
/* Index of a name, or -1. Name of an index; a line of help text for the operator. */
int knob_find(const char *name);
const char *knob_name(enum knob_id id);
const char *knob_help(enum knob_id id);
/*
 * Parse and store. Returns 0, -EINVAL (not a number, out of range, or pages_to_scan while the
 * advisor runs), -ERANGE (merge_across_nodes or max_page_sharing beyond what the kernel's type
 * holds), -EBUSY (one of the two would change while pages are shared; the same value succeeds).
 * merge_across_nodes is 0 exactly while merge_policy is `node`: a store to one changes the other.
 * `value` is NUL-terminated; one newline may stand at its end.
 */
int knob_store(struct ksm_knobs *k, enum knob_id id, const char *value, const struct knob_guard *g);
/*
 * Text as `get` shows it, without newline; advisor_mode as "[none] scan-time", and merge_policy so.
 * Returns length.
 */
int knob_show(const struct ksm_knobs *k, enum knob_id id, char *buf, size_t size);

#endif
