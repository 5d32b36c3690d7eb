/* SPDX-License-Identifier: MIT */
/* group_domain.c - see group_domain.h. */
#include "daemon/group_domain.h"

#include <errno.h>

#include "daemon/attr.h"
#include "daemon/domain.h"

struct domain_values {
	uint64_t key, clients, orders, epoch;
	char name[DOMAIN_KEY_TEXT];
	struct engine_counters c;
};

static int gather(void *owner, uint64_t id, void *values)
{
	struct domain_values *v = values;
	struct domain *d = id <= UINT32_MAX ? domain_find(owner, (uint32_t)id) : NULL;

	if (!d)
		return -ENOENT;
	v->key = d->key.number;
	domain_key_text(&d->key, v->name);
	v->clients = d->nr_clients;
	v->orders = engine_nr_orders(d->engine);
	v->epoch = engine_epoch(d->engine);
	engine_counters(d->engine, &v->c);
	domain_put(d);
	return 0;
}

static void list(void *owner, struct attr_list *l)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(owner, &nr);

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
	DOMAIN("epoch", epoch, "number of the current grace period"),
};

static const struct attr_group group = {
	.name = "domain",
	ATTR_TABLE(attrs),
	.size = sizeof(struct domain_values),
	.gather = gather,
	.list = list,
};

void group_domain_register(struct attr_tree *t, struct domain_table *domains)
{
	attr_register(t, &group, domains);
}
