/* SPDX-License-Identifier: MIT */
/*
 * node_tenant.c - a process of `ksm-bench numa`: it lies on one node and runs on one.
 *
 * It reads commands from standard input, a line each, and answers each with a line:
 *
 *	map PAGES NODE NODES   memory whose pages lie on NODE, of NODES pretended; 0: a real one
 *	fill FIRST NR CONTENT  pages from FIRST on get the contents CONTENT, CONTENT + 1, ...
 *	offer                  let them be merged, and wait until the daemon knows of them
 *	run NODE               run there from now on
 *	check                  pages that do not hold what was written
 *	move NODE              to that real node, by one move_pages(2); nanoseconds that this took
 *	stripes                "ADDRESS PAGES" of each piece of the memory, in order
 *	where                  "PAGES NODE" of each run of pages on one node, as move_pages(2) says
 *
 * On a machine whose nodes are pretended (ksmd-user --topology emulated:N) a page lies on the node
 * of its address, in stripes of 2 MiB, and a thread runs on the node that its name says.
 */
#include "node_tenant.h"

#include <errno.h>
#include <numa.h>
#include <numaif.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "config.h"
#include "ksm.h"
#include "rand.h"

enum { STRIPE_PAGES = 512, WORDS = BENCH_PAGE / 8, OFFER_MS = 10000, QUERY = 512 };

struct node_tenant {
	unsigned char *mem;       /* the first stripe */
	uint64_t nr_pages, cycle; /* cycle: bytes from one stripe to the next */
	uint64_t *content;
	int nodes; /* 0: of the machine */
};

static uint64_t *page(const struct node_tenant *t, uint64_t i)
{
	return (uint64_t *)(t->mem + i / STRIPE_PAGES * t->cycle + i % STRIPE_PAGES * BENCH_PAGE);
}

static uint64_t in_stripe(const struct node_tenant *t, uint64_t first)
{
	uint64_t left = t->nr_pages - first;

	return left < STRIPE_PAGES ? left : STRIPE_PAGES;
}

/* No two contents have a word in common, except by chance. */
static void page_fill(uint64_t *p, uint64_t content)
{
	uint64_t x = (content + 1) * 0x9e3779b97f4a7c15ull;

	for (int i = 0; i < WORDS; i++) {
		p[i] = x;
		xorshift(&x);
	}
}

static int map(struct node_tenant *t, const char *args)
{
	unsigned long long pages;
	int node, nodes;
	uint64_t stripes, len;
	unsigned char *m;

	if (t->mem || sscanf(args, "%llu %d %d", &pages, &node, &nodes) != 3 || !pages ||
	    node < 0 || nodes < 0 || (nodes && node >= nodes))
		return EINVAL;
	t->nr_pages = pages;
	t->nodes = nodes;
	t->cycle = (uint64_t)STRIPE_PAGES * BENCH_PAGE * (nodes ? (uint64_t)nodes : 1);
	stripes = (pages + STRIPE_PAGES - 1) / STRIPE_PAGES;
	len = (stripes + 1) * t->cycle;
	t->content = calloc(pages, sizeof(*t->content));
	m = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		 0);
	if (!t->content || m == MAP_FAILED)
		return ENOMEM;
	t->mem = (unsigned char *)(((uintptr_t)m + t->cycle - 1) / t->cycle * t->cycle);
	t->mem += nodes ? (uint64_t)node * STRIPE_PAGES * BENCH_PAGE : 0;
	madvise(m, len, MADV_NOHUGEPAGE);
	/* The daemon would not merge memory with a policy less; only first touch goes by it. */
	if (!nodes)
		numa_set_preferred(node);
	return 0;
}

static int fill(struct node_tenant *t, const char *args)
{
	unsigned long long first, nr, content;

	if (!t->mem || sscanf(args, "%llu %llu %llu", &first, &nr, &content) != 3 ||
	    first + nr > t->nr_pages)
		return EINVAL;
	for (uint64_t i = 0; i < nr; i++) {
		t->content[first + i] = content + i;
		page_fill(page(t, first + i), content + i);
	}
	return 0;
}

static int offer(struct node_tenant *t)
{
	uint64_t end = clock_ms() + OFFER_MS;
	struct ksm_stat st = { .size = sizeof(st) };

	if (!t->nodes)
		numa_set_localalloc();
	for (uint64_t i = 0; i < t->nr_pages; i += STRIPE_PAGES)
		if (ksm_madvise(page(t, i), in_stripe(t, i) * BENCH_PAGE, MADV_MERGEABLE))
			return errno;
	while (ksm_stat(&st) || !st.connected || !st.mergeable) {
		if (clock_ms() > end)
			return ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

static int run(const struct node_tenant *t, const char *args)
{
	char name[16];
	int node;

	if (sscanf(args, "%d", &node) != 1)
		return EINVAL;
	if (!t->nodes)
		return numa_run_on_node(node) ? errno : 0;
	snprintf(name, sizeof(name), "tenant@%d", node);
	return prctl(PR_SET_NAME, name) ? errno : 0;
}

static uint64_t check(const struct node_tenant *t)
{
	uint64_t want[WORDS], wrong = 0;

	for (uint64_t i = 0; i < t->nr_pages; i++) {
		page_fill(want, t->content[i]);
		wrong += memcmp(want, page(t, i), BENCH_PAGE) != 0;
	}
	return wrong;
}

static void say_stripes(const struct node_tenant *t)
{
	printf("ok");
	for (uint64_t i = 0; i < t->nr_pages; i += STRIPE_PAGES)
		printf(" %llx %llu", (unsigned long long)(uintptr_t)page(t, i),
		       (unsigned long long)in_stripe(t, i));
	printf("\n");
}

static int say_where(const struct node_tenant *t)
{
	uint64_t run = 0;
	int last = -1;

	printf("ok");
	for (uint64_t i = 0, n; i < t->nr_pages; i += n) {
		void *v[QUERY];
		int status[QUERY];

		n = t->nr_pages - i < QUERY ? t->nr_pages - i : QUERY;
		for (uint64_t k = 0; k < n; k++) {
			v[k] = page(t, i + k);
			*(volatile uint64_t *)v[k];
		}
		if (move_pages(0, n, v, NULL, status, 0) < 0)
			return errno;
		for (uint64_t k = 0; k < n; k++, run++)
			if (status[k] != last) {
				if (run)
					printf(" %llu %d", (unsigned long long)run, last);
				last = status[k];
				run = 0;
			}
	}
	printf(" %llu %d\n", (unsigned long long)run, last);
	return 0;
}

static int say_move(const struct node_tenant *t, const char *args)
{
	uint64_t begun;
	int node, err = 0, *to;
	void **v;

	if (t->nodes || sscanf(args, "%d", &node) != 1 || node < 0)
		return EINVAL;
	v = calloc(t->nr_pages, sizeof(*v));
	to = calloc(2 * t->nr_pages, sizeof(*to)); /* and the status of each */
	for (uint64_t i = 0; v && to && i < t->nr_pages; i++) {
		v[i] = page(t, i);
		to[i] = node;
	}
	begun = clock_ns();
	if (!v || !to || move_pages(0, t->nr_pages, v, to, to + t->nr_pages, MPOL_MF_MOVE) < 0)
		err = errno;
	else
		printf("ok %llu\n", (unsigned long long)(clock_ns() - begun));
	free(v);
	free(to);
	return err;
}

/* False: it said its answer itself. */
static bool obey(struct node_tenant *t, char *line, int *err)
{
	char *args = line + strcspn(line, " \n");

	if (*args)
		*args++ = '\0';
	if (!strcmp(line, "map")) {
		*err = map(t, args);
	} else if (!strcmp(line, "fill")) {
		*err = fill(t, args);
	} else if (!strcmp(line, "offer")) {
		*err = t->mem ? offer(t) : EINVAL;
	} else if (!strcmp(line, "run")) {
		*err = run(t, args);
	} else if (!strcmp(line, "check")) {
		printf("ok %llu\n", (unsigned long long)check(t));
		return false;
	} else if (!strcmp(line, "stripes")) {
		say_stripes(t);
		return false;
	} else if (!strcmp(line, "move")) {
		*err = say_move(t, args);
		return *err;
	} else if (!strcmp(line, "where")) {
		*err = say_where(t);
		return *err;
	} else {
		*err = EINVAL;
	}
	return true;
}

int node_tenant_main(void)
{
	struct node_tenant t = { 0 };
	char line[256];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (fgets(line, sizeof(line), stdin)) {
		int err = 0;

		if (obey(&t, line, &err))
			printf(err ? "error %s\n" : "ok\n", strerror(err));
		fflush(stdout);
	}
	return EXIT_SUCCESS;
}
