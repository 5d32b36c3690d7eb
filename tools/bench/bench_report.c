/* SPDX-License-Identifier: MIT */
/*
 * bench_report.c - results as JSON and as Markdown; ksm-bench report.
 *
 * The JSON holds every single value, so that tables and plots can be made later and elsewhere; it is the
 * only form that is read back. In it a ratio is ksmd-user's median over the kernel's; in tables, where
 * a reader looks for what is better, it is a gain: how many times better ksmd-user is.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* More than any set of results; less than would hurt. */
enum { MAX_TEXT = 16 << 20 };

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
		fprintf(f, ",\"%s\":", metric_info[m].key);
		json_series(f, &r->series[s][m]);
	}
	putc('}', f);
}

/* One document on one line. */
void report_json(FILE *f, const struct bench_result *r)
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
		fprintf(f, "%s\"%s\":", first ? "" : ",", metric_info[m].key);
		json_value(f, ratio(r, m));
		first = false;
	}
	fputs("}}\n", f);
}

/* ---- Markdown ---- */

static void cell(FILE *f, const struct summary *s, const char *unit)
{
	char median[32], min[32], max[32];

	if (!s->nr)
		fputs(" - |", f);
	else if (s->nr == 1)
		fprintf(f, " %s%s |", figure(s->median, median), unit);
	else
		fprintf(f, " %s%s (%s..%s) |", figure(s->median, median), unit, figure(s->min, min),
			figure(s->max, max));
}

static const char *verdict_word(const struct verdict *v)
{
	switch (v->holds) {
	case VERDICT_YES:
		return "yes";
	case VERDICT_NO:
		return "**no**";
	default:
		return "?";
	}
}

static void summary_line(FILE *f, const struct target *t, const struct bench_result *r,
			 const char *label)
{
	const char *unit = t->kind == AT_MOST ? metric_info[t->metric].unit : "x";
	struct verdict v = target_check(t, r);

	fprintf(f, "| %s | %s | %s %.3g%s%s |", label, metric_info[t->metric].label,
		t->kind == AT_MOST ? "<=" : ">=", t->wanted, *unit && *unit != 'x' ? " " : "",
		unit);
	cell(f, &v.seen, t->kind == AT_MOST && *unit != 'x' ? "" : "x");
	fprintf(f, " %s%s%s |\n", verdict_word(&v), *v.why ? ": " : "", v.why);
}

/* What makes the figures doubtful. */
static void report_doubts(FILE *f, const struct bench_result *r, int nr)
{
	char label[64];

	for (int i = 0; i < nr; i++) {
		double kernel = series_summary(&r[i].series[SIDE_KERNEL][M_OTHERS_PCT]).max,
		       user = series_summary(&r[i].series[SIDE_USER][M_OTHERS_PCT]).max,
		       others = fmax(kernel, user); /* skips NAN */

		result_label(r, nr, i, label, sizeof(label));
		for (int n = 0; n < r[i].nr_notes; n++)
			fprintf(f, "- %s is not complete: %s\n", label, r[i].note[n]);
		if (others > BENCH_BUSY_PCT)
			fprintf(f,
				"- %s: the machine was not idle, in one round other programs used %.0f %% of a CPU\n",
				label, others);
	}
	putc('\n', f);
}

void report_summary(FILE *f, const struct bench_result *r, int nr)
{
	char label[64];

	if (nr < 1)
		return;
	fprintf(f, "Measured on %s, %d CPUs, %llu MiB of memory, %s%s%s.\n\n", r->machine.cpu,
		r->machine.cpus, (unsigned long long)r->machine.memory_mib, r->machine.kernel,
		*r->date ? ", " : "", r->date);
	fputs("| workload | what | wanted | seen: median (least..most of the rounds) | holds |\n"
	      "|---|---|---|---|---|\n",
	      f);
	for (int i = 0; i < nr; i++) {
		result_label(r, nr, i, label, sizeof(label));
		if (*r[i].skipped)
			fprintf(f, "| %s | all | | skipped: %s | ? |\n", label, r[i].skipped);
		for (int t = 0; t < nr_targets; t++)
			if (target_concerns(&targets[t], &r[i]))
				summary_line(f, &targets[t], &r[i], label);
	}
	fputs("\nx: so many times better than the kernel's KSM (less time, less CPU, more memory saved); "
	      "in `growth`, the quotient itself.\n\n",
	      f);
	report_doubts(f, r, nr);
}

static void markdown_metric(FILE *f, const struct bench_result *r, int m)
{
	struct summary k = series_summary(&r->series[SIDE_KERNEL][m]);
	struct summary u = series_summary(&r->series[SIDE_USER][m]);
	struct summary gain = result_gain(r, (enum metric)m);
	const struct metric_info *info = &metric_info[m];
	char text[32];

	if (!k.nr && !u.nr)
		return;
	fprintf(f, "| %s%s%s%s |", info->label, *info->unit ? " [" : "", info->unit,
		*info->unit ? "]" : "");
	cell(f, &k, "");
	cell(f, &u, "");
	if (!info->better)
		fputs(" |\n", f);
	else if (gain.nr)
		fprintf(f, " %sx |\n", figure(gain.median, text));
	else
		fputs(" - |\n", f);
}

void report_markdown(FILE *f, const struct bench_result *r)
{
	fprintf(f, "### %s: %u x %u MiB, %u %s\n\n", r->workload, r->processes, r->size_mib,
		r->rounds, r->rounds == 1 ? "round" : "rounds");
	if (*r->skipped)
		fprintf(f, "Skipped: %s.\n\n", r->skipped);
	for (int i = 0; i < r->nr_notes; i++)
		fprintf(f, "- Not complete: %s\n%s", r->note[i], i == r->nr_notes - 1 ? "\n" : "");
	for (int s = 0; s < SIDE_NR; s++)
		if (*r->knobs[s])
			fprintf(f, "Knobs of %s: %s\n\n", side_name[s], r->knobs[s]);
	if (*r->skipped)
		return;
	fputs("| median (least..most) | kernel | ksmd-user | times better |\n|---|---|---|---|\n",
	      f);
	for (int m = 0; m < M_NR; m++)
		markdown_metric(f, r, m);
	putc('\n', f);
}

static void report_all(FILE *f, const struct bench_result *r, int nr)
{
	report_summary(f, r, nr);
	for (int i = 0; i < nr; i++)
		report_markdown(f, &r[i]);
}

/* ---- ksm-bench report ---- */

static char *read_all(FILE *f, size_t *len)
{
	size_t size = 1 << 16, n;
	char *text = malloc(size);

	*len = 0;
	while (text && (n = fread(text + *len, 1, size - 1 - *len, f))) {
		*len += n;
		if (*len == size - 1) {
			char *more = size < MAX_TEXT ? realloc(text, size *= 2) : NULL;

			if (!more)
				free(text);
			text = more;
		}
	}
	if (text)
		text[*len] = 0;
	return text;
}

/* NULL: standard input. The caller frees the text; NULL when it was said why there is none. */
static char *read_file(const char *path, size_t *len)
{
	FILE *f = path ? fopen(path, "re") : stdin;
	const char *why = NULL;
	char *text;

	if (!f) {
		complain("%s: %s", path, strerror(errno));
		return NULL;
	}
	text = read_all(f, len);
	if (!text)
		why = "is too large";
	else if (ferror(f))
		why = "cannot be read";
	if (path)
		fclose(f);
	if (!why)
		return text;
	complain("%s: %s", path ? path : "standard input", why);
	free(text);
	return NULL;
}

static int load_file(const char *path, struct bench_result **results, int *nr)
{
	const char *why;
	size_t len;
	char *text = read_file(path, &len);
	int err;

	if (!text)
		return -EIO;
	err = load_results(text, len, results, nr, &why);
	free(text);
	if (err)
		complain("%s: %s", path ? path : "standard input", why);
	return err;
}

static const char BEGIN[] = "<!-- results: begin -->\n", END[] = "<!-- results: end -->\n";

static int update_write(const char *path, const char *text, const struct bench_result *r, int nr)
{
	const char *begin = strstr(text, BEGIN), *end = begin ? strstr(begin, END) : NULL;
	char temp[4096];
	FILE *f;

	if (!end) {
		complain("%s: has no lines %.*s and %.*s", path, (int)sizeof(BEGIN) - 2, BEGIN,
			 (int)sizeof(END) - 2, END);
		return -EINVAL;
	}
	snprintf(temp, sizeof(temp), "%s.new", path);
	f = fopen(temp, "we");
	if (!f) {
		complain("%s: %s", temp, strerror(errno));
		return -errno;
	}
	fwrite(text, 1, (size_t)(begin - text) + strlen(BEGIN), f);
	putc('\n', f);
	report_all(f, r, nr);
	fputs(end, f);
	if (ferror(f) | fclose(f) || rename(temp, path)) {
		complain("%s: %s", path, strerror(errno));
		unlink(temp);
		return -EIO;
	}
	return 0;
}

/* Replace what stands between two lines of a document. */
static int report_update(const char *path, const struct bench_result *r, int nr)
{
	size_t len;
	char *text = read_file(path, &len);
	int err = text ? update_write(path, text, r, nr) : -EIO;

	free(text);
	return err;
}

struct report_args {
	const char *svg, *update;
	char **files;
	int nr_files;
	bool summary;
};

static int report_parse(int argc, char **argv, struct report_args *a)
{
	a->files = argv; /* moved to the front */
	for (int i = 1; i < argc; i++) {
		if (!strcmp(argv[i], "--svg") && i + 1 < argc) {
			a->svg = argv[++i];
		} else if (!strcmp(argv[i], "--update") && i + 1 < argc) {
			a->update = argv[++i];
		} else if (!strcmp(argv[i], "--summary")) {
			a->summary = true;
		} else if (argv[i][0] != '-') {
			a->files[a->nr_files++] = argv[i];
		} else {
			complain("report: what is \"%s\"? Usage: ksm-bench report [FILE...] "
				 "[--summary] [--svg FILE] [--update FILE.md]",
				 argv[i]);
			return 2;
		}
	}
	return 0;
}

int report_main(int argc, char **argv)
{
	struct report_args a = { 0 };
	struct bench_result *results = NULL;
	int nr = 0, err = report_parse(argc, argv, &a);

	if (err)
		return err;
	if (!a.nr_files)
		err = load_file(NULL, &results, &nr);
	for (int i = 0; i < a.nr_files && !err; i++)
		err = load_file(a.files[i], &results, &nr);
	if (!err && a.update)
		err = report_update(a.update, results, nr);
	else if (!err && a.summary)
		report_summary(stdout, results, nr);
	else if (!err)
		report_all(stdout, results, nr);
	if (!err && a.svg)
		err = report_svg(a.svg, results, nr);
	free(results);
	return err ? 1 : 0;
}
