/* SPDX-License-Identifier: MIT */
/* group_limit.c - see group_limit.h. The limits are for everybody to see, refusals are not. */
#include "daemon/group_limit.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "daemon/account.h"
#include "daemon/attr.h"
#include "daemon/daemon.h"

#define SHARE ACCOUNT_NR  /* `at` of the attribute that is no unit */
#define PERCENT_MAX 1000u /* of what is available; more than that is no limit */

struct limit_values {
	struct account_limits l;
	uint32_t debt_percent; /* 0: the limit is a number */
};

static const char *const unit_names[ACCOUNT_NR] = ACCOUNT_NAMES;

static int gather(void *owner, uint64_t subject, void *values)
{
	struct daemon *d = owner;

	struct limit_values *v = values;

	(void)subject;
	account_limits(&d->accounts, &v->l);
	v->debt_percent = d->shortage.debt_percent;
	return 0;
}

static void show(const struct attr *a, const void *values, struct text *out)
{
	const struct limit_values *all = values;
	const struct account_limits *l = &all->l;
	uint64_t v = a->at == SHARE ? l->share : l->most[a->at];

	if (a->at == ACCOUNT_DEBT_BYTES && all->debt_percent) {
		text_printf(out, "%u%%\n", all->debt_percent);
		return;
	}
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

/* "50%": so much of the memory that is available. *percent is 0 for anything else. */
static int parse_percent(const char *s, uint32_t *percent)
{
	size_t len = strcspn(s, "%");
	char number[24];
	uint64_t v;

	*percent = 0;
	if (!s[len])
		return 0;
	if (len >= sizeof(number) || strspn(s, "0123456789") != len)
		return -EINVAL;
	snprintf(number, sizeof(number), "%.*s", (int)len, s);
	if (parse(number, &v) || !v || v > PERCENT_MAX || s[len + 1 + strspn(s + len + 1, " \n")])
		return -EINVAL;
	*percent = (uint32_t)v;
	return 0;
}

static int store_debt(struct daemon *d, const char *value)
{
	uint32_t percent;
	uint64_t v = 0;
	int err = parse_percent(value, &percent);

	if (!err && !percent)
		err = parse(value, &v);
	if (err)
		return err;
	if (!percent)
		account_limit(&d->accounts, ACCOUNT_DEBT_BYTES, v ? v : ACCOUNT_NO_LIMIT);
	shortage_debt(&d->shortage, percent);
	bell_ring(&d->scan_bell, SCAN_KICK); /* there may be room for more */
	return 0;
}

static int store(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	struct daemon *d = owner;
	uint64_t v;
	int err;

	(void)subject;
	if (a->at == ACCOUNT_DEBT_BYTES)
		return store_debt(d, value);
	err = parse(value, &v);
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
	LIMIT("debt_bytes", ACCOUNT_DEBT_BYTES,
	      "most memory that may be needed if everything merged is written (ksm/debt_bytes), or "
	      "a percentage of what is available, swap included (50%); beyond it nothing is "
	      "merged; 0: no limit"),
	ATTR_NUMBERS(struct limit_values, l.refused, "refused", unit_names,
		     "times that something was refused because of these, since the start"),
};

static const struct attr_group group = {
	.name = "limit",
	ATTR_TABLE(attrs),
	.size = sizeof(struct limit_values),
	.gather = gather,
};

void group_limit_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &group, d);
}
