/* SPDX-License-Identifier: MIT */
/* group_user.c - see group_user.h. */
#include "daemon/group_user.h"

#include <errno.h>

#include "daemon/account.h"
#include "daemon/attr.h"

/* A user that holds nothing has no directory. */
static int gather(void *owner, uint64_t uid, void *values)
{
	struct account_view *v = values;
	uint64_t held = 0;

	if (uid > UINT32_MAX)
		return -ENOENT;
	account_read(owner, (uid_t)uid, v);
	for (int i = 0; i < ACCOUNT_NR; i++)
		held |= v->held[i];
	return held ? 0 : -ENOENT;
}

static bool owned(void *owner, uint64_t subject, uid_t uid)
{
	(void)owner;
	return subject == uid;
}

static void list(void *owner, struct attr_list *l)
{
	unsigned int nr;
	struct account_view *v = account_each(owner, &nr);

	for (unsigned int i = 0; i < nr; i++)
		attr_list_subject(l, v[i].uid);
	free(v);
}

#define USER(name, unit, help) ATTR_FIELD(struct account_view, held[unit], name, help)
static const char *const unit_names[ACCOUNT_NR] = ACCOUNT_NAMES;

static const struct attr attrs[] = {
	USER("places", ACCOUNT_PLACES, "connections to client.sock, silent ones included"),
	USER("unfinished", ACCOUNT_UNFINISHED, "those of them that have not said all of HELLO yet"),
	USER("descriptors", ACCOUNT_DESCRIPTORS,
	     "descriptors open in the daemon: sockets, what clients passed, arenas, sentinels"),
	USER("bytes", ACCOUNT_BYTES, "daemon memory for connections, domains and records of pages"),
	USER("domains", ACCOUNT_DOMAINS, "domains made for this user"),
	USER("arena_bytes", ACCOUNT_ARENA_BYTES,
	     "memory of the frames of these domains, in steps of 64 frames"),
	USER("debt_bytes", ACCOUNT_DEBT_BYTES,
	     "memory that would be needed if all that is merged in them were written"),
	USER("closers", ACCOUNT_CLOSERS, "threads that are closing what the user passed"),
	ATTR_NUMBERS(struct account_view, refused, "refused", unit_names,
		     "times that the user was refused something because of limit/, "
		     "since it holds anything"),
};

static const struct attr_group group = {
	.name = "user",
	ATTR_TABLE(attrs),
	.size = sizeof(struct account_view),
	.gather = gather,
	.list = list,
	.owned = owned,
};

void group_user_register(struct attr_tree *t, struct account_table *accounts)
{
	attr_register(t, &group, accounts);
}
