/* SPDX-License-Identifier: MIT */
/*
 * account.h - what each user holds of the daemon, in one place.
 *
 * Whatever costs the daemon something on behalf of a user (a connection, a domain) carries a
 * struct charge. The charge remembers who was charged and how much, and gives exactly that back, so
 * a user's account is zero when all that it paid for is gone.
 *
 * Any thread; the table's lock is a leaf: no other lock is taken while it is held.
 */
#ifndef KSMD_ACCOUNT_H
#define KSMD_ACCOUNT_H

#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "base/guard.h"

enum account_unit {
	ACCOUNT_PLACES,     /* connections to the client socket, silent ones included */
	ACCOUNT_UNFINISHED, /* those of them whose handshake is not finished */
	/* Open in the daemon: sockets, what clients passed, arenas, sentinels. */
	ACCOUNT_DESCRIPTORS,
	/* Allocated for connections and domains; the engine counts items. */
	ACCOUNT_BYTES,
	ACCOUNT_DOMAINS, /* merge domains made for this user */
	ACCOUNT_NR
};

#define ACCOUNT_BUCKETS 256u

struct account; /* of one user; it exists while anything is charged to it */

/* Invariant: total[u] is the sum of what all users hold of u; no account holds nothing at all. */
struct account_table {
	struct lock lock; /* covers everything here, and every account and charge */
	LIST_HEAD(, account) bucket[ACCOUNT_BUCKETS];
	uint64_t nr;
	uint64_t total[ACCOUNT_NR];
	uint64_t most[ACCOUNT_NR]; /* of all users together; UINT64_MAX: no limit. Set once */
};

/* All zero: nothing is charged. Its owner alone changes it. */
struct charge {
	struct account_table *table;
	struct account *account; /* NULL while nothing is charged */
	uint64_t held[ACCOUNT_NR];
};

void account_table_init(struct account_table *t);
/* Everything must have been given back. */
void account_table_deinit(struct account_table *t);

/*
 * Make the charge hold `n` of a unit, on behalf of uid; what it held of that unit before is given
 * back. A charge stays with its first uid until it holds nothing. Returns 0, -EDQUOT (all users
 * together would hold more than the table's limit) or -ENOMEM; then the charge is as it was. Giving
 * back (n not above what is held) cannot fail.
 */
int charge_set(struct account_table *t, struct charge *c, uid_t uid, enum account_unit unit,
	       uint64_t n);
/* Give everything back. Cheap to repeat. */
void charge_drop(struct charge *c);

/* What one user holds; zeros for a user that holds nothing. */
struct account_view {
	uid_t uid;
	uint64_t held[ACCOUNT_NR];
};
void account_read(struct account_table *t, uid_t uid, struct account_view *v);
/* What all users together hold of a unit. */
uint64_t account_total(struct account_table *t, enum account_unit unit);
/*
 * Every user that holds something, ascending: *nr of them, for the caller to free. NULL when there
 * are none, or no memory.
 */
struct account_view *account_each(struct account_table *t, unsigned int *nr);

#endif
