/* SPDX-License-Identifier: MIT */
/*
 * group_node.c - see group_node.h.
 *
 * Each domain has a pool of its own, with a zone for each node. What is begun here is begun in all
 * domains, and what became of it is summed.
 */
#include "daemon/group_node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "daemon/attr.h"
#include "daemon/daemon.h"
#include "daemon/looker.h"
#include "daemon/mover.h"
#include "daemon/scan_place.h"
#include "daemon/scan_thread.h"
#include "numa/numa_topology.h"
#include "pool/pool.h"

/* failed[]: frames by enum engine_move_failed, which begins with "not". */
struct node_values {
	uint64_t nid, os_node, frames_start, frames_end;
	char migrate_to[16];
	uint64_t success, placed, fail, collisions, failed[MOVE_FAILED_NR - 1];
	char culprit[128];
	char offline[32], offline_result[160];
	uint64_t drain;
	char drain_result[160];
	struct compacts_node c;
	uint64_t compacting;
	uint64_t gathering;
	char compact_mappings[64], mappings_per_page[64];
};

/* Apart, because clients are counted for these. */
struct place_values {
	struct engine_node_counters c;
	uint64_t moved, copied, joined, failed;
	char distances[NUMA_MAX_NODES * 4];
	uint64_t scan_threads;
	char scan_cpus[256];
};

static const char *const failed_names[MOVE_FAILED_NR - 1] = { ENGINE_MOVE_FAILED_NAMES };

static void look_mover(struct daemon *d, int nid, struct node_values *v)
{
	struct mover_counts c;
	const struct engine_culprit *who = &c.sum.culprit;
	int to = mover_counts(d->mover, nid, &c);

	strcpy(v->migrate_to, "none");
	if (to >= 0)
		snprintf(v->migrate_to, sizeof(v->migrate_to), "%d", to);
	v->success = c.sum.frames + c.sum.placed;
	v->placed = c.sum.placed;
	v->collisions = c.sum.collisions;
	for (int i = 1; i < MOVE_FAILED_NR; i++) {
		v->failed[i - 1] = c.sum.failed[i];
		v->fail += c.sum.failed[i];
	}
	if (who->why)
		snprintf(v->culprit, sizeof(v->culprit), "domain %u frame %u client %d %s",
			 c.domain, who->frame, c.pid, failed_names[who->why - 1]);
	else
		strcpy(v->culprit, "none");
}

static void look_drains(struct daemon *d, int nid, struct node_values *v)
{
	struct drains_node n;

	mover_drained(d->mover, nid, &n);
	strcpy(v->offline, "none");
	if (n.active)
		snprintf(v->offline, sizeof(v->offline), "%u %u", n.first, n.end);
	drains_text(&n, "done", v->offline_result, sizeof(v->offline_result));
}

/* As that of a range. */
static void look_vacate(struct daemon *d, int nid, struct node_values *v)
{
	char *out = v->drain_result;
	size_t size = sizeof(v->drain_result);
	struct vacate_node n;

	mover_vacated(d->mover, nid, &n);
	v->drain = n.state != VACATE_IN_USE;
	if (n.state == VACATE_GOING)
		snprintf(out, size, "under way: frames %llu retired %llu",
			 (unsigned long long)n.used, (unsigned long long)n.retired);
	else if (!n.asked || !n.err)
		snprintf(out, size, "%s", n.asked ? "done" : "none");
	else if (n.err == -ECANCELED)
		snprintf(out, size, "%s", strerrorname_np(ECANCELED));
	else if (n.culprit.why)
		snprintf(out, size, "%s domain %u frame %u client %d %s", strerrorname_np(-n.err),
			 n.domain, n.culprit.frame, n.pid, failed_names[n.culprit.why - 1]);
	else
		snprintf(out, size, "%s frames %llu retired %llu", strerrorname_np(-n.err),
			 (unsigned long long)n.used, (unsigned long long)n.retired);
}

static double per_page(uint64_t vmas, uint64_t merged)
{
	return merged ? (double)vmas / (double)merged : 0;
}

static void look_compacts(struct daemon *d, int nid, struct node_values *v)
{
	mover_compacted(d->mover, nid, &v->c);
	v->compacting = v->c.active && !v->c.rests;
	v->gathering = v->c.active && v->c.rests;
	snprintf(v->compact_mappings, sizeof(v->compact_mappings), "%llu %llu",
		 (unsigned long long)v->c.vmas[0], (unsigned long long)v->c.vmas[1]);
	snprintf(v->mappings_per_page, sizeof(v->mappings_per_page), "%.3f %.3f",
		 per_page(v->c.vmas[0], v->c.merged[0]), per_page(v->c.vmas[1], v->c.merged[1]));
}

static int look_node(void *owner, uint64_t nid, void *values)
{
	struct daemon *d = owner;
	const struct domain_table *t = &d->domains;
	struct node_values *v = values;

	if (nid >= (uint64_t)t->topology->nr_nodes)
		return -ENOENT;
	v->nid = nid;
	v->os_node = (uint64_t)t->topology->os_node[nid];
	v->frames_start = nid * t->zone_frames;
	v->frames_end = (nid + 1) * t->zone_frames;
	look_mover(d, (int)nid, v);
	look_drains(d, (int)nid, v);
	look_vacate(d, (int)nid, v);
	look_compacts(d, (int)nid, v);
	return 0;
}

/* "0-2,5", or "none". As much as there is room for. */
static void show_cpus(const cpu_set_t *set, char *out, size_t size)
{
	size_t len = 0;

	strcpy(out, "none");
	for (int cpu = 0, end; cpu < CPU_SETSIZE && len + 16 < size; cpu = end) {
		end = cpu + 1;
		if (!CPU_ISSET((size_t)cpu, set))
			continue;
		while (end < CPU_SETSIZE && CPU_ISSET((size_t)end, set))
			end++;
		len += (size_t)snprintf(out + len, size - len, "%s%d", len ? "," : "", cpu);
		if (end > cpu + 1)
			len += (size_t)snprintf(out + len, size - len, "-%d", end - 1);
	}
}

static void look_scan(const struct daemon *d, int nid, struct place_values *v)
{
	cpu_set_t allowed, set;

	CPU_ZERO(&set);
	if (scan_place_allowed(&allowed))
		scan_place_cpus(d->topology, &allowed, nid, &set);
	show_cpus(&set, v->scan_cpus, sizeof(v->scan_cpus));
	v->scan_threads = scan_threads_on(d->scan, nid);
}

static int look_place(void *owner, uint64_t nid, void *values)
{
	struct daemon *daemon = owner;
	const struct numa_topology *t = daemon->topology;
	struct place_values *v = values;
	struct engine_steered steered;
	struct domain **d;
	unsigned int nr;
	size_t len = 0;

	if (nid >= (uint64_t)t->nr_nodes)
		return -ENOENT;
	looker_look(daemon->looker, 0);
	d = domain_table_snapshot(&daemon->domains, &nr);
	for (unsigned int i = 0; i < nr; i++)
		engine_node_counters(d[i]->engine, (int)nid, &v->c);
	domain_snapshot_free(d, nr);
	look_scan(daemon, (int)nid, v);
	steering_counts(&daemon->mover->steering, &steered);
	v->moved = steered.to[nid].moved;
	v->copied = steered.to[nid].copied;
	v->joined = steered.to[nid].joined;
	v->failed = steered.to[nid].failed;
	for (int to = 0; to < t->nr_nodes; to++)
		len += (size_t)snprintf(v->distances + len, sizeof(v->distances) - len, "%s%d",
					to ? " " : "", t->distance[nid][to]);
	return 0;
}

static void list(void *owner, struct attr_list *l)
{
	const struct daemon *d = owner;

	for (int nid = 0; nid < d->topology->nr_nodes; nid++)
		attr_list_subject(l, (uint64_t)nid);
}

/* "none" ends what is under way. */
static int store_migrate_to(void *owner, uint64_t nid, const struct attr *a, const char *value)
{
	struct daemon *d = owner;
	int to, err;

	(void)a;
	if (!strcmp(value, "none")) {
		mover_end(d->mover, (int)nid);
		return 0;
	}
	err = mover_node_of(value, &to);
	return err ? err : mover_begin(d->mover, (int)nid, to);
}

/* "all", or "FIRST END": frames of a node, whole pageblocks. NULL, or what is wrong with it. */
static const char *parse_frames(const struct daemon *d, uint64_t nid, const char *value,
				uint32_t *first, uint32_t *end)
{
	unsigned long long a, b;
	char tail;

	*first = (uint32_t)nid * d->domains.zone_frames;
	*end = *first + d->domains.zone_frames;
	if (!strcmp(value, "all"))
		return NULL;
	if (*value < '0' || *value > '9' || sscanf(value, "%llu %llu%c", &a, &b, &tail) != 2)
		return "neither FIRST END, two numbers of frames, nor all";
	if (a >= b)
		return a > b ? "it ends before it starts" : "no frames: it ends where it starts";
	if (a < *first || b > *end)
		return "not all of it is the node's: see frames_start, frames_end";
	if ((a - *first) % PAGEBLOCK_FRAMES || ((b - *first) % PAGEBLOCK_FRAMES && b != *end))
		return "no whole pageblocks of 512 frames";
	*first = (uint32_t)a;
	*end = (uint32_t)b;
	return NULL;
}

static const char *refused_frames(void *owner, uint64_t nid, const char *value)
{
	uint32_t first, end;

	return parse_frames(owner, nid, value, &first, &end);
}

static int store_offline(void *owner, uint64_t nid, const struct attr *a, const char *value)
{
	struct daemon *d = owner;
	uint32_t first, end;

	(void)a;
	if (!strcmp(value, "none")) {
		mover_offline_end(d->mover, (int)nid);
		return 0;
	}
	return parse_frames(d, nid, value, &first, &end) ?
		       -EINVAL :
		       mover_offline(d->mover, (int)nid, first, end);
}

static int store_online(void *owner, uint64_t nid, const struct attr *a, const char *value)
{
	struct daemon *d = owner;
	uint32_t first, end;

	(void)a;
	return parse_frames(d, nid, value, &first, &end) ?
		       -EINVAL :
		       mover_online(d->mover, (int)nid, first, end);
}

static int store_drain(void *owner, uint64_t nid, const struct attr *a, const char *value)
{
	struct daemon *d = owner;

	(void)a;
	if (!strcmp(value, "1"))
		return mover_vacate(d->mover, (int)nid);
	if (strcmp(value, "0") != 0)
		return -EINVAL;
	mover_vacate_end(d->mover, (int)nid);
	return 0;
}

static int store_compact(void *owner, uint64_t nid, const struct attr *a, const char *value)
{
	struct daemon *d = owner;

	(void)a;
	if (!strcmp(value, "1"))
		return mover_compact(d->mover, (int)nid);
	if (strcmp(value, "0") != 0)
		return -EINVAL;
	mover_compact_end(d->mover, (int)nid);
	return 0;
}

/* What is out of use is in zone/N. */
static void show_nothing(const struct attr *a, const void *values, struct text *out)
{
	(void)a;
	(void)values;
	text_printf(out, "none\n");
}

#define NODE(name, field, help) ATTR_FIELD(struct node_values, field, name, help)
#define NODE_ALL(name, field, help) ATTR_FIELD_ALL(struct node_values, field, name, help)
static const struct attr node_attrs[] = {
	NODE_ALL("os_node", os_node, "the kernel's number of the node"),
	NODE_ALL("frames_start", frames_start, "first frame of the node, in every arena"),
	NODE_ALL("frames_end", frames_end, "frame after the last"),
	{
		.name = "migrate_to",
		.help = "move what lies on the node to this one, in all domains; `none` has what "
			"has not moved stay. Shows the node while that is under way",
		.at = offsetof(struct node_values, migrate_to),
		.show = attr_show_text,
		.store = store_migrate_to,
		.root = true,
	},
	NODE("pgmigrate_success", success,
	     "frames that went to another node, or whose pages all did, since the start"),
	NODE("pgmigrate_placed", placed,
	     "of these, frames that the kernel moved under their mappings, since the start"),
	NODE("pgmigrate_fail", fail, "frames that were to go, and stayed, since the start"),
	NODE("migrate_collisions", collisions,
	     "times that a frame of the same contents was there, and took the pages, since the "
	     "start"),
	ATTR_NUMBERS(struct node_values, failed, "migrate_failed", failed_names,
		     "pgmigrate_fail by reason, since the start"),
	NODE("migrate_culprit", culprit, "the last frame that failed, and whose page kept it"),
	{
		.name = "offline",
		.help = "empty frames FIRST up to END, whole pageblocks, or `all`, and take them "
			"out of use; `none` puts back what is under way, which it shows",
		.at = offsetof(struct node_values, offline),
		.show = attr_show_text,
		.store = store_offline,
		.refused = refused_frames,
		.root = true,
	},
	NODE("offline_result", offline_result,
	     "what became of the last such range, and what kept it in use"),
	{
		.name = "online",
		.help = "use frames FIRST up to END, or `all`, again",
		.show = show_nothing,
		.store = store_online,
		.refused = refused_frames,
		.root = true,
	},
	{
		.name = "drain",
		.help = "1 move what lies on the node elsewhere, in all domains, and let nothing "
			"come to lie there; 0 uses the node again, and ends what is under way. "
			"What cannot be emptied in time is in use again",
		.at = offsetof(struct node_values, drain),
		.show = attr_show_u64,
		.store = store_drain,
		.root = true,
	},
	NODE("drain_result", drain_result,
	     "what became of that: none, under way, done, or the error and what kept the node"),
	{
		.name = "compact",
		.help = "1 empty sparse pageblocks of the node into others, in all domains; 0 end "
			"that. 1 while it is under way",
		.at = offsetof(struct node_values, compacting),
		.show = attr_show_u64,
		.store = store_compact,
		.root = true,
	},
	NODE("compact_success", c.success, "runs that freed a pageblock, since the start"),
	NODE("compact_fail", c.fail, "runs that freed none, since the start"),
	NODE("compact_stall", c.stall,
	     "runs begun because a client went without a window; they end with one pageblock"),
	NODE("compact_daemon_wake", c.wake,
	     "runs begun because most free frames were of no use for a window"),
	NODE("compact_deferred", c.deferred,
	     "such runs that were not begun: frames were wanting, or the last ones had failed"),
	NODE("compact_pageblocks", c.sum.pageblocks, "pageblocks freed, since the start"),
	NODE("compact_skipped", c.sum.skipped,
	     "pageblocks not begun, because no room or more mappings were the price"),
	NODE("migrate_scanned", c.sum.migrate_scanned, "frames looked at for what can move"),
	NODE("free_scanned", c.sum.free_scanned, "frames looked at for room"),
	NODE("isolated", c.sum.isolated, "frames that were to be moved"),
	NODE("gathering", gathering, "1 while frames are brought next to each other at rest"),
	NODE("gathered", c.sum.gathered,
	     "frames that were to be brought next to each other, since the start"),
	NODE("gather_stretches", c.sum.stretches,
	     "stretches of clients' addresses that were looked at because of their mappings"),
	NODE("gather_skipped", c.sum.stretches_skipped, "of these, where it would not have paid"),
	NODE("compact_mappings", compact_mappings,
	     "mappings that merging had added before and after the last run"),
	NODE("compact_mappings_per_page", mappings_per_page,
	     "the same for each page that is merged"),
};

#define PLACE(name, field, help) ATTR_FIELD(struct place_values, field, name, help)
static const struct attr place_attrs[] = {
	ATTR_FIELD_ALL(struct place_values, distances, "distances",
		       "from this node to each, 10 to itself; 20: access takes twice as long"),
	PLACE("pages_shared", c.shared, "frames on this node that pages stand on"),
	PLACE("pages_sharing", c.sharing, "pages beyond the first that stand on one of these"),
	PLACE("replicas", c.copies,
	      "of these, copies of frames with more pages on another node: merge_policy replicate"),
	PLACE("frames_own", c.own, "frames of this node's zone that lie on it"),
	PLACE("frames_elsewhere", c.elsewhere,
	      "frames of this node's zone that lie on another: moved, or the node was full"),
	ATTR_FIELD_ALL(
		struct place_values, scan_cpus, "scan_cpus",
		"CPUs on which the scan threads of this node run; of another, if it has none"),
	PLACE("scan_threads", scan_threads, "scan threads of this node that there are now"),
	PLACE("clients", c.readers, "clients most of whose threads run here, as sampled"),
	PLACE("pages_local", c.read_here, "merged pages of these clients on frames of this node"),
	PLACE("pages_remote", c.read_remote,
	      "the same on frames of other nodes: an estimate of what is read from there, taking "
	      "each page to be read equally often"),
	PLACE("pages_distance", c.read_distance,
	      "sum of the distances of both: by 10 times their number, the mean cost of access"),
	PLACE("policy_moved", moved, "frames that merge_policy had moved here, since the start"),
	PLACE("policy_copied", copied, "copies that it had made here, since the start"),
	PLACE("policy_joined", joined,
	      "frames of other nodes that it had given up for one of the same contents here, since "
	      "the start"),
	PLACE("policy_failed", failed,
	      "times that it could not bring a frame here, since the start"),
};

static int look_nothing(void *owner, uint64_t subject, void *values)
{
	(void)owner;
	(void)subject;
	(void)values;
	return 0;
}

/* All nodes. Those on which something moves already are passed over. */
static int store_compact_memory(void *owner, uint64_t subject, const struct attr *a,
				const char *value)
{
	struct daemon *d = owner;
	int err = 0;

	(void)subject;
	(void)a;
	if (strcmp(value, "1") != 0)
		return -EINVAL;
	for (int nid = 0; nid < d->topology->nr_nodes && (!err || err == -EALREADY); nid++)
		err = mover_compact(d->mover, nid);
	return err == -EALREADY ? 0 : err;
}

static const struct attr memory_attrs[] = {
	{
		.name = "compact_memory",
		.help = "1 compacts all nodes, as node/N/compact does",
		.show = show_nothing,
		.store = store_compact_memory,
		.root = true,
	},
};

static const struct attr_group memory_group = {
	.name = "ksm",
	ATTR_TABLE(memory_attrs),
	.gather = look_nothing,
};
static const struct attr_group node_group = {
	.name = "node",
	ATTR_TABLE(node_attrs),
	.size = sizeof(struct node_values),
	.gather = look_node,
	.list = list,
	.open = true,
};
static const struct attr_group place_group = {
	.name = "node",
	ATTR_TABLE(place_attrs),
	.size = sizeof(struct place_values),
	.gather = look_place,
	.list = list,
	.open = true,
};
void group_node_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &node_group, d);
	attr_register(t, &place_group, d);
	attr_register(t, &memory_group, d);
}
