/* SPDX-License-Identifier: MIT */
/* act.h - the commands that have a client do something: release, join, merge. */
#ifndef KSMDCTL_ACT_H
#define KSMDCTL_ACT_H

#include <stdbool.h>

struct talk;

/* Each ends the program when it does not come to its end within `seconds`. */
void cmd_release(struct talk *c, const char *pid, double seconds);
void cmd_join(struct talk *c, const char *pid, double seconds);
/* `wait`: until everything is merged that is there now. */
void cmd_merge(struct talk *c, const char *pid, bool wait, double seconds);

#endif
