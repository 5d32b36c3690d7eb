/* SPDX-License-Identifier: MIT */
/*
 * client_act.h - what can be done with a client, or asked of it, on the control socket.
 *
 * The functions are those of struct attr_action (attr.h), with the table of clients as their owner.
 * They never wait for a client. They run on the main thread, which is registered with liburcu.
 */
#ifndef KSMD_CLIENT_ACT_H
#define KSMD_CLIENT_ACT_H

#include <stdint.h>

#include "base/text.h"

struct attr_viewer;

/*
 * why [ADDRESS]: what has become of its pages, range by range from there on. A line is "START-END",
 * in hexadecimal, then "NAME PAGES" for each that is not 0. The last line is "next ADDRESS" when
 * there is more.
 */
int client_act_why(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		   struct text *out, struct text *why);

/*
 * nodes [ADDRESS]: on which nodes its merged pages lie, "START-END NODE" for each stretch; else as
 * above.
 */
int client_act_nodes(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		     struct text *out, struct text *why);

/*
 * release: ask it to make all its memory private and to keep away until it is told to join. Then,
 * again and again: release look. That is refused with -EINPROGRESS while the client is at it, with
 * another -errno when it could not, and with -ENOENT when it has gone, which is what was wanted.
 */
int client_act_release(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		       struct text *out, struct text *why);
/*
 * merge: have the daemon make no longer pauses than need be, and answer with the number of the pass
 * after which what is there now has been merged. merge NUMBER: -EINPROGRESS until that pass is
 * complete and its orders are answered; -ETIMEDOUT when this client does not answer its own.
 */
int client_act_merge(void *clients, uint64_t pid, const struct attr_viewer *v, const char *args,
		     struct text *out, struct text *why);

#endif
