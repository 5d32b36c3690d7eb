/* SPDX-License-Identifier: MIT */
/*
 * torture.c - nothing is lost, whatever happens: the torture of ksmd-user.
 *
 *	torture [--time SECONDS] [--seed N] [--jobs N] [--keep] [--small]
 *	(or TORTURE_TIME, TORTURE_SEED, TORTURE_JOBS, TORTURE_KEEP in the environment;
 *	TORTURE_PLAIN: percentage of actors that are unmodified programs, else the seed decides)
 *
 * Each job has a seed, a daemon of its own and a handful of actors. An actor is a process of
 * several threads, linked with libksm or unmodified under ksm-run. It does to its memory all that a
 * program can do to it (torture.h lists the kinds). Every byte has a shadow, and every load is
 * compared with it. Meanwhile the schedule changes the daemon's knobs, stops the daemon, kills it
 * and starts it again, and kills and stops actors. Every twelve seconds everything pauses: all
 * memory is compared, and the daemon's counters with the page tables. At the end no frame may be
 * left.
 *
 * The first mismatch stops everything. The torture prints processes, address, expected and found
 * bytes, what was done to that page, page table entry and mappings. With --keep all of it stays,
 * stopped, for gdb.
 *
 * --small is for a machine that is emulated, and some ten times as slow: few actors with little
 * memory, which can be looked through in seconds. Every other disturbance moves frames from node to
 * node. It ends at its time, whichever kinds of operation have run by then (the run of full size
 * answers for these), as long as pages have been merged, and frames have moved.
 *
 * A seed repeats the choices, not the timing.
 *
 * Seen to fail with a protection taken out (one job on two cores, seconds until it was found):
 *
 *	replace.c: pages are taken for equal without being compared      1
 *	replace.c: staged() says that nothing is in the staging area     1
 *	ops.c: MADV_DONTNEED leaves frames in place (ops_empty_frames)   1
 *	inplace.c: pins are not asked for (hold_may_be_pinned: false)    4
 *	uffd.c: children of raw clones are not given the moved pages    12 (TORTURE_PLAIN=0)
 *	tell.c: ADOPT of mappings that reach beyond what is offered    20 (audit)
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/torture/schedule.h"

#define MAX_JOBS 64

static uint64_t number(const char *env, uint64_t otherwise)
{
	const char *v = getenv(env);

	return v && *v ? strtoull(v, NULL, 0) : otherwise;
}

static const struct option options[] = {
	{ "time", required_argument, NULL, 't' }, { "seed", required_argument, NULL, 's' },
	{ "jobs", required_argument, NULL, 'j' }, { "keep", no_argument, NULL, 'k' },
	{ "small", no_argument, NULL, 'm' },      { NULL, 0, NULL, 0 },
};

static pid_t start(const struct job *wanted, uint64_t seed)
{
	static struct job job;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (pid)
		return pid;
	job = *wanted;
	job.seed = seed;
	exit(job_run(&job));
}

int main(int argc, char **argv)
{
	uint64_t seed =
		number("TORTURE_SEED", (uint64_t)time(NULL) * 1000 + (uint64_t)getpid() % 1000);
	struct job job = { .seconds = (unsigned int)number("TORTURE_TIME", 60),
			   .keep = number("TORTURE_KEEP", 0) };
	unsigned int jobs = (unsigned int)number("TORTURE_JOBS", 2), failed = 0;
	pid_t pid[MAX_JOBS];
	int c, status;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == 't')
			job.seconds = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (c == 'j')
			jobs = (unsigned int)strtoul(optarg, NULL, 0);
		else if (c == 'k')
			job.keep = true;
		else if (c == 'm')
			job.small = true;
		else
			return 2;
	}
	if (!jobs || jobs > MAX_JOBS || !job.seconds) {
		fprintf(stderr, "torture: 1 to %d jobs, 1 second or more\n", MAX_JOBS);
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("torture: %u jobs for %u s, seeds from %llu\n", jobs, job.seconds,
	       (unsigned long long)seed);
	for (unsigned int i = 0; i < jobs; i++)
		pid[i] = start(&job, seed + i);
	for (unsigned int i = 0; i < jobs; i++)
		failed += waitpid(pid[i], &status, 0) != pid[i] || status;
	/* tests/run.sh counts the jobs as it counts the tests of Check. */
	printf("%u%%: Checks: %u, Failures: %u, Errors: 0\n", (jobs - failed) * 100 / jobs, jobs,
	       failed);
	return failed > 0;
}
