/* SPDX-License-Identifier: MIT */
/*
 * fuzz_labels.c - any text as the operator's file of named domains.
 *
 * An input is the text of the file; behind a NUL may follow the path of a cgroup.
 *
 * Oracles. The rules are those that a plain reading of labels.h gives, and so is the number of the
 * first line that makes no sense. Parsing again gives the same. A pattern matches the path exactly
 * if a table of all prefixes says so. A process is let in only where a rule of the reading says so,
 * and never from other namespaces or as nobody.
 *
 * Seen to fail with each of these in labels.c: two users in a line, UINT32_MAX or the overflow user
 * as one, a carriage return as part of a word, a star that crosses a slash, a pattern that is not
 * the path of a cgroup above, rules that hold in other namespaces.
 */
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/labels.h"
#include "os.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MAX_TEXT 4096
#define MAX_NAMES 256

/* Part of the text. */
struct part {
	const char *at;
	size_t len;
};

struct known_name {
	char name[64];
	uint32_t id;
};
static struct known_name users[MAX_NAMES], groups[MAX_NAMES];
static unsigned int nr_users, nr_groups;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	FILE *f = fopen("/etc/passwd", "re");
	const struct passwd *pw;
	const struct group *gr;

	(void)argc;
	(void)argv;
	while (f && nr_users < MAX_NAMES && (pw = fgetpwent(f))) {
		snprintf(users[nr_users].name, sizeof(users->name), "%s", pw->pw_name);
		users[nr_users++].id = pw->pw_uid;
	}
	if (f)
		fclose(f);
	f = fopen("/etc/group", "re");
	while (f && nr_groups < MAX_NAMES && (gr = fgetgrent(f))) {
		snprintf(groups[nr_groups].name, sizeof(groups->name), "%s", gr->gr_name);
		groups[nr_groups++].id = gr->gr_gid;
	}
	if (f)
		fclose(f);
	return 0;
}

/* ---- a plain reading of labels.h ---- */

static struct part next_word(struct part *line)
{
	struct part w;

	while (line->len && memchr(" \t\r", *line->at, 3)) {
		line->at++;
		line->len--;
	}
	w = (struct part){ line->at, 0 };
	while (w.len < line->len && !memchr(" \t\r", w.at[w.len], 3))
		w.len++;
	line->at += w.len;
	line->len -= w.len;
	return w;
}

static bool is(struct part w, const char *text)
{
	return w.len == strlen(text) && !memcmp(w.at, text, w.len);
}

/* Takes "prefix" off the front, if it is there. */
static bool begins(struct part *w, const char *prefix)
{
	size_t len = strlen(prefix);

	if (w->len < len || memcmp(w->at, prefix, len))
		return false;
	w->at += len;
	w->len -= len;
	return true;
}

static bool number(struct part w, uint32_t *id)
{
	uint64_t v = 0;

	for (size_t i = 0; i < w.len; i++) {
		if (w.at[i] < '0' || w.at[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(w.at[i] - '0');
		if (v >= UINT32_MAX) /* (uid_t)-1 means nobody at all */
			return false;
	}
	*id = (uint32_t)v;
	return w.len;
}

/* A number, or the name of somebody; not the overflow user or group. */
static bool identify(struct part w, const struct known_name *names, unsigned int nr, uint32_t *id)
{
	bool found = number(w, id);

	for (unsigned int i = 0; i < nr && !found; i++) {
		found = is(w, names[i].name);
		*id = names[i].id;
	}
	return found && *id != OVERFLOW_UID;
}

static bool label(struct part w, char to[KSM_LABEL_SIZE])
{
	static const char first[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
				    "._-";

	if (w.len < 1 || w.len > 31 || memchr("._-", *w.at, 3))
		return false;
	for (size_t i = 0; i < w.len; i++)
		if (!memchr(first, w.at[i], sizeof(first) - 1))
			return false;
	snprintf(to, KSM_LABEL_SIZE, "%.*s", (int)w.len, w.at);
	return true;
}

static bool condition(struct label_rule *r, struct part w)
{
	if (begins(&w, "user:")) {
		if (r->any_user || r->has_uid)
			return false;
		r->any_user = is(w, "*");
		r->has_uid = !r->any_user;
		return r->any_user || identify(w, users, nr_users, &r->uid);
	}
	if (begins(&w, "group:")) {
		if (r->has_gid)
			return false;
		r->has_gid = true;
		return identify(w, groups, nr_groups, &r->gid);
	}
	if (!begins(&w, "cgroup:") || r->cgroup || !w.len || *w.at != '/')
		return false;
	while (w.len && w.at[w.len - 1] == '/')
		w.len--;
	if (!w.len || w.len >= IDENTITY_CGROUP_SIZE)
		return false;
	r->cgroup = strndup(w.at, w.len);
	return true;
}

enum meaning { NOTHING, RULE, NONSENSE };

/* r->cgroup is the caller's. */
static enum meaning read_line(struct part line, struct label_rule *r)
{
	const char *hash = memchr(line.at, '#', line.len);
	struct part w;
	unsigned int nr = 0;

	memset(r, 0, sizeof(*r));
	if (hash)
		line.len = (size_t)(hash - line.at);
	w = next_word(&line);
	if (!w.len)
		return NOTHING;
	if (!label(w, r->label))
		return NONSENSE;
	for (w = next_word(&line); w.len; w = next_word(&line), nr++)
		if (!condition(r, w))
			return NONSENSE;
	return nr ? RULE : NONSENSE;
}

static void must_be_equal(const struct label_rule *r, const struct label_rule *want)
{
	os_must(!strcmp(r->label, want->label), "label %s, not %s", r->label, want->label);
	os_must(r->any_user == want->any_user && r->has_uid == want->has_uid &&
		r->has_gid == want->has_gid);
	os_must(!r->has_uid || r->uid == want->uid, "user %u, not %u", r->uid, want->uid);
	os_must(!r->has_gid || r->gid == want->gid, "group %u, not %u", r->gid, want->gid);
	os_must(!r->cgroup == !want->cgroup);
	os_must(!r->cgroup || !strcmp(r->cgroup, want->cgroup), "cgroup %s", r->cgroup);
}

static void must_mean(const struct labels *l, unsigned int wrong, const char *text)
{
	unsigned int nr = 0, line = 0, first = 0;
	const char *end;

	for (const char *at = text;; at = end + 1) {
		struct label_rule want;
		enum meaning m;

		end = at + strcspn(at, "\n");
		line++;
		m = read_line((struct part){ at, (size_t)(end - at) }, &want);
		if (m == RULE) {
			os_must(nr < l->nr, "line %u is a rule", line);
			must_be_equal(&l->rule[nr++], &want);
		}
		if (m == NONSENSE && !first)
			first = line;
		free(want.cgroup);
		if (!*end)
			break;
	}
	os_must(nr == l->nr, "%u rules, not %u", l->nr, nr);
	os_must(first == wrong, "line %u, not %u", wrong, first);
}

/* ---- patterns ---- */

/* Every prefix of the pattern against every prefix of the path. */
static bool matches(const char *pattern, const char *path)
{
	static bool row[2][MAX_TEXT + 1];
	size_t len = strlen(path);
	bool *now = row[0], *before = row[1], *swap;

	memset(now, 0, len + 1);
	now[0] = true;
	for (; *pattern; pattern++) {
		swap = before;
		before = now;
		now = swap;
		now[0] = *pattern == '*' && before[0];
		for (size_t i = 1; i <= len; i++)
			now[i] = *pattern == '*' ? before[i] || (now[i - 1] && path[i - 1] != '/') :
						   before[i - 1] && path[i - 1] == *pattern;
	}
	for (size_t i = 0; i <= len; i++)
		if (now[i] && (!path[i] || path[i] == '/'))
			return true;
	return false;
}

/* ---- who is let in ---- */

static bool lets_in(struct labels *l, const char *name, uid_t uid, enum ns_known known)
{
	const struct ucred cred = { .pid = 1, .uid = uid, .gid = 1 };
	struct identity id = identity_unknown(&cred);

	id.known = known;
	return labels_allow(l, name, &id, -1);
}

/* Rules that ask for users alone; for the others a process is needed. */
static void must_let_in(struct labels *l)
{
	for (unsigned int i = 0; i < l->nr; i++)
		if (l->rule[i].has_gid || l->rule[i].cgroup)
			return;
	for (unsigned int i = 0; i < l->nr; i++) {
		const struct label_rule *r = &l->rule[i];
		uid_t uid = r->has_uid ? r->uid : 7, other = uid + 1;
		bool others = false;

		for (unsigned int j = 0; j < l->nr; j++)
			others |= !strcmp(l->rule[j].label, r->label) &&
				  (l->rule[j].any_user || l->rule[j].uid == other);
		os_must(lets_in(l, r->label, uid, NS_OWN));
		os_must(lets_in(l, r->label, other, NS_OWN) == (others && other != OVERFLOW_UID));
		os_must(!lets_in(l, r->label, OVERFLOW_UID, NS_OWN));
		os_must(!lets_in(l, r->label, uid, NS_OTHER));
		os_must(!lets_in(l, r->label, uid, NS_UNSEEN));
	}
}

static unsigned int parse(struct labels *l, const char *text)
{
	char copy[MAX_TEXT];
	const char *why = NULL;
	unsigned int wrong;

	strcpy(copy, text);
	wrong = labels_parse(l, copy, &why);
	os_must(!wrong == !why);
	return wrong;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct labels l = { 0 };
	char text[MAX_TEXT] = { 0 }, path[MAX_TEXT] = { 0 };
	size_t len;

	if (size >= MAX_TEXT)
		return -1;
	memcpy(text, data, size);
	len = strlen(text);
	if (len < size)
		strncpy(path, (const char *)data + len + 1, size - len - 1);
	os_reset();
	must_mean(&l, parse(&l, text), text);
	must_mean(&l, parse(&l, text), text); /* in the place of the rules that are there */
	for (unsigned int i = 0; i < l.nr; i++)
		if (l.rule[i].cgroup)
			os_must(labels_cgroup_matches(l.rule[i].cgroup, path) ==
					matches(l.rule[i].cgroup, path),
				"%s and %s", l.rule[i].cgroup, path);
	must_let_in(&l);
	labels_drop(&l);
	return 0;
}
