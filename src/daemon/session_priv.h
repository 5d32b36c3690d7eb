/* SPDX-License-Identifier: MIT */
/*
 * session_priv.h - one connection, shared by session.c (life), session_msg.c (what it says) and
 * session_send.c (what it is told).
 */
#ifndef KSMD_SESSION_PRIV_H
#define KSMD_SESSION_PRIV_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>
#include <urcu.h>
#include <urcu/rculfhash.h>

#include "daemon/daemon.h"
#include "base/log.h"
#include "daemon/client_fds.h"
#include "daemon/session.h"

enum session_state {
	SESSION_HELLO,   /* accepted; has said nothing yet */
	SESSION_WELCOME, /* known and answered; has not set itself up yet */
	SESSION_READY,
	SESSION_DEAD, /* dropped; waits for the end of the current round of events */
	SESSION_STATE_NR
};

/* What epoll hands back. */
enum source_kind { SOURCE_LISTEN, SOURCE_EVENT, SOURCE_SOCKET, SOURCE_PIDFD };
struct source {
	enum source_kind kind;
	struct session *session;
};

/* A slot per order, found by id; older ones are overwritten. An engine gives few at a time. */
#define ORDER_SLOTS 64
struct order_sent {
	uint32_t id;
	uint64_t addr;
};

/* Things to be sent when there is room: bits of `want`. */
#define WANT_EPOCH 1u
#define WANT_UNMERGE 2u
#define WANT_STAT 4u

/*
 * Created at accept. From HELLO on it is a client: it has a domain and an mm_slot, and stands in the
 * table by pid. Dropping takes it out of everything at once; the memory and the descriptors go when
 * the engine lets go of the mm_slot (client_release), because the scan thread may be in the middle
 * of reading through them.
 *
 * Fields without a remark belong to the client thread, or do not change once the mm_slot exists.
 */
struct session {
	struct sessions *owner;
	_Atomic int state; /* written by the client thread */
	int sock;
	int fds[CLIENT_FDS_NR]; /* -1 before HELLO */
	pid_t pid;
	uid_t uid;
	uint32_t id;
	struct domain *domain;
	/*
	 * Set last before the session goes into by_pid, and read first by who finds it there: that liburcu's
	 * table orders the two is hidden from the thread sanitizer.
	 */
	struct mm_slot *_Atomic mm;
	struct source sock_source, pidfd_source;
	TAILQ_ENTRY(session) link;       /* in sessions.all, or sessions.dead */
	TAILQ_ENTRY(session) unfinished; /* in sessions.unfinished until READY */
	struct cds_lfht_node by_pid;
	uint64_t accepted_ms;

	uint64_t epoch;      /* the last it was told of */
	uint64_t epoch_done; /* the last it has said it lives in; what it sent before has been read */
	uint64_t stat_id; /* of the STAT to be answered: one that asks on gets the last answer alone */
	uint32_t want;
	bool polls_out;       /* EPOLLOUT is asked for */
	bool unmerge_awaited; /* by the job under way */

	pthread_mutex_t send_lock; /* orders leave in the order of their numbers; covers orders[] */
	struct order_sent *orders;
	_Atomic uint64_t seq;        /* last ADD, DEL, FORGET or ADOPT taken in */
	_Atomic uint32_t nr_orders;  /* sent and not answered */
	_Atomic uint64_t waiting_ms; /* since when it has answered nothing, while nr_orders > 0 */
	_Atomic bool unmerging;      /* UNMERGE was sent and not answered: no orders until then */

	/* Claims of merged pages that were looked at, and those found false; halved now and then. */
	uint32_t nr_done, claims_checked, claims_false;

	/* Facts from HELLO and INFO, for viewers. */
	_Atomic uint32_t flags, own_vmas, max_map_count;
	_Atomic uint64_t agent_cpu_ns;
	_Atomic uint64_t left_out[KSM_LEFT_CLIENT_NR];
};
TAILQ_HEAD(session_list, session);

enum error_kind {
	ERR_PROTOCOL,
	ERR_DESCRIPTORS,
	ERR_TIMEOUT,
	ERR_LIMIT,
	ERR_RESOURCES,
	ERR_LIAR,
	ERR_ENDED, /* no error: it ended while it joined */
	ERR_NR
};

struct sessions {
	struct daemon *d;
	pthread_t thread;
	bool started;
	_Atomic bool stop;
	int epoll, listen, spare; /* spare: given up to turn a peer away when none are left */
	struct source listen_source, event_source;

	struct session_list all, unfinished, dead;
	unsigned int nr_unfinished;
	unsigned int max_connections;
	uint32_t next_id;
	uint64_t grace_due_ms;
	uint64_t unmerge_due_ms, unmerge_deadline_ms;
	unsigned int nr_unmerge_awaited;
	struct log_limit limit[ERR_NR];

	struct cds_lfht *by_pid;
	_Atomic uint64_t nr_clients, nr_connections, protocol_errors;
};

/* A client answers orders within milliseconds unless it is stopped, by an operator or a debugger,
 * and it is no harm to wait for that; so the time is generous. */
#define STALL_MS 10000

/* session_send.c */
/* Send now or not at all. fds[0..nr_fds) go along, not consumed. Takes send_lock. 0 or -errno. */
int session_send(struct session *s, const void *msg, const int *fds, int nr_fds);
int session_send_welcome(struct session *s, uint64_t epoch, int sentinel);
void session_send_error(struct session *s, int error, const char *text);
/* Send what is wanted and possible; keep EPOLLOUT in step with the rest. */
void session_flush(struct session *s);
bool session_stalled(struct session *s);
/* The address of an order sent not long ago; false when it is not known any more. */
bool session_order_addr(struct session *s, uint32_t id, uint64_t *addr);

/* session_msg.c */
/* Receive and carry out what has come, up to a fair share. */
void session_input(struct session *s);

/* session.c */
void session_drop(struct session *s);
/* Count, log, tell the peer (a positive errno), and drop. */
void session_fail(struct session *s, enum error_kind kind, int error, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* State changes, in order. Return 0 or -errno. */
int session_become_client(struct session *s, const struct ksm_msg_hello *hello);
void session_become_ready(struct session *s);
void session_unmerge_done(struct session *s, int error);
/* Mappings that merging added to the process; bytes saved less all metadata spent on it. */
uint64_t session_added_vmas(struct session *s, const struct mm_counters *c);
int64_t session_profit(struct session *s, const struct mm_counters *c);
/* Wait until `due` for events and carry them out, with whatever else is due: one turn of the client
 * thread, or of a test that plays it. Returns when to look again. */
uint64_t sessions_round(struct sessions *ss, uint64_t due);
/* Frames may have been retired: look after grace periods soon. */
void sessions_grace_soon(struct sessions *ss);

#endif
