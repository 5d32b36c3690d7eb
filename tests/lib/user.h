/* SPDX-License-Identifier: MIT */
/*
 * user.h - other users, in children of a test that root runs.
 *
 * The users and groups have no entries in /etc.
 */
#ifndef KSM_TEST_USER_H
#define KSM_TEST_USER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct daemon;

struct user {
	uid_t uid;
	gid_t gid;
	size_t nr_groups; /* supplementary; the last is `last`, those before it are of no use */
	gid_t last;
};

/* Says SKIP when this test cannot become another user. */
bool not_root(void);
/* Give up all privileges, for good. */
void become(const struct user *u);
/* Run fn(d) as this user in a child; the test fails if the child does. */
void as_user(const struct user *u, void (*fn)(struct daemon *d), struct daemon *d);

#endif
