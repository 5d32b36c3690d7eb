/* SPDX-License-Identifier: MIT */
/* report.h - the program that makes tables and plots of results. */
#ifndef KSM_BENCH_REPORT_H
#define KSM_BENCH_REPORT_H

struct bench_result;

/*
 * Become that program. args: its arguments, which begin with a name for itself and end with NULL.
 * Returns a negative errno when it cannot be run, which has been said.
 */
int report_exec(char *const args[]);
/*
 * Print one result as tables on standard output. Prints JSON, which loses nothing, where the
 * program cannot be run.
 */
void report_print(const struct bench_result *r);

#endif
