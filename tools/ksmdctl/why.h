/* SPDX-License-Identifier: MIT */
/* why.h - the command why: what has become of a client's memory, and the reason. */
#ifndef KSMDCTL_WHY_H
#define KSMDCTL_WHY_H

#include <stdbool.h>

struct talk;

/* `all`: every range, and not just those with most memory. */
void cmd_why(struct talk *c, const char *pid, bool all, bool json);

#endif
