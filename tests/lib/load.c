/* SPDX-License-Identifier: MIT */
/* load.c - see load.h. */
#include "tests/lib/load.h"

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

enum { WRITES = 16, CHILDREN = 4 };

static char *page_at(const long a[6], uint64_t i)
{
	return (char *)a[0] + i * PUPPET_PAGE;
}

static long nr_wrong(const long a[6], const uint64_t *holds)
{
	long bad = 0;

	for (uint64_t i = 0; i < (uint64_t)a[3]; i++)
		bad += !page_holds(page_at(a, i), holds[i]);
	return bad;
}

static void write_some(const long a[6], uint64_t *holds, uint64_t *rng)
{
	uint64_t stride = a[4] ? (uint64_t)a[4] : 1;

	for (int k = 0; k < WRITES; k++) {
		uint64_t r = (*rng = *rng * 6364136223846793005ull + 1) >> 33;
		uint64_t i = r % (uint64_t)a[3] / stride * stride;

		holds[i] = k % 2 ? 1 + i : 10000 + r;
		page_fill(page_at(a, i), holds[i]);
	}
}

/* Parent and child write what they have in common, each for itself. */
static long round_with_child(const long a[6], uint64_t *holds, uint64_t *rng)
{
	pid_t child = fork();
	int status = 0;
	long bad;

	write_some(a, holds, rng);
	bad = nr_wrong(a, holds);
	if (child == 0)
		_exit(bad ? 1 : 0);
	if (child > 0)
		waitpid(child, &status, 0);
	return bad + (status ? 1000000 + status : 0);
}

static bool is_over(const long a[6])
{
	return a[5] && __atomic_load_n((const int *)a[5], __ATOMIC_RELAXED);
}

long fn_write_and_check(const long a[6])
{
	uint64_t end = harness_now_ms() + (uint64_t)a[1], rng = (uint64_t)a[2];
	uint64_t *holds = malloc((size_t)a[3] * sizeof(*holds));
	long bad = 0;

	for (uint64_t i = 0; i < (uint64_t)a[3]; i++)
		holds[i] = 1 + i;
	for (unsigned int n = 0; harness_now_ms() < end && !bad && !is_over(a); n++) {
		if (n % CHILDREN == 0) {
			bad = round_with_child(a, holds, &rng);
			continue;
		}
		write_some(a, holds, &rng);
		bad = nr_wrong(a, holds);
	}
	for (uint64_t i = 0; i < (uint64_t)a[3]; i++)
		page_fill(page_at(a, i), 1 + i);
	free(holds);
	return bad;
}
