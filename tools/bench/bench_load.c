/* SPDX-License-Identifier: MIT */
/*
 * bench_load.c - results from what --json wrote.
 *
 * A file of results may come from anywhere, so nothing in it is believed: numbers are cut to what their
 * fields hold, strings to plain characters that mean nothing in Markdown or XML (they go into both). What
 * is not there is not measured; what is no result of ours refuses the whole text.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void load_string(const struct json *j, char *buf, size_t size)
{
	const char *s = json_string(j);
	size_t n = 0;

	for (; *s && n < size - 1; s++)
		buf[n++] = *s < ' ' || *s > '~' || strchr("<>&|`", *s) ? '?' : *s;
	buf[n] = 0;
}

static unsigned int load_uint(const struct json *j, unsigned int max)
{
	double v = json_number(j);

	return v >= 0 && v <= max ? (unsigned int)v : 0;
}

static void load_series(const struct json *j, struct series *s)
{
	const struct json *values = json_get(j, "values"), *v;

	for (s->nr = 0; s->nr < BENCH_MAX_ROUNDS && (v = json_at(values, s->nr)); s->nr++)
		s->v[s->nr] = json_number(v);
}

static void load_side(const struct json *side, struct bench_result *r, int s)
{
	const struct json *incomplete = json_get(side, "incomplete");

	load_string(json_get(side, "knobs"), r->knobs[s], KNOBS_TEXT);
	r->incomplete[s] = json_true(incomplete);
	for (int m = 0; m < M_NR; m++)
		load_series(json_get(side, metric_info[m].key), &r->series[s][m]);
}

static bool load_result(const struct json *j, struct bench_result *r)
{
	const struct json *machine = json_get(j, "machine"), *sides = json_get(j, "sides"), *n;
	const struct json *notes = json_get(j, "notes");

	memset(r, 0, sizeof(*r));
	if (strcmp(json_string(json_get(j, "benchmark")), "kernel") != 0 || !machine || !sides)
		return false;
	load_string(json_get(machine, "cpu"), r->machine.cpu, sizeof(r->machine.cpu));
	load_string(json_get(machine, "kernel"), r->machine.kernel, sizeof(r->machine.kernel));
	r->machine.cpus = (int)load_uint(json_get(machine, "cpus"), 1 << 20);
	r->machine.memory_mib = load_uint(json_get(machine, "memory_mib"), 1u << 31);
	load_string(json_get(j, "date"), r->date, sizeof(r->date));
	load_string(json_get(j, "workload"), r->workload, sizeof(r->workload));
	load_string(json_get(j, "skipped"), r->skipped, sizeof(r->skipped));
	r->size_mib = load_uint(json_get(j, "size_mib"), 1 << 30);
	r->processes = load_uint(json_get(j, "processes"), 1 << 30);
	r->rounds = load_uint(json_get(j, "rounds"), BENCH_MAX_ROUNDS);
	for (int i = 0; i < BENCH_MAX_NOTES && (n = json_at(notes, i)); i++)
		load_string(n, r->note[r->nr_notes++], BENCH_NOTE);
	for (int s = 0; s < SIDE_NR; s++)
		load_side(json_get(sides, side_name[s]), r, s);
	return true;
}

enum { MAX_RESULTS = 1000 };

int load_results(const char *text, size_t len, struct bench_result **results, int *nr,
		 const char **why)
{
	struct json *j;

	*why = "is not what ksm-bench --json writes";
	if (strlen(text) != len)
		return -EINVAL; /* what follows a NUL would be passed over in silence */
	while (*nr < MAX_RESULTS && (j = json_parse(&text))) {
		struct bench_result *more =
			realloc(*results, (size_t)(*nr + 1) * sizeof(**results));
		bool ok = more && load_result(j, &more[*nr]);

		json_free(j);
		if (more)
			*results = more;
		if (!ok)
			return more ? -EINVAL : -ENOMEM;
		(*nr)++;
	}
	if (!*text && !*nr)
		*why = "is empty";
	return *text || !*nr ? -EINVAL : 0;
}

void result_label(const struct bench_result *all, int nr, int i, char *buf, size_t size)
{
	bool alone = true;

	for (int k = 0; k < nr; k++)
		if (k != i && !strcmp(all[k].workload, all[i].workload))
			alone = false;
	if (alone)
		snprintf(buf, size, "%s", all[i].workload);
	else
		snprintf(buf, size, "%s %ux%u MiB", all[i].workload, all[i].processes,
			 all[i].size_mib);
}
