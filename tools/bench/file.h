/* SPDX-License-Identifier: MIT */
/* file.h - files in one piece, and where they are. */
#ifndef KSM_BENCH_FILE_H
#define KSM_BENCH_FILE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * Read a file as text into buf, which gets at most size - 1 bytes and a NUL. Returns the number of
 * bytes or a negative errno.
 */
ssize_t file_read(const char *path, char *buf, size_t size);
/* The number behind `name`, which stands in the file. Returns 0 or a negative errno. */
int file_number(const char *path, const char *name, uint64_t *value);
/* The same of /proc/PID/file; says so where it cannot be read. */
int file_of_process(pid_t pid, const char *file, const char *name, uint64_t *value);
/* Write text into a file that exists. Returns 0 or a negative errno. */
int file_write(const char *path, const char *text);

/*
 * Path of a file of the machine: machine/name, or $KSM_BENCH_DIR/name, so that tests need not touch
 * the machine's knobs, lock and saved knobs. Returns path.
 */
const char *file_of_machine(const char *machine, const char *name, char *path, size_t size);
/*
 * Path of a part of the project, a program or a folder: $env, or the first of `names` that exists,
 * seen from this program's folder. Returns 0, or a negative errno, which has been said.
 */
int file_of_project(const char *env, const char *const names[], int nr, char *path, size_t size);

#endif
