/* SPDX-License-Identifier: MIT */
/*
 * ask.h - questions to the daemon on the one connection of a run.
 *
 * Every string that a function returns belongs to the caller, who frees it. A daemon that is not
 * there, or does not answer, ends the program (EXIT_NO_DAEMON).
 */
#ifndef KSMDCTL_ASK_H
#define KSMDCTL_ASK_H

#include <stddef.h>
#include <stdint.h>

#include "tools/control/talk.h"

/* Connect to the daemon in `dir`, or where it usually is if that is NULL. */
void ctl_open(struct talk *c, const char *dir);

/* One command, without its newline. Returns the body; NULL with "ERRNAME message" in err. */
char *ctl_try(struct talk *c, const char *command, char *err, size_t size);
/* The same for a command that must succeed: a refusal ends the program (EXIT_REFUSED). */
char *ctl_ask(struct talk *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/*
 * The value of DIR/name without its newline; NULL when it is gone, as a client that ended is, or
 * not for us to see.
 */
char *ctl_value(struct talk *c, const char *dir, const char *name);
/* The same as a number, 0 when there is none. */
int64_t ctl_number(struct talk *c, const char *dir, const char *name);

#endif
