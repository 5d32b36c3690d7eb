/* SPDX-License-Identifier: MIT */
/* group_limit.c - see group_limit.h. The limits are for everybody to see, refusals are not. */
#include "daemon/group_limit.h"

#include <errno.h>
#include <stdlib.h>

#include "base/text.h"
#include "daemon/account.h"
#include "daemon/attr.h"
#include "daemon/daemon.h"

#define SHARE ACCOUNT_NR /* `at` of the attribute that is no unit */

static const char *const unit_names[ACCOUNT_NR] = ACCOUNT_NAMES;

static int gather(void *owner, uint64_t subject, void *values)
{
	struct daemon *d = owner;

	(void)subject;
	account_limits(&d->accounts, values);
	return 0;
}

static void show(const struct attr *a, const void *values, struct text *out)
{
	const struct account_limits *l = values;
	uint64_t v = a->at == SHARE ? l->share : l->most[a->at];

	text_printf(out, "%llu\n", v == ACCOUNT_NO_LIMIT ? 0 : (unsigned long long)v);
}

/* A decimal number below 2^56, and nothing else but white space at its end. */
static int parse(const char *s, uint64_t *v)
{
	char *end;
	int err = text_leading_number(s, 10, v, &end);

	while (*end == ' ' || *end == '\n')
		end++;
	return err || *end || *v >> 56 ? -EINVAL : 0;
}

static int store(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	struct daemon *d = owner;
	uint64_t v;
	int err = parse(value, &v);

	(void)subject;
	if (err)
		return err;
	if (a->at == SHARE) {
		if (v < 1 || v > 100)
			return -EINVAL;
		account_share(&d->accounts, (unsigned int)v);
		return 0;
	}
	/* The file system that holds the frames cannot grow. */
	if (a->at == ACCOUNT_ARENA_BYTES && d->arena_limit && (!v || v > d->arena_limit))
		return -EINVAL;
	account_limit(&d->accounts, (enum account_unit)a->at, v ? v : ACCOUNT_NO_LIMIT);
	return 0;
}

#define LIMIT(title, unit, what)                                                                   \
	{                                                                                          \
		.name = (title), .help = (what), .at = (unit), .show = show, .store = store,       \
		.all = true                                                                        \
	}
static const struct attr attrs[] = {
	LIMIT("user_share_percent", SHARE,
	      "how much of what others leave a user may hold of each resource: 50 at most as much "
	      "as stays free, 100 everything"),
	LIMIT("places", ACCOUNT_PLACES, "most connections to client.sock; 0: no limit"),
	LIMIT("descriptors", ACCOUNT_DESCRIPTORS,
	      "most descriptors open for clients and domains; 0: no limit"),
	LIMIT("bytes", ACCOUNT_BYTES,
	      "most daemon memory for connections, domains and records of pages; 0: no limit"),
	LIMIT("domains", ACCOUNT_DOMAINS, "most domains; 0: no limit"),
	LIMIT("arena_bytes", ACCOUNT_ARENA_BYTES,
	      "most memory for frames, of all domains; at most what --arena-limit says. As with "
	      "all of these, whoever holds more keeps it, and gets no more until it is below"),
	ATTR_NUMBERS(struct account_limits, refused, "refused", unit_names,
		     "times that something was refused because of these, since the start"),
};

static const struct attr_group group = {
	.name = "limit",
	ATTR_TABLE(attrs),
	.size = sizeof(struct account_limits),
	.gather = gather,
};

void group_limit_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &group, d);
}
