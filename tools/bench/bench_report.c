/* SPDX-License-Identifier: MIT */
/*
 * bench_report.c - results as JSON, as a Markdown table, and as a plot.
 *
 * The JSON holds every single value, so that tables and plots can be made later and elsewhere; it is the
 * only form that is read back. A ratio is ksmd-user's median over the kernel's.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

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

/* One document on one line. */
void report_json(FILE *f, const struct bench_result *r)
{
	fputs("{\"benchmark\":\"kernel\",\"machine\":{\"cpu\":", f);
	json_escape(f, r->machine.cpu);
	fputs(",\"kernel\":", f);
	json_escape(f, r->machine.kernel);
	fprintf(f, ",\"cpus\":%d,\"memory_mib\":%llu},\"workload\":", r->machine.cpus,
		(unsigned long long)r->machine.memory_mib);
	json_escape(f, r->workload);
	fprintf(f, ",\"size_mib\":%u,\"processes\":%u,\"rounds\":%u,\"sides\":{", r->size_mib,
		r->processes, r->rounds);
	for (int s = 0; s < SIDE_NR; s++) {
		fprintf(f, "%s\"%s\":{\"knobs\":", s ? "," : "", side_name[s]);
		json_escape(f, r->knobs[s]);
		for (int m = 0; m < M_NR; m++) {
			fprintf(f, ",\"%s\":", metric_info[m].key);
			json_series(f, &r->series[s][m]);
		}
		putc('}', f);
	}
	fputs("},\"ratios\":{", f);
	for (int m = 0; m < M_NR; m++) {
		fprintf(f, "%s\"%s\":", m ? "," : "", metric_info[m].key);
		json_value(f, ratio(r, m));
	}
	fputs("}}\n", f);
}

static void cell(FILE *f, const struct summary *s)
{
	if (!s->nr)
		fputs(" - |", f);
	else if (s->nr == 1)
		fprintf(f, " %.4g |", s->median);
	else
		fprintf(f, " %.4g (%.4g..%.4g) |", s->median, s->min, s->max);
}

void report_markdown(FILE *f, const struct bench_result *r)
{
	fprintf(f, "### %s: %u x %u MiB, %u rounds\n\n", r->workload, r->processes, r->size_mib,
		r->rounds);
	fprintf(f, "%s, %d CPUs, %llu MiB; %s\n\n", r->machine.cpu, r->machine.cpus,
		(unsigned long long)r->machine.memory_mib, r->machine.kernel);
	for (int s = 0; s < SIDE_NR; s++)
		if (*r->knobs[s])
			fprintf(f, "Knobs of %s: %s\n\n", side_name[s], r->knobs[s]);
	fputs("| median (min..max) | unit | kernel | ksmd-user | ksmd-user / kernel | better |\n"
	      "|---|---|---|---|---|---|\n",
	      f);
	for (int m = 0; m < M_NR; m++) {
		struct summary k = series_summary(&r->series[SIDE_KERNEL][m]);
		struct summary u = series_summary(&r->series[SIDE_USER][m]);
		double q = ratio(r, m);

		if (!k.nr && !u.nr)
			continue;
		fprintf(f, "| %s | %s |", metric_info[m].label, metric_info[m].unit);
		cell(f, &k);
		cell(f, &u);
		if (isnan(q))
			fputs(" - |", f);
		else
			fprintf(f, " %.3g |", q);
		fprintf(f, " %s |\n", metric_info[m].better < 0 ? "less" : "more");
	}
	putc('\n', f);
}

/* ---- plot ---- */

enum { BAR = 14, GROUP = 44, LABEL_W = 110, PLOT_W = 480, HEAD = 50, PANEL_GAP = 46 };
static const enum metric plotted[] = { M_MERGE_S, M_CPU_S,       M_REST_CPU_MS, M_SAVED_NET_MIB,
				       M_COW_NS,  M_LOAD_MAX_US, M_STORE_MAX_US };
enum { NR_PLOTTED = sizeof(plotted) / sizeof(plotted[0]) };

static double panel_max(const struct bench_result *r, int nr, int m)
{
	double max = 0;

	for (int i = 0; i < nr; i++)
		for (int s = 0; s < SIDE_NR; s++)
			max = fmax(max,
				   series_summary(&r[i].series[s][m]).max); /* fmax skips NAN */
	return max;
}

static void svg_bar(FILE *f, int y, int side, const struct summary *s, double scale)
{
	static const char *const colour[SIDE_NR] = { "#8a8f98", "#2f6fb0" };
	double w = fmax(0, s->median) * scale, lo = fmax(0, s->min) * scale,
	       hi = fmax(0, s->max) * scale;

	if (!s->nr)
		return;
	fprintf(f, "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", LABEL_W,
		y, w, BAR, colour[side]);
	fprintf(f, "<path d=\"M%.1f %dH%.1f\" stroke=\"#222\"/>\n", LABEL_W + lo, y + BAR / 2,
		LABEL_W + hi);
	fprintf(f, "<text x=\"%.1f\" y=\"%d\">%.3g</text>\n", LABEL_W + hi + 4, y + 11, s->median);
}

static int svg_panel(FILE *f, const struct bench_result *r, int nr, int m, int y)
{
	double max = panel_max(r, nr, m), scale = max > 0 ? PLOT_W / max : 0;

	fprintf(f, "<text x=\"10\" y=\"%d\" font-weight=\"bold\">%s [%s]</text>\n", y,
		metric_info[m].label, metric_info[m].unit);
	y += 10;
	for (int i = 0; i < nr; i++, y += GROUP) {
		fprintf(f, "<text x=\"10\" y=\"%d\">%s</text>\n", y + BAR + 4, r[i].workload);
		for (int s = 0; s < SIDE_NR; s++) {
			struct summary sum = series_summary(&r[i].series[s][m]);

			svg_bar(f, y + s * (BAR + 2), s, &sum, scale);
		}
	}
	return y + PANEL_GAP - 10;
}

int report_svg(const char *path, const struct bench_result *r, int nr)
{
	int y = HEAD + 30, height = HEAD + 30 + NR_PLOTTED * (nr * GROUP + PANEL_GAP);
	FILE *f = fopen(path, "we");

	if (!f) {
		complain("%s: %s", path, strerror(errno));
		return -errno;
	}
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"font-family=\"sans-serif\" font-size=\"12\">\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		LABEL_W + PLOT_W + 90, height);
	fprintf(f,
		"<text x=\"10\" y=\"20\" font-size=\"15\">Kernel KSM (grey) and ksmd-user (blue): "
		"medians, lines from least to most</text>\n<text x=\"10\" y=\"40\">%s, %s</text>\n",
		r->machine.cpu, r->machine.kernel);
	for (int p = 0; p < NR_PLOTTED; p++)
		y = svg_panel(f, r, nr, plotted[p], y);
	fputs("</svg>\n", f);
	if (ferror(f) | fclose(f)) {
		complain("%s: %s", path, strerror(errno));
		return -EIO;
	}
	return 0;
}

/* ---- ksm-bench report ---- */

static void load_series(const struct json *j, struct series *s)
{
	const struct json *values = json_get(j, "values"), *v;

	for (s->nr = 0; s->nr < BENCH_MAX_ROUNDS && (v = json_at(values, s->nr)); s->nr++)
		s->v[s->nr] = json_number(v);
}

static bool load_result(const struct json *j, struct bench_result *r)
{
	const struct json *machine = json_get(j, "machine"), *sides = json_get(j, "sides");

	memset(r, 0, sizeof(*r));
	if (strcmp(json_string(json_get(j, "benchmark")), "kernel") || !machine || !sides)
		return false;
	snprintf(r->machine.cpu, sizeof(r->machine.cpu), "%s",
		 json_string(json_get(machine, "cpu")));
	snprintf(r->machine.kernel, sizeof(r->machine.kernel), "%s",
		 json_string(json_get(machine, "kernel")));
	r->machine.cpus = (int)fmax(0, json_number(json_get(machine, "cpus")));
	r->machine.memory_mib = (uint64_t)fmax(0, json_number(json_get(machine, "memory_mib")));
	snprintf(r->workload, sizeof(r->workload), "%s", json_string(json_get(j, "workload")));
	r->size_mib = (unsigned int)fmax(0, json_number(json_get(j, "size_mib")));
	r->processes = (unsigned int)fmax(0, json_number(json_get(j, "processes")));
	r->rounds = (unsigned int)fmax(0, json_number(json_get(j, "rounds")));
	for (int s = 0; s < SIDE_NR; s++) {
		const struct json *side = json_get(sides, side_name[s]);

		snprintf(r->knobs[s], KNOBS_TEXT, "%s", json_string(json_get(side, "knobs")));
		for (int m = 0; m < M_NR; m++)
			load_series(json_get(side, metric_info[m].key), &r->series[s][m]);
	}
	return true;
}

static char *read_all(FILE *f)
{
	size_t size = 1 << 16, len = 0, n;
	char *text = malloc(size);

	while (text && (n = fread(text + len, 1, size - 1 - len, f))) {
		len += n;
		if (len == size - 1) {
			char *more = realloc(text, size *= 2);

			if (!more)
				free(text);
			text = more;
		}
	}
	if (text)
		text[len] = 0;
	return text;
}

/* All documents of a text. Returns their number, or -1 when something else is in it. */
static int load_all(const char *text, struct bench_result **results)
{
	struct json *j;
	int nr = 0;

	*results = NULL;
	while ((j = json_parse(&text))) {
		struct bench_result *more = realloc(*results, (size_t)(nr + 1) * sizeof(**results));
		bool ok = more && load_result(j, &more[nr]);

		json_free(j);
		if (more)
			*results = more;
		if (!ok)
			return -1;
		nr++;
	}
	return *text ? -1 : nr;
}

int report_main(int argc, char **argv)
{
	const char *svg = NULL, *path = NULL;
	struct bench_result *results = NULL;
	char *text;
	FILE *f = stdin;
	int nr, err = 0;

	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--svg") && i + 1 < argc) {
			svg = argv[++i];
		} else if (argv[i][0] != '-' && !path) {
			path = argv[i];
		} else {
			complain(
				"report: what is \"%s\"? Usage: ksm-bench report [FILE.json] [--svg FILE]",
				argv[i]);
			return 2;
		}
	}
	if (path && !(f = fopen(path, "re"))) {
		complain("%s: %s", path, strerror(errno));
		return 1;
	}
	text = read_all(f);
	if (path)
		fclose(f);
	nr = text ? load_all(text, &results) : -1;
	if (nr <= 0) {
		complain("%s: %s", path ? path : "standard input",
			 nr ? "is not what ksm-bench --json writes" : "is empty");
		err = -EINVAL;
	}
	for (int i = 0; i < nr; i++)
		report_markdown(stdout, &results[i]);
	if (!err && svg)
		err = report_svg(svg, results, nr);
	free(results);
	free(text);
	return err ? 1 : 0;
}
