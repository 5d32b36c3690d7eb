/* SPDX-License-Identifier: MIT */
/* group_domain.c - see group_domain.h. */
#include "daemon/group_domain.h"

#include <errno.h>
#include <sys/sysmacros.h>

#include "base/clock.h"
#include "daemon/attr.h"
#include "daemon/client_view.h"
#include "daemon/daemon.h"

#define LAGGARDS_MAX 16u /* named; it takes one to hold everything up */

struct domain_values {
	uint64_t key, clients, orders, epoch, waited_ms;
	char name[DOMAIN_KEY_TEXT];
	char waits_for[48], held_up_by[LAGGARDS_MAX * 12];
	struct engine_counters c;
};

/* Whom the domain waits for before it can give retired frames back. */
static void look_who_waits(struct daemon *daemon, struct domain *d, struct domain_values *v)
{
	const struct grace_wait *w = &d->grace.wait;
	uint64_t since = w->since_ms, now = clock_ms();
	pid_t late[LAGGARDS_MAX];
	unsigned int nr;
	int len = 0;

	if (!since)
		return;
	v->waited_ms = now > since ? now - since : 0;
	snprintf(v->waits_for, sizeof(v->waits_for), "%02x:%02x %llu", major(w->dev), minor(w->dev),
		 (unsigned long long)w->inode);
	nr = client_laggards(daemon->clients, d->id, v->epoch, late, LAGGARDS_MAX);
	for (unsigned int i = 0; i < nr; i++)
		len += sprintf(v->held_up_by + len, "%s%d", i ? " " : "", (int)late[i]);
}

static int gather(void *owner, uint64_t id, void *values)
{
	struct daemon *daemon = owner;
	struct domain_values *v = values;
	struct domain *d = id <= UINT32_MAX ? domain_find(&daemon->domains, (uint32_t)id) : NULL;

	if (!d)
		return -ENOENT;
	v->key = d->key.number;
	domain_key_text(&d->key, v->name);
	v->clients = d->nr_clients;
	v->orders = engine_nr_orders(d->engine);
	v->epoch = engine_epoch(d->engine);
	engine_counters(d->engine, &v->c);
	look_who_waits(daemon, d, v);
	domain_put(d);
	return 0;
}

/* What a domain counts is told to those whose memory alone it counts. */
static bool owned(void *owner, uint64_t id, uid_t uid)
{
	struct daemon *daemon = owner;
	struct domain *d = id <= UINT32_MAX ? domain_find(&daemon->domains, (uint32_t)id) : NULL;
	bool own = d && domain_is_of(d, uid);

	if (d)
		domain_put(d);
	return own;
}

static void list(void *owner, struct attr_list *l)
{
	struct daemon *daemon = owner;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&daemon->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		attr_list_subject(l, v[i]->id);
	domain_snapshot_free(v, nr);
}

#define DOMAIN(name, field, help) ATTR_FIELD(struct domain_values, field, name, help)
static const struct attr attrs[] = {
	DOMAIN("name", name, "who is in it"),
	DOMAIN("key", key, "uid, or number of the client; 0 where neither says who is in it"),
	DOMAIN("clients", clients, "clients in it"),
	DOMAIN("pages_shared", c.pages_shared, "as in ksm"),
	DOMAIN("pages_sharing", c.pages_sharing, "as in ksm"),
	DOMAIN("pages_unshared", c.pages_unshared, "as in ksm"),
	DOMAIN("pages_volatile", c.pages_volatile, "as in ksm"),
	DOMAIN("ksm_zero_pages", c.zero_pages, "as in ksm"),
	DOMAIN("frames_used", c.frames_used, "as in ksm"),
	DOMAIN("frames_retired", c.frames_retired, "as in ksm"),
	DOMAIN("orders", orders, "as in ksm"),
	DOMAIN("metadata_bytes", c.metadata_bytes, "as in ksm"),
	DOMAIN("frames_held_up", c.total.frames_held_up, "as in ksm"),
	DOMAIN("epoch", epoch, "number of the current grace period"),
	DOMAIN("waited_ms", waited_ms,
	       "how long it has waited for processes of an earlier grace period; 0: it does not"),
	DOMAIN("held_up_by", held_up_by, "clients that have not moved on to the current period"),
	DOMAIN("waits_for", waits_for,
	       "file of the oldest period waited for, as in /proc/PID/maps: whoever maps it, "
	       "a child that is no client for instance, holds retired frames up"),
};

static const struct attr_group group = {
	.name = "domain",
	ATTR_TABLE(attrs),
	.size = sizeof(struct domain_values),
	.gather = gather,
	.list = list,
	.owned = owned,
};

void group_domain_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &group, d);
}
