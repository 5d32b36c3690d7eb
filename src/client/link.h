/* SPDX-License-Identifier: MIT */
/* link.h - one connection to the daemon: its socket, its numbers, a message out, a message in. */
#ifndef KSM_LINK_H
#define KSM_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include "client/kit.h"
#include "wire/wire.h"

/* The most descriptors that a message of the daemon carries: WELCOME. */
#define LINK_FDS 3

/*
 * Lives from link_begin() to link_end(), and nothing of it outlives a connection. Only the agent's
 * thread touches it, so no lock covers it.
 *
 * Invariants: sent_seq is the number of the newest ADD, DEL, FORGET or ADOPT; stat_id that of the
 * newest STAT, and an answer to one STAT confirms everything that was said before it.
 */
struct link {
	struct kit *kit;       /* carries out what the daemon orders; never NULL */
	int sock;              /* -1: there is no connection */
	uint32_t uid, euid;    /* of the process when it connected; they choose the domain, */
	uint32_t domain_nr;    /* and so does what was asked for: as.domain_nr at that time */
	uint64_t sent_seq;     /* 0: nothing was said yet */
	uint64_t stat_id;      /* 0: nothing was asked yet */
	uint64_t reply_id;     /* the STAT that was sent for a program thread; 0: none */
	uint64_t reply_for;    /* that thread's request: mailbox.nr */
	uint64_t info_due_ms;  /* when to send INFO; 0: nothing has happened */
	uint64_t info_ns;      /* CPU time that the last one took; 0: there was none */
	uint64_t forks_due_ms; /* when to send FORKS; 0: nothing is to be told */
	bool short_of_memory;  /* frames stay, because there is no room to give them up */
	uint64_t kept_pages;   /* of those, on frames of earlier daemons */
};

#define LINK_NONE(of_kit)                                                                          \
	{                                                                                          \
		.kit = (of_kit), .sock = -1                                                        \
	}

/* Descriptors that came with a message. The receiver owns them until link_close_fds(). */
struct link_fds {
	int fd[LINK_FDS];
	int nr;
};

/* A connection on `sock` begins; the link owns the socket from here on. */
void link_begin(struct link *l, int sock);
/* It is over: the socket and the arena's descriptor are closed. */
void link_end(struct link *l);
/*
 * Is the process still the user that connected, and asks for the same domain? A process that
 * changed one of them belongs to another domain, and must lose the arena of this one.
 */
bool link_same_identity(const struct link *l);

/* Send one message without waiting. Returns 0, -EAGAIN (no room), or another -errno. */
int link_send(const struct link *l, const void *m, size_t len);
/* Send the next STAT without waiting; stat_id moves on if it went out. Returns as link_send(). */
int link_ask(struct link *l, uint32_t flags);
/*
 * Receive one message without waiting. Returns its length, 0 at the end of the connection, or
 * -errno: -EAGAIN for none, -EPROTO for a message of a wrong size or of no known type. The caller
 * closes the descriptors in f, whatever is returned.
 */
long link_receive(const struct link *l, union ksm_msg *m, struct link_fds *f);
void link_close_fds(struct link_fds *f);

#endif
