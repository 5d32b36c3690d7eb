/* SPDX-License-Identifier: MIT */
/*
 * schedule.h - the process that runs one torture. It starts actors and the daemon, does to them
 * what an operator and bad luck do, and judges. It is no client itself.
 */
#ifndef KSM_TORTURE_SCHEDULE_H
#define KSM_TORTURE_SCHEDULE_H

#include "tests/lib/harness.h"
#include "tests/torture/torture.h"

struct job {
	uint64_t seed, rnd;
	unsigned int seconds;
	bool keep;  /* after a failure leave everything stopped, to be examined */
	bool small; /* see torture.c */
	struct daemon *daemon;
	pid_t outside;
	const char *daemon_args[12];
	uint64_t resume_ms[SEATS]; /* when a stopped actor goes on */
	/* For the report. */
	uint64_t kills, terms, stops, actor_kills, actor_stops, spawned, knob_stores, queries;
	uint64_t unmerges, calms;
	/* Counted by daemons; `seen` by the one that is up. */
	struct counted {
		uint64_t all, seen;
	} merged, cow_breaks, migrated, frames_moved;
	uint64_t moves, kernel_moves;          /* asked for, of the daemon and of the kernel */
	uint64_t drains, empties, compactions; /* asked for */
	uint64_t best_share;     /* percent of tracked pages on frames, at the best audit */
	uint64_t ended_since_up; /* actors that ended since the daemon was started */
	uint64_t pages_on_frames, pages_offered; /* at the last audit */
	_Atomic uint64_t step;                   /* grows while the schedule is alive */
};

/* A random number below n, of the schedule's own. */
static inline uint64_t below(struct job *j, uint64_t n)
{
	return rnd_below(&j->rnd, n);
}

/* actors.c */
/* Start another actor, where a seat is free. */
void actors_spawn(struct job *j);
/* Give back the seats of those that ended. Fails the run when one did so by itself, in error. */
void actors_reap(struct job *j);
void actors_kill_one(struct job *j);
void actors_stop_one(struct job *j);
/* Let stopped actors go on: those whose time has come, or all. */
void actors_resume(struct job *j, bool all);

/* ops of the operator: daemon.c */
void daemon_up(struct job *j);
/* Make settings with which everything that can merge does so soon. */
void daemon_hurry(struct job *j);
/* Set `run` to 0. */
void daemon_rest(struct job *j);
/* Pages may be on every node, and those of no client are moved. */
void daemon_use_nodes(struct job *j);
/* Then: it may move frames by itself again. */
void daemon_unhurried(struct job *j);
void daemon_disturb(struct job *j);
/* Add what was merged since the last look. */
void daemon_look(struct job *j);
/* Ask for frames to go to another node; or have the kernel move an actor's pages there. */
void daemon_move(struct job *j);
/* Is anything being moved from one node to another, or taken out of use? */
bool daemon_moves(struct job *j);
/* Use all frames again; nothing is being moved. */
void daemon_online(struct job *j);
/* Fail when the daemon has ended by itself. */
void daemon_must_live(struct job *j);

/* audit.c: with all actors parked and the daemon at rest. Fails the run on a difference. */
void audit(struct job *j);

/* report.c */
void fail_schedule(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same about a process, whose history and threads are then printed. */
void fail_about(int pid, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Stop everything and print the failure. Ends the process. */
_Noreturn void report_failure(struct job *j);
void report_end(struct job *j, const char *verdict);
/* Whether this kind never ran and has no excuse. */
bool op_is_missing(enum op op);
/* Returns how many kinds never ran and have no excuse. Prints these, and those that have one. */
unsigned int report_coverage(void);
void kill_everything(struct job *j);
uint64_t total_checks(void);

/* outside.c */
_Noreturn void outside_main(void);

/* schedule.c */
int job_run(struct job *j);

#endif
