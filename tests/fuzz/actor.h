/* SPDX-License-Identifier: MIT */
/*
 * actor.h - processes that speak with the daemon as libksm does, and some that do not.
 *
 * An actor keeps the promises of src/client: changes of its address space are numbered and sent in
 * order, an order that is not up to date is refused, sentinels are mapped and dropped when the
 * agent would. So whatever goes wrong with an honest actor's memory is the daemon's fault. What an order
 * does to a page is decided here as the kernel would: equal contents stand on the frame afterwards.
 */
#ifndef FUZZ_ACTOR_H
#define FUZZ_ACTOR_H

#include "world.h"

#define MAX_ACTORS 12
#define MAX_SENTINELS 64

struct actor {
	struct proc *proc;
	struct os_sock *sock; /* NULL: not connected */
	bool ready;
	bool never; /* a child of a raw fork: it connects never */
	struct os_file *arena, *sentinel, *prev, *old[MAX_SENTINELS];
	int nr_old;
	uint64_t seq, stat_id, adopt_stat, epoch_stat, epoch;
	uint32_t last_order;
};

struct actors {
	struct world *w;
	struct actor v[MAX_ACTORS];
	bool faults; /* resources may have been short: refusals are no surprise */
	bool crowd;  /* nor are those of a daemon that has been left alone for too long */
};

struct actor *actor_new(struct actors *as, uid_t uid); /* NULL: too many */
void actor_connect(struct actors *as, struct actor *a);
void actor_hang_up(struct actor *a);
void actor_exit(struct actor *a);
/* A child with everything but the connection. */
struct actor *actor_fork(struct actors *as, struct actor *a, bool raw);
/* Take one message; false when there is none. */
bool actor_read(struct actors *as, struct actor *a);

void actor_store(struct actor *a, unsigned int page, uint64_t tag);
void actor_forget(struct actor *a, unsigned int from, unsigned int nr); /* MADV_DONTNEED */
void actor_del(struct actor *a, unsigned int from, unsigned int nr);
void actor_add(struct actor *a, unsigned int from, unsigned int nr);
void actor_move(struct actor *a, unsigned int from, unsigned int to); /* mremap of one page */

/* From here on it says anything. */
void actor_lie(struct actors *as, struct actor *a, struct input *in);

/* Every honest process reads what it wrote. */
void actors_check(struct actors *as);
/*
 * Liars and mute children exit, everybody answers, time passes: then the counters must equal what
 * the processes map, and no frame may be left over.
 */
void actors_settle(struct actors *as);

#endif
