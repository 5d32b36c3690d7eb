/* SPDX-License-Identifier: MIT */
/*
 * crew.h - threads that help the scan thread while there is much to read.
 *
 * The scan thread hands the same function to every helper, runs it as well, and goes on when all
 * have returned. Helpers sleep between two jobs, so in a service at rest one thread works.
 */
#ifndef KSMD_CREW_H
#define KSMD_CREW_H

#include <stdint.h>

struct crew;

/* `most` helpers may be asked for (0: none ever are). NULL with errno. */
struct crew *crew_new(unsigned int most);
/* No job may be under way. NULL is fine. */
void crew_free(struct crew *c);
/*
 * Run fn(arg, n) for n = 0 in this thread and for n = 1 to `helpers` in others, and wait for all.
 * Threads are made when first needed; when that fails there are fewer of them. fn's threads are
 * registered with liburcu.
 */
void crew_run(struct crew *c, unsigned int helpers, void (*fn)(void *arg, unsigned int n),
	      void *arg);
/* Nothing to help with is expected for a while: end the helpers, whose stacks are memory. */
void crew_rest(struct crew *c);
/* The calling thread gives way to the programs being merged: nice 5, as the kernel's ksmd. */
void crew_nice(void);
/* CPU time that helpers spent in jobs. Any thread. */
uint64_t crew_cpu_ns(const struct crew *c);

#endif
