/* SPDX-License-Identifier: MIT */
/*
 * bench_svg.c - the picture: how many times better ksmd-user is, and whether that is enough.
 *
 * Small panels, one for each metric, a row for each workload. Gains are drawn on a logarithmic axis, so
 * that twice as good and half as good are as far from the line at 1, where the two are equal. Each
 * panel has its own range; the number stands beside each mark, in a column of its own, so that nothing can
 * overlap. Marks differ in shape as well as in colour.
 */
#include "bench.h"

#include <errno.h>
#include <math.h>
#include <string.h>

enum {
	MAX_ROWS = 32,
	NR_COLUMNS = 4,
	LABEL_W = 84,
	GROWTH_LABEL_W = 84,
	AXIS_W = 172,
	VALUE_W = 50,
	GAP_W = 26,
	ROW_H = 21,
	HEAD_H = 30,
	AXIS_H = 44,
	TITLE_H = 58,
	LEGEND_H = 34,
	TICK_GAP = 30, /* least distance of two numbers below an axis */
	MAX_TICKS = 16,
	PLAIN_STEPS = 4, /* of axis_ticks() */
};

static const struct {
	enum metric metric;
	const char *title;
} panels[] = {
	{ M_MERGE_S, "Time to the last merge" },
	{ M_CPU_S, "CPU until then" },
	{ M_REST_CPU_MS, "CPU per pass at rest" },
	{ M_SAVED_NET_MIB, "Memory saved, net" },
	{ M_COW_NS, "Write to a merged page" },
	{ M_LOAD_P999_US, "Loads while merging, 99.9 %" },
	{ M_STORE_P999_US, "Stores while merging, 99.9 %" },
};
enum { NR_PANELS = sizeof(panels) / sizeof(panels[0]) };

static const struct {
	enum metric metric;
	const char *label;
} growth_rows[] = {
	{ M_GROW_SIZE_CPU, "16 x size, CPU" },
	{ M_GROW_SIZE_WALL, "time" },
	{ M_GROW_MANY_CPU, "200 : 2, CPU" },
	{ M_GROW_MANY_WALL, "time" },
};
enum { NR_GROWTH = sizeof(growth_rows) / sizeof(growth_rows[0]) };

struct row {
	char label[32];
	struct verdict v;
	double wanted; /* NAN: nothing is */
};
struct axis {
	double lo, hi; /* logarithms */
	int x;
};

static double axis_x(const struct axis *a, double v)
{
	return a->x + AXIS_W * (log10(v) - a->lo) / (a->hi - a->lo);
}

static void axis_include(struct axis *a, double v)
{
	if (!(v > 0) || !isfinite(v))
		return;
	a->lo = fmin(a->lo, log10(v));
	a->hi = fmax(a->hi, log10(v));
}

/* All that is to be drawn, the line at 1, and some room. */
static void axis_fit(struct axis *a, const struct row *rows, int nr)
{
	double room;

	a->lo = a->hi = 0;
	for (int i = 0; i < nr; i++) {
		axis_include(a, rows[i].wanted);
		if (!rows[i].v.seen.nr)
			continue;
		axis_include(a, rows[i].v.seen.min);
		axis_include(a, rows[i].v.seen.max);
		axis_include(a, rows[i].v.seen.median);
	}
	room = fmax(0.06 * (a->hi - a->lo), 0.03);
	a->lo -= room;
	a->hi += room;
}

/* 1, then powers of ten, then what lies between, as long as there is room for the numbers. */
static void axis_ticks(FILE *f, const struct axis *a, int top, int bottom)
{
	static const double steps[] = { 1, 2, 5, 3, 1.5, 1.2, 1.1, 9.5, 9, 8, 1.05 };
	double at[MAX_TICKS] = { 0 };
	int nr = 0;

	for (size_t s = 0; s < sizeof(steps) / sizeof(steps[0]); s++)
		for (int decade = 0, n = 0; n <= 18 && nr < MAX_TICKS;
		     n++, decade = n % 2 ? (n + 1) / 2 : -(n / 2)) {
			double v = steps[s] * pow(10, decade), x = axis_x(a, v);
			bool free = x >= a->x && x <= a->x + AXIS_W;

			if (s >= PLAIN_STEPS && a->hi - a->lo > 1)
				continue; /* odd numbers only where there is nothing else */

			for (int i = 0; i < nr; i++)
				free = free && fabs(x - at[i]) >= TICK_GAP;
			if (!free)
				continue;
			at[nr++] = x;
			fprintf(f,
				"<path d=\"M%.1f %dV%d\" stroke=\"%s\"/><text x=\"%.1f\" y=\"%d\" "
				"class=\"tick\">%g</text>\n",
				x, top, bottom + 4, v == 1 ? "#333" : "#e3e3e3", x, bottom + 17, v);
		}
}

static void mark(FILE *f, double x, int y, int holds)
{
	if (holds == VERDICT_YES)
		fprintf(f, "<circle cx=\"%.1f\" cy=\"%d\" r=\"4.5\" fill=\"#1f6fb4\"/>\n", x, y);
	else if (holds == VERDICT_NO)
		fprintf(f, "<path d=\"M%.1f %dl5 5l-5 5l-5 -5z\" fill=\"#d1601a\"/>\n", x, y - 5);
	else
		fprintf(f,
			"<circle cx=\"%.1f\" cy=\"%d\" r=\"4\" fill=\"#fff\" stroke=\"#555\" "
			"stroke-width=\"1.5\"/>\n",
			x, y);
}

static void draw_row(FILE *f, const struct axis *a, const struct row *r, int y)
{
	const struct summary *s = &r->v.seen;
	int right = a->x + AXIS_W + VALUE_W;
	char text[32];

	if (!isnan(r->wanted) && r->wanted > 0)
		fprintf(f, "<path d=\"M%.1f %dv%d\" class=\"wanted\"/>\n", axis_x(a, r->wanted),
			y - 8, 16);
	if (!s->nr || !(s->median > 0)) {
		fprintf(f, "<text x=\"%d\" y=\"%d\" class=\"none\">%s</text>\n", right, y + 4,
			r->v.holds == VERDICT_NO ? "no end" : "-");
		return;
	}
	if (s->nr > 1 && s->min > 0)
		fprintf(f, "<path d=\"M%.1f %dH%.1f\" class=\"spread\"/>\n", axis_x(a, s->min), y,
			axis_x(a, s->max));
	mark(f, axis_x(a, s->median), y, r->v.holds);
	fprintf(f, "<text x=\"%d\" y=\"%d\" class=\"value\">%s</text>\n", right, y + 4,
		figure(s->median, text));
}

/* A panel with its upper left corner, labels not counted, at x, y. */
static void draw_panel(FILE *f, int x, int y, const char *title, const struct row *rows, int nr,
		       bool labels, bool shade)
{
	struct axis a = { .x = x };
	int top = y + HEAD_H, bottom = top + nr * ROW_H;

	axis_fit(&a, rows, nr);
	fprintf(f, "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text>\n", x, y + 18, title);
	if (shade)
		fprintf(f,
			"<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" "
			"fill=\"#f4f1ec\"/>\n",
			x, top, axis_x(&a, 1) - x, bottom - top);
	axis_ticks(f, &a, top, bottom);
	fprintf(f, "<path d=\"M%d %dh%d\" stroke=\"#333\"/>\n", x, bottom, AXIS_W);
	for (int i = 0; i < nr; i++) {
		int mid = top + i * ROW_H + ROW_H / 2;

		if (labels)
			fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>\n", x - 8,
				mid + 4, rows[i].label);
		draw_row(f, &a, &rows[i], mid);
	}
}

static struct row row_of(const struct bench_result *r, enum metric m)
{
	const struct target *t = target_find(r, m);
	struct row row = { .wanted = t ? t->wanted : NAN };

	if (t)
		row.v = target_check(t, r);
	else
		row.v.seen = result_gain(r, m);
	if (!row.v.seen.nr && row.v.holds == VERDICT_UNKNOWN)
		row.wanted = NAN; /* nothing to compare it with */
	return row;
}

static void draw_panels(FILE *f, const struct bench_result *all, int nr)
{
	static struct row rows[MAX_ROWS], grow[NR_GROWTH];
	int h = 0, growth = -1;

	for (int i = 0; i < nr; i++)
		if (!strcmp(all[i].workload, "growth"))
			growth = i;
		else if (h < MAX_ROWS)
			h++;
	for (int p = 0; p <= NR_PANELS; p++) {
		int x = LABEL_W + p % NR_COLUMNS * (AXIS_W + VALUE_W + GAP_W),
		    y = TITLE_H + p / NR_COLUMNS * (HEAD_H + h * ROW_H + AXIS_H), n = 0;

		for (int i = 0; p < NR_PANELS && i < nr && n < MAX_ROWS; i++) {
			if (!strcmp(all[i].workload, "growth"))
				continue;
			rows[n] = row_of(&all[i], panels[p].metric);
			result_label(all, nr, i, rows[n].label, sizeof(rows[n].label));
			n++;
		}
		if (n)
			draw_panel(f, x, y, panels[p].title, rows, n, p % NR_COLUMNS == 0, true);
		for (int i = 0; p == NR_PANELS && growth >= 0 && i < NR_GROWTH; i++) {
			grow[i] = row_of(&all[growth], growth_rows[i].metric);
			snprintf(grow[i].label, sizeof(grow[i].label), "%s", growth_rows[i].label);
		}
		if (p == NR_PANELS && growth >= 0)
			draw_panel(f, x + GROWTH_LABEL_W, y, "Cost per page: large / small", grow,
				   NR_GROWTH, true, false);
	}
}

static void draw_legend(FILE *f, int y)
{
	int x = LABEL_W;

	mark(f, x + 5, y, VERDICT_YES);
	fprintf(f, "<text x=\"%d\" y=\"%d\">as good as wanted</text>\n", x + 16, y + 4);
	mark(f, x + 150, y, VERDICT_NO);
	fprintf(f, "<text x=\"%d\" y=\"%d\">not</text>\n", x + 161, y + 4);
	mark(f, x + 205, y, VERDICT_UNKNOWN);
	fprintf(f, "<text x=\"%d\" y=\"%d\">nothing is wanted</text>\n", x + 216, y + 4);
	fprintf(f, "<path d=\"M%d %dv16\" class=\"wanted\"/>", x + 345, y - 8);
	fprintf(f, "<text x=\"%d\" y=\"%d\">wanted</text>\n", x + 354, y + 4);
	fprintf(f, "<path d=\"M%d %dh24\" class=\"spread\"/>", x + 420, y);
	fprintf(f, "<text x=\"%d\" y=\"%d\">least to most of the rounds</text>\n", x + 450, y + 4);
	fprintf(f, "<rect x=\"%d\" y=\"%d\" width=\"20\" height=\"14\" fill=\"#f4f1ec\"/>", x + 630,
		y - 7);
	fprintf(f, "<text x=\"%d\" y=\"%d\">the kernel is better</text>\n", x + 656, y + 4);
}

static void draw_all(FILE *f, const struct bench_result *r, int nr)
{
	int rows = 0, width = LABEL_W + NR_COLUMNS * (AXIS_W + VALUE_W + GAP_W) + GROWTH_LABEL_W,
	    body;

	for (int i = 0; i < nr && rows < MAX_ROWS; i++)
		rows += strcmp(r[i].workload, "growth") != 0;
	body = TITLE_H +
	       (NR_PANELS / NR_COLUMNS + 1) * (HEAD_H + (rows > 4 ? rows : 4) * ROW_H + AXIS_H);
	fprintf(f,
		"<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
		"viewBox=\"0 0 %d %d\" font-family=\"DejaVu Sans, Helvetica, Arial, sans-serif\" "
		"font-size=\"12\" fill=\"#222\">\n"
		"<style>.tick{font-size:10.5px;text-anchor:middle;fill:#444}"
		".value{text-anchor:end}.none{text-anchor:end;fill:#999}"
		".wanted{stroke:#111;stroke-width:2}.spread{stroke:#555;stroke-width:1.5}</style>\n"
		"<rect width=\"100%%\" height=\"100%%\" fill=\"#fff\"/>\n",
		width, body + LEGEND_H, width, body + LEGEND_H);
	fprintf(f,
		"<text x=\"14\" y=\"24\" font-size=\"15\">How many times better ksmd-user is than the "
		"kernel's KSM (1: equal)</text>\n<text x=\"14\" y=\"43\" fill=\"#555\">%s, %d CPUs, "
		"%s; medians of %u round%s%s%s</text>\n",
		r->machine.cpu, r->machine.cpus, r->machine.kernel, r->rounds,
		r->rounds == 1 ? "" : "s", *r->date ? "; " : "", r->date);
	draw_panels(f, r, nr);
	draw_legend(f, body + 10);
	fputs("</svg>\n", f);
}

int report_svg(const char *path, const struct bench_result *r, int nr)
{
	FILE *f = fopen(path, "we");

	if (!f) {
		complain("%s: %s", path, strerror(errno));
		return -errno;
	}
	draw_all(f, r, nr);
	if (ferror(f) | fclose(f)) {
		complain("%s: cannot be written", path);
		return -EIO;
	}
	return 0;
}
