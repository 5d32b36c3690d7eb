/* SPDX-License-Identifier: MIT */
/* tree.c - see tree.h. */
#include "tools/ksmd-fs/tree.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define VALUE_MAX 256u

#define MODE_DIR (S_IFDIR | 0555)
#define MODE_FILE (S_IFREG | 0444)
#define MODE_KNOB (S_IFREG | 0644)

/* What /sys/kernel/mm/ksm has in Linux 6.18, with CONFIG_NUMA. */
static const struct kernel_attr {
	const char *name;
	mode_t mode;
} kernel_attrs[] = {
	{ "advisor_max_cpu", MODE_KNOB },
	{ "advisor_max_pages_to_scan", MODE_KNOB },
	{ "advisor_min_pages_to_scan", MODE_KNOB },
	{ "advisor_mode", MODE_KNOB },
	{ "advisor_target_scan_time", MODE_KNOB },
	{ "full_scans", MODE_FILE },
	{ "general_profit", MODE_FILE },
	{ "ksm_zero_pages", MODE_FILE },
	{ "max_page_sharing", MODE_KNOB },
	{ "merge_across_nodes", MODE_KNOB },
	{ "pages_scanned", MODE_FILE },
	{ "pages_shared", MODE_FILE },
	{ "pages_sharing", MODE_FILE },
	{ "pages_skipped", MODE_FILE },
	{ "pages_to_scan", MODE_KNOB },
	{ "pages_unshared", MODE_FILE },
	{ "pages_volatile", MODE_FILE },
	{ "run", MODE_KNOB },
	{ "sleep_millisecs", MODE_KNOB },
	{ "smart_scan", MODE_KNOB },
	{ "stable_node_chains", MODE_FILE },
	{ "stable_node_chains_prune_millisecs", MODE_KNOB },
	{ "stable_node_dups", MODE_FILE },
	{ "use_zero_pages", MODE_KNOB },
};
#define NR_KERNEL_ATTRS (sizeof(kernel_attrs) / sizeof(kernel_attrs[0]))

/* The lines of /proc/PID/ksm_stat in Linux 6.18: attributes of client/PID. */
static const struct stat_line {
	const char *format; /* as the kernel writes it; of a yes or no without the value */
	const char *name;
	bool yes_no;
} stat_lines[] = {
	{ "ksm_rmap_items %s\n", "ksm_rmap_items", false },
	{ "ksm_zero_pages %s\n", "ksm_zero_pages", false },
	{ "ksm_merging_pages %s\n", "ksm_merging_pages", false },
	{ "ksm_process_profit %s\n", "ksm_process_profit", false },
	{ "ksm_merge_any: %s\n", "ksm_merge_any", true },
	{ "ksm_mergeable: %s\n", "ksm_mergeable", true },
};
#define NR_STAT_LINES (sizeof(stat_lines) / sizeof(stat_lines[0]))

static const char *const root_names[] = { "kernel/", "ksmd/", "proc/", NULL };
static const char *const kernel_names[] = { "mm/", NULL };
static const char *const mm_names[] = { "ksm/", NULL };
static const char *const client_names[] = { "ksm_merging_pages", "ksm_stat", NULL };

static const struct fixed_dir {
	const char *path;
	const char *const *names; /* NULL: the kernel's attributes */
} fixed_dirs[] = {
	{ "/", root_names },
	{ "/kernel", kernel_names },
	{ "/kernel/mm", mm_names },
	{ "/kernel/mm/ksm", NULL },
};

/* ---- the daemon's answers ---- */

static struct caller caller_of(const struct tree_view *v)
{
	struct caller who = v->who;
	int n = v->groups && who.uid ? v->groups(CALL_GROUPS_MAX, who.groups) : 0;

	who.nr_groups = n < 0 ? 0 : n > CALL_GROUPS_MAX ? CALL_GROUPS_MAX : n;
	return who;
}

static int say(const struct tree_view *v, const char *line, bool store, struct text *body)
{
	struct caller who = caller_of(v);

	return call_say(v->pool, v->socket, &who, line, store, body);
}

__attribute__((format(printf, 3, 4))) static int ask(const struct tree_view *v, struct text *body,
						     const char *fmt, ...)
{
	char line[TREE_PATH_MAX + 16];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(line))
		return -ENAMETOOLONG;
	return say(v, line, false, body);
}

/* The mode of `name` in what `ls -l` says: "MODE NAME" a line, a directory's name with '/'. */
static mode_t listed_mode(const struct text *list, const char *name)
{
	size_t len = strlen(name);

	for (size_t at = 0; at < list->len;) {
		const char *line = list->data + at;
		const char *end = memchr(line, '\n', list->len - at);
		const char *space;
		size_t n;

		if (!end)
			break;
		at = (size_t)(end - list->data) + 1;
		space = memchr(line, ' ', (size_t)(end - line));
		if (!space)
			continue;
		n = (size_t)(end - space) - 1;
		if (n == len + 1 && space[n] == '/')
			n--;
		if (n == len && !memcmp(space + 1, name, len))
			return (mode_t)strtoul(line, NULL, 8);
	}
	return 0;
}

/* ---- finding ---- */

static int copy_path(struct tree_node *n, const char *path)
{
	if (strlen(path) >= sizeof(n->path))
		return -ENAMETOOLONG;
	strcpy(n->path, path);
	return 0;
}

/* /ksmd/PATH: the daemon knows it as PATH, and lists it in the directory above. */
static int find_attr(const struct tree_view *v, const char *path, struct tree_node *n)
{
	struct text list = { 0 };
	char dir[TREE_PATH_MAX];
	const char *name;
	char *slash;
	mode_t mode;
	int err = copy_path(n, path);

	if (err)
		return err;
	strcpy(dir, path);
	slash = strrchr(dir, '/');
	name = slash ? path + (slash - dir) + 1 : path;
	if (slash)
		*slash = '\0';
	else
		dir[0] = '\0';
	err = ask(v, &list, "ls -l%s%s", *dir ? " " : "", dir);
	mode = err ? 0 : listed_mode(&list, name);
	text_free(&list);
	if (err == -ENOTDIR)
		return -ENOENT;
	if (err)
		return err;
	if (!mode)
		return -ENOENT;
	n->kind = mode & 0111 ? TREE_ATTRS : TREE_ATTR;
	n->mode = mode | (mode & 0111 ? S_IFDIR : S_IFREG);
	return 0;
}

static void name_client_file(struct tree_node *n, unsigned long pid, enum tree_kind kind)
{
	n->kind = kind;
	snprintf(n->path, sizeof(n->path), "client/%lu%s", pid,
		 kind == TREE_ATTR ? "/ksm_merging_pages" : "");
}

/* /proc/PID or a file below: there while the client is, for those who may see it. */
static int find_client(const struct tree_view *v, const char *path, struct tree_node *n)
{
	char *end;
	unsigned long pid = strtoul(path, &end, 10);
	struct text uid = { 0 };
	int err;

	if (*path < '1' || *path > '9' || pid > INT32_MAX || (*end && *end != '/'))
		return -ENOENT;
	err = ask(v, &uid, "get client/%lu/uid", pid);
	text_free(&uid);
	n->own = v->process() == (pid_t)pid;
	if (err && !(err == -ENOENT && n->own))
		return err;
	if (!*end) {
		*n = (struct tree_node){ .kind = TREE_DIR,
					 .mode = MODE_DIR,
					 .names = client_names };
		return 0;
	}
	n->mode = MODE_FILE;
	name_client_file(n, pid, !strcmp(end, "/ksm_stat") ? TREE_STAT : TREE_ATTR);
	return n->kind == TREE_ATTR && strcmp(end, "/ksm_merging_pages") ? -ENOENT : 0;
}

static int find_kernel_attr(const char *name, struct tree_node *n)
{
	for (size_t i = 0; i < NR_KERNEL_ATTRS; i++)
		if (!strcmp(kernel_attrs[i].name, name)) {
			n->kind = TREE_KERNEL;
			n->file = (unsigned int)i;
			n->mode = kernel_attrs[i].mode;
			snprintf(n->path, sizeof(n->path), "ksm/%s", name);
			return 0;
		}
	return -ENOENT;
}

/* The rest of `path` behind `dir` and a slash; NULL when it is not below. */
static const char *below(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return !strncmp(path, dir, len) && path[len] == '/' ? path + len + 1 : NULL;
}

int tree_find(const struct tree_view *v, const char *path, struct tree_node *n)
{
	const char *rest;

	*n = (struct tree_node){ .kind = TREE_DIR, .mode = MODE_DIR };
	for (size_t i = 0; i < sizeof(fixed_dirs) / sizeof(fixed_dirs[0]); i++)
		if (!strcmp(path, fixed_dirs[i].path)) {
			n->names = fixed_dirs[i].names;
			return 0;
		}
	rest = below(path, "/kernel/mm/ksm");
	if (rest)
		return find_kernel_attr(rest, n);
	if (!strcmp(path, "/ksmd")) {
		n->kind = TREE_ATTRS;
		return 0;
	}
	rest = below(path, "/ksmd");
	if (rest)
		return find_attr(v, rest, n);
	if (!strcmp(path, "/proc")) {
		n->kind = TREE_CLIENTS;
		return 0;
	}
	if (!strcmp(path, "/proc/self")) {
		*n = (struct tree_node){ .kind = TREE_SELF, .mode = S_IFLNK | 0777 };
		return 0;
	}
	rest = below(path, "/proc");
	return rest ? find_client(v, rest, n) : -ENOENT;
}

/* ---- directories ---- */

int tree_list(const struct tree_view *v, const struct tree_node *n, struct text *out)
{
	int err = 0;

	if (n->kind == TREE_ATTRS)
		err = ask(v, out, "ls%s%s", *n->path ? " " : "", n->path);
	else if (n->kind == TREE_CLIENTS)
		err = ask(v, out, "ls client");
	if (n->kind == TREE_CLIENTS)
		text_printf(out, "self\n");
	if (n->kind == TREE_DIR && !n->names)
		for (size_t i = 0; i < NR_KERNEL_ATTRS; i++)
			text_printf(out, "%s\n", kernel_attrs[i].name);
	for (const char *const *name = n->names; name && *name; name++)
		text_printf(out, "%s\n", *name);
	if (err)
		return err;
	return out->failed ? -ENOMEM : 0;
}

/* ---- files ---- */

/* All lines from one answer, so that they are of one client at one moment. */
static int read_stat(const struct tree_view *v, const char *client, struct text *out)
{
	struct text dump = { 0 };
	int err = ask(v, &dump, "dump %s", client);

	text_add(&dump, "", 1);
	if (!err && dump.failed)
		err = -ENOMEM;
	for (size_t i = 0; !err && i < NR_STAT_LINES; i++) {
		const struct stat_line *l = &stat_lines[i];
		size_t len;
		const char *value = talk_dumped(dump.data, l->name, &len);
		char number[32];

		if (!value) {
			err = -EIO;
			break;
		}
		snprintf(number, sizeof(number), "%.*s", (int)len, value);
		if (l->yes_no)
			text_printf(out, l->format, *number == '1' ? "yes" : "no");
		else
			text_printf(out, l->format, number);
	}
	text_free(&dump);
	return err ? err : out->failed ? -ENOMEM : 0;
}

/* What the kernel says of a process of which nothing is merged. */
static int read_nothing(const struct tree_node *n, struct text *out)
{
	if (n->kind == TREE_ATTR)
		text_printf(out, "0\n");
	for (size_t i = 0; n->kind == TREE_STAT && i < NR_STAT_LINES; i++)
		text_printf(out, stat_lines[i].format, stat_lines[i].yes_no ? "no" : "0");
	return out->failed ? -ENOMEM : 0;
}

/* Who waits for passes, or for a write to show, does so with these. */
static bool never_old(const char *name)
{
	return !strcmp(name, "full_scans") || !strcmp(name, "ksm_zero_pages");
}

/* One look for all of the kernel's files that are read now, if the caller may see this one. */
static int read_kernel(const struct tree_view *v, const struct tree_node *n, struct text *out)
{
	const char *name = kernel_attrs[n->file].name;
	struct caller who = caller_of(v);
	struct text dump = { 0 };
	uint64_t stores = snapshot_stores(v->snapshot);
	const char *value = NULL;
	size_t len;
	int err;

	if (!never_old(name) && snapshot_serve(v->snapshot, &who, n->file, name, out))
		return 0;
	err = call_say(v->pool, v->socket, &who, "dump ksm", false, &dump);
	text_add(&dump, "", 1);
	if (!err && !dump.failed)
		value = talk_dumped(dump.data, name, &len);
	if (value) {
		text_add(out, value, len);
		text_add(out, "\n", 1);
		snapshot_keep(v->snapshot, &who, n->file, &dump, stores);
		return out->failed ? -ENOMEM : 0;
	}
	text_free(&dump);
	return ask(v, out, "get %s", n->path);
}

int tree_read(const struct tree_view *v, const struct tree_node *n, struct text *out)
{
	struct tree_node at = *n;
	int err;

	if (n->own)
		name_client_file(&at, (unsigned long)v->process(), n->kind);
	if (n->kind == TREE_KERNEL)
		return read_kernel(v, n, out);
	if (n->kind == TREE_STAT)
		err = read_stat(v, at.path, out);
	else
		err = ask(v, out, "get %s", at.path);
	return err == -ENOENT && n->own ? read_nothing(n, out) : err;
}

/*
 * A line of the control socket is short and holds no control characters, while sysfs takes a page
 * of any bytes. No answer differs: a control character is refused as a blank is, of many zeros at
 * the beginning one says the same, and VALUE_MAX bytes are more than any valid value has.
 */
static void add_value(struct text *line, const char *value, size_t len)
{
	while (len > 1 && value[0] == '0' && value[1] == '0') {
		value++;
		len--;
	}
	for (size_t i = 0; i < len && i < VALUE_MAX; i++) {
		char c = value[i];

		text_add(line, (unsigned char)c < ' ' || c == 0x7f ? " " : &c, 1);
	}
}

ssize_t tree_write(const struct tree_view *v, const struct tree_node *n, const char *value,
		   size_t len)
{
	size_t taken = len < TREE_VALUE_MAX ? len : TREE_VALUE_MAX, used = strnlen(value, taken);
	struct text line = { 0 }, none = { 0 };
	int err;

	if (used && value[used - 1] == '\n')
		used--;
	text_printf(&line, "set %s ", n->path);
	add_value(&line, value, used);
	text_add(&line, "", 1);
	err = line.failed ? -ENOMEM : say(v, line.data, true, &none);
	snapshot_drop(v->snapshot);
	text_free(&line);
	text_free(&none);
	return err ? err : (ssize_t)taken;
}
