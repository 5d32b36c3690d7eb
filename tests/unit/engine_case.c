/* SPDX-License-Identifier: MIT */
/*
 * engine_case.c - a test case whose tests may call the engine: their threads are known to liburcu.
 */
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
