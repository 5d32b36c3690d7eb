/* SPDX-License-Identifier: MIT */
/* kinds.h - words for what becomes of memory: what each kind means, and what can be done. */
#ifndef KSMDCTL_KINDS_H
#define KSMDCTL_KINDS_H

#include <stdbool.h>
#include <stddef.h>

/* `name` is the daemon's word; `what` and the rest are this program's, for people. */
struct kind {
	const char *name;
	const char *what;    /* what it is, in a few words */
	const char *meaning; /* a sentence or two */
	const char *help;    /* what would have to change; NULL: nothing has to */
	bool merged;         /* it saves memory */
};

/* All of them, in the order in which they are shown. */
extern const struct kind kinds[];
extern const size_t nr_kinds;

/* The index of a kind; nr_kinds when there is none of that name. */
size_t kind_find(const char *name, size_t len);

/* Words with line breaks before column 80, each line behind a margin. */
void print_wrapped(const char *margin, const char *text);

/* The command help: one kind, or all of them (NULL). */
void cmd_help(const char *name);

#endif
