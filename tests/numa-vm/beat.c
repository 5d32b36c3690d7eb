/* SPDX-License-Identifier: MIT */
/*
 * beat.c - a program of a guest: it has memory to merge, and says again and again what it holds.
 *
 * Each beat is a line "NUMBER SUM" in the file that is named, the sum being over all of the memory.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 2048, ALIKE = 2 };

static uint64_t sum(const unsigned char *m)
{
	uint64_t s = 0;

	for (size_t i = 0; i < (size_t)PAGES * PAGE; i += 64)
		s = s * 31 + m[i];
	return s;
}

int main(int argc, char **argv)
{
	unsigned char *m = mmap(NULL, (size_t)PAGES * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (argc != 2 || m == MAP_FAILED)
		return EXIT_FAILURE;
	for (int i = 0; i < PAGES; i++)
		for (int k = 0; k < PAGE; k += (int)sizeof(int))
			*(int *)(void *)(m + (size_t)i * PAGE + (size_t)k) = i / ALIKE + 1;
	for (unsigned long n = 0;; n++) {
		int fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0644);

		if (fd < 0 || dprintf(fd, "%lu %llx\n", n, (unsigned long long)sum(m)) < 0)
			return EXIT_FAILURE;
		close(fd);
		usleep(100000);
	}
}
