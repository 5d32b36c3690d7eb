/* SPDX-License-Identifier: MIT */
#ifndef SUITES_H
#define SUITES_H

#include <check.h>

Suite *suite_ctree(void);
Suite *suite_bits(void);
Suite *suite_span(void);
Suite *suite_text(void);
Suite *suite_ranges(void);
Suite *suite_slab(void);
Suite *suite_pageblock(void);
Suite *suite_range(void);
Suite *suite_pool(void);
Suite *suite_pool_model(void);
Suite *suite_pool_threads(void);
Suite *suite_loop(void);
Suite *suite_bell(void);
Suite *suite_delay(void);
Suite *suite_account(void);
Suite *suite_labels(void);
Suite *suite_states(void);
Suite *suite_attr(void);
Suite *suite_lines(void);
Suite *suite_knobs(void);
Suite *suite_advisor(void);
Suite *suite_rest(void);
Suite *suite_still(void);
Suite *suite_polls(void);
Suite *suite_region(void);
Suite *suite_merge(void);
Suite *suite_crowd(void);
Suite *suite_scan(void);
Suite *suite_vma(void);
Suite *suite_forks(void);
Suite *suite_workers(void);
Suite *suite_follow(void);
Suite *suite_compact(void);
Suite *suite_gather(void);
Suite *suite_movable(void);
Suite *suite_drain(void);
Suite *suite_claim(void);
Suite *suite_survey(void);
Suite *suite_record(void);
Suite *suite_hold(void);
Suite *suite_place(void);
Suite *suite_migrate(void);
Suite *suite_movers(void);
Suite *suite_policy(void);
Suite *suite_steer(void);
Suite *suite_model(void);
Suite *suite_memory(void);
Suite *suite_threads(void);

/* Every test runs in a process of its own; engine calls want a thread known to liburcu. */
void rcu_up(void);
void rcu_down(void);
TCase *engine_case(const char *name);

#endif
