/* SPDX-License-Identifier: MIT */
/* group_client.c - see group_client.h. */
#include "daemon/group_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <urcu.h>

#include "base/kernel_cost.h"
#include "daemon/attr.h"
#include "daemon/client_act.h"
#include "daemon/client_view.h"
#include "daemon/clients.h"
#include "daemon/daemon.h"
#include "daemon/looker.h"
#include "daemon/mover.h"
#include "daemon/profit.h"

static const char *const left_names[KSM_LEFT_NR] = KSM_LEFT_NAMES;
static const char *const move_names[MOVE_FAILED_NR] = { "none", ENGINE_MOVE_FAILED_NAMES };

/* ---- client/PID/ ---- */

struct client_values {
	struct client_view view;
	char comm[64];
	uint64_t uid, domain, merge_any, mergeable, stalled, short_of_memory, ready;
	uint64_t nr_vmas, max_map_count, connected_seconds;
	char node[16];
	int nr_nodes;
	char migrate_to[16], migrate_result[128];
};

/*
 * Read the name of a program. A process chooses its own name, so everything that could move the
 * cursor of the operator's terminal becomes '?'.
 */
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

static void show_nodes(const struct attr *a, const void *values, struct text *out)
{
	const struct client_values *v = values;

	(void)a;
	for (int nid = 0; nid < v->nr_nodes; nid++)
		text_printf(out, "%s%llu", nid ? " " : "",
			    (unsigned long long)v->view.mm.on_nid[nid]);
	text_printf(out, "\n");
}

/*
 * What has become of the last move of its pages. How many of the frames are its own alone is not
 * said, because that is when others have written.
 */
static void gather_move(struct clients *clients, pid_t pid, struct client_values *v)
{
	struct mover_counts c;
	int to = mover_counts_client(clients->d->mover, pid, &c);
	uint64_t failed = 0;

	strcpy(v->migrate_to, "none");
	strcpy(v->migrate_result, "none");
	if (to == -ENOENT)
		return;
	if (to >= 0)
		snprintf(v->migrate_to, sizeof(v->migrate_to), "%d", to);
	for (int i = 1; i < MOVE_FAILED_NR; i++)
		failed += c.sum.failed[i];
	snprintf(v->migrate_result, sizeof(v->migrate_result), "%s: frames %llu failed %llu%s%s",
		 to >= 0 ? "under way" : "done", (unsigned long long)(c.sum.frames + c.sum.placed),
		 (unsigned long long)failed, failed ? " last " : "",
		 failed ? move_names[c.sum.culprit.why] : "");
}

static int gather(void *owner, uint64_t pid, void *values)
{
	struct clients *clients = owner;
	struct client_values *v = values;

	if (pid > INT32_MAX || client_view(owner, (pid_t)pid, &v->view))
		return -ENOENT;
	/* Again: what it has written meanwhile counts no more. */
	looker_look(clients->d->looker, (pid_t)pid);
	if (client_view(clients, (pid_t)pid, &v->view))
		return -ENOENT;
	read_comm(v->view.pid, v->comm, sizeof(v->comm));
	v->uid = v->view.uid;
	v->domain = v->view.domain_id;
	v->merge_any = v->view.merge_any;
	v->mergeable = v->view.mm.region_bytes > 0;
	v->stalled = v->view.stalled;
	v->ready = v->view.ready;
	v->short_of_memory = v->view.short_of_memory;
	v->nr_vmas = v->view.mm.nr_vmas;
	v->max_map_count = v->view.max_map_count;
	v->connected_seconds = v->view.connected_ms / 1000;
	v->nr_nodes = clients->d->topology->nr_nodes;
	strcpy(v->node, "unknown");
	if (v->view.mm.reader >= 0)
		snprintf(v->node, sizeof(v->node), "%d", v->view.mm.reader);
	gather_move(clients, (pid_t)pid, v);
	return 0;
}

static bool owned(void *owner, uint64_t pid, uid_t uid)
{
	return pid <= INT32_MAX && client_owned(owner, (pid_t)pid, uid);
}

static void list(void *owner, struct attr_list *l)
{
	unsigned int nr;
	pid_t *v = client_pids(owner, &nr);

	for (unsigned int i = 0; i < nr; i++)
		attr_list_subject(l, (uint64_t)v[i]);
	free(v);
}

/* "none" ends what is under way. */
static int store_migrate_to(void *owner, uint64_t pid, const struct attr *a, const char *value)
{
	struct clients *clients = owner;
	struct session *s;
	int to, err;

	(void)a;
	if (!strcmp(value, "none")) {
		mover_end_client(clients->d->mover, (pid_t)pid);
		return 0;
	}
	err = mover_node_of(value, &to);
	if (err)
		return err;
	rcu_read_lock();
	s = pid <= INT32_MAX ? clients_find(clients, (pid_t)pid) : NULL;
	err = s ? mover_begin_client(clients->d->mover, (pid_t)pid, s->mm, to) : -ENOENT;
	rcu_read_unlock();
	return err;
}

#define CLIENT(name, field, help) ATTR_FIELD(struct client_values, field, name, help)
static const struct attr attrs[] = {
	ATTR_FIELD(struct client_values, comm, "comm", "name of the program"),
	CLIENT("uid", uid, "user"),
	CLIENT("domain", domain, "its domain: domain/ID"),
	CLIENT("ksm_rmap_items", view.mm.rmap_items,
	       "tracked pages, for each of which the daemon keeps an item"),
	CLIENT("ksm_zero_pages", view.mm.zero_pages, "zero pages given back and still untouched"),
	CLIENT("ksm_merging_pages", view.mm.merging_pages, "pages that stand on a frame"),
	ATTR_FIELD(struct client_values, view.profit, "ksm_process_profit",
		   "bytes: (ksm_merging_pages + ksm_zero_pages) * 4096 - metadata_bytes - "
		   "added_vmas * " KERNEL_VMA_BYTES_TEXT),
	CLIENT("ksm_merge_any", merge_any, "1: everything it maps is offered"),
	CLIENT("ksm_mergeable", mergeable, "1: something is offered"),
	CLIENT("pages_nameless", view.nameless,
	       "pages on frames that the program named (PR_SET_VMA_ANON_NAME), and that maps shows "
	       "without the name"),
	CLIENT("region_bytes", view.mm.region_bytes, "memory offered"),
	CLIENT("nr_vmas", nr_vmas, "mappings of the process, those that merging added included"),
	CLIENT("added_vmas", view.mm.added_vmas, "mappings that merging added"),
	CLIENT("forks", view.mm.forks, "times that it has forked since it connected"),
	CLIENT("fork_budget", view.mm.fork_budget,
	       "most added_vmas, because it forks often; 0: forks do not limit them"),
	CLIENT("max_map_count", max_map_count, "most mappings it may have"),
	CLIENT("agent_cpu_ns", view.agent_cpu_ns, "CPU time of the agent, in nanoseconds"),
	CLIENT("stalled", stalled, "1: it answers no orders, and is given none"),
	CLIENT("short_of_memory", short_of_memory,
	       "1: it keeps frames because giving them up would exceed its memory limit"),
	CLIENT("ready", ready, "1: the daemon knows of all that it offered when it connected"),
	CLIENT("connected_seconds", connected_seconds, "time since it connected"),
	CLIENT("cow_breaks", view.mm.cow_breaks, "merged pages found written, since it connected"),
	CLIENT("orders", view.mm.orders, "orders waiting or under way"),
	CLIENT("metadata_bytes", view.mm.metadata_bytes, "daemon memory spent on it"),
	CLIENT("node", node, "node on which most of its threads were when sampled last"),
	{ .name = "pages_on_nodes",
	  .help = "ksm_merging_pages by the node of their frames",
	  .show = show_nodes },
	CLIENT("pages_local", view.mm.read_here,
	       "ksm_merging_pages whose frames lie on its `node`; 0 while that is unknown"),
	CLIENT("pages_remote", view.mm.read_remote,
	       "the others: read from another node, taking each page to be read equally often"),
	{
		.name = "migrate_to",
		.help = "move what its pages stand on to this node; where others' pages stand "
			"there, too, its own alone go. `none` ends it. Shows the node while that "
			"is under way",
		.at = offsetof(struct client_values, migrate_to),
		.show = attr_show_text,
		.store = store_migrate_to,
		.root = true,
	},
	ATTR_FIELD(struct client_values, migrate_result, "migrate_result",
		   "what has become of the last such move, and of the last frame that failed"),
	ATTR_NUMBERS(struct client_values, view.left_out, "left_out", left_names, "pages left out"),
};

static const struct attr_action actions[] = {
	{ "why",
	  "what has become of its pages, range by range from ADDRESS on: \"START-END\", then "
	  "\"NAME PAGES\" for each kind; \"next ADDRESS\" when there is more",
	  client_act_why },
	{ "nodes",
	  "where the frames of its merged pages lie, from ADDRESS on: \"START-END NODE\"; \"next "
	  "ADDRESS\" when there is more",
	  client_act_nodes },
	{ "release",
	  "make all its memory private, and keep away until it is told to join; with look: how far "
	  "that has come",
	  client_act_release },
	{ "merge",
	  "the number of the pass after which what is there now has been merged; with a number: "
	  "whether that pass is complete",
	  client_act_merge },
};

static const struct attr_group group = {
	.name = "client",
	ATTR_TABLE(attrs),
	ATTR_ACTIONS(actions),
	.size = sizeof(struct client_values),
	.gather = gather,
	.list = list,
	.owned = owned,
};

/* ---- ksm/ ---- */

static int gather_all(void *owner, uint64_t subject, void *values)
{
	(void)subject;
	client_counts(owner, values);
	return 0;
}

#define ALL(name, field, help) ATTR_FIELD_ALL(struct client_counts, field, name, help)
static const struct attr all_attrs[] = {
	ALL("clients", nr_clients, "clients connected"),
	ALL("clients_refused", refused,
	    "connections refused because the user is in no group of --allow-group"),
	ALL("domains_refused", domains_refused,
	    "connections refused because the process may not join the domain that it asks for"),
	ALL("clients_alone", alone,
	    "clients that got a domain of their own because it is not known who they are, since "
	    "the start"),
	ALL("clients_outdated", other_version,
	    "connections refused because the program's libksm speaks another version than the "
	    "daemon, since the start"),
	ALL("protocol_errors", protocol_errors, "connections ended because of what they sent"),
};

static const struct attr_group all_group = {
	.name = "ksm",
	ATTR_TABLE(all_attrs),
	.size = sizeof(struct client_counts),
	.gather = gather_all,
};

/* ---- ksm/outdated: apart, since naming processes is work ---- */

#define OUTDATED_TEXT 96u /* of one: a pid, a program's name, a version */

static int gather_outdated(void *owner, uint64_t subject, void *values)
{
	struct client_outdated v[CLIENT_OUTDATED_MAX];
	unsigned int nr = client_outdated(owner, v, CLIENT_OUTDATED_MAX);
	char *text = values, comm[64];
	size_t len = 0;

	(void)subject;
	for (unsigned int i = 0; i < nr; i++) {
		read_comm(v[i].pid, comm, sizeof(comm));
		if (*comm) /* it has not ended */
			len += (size_t)snprintf(text + len, OUTDATED_TEXT, "%s%d (%s, version %u)",
						len ? ", " : "", (int)v[i].pid, comm, v[i].version);
	}
	return 0;
}

static const struct attr outdated_attrs[] = {
	{ .name = "outdated",
	  .help = "programs that are no clients because their libksm speaks another version: they "
		  "are to be started again, with the libksm of this daemon",
	  .show = attr_show_text },
};

static const struct attr_group outdated_group = {
	.name = "ksm",
	ATTR_TABLE(outdated_attrs),
	.size = CLIENT_OUTDATED_MAX * OUTDATED_TEXT,
	.gather = gather_outdated,
};

void group_client_register(struct attr_tree *t, struct clients *s)
{
	attr_register(t, &group, s);
	attr_register(t, &all_group, s);
	attr_register(t, &outdated_group, s);
}
