/* SPDX-License-Identifier: MIT */
/*
 * talk.h - a connection to the daemon's control socket: one command, one answer, again and again.
 *
 * Connecting takes three steps, because a view connects with the ids of its caller and looks with
 * its own at who answers:
 *
 *	talk_socket(&t, path)    a socket
 *	talk_connect(&t)         whose peer from now on is the daemon
 *	talk_trusted(&t)         and one to be believed (wire/trust.h)
 *
 * A struct talk belongs to one thread. Whoever has called talk_socket() calls talk_close().
 */
#ifndef KSM_TOOLS_TALK_H
#define KSM_TOOLS_TALK_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/un.h>

#include "base/text.h"

struct talk {
	int fd; /* -1: none */
	struct sockaddr_un sun;
	struct text in; /* received, from `pos` on still to be read */
	size_t pos;
};

/* Returns 0, -ENAMETOOLONG (no socket can have this path), or -errno of socket(2). */
int talk_socket(struct talk *t, const char *path);
/* Returns 0 or -errno of connect(2). */
int talk_connect(struct talk *t);
/* May this process believe the daemon, and the directory of its socket? */
bool talk_trusted(const struct talk *t);
void talk_close(struct talk *t);

/*
 * Say `line` (without a newline; it must hold none) and append the body of the answer to `body`.
 * Returns 0; the negative errno that the daemon names, with its words appended to `why` (which may
 * be NULL), as in "EBUSY not while ..."; or, with nothing appended, -EINTR when a signal came while
 * the answer was awaited, -ETIMEDOUT after half a minute of silence, -EIO when the daemon is gone
 * or says what no daemon says, or -ENOMEM. After these the connection is of no further use.
 */
int talk_say(struct talk *t, const char *line, struct text *body, struct text *why);

/*
 * The value of `name` in what `dump` answered, a string. *len: its length; it ends with its line.
 * NULL: the name is not there.
 */
const char *talk_dumped(const char *dump, const char *name, size_t *len);

#endif
