/* SPDX-License-Identifier: MIT */
/*
 * actor.h - processes that speak with the daemon as libksm does, and some that do not.
 *
 * An actor keeps the promises of src/client: it numbers the changes of its address space and sends
 * them in order, refuses outdated orders, and maps and drops sentinels when sentinel.c would. So
 * the daemon is at fault whenever an honest actor's memory goes wrong. An order does to a page what
 * the kernel would: equal contents stand on the frame afterwards.
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
	bool faults; /* resources may have been short: refusals are expected */
	bool crowd;  /* so are those of a daemon that had no turn for too long */
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
 * Liars and mute children exit, all others answer, time passes. Then the counters must equal what
 * the processes map, and no frame may be left over.
 */
void actors_rest(struct actors *as);

#endif
