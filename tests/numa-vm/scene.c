/* SPDX-License-Identifier: MIT */
/* scene.c - see scene.h. */
#include "tests/numa-vm/scene.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

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

void path_of(char *buf, size_t size, int node, const char *name)
{
	snprintf(buf, size, "node/%d/%s", node, name);
}

uint64_t node_u64(struct daemon *d, int node, const char *name)
{
	char path[64];

	path_of(path, sizeof(path), node, name);
	return ctl_get_u64(d, path);
}

bool says(struct daemon *d, const char *path, const char *text)
{
	char buf[256];

	ck_assert_int_ge(ctl_get(d, path, buf, sizeof(buf)), 0);
	return !strcmp(buf, text);
}

void migrate(struct daemon *d, int from, int to)
{
	char path[64];

	path_of(path, sizeof(path), from, "migrate_to");
	ck_assert_int_eq(ctl_set_u64(d, path, (uint64_t)to), 0);
	wait_until(says(d, path, "none"), WAIT_MS, "the move ends");
}

void move_all(struct puppet *p, long addr, int node, int flags)
{
	wait_until(puppet_call(p, fn_move, addr, PAGES, node, flags) == PAGES, WAIT_MS,
		   "the kernel moves the pages");
}

struct pairs pairs_on(struct daemon *d, int nodes, int across)
{
	struct pairs s = { .nr = 2 * nodes };
	int sets = across ? 1 : nodes;

	for (int i = 0; i < s.nr; i++) {
		s.p[i] = puppet_on(i / 2);
		s.a[i] = puppet_call(s.p[i], fn_offer_on, PAGES, 1, 1, i / 2);
		ck_assert_int_gt(s.a[i], 0);
	}
	expect_counts(d, (uint64_t)(sets * PAGES), (uint64_t)((s.nr - sets) * PAGES));
	return s;
}

void end(struct pairs *s, struct daemon *d)
{
	for (int i = 0; i < s->nr; i++)
		puppet_end(s->p[i]);
	daemon_stop(d);
}

void expect_all_on(struct pairs *s, int node)
{
	for (int i = 0; i < s->nr; i++) {
		expect_on(s->p[i], s->a[i], PAGES, node);
		expect_whole(s->p[i], s->a[i], PAGES, 1);
	}
}

void write_to(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	ck_assert_msg(f != NULL, "%s: %s", path, strerror(errno));
	fputs(text, f);
	ck_assert_msg(!fclose(f), "%s: %s", path, strerror(errno));
}
