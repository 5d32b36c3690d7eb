/* SPDX-License-Identifier: MIT */
/* watch.h - run a program, and say at its end what merging its memory would have saved. */
#ifndef KSM_TOOLS_WATCH_H
#define KSM_TOOLS_WATCH_H

/*
 * Run argv and say on standard error what merging would save: when it ends, and whenever this
 * process gets SIGUSR1. Its descendants that live at that moment are counted in. Returns the
 * program's exit code, 126 or 127 where it cannot be run, as env(1) does; ends by the signal that
 * ended the program.
 */
int watch_run(char *const argv[]);

#endif
