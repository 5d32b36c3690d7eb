/* SPDX-License-Identifier: MIT */
/* sentinel.h - mapped pages that tell the daemon which epochs this process may have frames from. */
#ifndef KSM_SENTINEL_H
#define KSM_SENTINEL_H

#include <stdbool.h>
#include <stdint.h>

#include "client/as.h"
#include "client/link.h"
#include "wire/wire.h"

/*
 * So many old ones, because they may be of different daemons or domains, and none of these knows
 * the others' epochs. When there are more, the rest stays mapped for ever.
 */
#define OLD_SENTINELS 16u

/*
 * A forked child inherits the mappings, and with them the whole of this.
 *
 * Invariant: as long as this process may stand on a frame that the daemon could give to other
 * contents, a sentinel of an epoch before that is mapped. The lock of as.h covers newest, prev, old
 * and nr_old, so that a fork inherits enough of them; the numbers are the agent's.
 */
struct sentinels {
	void *newest; /* of the connection's newest epoch; NULL: there was no connection */
	/*
	 * The one before, until the daemon has taken in all that was said while that was the
	 * newest.
	 */
	void *prev;
	uint64_t epoch_stat; /* number of the STAT that says so; 0: none is under way */
	/* Of earlier connections and of the parent, until all frames have been adopted. */
	void *old[OLD_SENTINELS];
	uint32_t nr_old;
	uint64_t adopt_stat; /* number of the STAT that says so; 0: none is under way */
};

/* A connection begins: map the sentinel in fd, retire the others. False: no memory. */
bool sentinel_begin(struct sentinels *s, int fd);
/* All that stands on frames has been told: ask for an answer to that. False: broken connection. */
bool sentinel_ask(struct sentinels *s, struct link *l);
/* A new epoch. Closes the descriptors in f. False: the connection is to end. */
bool sentinel_epoch(struct sentinels *s, struct link *l, const struct ksm_msg_epoch *m,
		    struct link_fds *f);
/* The daemon has answered STAT number `id`. */
void sentinel_answer(struct sentinels *s, uint64_t id, uint64_t arena_file);
/* Drop the old ones if nothing stands on frames of an arena other than arena_file. */
void sentinel_drop_old(struct sentinels *s, uint64_t arena_file);
/*
 * The connection that they belong to is over: all become old ones. Context: the lock of as.h is
 * held, or this is a forked child with one thread.
 */
void sentinel_retire(struct sentinels *s);
/* Nothing stands on any frame: drop all. */
void sentinel_drop_all(struct sentinels *s) NEEDS(as.lock);
/* If the process has changed its user, stand on no frames and drop the sentinels. */
void sentinel_leave_domain(struct sentinels *s, const struct link *l);

#endif
