/* SPDX-License-Identifier: MIT */
/* main.c - runs the unit tests of the engine. KSM_TEST_SEED repeats a run of the random ones. */
#include <stdlib.h>

#include "suites.h"

int main(void)
{
	SRunner *sr;
	int failed;

	/* Check's own four seconds are a guess about the machine; valgrind and others run here. */
	setenv("CK_DEFAULT_TIMEOUT", "120", 0);
	sr = srunner_create(suite_ctree());
	srunner_add_suite(sr, suite_bits());
	srunner_add_suite(sr, suite_span());
	srunner_add_suite(sr, suite_text());
	srunner_add_suite(sr, suite_ranges());
	srunner_add_suite(sr, suite_slab());
	srunner_add_suite(sr, suite_pageblock());
	srunner_add_suite(sr, suite_range());
	srunner_add_suite(sr, suite_pool());
	srunner_add_suite(sr, suite_pool_model());
	srunner_add_suite(sr, suite_pool_threads());
	srunner_add_suite(sr, suite_loop());
	srunner_add_suite(sr, suite_bell());
	srunner_add_suite(sr, suite_delay());
	srunner_add_suite(sr, suite_account());
	srunner_add_suite(sr, suite_labels());
	srunner_add_suite(sr, suite_states());
	srunner_add_suite(sr, suite_attr());
	srunner_add_suite(sr, suite_lines());
	srunner_add_suite(sr, suite_knobs());
	srunner_add_suite(sr, suite_advisor());
	srunner_add_suite(sr, suite_rest());
	srunner_add_suite(sr, suite_still());
	srunner_add_suite(sr, suite_polls());
	srunner_add_suite(sr, suite_region());
	srunner_add_suite(sr, suite_merge());
	srunner_add_suite(sr, suite_crowd());
	srunner_add_suite(sr, suite_scan());
	srunner_add_suite(sr, suite_vma());
	srunner_add_suite(sr, suite_forks());
	srunner_add_suite(sr, suite_workers());
	srunner_add_suite(sr, suite_follow());
	srunner_add_suite(sr, suite_migrate());
	srunner_add_suite(sr, suite_policy());
	srunner_add_suite(sr, suite_steer());
	srunner_add_suite(sr, suite_compact());
	srunner_add_suite(sr, suite_gather());
	srunner_add_suite(sr, suite_movable());
	srunner_add_suite(sr, suite_drain());
	srunner_add_suite(sr, suite_claim());
	srunner_add_suite(sr, suite_survey());
	srunner_add_suite(sr, suite_record());
	srunner_add_suite(sr, suite_hold());
	srunner_add_suite(sr, suite_movers());
	srunner_add_suite(sr, suite_place());
	srunner_add_suite(sr, suite_model());
	srunner_add_suite(sr, suite_memory());
	srunner_add_suite(sr, suite_threads());
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
