/* SPDX-License-Identifier: MIT */
/*
 * account.h - what each user holds of the daemon, and how much that may be, in one place.
 *
 * Whatever costs the daemon something on behalf of a user (a connection, a domain, frames)
 * carries a struct charge. The charge remembers who was charged and how much, and gives exactly
 * that back, so a user's account is zero when all that it paid for is gone.
 *
 * There is a limit on what all users together may hold of a resource, and from it follows each
 * user's share. With a share of 50 percent a user may hold as much as it leaves to others: the
 * first takes at most half, a second half of that. So no user can take everything, somebody new is
 * always let in, and nobody has to know how many users there will be.
 *
 * Any thread; the table's lock is a leaf: no other lock is taken while it is held.
 */
#ifndef KSMD_ACCOUNT_H
#define KSMD_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/guard.h"

enum account_unit {
	ACCOUNT_PLACES,     /* connections to the client socket, silent ones included */
	ACCOUNT_UNFINISHED, /* those of them whose handshake is not finished */
	/* Open in the daemon: sockets, what clients passed, arenas, sentinels. */
	ACCOUNT_DESCRIPTORS,
	/* Allocated for connections, domains, and the engine's records of pages. */
	ACCOUNT_BYTES,
	ACCOUNT_DOMAINS, /* domains made for this user */
	/* Frames of those domains, in use or allowed to their engines in advance. */
	ACCOUNT_ARENA_BYTES,
	/* Memory that would be needed if all that is merged in them were written. */
	ACCOUNT_DEBT_BYTES,
	ACCOUNT_CLOSERS, /* threads that are closing what the user passed */
	ACCOUNT_NR
};

/* Their names, in the same order: attributes show them. */
#define ACCOUNT_NAMES                                                                              \
	{                                                                                          \
		"places", "unfinished", "descriptors", "bytes", "domains", "arena_bytes",          \
			"debt_bytes", "closers"                                                    \
	}

#define ACCOUNT_BUCKETS 256u
#define ACCOUNT_NO_LIMIT UINT64_MAX
#define ACCOUNT_SHARE_DEFAULT 50u /* percent */

struct account; /* of one user; it exists while anything is charged to it */

/* Invariant: total[u] is the sum of what all users hold of u; no account holds nothing at all. */
struct account_table {
	struct lock lock; /* covers everything here, and every account and charge */
	LIST_HEAD(, account) bucket[ACCOUNT_BUCKETS];
	uint64_t nr;
	uint64_t total[ACCOUNT_NR];
	uint64_t most[ACCOUNT_NR];    /* of all users together, or ACCOUNT_NO_LIMIT */
	uint64_t refused[ACCOUNT_NR]; /* charges that would have been above a limit */
	unsigned int share;           /* percent of what others leave that a user may hold */
};

/* All zero: nothing is charged. Its owner alone changes it. */
struct charge {
	bool common; /* it serves all users: of the limits only that on all of them holds */
	struct account_table *table;
	struct account *account; /* NULL while nothing is charged */
	uint64_t held[ACCOUNT_NR];
};

void account_table_init(struct account_table *t);
/* Everything must have been given back. */
void account_table_deinit(struct account_table *t);

/*
 * Make the charge hold between `least` and `wish` of a unit, as much as the limits leave, on behalf
 * of uid; what it held of that unit before is given back. A charge stays with its first uid until
 * it holds nothing. Returns 0, -EDQUOT (above the user's share, or above the limit) or -ENOMEM;
 * then the charge is as it was. Giving back (`wish` not above what is held) cannot fail.
 */
int charge_some(struct account_table *t, struct charge *c, uid_t uid, enum account_unit unit,
		uint64_t least, uint64_t wish);
/* The same for one number. */
static inline int charge_set(struct account_table *t, struct charge *c, uid_t uid,
			     enum account_unit unit, uint64_t n)
{
	return charge_some(t, c, uid, unit, n, n);
}
/*
 * Have the charge hold so much of a unit although a limit may be below: it is there already.
 * Returns 0 or -ENOMEM.
 */
int charge_note(struct account_table *t, struct charge *c, uid_t uid, enum account_unit unit,
		uint64_t n);
/* Give everything back. Cheap to repeat. */
void charge_drop(struct charge *c);

/*
 * Time of the workers. A client can keep a call that looks at its memory waiting, and the worker
 * with it, which then serves nobody else: it holds its own mmap_lock. So a user for whom workers
 * have waited a fifth of the time, in several calls and WAITED_ENOUGH_MS at least, is left alone
 * four times as long. The account stays while the charge holds anything. Any thread; now_ms never
 * goes back.
 */
#define WAITED_ENOUGH_MS 2000u
#define WAITED_CALLS 3u
struct account *charge_account(const struct charge *c);
/* A call for this user took `ms`, in which the worker slept. */
void account_waited(struct account_table *t, struct account *a, uint64_t ms, uint64_t now_ms);
bool account_left_alone(const struct account *a, uint64_t now_ms);

/* What one user holds; zeros for a user that holds nothing. */
struct account_view {
	uid_t uid;
	uint64_t held[ACCOUNT_NR];
	uint64_t refused[ACCOUNT_NR]; /* since the user's account exists */
};
void account_read(struct account_table *t, uid_t uid, struct account_view *v);
/* What all users together hold of a unit. */
uint64_t account_total(struct account_table *t, enum account_unit unit);
/* The table's limits and refusals. A limit that comes down takes nothing back. */
struct account_limits {
	uint64_t most[ACCOUNT_NR];
	uint64_t refused[ACCOUNT_NR];
	unsigned int share;
};
void account_limits(struct account_table *t, struct account_limits *l);
void account_limit(struct account_table *t, enum account_unit unit, uint64_t most);
/* percent: 1 to 100; 100: a user may take all that is left. */
void account_share(struct account_table *t, unsigned int percent);
/*
 * Every user that holds something, ascending: *nr of them, for the caller to free. NULL when there
 * are none, or no memory.
 */
struct account_view *account_each(struct account_table *t, unsigned int *nr);

#endif
