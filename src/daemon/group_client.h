/* SPDX-License-Identifier: MIT */
/* group_client.h - the attributes client/PID/ and what ksm/ says of all clients. */
#ifndef KSMD_GROUP_CLIENT_H
#define KSMD_GROUP_CLIENT_H

struct attr_tree;
struct clients;

/* `s` outlives the tree. */
void group_client_register(struct attr_tree *t, struct clients *s);

#endif
