/* SPDX-License-Identifier: MIT */
/* held_up.h - which processes keep retired frames from being given back. */
#ifndef KSMDCTL_HELD_UP_H
#define KSMDCTL_HELD_UP_H

struct talk;

/* A line for each domain that has been waiting for long; nothing where none has. */
void print_held_up(struct talk *c);

#endif
