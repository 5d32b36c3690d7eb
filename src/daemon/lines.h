/* SPDX-License-Identifier: MIT */
/*
 * lines.h - a connection on which a peer says lines and is given answers.
 *
 * The peer may send any bytes, in any pieces, and need not read. It costs one buffer for a line,
 * and answers up to LINES_OUT bytes and one more: beyond that no further line is taken until the
 * peer reads. It never makes the caller wait, and has LINES_TURN lines carried out in a turn of the
 * loop; then the other connections have theirs. Belongs to the thread of its loop.
 */
#ifndef KSMD_LINES_H
#define KSMD_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/loop.h"
#include "base/text.h"

#define LINES_MAX 4096u /* bytes of a line, its newline included */
#define LINES_TURN 8
#define LINES_OUT 65536u /* a few of the largest answers, which is a list of all clients */

struct closer;
struct lines;

struct lines_ops {
	/* The peer said something, or that it will say no more. */
	void (*heard)(struct lines *l);
	/* A line, without its newline; it may hold any other bytes. Append the answer to l->out. */
	void (*line)(struct lines *l, const char *line, size_t len);
	/* The line is too long. Append the last answer to l->out. */
	void (*too_long)(struct lines *l);
	/* The connection is closed. `l` is used for the rest of the loop's turn. */
	void (*closed)(struct lines *l);
};

/*
 * A line is taken unless the connection is closing or closed, an answer is held, or LINES_OUT bytes
 * lie unread in `out`. `in` holds in_len bytes, lines that were not taken yet.
 */
struct lines {
	struct loop_watch watch;
	const struct lines_ops *ops;
	struct closer *closer;  /* of what the peer passes, and of the connection */
	uid_t uid;              /* the peer */
	char in[LINES_MAX + 1]; /* one more for a NUL */
	size_t in_len;
	struct text out;
	bool held;    /* the answer to the last line comes later: lines_answered() */
	bool eof;     /* the peer has sent all it will; it still gets its answers */
	bool closing; /* close once the answers are out */
	bool closed;
};

/*
 * `l` is zeroed, except its closer and uid. `fd` is a non-blocking socket, taken over on success.
 * Returns 0 or -errno.
 */
int lines_open(struct lines *l, struct loop *loop, int fd, const struct lines_ops *ops);
/* At once, without the answers that were not read. Cheap to repeat. */
void lines_close(struct lines *l);
/* From line(): the answer comes later, and no further line before it. */
void lines_hold(struct lines *l);
/* The answer that was held is in l->out now: send it and go on. */
void lines_answered(struct lines *l);
/* Send a word of farewell if there is room for it now. */
void lines_farewell(int fd, const char *text);

#endif
