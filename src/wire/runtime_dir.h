/* SPDX-License-Identifier: MIT */
/*
 * runtime_dir.h - where the daemon puts its sockets, and where everybody looks for them.
 *
 * The option --runtime-dir names the directory, else $KSMD_RUNTIME_DIR. Otherwise it is
 * /run/ksmd-user for root and $XDG_RUNTIME_DIR/ksmd-user for other users. A user who finds no
 * daemon there looks for root's, which serves every user. The functions are inline and allocate
 * nothing, because the library calls them in programs that it must not disturb.
 */
#ifndef KSM_RUNTIME_DIR_H
#define KSM_RUNTIME_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define KSM_DIR_NAME "ksmd-user"
#define KSM_ROOT_DIR "/run/" KSM_DIR_NAME
/* The environment variable that names the directory. */
#define KSM_DIR_VAR "KSMD_RUNTIME_DIR"

/*
 * Write the path of `name` in the runtime directory to buf, or the directory's own when name is
 * NULL. dir: what --runtime-dir says, or NULL. Returns 0, or -1 when no variable says where the
 * directory is ($XDG_RUNTIME_DIR is not set), or the path and its NUL need more than size bytes.
 * A program that changed its user or capabilities at exec has no environment (secure_getenv(3)).
 */
static inline int ksm_runtime_path(char *buf, size_t size, const char *dir, const char *name)
{
	const char *base = dir ? dir : secure_getenv(KSM_DIR_VAR);
	const char *sub = "";
	int n;

	if (!base || !*base) {
		if (geteuid() == 0) {
			base = KSM_ROOT_DIR;
		} else {
			base = secure_getenv("XDG_RUNTIME_DIR");
			sub = "/" KSM_DIR_NAME;
			if (!base || !*base)
				return -1;
		}
	}
	n = snprintf(buf, size, "%s%s%s%s", base, sub, name ? "/" : "", name ? name : "");
	return n < 0 || (size_t)n >= size ? -1 : 0;
}

/*
 * Is there a second place to look for the daemon, KSM_ROOT_DIR? Only for users other than root, and
 * only where nobody has named a directory.
 */
static inline bool ksm_runtime_or_root(const char *dir)
{
	const char *named = dir ? dir : secure_getenv(KSM_DIR_VAR);

	return (!named || !*named) && geteuid() != 0;
}

#endif
