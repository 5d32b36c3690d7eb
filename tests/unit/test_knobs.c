/* SPDX-License-Identifier: MIT */
/* test_knobs.c - each setting: its default, its range, what is refused and why. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/knobs.h"
#include "suites.h"

static const struct knob_guard calm = { .pages_shared = false }, shared = { .pages_shared = true };

static const struct {
	const char *name;
	uint32_t def;
	const char *lowest, *below, *highest, *above;
} table[KNOB_NR] = {
	[KNOB_RUN] = { "run", 1, "0", "-1", "2", "3" },
	[KNOB_PAGES_TO_SCAN] = { "pages_to_scan", 25600, "0", "-1", "4294967295", "4294967296" },
	[KNOB_SLEEP_MILLISECS] = { "sleep_millisecs", 20, "0", "-1", "4294967295", "4294967296" },
	[KNOB_MERGE_ACROSS_NODES] = { "merge_across_nodes", 1, "0", "-1", "1", "2" },
	[KNOB_MAX_PAGE_SHARING] = { "max_page_sharing", 256, "2", "1", "2147483647", "-1" },
	[KNOB_STABLE_NODE_CHAINS_PRUNE_MILLISECS] = { "stable_node_chains_prune_millisecs", 2000,
						      "0", "-1", "4294967295", "4294967296" },
	[KNOB_USE_ZERO_PAGES] = { "use_zero_pages", 0, "0", "-1", "1", "2" },
	[KNOB_SMART_SCAN] = { "smart_scan", 1, "0", "-1", "1", "2" },
	[KNOB_ADVISOR_MODE] = { "advisor_mode", 0, "none", "", "scan-time", "scan-timer" },
	[KNOB_ADVISOR_MAX_CPU] = { "advisor_max_cpu", 70, "0", "-1", "4294967295", "4294967296" },
	[KNOB_ADVISOR_TARGET_SCAN_TIME] = { "advisor_target_scan_time", 200, "1", "0", "4294967295",
					    "4294967296" },
	[KNOB_ADVISOR_MIN_PAGES_TO_SCAN] = { "advisor_min_pages_to_scan", 500, "0", "-1",
					     "4294967295", "4294967296" },
	[KNOB_ADVISOR_MAX_PAGES_TO_SCAN] = { "advisor_max_pages_to_scan", 30000, "0", "-1",
					     "4294967295", "4294967296" },
	[KNOB_MAX_IDLE_MILLISECS] = { "max_idle_millisecs", 1000, "1", "0", "4294967295",
				      "4294967296" },
	[KNOB_MAX_CPU_PERCENT] = { "max_cpu_percent", 10, "1", "0", "100", "101" },
	[KNOB_VMA_BUDGET_PERCENT] = { "vma_budget_percent", 50, "0", "-1", "100", "101" },
	[KNOB_FORK_COST_PERCENT] = { "fork_cost_percent", 1, "0", "-1", "100", "101" },
	[KNOB_SCAN_THREADS] = { "scan_threads", 0, "0", "-1", "8", "9" },
	[KNOB_MIN_SHARERS] = { "min_sharers", 1, "1", "0", "8", "9" },
	[KNOB_MERGE_DELAY_MILLISECS] = { "merge_delay_millisecs", 0, "0", "-1", "86400000",
					 "86400001" },
	[KNOB_MAX_RETIRED_FRAMES] = { "max_retired_frames", 131072, "0", "-1", "4294967295",
				      "4294967296" },
	[KNOB_EXTFRAG_THRESHOLD] = { "extfrag_threshold", 500, "0", "-1", "1000", "1001" },
	[KNOB_COMPACTION_PROACTIVENESS] = { "compaction_proactiveness", 20, "0", "-1", "100",
					    "101" },
	[KNOB_MERGE_BELOW_AVAILABLE] = { "merge_below_available", 0, "0", "-1", "100%", "101%" },
	[KNOB_MERGE_ON_PRESSURE] = { "merge_on_pressure", 0, "0", "-1", "100", "101" },
	[KNOB_MERGE_POLICY] = { "merge_policy", 0, "global", "", "interleave", "interleaved" },
	[KNOB_MERGE_DISTANCE] = { "merge_distance", 20, "10", "9", "254", "255" },
	[KNOB_HOT_SHARERS] = { "hot_sharers", 4, "2", "1", "2147483647", "2147483648" },
	[KNOB_REPLICA_BUDGET_PERCENT] = { "replica_budget_percent", 25, "0", "-1", "100", "101" },
	[KNOB_REPLICA_MIN_FREE_PERCENT] = { "replica_min_free_percent", 5, "0", "-1", "100",
					    "101" },
};

START_TEST(names_and_defaults)
{
	struct ksm_knobs k;
	int i;

	knobs_init(&k);
	for (i = 0; i < KNOB_NR; i++) {
		ck_assert_str_eq(knob_name(i), table[i].name);
		ck_assert_int_eq(knob_find(table[i].name), i);
		ck_assert_uint_eq(knob_get(&k, i), table[i].def);
		ck_assert_uint_gt(strlen(knob_help(i)), 10);
	}
	ck_assert_int_eq(knob_find("no_such_knob"), -1);
	ck_assert_int_eq(knob_find(""), -1);
}
END_TEST

START_TEST(ranges)
{
	const char *low = table[_i].lowest, *high = table[_i].highest;
	struct ksm_knobs k;
	uint32_t before;

	knobs_init(&k);
	ck_assert_int_eq(knob_store(&k, _i, high, &calm), 0);
	before = knob_get(&k, _i);
	ck_assert_int_eq(knob_store(&k, _i, table[_i].below, &calm), -EINVAL);
	ck_assert_int_eq(knob_store(&k, _i, table[_i].above, &calm), -EINVAL);
	ck_assert_uint_eq(knob_get(&k, _i), before);
	ck_assert_int_eq(knob_store(&k, _i, low, &calm), 0);
	ck_assert_int_eq(knob_store(&k, _i, low, &calm), 0); /* the same value again */
	ck_assert_uint_ne(knob_get(&k, _i), before);
}
END_TEST

/*
 * What Linux 6.18 answers to the same stores in /sys/kernel/mm/ksm, written down from there. All
 * forms of a knob are refused, or accepted, alike.
 */
static const struct {
	enum knob_id id;
	const char *text;
	int ret;
	uint32_t value; /* after a store that succeeds */
} kernels[] = {
	{ KNOB_RUN, "", -EINVAL, 0 },
	{ KNOB_RUN, "\n", -EINVAL, 0 },
	{ KNOB_RUN, " ", -EINVAL, 0 },
	{ KNOB_RUN, "x", -EINVAL, 0 },
	{ KNOB_RUN, "1x", -EINVAL, 0 },
	{ KNOB_RUN, " 1", -EINVAL, 0 },
	{ KNOB_RUN, "1 ", -EINVAL, 0 },
	{ KNOB_RUN, "1 1", -EINVAL, 0 },
	{ KNOB_RUN, "1\t", -EINVAL, 0 },
	{ KNOB_RUN, "1\n\n", -EINVAL, 0 },
	{ KNOB_RUN, "0x1", -EINVAL, 0 },
	{ KNOB_RUN, "1.0", -EINVAL, 0 },
	{ KNOB_RUN, "--1", -EINVAL, 0 },
	{ KNOB_RUN, "++1", -EINVAL, 0 },
	{ KNOB_RUN, "+", -EINVAL, 0 },
	{ KNOB_RUN, "yes", -EINVAL, 0 },
	{ KNOB_RUN, "99999999999999999999999999", -EINVAL, 0 },
	{ KNOB_RUN, "2\n", 0, 2 },
	{ KNOB_RUN, "+1", 0, 1 },
	{ KNOB_PAGES_TO_SCAN, "010", 0, 10 },
	{ KNOB_PAGES_TO_SCAN, "0000000000000000000000000000007", 0, 7 },
	{ KNOB_PAGES_TO_SCAN, "4294967296", -EINVAL, 0 },
	{ KNOB_PAGES_TO_SCAN, "18446744073709551616", -EINVAL, 0 },
	{ KNOB_MERGE_ACROSS_NODES, "y", -EINVAL, 0 },
	{ KNOB_MERGE_ACROSS_NODES, "18446744073709551615", -EINVAL, 0 },
	{ KNOB_MERGE_ACROSS_NODES, "18446744073709551616", -ERANGE, 0 },
	{ KNOB_MAX_PAGE_SHARING, "2147483647", 0, INT32_MAX },
	{ KNOB_MAX_PAGE_SHARING, "2147483648", -ERANGE, 0 },
	{ KNOB_MAX_PAGE_SHARING, "99999999999999999999999999", -ERANGE, 0 },
	{ KNOB_MAX_PAGE_SHARING, "-5", -EINVAL, 0 },
	{ KNOB_USE_ZERO_PAGES, "y", 0, 1 },
	{ KNOB_USE_ZERO_PAGES, "No", 0, 0 },
	{ KNOB_USE_ZERO_PAGES, "on\n", 0, 1 },
	{ KNOB_USE_ZERO_PAGES, "OFF", 0, 0 },
	{ KNOB_USE_ZERO_PAGES, "of", 0, 0 },
	{ KNOB_USE_ZERO_PAGES, "true", 0, 1 },
	{ KNOB_USE_ZERO_PAGES, "F", 0, 0 },
	{ KNOB_USE_ZERO_PAGES, "1abc", 0, 1 },
	{ KNOB_USE_ZERO_PAGES, "010", 0, 0 },
	{ KNOB_USE_ZERO_PAGES, "enable", 0, 1 },
	{ KNOB_USE_ZERO_PAGES, "E", 0, 1 },
	{ KNOB_USE_ZERO_PAGES, "Disabled", 0, 0 },
	{ KNOB_USE_ZERO_PAGES, "d\n", 0, 0 },
	{ KNOB_USE_ZERO_PAGES, "o", -EINVAL, 0 },
	{ KNOB_USE_ZERO_PAGES, "2", -EINVAL, 0 },
	{ KNOB_USE_ZERO_PAGES, "+1", -EINVAL, 0 },
	{ KNOB_USE_ZERO_PAGES, " 1", -EINVAL, 0 },
	{ KNOB_USE_ZERO_PAGES, "", -EINVAL, 0 },
	{ KNOB_SMART_SCAN, "Off", 0, 0 },
	{ KNOB_ADVISOR_MODE, "scan-time\n", 0, KSM_ADVISOR_SCAN_TIME },
	{ KNOB_ADVISOR_MODE, "none ", -EINVAL, 0 },
	{ KNOB_ADVISOR_MODE, "[none]", -EINVAL, 0 },
	{ KNOB_ADVISOR_MODE, "scan-tim", -EINVAL, 0 },
	{ KNOB_ADVISOR_MAX_CPU, "0", 0, 0 },
	{ KNOB_ADVISOR_MAX_CPU, "101", 0, 101 },
	{ KNOB_ADVISOR_TARGET_SCAN_TIME, "0", -EINVAL, 0 },
};

START_TEST(texts_of_the_kernel)
{
	const char *text = kernels[_i].text;
	enum knob_id id = kernels[_i].id;
	struct ksm_knobs k;
	uint32_t before;

	knobs_init(&k);
	before = knob_get(&k, id);
	ck_assert_msg(knob_store(&k, id, text, &calm) == kernels[_i].ret, "%s \"%s\"",
		      knob_name(id), text);
	ck_assert_uint_eq(knob_get(&k, id), kernels[_i].ret ? before : kernels[_i].value);
}
END_TEST

START_TEST(busy_while_shared)
{
	struct ksm_knobs k;

	knobs_init(&k);
	ck_assert_int_eq(knob_store(&k, KNOB_MERGE_ACROSS_NODES, "0", &shared), -EBUSY);
	ck_assert_int_eq(knob_store(&k, KNOB_MERGE_ACROSS_NODES, "1", &shared), 0);
	ck_assert_int_eq(knob_store(&k, KNOB_MERGE_ACROSS_NODES, "7", &shared), -EINVAL);
	ck_assert_int_eq(knob_store(&k, KNOB_MAX_PAGE_SHARING, "2", &shared), -EBUSY);
	ck_assert_int_eq(knob_store(&k, KNOB_MAX_PAGE_SHARING, "256", &shared), 0);
	ck_assert_int_eq(knob_store(&k, KNOB_MAX_PAGE_SHARING, "1", &shared), -EINVAL);
	ck_assert_uint_eq(knob_get(&k, KNOB_MAX_PAGE_SHARING), 256);
	ck_assert_int_eq(knob_store(&k, KNOB_SMART_SCAN, "0", &shared), 0);
	ck_assert_int_eq(knob_store(&k, KNOB_USE_ZERO_PAGES, "1", &shared), 0);
}
END_TEST

START_TEST(advisor_owns_pages_to_scan)
{
	struct ksm_knobs k;
	char buf[64];

	knobs_init(&k);
	ck_assert_int_eq(knob_show(&k, KNOB_ADVISOR_MODE, buf, sizeof(buf)), 16);
	ck_assert_str_eq(buf, "[none] scan-time");
	ck_assert_int_eq(knob_store(&k, KNOB_ADVISOR_MODE, "scan-time\n", &calm), 0);
	knob_show(&k, KNOB_ADVISOR_MODE, buf, sizeof(buf));
	ck_assert_str_eq(buf, "none [scan-time]");
	ck_assert_uint_eq(knob_get(&k, KNOB_PAGES_TO_SCAN), 500);
	ck_assert_int_eq(knob_store(&k, KNOB_PAGES_TO_SCAN, "100", &calm), -EINVAL);
	ck_assert_int_eq(knob_store(&k, KNOB_PAGES_TO_SCAN, "500", &calm), -EINVAL);
	ck_assert_int_eq(knob_store(&k, KNOB_ADVISOR_MODE, "none", &calm), 0);
	ck_assert_uint_eq(knob_get(&k, KNOB_PAGES_TO_SCAN), 25600);
	ck_assert_int_eq(knob_store(&k, KNOB_ADVISOR_MIN_PAGES_TO_SCAN, "0", &calm), 0);
	ck_assert_int_eq(knob_store(&k, KNOB_ADVISOR_MODE, "scan-time", &calm), 0);
	ck_assert_uint_eq(knob_get(&k, KNOB_PAGES_TO_SCAN), 1); /* else no pass would end */
	ck_assert_int_eq(knob_store(&k, KNOB_ADVISOR_MODE, "none", &calm), 0);
	ck_assert_int_eq(knob_store(&k, KNOB_PAGES_TO_SCAN, "100", &calm), 0);
	knob_show(&k, KNOB_PAGES_TO_SCAN, buf, sizeof(buf));
	ck_assert_str_eq(buf, "100");
}
END_TEST

Suite *suite_knobs(void)
{
	Suite *s = suite_create("knobs");
	TCase *tc = tcase_create("knobs");

	tcase_add_test(tc, names_and_defaults);
	tcase_add_loop_test(tc, ranges, 0, KNOB_NR);
	tcase_add_loop_test(tc, texts_of_the_kernel, 0, sizeof(kernels) / sizeof(kernels[0]));
	tcase_add_test(tc, busy_while_shared);
	tcase_add_test(tc, advisor_owns_pages_to_scan);
	suite_add_tcase(s, tc);
	return s;
}
