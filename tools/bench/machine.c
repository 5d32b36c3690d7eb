/* SPDX-License-Identifier: MIT */
/* machine.c - what the whole machine does beside the measurement. */
#include "machine.h"

#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include "file.h"

double machine_busy_s(void)
{
	char text[256];
	double v[8];

	if (file_read("/proc/stat", text, sizeof(text)) < 0 ||
	    sscanf(text, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3], &v[4],
		   &v[5], &v[6], &v[7]) != 8)
		return NAN;
	/* user nice system - - irq softirq steal */
	return (v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) / (double)sysconf(_SC_CLK_TCK);
}

/*
 * The sum of what is in use, not the memory that is not "free": the kernel keeps hundreds of MiB of
 * freed pages on lists of each CPU, and /proc/meminfo counts them as neither.
 */
double machine_used(void)
{
	static const char *const part[] = { "\nAnonPages:", "\nShmem:", "\nPageTables:",
					    "\nSecPageTables:", "\nSlab:" };
	double sum = 0;

	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++) {
		uint64_t kib = 0; /* not every kernel has every line */
		int err = file_number("/proc/meminfo", part[i], &kib);

		if (err && err != -EIO)
			return NAN;
		sum += 1024.0 * (double)kib;
	}
	return sum;
}
