/* SPDX-License-Identifier: MIT */
/*
 * knobs.c - the table of knobs, and the one place where text becomes a value.
 *
 * knob_store() finds everything that can be wrong with a value before it stores anything, so a
 * refused store leaves no trace.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/knobs.h"
#include "engine/numa_policy.h"

/*
 * How text becomes a value. Linux 6.18 parses each of its knobs with a function that has the name
 * of one of these forms, and what that accepts is accepted here: a decimal number, a '+' before it
 * and one newline behind it allowed, and no blank.
 */
enum knob_form {
	FORM_UINT,  /* EINVAL for everything that is not an unsigned int */
	FORM_ULONG, /* ERANGE above 64 bits */
	FORM_INT,   /* ERANGE above INT_MAX; a '-' is a number below every minimum of ours */
	FORM_BOOL,  /* by the first letters: y t e 1 on, n f d 0 off */
	FORM_MODE,  /* a name of a table: of an advisor, of a policy */
	FORM_SIZE,  /* ours: MiB, or a percentage with its sign; KNOB_PERCENT */
};

struct knob {
	const char *name;
	uint32_t def, min, max;
	const char *help;
	enum knob_form form;
};

#define NO_MAX UINT32_MAX

/* clang-format off */
static const struct knob knobs[KNOB_NR] = {
	[KNOB_RUN] = { "run", 1, 0, 2,
		"0 stop scanning and keep what is merged, 1 scan, 2 stop and unmerge all clients "
		"(kernel's default: 0)", FORM_UINT },
	[KNOB_PAGES_TO_SCAN] = { "pages_to_scan", 25600, 0, NO_MAX,
		"pages to examine before a pause of sleep_millisecs, 0 none; it cannot be set "
		"while an advisor runs (kernel's default: 100)", FORM_UINT },
	[KNOB_SLEEP_MILLISECS] = { "sleep_millisecs", 20, 0, NO_MAX,
		"pause between two batches of pages_to_scan, in milliseconds", FORM_UINT },
	[KNOB_MERGE_ACROSS_NODES] = { "merge_across_nodes", 1, 0, 1,
		"1 merge pages of different NUMA nodes, 0 only within a node; no change while "
		"pages are shared", FORM_ULONG },
	[KNOB_MAX_PAGE_SHARING] = { "max_page_sharing", 256, 2, INT32_MAX,
		"most pages that share one frame; no change while pages are shared", FORM_INT },
	[KNOB_STABLE_NODE_CHAINS_PRUNE_MILLISECS] = { "stable_node_chains_prune_millisecs", 2000, 0,
		NO_MAX,
		"kept for compatibility: chains shrink at once here, nothing is left to prune",
		FORM_UINT },
	[KNOB_USE_ZERO_PAGES] = { "use_zero_pages", 0, 0, 1,
		"1 give pages that are all zeros back instead of merging them", FORM_BOOL },
	[KNOB_SMART_SCAN] = { "smart_scan", 1, 0, 1,
		"1 pass over pages that keep changing, for up to 15 passes", FORM_BOOL },
	[KNOB_ADVISOR_MODE] = { "advisor_mode", KSM_ADVISOR_NONE, 0, 1,
		"none or scan-time: who sets pages_to_scan", FORM_MODE },
	[KNOB_ADVISOR_MAX_CPU] = { "advisor_max_cpu", 70, 0, NO_MAX,
		"most CPU that the scan-time advisor lets scanning use, in percent", FORM_UINT },
	[KNOB_ADVISOR_TARGET_SCAN_TIME] = { "advisor_target_scan_time", 200, 1, NO_MAX,
		"time that a pass should take, in seconds", FORM_UINT },
	[KNOB_ADVISOR_MIN_PAGES_TO_SCAN] = { "advisor_min_pages_to_scan", 500, 0, NO_MAX,
		"least pages_to_scan that the advisor sets", FORM_UINT },
	[KNOB_ADVISOR_MAX_PAGES_TO_SCAN] = { "advisor_max_pages_to_scan", 30000, 0, NO_MAX,
		"most pages_to_scan that the advisor sets", FORM_UINT },
	[KNOB_MAX_IDLE_MILLISECS] = { "max_idle_millisecs", 1000, 1, NO_MAX,
		"longest pause between two passes while memory is calm, in milliseconds",
		FORM_UINT },
	[KNOB_MAX_CPU_PERCENT] = { "max_cpu_percent", 10, 1, 100,
		"share of a CPU for passes that yield less than a hundredth of what they look at; "
		"100 no limit", FORM_UINT },
	[KNOB_VMA_BUDGET_PERCENT] = { "vma_budget_percent", 50, 0, 100,
		"share of vm.max_map_count up to which merging may add mappings to a client",
		FORM_UINT },
	[KNOB_FORK_COST_PERCENT] = { "fork_cost_percent", 1, 0, 100,
		"what mappings that merging added may cost a client that forks, in percent of a "
		"CPU; above that it may have as many as double the time of a fork", FORM_UINT },
	[KNOB_SCAN_THREADS] = { "scan_threads", 0, 0, KNOB_SCAN_THREADS_MAX,
		"most threads that scan at a time, each another client; 0 one for each CPU",
		FORM_UINT },
	[KNOB_MIN_SHARERS] = { "min_sharers", 1, 1, KNOB_MIN_SHARERS_MAX,
		"1 any two equal pages are merged; more: only contents that processes of so many "
		"fork families hold; what is merged already stays", FORM_UINT },
	[KNOB_MERGE_DELAY_MILLISECS] = { "merge_delay_millisecs", 0, 0, KNOB_MERGE_DELAY_MAX,
		"equal pages wait a random time up to this before they are merged, in "
		"milliseconds; 0 they do not", FORM_UINT },
	[KNOB_MAX_RETIRED_FRAMES] = { "max_retired_frames", 131072, 0, NO_MAX,
		"a domain with so many retired frames gets no new ones until processes that may "
		"map these have moved on", FORM_UINT },
	[KNOB_EXTFRAG_THRESHOLD] = { "extfrag_threshold", 500, 0, 1000,
		"a zone without a free pageblock is compacted when one is wanted and its "
		"extfrag_index, in thousandths, is above this", FORM_UINT },
	[KNOB_COMPACTION_PROACTIVENESS] = { "compaction_proactiveness", 20, 0, 100,
		"frames are moved together unasked where fragmentation is at least 100 less this, "
		"in percent, and gathered where merging rests; 0 neither, and what runs ends",
		FORM_UINT },
	[KNOB_MERGE_BELOW_AVAILABLE] = { "merge_below_available", 0, 0, KNOB_PERCENT | 100,
		"merge only while less memory than this is available (MemAvailable), in MiB, or in "
		"percent of all memory (5%); 0 always; what is merged stays merged", FORM_SIZE },
	[KNOB_MERGE_ON_PRESSURE] = { "merge_on_pressure", 0, 0, 100,
		"merge only while programs wait for memory: percent of two seconds in which some "
		"do (PSI); 0 always. With merge_below_available: while either holds", FORM_UINT },
	[KNOB_MERGE_POLICY] = { "merge_policy", POLICY_GLOBAL, 0, POLICY_NR - 1,
		"who shares frames on several nodes, and where these lie: global all; node each "
		"node's own pages (merge_across_nodes 0); distance nodes within merge_distance; "
		"majority as global, where most readers run; replicate the same, with copies for "
		"other nodes' readers; interleave as global, hot frames spread", FORM_MODE },
	[KNOB_MERGE_DISTANCE] = { "merge_distance", 20, POLICY_HERE, 254,
		"of merge_policy distance: pages of nodes that are at most so far apart share "
		"frames, 10 to 254", FORM_UINT },
	[KNOB_HOT_SHARERS] = { "hot_sharers", 4, 2, INT32_MAX,
		"of merge_policy replicate and interleave: pages that stand on a frame which is "
		"copied or spread, at least", FORM_UINT },
	[KNOB_REPLICA_BUDGET_PERCENT] = { "replica_budget_percent", 25, 0, 100,
		"of merge_policy replicate: most copies, in percent of the pages that merging "
		"saves", FORM_UINT },
	[KNOB_REPLICA_MIN_FREE_PERCENT] = { "replica_min_free_percent", 5, 0, 100,
		"copies are given up while less of the machine's memory is available, in percent",
		FORM_UINT },
};
/* clang-format on */

/* Names of a knob's values, of which there are max + 1. */
static const char *name_of(enum knob_id id, uint32_t v)
{
	static const char *const advisors[] = {
		[KSM_ADVISOR_NONE] = "none",
		[KSM_ADVISOR_SCAN_TIME] = "scan-time",
	};
	static const char *const policies[] = POLICY_NAMES;

	return id == KNOB_MERGE_POLICY ? policies[v] : advisors[v];
}

static void knob_set(struct ksm_knobs *k, enum knob_id id, uint32_t v)
{
	atomic_store_explicit(&k->v[id], v, memory_order_relaxed);
}

void knobs_init(struct ksm_knobs *k)
{
	for (int i = 0; i < KNOB_NR; i++)
		atomic_init(&k->v[i], knobs[i].def);
}

int knob_find(const char *name)
{
	for (int i = 0; i < KNOB_NR; i++)
		if (!strcmp(knobs[i].name, name))
			return i;
	return -1;
}

const char *knob_name(enum knob_id id)
{
	return knobs[id].name;
}

const char *knob_help(enum knob_id id)
{
	return knobs[id].help;
}

/* Without the one newline that may stand at the end. */
static size_t text_length(const char *s)
{
	size_t len = strlen(s);

	return len && s[len - 1] == '\n' ? len - 1 : len;
}

/* A decimal number up to max and nothing else. -ERANGE when it is larger, -EINVAL if it is none. */
static int parse_number(const char *s, size_t len, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;
	bool large = false;

	if (len && *s == '+') {
		s++;
		len--;
	}
	if (!len)
		return -EINVAL;
	for (size_t i = 0; i < len; i++) {
		uint64_t digit = (uint64_t)(s[i] - '0');

		if (s[i] < '0' || s[i] > '9')
			return -EINVAL;
		large = large || __builtin_mul_overflow(v, 10, &v) ||
			__builtin_add_overflow(v, digit, &v);
	}
	if (large || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

static int parse_bool(const char *s, uint64_t *out)
{
	char first = (char)(*s | 0x20), second = *s ? (char)(s[1] | 0x20) : 0;

	if (*s == '1' || first == 'y' || first == 't' || first == 'e' ||
	    (first == 'o' && second == 'n'))
		*out = 1;
	else if (*s == '0' || first == 'n' || first == 'f' || first == 'd' ||
		 (first == 'o' && second == 'f'))
		*out = 0;
	else
		return -EINVAL;
	return 0;
}

static int parse_name(enum knob_id id, const char *s, size_t len, uint64_t *out)
{
	for (uint32_t i = 0; i <= knobs[id].max; i++)
		if (strlen(name_of(id, i)) == len && !memcmp(name_of(id, i), s, len)) {
			*out = i;
			return 0;
		}
	return -EINVAL;
}

/* A '%' makes it a percentage, of which there are a hundred. */
static int parse_size(const char *s, size_t len, uint64_t *out)
{
	bool percent = len && s[len - 1] == '%';
	int r = parse_number(s, len - percent, percent ? 100 : KNOB_PERCENT - 1, out);

	if (!r && percent && *out)
		*out |= KNOB_PERCENT;
	return r ? -EINVAL : 0;
}

/* 0, or the error that the kernel's store returns. */
static int parse(enum knob_id id, const char *value, uint64_t *out)
{
	size_t len = text_length(value);

	switch (knobs[id].form) {
	case FORM_MODE:
		return parse_name(id, value, len, out);
	case FORM_BOOL:
		return parse_bool(value, out);
	case FORM_SIZE:
		return parse_size(value, len, out);
	case FORM_ULONG:
		return parse_number(value, len, UINT64_MAX, out);
	case FORM_INT:
		return parse_number(value, len, INT32_MAX, out);
	default:
		return parse_number(value, len, UINT32_MAX, out) ? -EINVAL : 0;
	}
}

/*
 * Switching the advisor resets what it steers, as the kernel does. It advises at the end of a pass,
 * so it begins with at least one page at a time: with none there is no end.
 */
static void advisor_switched(struct ksm_knobs *k, uint32_t mode)
{
	uint32_t least = knob_get(k, KNOB_ADVISOR_MIN_PAGES_TO_SCAN);

	knob_set(k, KNOB_PAGES_TO_SCAN,
		 mode == KSM_ADVISOR_SCAN_TIME ? (least ? least : 1) :
						 knobs[KNOB_PAGES_TO_SCAN].def);
}

/* `node` is what the kernel's knob calls 0. */
static void policy_switched(struct ksm_knobs *k, enum knob_id id, uint32_t v)
{
	if (id == KNOB_MERGE_POLICY)
		knob_set(k, KNOB_MERGE_ACROSS_NODES, v != POLICY_NODE);
	else
		knob_set(k, KNOB_MERGE_POLICY, v ? POLICY_GLOBAL : POLICY_NODE);
}

int knob_store(struct ksm_knobs *k, enum knob_id id, const char *value, const struct knob_guard *g)
{
	uint64_t v = 0;
	int r = parse(id, value, &v);

	if (r)
		return r;
	if (v < knobs[id].min || v > knobs[id].max)
		return -EINVAL;
	if (id == KNOB_PAGES_TO_SCAN && knob_get(k, KNOB_ADVISOR_MODE) != KSM_ADVISOR_NONE)
		return -EINVAL;
	if (v == knob_get(k, id))
		return 0;
	if (g->pages_shared && (id == KNOB_MERGE_ACROSS_NODES || id == KNOB_MAX_PAGE_SHARING))
		return -EBUSY;
	knob_set(k, id, (uint32_t)v);
	if (id == KNOB_ADVISOR_MODE)
		advisor_switched(k, (uint32_t)v);
	if (id == KNOB_MERGE_POLICY || id == KNOB_MERGE_ACROSS_NODES)
		policy_switched(k, id, (uint32_t)v);
	return 0;
}

int knob_show(const struct ksm_knobs *k, enum knob_id id, char *buf, size_t size)
{
	uint32_t v = knob_get(k, id);
	int len = 0;

	if (knobs[id].form == FORM_SIZE && (v & KNOB_PERCENT))
		return snprintf(buf, size, "%u%%", v & ~KNOB_PERCENT);
	if (knobs[id].form != FORM_MODE)
		return snprintf(buf, size, "%u", v);
	for (uint32_t i = 0; i <= knobs[id].max && len < (int)size; i++)
		len += snprintf(buf + len, size - (size_t)len, i == v ? "%s[%s]" : "%s%s",
				i ? " " : "", name_of(id, i));
	return len;
}
