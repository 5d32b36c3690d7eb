/* SPDX-License-Identifier: MIT */
/*
 * session.h - one connection of a client, from accept to release.
 *
 * From HELLO on the session is a client: it has a domain and an mm_slot, and stands in the table by
 * pid (clients.h). Dropping it takes it out of everything at once. Its memory and descriptors go
 * when the engine lets go of the mm_slot (client_ops.c), because the scan thread may be in the
 * middle of reading through them.
 */
#ifndef KSMD_SESSION_H
#define KSMD_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <urcu.h>
#include <urcu/rculfhash.h>

#include "base/guard.h"
#include "base/loop.h"
#include "daemon/account.h"
#include "daemon/client_fds.h"
#include "daemon/vitals.h"
#include "engine/engine.h"

struct clients;
struct daemon;
struct domain;

enum session_state {
	SESSION_HELLO,   /* accepted; has said nothing yet */
	SESSION_WELCOME, /* known and answered; has not set itself up yet */
	SESSION_READY,
	SESSION_DEAD, /* dropped; waits for the end of the current turn */
	SESSION_STATE_NR
};

/* A place per order, found by id; older ones are overwritten. An engine gives few at a time. */
#define ORDERS_REMEMBERED 64
struct order_sent {
	uint32_t id;
	uint64_t addr;
};

#define CLAIMS_KEPT 8u
/* What a client says of its pages: session_answer.c. */
struct claims {
	struct claim {
		uint64_t addr, mask; /* pages of a block that are said to be merged */
	} v[CLAIMS_KEPT];            /* to be looked at; what comes when there are so many is not */
	uint32_t nr;
	uint32_t checked, lies; /* pages that were looked at; those that were not so */
};

enum session_release {
	RELEASE_NONE,
	RELEASE_ASKED, /* by the main thread */
	RELEASE_SENT,  /* the client is at it */
};

/* What is left to do of a change of the address space: session_range.c. */
struct range_work {
	uint32_t type; /* KSM_MSG_*; 0: nothing. The client's messages wait until it is */
	uint64_t seq;
	struct span left;
	bool queued;
	uint32_t frame;            /* ADOPT: of the first page left */
	TAILQ_ENTRY(session) link; /* in clients.working */
};

/* What is to be sent when there is room: bits of `want`. */
#define WANT_EPOCH 1u
#define WANT_UNMERGE 2u
#define WANT_STAT 4u
#define WANT_RELEASE 8u

/*
 * The client thread alone uses fields without a remark, and those that do not change once the
 * mm_slot exists may be read by any thread.
 */
struct session {
	/* The connection. */
	struct daemon *d;
	struct clients *clients;
	_Atomic int state; /* session_move() by the client thread; any thread reads it */
	int sock;
	struct loop_watch sock_watch;
	pid_t pid;
	uid_t uid;
	uint64_t accepted_ms;
	struct charge charge;            /* what it costs its user */
	struct account *account;         /* that it is charged to, from HELLO on; any thread */
	struct charge records;           /* and the engine's records of it; the engine's lock */
	TAILQ_ENTRY(session) link;       /* in clients.all, or clients.dead */
	TAILQ_ENTRY(session) unfinished; /* in clients.unfinished until READY */

	/* The client, from HELLO on. */
	int fds[CLIENT_FDS_NR]; /* -1 before */
	struct loop_watch pidfd_watch;
	uint32_t id;
	uint64_t family; /* of processes that came from each other by forks alone */
	struct domain *domain;
	TAILQ_ENTRY(session) member; /* in domain->members while it stands in by_pid */
	/*
	 * join.c sets it last before the session goes into by_pid, and whoever finds the session
	 * there reads it first: the thread sanitizer does not see that liburcu's table orders the
	 * two.
	 */
	struct mm_slot *_Atomic mm;
	struct cds_lfht_node by_pid;

	/* What it is told besides orders. */
	uint64_t epoch; /* the last it was told of */
	/* The last it has said it lives in; what it sent before was read. Any thread reads it. */
	_Atomic uint64_t epoch_done;
	uint64_t stat_id;     /* of the STAT to be answered; a client that asks again before the
			       * answer gets the last answer alone */
	uint32_t want;        /* WANT_* */
	bool unmerge_awaited; /* by the job under way */
	bool unmerge_refused; /* it could not; the next store of `run` 2 asks it again */

	/* enum session_release, or -errno of the last try. The main thread asks, the client
	 * thread goes on from there. */
	_Atomic int release;

	struct range_work work;
	struct span exit; /* once it is dropped: what the engine still knows of it */

	/* Its orders: session_order.c. */
	struct lock send_lock; /* orders leave in the order of their numbers; covers orders[] */
	struct order_sent *orders;
	_Atomic uint64_t seq;        /* last ADD, DEL, FORGET or ADOPT taken in */
	_Atomic uint32_t nr_orders;  /* sent and not answered */
	_Atomic uint64_t waiting_ms; /* since when it has answered nothing, while nr_orders > 0 */
	_Atomic bool unmerging;      /* UNMERGE was sent and not answered: no orders until then */

	uint32_t nr_done;     /* orders answered */
	struct claims claims; /* session_answer.c; send_lock */

	struct vitals vitals;   /* of the worker that scans it */
	_Atomic int slow_calls; /* so many calls are looked at more closely: client_ops.c */

	/* Facts from HELLO and INFO; any thread reads them. */
	_Atomic bool has_told; /* an INFO came: everything that it had at its start was told */
	_Atomic uint32_t flags, max_map_count;
	_Atomic uint64_t agent_cpu_ns;
	_Atomic uint64_t left_out[KSM_LEFT_CLIENT_NR];
	_Atomic uint64_t nameless;
};
TAILQ_HEAD(session_list, session);

/*
 * A session in HELLO that takes over sock; its place is charged to the user. Returns NULL with
 * errno, which leaves sock to the caller: EDQUOT when the user or the daemon has no more places,
 * or ENOMEM.
 */
struct session *session_new(struct daemon *d, int sock, const struct ucred *cred);
/*
 * Gives back everything, and the socket to the closer. Any thread and context; the session must be
 * out of all lists.
 */
void session_free(struct session *s);
/* False (logged) when the table has no such move: the caller drops the session. */
bool session_move(struct session *s, enum session_state to);
/* Charge the user for what a client costs more than a connection. 0, -EDQUOT or -ENOMEM. */
int session_charge_client(struct session *s);

/* Does it leave orders unanswered for long? Any thread. */
bool session_stalled(const struct session *s);
/*
 * Has it told of all that it offered when it connected? One that goes on telling for long is taken
 * for one that has. Any thread.
 */
bool session_told(const struct session *s);
/* Bytes that a client saves, less all that is spent on it. */
int64_t session_profit(const struct mm_counters *c);

#endif
