/* SPDX-License-Identifier: MIT */
/* target.h - can a program that is about to be started have the object preloaded? */
#ifndef KSM_TARGET_H
#define KSM_TARGET_H

#include <stdbool.h>

enum target {
	TARGET_FITS,         /* as far as can be seen */
	TARGET_STATIC,       /* the object has no effect there */
	TARGET_OTHER_CLASS,  /* not a 64-bit program */
	TARGET_OTHER_LOADER, /* of another C library, or another version of it */
	TARGET_SANITIZED,    /* its sanitizer has to be loaded first */
};

/* Judge the file that is open as fd, as an ELF program. It is read, and its offset stays. */
enum target target_of(int fd);
/*
 * May the program get the object? `dir`, `path` and `flags` as in execveat(2). A script is judged
 * by its interpreter. What cannot be looked at may. Context: any, a vfork child included; one
 * descriptor is opened for a moment.
 */
bool target_fits(int dir, const char *path, int flags);
/* The same for a name that execvp(3) looks up. */
bool target_fits_in_path(const char *file);
/* Does a value of LD_PRELOAD name a sanitizer, which would no longer be first? */
bool target_list_is_sanitized(const char *list);

#endif
