/* SPDX-License-Identifier: MIT */
/* machine.c - the machine that is measured on. */
#include "machine.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "file.h"

/* What a line of /proc/meminfo says, in KiB; 0 when this kernel does not have the line. */
static uint64_t meminfo_kib(const char *text, const char *name)
{
	const char *p = strstr(text, name);

	return p ? strtoull(p + strlen(name), NULL, 10) : 0;
}

void machine_read(struct machine *m)
{
	static char text[65536];
	struct utsname u;
	char *p;

	memset(m, 0, sizeof(*m));
	snprintf(m->cpu, sizeof(m->cpu), "unknown CPU");
	if (file_read("/proc/cpuinfo", text, sizeof(text)) > 0 &&
	    (p = strstr(text, "model name")) && (p = strchr(p, ':')))
		snprintf(m->cpu, sizeof(m->cpu), "%.*s", (int)strcspn(p + 2, "\n"), p + 2);
	if (!uname(&u))
		snprintf(m->kernel, sizeof(m->kernel), "%.20s %.60s %.30s", u.sysname, u.release,
			 u.machine);
	m->cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
	if (file_read("/proc/meminfo", text, sizeof(text)) > 0)
		m->memory_mib = meminfo_kib(text, "MemTotal:") / 1024;
}

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

uint64_t machine_available(void)
{
	char text[4096];

	if (file_read("/proc/meminfo", text, sizeof(text)) < 0)
		return 0;
	return meminfo_kib(text, "\nMemAvailable:") * 1024;
}

/*
 * The sum of what is in use, not the memory that is not "free": the kernel keeps hundreds of MiB of
 * freed pages on lists of each CPU, and /proc/meminfo counts them as neither.
 */
double machine_used(void)
{
	static const char *const part[] = { "\nAnonPages:", "\nShmem:", "\nPageTables:",
					    "\nSecPageTables:", "\nSlab:" };
	char text[4096];
	double sum = 0;

	if (file_read("/proc/meminfo", text, sizeof(text)) < 0)
		return NAN;
	for (size_t i = 0; i < sizeof(part) / sizeof(part[0]); i++)
		sum += 1024.0 * (double)meminfo_kib(text, part[i]);
	return sum;
}
