/* SPDX-License-Identifier: MIT */
/* test_states.c - moves that a table does not allow are refused, and change nothing. */
#include <stdlib.h>

#include "daemon/unmerge_job.h"
#include "fake.h"
#include "suites.h"

#ifndef KSM_SYSC_TEST /* a build with it aborts instead */
START_TEST(unmerge_job_goes_round)
{
	static const enum unmerge_state way[] = { UNMERGE_IDLE, UNMERGE_QUIESCE, UNMERGE_SEND,
						  UNMERGE_WAIT, UNMERGE_DONE };
	struct unmerge_job job = { .state = UNMERGE_IDLE };

	/* From each state exactly one other can be reached, or (`run` 0) the end from QUIESCE. */
	for (unsigned int i = 0; i < 5; i++) {
		enum unmerge_state next = way[(i + 1) % 5];

		for (int to = 0; to < UNMERGE_STATE_NR; to++) {
			if (to == (int)next || (i == 1 && to == UNMERGE_DONE))
				continue;
			must(!unmerge_job_move(&job, (enum unmerge_state)to));
			must(job.state == (int)way[i]);
		}
		must(unmerge_job_move(&job, next));
		must(job.state == (int)next);
	}
	must(unmerge_job_move(&job, UNMERGE_QUIESCE));
	must(unmerge_job_move(&job, UNMERGE_DONE));
	must(unmerge_job_move(&job, UNMERGE_IDLE));
}
END_TEST
#endif

Suite *suite_states(void)
{
	Suite *s = suite_create("states");
	TCase *tc = tcase_create("states");

#ifndef KSM_SYSC_TEST
	tcase_add_test(tc, unmerge_job_goes_round);
#endif
	suite_add_tcase(s, tc);
	return s;
}
