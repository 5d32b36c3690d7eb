/* SPDX-License-Identifier: MIT */
/*
 * delay.c - see delay.h. The kernel tells each thread's delay in its schedstat file. Opening that
 * takes some 5 us, reading it less than 1, so a thread that asks often keeps it open.
 */
#include "daemon/delay.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static _Thread_local int schedstat = -1;

void delay_begin(void)
{
	schedstat = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

void delay_end(void)
{
	if (schedstat >= 0)
		close(schedstat);
	schedstat = -1;
}

uint64_t delay_ns(void)
{
	unsigned long long ran, delay;
	char line[80]; /* three numbers */
	ssize_t n;

	if (schedstat < 0)
		return 0;
	n = pread(schedstat, line, sizeof(line) - 1, 0);
	if (n <= 0)
		return 0;
	line[n] = '\0';
	return sscanf(line, "%llu %llu", &ran, &delay) == 2 ? delay : 0;
}
