/* SPDX-License-Identifier: MIT */
/*
 * control.h - the operator's socket: text commands, one per line.
 *
 *	get PATH          ok LENGTH, then the value
 *	set PATH VALUE    ok 0
 *	ls [PATH]         ok LENGTH, then the names
 *	ls -l [PATH]      ok LENGTH, then each name after its mode: "0644 run", "0555 left_out/"
 *	                  error ERRNAME message
 *
 * Main thread only. Everybody who can reach the socket may get and ls; only root and the daemon's
 * own user may set.
 */
#ifndef KSMD_CONTROL_H
#define KSMD_CONTROL_H

#include <stdint.h>
#include <sys/epoll.h>

struct attr_tree;
struct control;

/*
 * listen_fd is taken over in any case and watched on `epoll`; events come back with data.ptr
 * pointing into the control object. Returns NULL with errno.
 */
struct control *control_new(const struct attr_tree *tree, int epoll, int listen_fd);
void control_free(struct control *c);
void control_event(struct control *c, const struct epoll_event *ev);
/* After each round of events: answers what has come due, drops idle peers. Returns when to call
 * again at the latest. */
uint64_t control_run(struct control *c, uint64_t now_ms);

#endif
