/* SPDX-License-Identifier: MIT */
/*
 * runtime_dir.h - where the daemon and its sockets are.
 *
 * --runtime-dir, else $KSMD_RUNTIME_DIR, else /run/ksmd-user for root, else
 * $XDG_RUNTIME_DIR/ksmd-user. Header-only and free of allocation, since the library calls it in
 * programs that it must not disturb.
 */
#ifndef KSM_RUNTIME_DIR_H
#define KSM_RUNTIME_DIR_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Write the path of `name` in the runtime directory (of the directory itself when name is NULL).
 * Returns 0, or -1 when there is no such place (no $XDG_RUNTIME_DIR) or it does not fit.
 */
static inline int ksm_runtime_path(char *buf, size_t size, const char *dir, const char *name)
{
	const char *base = dir ? dir : secure_getenv("KSMD_RUNTIME_DIR");
	const char *sub = "";
	int n;

	if (!base || !*base) {
		if (geteuid() == 0) {
			base = "/run/ksmd-user";
		} else {
			base = secure_getenv("XDG_RUNTIME_DIR");
			sub = "/ksmd-user";
			if (!base || !*base)
				return -1;
		}
	}
	n = snprintf(buf, size, "%s%s%s%s", base, sub, name ? "/" : "", name ? name : "");
	return n < 0 || (size_t)n >= size ? -1 : 0;
}

#endif
