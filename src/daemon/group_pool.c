/* SPDX-License-Identifier: MIT */
/*
 * group_pool.c - see group_pool.h.
 *
 * What zone/N/ sums up over the domains, and what concerns the frames of one domain alone: ranges
 * that the operator wants for himself. All of it is for operators: how frames lie says how many
 * pages are alike.
 */
#include "daemon/group_pool.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/param.h>

#include "daemon/attr.h"
#include "daemon/daemon.h"
#include "daemon/mover.h"
#include "daemon/zone_text.h"
#include "pool/index.h"
#include "pool/pool.h"

struct pool_values {
	struct daemon *daemon;
	uint64_t domain, nid; /* of the subject */
	uint64_t frames_start, frames_end;
	struct pool_counts c;
	uint64_t pageblocks, offline, limit;
	uint64_t runs[POOL_TYPES + 1][POOL_ORDERS]; /* of each type, and then of all */
	char contig[40], contig_result[160];
};

static struct domain *find(struct daemon *d, uint64_t subject)
{
	bool exists = ATTR_INNER(subject) < (uint32_t)d->topology->nr_nodes;

	return exists ? domain_find(&d->domains, ATTR_OUTER(subject)) : NULL;
}

/* The last claim of the node, if it was one of this domain. */
static void look_claim(struct daemon *d, struct pool_values *v)
{
	struct drains_node n;
	char range[40];

	mover_claimed(d->mover, (int)v->nid, &n);
	if (n.domain != v->domain)
		n = (struct drains_node){ 0 };
	snprintf(range, sizeof(range), "%u %u", n.first, n.end);
	snprintf(v->contig, sizeof(v->contig), "%s", n.active ? "under way" : "none");
	drains_text(&n, range, v->contig_result, sizeof(v->contig_result));
}

/* Most frames of the zone that can have memory. */
static uint64_t limit_of(struct daemon *d, const struct pool_counts *c)
{
	uint64_t out = MIN(c->span, (uint64_t)c->offline * PAGEBLOCK_FRAMES);
	struct account_limits l;

	account_limits(&d->accounts, &l);
	return MIN(c->span - out, l.most[ACCOUNT_ARENA_BYTES] >> KSM_PAGE_SHIFT);
}

static int gather(void *owner, uint64_t subject, void *values)
{
	struct daemon *daemon = owner;
	struct pool_values *v = values;
	struct domain *d = find(daemon, subject);
	int nid = (int)ATTR_INNER(subject);

	if (!d)
		return -ENOENT;
	v->daemon = daemon;
	v->domain = d->id;
	v->nid = (uint64_t)nid;
	v->frames_start = v->nid * daemon->domains.zone_frames;
	v->frames_end = v->frames_start + daemon->domains.zone_frames;
	engine_zone_counts(d->engine, nid, &v->c);
	for (unsigned int t = 0; t < POOL_TYPES; t++) {
		engine_zone_runs(d->engine, nid, t, v->runs[t]);
		for (unsigned int o = 0; o < POOL_ORDERS; o++)
			v->runs[POOL_TYPES][o] += v->runs[t][o];
	}
	v->pageblocks = v->c.pageblocks;
	v->offline = v->c.offline;
	v->limit = limit_of(daemon, &v->c);
	look_claim(daemon, v);
	domain_put(d);
	return 0;
}

static void show_none(const struct attr *a, const void *values, struct text *out)
{
	(void)a;
	(void)values;
	text_printf(out, "none\n");
}

static void list(void *owner, struct attr_list *l)
{
	const struct daemon *d = owner;

	for (int nid = 0; nid < d->topology->nr_nodes; nid++)
		attr_list_subject(l, (uint64_t)nid);
}

/* "movable 3 0 1 ...", one after the other. */
static void show_types(const struct attr *a, const void *values, struct text *out)
{
	const struct pool_values *v = values;

	(void)a;
	for (unsigned int t = 0; t < POOL_TYPES; t++) {
		text_printf(out, "%s%s", t ? " " : "", zone_type_names[t]);
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

/* "512 1024 2048 2050": FIRST END of each. */
static void show_claimed(const struct attr *a, const void *values, struct text *out)
{
	const struct pool_values *v = values;
	struct domain *d = domain_find(&v->daemon->domains, (uint32_t)v->domain);
	const char *space = "";
	uint32_t nr, f = d ? engine_next_claimed(d->engine, (int)v->nid, 0, &nr) : POOL_NONE;

	(void)a;
	for (; f != POOL_NONE; f = engine_next_claimed(d->engine, (int)v->nid, f + nr, &nr)) {
		text_printf(out, "%s%u %u", space, f, f + nr);
		space = " ";
	}
	text_printf(out, "%s\n", *space ? "" : "none");
	if (d)
		domain_put(d);
}

/* --- ranges that the operator wants --- */

/* Two numbers, or one if `second` has a value already. */
static bool parse_two(const char *value, uint32_t *first, uint32_t *second)
{
	unsigned long long a = 0, b = *second;
	size_t digits = strspn(value, "0123456789");
	char tail;
	int n = digits ? sscanf(value, "%llu %llu%c", &a, &b, &tail) : 0;
	bool one = n == 1 && *second && !value[digits];

	if ((n != 2 && !one) || a > UINT32_MAX || b > UINT32_MAX)
		return false;
	*first = (uint32_t)a;
	*second = (uint32_t)b;
	return true;
}

/* NULL, or what is wrong with it. */
static const char *parse_range(const struct daemon *d, uint64_t nid, const char *value,
			       struct engine_claim *c)
{
	uint64_t zone = d->domains.zone_frames;

	*c = (struct engine_claim){ 0 };
	if (!parse_two(value, &c->first, &c->end))
		return "not FIRST END, two numbers of frames";
	if (c->first >= c->end)
		return c->first > c->end ? "it ends before it starts" :
					   "no frames: it ends where it starts";
	if (c->first < nid * zone || c->end > (nid + 1) * zone)
		return "not all of it is the node's: see frames_start, frames_end";
	return NULL;
}

static const char *parse_size(const struct daemon *d, const char *value, struct engine_claim *c)
{
	*c = (struct engine_claim){ .align = 1 };
	if (!parse_two(value, &c->nr, &c->align))
		return "neither NR nor NR ALIGN, numbers of frames";
	if (!c->nr || c->nr > d->domains.zone_frames)
		return c->nr ? "a zone has no more frames: see span" : "no frames";
	return !c->align || c->align & (c->align - 1) ? "no alignment: it is a power of two" : NULL;
}

static int claim(struct daemon *daemon, uint64_t subject, const struct engine_claim *c)
{
	struct domain *d = find(daemon, subject);
	int err = d ? mover_claim(daemon->mover, d, (int)ATTR_INNER(subject), c) : -ENOENT;

	if (d)
		domain_put(d);
	return err;
}

static int end_claim(struct daemon *daemon, uint64_t subject)
{
	struct domain *d = find(daemon, subject);

	if (!d)
		return -ENOENT;
	mover_claim_end(daemon->mover, d, (int)ATTR_INNER(subject));
	domain_put(d);
	return 0;
}

static const char *refused_range(void *owner, uint64_t subject, const char *value)
{
	struct engine_claim c;
	const char *why = parse_range(owner, ATTR_INNER(subject), value, &c);

	return why ? why : "not all of it is allocated as a range: see contig_ranges";
}

static const char *refused_size(void *owner, uint64_t subject, const char *value)
{
	struct engine_claim c;

	(void)subject;
	return parse_size(owner, value, &c);
}

static int store_alloc_range(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	struct engine_claim c;

	(void)a;
	if (!strcmp(value, "none"))
		return end_claim(owner, subject);
	return parse_range(owner, ATTR_INNER(subject), value, &c) ? -EINVAL :
								    claim(owner, subject, &c);
}

static int store_alloc(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	struct engine_claim c;

	(void)a;
	if (!strcmp(value, "none"))
		return end_claim(owner, subject);
	return parse_size(owner, value, &c) ? -EINVAL : claim(owner, subject, &c);
}

static int store_free(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	int nid = (int)ATTR_INNER(subject), err;
	struct engine_claim c;
	struct domain *d;

	(void)a;
	if (parse_range(owner, (uint64_t)nid, value, &c))
		return -EINVAL;
	d = find(owner, subject);
	if (!d)
		return -ENOENT;
	err = engine_unclaim(d->engine, nid, c.first, c.end);
	domain_put(d);
	return err;
}

#define POOL(name, field, help) ATTR_FIELD(struct pool_values, field, name, help)
static const struct attr attrs[] = {
	POOL("frames_start", frames_start, "first frame, in the domain's arena"),
	POOL("frames_end", frames_end, "frame after the last"),
	POOL("span", c.span, "frames: the sum of the eight below"),
	POOL("limit", limit,
	     "frames that can have memory: span, less what is out of use, and at most what "
	     "limit/arena_bytes has for all domains"),
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
	ATTR_NUMBERS(struct pool_values, c.free_of, "free_by_type", zone_type_names, "as in zone"),
	ATTR_NUMBERS(struct pool_values, c.used_of, "used_by_type", zone_type_names, "as in zone"),
	ATTR_NUMBERS(struct pool_values, c.cached_of, "cached_by_type", zone_type_names,
		     "cached, by type of pageblock"),
	ATTR_NUMBERS(struct pool_values, c.isolated_of, "isolated_by_type", zone_type_names,
		     "isolated, by type of pageblock"),
	ATTR_NUMBERS(struct pool_values, c.retired_of, "retired_by_type", zone_type_names,
		     "retired, by type of pageblock"),
	ATTR_NUMBERS(struct pool_values, c.guard_of, "guard_by_type", zone_type_names,
		     "guard, by type of pageblock"),
	ATTR_NUMBERS(struct pool_values, c.frames_of, "frames_by_type", zone_type_names,
		     "frames of pageblocks in use, by type: the sum of the six above, and of "
		     "window_reserved for movable ones"),
	{
		.name = "alloc_contig",
		.help = "NR [ALIGN]: have so many frames side by side emptied and kept for you, "
			"in the contiguous reserve if they can be had there; the first is a "
			"multiple of ALIGN, a power of two; `none` ends what is under way, which "
			"it shows",
		.at = offsetof(struct pool_values, contig),
		.show = attr_show_text,
		.store = store_alloc,
		.refused = refused_size,
		.root = true,
	},
	{
		.name = "alloc_contig_range",
		.help = "FIRST END: the same for these very frames, any of the node's",
		.at = offsetof(struct pool_values, contig),
		.show = attr_show_text,
		.store = store_alloc_range,
		.refused = refused_range,
		.root = true,
	},
	POOL("contig_result", contig_result,
	     "what became of the last of these: none, under way, FIRST END, or the error and what "
	     "kept the range"),
	{
		.name = "contig_ranges",
		.help = "frames kept in this way: FIRST END of each range, or none",
		.show = show_claimed,
	},
	{
		.name = "free_contig_range",
		.help = "FIRST END: these frames, or part of a range, are for shared pages again",
		.show = show_none,
		.store = store_free,
		.refused = refused_range,
		.root = true,
	},
	ZONE_RUNS(struct pool_values, runs[POOL_TYPES]),
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
	.name = "domain/zone",
	ATTR_TABLE(attrs),
	.size = sizeof(struct pool_values),
	.gather = gather,
	.list = list,
};

void group_pool_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &group, d);
}
