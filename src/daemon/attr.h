/* SPDX-License-Identifier: MIT */
/*
 * attr.h - the tree of knobs and counters behind the control socket: a registry.
 *
 * The tree knows no other part of the daemon. Whoever owns a knob or a counter registers a group
 * of attributes; groups of the same name make up one directory. A path is
 *
 *	GROUP/ATTRIBUTE            ksm/run
 *	GROUP/SUBJECT/ATTRIBUTE    client/4711/uid: the group has many subjects, each with a number
 *	.../ATTRIBUTE/NAME         ksm/left_out/pinned: the attribute is a directory of numbers
 *	help/GROUP/ATTRIBUTE       what the attribute means, for any subject
 *	GROUP/SUBJECT/ACTION       something to do; ls does not show it, help/GROUP/ACTION does
 *	GROUP/SUBJECT/NAME/SUBJECT domain/1/zone/0: a group called "GROUP/NAME" stands in each
 *	                           subject of GROUP, and has subjects there; help/GROUP/NAME
 *
 * A mode says what can be done: 0444 to read, 0644 to set as well, 0555 to list (a directory).
 *
 * Whoever asks is a viewer. An operator sees everything. Others see their own subjects, and of the
 * rest only what is marked `all`. A subject that is not theirs does not exist for them, so nobody
 * learns whether a process of another user is here. An attribute without a mark is for operators:
 * whoever adds one and forgets the question discloses nothing.
 *
 * Components are separated by '/'; none is empty, and one '/' at the end is allowed. Values end
 * with a newline, as those of sysfs do. A tree belongs to one thread, which calls every function
 * below.
 */
#ifndef KSMD_ATTR_H
#define KSMD_ATTR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"

#define ATTR_GROUPS_MAX 20u   /* the daemon registers sixteen */
#define ATTR_VALUES_MAX 2048u /* bytes; the largest group fills in some 1,000 */

/* A subject in another: two numbers of 32 bits. */
#define ATTR_NESTED(outer, inner) ((uint64_t)(outer) << 32 | (inner))
#define ATTR_OUTER(subject) ((uint32_t)((subject) >> 32))
#define ATTR_INNER(subject) ((uint32_t)(subject))

/* Outcomes of attr_set() and attr_finish() besides 0 and -errno. */
enum attr_outcome {
	ATTR_PENDING = 1, /* stored; attr_finish() says when what follows from it is done */
	ATTR_LATER,       /* what follows from an earlier store is under way: set it again after */
};

/* Who asks. An operator is root, the daemon's user, or a member of --admin-group. */
struct attr_viewer {
	uid_t uid;
	bool is_operator;
};

/*
 * One attribute. `at` is the offset of its value in what gather() filled in, or any number that the
 * attribute's own show and store understand. It can be set if it has a store function. An attribute
 * with `names` is a directory of nr_names numbers (uint64_t) from `at` on; it has no show function.
 * `refused` says what is wrong with a value that store took for -EINVAL; NULL: the help has to do.
 *
 * `all`: everybody may read it. No such value may depend on what is in the memory of a client, on
 * how many pages are alike, or on when one is written. These are for the client's own user and for
 * operators, as sums are, because whoever knows his own part of a sum knows the others'.
 */
struct attr {
	const char *name;
	const char *help;
	size_t at;
	void (*show)(const struct attr *a, const void *values, struct text *out);
	int (*store)(void *owner, uint64_t subject, const struct attr *a, const char *value);
	const char *(*refused)(void *owner, uint64_t subject, const char *value);
	const char *const *names;
	size_t nr_names;
	bool all;
	bool root; /* only root, and the daemon's own user, may set it */
};

struct attr_list; /* the answer to an ls, as far as it has come */

/*
 * Something that can be done with a subject, or asked of it, beyond reading and setting: "do
 * GROUP/SUBJECT/NAME ARGS". Whoever owns the subject may, and operators. call() appends the answer,
 * lines of text; args is "" where there are none. It returns 0, or -errno with the reason in `why`
 * (which may stay empty), and costs no more than a few milliseconds: what takes longer is begun by
 * one call and looked after by others.
 */
struct attr_action {
	const char *name;
	const char *help;
	int (*call)(void *owner, uint64_t subject, const struct attr_viewer *v, const char *args,
		    struct text *out, struct text *why);
};

/*
 * The attributes that one owner shows of each subject. gather() takes one consistent view of a
 * subject (0 where a group has only one) and fills in `size` zeroed bytes; it returns 0 or -ENOENT.
 * list() calls attr_list_subject() for each subject; it is NULL where a group has only one.
 *
 * A group named "OUTER/NAME" is for operators alone: owned() is NULL and open is false. Its
 * subjects are ATTR_NESTED() of two numbers, and list() names the inner ones, which are the same in
 * each outer one. Its directory is where the group OUTER gathers the outer one; its gather() makes
 * sure of both. It can be registered before OUTER or after.
 *
 * owned() says whether a subject is this user's own; it is NULL where subjects belong to nobody.
 * It is asked before gather() and again after, so a subject that changes hands is not shown. It
 * costs about the same whether the subject exists or not, which its answer must not tell either.
 * `open`: that a subject exists is no secret.
 *
 * finish() is asked whenever what a store set off may be done. It returns ATTR_PENDING while there
 * is nothing to say, and the outcome once: 0, or -errno with the reason in `why`.
 */
struct attr_group {
	const char *name;
	const struct attr *attrs;
	size_t nr_attrs;
	size_t size;
	int (*gather)(void *owner, uint64_t subject, void *values);
	void (*list)(void *owner, struct attr_list *list);
	bool (*owned)(void *owner, uint64_t subject, uid_t uid);
	bool open;
	int (*finish)(void *owner, struct text *why);
	const struct attr_action *actions;
	size_t nr_actions;
};

/* Groups are in the order of their names; those of one name in the order of their registration. */
struct attr_tree {
	struct attr_member {
		const struct attr_group *group;
		void *owner;
	} members[ATTR_GROUPS_MAX];
	unsigned int nr;
};

/*
 * Add a group to a tree (zeroed at first). Group and owner outlive the tree. Of several groups with
 * one name, the first says whether there are subjects, and which.
 */
void attr_register(struct attr_tree *t, const struct attr_group *group, void *owner);
/* Add a subject to the answer that list() is making, if the viewer may know of it. */
void attr_list_subject(struct attr_list *list, uint64_t subject);

/*
 * Append the value. Returns 0, -ENOENT, -EISDIR, -EACCES (it is for operators), -ENOMEM. A subject
 * of which the viewer may not know is -ENOENT, as one that is not there.
 */
int attr_get(const struct attr_tree *t, const struct attr_viewer *v, const char *path,
	     struct text *out);
/*
 * The caller has made sure that an operator asks. Returns 0, -ENOENT, -EISDIR, -EACCES (cannot be
 * set), or what the attribute's store returns.
 */
int attr_set(const struct attr_tree *t, const char *path, const char *value);
/* What is wrong with a value for which attr_set() was -EINVAL; NULL: nobody says. */
const char *attr_refused(const struct attr_tree *t, const char *path, const char *value);
/* Is it for root alone to set? False also for a path that there is not. */
bool attr_is_for_root(const struct attr_tree *t, const char *path);
/*
 * Carry out an action. Returns 0, or -errno as call() does, -ENOENT also where there is no such
 * action, or no such subject for this viewer.
 */
int attr_do(const struct attr_tree *t, const struct attr_viewer *v, const char *path,
	    const char *args, struct text *out, struct text *why);
/*
 * Append the names in a directory, one on a line, directories with '/': those that the viewer may
 * read, and below help/ all. `modes` puts the mode before each, as "0644 ". "" is the root. Returns
 * 0, -ENOENT, -ENOTDIR, -EACCES, -ENOMEM.
 */
int attr_ls(const struct attr_tree *t, const struct attr_viewer *v, const char *path, bool modes,
	    struct text *out);
/*
 * Append all that the viewer may read of one directory, "NAME VALUE" a line, of a directory of
 * numbers "NAME/NUMBER VALUE". Each group is gathered once, so it costs as much as a few
 * attr_get(). Below help/: "NAME HELP", of all. Returns as attr_ls(), and -EISDIR for a directory
 * that holds subjects or groups.
 */
int attr_dump(const struct attr_tree *t, const struct attr_viewer *v, const char *path,
	      struct text *out);
/* The first group that has something to say: see attr_group. ATTR_PENDING: none has. */
int attr_finish(const struct attr_tree *t, struct text *why);

/* Show functions for fields: uint64_t, int64_t, and text that ends with NUL. */
void attr_show_u64(const struct attr *a, const void *values, struct text *out);
void attr_show_s64(const struct attr *a, const void *values, struct text *out);
void attr_show_text(const struct attr *a, const void *values, struct text *out);

/*
 * Entries of a table of attributes, each with a name and a help text. ATTR_FIELD shows a field of
 * `type` by the field's own type; any other than the three above does not compile. ATTR_FIELD_ALL
 * is one that everybody may read.
 */
#define ATTR_SHOW(value)                                                                           \
	_Generic((value), uint64_t: attr_show_u64, int64_t: attr_show_s64, char *: attr_show_text)
#define ATTR_FIELD(type, field, shown, what)                                                       \
	{                                                                                          \
		.name = (shown), .help = (what), .at = offsetof(type, field),                      \
		.show = ATTR_SHOW(((type *)0)->field)                                              \
	}
#define ATTR_FIELD_ALL(type, field, shown, what)                                                   \
	{                                                                                          \
		.name = (shown), .help = (what), .at = offsetof(type, field),                      \
		.show = ATTR_SHOW(((type *)0)->field), .all = true                                 \
	}
/* The directory of an array of uint64_t, with a name for each. */
#define ATTR_NUMBERS(type, field, shown, names_of, what)                                           \
	{                                                                                          \
		.name = (shown), .help = (what), .at = offsetof(type, field), .names = (names_of), \
		.nr_names = sizeof(names_of) / sizeof((names_of)[0])                               \
	}
#define ATTR_TABLE(v) .attrs = (v), .nr_attrs = sizeof(v) / sizeof((v)[0])
#define ATTR_ACTIONS(v) .actions = (v), .nr_actions = sizeof(v) / sizeof((v)[0])

#endif
