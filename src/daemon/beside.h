/* SPDX-License-Identifier: MIT */
/*
 * beside.h - a process beside the daemon that keeps a right which the daemon gives up.
 *
 * The kernel tells some things only to those who may trace a process. The serving daemon has no
 * such right and should not: with it a fault in the daemon could read every process. So a process
 * of its own keeps CAP_SYS_PTRACE, with a filter that leaves it one thing to do. It takes questions
 * from a socket and answers each with bytes, descriptors or an error.
 *
 * The process may hang or die. The daemon waits for an answer for two seconds, once: while one is
 * owed it asks nothing and waits for nothing. Whatever else it says than the answer to the newest
 * question ends the connection, and the process with it.
 */
#ifndef KSMD_BESIDE_H
#define KSMD_BESIDE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BESIDE_FDS 2 /* in one message */

/* A question or an answer. Who reads one owns its descriptors. */
struct beside_message {
	void *body;
	size_t len; /* bytes of body; of one to be read: what there is room for, then what came */
	int fd[BESIDE_FDS];
	size_t nr_fds;
};

struct beside_kind {
	const char *what; /* for the log: "the process that ..." */
	size_t room;      /* bytes of the largest body */
	/* Both run in the process. It gives up all that it does not need. Returns 0 or -errno. */
	int (*confine)(int sock);
	/*
	 * a->body has `room` bytes; what it fills in is sent. Descriptors of both are closed then.
	 * Returns 0, or -errno, and then there are none in `a`.
	 */
	int (*answer)(const struct beside_message *q, struct beside_message *a);
};

/* One thread at a time asks. */
struct beside {
	const struct beside_kind *kind;
	int sock;    /* -1: there is none (any more) */
	uint32_t nr; /* of the newest question */
	bool late;   /* its answer is owed, and not waited for any more */
};

/*
 * Starts it. Call it before the process has threads, and before what a child should not have.
 * Returns 0 or -errno; it can be asked in either case, and then says -ENOTCONN. `kind` is kept.
 */
int beside_start(struct beside *b, const struct beside_kind *kind);
/* The process ends. */
void beside_stop(struct beside *b);
/*
 * `a` has room for a->len bytes. Returns 0; or -errno, and then nothing is in `a` and there is
 * nothing to close: -ENOTCONN (it is gone), -EAGAIN (it did not answer within two seconds; until it
 * has, it is not asked and nobody waits again), or what the process says.
 */
int beside_ask(struct beside *b, const struct beside_message *q, struct beside_message *a);

#endif
