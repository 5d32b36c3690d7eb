/* SPDX-License-Identifier: MIT */
/*
 * domain.h - domains: who may share pages with whom.
 *
 * A domain is one engine, one arena and one line of grace periods. Nothing is shared across
 * domains, neither frames nor trees nor descriptors.
 *
 * Life. The table holds one reference, every snapshot another. Clients are counted apart
 * (nr_clients), because they leave from liburcu's callback thread. domain_table_reap() takes a
 * domain out of the table when no client and no frame is left. Who drops the last reference hands
 * the domain to the undertaker, whose thread frees it.
 */
#ifndef KSMD_DOMAIN_H
#define KSMD_DOMAIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/guard.h"
#include "daemon/account.h"
#include "daemon/arena.h"
#include "daemon/domain_key.h"
#include "daemon/grace.h"
#include "daemon/node_memory.h"
#include "daemon/undertaker.h"
#include "engine/engine.h"

struct session;

struct domain {
	uint32_t id;
	struct domain_key key;
	int ns[NS_NR]; /* keep the namespaces of the key, or -1 */
	struct engine *engine;
	struct arena *arena;
	struct grace grace;     /* client thread only */
	uid_t uid;              /* who pays for it: the user whose client made it */
	_Atomic bool mixed;     /* somebody else's client has been in it; never false again */
	struct charge charge;   /* client thread only, until the last reference goes */
	_Atomic bool pass_done; /* scan thread and crew: its part of the pass is complete */
	bool surveyed;          /* mover's thread: has been, in this round (node_watch.h) */
	_Atomic unsigned int refs;
	_Atomic unsigned int nr_clients; /* rises under the table lock only */
	TAILQ_HEAD(, session) members;   /* client thread only: those that are not dropped */
	TAILQ_ENTRY(domain) link;        /* table lock */
	struct undertaker *undertaker;
	struct undertaking end;
};

struct domain_table {
	struct lock lock; /* covers list, nr and next_id; taken before the lock of any engine */
	TAILQ_HEAD(, domain) list;
	unsigned int nr;
	uint32_t next_id;
	/* What those that ended had counted since the start; under the lock. */
	struct engine_totals past;
	struct undertaker undertaker; /* of the domains that have ended */
	struct node_memory *memory; /* for the engines' records; NULL: malloc(). Since the start */
	/* Set once. */
	enum domain_mode mode;
	struct account_table *accounts;
	const struct engine_ops *ops;
	const struct ksm_knobs *knobs;
	struct numa_topology *topology;
	const struct vault *vault; /* arenas and sentinels are its files */
	uint32_t zone_frames;      /* span of each zone of each arena */
	bool guard_frames;         /* --guard-frames */
	uint32_t reserve_frames;   /* --contig-reserve, of each zone; whole pageblocks */
	uint64_t hash_seed;
	int pagemap; /* the daemon's own, or -1: arena.h */
};

void domain_table_init(struct domain_table *t);
/* From here on a thread frees domains that end. Returns 0 or -errno. */
int domain_table_start(struct domain_table *t);
/* All clients must be released. Ends the thread, if it was started. */
void domain_table_deinit(struct domain_table *t);

/*
 * Finds or makes the domain of a key, and counts one client more. `id` is the client. If the key
 * names namespaces they are kept, because the kernel gives the number of one that ended to the
 * next. Returns NULL with errno when there is no memory or no descriptor, or the user has its share
 * (EDQUOT). domain_leave() counts one less, in any context.
 */
struct domain *domain_join(struct domain_table *t, const struct domain_key *key,
			   const struct identity *id);
void domain_leave(struct domain *d);

/*
 * Grace periods of a domain, on the client thread: its engine, its sentinels and what they cost
 * keep in step.
 */
static inline uint64_t domain_epoch(const struct domain *d)
{
	return d->grace.current->epoch;
}
/*
 * Begin an epoch. Returns 0, -EMFILE (too many epochs are still held), -EDQUOT (the user has its
 * share of descriptors) or -errno.
 */
int domain_epoch_advance(struct domain *d);
/* Free the frames retired in epochs that are over. */
void domain_epochs_free(struct domain *d, uint64_t now_ms);
/* Give back what members have made of its arena where no frame is. Any thread. */
void domain_sweep(struct domain *d);
/*
 * A descriptor of the current sentinel with its shared lock, owned by the caller, in a new epoch if
 * the file is locked against us; or -errno.
 */
int domain_open_sentinel(struct domain *d);

/* All domains, each with a reference. Returns an array of *nr (NULL when *nr is 0 or no memory). */
struct domain **domain_table_snapshot(struct domain_table *t, unsigned int *nr);
void domain_snapshot_free(struct domain **v, unsigned int nr);
/* One by its id, with a reference, or NULL. */
struct domain *domain_find(struct domain_table *t, uint32_t id);
/* Waits for nothing once the table is started; before, not from an RCU section or callback. */
void domain_put(struct domain *d);
/* Has all memory in it always been this user's? */
bool domain_is_of(const struct domain *d, uid_t uid);
/* Drop domains that have neither clients nor frames. Client thread. */
void domain_table_reap(struct domain_table *t);
/* Orders under way, and pages that wait for one, in all domains. */
uint64_t domain_table_orders(struct domain_table *t);
/* Sum of the counters of all domains; those since the start of all that there have been. */
void domain_table_counters(struct domain_table *t, struct engine_counters *sum);

#endif
