/* SPDX-License-Identifier: MIT */
/*
 * control.h - the operator's socket: who is connected, who waits for what.
 *
 * It serves a tree of attributes to everybody who can reach the socket, with the commands of
 * command.h: to operators the whole, to others what attr.h lets them see. Who somebody is the
 * kernel says: the user and groups with which the peer connected. Belongs to the thread of its
 * loop.
 */
#ifndef KSMD_CONTROL_H
#define KSMD_CONTROL_H

struct attr_tree;
struct closer;
struct control;
struct group_set;
struct loop;

/*
 * Serve `tree` on a listening socket, which is taken over in any case. Root, the daemon's user and
 * members of `operators` are operators. The loop keeps timers of the control and turns no more once
 * it is freed. Returns NULL with errno.
 */
struct control *control_new(const struct attr_tree *tree, const struct group_set *operators,
			    struct loop *loop, struct closer *closer, int listen_fd);
/* Closes every connection, without an answer to those that wait. */
void control_free(struct control *c);
/* Something that a store set off may be done: give those who wait for it their answers. */
void control_finish(struct control *c);

#endif
