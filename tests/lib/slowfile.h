/* SPDX-License-Identifier: MIT */
/*
 * slowfile.h - a file whose reads take as long as a test wants.
 *
 * The file is the root of a FUSE mount in a mount namespace of its own; a process of its own serves
 * it. The buffer of a direct read stays pinned until the test lets go.
 */
#ifndef KSM_TEST_SLOWFILE_H
#define KSM_TEST_SLOWFILE_H

#include <stdint.h>
#include <sys/types.h>

struct slowfile {
	pid_t pid;
	int fd;  /* opened with O_DIRECT */
	int ctl; /* to the server */
};

/*
 * Start the server and open the file. Early: it forks. Returns 0, or -errno where this user or
 * machine cannot mount FUSE.
 */
int slowfile_open(struct slowfile *f);
/* Wait until a read has reached the server. */
void slowfile_wait_read(struct slowfile *f);
/* Let it be answered, with bytes of this value throughout. */
void slowfile_answer(struct slowfile *f, uint8_t byte);
void slowfile_close(struct slowfile *f);

#endif
