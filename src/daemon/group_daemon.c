/* SPDX-License-Identifier: MIT */
/* group_daemon.c - see group_daemon.h. */
#include "daemon/group_daemon.h"

#include <unistd.h>

#include "base/clock.h"
#include "daemon/attr.h"
#include "daemon/daemon.h"

struct daemon_values {
	char version[32], topology[512], domain_mode[16];
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

static int gather(void *owner, uint64_t subject, void *values)
{
	struct daemon *d = owner;
	struct daemon_values *v = values;

	(void)subject;
	snprintf(v->version, sizeof(v->version), "%s", KSMD_VERSION);
	snprintf(v->topology, sizeof(v->topology), "%s", d->topology_spec);
	snprintf(v->domain_mode, sizeof(v->domain_mode), "%s", domain_mode_name(d->domains.mode));
	v->pid = (uint64_t)getpid();
	v->uptime = (clock_ms() - d->start_ms) / 1000;
	v->rss_bytes = rss_bytes();
	v->arena_limit_bytes = d->arena_limit;
	v->connections = account_total(&d->accounts, ACCOUNT_PLACES);
	return 0;
}

#define DAEMON(name, field, help) ATTR_FIELD_ALL(struct daemon_values, field, name, help)
static const struct attr attrs[] = {
	DAEMON("version", version, "version of ksmd-user"),
	DAEMON("pid", pid, "process of the daemon"),
	DAEMON("uptime", uptime, "seconds since it was started"),
	/* It grows with what clients have alike. */
	ATTR_FIELD(struct daemon_values, rss_bytes, "rss_bytes",
		   "memory of the daemon, without the frames"),
	DAEMON("topology", topology, "--topology"),
	DAEMON("domain_mode", domain_mode, "--domain"),
	DAEMON("arena_limit_bytes", arena_limit_bytes,
	       "--arena-limit, or what was found to be half of the memory; 0: none"),
	DAEMON("connections", connections, "connections to client.sock, silent ones included"),
};

static const struct attr_group group = {
	.name = "daemon",
	ATTR_TABLE(attrs),
	.size = sizeof(struct daemon_values),
	.gather = gather,
};

void group_daemon_register(struct attr_tree *t, struct daemon *d)
{
	attr_register(t, &group, d);
}
