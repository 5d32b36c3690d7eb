/* SPDX-License-Identifier: MIT */
/* outdated.h - which programs are no clients because of their library's version. */
#ifndef KSMDCTL_OUTDATED_H
#define KSMDCTL_OUTDATED_H

struct talk;

/* A line that names them; nothing where there are none. */
void print_outdated(struct talk *c);

#endif
