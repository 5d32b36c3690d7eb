/* SPDX-License-Identifier: MIT */
/*
 * group_pool.c - see group_pool.h.
 *
 * What zone/N/ sums up over the domains. All of it is for operators: how frames lie says how many
 * pages are alike.
 */
#include "daemon/group_pool.h"

#include <errno.h>

#include "daemon/attr.h"
#include "daemon/daemon.h"
#include "pool/index.h"
#include "pool/pool.h"

struct pool_values {
	struct daemon *daemon;
	uint64_t domain, nid, frames_start, frames_end;
	struct pool_counts c;
	uint64_t pageblocks, offline;
	uint64_t runs[POOL_TYPES][POOL_ORDERS];
};

static const char *const type_names[POOL_TYPES] = {
	[POOL_UNMOVABLE] = "unmovable",
	[POOL_MOVABLE] = "movable",
	[POOL_RESERVE] = "reserve",
};

static struct domain *find(struct daemon *d, uint64_t subject)
{
	if (subject / NUMA_MAX_NODES > UINT32_MAX ||
	    subject % NUMA_MAX_NODES >= (uint64_t)d->topology->nr_nodes)
		return NULL;
	return domain_find(&d->domains, (uint32_t)(subject / NUMA_MAX_NODES));
}

static int gather(void *owner, uint64_t subject, void *values)
{
	struct daemon *daemon = owner;
	struct pool_values *v = values;
	struct domain *d = find(daemon, subject);
	int nid = (int)(subject % NUMA_MAX_NODES);

	if (!d)
		return -ENOENT;
	v->daemon = daemon;
	v->domain = d->id;
	v->nid = (uint64_t)nid;
	v->frames_start = v->nid * daemon->domains.zone_frames;
	v->frames_end = v->frames_start + daemon->domains.zone_frames;
	engine_zone_counts(d->engine, nid, &v->c);
	for (unsigned int t = 0; t < POOL_TYPES; t++)
		engine_zone_runs(d->engine, nid, t, v->runs[t]);
	v->pageblocks = v->c.pageblocks;
	v->offline = v->c.offline;
	domain_put(d);
	return 0;
}

static void list(void *owner, struct attr_list *l)
{
	struct daemon *daemon = owner;
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&daemon->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		for (int nid = 0; nid < daemon->topology->nr_nodes; nid++)
			attr_list_subject(l, (uint64_t)v[i]->id * NUMA_MAX_NODES + (uint64_t)nid);
	domain_snapshot_free(v, nr);
}

/* "movable 3 0 1 ...", one after the other. */
static void show_types(const struct attr *a, const void *values, struct text *out)
{
	const struct pool_values *v = values;

	(void)a;
	for (unsigned int t = 0; t < POOL_TYPES; t++) {
		text_printf(out, "%s%s", t ? " " : "", type_names[t]);
		for (unsigned int o = 0; o < POOL_ORDERS; o++)
			text_printf(out, " %llu", (unsigned long long)v->runs[t][o]);
	}
	text_printf(out, "\n");
}

/* "0:w9w3---- 64:m1----": the domain may have gone since. */
static void show_map(const struct attr *a, const void *values, struct text *out)
{
	const struct pool_values *v = values;
	struct domain *d = domain_find(&v->daemon->domains, (uint32_t)v->domain);
	char map[INDEX_MAP_CHARS];
	const char *space = "";

	(void)a;
	for (uint32_t x = 0; d && engine_zone_map(d->engine, (int)v->nid, &x, map); x++) {
		text_printf(out, "%s%u:%.*s", space, x * EXTENT_PAGEBLOCKS, INDEX_MAP_CHARS, map);
		space = " ";
	}
	text_printf(out, "\n");
	if (d)
		domain_put(d);
}

#define POOL(name, field, help) ATTR_FIELD(struct pool_values, field, name, help)
static const struct attr attrs[] = {
	POOL("domain", domain, "domain whose frames these are: domain/N"),
	POOL("node", nid, "their node: node/N"),
	POOL("frames_start", frames_start, "first frame, in the domain's arena"),
	POOL("frames_end", frames_end, "frame after the last"),
	POOL("span", c.span, "frames: the sum of the eight below"),
	POOL("free", c.free, "as in zone"),
	POOL("cached", c.cached, "as in zone"),
	POOL("isolated", c.isolated, "as in zone"),
	POOL("used", c.used, "as in zone"),
	POOL("retired", c.retired, "as in zone"),
	POOL("guard", c.guard, "as in zone"),
	POOL("window_reserved", c.window, "as in zone"),
	POOL("absent", c.absent, "as in zone"),
	POOL("pageblocks", pageblocks, "as in zone"),
	POOL("pageblocks_offline", offline, "as in zone"),
	ATTR_NUMBERS(struct pool_values, c.free_of, "free_by_type", type_names, "as in zone"),
	ATTR_NUMBERS(struct pool_values, c.used_of, "used_by_type", type_names, "as in zone"),
	{ .name = "pagetypeinfo",
	  .help = "for each type of pageblock, free runs of 1, 2, 4 ... 1024 frames",
	  .show = show_types },
	{ .name = "map",
	  .help = "FIRST:..., two characters for each pageblock: m movable, u unmovable, "
		  "r reserve, w window, a capital when isolated, and how many tenths are "
		  "in use; -- nothing, II isolated, xx out of use",
	  .show = show_map },
};

static const struct attr_group group = {
	.name = "pool",
	ATTR_TABLE(attrs),
	.size = sizeof(struct pool_values),
	.gather = gather,
	.list = list,
};

void group_pool_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &group, d);
}
