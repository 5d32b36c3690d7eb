/* SPDX-License-Identifier: MIT */
/* groups.c - see groups.h. */
#include "daemon/groups.h"

#include "daemon/daemon.h"
#include "daemon/group_client.h"
#include "daemon/group_daemon.h"
#include "daemon/group_domain.h"
#include "daemon/group_ksm.h"
#include "daemon/group_limit.h"
#include "daemon/group_node.h"
#include "daemon/group_pool.h"
#include "daemon/group_scan.h"
#include "daemon/group_user.h"
#include "daemon/group_zone.h"

void groups_register(struct groups *g, struct daemon *d)
{
	struct attr_tree *t = &g->tree;

	/* ksm/ shows them in this order: knobs first. */
	group_knobs_register(&g->knobs, t, d);
	group_scan_register(t, d->scan);
	group_client_register(t, d->clients);
	group_ksm_register(t, d);

	group_daemon_register(t, d);
	group_domain_register(t, d);
	group_limit_register(t, d);
	group_node_register(t, d);
	group_zone_register(t, d);
	group_pool_register(t, d);
	group_user_register(t, &d->accounts);
}
