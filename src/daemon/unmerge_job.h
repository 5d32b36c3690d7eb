/* SPDX-License-Identifier: MIT */
/*
 * unmerge_job.h - `run` set to 2: the job of unmerging everything, handed from thread to thread;
 * and `run` set to 0, which is the beginning of that.
 *
 * There is one job at a time. Its state says which thread owns the other fields; that thread alone
 * moves it on and rings the bell of the next:
 *
 *	IDLE     main    -> main: a store of 2 arrived
 *	QUIESCE  scan    -> scanning has stopped, orders not yet sent are forgotten; when `run` is 0
 *	                    those under way are answered, or their clients do not answer: then DONE
 *	SEND     client  -> UNMERGE goes to every client
 *	WAIT     client  -> all have answered, or time is up
 *	DONE     main    -> answers the operator
 */
#ifndef KSMD_UNMERGE_JOB_H
#define KSMD_UNMERGE_JOB_H

#include <stdbool.h>
#include <stdint.h>

enum unmerge_state {
	UNMERGE_IDLE,
	UNMERGE_QUIESCE,
	UNMERGE_SEND,
	UNMERGE_WAIT,
	UNMERGE_DONE,
	UNMERGE_STATE_NR
};

#define UNMERGE_NAMED 8u /* clients that the answer to the operator names; more are counted */

struct unmerge_pids {
	unsigned int nr;
	int pid[UNMERGE_NAMED];
};

/* Invariant: error is 0 exactly if no client refused and none was silent. */
struct unmerge_job {
	_Atomic int state;
	uint32_t id; /* sent with UNMERGE, comes back with its answer */
	int error;   /* positive errno: of the first client that refused, else ETIMEDOUT; or 0 */
	struct unmerge_pids refused, silent;
	bool stop; /* `run` was set to 0: nobody is asked to unmerge */
	/* Main thread, any state: another store to `run` waits for the end of this job. */
	_Atomic bool hurry;
	bool incomplete; /* main thread: the last job ended with an error */
};

void unmerge_pids_add(struct unmerge_pids *p, int pid);

/*
 * Only the owner moves the job. False (logged) when the table has no such move: see base/states.h.
 */
bool unmerge_job_move(struct unmerge_job *job, enum unmerge_state to);

#endif
