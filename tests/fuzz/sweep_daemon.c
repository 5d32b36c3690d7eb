/* SPDX-License-Identifier: MIT */
/*
 * sweep_daemon.c - every allocation and every system call of the daemon fails once.
 *
 * The sweep plays a full life on the kernel of os.h: the daemon starts; clients connect, offer,
 * merge, fork, write, move, un-share and exit; epochs turn; the daemon unmerges everything, ends,
 * and another starts. The first call fails, then the second, and so on to the last. After each
 * failure fuzz_session.c checks every byte of every client, the engine's invariants, that no
 * descriptor is left, and that everything comes to rest with true counters and no frame left over.
 * A daemon that cannot start must say so and leave nothing.
 *
 * Seen to fail: with what fuzz_session.c lists; without announce_again() in epochs.c.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "os.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Steps of fuzz_session.c. */
#define NEW 0
#define STORE 0x0c
#define FORGET 0x0d
#define DEL 0x0e
#define ADD 0x0f
#define MOVE 0x10
#define MERGE 0xc0
#define CONNECT 0x50
#define HANG_UP 0x51
#define EXIT 0x52
#define RAW_FORK 0x53
#define FORK 0x54
#define ROUND 0xd8   /* op % 9: 0, the client thread */
#define SCAN 0xd9    /* 1 */
#define MS 0xda      /* 2 */
#define MS200 0xdb   /* 3 */
#define KNOB 0xdc    /* 4 */
#define MAIN 0xdd    /* 5 */
#define FAULT 0xde   /* 6 */
#define RESTART 0xdf /* 7 */
/* Of KNOB, on two nodes. */
#define MOVE0 0xf0
#define MOVE1 0xf1

/* The first life ends in the middle, because hanging up and starting again repair much. */
static const uint8_t life[] = {
	NEW,     NEW,   STORE,    0,       0,     99,    100,     STORE, 1,
	0,       99,    100,      MERGE,   MERGE,                               /* merged */
	STORE,   0,     5,        3,       7,     MERGE, MS200,   2,     ROUND, /* some broken */
	FORK,    0,     RAW_FORK, 1,       MERGE, MS200, 2,                     /* children */
	FORGET,  0,     0,        50,      MERGE, DEL,   1,       0,     50,
	ADD,     1,     0,        50,      MERGE, /* taken back */
	MOVE,    0,     60,       90,      MS,    250,   MERGE,   MS200, 2,
	MERGE,   MS200, 2,        MERGE,                        /* epochs turn */
	KNOB,    MOVE0, MERGE,    KNOB,    MOVE1, MERGE, MERGE, /* moved there and back */
#define MIDDLE 64
	HANG_UP, 0,     ROUND,    CONNECT, 0,     MERGE, MERGE, /* again */
	KNOB,    2,     SCAN,     1,       ROUND, MERGE, MAIN,    KNOB,  1,
	MERGE,   MERGE, MS200,    3, /* unmerged */
	EXIT,    1,     ROUND,    MS200,   3,     ROUND, RESTART, MERGE, MERGE,
	MS200,   3,     MERGE, /* another daemon */
};

/* Did the nth call come? */
static bool run(uint8_t how, size_t length, unsigned int nth)
{
	uint8_t in[sizeof(life) + 8] = { how };
	size_t at = 1;

	if (how >= 0xe0) {
		in[at++] = (uint8_t)nth;
		in[at++] = (uint8_t)(nth >> 8);
	} else {
		in[at++] = FAULT;
		in[at++] = (uint8_t)nth;
		in[at++] = (uint8_t)(nth >> 8);
		in[at++] = 0; /* once */
	}
	memcpy(in + at, life, length);
	LLVMFuzzerTestOneInput(in, at + length);
	return os_fault_came();
}

int main(int argc, char **argv)
{
	static const struct {
		const char *what;
		uint8_t how;
		size_t length;
	} sweep[] = {
		{ "start", 0xe1, sizeof(life) },
		{ "half a life", 0, MIDDLE },
		{ "life", 0, sizeof(life) },
		{ "life on two nodes", 3, sizeof(life) },
		{ "life, a domain per process", 1, sizeof(life) },
	};
	unsigned int runs = 0, nth;

	LLVMFuzzerInitialize(&argc, &argv);
	for (unsigned int i = 0; i < sizeof(sweep) / sizeof(sweep[0]); i++) {
		for (nth = 1; run(sweep[i].how, sweep[i].length, nth); nth++)
			runs++;
		printf("%s: each of %u calls\n", sweep[i].what, nth - 1);
	}
	printf("PASS %u faults\n", runs);
	return runs > 100 ? EXIT_SUCCESS : EXIT_FAILURE;
}
