/* SPDX-License-Identifier: MIT */
/*
 * why.c - see why.h.
 *
 * Two know a part each. The daemon knows what has become of offered memory, and says so range by
 * range. The kernel knows what else the process has, and what is there of it (smaps). Both look at
 * a program that goes on, one after the other, so sums may differ by what it did meanwhile.
 */
#include "tools/ksmdctl/why.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/die.h"
#include "tools/ksmdctl/json.h"
#include "tools/ksmdctl/kinds.h"
#include "tools/memory/smaps.h"
#include "wire/abi.h"

#define MIB 1048576.0
#define SHOWN 20 /* ranges, without --all */
#define KINDS_MAX 48

struct range {
	uint64_t start, end;
	bool offered;
	char name[64];
	uint64_t anonymous;        /* bytes of private memory, as the kernel says */
	uint64_t bytes[KINDS_MAX]; /* by kind */
};

struct ranges {
	struct range *v;
	size_t nr, room;
};

static size_t kind_of(const char *name)
{
	return kind_find(name, strlen(name));
}

static struct range *add_range(struct ranges *r, uint64_t start, uint64_t end)
{
	if (r->nr == r->room) {
		r->room = r->room * 2 + 64;
		r->v = realloc(r->v, r->room * sizeof(*r->v));
		if (!r->v)
			die(EXIT_REFUSED, "out of memory");
	}
	r->v[r->nr] = (struct range){ .start = start, .end = end };
	return &r->v[r->nr++];
}

/* ---- what the daemon says ---- */

/* "START-END", then "NAME PAGES" as often as there are. Parts of one region follow each other. */
static void take_line(struct ranges *r, char *line)
{
	char *save = NULL, *word = strtok_r(line, " ", &save), *pages;
	uint64_t start, end;
	struct range *to;

	if (!word || sscanf(word, "%" SCNx64 "-%" SCNx64, &start, &end) != 2)
		return;
	to = r->nr ? &r->v[r->nr - 1] : NULL;
	if (to && to->end == start)
		to->end = end;
	else
		to = add_range(r, start, end);
	to->offered = true;
	while ((word = strtok_r(NULL, " ", &save)) && (pages = strtok_r(NULL, " ", &save))) {
		size_t k = kind_of(word);

		if (k < nr_kinds)
			to->bytes[k] += strtoull(pages, NULL, 10) * KSM_PAGE_SIZE;
	}
}

static void ask_daemon(struct talk *c, const char *pid, struct ranges *r)
{
	uint64_t from = 0;
	bool more = true;

	while (more) {
		char *body = ctl_ask(c, "do client/%s/why 0x%" PRIx64, pid, from), *save = NULL;

		more = false;
		for (char *l = strtok_r(body, "\n", &save); l; l = strtok_r(NULL, "\n", &save))
			if (sscanf(l, "next %" SCNx64, &from) == 1)
				more = true;
			else
				take_line(r, l);
		free(body);
	}
}

/* ---- what the kernel says ---- */

/* The offered range that holds the mapping, or NULL. */
static struct range *offered_at(struct ranges *r, size_t nr, uint64_t addr)
{
	size_t from = 0;

	while (from < nr) {
		size_t mid = (from + nr) / 2;

		if (addr >= r->v[mid].start && addr < r->v[mid].end)
			return &r->v[mid];
		if (addr < r->v[mid].start)
			nr = mid;
		else
			from = mid + 1;
	}
	return NULL;
}

/* Pages in offered memory that the daemon has not counted as private ones. */
static void find_unseen(struct range *r)
{
	static const char *const not_private[] = { "merged", "alone", "zero", "foreign" };
	uint64_t known = 0;

	for (size_t i = 0; i < nr_kinds; i++)
		known += r->bytes[i];
	for (size_t i = 0; i < sizeof(not_private) / sizeof(not_private[0]); i++)
		known -= r->bytes[kind_of(not_private[i])];
	if (r->anonymous > known)
		r->bytes[kind_of("unseen")] = r->anonymous - known;
}

static void take_mapping(struct ranges *r, size_t nr_offered, const struct mapping *m)
{
	struct range *to = offered_at(r, nr_offered, m->start);
	bool arena = !strcmp(m->kind, "merged");

	if (!to) {
		if (!m->rss && !m->swap)
			return;
		to = add_range(r, m->start, m->end);
		to->bytes[kind_of(arena ? "foreign" : m->kind)] += m->rss;
	} else {
		to->anonymous += m->anonymous;
	}
	to->bytes[kind_of("swapped")] += m->swap;
	if (!arena && !to->name[0])
		snprintf(to->name, sizeof(to->name), "%s", m->name);
}

static void ask_kernel(const char *pid, struct ranges *r)
{
	size_t offered = r->nr;
	FILE *f = smaps_open(atoi(pid));
	struct mapping m;

	if (!f) {
		fprintf(stderr, "ksmdctl: memory that is not offered is not shown: %s\n",
			strerror(errno));
		return;
	}
	while (smaps_next(f, &m))
		take_mapping(r, offered, &m);
	fclose(f);
	for (size_t i = 0; i < offered; i++)
		find_unseen(&r->v[i]);
}

/* ---- what is said ---- */

/* Bytes that are there: zeros that were given back are not. */
static uint64_t there(const struct range *r)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < nr_kinds; i++)
		sum += r->bytes[i];
	return sum - r->bytes[kind_of("zero")];
}

static int compare(const void *a, const void *b)
{
	uint64_t x = there(a), y = there(b);

	if (x != y)
		return x < y ? 1 : -1;
	return ((const struct range *)a)->start < ((const struct range *)b)->start ? -1 : 1;
}

static void print_kinds(const struct range *r, int margin)
{
	bool first = true;

	for (size_t i = 0; i < nr_kinds; i++) {
		if (!r->bytes[i])
			continue;
		printf("%*s%10.2f MiB %s\n", first ? 0 : margin, "", (double)r->bytes[i] / MIB,
		       kinds[i].what);
		first = false;
	}
	if (first)
		puts("      nothing there");
}

static void print_range(const struct range *r)
{
	const char *name = strrchr(r->name, '/');
	int n = printf("%" PRIx64 "-%" PRIx64 " %.18s", r->start, r->end,
		       name ? name + 1 : r->name);

	printf("%*s", n < 46 ? 46 - n : 1, "");
	print_kinds(r, n < 46 ? 46 : n + 1);
}

/* For each reason that applies: what would have to change. */
static void print_help(const struct range *sum)
{
	bool any = false;

	for (size_t i = 0; i < nr_kinds; i++) {
		if (!sum->bytes[i] || !kinds[i].help)
			continue;
		if (!any)
			puts("\nwhat would have to change");
		any = true;
		printf("%10.2f MiB %s\n", (double)sum->bytes[i] / MIB, kinds[i].what);
		print_wrapped("               ", kinds[i].help);
	}
}

static void print_text(const char *pid, const char *comm, struct ranges *r, const struct range *sum,
		       bool all)
{
	size_t shown = all || r->nr < SHOWN ? r->nr : SHOWN;
	uint64_t rest = 0;

	printf("%s (%s): %.1f MiB there, of which %.1f MiB merged", pid, comm,
	       (double)there(sum) / MIB,
	       (double)(sum->bytes[kind_of("merged")] + sum->bytes[kind_of("alone")]) / MIB);
	printf("; %.1f MiB of zeros given back\n\n", (double)sum->bytes[kind_of("zero")] / MIB);
	for (size_t i = 0; i < shown; i++)
		print_range(&r->v[i]);
	for (size_t i = shown; i < r->nr; i++)
		rest += there(&r->v[i]);
	if (shown < r->nr)
		printf("and %zu more ranges with %.1f MiB; --all shows them\n", r->nr - shown,
		       (double)rest / MIB);
	fputs("\nin all\n", stdout);
	printf("%*s", 46, "");
	print_kinds(sum, 46);
	print_help(sum);
}

static void json_kinds(const struct range *r)
{
	const char *separator = "";

	putchar('{');
	for (size_t i = 0; i < nr_kinds; i++) {
		if (!r->bytes[i])
			continue;
		printf("%s\"%s\": %" PRIu64, separator, kinds[i].name, r->bytes[i]);
		separator = ", ";
	}
	putchar('}');
}

static void print_json(const char *pid, const char *comm, const struct ranges *r,
		       const struct range *sum)
{
	printf("{\"pid\": %s, \"comm\": ", pid);
	json_string(comm);
	printf(", \"bytes\": %" PRIu64 ", \"sum\": ", there(sum));
	json_kinds(sum);
	fputs(", \"ranges\": [", stdout);
	for (size_t i = 0; i < r->nr; i++) {
		printf("%s\n  {\"start\": %" PRIu64 ", \"end\": %" PRIu64
		       ", \"offered\": %s, \"name\": ",
		       i ? "," : "", r->v[i].start, r->v[i].end,
		       r->v[i].offered ? "true" : "false");
		json_string(r->v[i].name);
		fputs(", \"bytes\": ", stdout);
		json_kinds(&r->v[i]);
		putchar('}');
	}
	puts("]}");
}

void cmd_why(struct talk *c, const char *pid, bool all, bool json)
{
	struct ranges r = { 0 };
	struct range sum = { 0 };
	char dir[64], *comm;

	if (strspn(pid, "0123456789") != strlen(pid) || !*pid || strlen(pid) > 10)
		die(EXIT_USAGE, "not a process ID: %s", pid);
	snprintf(dir, sizeof(dir), "client/%s", pid);
	comm = ctl_value(c, dir, "comm");
	if (!comm)
		die(EXIT_REFUSED, "process %s is no client, or not yours", pid);
	ask_daemon(c, pid, &r);
	ask_kernel(pid, &r);
	qsort(r.v, r.nr, sizeof(*r.v), compare);
	for (size_t i = 0; i < r.nr; i++)
		for (size_t k = 0; k < nr_kinds; k++)
			sum.bytes[k] += r.v[i].bytes[k];
	if (json)
		print_json(pid, comm, &r, &sum);
	else
		print_text(pid, comm, &r, &sum, all);
	free(r.v);
	free(comm);
}
