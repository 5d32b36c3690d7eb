/* SPDX-License-Identifier: MIT */
/*
 * clients.h - all connections: lists, the table by pid, and how a session ends.
 *
 * The client thread alone changes anything here. Others may look into the table by pid, in an RCU
 * read section (client_view.h), and read the counters.
 */
#ifndef KSMD_CLIENTS_H
#define KSMD_CLIENTS_H

#include <pthread.h>

#include "base/log.h"
#include "base/listener.h"
#include "base/loop.h"
#include "daemon/session.h"

/* Why a session ends; each kind is logged at most once a minute. */
/* Programs to be named whose library is not the daemon's. After an upgrade there may be more. */
#define CLIENTS_OUTDATED 8u

enum error_kind {
	ERR_PROTOCOL,
	ERR_DESCRIPTORS,
	ERR_TIMEOUT,
	ERR_LIMIT,
	ERR_RESOURCES,
	ERR_NOT_ALLOWED, /* the user may not be a client */
	ERR_LIAR,
	ERR_ENDED, /* no error: it ended while it joined */
	ERR_NR
};

/*
 * Invariant: a session stands in `all` until it is dropped and in `dead` from then to the end of
 * the turn; in `unfinished` while it is in HELLO or WELCOME; in by_pid while it has an mm_slot and
 * is not dropped.
 */
struct clients {
	struct daemon *d;
	struct loop loop;
	pthread_t thread;
	bool started;
	struct listener listener;
	bool guarded; /* new connections bring no descriptors before they are accepted: accept.c */

	struct session_list all, unfinished, dead, working;
	uint32_t next_id;
	struct cds_lfht *by_pid;

	/* They fire in this order: see client_thread.c. */
	struct loop_timer silent_timer, unmerge_timer, epochs_timer, work_timer, bury_timer;
	uint64_t unmerge_begun_ms;
	uint32_t max_map_count; /* as the system said at asked_ms: session_range.c */
	uint64_t asked_ms;

	struct log_limit limit[ERR_NR];
	_Atomic uint64_t nr_clients;      /* READY or about to be */
	_Atomic uint64_t protocol_errors; /* connections dropped for what they sent */
	_Atomic uint64_t refused;         /* connections of users that may not be clients */
	_Atomic uint64_t domains_refused; /* of processes that may not join the domain they named */
	_Atomic uint64_t alone;           /* clients alone because nobody knows who they are */
	_Atomic uint64_t other_version;   /* connections of libraries that speak another one */
	/* Who they were, the last of them: pid << 32 | version, 0: nobody. */
	_Atomic uint64_t outdated[CLIENTS_OUTDATED];
	unsigned int next_outdated;
};

/*
 * Returns 0 or -errno; clients_deinit() may follow in any case. All sessions must be gone by then.
 */
int clients_init(struct clients *c, struct daemon *d);
void clients_deinit(struct clients *c);

/* A new session: it is in HELLO, and watched from the next turn on. */
void clients_add(struct clients *c, struct session *s);
/* Its handshake is over. */
void clients_finished(struct session *s);
/* Into the table by pid; s->mm is set. */
void clients_enter(struct session *s);
/*
 * Take the session out of everything. Its memory stays until the end of the turn, since callers
 * further up the stack may still use it. Cheap to repeat.
 */
void client_drop(struct session *s);
/* Count, log, tell the client (a positive errno), and drop it. */
void client_fail(struct session *s, enum error_kind kind, int error, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/*
 * Make the engine forget the dead, for some milliseconds, and let go of those of which it knows
 * nothing any more. The timer is set when some are left.
 */
void clients_bury(struct clients *c);
/* Frames may have been retired, or a domain be empty: look after grace periods before long. */
void clients_epochs_soon(struct clients *c);

/* Any thread registered with liburcu, in a read section. NULL: there is no such client. */
struct session *clients_find(struct clients *c, pid_t pid);
/*
 * Has the process another session, in another domain that it shares with others? Client thread.
 */
bool clients_elsewhere(const struct session *s);
/* The session of a node of by_pid. */
struct session *clients_node(struct cds_lfht_node *node);

#endif
