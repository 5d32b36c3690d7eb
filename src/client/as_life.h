/* SPDX-License-Identifier: MIT */
/* as_life.h - the tables from the first use of the library on, and across forks. */
#ifndef KSM_AS_LIFE_H
#define KSM_AS_LIFE_H

#include "client/as.h"

/*
 * Make the tables and the cookie. Returns 0, or -ENOMEM: another call may try again. Context: no
 * other thread uses `as` yet.
 */
int as_init(void);
/*
 * A forked child makes the lock free and the queue empty; ranges and frame bits stay as far as
 * the memory was inherited. Context: the child's only thread.
 */
void as_reset_child(void);
/* Call fn for each piece of memory that the tables lie in: its address, or NULL, and bytes. */
void as_own(void (*fn)(void *arg, const void *p, size_t len), void *arg) NEEDS(as.lock);
/* Forget the library's own tables, whatever ranges a program has named. */
void as_clear_own(void) NEEDS(as.lock);

#endif
