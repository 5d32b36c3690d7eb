/* SPDX-License-Identifier: MIT */
/*
 * tree.h - which files the view has, and what stands behind each.
 *
 *	/kernel/mm/ksm/NAME          the names that the kernel has in /sys, and no other
 *	/proc/PID/ksm_stat           one of the daemon's clients, in the kernel's format
 *	/proc/PID/ksm_merging_pages
 *	/proc/self                   the process that asks; all zeros when it is no client, as the
 *	                             kernel says of a process that it has not merged
 *	/ksmd/...                    all attributes, as `ksmdctl ls` shows them
 *
 * A bind mount of /kernel/mm/ksm over the kernel's directory serves every tool that reads it,
 * because the directory has the kernel's names alone. Each look at a path that is not fixed asks
 * the daemon, which answers as the caller's user may know. Nothing is kept but, for a moment, what
 * a look at the kernel's attributes has shown (snapshot.h).
 */
#ifndef KSMD_FS_TREE_H
#define KSMD_FS_TREE_H

#include <sys/types.h>

#include "tools/ksmd-fs/call.h"
#include "tools/ksmd-fs/snapshot.h"

#define TREE_PATH_MAX 512 /* bytes of a control path; the longest has 60 */

#define TREE_VALUE_MAX 4096u /* the size of a page, which is sysfs's limit */

enum tree_kind {
	TREE_DIR,     /* of fixed names: `names` */
	TREE_CLIENTS, /* /proc */
	TREE_ATTRS,   /* a directory of the daemon's: `path` */
	TREE_ATTR,    /* an attribute: `path` */
	TREE_KERNEL,  /* one of the kernel's: `path`, `file` */
	TREE_STAT,    /* `path` is the client's directory */
	TREE_SELF,
};

struct tree_node {
	enum tree_kind kind;
	mode_t mode;       /* with its type */
	unsigned int file; /* its number among the kernel's */
	bool own; /* of the process that asks, whether it is a client or not; see tree_read() */
	char path[TREE_PATH_MAX];
	const char *const *names; /* of a TREE_DIR, the last is NULL */
};

/* Who asks, and where the daemon is. */
struct tree_view {
	struct call_pool *pool;
	struct snapshot *snapshot;
	const char *socket;
	struct caller who;
	/*
	 * Its supplementary groups, as getgroups(2); NULL: they do not matter, as those of root.
	 * They are asked for only when the daemon is: the kernel shows them in a file of /proc, and
	 * reading that costs as much as all the rest of a look at a fixed path.
	 */
	int (*groups)(int size, gid_t *list);
	pid_t (*process)(void); /* its process, which costs as much */
};

/*
 * What stands at `path`, which begins with '/'. Asks the daemon where the tree is not fixed.
 * Returns 0, -ENOENT, -ENAMETOOLONG, or what call_say() returns.
 */
int tree_find(const struct tree_view *v, const char *path, struct tree_node *n);

/*
 * Append the names of a directory to `out`, one a line, those of directories with '/' behind them.
 * Returns as tree_find() does.
 */
int tree_list(const struct tree_view *v, const struct tree_node *n, struct text *out);

/*
 * Append what a file holds at present. A process's own file that a child has inherited, open, is
 * the child's own. Returns as call_say() does.
 */
int tree_read(const struct tree_view *v, const struct tree_node *n, struct text *out);

/*
 * Store a value of `len` bytes, one newline at its end allowed. As in sysfs a NUL ends it, and
 * TREE_VALUE_MAX bytes are all that is looked at. Returns the number of bytes that were, or the
 * daemon's refusal.
 */
ssize_t tree_write(const struct tree_view *v, const struct tree_node *n, const char *value,
		   size_t len);

#endif
