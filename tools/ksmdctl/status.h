/* SPDX-License-Identifier: MIT */
/* status.h - the command status: what is saved, how fast, for whom, and what was left out. */
#ifndef KSMDCTL_STATUS_H
#define KSMDCTL_STATUS_H

#include <stdbool.h>

struct talk;
struct rates;
struct sample;

void cmd_status(struct talk *c, bool json);
/* The text of a status, with at most `max` clients. */
void print_status(struct talk *c, const struct sample *s, const struct rates *r, int max);

#endif
