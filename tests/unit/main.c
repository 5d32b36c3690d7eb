/* SPDX-License-Identifier: MIT */
/* main.c - runs the unit tests of the engine. KSM_TEST_SEED repeats a run of the random ones. */
#include <stdlib.h>
#include <urcu.h>

#include "suites.h"

void rcu_up(void)
{
	rcu_register_thread();
}

void rcu_down(void)
{
	rcu_barrier();
	rcu_unregister_thread();
}

TCase *engine_case(const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_add_checked_fixture(tc, rcu_up, rcu_down);
	/* The slowest takes a second; sanitizers and a loaded machine may make that fifty. */
	tcase_set_timeout(tc, 300);
	return tc;
}

int main(void)
{
	SRunner *sr = srunner_create(suite_ctree());
	int failed;

	srunner_add_suite(sr, suite_slab());
	srunner_add_suite(sr, suite_pool());
	srunner_add_suite(sr, suite_loop());
	srunner_add_suite(sr, suite_bell());
	srunner_add_suite(sr, suite_account());
	srunner_add_suite(sr, suite_knobs());
	srunner_add_suite(sr, suite_advisor());
	srunner_add_suite(sr, suite_region());
	srunner_add_suite(sr, suite_merge());
	srunner_add_suite(sr, suite_scan());
	srunner_add_suite(sr, suite_vma());
	srunner_add_suite(sr, suite_workers());
	srunner_add_suite(sr, suite_follow());
	srunner_add_suite(sr, suite_model());
	srunner_add_suite(sr, suite_memory());
	srunner_add_suite(sr, suite_threads());
	srunner_run_all(sr, CK_ENV);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
