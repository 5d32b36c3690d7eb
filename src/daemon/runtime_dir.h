/* SPDX-License-Identifier: MIT */
/* runtime_dir.h - the runtime directory: its lock and its sockets. */
#ifndef KSMD_RUNTIME_DIR_H
#define KSMD_RUNTIME_DIR_H

#include <stdbool.h>

struct runtime_dir {
	char dir[108];       /* a socket's path must fit into 108 bytes anyway */
	int lock;            /* DIR/lock, locked as long as we run; holds our pid */
	int client, control; /* listening sockets; -1 once somebody else owns them */
	bool passed;         /* the service manager made the sockets, and keeps their names */
	_Atomic bool closed; /* runtime_dir_close() has begun */
};

/*
 * Makes the directory if need be, locks it, and listens, unless the service manager passed sockets
 * that listen already (-1: it did not). dir: --runtime-dir, or NULL for the default. Takes over a
 * directory that a dead daemon left. Returns 0, or -1 after one line on stderr.
 */
int runtime_dir_open(struct runtime_dir *p, const char *dir, int client, int control);
/* Removes the sockets that were not passed, and gives up the lock. Once: a second call is none. */
void runtime_dir_close(struct runtime_dir *p);

#endif
