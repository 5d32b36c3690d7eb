/* SPDX-License-Identifier: MIT */
/* family.h - which processes came from each other by forks alone. */
#ifndef KSMD_FAMILY_H
#define KSMD_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * The fork family of a process that runs: the same number for all whose contents may be copies of
 * each other's through fork(2). Never 0. `known` tells of an ancestor whose family is known
 * already; it may be NULL. When /proc does not show the process, its family is itself.
 */
uint64_t family_of(pid_t pid, bool (*known)(void *arg, pid_t pid, uint64_t *family), void *arg);

#endif
