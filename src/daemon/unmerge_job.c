/* SPDX-License-Identifier: MIT */
/* unmerge_job.c - see unmerge_job.h: which state may follow which, and whom an answer names. */
#include "daemon/unmerge_job.h"

#include "base/states.h"

void unmerge_pids_add(struct unmerge_pids *p, int pid)
{
	if (p->nr < UNMERGE_NAMED)
		p->pid[p->nr] = pid;
	p->nr++;
}

bool unmerge_job_move(struct unmerge_job *job, enum unmerge_state to)
{
	static const char *const name[UNMERGE_STATE_NR] = { "idle", "quiesce", "send", "wait",
							    "done" };
	static const uint32_t allowed[UNMERGE_STATE_NR] = {
		[UNMERGE_IDLE] = STATE_BIT(UNMERGE_QUIESCE),
		[UNMERGE_QUIESCE] = STATE_BIT(UNMERGE_SEND) | STATE_BIT(UNMERGE_DONE),
		[UNMERGE_SEND] = STATE_BIT(UNMERGE_WAIT),
		[UNMERGE_WAIT] = STATE_BIT(UNMERGE_DONE),
		[UNMERGE_DONE] = STATE_BIT(UNMERGE_IDLE),
	};
	static const struct states states = { "the unmerge job", name, allowed };

	return states_move(&states, &job->state, (int)to);
}
