/* SPDX-License-Identifier: MIT */
/* top.h - the command top: the status, again and again. */
#ifndef KSMDCTL_TOP_H
#define KSMDCTL_TOP_H

struct talk;

/* A look every `delay` seconds; ends after `count` looks (0: never), on q, SIGINT or SIGTERM. */
void cmd_top(struct talk *c, double delay, unsigned long count);

#endif
