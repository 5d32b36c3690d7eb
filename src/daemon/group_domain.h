/* SPDX-License-Identifier: MIT */
/* group_domain.h - the attributes domain/ID/. */
#ifndef KSMD_GROUP_DOMAIN_H
#define KSMD_GROUP_DOMAIN_H

struct attr_tree;
struct daemon;

/* `d` outlives the tree. */
void group_domain_register(struct attr_tree *t, struct daemon *d);

#endif
