/* SPDX-License-Identifier: MIT */
/*
 * result.c - results as JSON.
 *
 * The JSON holds every single value, so that tables and plots can be made later and elsewhere
 * (report.c). A ratio in it is ksmd-user's median over the kernel's.
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

static void json_series(FILE *f, const struct series *s)
{
	struct summary sum = series_summary(s);

	fputs("{\"median\":", f);
	json_value(f, sum.median);
	fputs(",\"min\":", f);
	json_value(f, sum.min);
	fputs(",\"max\":", f);
	json_value(f, sum.max);
	fputs(",\"values\":[", f);
	for (int i = 0; i < s->nr; i++) {
		if (i)
			putc(',', f);
		json_value(f, s->v[i]);
	}
	fputs("]}", f);
}

static double ratio(const struct bench_result *r, int m)
{
	double k = series_summary(&r->series[SIDE_KERNEL][m]).median;
	double u = series_summary(&r->series[SIDE_USER][m]).median;

	return k > 0 ? u / k : NAN;
}

static void json_side(FILE *f, const struct bench_result *r, int s)
{
	fprintf(f, "\"%s\":{\"knobs\":", side_name[s]);
	json_escape(f, r->knobs[s]);
	fprintf(f, ",\"incomplete\":%s", r->incomplete[s] ? "true" : "false");
	for (int m = 0; m < M_NR; m++) {
		if (!series_summary(&r->series[s][m]).nr)
			continue;
		fprintf(f, ",\"%s\":", metric_key[m]);
		json_series(f, &r->series[s][m]);
	}
	putc('}', f);
}

void result_json(FILE *f, const struct bench_result *r)
{
	bool first = true;

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
	fputs("},\"ratios\":{", f);
	for (int m = 0; m < M_NR; m++) {
		if (isnan(ratio(r, m)))
			continue;
		fprintf(f, "%s\"%s\":", first ? "" : ",", metric_key[m]);
		json_value(f, ratio(r, m));
		first = false;
	}
	fputs("}}\n", f);
}
