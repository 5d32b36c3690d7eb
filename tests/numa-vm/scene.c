/* SPDX-License-Identifier: MIT */
/* scene.c - see scene.h. */
#include "tests/numa-vm/scene.h"

#include <check.h>

struct daemon *start(int across)
{
	struct daemon *d = daemon_start(NULL);

	daemon_hasten(d);
	ck_assert_int_eq(ctl_set_u64(d, "ksm/merge_across_nodes", (uint64_t)across), 0);
	return d;
}

struct puppet *puppet_on(int node)
{
	struct puppet *p = puppet_new();

	ck_assert_int_eq(puppet_call(p, fn_run_on, node), 0);
	return p;
}

void expect_counts(struct daemon *d, uint64_t shared, uint64_t sharing)
{
	wait_until(ctl_get_u64(d, "ksm/pages_shared") == shared &&
			   ctl_get_u64(d, "ksm/pages_sharing") == sharing,
		   WAIT_MS, "pages_shared and pages_sharing");
	wait_counter(d, "orders", 0);
}

void expect_on(struct puppet *p, long addr, int pages, int node)
{
	ck_assert_int_eq(puppet_call(p, fn_where, addr, pages, node), pages);
}

void expect_whole(struct puppet *p, long addr, int pages, long content)
{
	ck_assert_int_eq(puppet_call(p, fn_check, addr, pages, content, 1), 0);
}
