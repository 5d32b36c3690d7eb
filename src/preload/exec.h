/* SPDX-License-Identifier: MIT */
/* exec.h - the calls of exec.c in the kernel's convention, for syscall(2) and the start. */
#ifndef KSM_PRELOAD_EXEC_H
#define KSM_PRELOAD_EXEC_H

#include <stdbool.h>

/* Return -errno or not at all. */
long proc_execve(const char *path, char *const argv[], char *const envp[]);
long proc_execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags);
/* Note in the program's environment whether PR_SET_MEMORY_MERGE is in force, for system(3). */
void exec_note_merge_any(bool on);
/* Looks the C library's functions up before somebody needs them where that is not allowed. */
void exec_resolve(void);

#endif
