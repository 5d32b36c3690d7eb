/* SPDX-License-Identifier: MIT */
/* confine.h - the daemon gives up what it does not need once it is set up. */
#ifndef KSMD_CONFINE_H
#define KSMD_CONFINE_H

/*
 * Drops every capability except CAP_SYS_NICE (where the process has it), forbids new privileges
 * and allows only the system calls that a serving daemon makes. Call it after everything that
 * needs more is open and before the process has threads. What the kernel refuses costs hardness,
 * not function: the first refusal is returned as a negative errno, with its name in *what, and the
 * rest is done all the same. Returns 0 when all of it is in force.
 */
int confine(const char **what);

/*
 * The same for the helper that sees namespaces (witness.h): it keeps CAP_SYS_PTRACE, one socket,
 * and the calls that take a question from it and give an answer. Returns 0, or the first -errno of
 * what must not fail: the helper is then better not there.
 */
int confine_witness(int sock);
/* The same for the helper that sees where pages lie (surveyor.h), which may move none. */
int confine_surveyor(int sock);

#endif
