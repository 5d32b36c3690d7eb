/* SPDX-License-Identifier: MIT */
/*
 * result.c - results as JSON.
 *
 * The JSON holds the value of every round, so that medians, tables and plots can be made later and
 * elsewhere (report.c).
 */
#include "result.h"

#include <math.h>
#include <string.h>
#include <time.h>

#include "workload.h"

void result_init(struct bench_result *r, const struct bench_config *cfg)
{
	time_t now = time(NULL);
	struct tm tm;

	memset(r, 0, sizeof(*r));
	machine_read(&r->machine);
	if (gmtime_r(&now, &tm))
		strftime(r->date, sizeof(r->date), "%Y-%m-%d", &tm);
	snprintf(r->workload, sizeof(r->workload), "%s", cfg->workload->name);
	r->size_mib = cfg->size_mib;
	r->processes = cfg->processes;
	r->rounds = cfg->rounds;
}

void result_note(struct bench_result *r, const char *text)
{
	if (r->nr_notes < BENCH_MAX_NOTES)
		snprintf(r->note[r->nr_notes++], BENCH_NOTE, "%s", text);
}

static void json_escape(FILE *f, const char *s)
{
	putc('"', f);
	for (; *s; s++) {
		if (*s == '"' || *s == '\\')
			putc('\\', f);
		if ((unsigned char)*s >= ' ')
			putc(*s, f);
	}
	putc('"', f);
}

static void json_value(FILE *f, double v)
{
	if (isnan(v))
		fputs("null", f);
	else
		fprintf(f, "%.9g", v);
}

/* All rounds of a metric; nothing when none of them could measure it. */
static void json_metric(FILE *f, const struct bench_result *r, int side, int m)
{
	const double *v = r->value[side][m];
	int i = 0;

	while (i < r->nr[side] && isnan(v[i]))
		i++;
	if (i == r->nr[side])
		return;
	fprintf(f, ",\"%s\":{\"values\":", metric_key[m]);
	for (i = 0; i < r->nr[side]; i++) {
		putc(i ? ',' : '[', f);
		json_value(f, v[i]);
	}
	fputs("]}", f);
}

static void json_side(FILE *f, const struct bench_result *r, int s)
{
	fprintf(f, "\"%s\":{\"knobs\":", side_name[s]);
	json_escape(f, r->knobs[s]);
	fprintf(f, ",\"incomplete\":%s", r->incomplete[s] ? "true" : "false");
	for (int m = 0; m < M_NR; m++)
		json_metric(f, r, s, m);
	putc('}', f);
}

void result_json(FILE *f, const struct bench_result *r)
{
	fputs("{\"benchmark\":\"kernel\",\"machine\":{\"cpu\":", f);
	json_escape(f, r->machine.cpu);
	fputs(",\"kernel\":", f);
	json_escape(f, r->machine.kernel);
	fprintf(f, ",\"cpus\":%d,\"memory_mib\":%llu},\"date\":", r->machine.cpus,
		(unsigned long long)r->machine.memory_mib);
	json_escape(f, r->date);
	fputs(",\"workload\":", f);
	json_escape(f, r->workload);
	fprintf(f, ",\"size_mib\":%u,\"processes\":%u,\"rounds\":%u", r->size_mib, r->processes,
		r->rounds);
	fputs(",\"skipped\":", f);
	json_escape(f, r->skipped);
	fputs(",\"notes\":[", f);
	for (int i = 0; i < r->nr_notes; i++) {
		if (i)
			putc(',', f);
		json_escape(f, r->note[i]);
	}
	fputs("],\"sides\":{", f);
	json_side(f, r, SIDE_KERNEL);
	putc(',', f);
	json_side(f, r, SIDE_USER);
	fputs("}}\n", f);
}
