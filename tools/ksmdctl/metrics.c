/* SPDX-License-Identifier: MIT */
/*
 * metrics.c - see metrics.h.
 *
 * OpenMetrics wants all samples of a family side by side, while the daemon is asked subject by
 * subject. So all answers are kept until the end, and each family is looked for in all of them.
 * Whatever is not a number is left out, except where it says whom a sample is about.
 *
 * Where node_exporter has a name for what it reads from the kernel's KSM, that name is used, so
 * that the panels that exist show this daemon, too.
 */
#include "tools/ksmdctl/metrics.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/die.h"

#define NESTED "domain/zone" /* the group of which each domain has subjects of its own */
#define NAME_MAX_LEN 96u     /* the longest name of an attribute has 40 characters */

/* One directory of the daemon: its labels, as in `{a="b"`, and what it holds. */
struct subject {
	struct text labels;
	char *dump;
};

struct group {
	const char *name;
	struct subject *v;
	size_t nr;
};

/* One family: an attribute of a group. */
struct family {
	const char *name; /* of the attribute */
	size_t name_len;
	const char *help;
	size_t help_len;
};

/* ---- text ---- */

static void add_escaped(struct text *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (s[i] == '\\' || s[i] == '"')
			text_printf(out, "\\%c", s[i]);
		else
			text_add(out, &s[i], 1);
}

static void add_label(struct text *labels, const char *name, const char *value, size_t len)
{
	text_printf(labels, "%s%s=\"", labels->len ? "," : "{", name);
	add_escaped(labels, value, len);
	text_printf(labels, "\"");
}

static bool is_number(const char *s, size_t len)
{
	size_t sign = len && *s == '-';

	return len > sign && strspn(s + sign, "0123456789") == len - sign;
}

/* ---- what is asked ---- */

static struct subject *new_subject(struct group *g)
{
	g->v = realloc(g->v, (g->nr + 1) * sizeof(*g->v));
	if (!g->v)
		die(EXIT_REFUSED, "out of memory");
	g->v[g->nr] = (struct subject){ .dump = NULL };
	return &g->v[g->nr++];
}

/* Of a client: what is a label of all its samples, and no family. */
static const char *const client_labels[] = { "comm", "uid", "domain" };
#define NR_CLIENT_LABELS (sizeof(client_labels) / sizeof(client_labels[0]))

static void add_client_labels(struct subject *s)
{
	for (size_t i = 0; i < NR_CLIENT_LABELS; i++) {
		size_t len;
		const char *v = talk_dumped(s->dump, client_labels[i], &len);

		if (v)
			add_label(&s->labels, client_labels[i], v, len);
	}
}

/* `dir` is the subject's, in subject `outer` of the group around, or NULL. */
static void ask_subject(struct talk *c, struct group *g, const char *dir, const char *outer,
			const char *label, const char *number)
{
	char line[256], err[512];
	struct subject *s;
	char *dump;

	snprintf(line, sizeof(line), "dump %s/%s", dir, number);
	dump = ctl_try(c, line, err, sizeof(err));
	if (!dump)
		return; /* it has ended meanwhile */
	s = new_subject(g);
	s->dump = dump;
	if (outer)
		add_label(&s->labels, "domain", outer, strlen(outer));
	add_label(&s->labels, label, number, strlen(number));
	if (!strcmp(g->name, "client"))
		add_client_labels(s);
}

/* What a subject's number is called in a label. */
static const char *label_of(const char *group)
{
	if (!strcmp(group, "client"))
		return "pid";
	return strcmp(group, "user") ? group : "uid";
}

static void ask_subjects(struct talk *c, struct group *g, const char *dir, const char *outer,
			 const char *label)
{
	char line[256], err[512], *save = NULL, *names;

	snprintf(line, sizeof(line), "ls %s", dir);
	names = ctl_try(c, line, err, sizeof(err));
	for (char *n = names ? strtok_r(names, "\n/", &save) : NULL; n;
	     n = strtok_r(NULL, "\n/", &save))
		ask_subject(c, g, dir, outer, label, n);
	free(names);
}

/* What stands in each domain: domain/D/zone/N. */
static void ask_nested(struct talk *c, struct group *g)
{
	char dir[256], err[512], *save = NULL, *names = ctl_try(c, "ls domain", err, sizeof(err));

	for (char *n = names ? strtok_r(names, "\n/", &save) : NULL; n;
	     n = strtok_r(NULL, "\n/", &save)) {
		snprintf(dir, sizeof(dir), "domain/%s/zone", n);
		ask_subjects(c, g, dir, n, "zone");
	}
	free(names);
}

/* Ask for the group itself, or for its subjects. */
static void ask_group(struct talk *c, struct group *g)
{
	char line[256], err[512], *dump;

	if (!strcmp(g->name, NESTED)) {
		ask_nested(c, g);
		return;
	}
	snprintf(line, sizeof(line), "dump %s", g->name);
	dump = ctl_try(c, line, err, sizeof(err));
	if (dump) {
		new_subject(g)->dump = dump;
		return;
	}
	ask_subjects(c, g, g->name, NULL, label_of(g->name));
}

/* ---- what is said ---- */

/* How a family of OpenMetrics is called, and what its samples are. */
struct shape {
	char name[NAME_MAX_LEN]; /* without _total */
	bool counter;
	const char *scale; /* what is put behind the number: "", or an exponent */
};

static bool one_of(const char *const *names, size_t nr, const char *s, size_t len)
{
	for (size_t i = 0; i < nr; i++)
		if (strlen(names[i]) == len && !memcmp(names[i], s, len))
			return true;
	return false;
}

#define ONE_OF(names, f) one_of(names, sizeof(names) / sizeof((names)[0]), (f)->name, (f)->name_len)

static bool is_client_label(const struct family *f)
{
	return one_of(client_labels, NR_CLIENT_LABELS, f->name, f->name_len);
}

static bool ends_with(const struct family *f, const char *tail)
{
	size_t n = strlen(tail);

	return f->name_len > n && !memcmp(f->name + f->name_len - n, tail, n);
}

static struct shape shape_of(const struct group *g, const struct family *f)
{
	/* Those of node_exporter's collector "ksmd". */
	static const char *const nodes[] = { "full_scans",     "merge_across_nodes",
					     "pages_shared",   "pages_sharing",
					     "pages_to_scan",  "run",
					     "pages_unshared", "pages_volatile",
					     "sleep_millisecs" };
	static const char *const counters[] = {
		"agent_cpu_ns",       "clients_alone",     "clients_refused",    "cow_breaks",
		"clients_outdated",   "domains_refused",   "frames_held_up",     "full_scans",
		"migrate_collisions", "migrate_failed",    "order_pages_failed", "orders_given",
		"pages_merged",       "pages_migrated",    "pages_scanned",      "pages_skipped",
		"pgmigrate_fail",     "pgmigrate_success", "protocol_errors",    "refused",
		"scan_cpu_ns",
	};
	bool ksm = !strcmp(g->name, "ksm"), node = ksm && ONE_OF(nodes, f);
	int len = (int)f->name_len;
	const char *unit = "";
	/* What is counted since a start never falls, and most help texts say so. */
	bool grows = memmem(f->help, f->help_len, "since the start", 15);
	struct shape s = { .counter = grows || ONE_OF(counters, f), .scale = "" };

	if (ends_with(f, "_ns")) {
		len -= 3;
		unit = "_seconds";
		s.scale = "e-9";
	} else if (ends_with(f, "_millisecs")) {
		len -= 10;
		unit = "_seconds";
		s.scale = "e-3";
	}
	snprintf(s.name, sizeof(s.name), "%sksmd_%s%s%.*s%s", node ? "node_" : "",
		 ksm ? "" : g->name, ksm ? "" : "_", len, f->name, unit);
	for (char *slash = s.name; (slash = strchr(slash, '/'));)
		*slash = '_';
	return s;
}

/* The label of a number in a directory of numbers. */
static const char *kind_of(const struct family *f)
{
	return f->name_len == 8 && !memcmp(f->name, "left_out", 8) ? "reason" : "kind";
}

static void add_sample(struct text *out, const struct shape *s, const struct text *labels,
		       const char *value, size_t len)
{
	text_printf(out, "%s%s", s->name, s->counter ? "_total" : "");
	text_add(out, labels->data, labels->len);
	if (labels->len)
		text_add(out, "}", 1);
	text_add(out, " ", 1);
	text_add(out, value, len);
	text_printf(out, "%s\n", s->scale);
}

/* The samples of one subject: a line of its dump, or several of one directory. */
static void add_samples(struct text *out, const struct shape *s, const struct family *f,
			const struct subject *of)
{
	for (const char *l = of->dump; *l; l += strcspn(l, "\n"), l += *l == '\n') {
		const char *at = l + f->name_len, *value;
		struct text labels = { 0 };
		size_t len;

		if (strncmp(l, f->name, f->name_len) || (*at != ' ' && *at != '/'))
			continue;
		value = at + strcspn(at, " ") + 1;
		len = strcspn(value, "\n");
		if (!is_number(value, len))
			continue;
		text_add(&labels, of->labels.data, of->labels.len);
		if (*at == '/')
			add_label(&labels, kind_of(f), at + 1, (size_t)(value - 1 - (at + 1)));
		out->failed |= labels.failed;
		add_sample(out, s, &labels, value, len);
		text_free(&labels);
	}
}

static void add_family(struct text *out, const struct group *g, const struct family *f)
{
	struct shape s = shape_of(g, f);
	struct text samples = { 0 };

	for (size_t i = 0; i < g->nr; i++)
		add_samples(&samples, &s, f, &g->v[i]);
	out->failed |= samples.failed;
	if (samples.len) {
		text_printf(out, "# TYPE %s %s\n# HELP %s ", s.name,
			    s.counter ? "counter" : "gauge", s.name);
		add_escaped(out, f->help, f->help_len);
		text_add(out, "\n", 1);
		text_add(out, samples.data, samples.len);
	}
	text_free(&samples);
}

/* Who the daemon is: what is no number. */
static void add_info(struct text *out, const struct group *g)
{
	static const char *const names[] = { "version", "topology", "domain_mode" };
	struct text labels = { 0 };

	if (strcmp(g->name, "daemon") || !g->nr)
		return;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		size_t len;
		const char *v = talk_dumped(g->v[0].dump, names[i], &len);

		if (v)
			add_label(&labels, names[i], v, len);
	}
	text_printf(out, "# TYPE ksmd_daemon info\n# HELP ksmd_daemon who answers\n");
	text_printf(out, "ksmd_daemon_info");
	text_add(out, labels.data, labels.len);
	text_printf(out, "%s 1\n", labels.len ? "}" : "");
	text_free(&labels);
}

/* A group's families, in the order in which the daemon has them. */
static void add_group(struct talk *c, struct text *out, const char *name)
{
	struct group g = { .name = name };
	char *help = ctl_ask(c, "dump help/%s", name);

	ask_group(c, &g);
	add_info(out, &g);
	for (const char *l = help; *l; l += strcspn(l, "\n"), l += *l == '\n') {
		struct family f = { .name = l, .name_len = strcspn(l, " ") };

		f.help = l + f.name_len + 1;
		f.help_len = strcspn(f.help, "\n");
		if (strcmp(name, "client") || !is_client_label(&f))
			add_family(out, &g, &f);
	}
	for (size_t i = 0; i < g.nr; i++) {
		text_free(&g.v[i].labels);
		free(g.v[i].dump);
	}
	free(g.v);
	free(help);
}

/* What tells of one client, user or domain is not for those of whom nobody knows who they are. */
static bool is_total(const char *group)
{
	return strcmp(group, "client") != 0 && strcmp(group, "user") != 0 &&
	       strcmp(group, "domain") != 0;
}

void cmd_metrics(struct talk *c, bool totals)
{
	char *groups = ctl_ask(c, "ls help"), *save = NULL;
	struct text out = { 0 };

	for (char *n = strtok_r(groups, "\n/", &save); n; n = strtok_r(NULL, "\n/", &save))
		if (!totals || is_total(n)) {
			add_group(c, &out, n);
			if (!strcmp(n, "domain"))
				add_group(c, &out, NESTED);
		}
	text_printf(&out, "# EOF\n");
	free(groups);
	if (out.failed)
		die(EXIT_REFUSED, "out of memory");
	fwrite(out.data, 1, out.len, stdout);
	text_free(&out);
}
