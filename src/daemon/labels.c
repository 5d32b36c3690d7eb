/* SPDX-License-Identifier: MIT */
/* labels.c - see labels.h. */
#include "daemon/labels.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/peer.h"
#include "wire/trust.h"

#define BLANK " \t\r"
#define ENTRY_MAX 4096 /* of /etc/passwd and /etc/group; longer ones are passed over */

/* ---- one line ---- */

static bool user_named(const char *name, uid_t *uid)
{
	struct passwd entry, *found = NULL;
	char buf[ENTRY_MAX];
	bool known = false;
	FILE *f = fopen("/etc/passwd", "re");
	int err;

	while (f && !known &&
	       (!(err = fgetpwent_r(f, &entry, buf, sizeof(buf), &found)) || err == ERANGE)) {
		if (err || strcmp(entry.pw_name, name))
			continue;
		*uid = entry.pw_uid;
		known = true;
	}
	if (f)
		fclose(f);
	return known;
}

static bool group_named(const char *name, gid_t *gid)
{
	struct group entry, *found = NULL;
	char buf[ENTRY_MAX];
	bool known = false;
	FILE *f = fopen("/etc/group", "re");
	int err;

	while (f && !known &&
	       (!(err = fgetgrent_r(f, &entry, buf, sizeof(buf), &found)) || err == ERANGE)) {
		if (err || strcmp(entry.gr_name, name))
			continue;
		*gid = entry.gr_gid;
		known = true;
	}
	if (f)
		fclose(f);
	return known;
}

static const char *parse_user(struct label_rule *r, const char *s)
{
	if (r->any_user || r->has_uid)
		return "two users";
	if (!strcmp(s, "*")) {
		r->any_user = true;
		return NULL;
	}
	r->has_uid = true;
	if (!peer_id_parse(s, &r->uid) && !user_named(s, &r->uid))
		return "no such user";
	return r->uid == OVERFLOW_UID ? "the overflow user is nobody" : NULL;
}

static const char *parse_group(struct label_rule *r, const char *s)
{
	if (r->has_gid)
		return "two groups";
	r->has_gid = true;
	if (!peer_id_parse(s, &r->gid) && !group_named(s, &r->gid))
		return "no such group";
	return r->gid == OVERFLOW_UID ? "the overflow group is nobody" : NULL;
}

static const char *parse_cgroup(struct label_rule *r, const char *s)
{
	size_t len = strlen(s);

	if (r->cgroup)
		return "two cgroups";
	while (len > 1 && s[len - 1] == '/')
		len--;
	if (*s != '/' || len < 2 || len >= IDENTITY_CGROUP_SIZE)
		return "not the path of a cgroup below the root";
	r->cgroup = strndup(s, len);
	return r->cgroup ? NULL : "out of memory";
}

/* NULL, or what is wrong with it. */
static const char *parse_rule(struct label_rule *r, char *line)
{
	char *save, *word = strtok_r(line, BLANK, &save);
	const char *why = NULL;

	if (!ksm_label_valid(word))
		return "not a label";
	strcpy(r->label, word);
	while (!why && (word = strtok_r(NULL, BLANK, &save))) {
		if (!strncmp(word, "user:", 5))
			why = parse_user(r, word + 5);
		else if (!strncmp(word, "group:", 6))
			why = parse_group(r, word + 6);
		else if (!strncmp(word, "cgroup:", 7))
			why = parse_cgroup(r, word + 7);
		else
			why = "not user:, group: or cgroup:";
	}
	if (!why && !r->any_user && !r->has_uid && !r->has_gid && !r->cgroup)
		why = "nobody is named";
	return why;
}

/* ---- the file ---- */

void labels_drop(struct labels *l)
{
	for (unsigned int i = 0; i < l->nr; i++)
		free(l->rule[i].cgroup);
	free(l->rule);
	l->rule = NULL;
	l->nr = 0;
}

static bool add(struct labels *l, const struct label_rule *r)
{
	struct label_rule *more;

	if (l->nr == LABEL_RULES_MAX)
		return false;
	more = realloc(l->rule, (l->nr + 1) * sizeof(*more));
	if (!more)
		return false;
	l->rule = more;
	l->rule[l->nr++] = *r;
	return true;
}

unsigned int labels_parse(struct labels *l, char *text, const char **why)
{
	unsigned int nr = 0, first = 0;
	char *line;

	labels_drop(l);
	while ((line = strsep(&text, "\n"))) {
		struct label_rule r = { 0 };
		const char *wrong;

		nr++;
		line[strcspn(line, "#")] = '\0';
		if (!line[strspn(line, BLANK)])
			continue;
		wrong = parse_rule(&r, line);
		if (!wrong && !add(l, &r))
			wrong = "no room for more";
		if (!wrong)
			continue;
		free(r.cgroup);
		if (!first) {
			first = nr;
			*why = wrong;
		}
	}
	return first;
}

static bool trusted(const struct stat *st)
{
	return S_ISREG(st->st_mode) && trust_uid(st->st_uid) && !(st->st_mode & TRUST_OTHERS_WRITE);
}

static bool unchanged(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mode == b->st_mode && a->st_uid == b->st_uid &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* All of the file, with a NUL, for the caller to free; NULL with errno. */
static char *read_all(int fd, size_t size)
{
	char *text = malloc(size + 1);
	size_t len = 0;
	ssize_t n = 1;

	while (text && len < size && n > 0) {
		n = read(fd, text + len, size - len);
		len += n > 0 ? (size_t)n : 0;
	}
	if (text && n < 0) {
		free(text);
		return NULL;
	}
	if (text)
		text[len] = '\0';
	return text;
}

/* A trusted file that is new to us. What a NUL hides would be left out in silence. */
static void load(struct labels *l, int fd, const struct stat *st)
{
	char *text = st->st_size <= LABELS_FILE_MAX ? read_all(fd, (size_t)st->st_size) : NULL;
	const char *why = "";
	unsigned int line;

	labels_drop(l);
	if (!text || strlen(text) != (size_t)st->st_size) {
		free(text);
		log_limited(&l->limit, LOG_WARNING,
			    "%s allows nothing: it cannot be read, holds a NUL, or has more than "
			    "%u bytes",
			    l->path, LABELS_FILE_MAX);
		return;
	}
	line = labels_parse(l, text, &why);
	free(text);
	l->stamp = *st;
	if (line)
		log_limited(&l->limit, LOG_WARNING, "%s:%u allows nothing: %s", l->path, line, why);
}

/* The rules are those of the file as it is now. */
static void refresh(struct labels *l)
{
	int fd = -1;
	struct stat st;

	if (trust_dir(l->path))
		fd = open(l->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) || !trusted(&st)) {
		if (fd >= 0 || errno != ENOENT)
			log_limited(&l->limit, LOG_WARNING,
				    "%s allows nothing: it or its directory is not there, belongs "
				    "to another user than root and ours, or others can write it",
				    l->path);
		labels_drop(l);
		memset(&l->stamp, 0, sizeof(l->stamp));
	} else if (!unchanged(&st, &l->stamp)) {
		load(l, fd, &st);
	}
	if (fd >= 0)
		close(fd);
}

/* ---- a process ---- */

/*
 * A star that another follows within one name is right to take the least. No star crosses a '/', so
 * those of earlier names have matched these whole, and have no choice left. The time is at most the
 * product of both lengths.
 */
bool labels_cgroup_matches(const char *pattern, const char *path)
{
	const char *star = NULL, *again = NULL;

	for (;;) {
		if (*pattern == '*') {
			star = ++pattern;
			again = path;
		} else if (!*pattern && (!*path || *path == '/')) {
			return true;
		} else if (*path && *pattern == *path) {
			pattern++;
			path++;
		} else if (star && *again && *again != '/') {
			pattern = star;
			path = ++again;
		} else {
			return false;
		}
	}
}

struct asked {
	const struct identity *id;
	int sock;
	bool looked; /* for the cgroup */
	char cgroup[IDENTITY_CGROUP_SIZE];
};

static bool in_cgroup(struct asked *a, const char *pattern)
{
	if (!a->looked && identity_cgroup(a->id, a->cgroup))
		a->cgroup[0] = '\0'; /* it matches no pattern */
	a->looked = true;
	return labels_cgroup_matches(pattern, a->cgroup);
}

static bool holds(const struct label_rule *r, struct asked *a)
{
	if (!r->cgroup && (a->id->known != NS_OWN || !identity_is_somebody(a->id)))
		return false;
	return (!r->has_uid || r->uid == a->id->cred.uid) &&
	       (!r->has_gid || peer_in_group(a->sock, &a->id->cred, r->gid)) &&
	       (!r->cgroup || in_cgroup(a, r->cgroup));
}

bool labels_allow(struct labels *l, const char *label, const struct identity *id, int sock)
{
	struct asked a = { .id = id, .sock = sock };

	if (l->path)
		refresh(l);
	for (unsigned int i = 0; i < l->nr; i++)
		if (!strcmp(l->rule[i].label, label) && holds(&l->rule[i], &a))
			return true;
	return false;
}
