/* SPDX-License-Identifier: MIT */
/*
 * labels.h - who may join which named domain: the operator's file.
 *
 * A line is a label and conditions, all of which a process must meet; of several lines of one label
 * one is enough. '#' begins a comment.
 *
 *	build  user:ci
 *	web    group:www-data
 *	web    user:* cgroup:/system.slice/nginx.service
 *	pool   cgroup:/machine.slice/pool-*
 *
 * user:    a number, or a name in /etc/passwd; '*' is any user
 * group:   likewise in /etc/group; the groups with which the process connected
 * cgroup:  the path of its cgroup (version 2) or of one above; '*' is any text without '/'
 *
 * A line without cgroup: holds for processes in the daemon's own user and pid namespaces only,
 * because user numbers mean something else in others. It never holds for the overflow user.
 *
 * No directory service is asked for names, because that may take for ever on a thread that serves
 * everybody.
 */
#ifndef KSMD_LABELS_H
#define KSMD_LABELS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/log.h"
#include "daemon/identity.h"
#include "wire/label.h"

#define LABELS_FILE "/etc/ksmd-user/domains"
#define LABELS_FILE_MAX 65536u
#define LABEL_RULES_MAX 1024u

struct label_rule {
	char label[KSM_LABEL_SIZE];
	bool any_user, has_uid, has_gid;
	uid_t uid;
	gid_t gid;
	char *cgroup; /* pattern, owned; NULL: no condition */
};

/* Zeros: no rules and no file. The client thread alone uses it. */
struct labels {
	const char *path;  /* absolute; NULL: the rules stay as they are */
	struct stat stamp; /* of the file that the rules are from; zeros: there is none */
	struct label_rule *rule;
	unsigned int nr;
	struct log_limit limit;
};

/*
 * Replace the rules by those of a text of LABELS_FILE_MAX bytes at most. A line that makes no sense
 * allows nothing; the number of the first such line is returned, and a reason for it, or 0.
 */
unsigned int labels_parse(struct labels *l, char *text, const char **why);
void labels_drop(struct labels *l);

/*
 * May the peer of `sock` join this domain? The file is read again when it has changed. One that
 * others than its owner could write, or whose owner is neither root nor the daemon's user, allows
 * nothing; nor does one that is not there.
 */
bool labels_allow(struct labels *l, const char *label, const struct identity *id, int sock);
/* Does the pattern match the path, or the path of a cgroup above? */
bool labels_cgroup_matches(const char *pattern, const char *path);

#endif
