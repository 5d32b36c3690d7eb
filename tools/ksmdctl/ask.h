/* SPDX-License-Identifier: MIT */
/*
 * ask.h - the connection to the daemon: one command, one answer.
 *
 * Every string that a function returns belongs to the caller, who frees it. A daemon that is not
 * there, or ends the connection, ends the program (EXIT_NO_DAEMON).
 */
#ifndef KSMDCTL_ASK_H
#define KSMDCTL_ASK_H

#include <stddef.h>
#include <stdint.h>

/* The connection; one per run. Bytes [in_pos, in_len) were received and are still to be read. */
struct ctl {
	int fd;
	char in[4096];
	size_t in_pos, in_len;
};

/* Connect to the daemon in `dir`, or where it usually is if that is NULL. */
void ctl_open(struct ctl *c, const char *dir);
void ctl_close(struct ctl *c);

/* One command, without its newline. Returns the body; NULL with "ERRNAME message" in err. */
char *ctl_try(struct ctl *c, const char *command, char *err, size_t size);
/* The same for a command that must succeed: a refusal ends the program (EXIT_REFUSED). */
char *ctl_ask(struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * The value of DIR/name without its newline; NULL when it is gone, as a client that ended is, or
 * not for us to see.
 */
char *ctl_value(struct ctl *c, const char *dir, const char *name);
/* The same as a number, 0 when there is none. */
int64_t ctl_number(struct ctl *c, const char *dir, const char *name);

#endif
