/* SPDX-License-Identifier: MIT */
/* ending.h - the end of a process is waited for; if it does not come, what it waits for is said. */
#ifndef KSM_TEST_ENDING_H
#define KSM_TEST_ENDING_H

#include <sys/types.h>

/* Wait for the end of child `pid`. Returns its status, or -1 when it goes on running after ms. */
int ending_wait(pid_t pid, int ms);

/*
 * Have child `pid` end by SIGTERM. Returns its status. If it goes on running after ms, its threads
 * are printed as below, it is killed, and -1 returned.
 */
int ending_term(pid_t pid, int ms);

/* Print on stderr where the threads of a process are: in the kernel, and by their stacks (gdb). */
void ending_print_threads(pid_t pid);

#endif
