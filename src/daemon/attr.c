/* SPDX-License-Identifier: MIT */
/*
 * attr.c - see attr.h.
 *
 * A path is resolved from its text alone; only then does the group gather what it shows of the
 * subject, once. So a path that cannot exist costs nothing, and no answer mixes two states.
 *
 * Whether the viewer may know of a subject is asked first. So what gathering costs (locks, sums
 * over a client's regions) does not tell a stranger whether there is anything to be gathered.
 */
#include "daemon/attr.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/text.h"

#define MODE_DIR 0555u
#define MODE_READ 0444u
#define MODE_SET 0644u

#define PATH_MAX_LEN 255u /* the longest path there is has 61 characters */

struct attr_list {
	struct text *out;
	bool modes;
	const struct attr_viewer *viewer;
	const struct attr_member *member; /* whose list() makes it, or NULL */
};

/* What a path names, as far as its text tells. */
struct target {
	bool help;                             /* below help/ */
	const struct attr_member *first, *end; /* the directory's groups; NULL: / or help/ */
	const struct attr_member *outer;       /* in whose subject the directory is, or NULL */
	bool has_subject;                      /* a subject is named */
	uint64_t subject;                      /* with `outer`: ATTR_NESTED(), or its outer half */
	const struct attr_member *member;      /* of attr */
	const struct attr *attr;               /* NULL: none is named */
	int number;                            /* in attr->names, -1: none is named */
	char buf[PATH_MAX_LEN + 1];
};

/* ---- the registry ---- */

void attr_register(struct attr_tree *t, const struct attr_group *group, void *owner)
{
	unsigned int i = t->nr;

	assert(t->nr < ATTR_GROUPS_MAX && group->size <= ATTR_VALUES_MAX);
	assert(!strchr(group->name, '/') || (group->list && !group->owned && !group->open));
	for (; i && strcmp(t->members[i - 1].group->name, group->name) > 0; i--)
		t->members[i] = t->members[i - 1];
	t->members[i] = (struct attr_member){ group, owner };
	t->nr++;
}

static const struct attr_member *end_of(const struct attr_tree *t)
{
	return t->members + t->nr;
}

static const struct attr_member *find_group(const struct attr_tree *t, const char *name)
{
	for (const struct attr_member *m = t->members; m < end_of(t); m++)
		if (!strcmp(m->group->name, name))
			return m;
	return NULL;
}

/* The first member of the next directory. */
static const struct attr_member *next_group(const struct attr_tree *t, const struct attr_member *m)
{
	const char *name = m->group->name;

	while (m < end_of(t) && !strcmp(m->group->name, name))
		m++;
	return m;
}

static bool has_subjects(const struct target *t)
{
	return t->first && t->first->group->list;
}

/* ---- paths ---- */

static bool is_dir(const struct target *t)
{
	return !t->attr || (t->attr->names && t->number < 0);
}

/* Next component of *rest, cut off in place; NULL at the end. An empty one is "". */
static char *next_component(char **rest)
{
	char *c = *rest, *slash;

	if (!c)
		return NULL;
	slash = strchr(c, '/');
	if (slash)
		*slash = '\0';
	*rest = slash ? slash + 1 : NULL;
	return c;
}

static bool find_attr(struct target *t, const char *name)
{
	for (const struct attr_member *m = t->first; m < t->end; m++)
		for (size_t i = 0; i < m->group->nr_attrs; i++)
			if (!strcmp(m->group->attrs[i].name, name)) {
				t->member = m;
				t->attr = &m->group->attrs[i];
				return true;
			}
	return false;
}

static bool find_number(struct target *t, const char *name)
{
	for (size_t i = 0; i < t->attr->nr_names; i++)
		if (!strcmp(t->attr->names[i], name)) {
			t->number = (int)i;
			return true;
		}
	return false;
}

/* The part of a path below its group and subject. */
static int resolve_leaf(struct target *t, char **rest)
{
	char *c = next_component(rest);

	if (!c)
		return 0;
	if (!find_attr(t, c))
		return -ENOENT;
	if (t->attr->names) {
		c = next_component(rest);
		if (c && !find_number(t, c))
			return -ENOENT;
	}
	return *rest ? -ENOENT : 0;
}

/* Go into the directory of a group, and of a subject where it has any and the path goes on. */
static int enter(const struct attr_tree *tree, struct target *t, const struct attr_member *m,
		 char **rest)
{
	uint64_t n;
	char *c;

	t->first = m;
	t->end = next_group(tree, m);
	t->has_subject = false;
	c = has_subjects(t) && !t->help ? next_component(rest) : NULL;
	if (!c)
		return 0;
	if (text_number(c, 10, &n) || (t->outer && (n | t->subject) > UINT32_MAX))
		return -ENOENT;
	t->subject = t->outer ? ATTR_NESTED(t->subject, n) : n;
	t->has_subject = true;
	return 0;
}

/* Go on into the group of the next component, if it is one in the subject that is named. */
static int enter_nested(const struct attr_tree *tree, struct target *t, char **rest)
{
	const char *outer = t->first->group->name;
	char name[2 * PATH_MAX_LEN];
	const struct attr_member *m;

	if (!*rest)
		return 0;
	snprintf(name, sizeof(name), "%s/%.*s", outer, (int)strcspn(*rest, "/"), *rest);
	m = find_group(tree, name);
	if (!m)
		return 0;
	next_component(rest);
	t->outer = t->first;
	return enter(tree, t, m, rest);
}

static int resolve(const struct attr_tree *tree, const char *path, struct target *t)
{
	size_t len = strlen(path);
	const struct attr_member *m;
	char *rest = t->buf;
	int err;

	*t = (struct target){ .number = -1 };
	if (len >= sizeof(t->buf))
		return -ENOENT;
	memcpy(t->buf, path, len + 1);
	if (len && t->buf[len - 1] == '/')
		t->buf[--len] = '\0';
	if (!len)
		return path[0] ? -ENOENT : 0;
	if (!strcmp(t->buf, "help") || !strncmp(t->buf, "help/", 5)) {
		t->help = true;
		next_component(&rest);
		if (!rest)
			return 0;
	}
	m = find_group(tree, next_component(&rest));
	err = m ? enter(tree, t, m, &rest) : -ENOENT;
	if (!err)
		err = enter_nested(tree, t, &rest);
	return err ? err : resolve_leaf(t, &rest);
}

/* Bytes for any group's values, aligned for any field. */
union values {
	_Alignas(max_align_t) unsigned char bytes[ATTR_VALUES_MAX];
};

/* ---- who may see what ---- */

static bool owns(const struct attr_member *m, uint64_t subject, const struct attr_viewer *v)
{
	return v->is_operator || (m->group->owned && m->group->owned(m->owner, subject, v->uid));
}

static bool may_know(const struct attr_member *m, uint64_t subject, const struct attr_viewer *v)
{
	return m->group->open || owns(m, subject, v);
}

static bool may_read(const struct attr_member *m, const struct attr *a, uint64_t subject,
		     const struct attr_viewer *v)
{
	return a->all || owns(m, subject, v);
}

/* The directory of a nested group is where its outer subject is, for those who may know of it. */
static int gather_outer(const struct target *t, const struct attr_viewer *viewer, union values *v)
{
	const struct attr_group *g = t->outer->group;

	if (!may_know(t->first, t->subject, viewer))
		return -ENOENT;
	memset(v, 0, g->size);
	return g->gather(t->outer->owner, t->subject, v);
}

/*
 * Gather what the path names. A subject that does not exist has no directory either, nor has one of
 * which the viewer may not know: -ENOENT.
 */
static int gather(const struct target *t, const struct attr_viewer *viewer, union values *v)
{
	const struct attr_member *m = t->attr ? t->member : t->first;
	int err;

	if (t->help || !m)
		return 0;
	if (has_subjects(t) && !t->has_subject)
		return t->outer ? gather_outer(t, viewer, v) : 0;
	if (t->has_subject && !may_know(t->first, t->subject, viewer))
		return -ENOENT;
	if (t->attr && !may_read(m, t->attr, t->subject, viewer))
		return -EACCES;
	memset(v, 0, m->group->size);
	err = m->group->gather(m->owner, t->subject, v);
	if (!err && t->has_subject && !may_know(t->first, t->subject, viewer))
		return -ENOENT;
	return err;
}

/* ---- get ---- */

void attr_show_u64(const struct attr *a, const void *values, struct text *out)
{
	const uint64_t *v = (const void *)((const char *)values + a->at);

	text_printf(out, "%llu\n", (unsigned long long)*v);
}

void attr_show_s64(const struct attr *a, const void *values, struct text *out)
{
	const int64_t *v = (const void *)((const char *)values + a->at);

	text_printf(out, "%lld\n", (long long)*v);
}

void attr_show_text(const struct attr *a, const void *values, struct text *out)
{
	text_printf(out, "%s\n", (const char *)values + a->at);
}

static void show_number(const struct attr *a, int i, const void *values, struct text *out)
{
	const uint64_t *v = (const void *)((const char *)values + a->at);

	text_printf(out, "%llu\n", (unsigned long long)v[i]);
}

static void show_help(const struct target *t, struct text *out)
{
	const char *whom = t->attr->all            ? "" :
			   t->member->group->owned ? " [for its user and operators]" :
						     " [for operators]";

	if (t->attr->names)
		text_printf(out, "%s: %s%s\n", t->attr->help, t->attr->names[t->number], whom);
	else
		text_printf(out, "%s%s\n", t->attr->help, whom);
}

static const struct attr_action *find_action(const struct attr_group *g, const char *name)
{
	for (size_t i = 0; i < g->nr_actions; i++)
		if (!strcmp(g->actions[i].name, name))
			return &g->actions[i];
	return NULL;
}

/* help/GROUP/ACTION; NULL: the path is no such. */
static const struct attr_action *find_help(const struct attr_tree *tree, const char *path)
{
	for (const struct attr_member *m = tree->members; m < end_of(tree); m++) {
		size_t len = strlen(m->group->name);

		if (!strncmp(path, "help/", 5) && !strncmp(path + 5, m->group->name, len) &&
		    path[5 + len] == '/' && find_action(m->group, path + 6 + len))
			return find_action(m->group, path + 6 + len);
	}
	return NULL;
}

int attr_get(const struct attr_tree *tree, const struct attr_viewer *viewer, const char *path,
	     struct text *out)
{
	const struct attr_action *a = find_help(tree, path);
	union values v;
	struct target t;
	int err = resolve(tree, path, &t);

	if (a) {
		text_printf(out, "%s [for its user and operators]\n", a->help);
		return out->failed ? -ENOMEM : 0;
	}
	if (!err)
		err = gather(&t, viewer, &v);
	if (err)
		return err;
	if (is_dir(&t))
		return -EISDIR;
	if (t.help)
		show_help(&t, out);
	else if (t.attr->names)
		show_number(t.attr, t.number, &v, out);
	else
		t.attr->show(t.attr, &v, out);
	return out->failed ? -ENOMEM : 0;
}

/* ---- set ---- */

int attr_set(const struct attr_tree *tree, const char *path, const char *value)
{
	static const struct attr_viewer sees_all = { .is_operator = true };
	union values v;
	struct target t;
	int err = resolve(tree, path, &t);

	if (!err)
		err = gather(&t, &sees_all, &v);
	if (err)
		return err;
	if (is_dir(&t))
		return -EISDIR;
	if (t.help || !t.attr->store)
		return -EACCES;
	return t.attr->store(t.member->owner, t.subject, t.attr, value);
}

const char *attr_refused(const struct attr_tree *tree, const char *path, const char *value)
{
	struct target t;

	if (resolve(tree, path, &t) || !t.attr || !t.attr->refused)
		return NULL;
	return t.attr->refused(t.member->owner, t.subject, value);
}

bool attr_is_for_root(const struct attr_tree *tree, const char *path)
{
	struct target t;

	return !resolve(tree, path, &t) && t.attr && t.attr->root;
}

int attr_finish(const struct attr_tree *t, struct text *why)
{
	for (const struct attr_member *m = t->members; m < end_of(t); m++) {
		int ret = m->group->finish ? m->group->finish(m->owner, why) : ATTR_PENDING;

		if (ret <= 0)
			return ret;
	}
	return ATTR_PENDING;
}

/* ---- do ---- */

int attr_do(const struct attr_tree *tree, const struct attr_viewer *viewer, const char *path,
	    const char *args, struct text *out, struct text *why)
{
	const char *slash = strrchr(path, '/');
	const struct attr_action *a;
	char dir[PATH_MAX_LEN + 1];
	struct target t;
	int err;

	if (!slash || (size_t)(slash - path) >= sizeof(dir))
		return -ENOENT;
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	err = resolve(tree, dir, &t);
	if (err)
		return err;
	if (t.help || t.attr || !t.has_subject || !owns(t.first, t.subject, viewer))
		return -ENOENT;
	a = find_action(t.first->group, slash + 1);
	if (!a)
		return -ENOENT;
	err = a->call(t.first->owner, t.subject, viewer, args, out, why);
	return !err && out->failed ? -ENOMEM : err;
}

/* ---- ls ---- */

static void list_dir(struct attr_list *l, const char *name)
{
	if (l->modes)
		text_printf(l->out, "%04o ", MODE_DIR);
	text_printf(l->out, "%s/\n", name);
}

static void list_file(struct attr_list *l, bool settable, const char *name)
{
	if (l->modes)
		text_printf(l->out, "%04o ", settable ? MODE_SET : MODE_READ);
	text_printf(l->out, "%s\n", name);
}

void attr_list_subject(struct attr_list *l, uint64_t subject)
{
	char name[24];

	if (!may_know(l->member, subject, l->viewer))
		return;
	snprintf(name, sizeof(name), "%llu", (unsigned long long)subject);
	list_dir(l, name);
}

static void list_root(const struct attr_tree *t, bool help, struct attr_list *l)
{
	for (const struct attr_member *m = t->members; m < end_of(t); m = next_group(t, m))
		if (!strchr(m->group->name, '/'))
			list_dir(l, m->group->name);
	if (!help)
		list_dir(l, "help");
}

static void list_nested(const struct attr_tree *tree, const struct target *t, struct attr_list *l)
{
	size_t len = strlen(t->first->group->name);

	for (const struct attr_member *m = t->end; m < end_of(tree); m = next_group(tree, m)) {
		const char *name = m->group->name;

		if (!strncmp(name, t->first->group->name, len) && name[len] == '/' &&
		    (t->help || may_know(m, t->subject, l->viewer)))
			list_dir(l, name + len + 1);
	}
}

static void list_attrs(const struct attr_tree *tree, const struct target *t, struct attr_list *l)
{
	for (const struct attr_member *m = t->first; m < t->end; m++)
		for (size_t i = 0; i < m->group->nr_attrs; i++) {
			const struct attr *a = &m->group->attrs[i];

			if (!t->help && !may_read(m, a, t->subject, l->viewer))
				continue;
			if (a->names)
				list_dir(l, a->name);
			else
				list_file(l, a->store && !t->help, a->name);
		}
	list_nested(tree, t, l);
}

int attr_ls(const struct attr_tree *tree, const struct attr_viewer *viewer, const char *path,
	    bool modes, struct text *out)
{
	struct attr_list l = { .out = out, .modes = modes, .viewer = viewer };
	union values v;
	struct target t;
	int err = resolve(tree, path, &t);

	if (!err)
		err = gather(&t, viewer, &v);
	if (err)
		return err;
	if (!is_dir(&t))
		return -ENOTDIR;
	l.member = t.first;
	if (!t.first)
		list_root(tree, t.help, &l);
	else if (t.attr)
		for (size_t i = 0; i < t.attr->nr_names; i++)
			list_file(&l, false, t.attr->names[i]);
	else if (has_subjects(&t) && !t.help && !t.has_subject)
		t.first->group->list(t.first->owner, &l);
	else
		list_attrs(tree, &t, &l);
	return out->failed ? -ENOMEM : 0;
}

/* ---- dump ---- */

static void dump_attr(const struct attr *a, const void *values, struct text *out)
{
	for (size_t i = 0; i < a->nr_names; i++) {
		text_printf(out, "%s/%s ", a->name, a->names[i]);
		show_number(a, (int)i, values, out);
	}
	if (a->names)
		return;
	text_printf(out, "%s ", a->name);
	a->show(a, values, out);
}

/* What the viewer may read of one group; nothing is gathered when that is nothing. */
static int dump_member(const struct attr_member *m, const struct target *t,
		       const struct attr_viewer *viewer, struct text *out)
{
	bool gathered = false;
	union values v;

	for (size_t i = 0; i < m->group->nr_attrs; i++) {
		const struct attr *a = &m->group->attrs[i];
		struct target one = *t;
		int err;

		if (!may_read(m, a, t->subject, viewer))
			continue;
		one.member = m;
		one.attr = a;
		err = gathered ? 0 : gather(&one, viewer, &v);
		if (err)
			return err;
		gathered = true;
		dump_attr(a, &v, out);
	}
	return 0;
}

int attr_dump(const struct attr_tree *tree, const struct attr_viewer *viewer, const char *path,
	      struct text *out)
{
	union values v;
	struct target t;
	int err = resolve(tree, path, &t);

	if (err)
		return err;
	if (!is_dir(&t) || t.attr)
		return -ENOTDIR;
	if (!t.first)
		return -EISDIR;
	if (has_subjects(&t) && !t.help && !t.has_subject) {
		err = gather(&t, viewer, &v);
		return err ? err : -EISDIR;
	}
	if (t.has_subject && !may_know(t.first, t.subject, viewer))
		return -ENOENT;
	for (const struct attr_member *m = t.first; m < t.end && !err; m++)
		if (!t.help)
			err = dump_member(m, &t, viewer, out);
		else
			for (size_t i = 0; i < m->group->nr_attrs; i++)
				text_printf(out, "%s %s\n", m->group->attrs[i].name,
					    m->group->attrs[i].help);
	if (err)
		return err;
	return out->failed ? -ENOMEM : 0;
}
