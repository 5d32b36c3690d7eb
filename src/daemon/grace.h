/* SPDX-License-Identifier: MIT */
/*
 * grace.h - when no process can map a retired frame any more.
 *
 * One sentinel file stands for one epoch of one domain. Every process that was connected in
 * that epoch, and everything it forked, holds a shared lock on the file by mapping it. An epoch is
 * over when no process has such a lock.
 *
 * Client thread only, except `wait`; no locks.
 */
#ifndef KSMD_GRACE_H
#define KSMD_GRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/vault.h"

struct sentinel {
	uint64_t epoch;
	uint64_t old_ms;        /* since when it stands in `old` */
	struct vault_file file; /* its fd takes only the exclusive lock that tests */
	TAILQ_ENTRY(sentinel) link;
};
TAILQ_HEAD(sentinel_list, sentinel);

/* The oldest epoch that is waited for. The client thread writes it; others may read it. */
struct grace_wait {
	_Atomic uint64_t since_ms;   /* 0: none is */
	_Atomic uint64_t dev, inode; /* its sentinel's, as in /proc/PID/maps */
};

/* Invariant: epochs in `old` ascend and are all below current->epoch. */
struct grace {
	const struct vault *vault;
	struct sentinel *current;
	struct sentinel_list old;
	unsigned int nr_old;
	uint64_t next_poll_ms;
	unsigned int poll_ms; /* doubles while nothing comes free */
	uint64_t next_advance_ms;
	struct grace_wait wait;
};

/* Return 0 or -errno. grace_deinit() closes everything. */
int grace_init(struct grace *g, const struct vault *v, uint64_t epoch);
void grace_deinit(struct grace *g);
/*
 * A descriptor of the current sentinel with the shared lock, for one client, owned by the caller.
 * -EWOULDBLOCK when some process has locked the file against us: start a new epoch and try again.
 * Other negative errno: out of descriptors.
 */
int grace_open_shared(const struct grace *g);
/* Begin an epoch. Returns 0, -EMFILE (too many epochs are still held) or -errno. */
int grace_advance(struct grace *g, uint64_t epoch);
/* Is no epoch waited for? */
static inline bool grace_idle(const struct grace *g)
{
	return TAILQ_EMPTY(&g->old);
}
/* May the domain advance now? Not while an epoch is still waited for, nor too often. */
bool grace_may_advance(const struct grace *g, uint64_t now_ms);
/*
 * Close the sentinels of epochs that are over, oldest first. Returns the last such epoch, 0 if
 * there is none.
 */
uint64_t grace_poll(struct grace *g, uint64_t now_ms);

#endif
