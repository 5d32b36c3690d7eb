/* SPDX-License-Identifier: MIT */
/*
 * attr.c - see attr.h.
 *
 * The tree has groups (ksm, client, ...). A group takes one consistent look at its subject (fill),
 * and its attributes are fields of what it saw, described by a table: name, place, kind, help. Groups
 * with many subjects (client, domain, node, zone) have a directory for each. `help` mirrors the tree
 * without the numbers: help/ksm/run, help/client/uid.
 */
#include "daemon/attr.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/daemon.h"
#include "daemon/ksmd.h"
#include "daemon/session.h"

static const char *const left_names[KSM_LEFT_NR] = KSM_LEFT_NAMES;

enum attr_kind { ATTR_U64, ATTR_S64, ATTR_TEXT };
struct attr {
	const char *name;
	size_t offset; /* in the group's values */
	enum attr_kind kind;
	const char *help;
};

/* ---- ksm ---- */

struct ksm_values {
	struct engine_counters c;
	struct scan_stats scan;
	struct session_stats sessions;
	int64_t general_profit;
	uint64_t orders;
	uint64_t left_out[KSM_LEFT_NR];
};

static int fill_ksm(struct daemon *d, const char *index, void *values)
{
	struct ksm_values *v = values;
	unsigned int nr;
	struct domain **domains;

	(void)index;
	domain_table_counters(&d->domains, &v->c);
	scan_stats(d->scan, &v->scan);
	sessions_stats(d->sessions, &v->sessions);
	domains = domain_table_snapshot(&d->domains, &nr);
	for (unsigned int i = 0; i < nr; i++)
		v->orders += engine_nr_orders(domains[i]->engine);
	domain_snapshot_free(domains, nr);
	v->general_profit = (int64_t)((v->c.pages_sharing + v->c.zero_pages) * KSM_PAGE_SIZE) -
			    (int64_t)v->c.metadata_bytes -
			    (int64_t)(v->sessions.added_vmas * VMA_BYTES);
	for (int i = 0; i < KSM_LEFT_NR; i++)
		v->left_out[i] =
			v->c.left_out[i] + (i < KSM_LEFT_CLIENT_NR ? v->sessions.left_out[i] : 0);
	return 0;
}

#define KSM_U64(name, field, help)                                                                 \
	{                                                                                          \
		name, offsetof(struct ksm_values, field), ATTR_U64, help                           \
	}
static const struct attr ksm_attrs[] = {
	KSM_U64("pages_shared", c.pages_shared, "stable frames in use"),
	KSM_U64("pages_sharing", c.pages_sharing,
		"pages beyond the first that stand on a frame: how much is saved"),
	KSM_U64("pages_unshared", c.pages_unshared, "pages that are unique so far, and watched"),
	KSM_U64("pages_volatile", c.pages_volatile,
		"tracked pages that change too often, or are new"),
	KSM_U64("pages_tracked", c.pages_tracked, "pages that the daemon keeps a record of"),
	KSM_U64("pages_scanned", c.pages_scanned, "pages read and hashed, since the start"),
	KSM_U64("pages_skipped", c.pages_skipped,
		"pages passed over by smart_scan, since the start"),
	KSM_U64("pages_merged", c.pages_merged, "pages merged, since the start"),
	KSM_U64("ksm_zero_pages", c.zero_pages,
		"zero pages given back and still untouched; in neither shared nor sharing"),
	KSM_U64("full_scans", scan.full_scans,
		"complete passes over all offered memory; 0 again after run was set to 2"),
	KSM_U64("stable_node_chains", c.stable_node_chains,
		"contents that have two or more frames"),
	KSM_U64("stable_node_dups", c.stable_node_dups,
		"frames of those contents, the first of each included"),
	{ "general_profit", offsetof(struct ksm_values, general_profit), ATTR_S64,
	  "bytes saved less all metadata: (pages_sharing + ksm_zero_pages) * 4096 - metadata_bytes - "
	  "added_vmas * 232, the last being the kernel's memory for a mapping (vm_area_struct and its "
	  "share of the maple tree)" },
	KSM_U64("metadata_bytes", c.metadata_bytes,
		"daemon memory for nodes, page records, block and region tables"),
	KSM_U64("added_vmas", sessions.added_vmas, "mappings that merging added to all clients"),
	KSM_U64("cow_breaks", c.cow_breaks, "merged pages found written, since the start"),
	KSM_U64("frames_used", c.frames_used, "frames that hold memory"),
	KSM_U64("frames_retired", c.frames_retired,
		"frames without a page, kept until no process can map them any more"),
	KSM_U64("orders", orders, "merge orders waiting or under way"),
	KSM_U64("orders", c.orders, "merge orders given, since the start"),
	KSM_U64("order_pages_failed", c.order_pages_failed, "pages of them that were not merged"),
	KSM_U64("scan_cpu_ns", scan.cpu_ns, "CPU time of the scan thread, in nanoseconds"),
	KSM_U64("idle_pause_millisecs", scan.pause_ms,
		"pause after the last pass that found nothing new; 0 while there is something to do"),
	KSM_U64("clients", sessions.nr_clients, "processes connected"),
	KSM_U64("protocol_errors", sessions.protocol_errors,
		"connections ended because of what they sent"),
};

/* ---- client ---- */

struct client_values {
	char comm[64];
	uint64_t uid, domain;
	uint64_t rmap_items, zero_pages, merging_pages;
	int64_t process_profit;
	uint64_t merge_any, mergeable, region_bytes;
	uint64_t nr_vmas, added_vmas, max_map_count;
	uint64_t agent_cpu_ns, stalled, connected_seconds;
	uint64_t cow_breaks, orders, metadata_bytes;
	uint64_t left_out[KSM_LEFT_NR];
};

/* A decimal number without sign or leading blank, not above max. */
static bool parse_index(const char *s, unsigned long max, unsigned long *v)
{
	char *end;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	*v = strtoul(s, &end, 10);
	return !errno && !*end && *v <= max;
}

/* A process chooses its name: keep it from moving the reader's cursor. */
static void read_comm(pid_t pid, char *buf, size_t size)
{
	char path[64];
	ssize_t n = -1;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, buf, size - 1);
		close(fd);
	}
	buf[n < 0 ? 0 : n] = '\0';
	buf[strcspn(buf, "\n")] = '\0';
	for (char *c = buf; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}

static int fill_client(struct daemon *d, const char *index, void *values)
{
	struct client_values *v = values;
	struct client_view view;
	unsigned long pid;

	if (!parse_index(index, INT32_MAX, &pid) || sessions_view(d->sessions, (pid_t)pid, &view))
		return -ENOENT;
	read_comm(view.pid, v->comm, sizeof(v->comm));
	v->uid = view.uid;
	v->domain = view.domain_id;
	v->rmap_items = view.mm.rmap_items;
	v->zero_pages = view.mm.zero_pages;
	v->merging_pages = view.mm.merging_pages;
	v->process_profit = view.profit;
	v->merge_any = view.merge_any;
	v->mergeable = view.mm.region_bytes > 0;
	v->region_bytes = view.mm.region_bytes;
	v->nr_vmas = view.mm.nr_vmas;
	v->added_vmas = view.added_vmas;
	v->max_map_count = view.max_map_count;
	v->agent_cpu_ns = view.agent_cpu_ns;
	v->stalled = view.stalled;
	v->connected_seconds = view.connected_ms / 1000;
	v->cow_breaks = view.mm.cow_breaks;
	v->orders = view.mm.orders;
	v->metadata_bytes = view.mm.metadata_bytes;
	memcpy(v->left_out, view.left_out, sizeof(v->left_out));
	return 0;
}

static void list_clients(struct daemon *d, struct text *out)
{
	unsigned int nr;
	pid_t *v = sessions_pids(d->sessions, &nr);

	for (unsigned int i = 0; i < nr; i++)
		text_printf(out, "%d/\n", (int)v[i]);
	free(v);
}

#define CLIENT(name, field, kind, help)                                                            \
	{                                                                                          \
		name, offsetof(struct client_values, field), kind, help                            \
	}
#define CLIENT_U64(name, field, help) CLIENT(name, field, ATTR_U64, help)
static const struct attr client_attrs[] = {
	CLIENT("comm", comm, ATTR_TEXT, "name of the program"),
	CLIENT_U64("uid", uid, "user"),
	CLIENT_U64("domain", domain, "merge domain: domain/ID"),
	CLIENT_U64("ksm_rmap_items", rmap_items, "pages that the daemon keeps a record of"),
	CLIENT_U64("ksm_zero_pages", zero_pages, "zero pages given back and still untouched"),
	CLIENT_U64("ksm_merging_pages", merging_pages, "pages that stand on a frame"),
	CLIENT("ksm_process_profit", process_profit, ATTR_S64,
	       "bytes: (ksm_merging_pages + ksm_zero_pages) * 4096 - metadata_bytes - added_vmas * 232"),
	CLIENT_U64("ksm_merge_any", merge_any, "1: everything it maps is offered"),
	CLIENT_U64("ksm_mergeable", mergeable, "1: something is offered"),
	CLIENT_U64("region_bytes", region_bytes, "memory offered"),
	CLIENT_U64("nr_vmas", nr_vmas,
		   "mappings of the process, those that merging added included"),
	CLIENT_U64("added_vmas", added_vmas, "mappings that merging added"),
	CLIENT_U64("max_map_count", max_map_count, "most mappings it may have"),
	CLIENT_U64("agent_cpu_ns", agent_cpu_ns, "CPU time that merging took in the process"),
	CLIENT_U64("stalled", stalled, "1: it answers no orders, and is given none"),
	CLIENT_U64("connected_seconds", connected_seconds, "time since it connected"),
	CLIENT_U64("cow_breaks", cow_breaks, "merged pages found written, since it connected"),
	CLIENT_U64("orders", orders, "merge orders waiting or under way"),
	CLIENT_U64("metadata_bytes", metadata_bytes, "daemon memory spent on it"),
};

/* ---- domain ---- */

struct domain_values {
	uint64_t key, clients, orders, epoch;
	struct engine_counters c;
};

static int fill_domain(struct daemon *d, const char *index, void *values)
{
	struct domain_values *v = values;
	struct domain *dom = NULL;
	unsigned long id;

	if (parse_index(index, UINT32_MAX, &id))
		dom = domain_find(&d->domains, (uint32_t)id);
	if (!dom)
		return -ENOENT;
	v->key = dom->key;
	v->clients = dom->nr_clients;
	v->orders = engine_nr_orders(dom->engine);
	v->epoch = engine_epoch(dom->engine);
	engine_counters(dom->engine, &v->c);
	domain_put(dom);
	return 0;
}

static void list_domains(struct daemon *d, struct text *out)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&d->domains, &nr);

	for (unsigned int i = 0; i < nr; i++)
		text_printf(out, "%u/\n", v[i]->id);
	domain_snapshot_free(v, nr);
}

#define DOMAIN_U64(name, field, help)                                                              \
	{                                                                                          \
		name, offsetof(struct domain_values, field), ATTR_U64, help                        \
	}
static const struct attr domain_attrs[] = {
	DOMAIN_U64("key", key, "uid, client id or 0, as daemon/domain_mode says"),
	DOMAIN_U64("clients", clients, "processes in it"),
	DOMAIN_U64("pages_shared", c.pages_shared, "as in ksm"),
	DOMAIN_U64("pages_sharing", c.pages_sharing, "as in ksm"),
	DOMAIN_U64("pages_unshared", c.pages_unshared, "as in ksm"),
	DOMAIN_U64("pages_volatile", c.pages_volatile, "as in ksm"),
	DOMAIN_U64("ksm_zero_pages", c.zero_pages, "as in ksm"),
	DOMAIN_U64("frames_used", c.frames_used, "as in ksm"),
	DOMAIN_U64("frames_retired", c.frames_retired, "as in ksm"),
	DOMAIN_U64("orders", orders, "as in ksm"),
	DOMAIN_U64("metadata_bytes", c.metadata_bytes, "as in ksm"),
	DOMAIN_U64("epoch", epoch, "number of the current grace period"),
};

/* ---- node, zone ---- */

struct node_values {
	uint64_t nid, os_node, frames_start, frames_end;
};

static int fill_node(struct daemon *d, const char *index, void *values)
{
	struct node_values *v = values;
	unsigned long nid, zone;

	if (!parse_index(index, (unsigned long)d->topology->nr_nodes - 1, &nid))
		return -ENOENT;
	zone = arena_zone_frames(d->topology->nr_nodes);
	v->nid = nid;
	v->os_node = (uint64_t)d->topology->os_node[nid];
	v->frames_start = nid * zone;
	v->frames_end = (nid + 1) * zone;
	return 0;
}

static void list_nodes(struct daemon *d, struct text *out)
{
	for (int nid = 0; nid < d->topology->nr_nodes; nid++)
		text_printf(out, "%d/\n", nid);
}

#define NODE_U64(name, field, help)                                                                \
	{                                                                                          \
		name, offsetof(struct node_values, field), ATTR_U64, help                          \
	}
static const struct attr node_attrs[] = {
	NODE_U64("os_node", os_node, "the kernel's number of the node"),
	NODE_U64("frames_start", frames_start, "first frame of the node, in every arena"),
	NODE_U64("frames_end", frames_end, "frame after the last"),
};
static const struct attr zone_attrs[] = {
	NODE_U64("node", nid, "node whose frames these are: node/N"),
	NODE_U64("frames_start", frames_start, "first frame, in every arena"),
	NODE_U64("frames_end", frames_end, "frame after the last"),
};

/* ---- daemon ---- */

struct daemon_values {
	char version[32], topology[32], domain_mode[16];
	uint64_t pid, uptime, rss_bytes, arena_limit_bytes, connections;
};

static uint64_t rss_bytes(void)
{
	unsigned long long size, rss = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	if (!f)
		return 0;
	if (fscanf(f, "%llu %llu", &size, &rss) != 2)
		rss = 0;
	fclose(f);
	return rss * KSM_PAGE_SIZE;
}

static int fill_daemon(struct daemon *d, const char *index, void *values)
{
	struct daemon_values *v = values;
	struct session_stats s;

	(void)index;
	sessions_stats(d->sessions, &s);
	snprintf(v->version, sizeof(v->version), "%s", KSMD_VERSION);
	snprintf(v->topology, sizeof(v->topology), "%s", d->topology_spec);
	snprintf(v->domain_mode, sizeof(v->domain_mode), "%s", domain_mode_name(d->domains.mode));
	v->pid = (uint64_t)getpid();
	v->uptime = (clock_ms() - d->start_ms) / 1000;
	v->rss_bytes = rss_bytes();
	v->arena_limit_bytes = (uint64_t)d->domains.max_frames * KSM_PAGE_SIZE;
	v->connections = s.nr_connections;
	return 0;
}

#define DAEMON(name, field, kind, help)                                                            \
	{                                                                                          \
		name, offsetof(struct daemon_values, field), kind, help                            \
	}
static const struct attr daemon_attrs[] = {
	DAEMON("version", version, ATTR_TEXT, "version of ksmd-user"),
	DAEMON("pid", pid, ATTR_U64, "process of the daemon"),
	DAEMON("uptime", uptime, ATTR_U64, "seconds since it was started"),
	DAEMON("rss_bytes", rss_bytes, ATTR_U64, "memory of the daemon, without the frames"),
	DAEMON("topology", topology, ATTR_TEXT, "--topology"),
	DAEMON("domain_mode", domain_mode, ATTR_TEXT, "--domain"),
	DAEMON("arena_limit_bytes", arena_limit_bytes, ATTR_U64,
	       "--arena-limit of each domain; 0: none"),
	DAEMON("connections", connections, ATTR_U64,
	       "connections to client.sock, silent ones included"),
};

/* ---- groups ---- */

union values {
	struct ksm_values ksm;
	struct client_values client;
	struct domain_values domain;
	struct node_values node;
	struct daemon_values daemon;
};

struct group {
	const char *name;
	const struct attr *attrs;
	size_t nr_attrs;
	int (*fill)(struct daemon *d, const char *index, void *values);
	void (*list)(struct daemon *d, struct text *out); /* subjects, NULL: there is only one */
	size_t left_out; /* offset of uint64_t[KSM_LEFT_NR], 0: there is no left_out/ */
	bool knobs;
};

#define ATTRS(v) (v), sizeof(v) / sizeof((v)[0])
static const struct group groups[] = {
	{ "client", ATTRS(client_attrs), fill_client, list_clients,
	  offsetof(struct client_values, left_out), false },
	{ "daemon", ATTRS(daemon_attrs), fill_daemon, NULL, 0, false },
	{ "domain", ATTRS(domain_attrs), fill_domain, list_domains, 0, false },
	{ "ksm", ATTRS(ksm_attrs), fill_ksm, NULL, offsetof(struct ksm_values, left_out), true },
	{ "node", ATTRS(node_attrs), fill_node, list_nodes, 0, false },
	{ "zone", ATTRS(zone_attrs), fill_node, list_nodes, 0, false },
};
#define NR_GROUPS (sizeof(groups) / sizeof(groups[0]))

/* What a path names, as far as that can be told without looking at the subject. */
struct target {
	bool help;                 /* below help/ */
	const struct group *group; /* NULL: the root, or help itself */
	const char *index;         /* subject, NULL: none was named */
	bool left_out;             /* in left_out/ */
	int left;                  /* the reason, -1: the directory */
	int knob;                  /* -1: none */
	const struct attr *attr;   /* NULL: none */
	char buf[256];             /* holds index */
};

static bool is_dir(const struct target *t)
{
	return t->left_out ? t->left < 0 : t->knob < 0 && !t->attr;
}

/* Next component of *rest, cut off in place; NULL at the end. An empty one is "". */
static char *next_component(char **rest)
{
	char *c = *rest, *slash;

	if (!c)
		return NULL;
	slash = strchr(c, '/');
	if (slash)
		*slash = '\0';
	*rest = slash ? slash + 1 : NULL;
	return c;
}

static const struct group *find_group(const char *name)
{
	for (size_t i = 0; i < NR_GROUPS; i++)
		if (!strcmp(groups[i].name, name))
			return &groups[i];
	return NULL;
}

static const struct attr *find_attr(const struct group *g, const char *name)
{
	for (size_t i = 0; i < g->nr_attrs; i++)
		if (!strcmp(g->attrs[i].name, name))
			return &g->attrs[i];
	return NULL;
}

static int find_left(const char *name)
{
	for (int i = 0; i < KSM_LEFT_NR; i++)
		if (!strcmp(left_names[i], name))
			return i;
	return -1;
}

/* The part of a path below its group and subject. */
static int parse_leaf(struct target *t, char *name, char **rest)
{
	if (t->group->left_out && !strcmp(name, "left_out")) {
		t->left_out = true;
		name = next_component(rest);
		if (!name)
			return 0;
		t->left = find_left(name);
		return t->left < 0 || *rest ? -ENOENT : 0;
	}
	if (t->group->knobs)
		t->knob = knob_find(name);
	if (t->knob < 0)
		t->attr = find_attr(t->group, name);
	return is_dir(t) || *rest ? -ENOENT : 0;
}

static int parse_path(const char *path, struct target *t)
{
	size_t len = strlen(path);
	char *rest = t->buf, *c;

	*t = (struct target){ .left = -1, .knob = -1 };
	if (len >= sizeof(t->buf))
		return -ENOENT;
	memcpy(t->buf, path, len + 1);
	if (len && t->buf[len - 1] == '/')
		t->buf[--len] = '\0';
	if (!len)
		return path[0] ? -ENOENT : 0;
	c = next_component(&rest);
	if (!strcmp(c, "help")) {
		t->help = true;
		c = next_component(&rest);
		if (!c)
			return 0;
	}
	t->group = find_group(c);
	if (!t->group)
		return -ENOENT;
	if (t->group->list && !t->help) {
		t->index = next_component(&rest);
		if (!t->index)
			return 0;
	}
	c = next_component(&rest);
	return c ? parse_leaf(t, c, &rest) : 0;
}

/* ---- get ---- */

static void show_field(const void *values, const struct attr *a, struct text *out)
{
	const char *field = (const char *)values + a->offset;

	if (a->kind == ATTR_TEXT)
		text_printf(out, "%s\n", field);
	else if (a->kind == ATTR_S64)
		text_printf(out, "%lld\n", (long long)*(const int64_t *)(const void *)field);
	else
		text_printf(out, "%llu\n",
			    (unsigned long long)*(const uint64_t *)(const void *)field);
}

static void show_help(const struct target *t, struct text *out)
{
	if (t->left_out)
		text_printf(out, "pages left out: %s\n", left_names[t->left]);
	else
		text_printf(out, "%s\n",
			    t->knob >= 0 ? knob_help((enum knob_id)t->knob) : t->attr->help);
}

static void show_left(const union values *v, const struct target *t, struct text *out)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): who has left_out/ has a group */
	const uint64_t *left = (const void *)((const char *)v + t->group->left_out);

	text_printf(out, "%llu\n", (unsigned long long)left[t->left]);
}

int attr_get(struct daemon *d, const char *path, struct text *out)
{
	union values v;
	struct target t;
	char buf[128];
	int err = parse_path(path, &t);

	if (err)
		return err;
	memset(&v, 0, sizeof(v));
	/* A subject that does not exist has no directory either. */
	if (t.group && !t.help && (t.index || !t.group->list))
		err = t.group->fill(d, t.index, &v);
	if (err)
		return err;
	if (is_dir(&t))
		return -EISDIR;
	if (t.help) {
		show_help(&t, out);
	} else if (t.knob >= 0) {
		knob_show(&d->knobs, (enum knob_id)t.knob, buf, sizeof(buf));
		text_printf(out, "%s\n", buf);
	} else if (t.left_out) {
		show_left(&v, &t, out);
	} else {
		show_field(&v, t.attr, out);
	}
	return out->failed ? -ENOMEM : 0;
}

/* ---- ls ---- */

static void list_root(bool help, struct text *out)
{
	for (size_t i = 0; i < NR_GROUPS; i++)
		text_printf(out, "%s/\n", groups[i].name);
	if (!help)
		text_printf(out, "help/\n");
}

static void list_group(const struct group *g, struct text *out)
{
	for (int i = 0; g->knobs && i < KNOB_NR; i++)
		text_printf(out, "%s\n", knob_name((enum knob_id)i));
	for (size_t i = 0; i < g->nr_attrs; i++)
		text_printf(out, "%s\n", g->attrs[i].name);
	if (g->left_out)
		text_printf(out, "left_out/\n");
}

int attr_ls(struct daemon *d, const char *path, struct text *out)
{
	struct target t;
	union values v;
	int err = parse_path(path, &t);

	if (err)
		return err;
	memset(&v, 0, sizeof(v));
	if (t.group && !t.help && t.index)
		err = t.group->fill(d, t.index, &v);
	if (err)
		return err;
	if (!is_dir(&t))
		return -ENOTDIR;
	if (!t.group)
		list_root(t.help, out);
	else if (t.left_out)
		for (int i = 0; i < KSM_LEFT_NR; i++)
			text_printf(out, "%s\n", left_names[i]);
	else if (t.group->list && !t.help && !t.index)
		t.group->list(d, out);
	else
		list_group(t.group, out);
	return out->failed ? -ENOMEM : 0;
}

/* ---- set ---- */

/* Unmerging takes time and must not be overtaken by another store to `run`. */
static int set_run(struct daemon *d, const char *value, const struct knob_guard *guard)
{
	uint32_t before = knob_get(&d->knobs, KNOB_RUN);
	int err;

	if (d->unmerge.state != UNMERGE_IDLE)
		return ATTR_LATER;
	err = knob_store(&d->knobs, KNOB_RUN, value, guard);
	if (err || before == KSM_RUN_UNMERGE || knob_get(&d->knobs, KNOB_RUN) != KSM_RUN_UNMERGE)
		return err;
	d->unmerge.state = UNMERGE_QUIESCE;
	return ATTR_UNMERGING;
}

int attr_set(struct daemon *d, const char *path, const char *value)
{
	struct engine_counters c = { 0 };
	struct knob_guard guard;
	struct text unused = { 0 };
	struct target t;
	int err = parse_path(path, &t);

	if (err)
		return err;
	if (t.help || t.knob < 0) {
		err = attr_get(d, path, &unused);
		text_free(&unused);
		return err ? err : -EACCES;
	}
	domain_table_counters(&d->domains, &c);
	guard.pages_shared = c.pages_shared > 0;
	if (t.knob == KNOB_RUN)
		err = set_run(d, value, &guard);
	else
		err = knob_store(&d->knobs, (enum knob_id)t.knob, value, &guard);
	if (err == 0 || err == ATTR_UNMERGING)
		scan_kick(d->scan);
	return err;
}
