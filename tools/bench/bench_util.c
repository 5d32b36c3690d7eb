/* SPDX-License-Identifier: MIT */
/* bench_util.c - files, clocks, complaints. */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

volatile sig_atomic_t bench_stop;
const char *const side_name[SIDE_NR] = { "kernel", "ksmd-user" };

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

int bench_sleep_ms(unsigned int ms)
{
	if (!bench_stop)
		poll(NULL, 0, (int)ms);
	return bench_stop ? -EINTR : 0;
}

void complain(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fputs("ksm-bench: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
}

const char *figure(double v, char buf[32])
{
	snprintf(buf, 32, v >= 1000 && v < 1e9 ? "%.0f" : "%.3g", v);
	return buf;
}

ssize_t file_read(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	size_t len = 0;
	ssize_t n = 0;

	if (fd < 0)
		return -errno;
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = 0;
	n = n < 0 ? -errno : (ssize_t)len;
	close(fd);
	return n;
}

int file_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), err = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		err = -errno;
	close(fd);
	return err;
}

int sibling_path(const char *env, const char *name, char *path, size_t size)
{
	const char *set = getenv(env);
	char self[512];
	ssize_t n;

	if (set) {
		snprintf(path, size, "%s", set);
	} else {
		n = readlink("/proc/self/exe", self, sizeof(self) - 1);
		if (n < 0)
			return -errno;
		self[n] = 0;
		*strrchr(self, '/') = 0;
		snprintf(path, size, "%s/%s", self, name);
	}
	if (access(path, X_OK)) {
		complain("%s: %s (build it, or name it in $%s)", path, strerror(errno), env);
		return -errno;
	}
	return 0;
}

const char *bench_place(const char *machine, const char *name, char *path, size_t size)
{
	const char *dir = getenv("KSM_BENCH_DIR");

	snprintf(path, size, "%s/%s", dir ? dir : machine, name);
	return path;
}

double machine_busy(void)
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

uint64_t memory_available(void)
{
	char text[4096], *p;
	unsigned long kib = 0;

	if (file_read("/proc/meminfo", text, sizeof(text)) > 0 &&
	    (p = strstr(text, "MemAvailable:")))
		sscanf(p, "MemAvailable: %lu", &kib);
	return (uint64_t)kib * 1024;
}

void machine_read(struct machine *m)
{
	static char text[65536];
	struct utsname u;
	unsigned long kib = 0;
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
	if (file_read("/proc/meminfo", text, sizeof(text)) > 0 && (p = strstr(text, "MemTotal:")))
		sscanf(p, "MemTotal: %lu", &kib);
	m->memory_mib = kib / 1024;
}

void result_note(struct bench_result *r, const char *text)
{
	if (r->nr_notes < BENCH_MAX_NOTES)
		snprintf(r->note[r->nr_notes++], BENCH_NOTE, "%s", text);
}
