/* SPDX-License-Identifier: MIT */
/*
 * sweep_agent.c - every system call of the client library fails once.
 *
 * On the kernel of fuzz_agent.c a client connects, merges, passes through epochs, breaks
 * copy-on-write, merges in place, un-shares and ends; then it does all this again over a second
 * connection. The first call fails, then the second, and so on to the last, with each possible
 * error. After each failure every byte of the program's memory must be right (checked at every
 * message), no page may be missing and no descriptor lost, and the second connection must merge
 * again.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
bool fuzz_agent_sweep(const uint8_t *script, size_t size, unsigned int nth, int error);
extern uint64_t fuzz_agent_merged;

/* Bytes of fuzz_agent.c: kind, then what the message has. Frames by 6: those that are equal. */
enum { TXN = 0, EPOCH = 3, UNMERGE = 4, STAT = 5, WELCOME = 6 };
static uint8_t script[8192];
static size_t len;

static void put(uint8_t b)
{
	script[len++] = b;
}

static void order(uint8_t block)
{
	put(TXN);
	put(block);
	put(0); /* fresh, a frame for each page */
	put(1);
	for (int i = 0; i < 64; i++)
		put(i % 9 ? 6 : 2); /* some are to be zero */
}

static void write_script(void)
{
	put(WELCOME);
	put(0);
	/* A store between others makes a run that is long enough to be moved into place. */
	put(0xc0);
	put(105);
	put(105 % 64);
	for (uint8_t b = 0; b < 3; b++)
		order(b);
	put(EPOCH);
	put(1);
	put(STAT);
	put(1);                             /* for that epoch */
	for (uint8_t i = 10; i < 30; i++) { /* stores of what was there */
		put(0xc0);
		put(i);
		put(i % 7 ? i % 64 : 0);
	}
	order(0);
	put(0xc2); /* un-share a part */
	put(70);
	put(20);
	put(UNMERGE);
	put(1);
	for (uint8_t b = 0; b < 3; b++)
		order(b);
}

int main(int argc, char **argv)
{
	static const int errors[] = { -ENOMEM, -EINTR, -EAGAIN, -EINVAL };
	unsigned int nth, runs = 0;

	LLVMFuzzerInitialize(&argc, &argv);
	write_script();
	for (unsigned int e = 0; e < sizeof(errors) / sizeof(errors[0]); e++) {
		for (nth = 1; fuzz_agent_sweep(script, len, nth, errors[e]); nth++, runs++) {
			if (fuzz_agent_merged > 100)
				continue;
			fprintf(stderr, "ERROR: call %u failed with %d: %lu pages merged\n", nth,
				-errors[e], (unsigned long)fuzz_agent_merged);
			return EXIT_FAILURE;
		}
		printf("errno %d: each of %u calls\n", -errors[e], nth - 1);
	}
	printf("PASS %u faults\n", runs);
	return EXIT_SUCCESS;
}
