/* SPDX-License-Identifier: MIT */
/*
 * guests.c - guests of QEMU as a workload: what host KSM was made for.
 *
 * A guest's memory holds the same data as the others', as if they had read the same files, and each
 * has it elsewhere: in extents of eight pages in an order of its own, as page caches lie. The guest
 * itself finds nothing to start from: its firmware says so and waits, and QEMU keeps its clocks.
 *
 * They start as real programs do (real.c): under ksm-run for ksmd-user, with
 * prctl(PR_SET_MEMORY_MERGE) for the kernel's KSM. QEMU asks for its guest's memory to be merged
 * besides (MADV_MERGEABLE). Its loader puts the data there, and its monitor saves what is there at
 * the end.
 */
#include "guests.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "config.h"
#include "fleet.h"
#include "message.h"
#include "rand.h"
#include "real.h"
#include "server.h"
#include "side.h"

#define PROGRAM "qemu-system-x86_64"

enum {
	FIRST = 32 << 20,  /* where the data begins: behind all that the firmware uses */
	BESIDE_MIB = 64,   /* memory of a guest besides its data */
	EXTENT = 8 * 4096, /* bytes that lie together in each guest */
	EXTENTS_MIB = (1 << 20) / EXTENT,
	MAX_LINE = 4096, /* of the monitor: the greeting has some hundred bytes */
};

/*
 * Which extent of the data lies at place `at` of guest g. Each guest goes through all of them by a
 * step of its own, which has no factor in common with their number.
 */
static uint64_t extent_at(uint64_t at, uint64_t nr, unsigned int g)
{
	return at * stride_from(1 + g * (nr / 7), nr) % nr;
}

/* No two pages alike. */
static void extent_fill(uint64_t i, char *out)
{
	uint64_t x = (i + 1) * 0x9e3779b97f4a7c15ull;

	for (size_t at = 0; at < EXTENT; at += sizeof(x)) {
		xorshift(&x);
		memcpy(out + at, &x, sizeof(x));
	}
}

static int write_all(int fd, const char *buf, size_t len)
{
	while (len) {
		ssize_t n = write(fd, buf, len);

		if (n < 0)
			return -errno;
		buf += n;
		len -= (size_t)n;
	}
	return 0;
}

/* The data of guest g, as a file. */
static int image_make(const char *path, unsigned int g, unsigned int size_mib)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), err = 0;
	uint64_t nr = (uint64_t)size_mib * EXTENTS_MIB;
	static char extent[EXTENT];

	if (fd < 0) {
		complain("%s: %s", path, strerror(errno));
		return -errno;
	}
	for (uint64_t i = 0; i < nr && !err; i++) {
		extent_fill(extent_at(i, nr, g), extent);
		err = write_all(fd, extent, sizeof(extent));
	}
	close(fd);
	if (err)
		complain("%s: %s", path, strerror(-err));
	return err;
}

/* ---- its monitor ---- */

static int line_read(int fd, char *line)
{
	size_t n = 0;
	int err;

	do {
		if (n == MAX_LINE - 1)
			return -EPROTO;
		err = server_transfer(fd, line + n, 1, false);
	} while (!err && line[n++] != '\n');
	line[n] = 0;
	return err;
}

/* Have the monitor do it. What it says of its own accord meanwhile is passed over. */
static int monitor_do(struct fleet_tenant *w, char *command)
{
	char line[MAX_LINE];
	int err = server_transfer(w->fd, command, strlen(command), true);

	while (!err) {
		err = line_read(w->fd, line);
		if (!err && !strncmp(line, "{\"return\"", 9))
			return 0;
		if (!err && !strncmp(line, "{\"error\"", 8))
			err = -EREMOTEIO;
	}
	if (err != -EINTR)
		complain(PROGRAM " (process %d): %s", (int)w->pid,
			 err == -EREMOTEIO ? line : strerror(-err));
	return err;
}

/* ---- guests ---- */

static int guest_run(struct side *s, const char *image, const char *sock, unsigned int size_mib,
		     struct fleet_tenant *w)
{
	char memory[16], loader[128], monitor[128];
	const char *const argv[] = { PROGRAM,    "-accel", "tcg",         "-m",    memory,
				     "-display", "none",   "-nodefaults", "-net",  "none",
				     "-device",  loader,   "-qmp",        monitor, NULL };

	snprintf(memory, sizeof(memory), "%u", size_mib + BESIDE_MIB);
	snprintf(loader, sizeof(loader), "loader,file=%s,addr=%d,force-raw=on", image, FIRST);
	snprintf(monitor, sizeof(monitor), "unix:%s,server=on,wait=off", sock);
	return real_program(s, argv, w);
}

/* It has loaded its data when it answers. */
static int guest_ready(struct fleet_tenant *w, const char *sock)
{
	char hello[] = "{\"execute\":\"qmp_capabilities\"}\n";
	int err = server_connect(w->pid, PROGRAM, sock, &w->fd);

	return err ? err : monitor_do(w, hello);
}

static int guest_start(struct fleet *f, struct side *s, unsigned int g, unsigned int size_mib)
{
	struct fleet_tenant *w = &f->w[g];
	char image[64], sock[64];
	int err;

	snprintf(image, sizeof(image), "/tmp/ksm-bench.%d.%u.image", (int)getpid(), g);
	snprintf(sock, sizeof(sock), "/tmp/ksm-bench.%d.%u", (int)getpid(), g);
	w->program = 1;
	err = image_make(image, g, size_mib);
	err = err ? err : guest_run(s, image, sock, size_mib, w);
	if (!err) {
		f->nr++;
		err = guest_ready(w, sock);
	}
	unlink(image);
	return err;
}

int guests_start(struct fleet *f, struct side *s, unsigned int size_mib)
{
	int err = 0;

	f->nr = 0;
	memset(f->w, 0, sizeof(f->w[0]) * s->cfg->processes);
	for (unsigned int g = 0; g < s->cfg->processes && !err; g++)
		err = guest_start(f, s, g, size_mib);
	return err ? err : real_wait(f, s);
}

static int image_compare(int fd, unsigned int g, unsigned int size_mib)
{
	static char want[EXTENT], got[EXTENT];
	uint64_t nr = (uint64_t)size_mib * EXTENTS_MIB;

	for (uint64_t i = 0; i < nr; i++) {
		extent_fill(extent_at(i, nr, g), want);
		if (read(fd, got, EXTENT) != EXTENT || memcmp(got, want, EXTENT) != 0)
			return -EILSEQ;
	}
	return 0;
}

static int guest_verify(struct fleet_tenant *w, unsigned int g, unsigned int size_mib)
{
	char path[64], command[256];
	int err, fd;

	snprintf(path, sizeof(path), "/tmp/ksm-bench.%d.%u.saved", (int)getpid(), g);
	snprintf(command, sizeof(command),
		 "{\"execute\":\"pmemsave\",\"arguments\":{\"val\":%d,\"size\":%lu,"
		 "\"filename\":\"%s\"}}\n",
		 FIRST, (unsigned long)size_mib << 20, path);
	/* Ours before QEMU writes it: in /tmp anybody could have put a link there. */
	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	err = monitor_do(w, command);
	err = err ? err : image_compare(fd, g, size_mib);
	close(fd);
	unlink(path);
	if (err)
		complain("guest %u (process %d): %s", g, (int)w->pid,
			 err == -EILSEQ ? "other bytes" : strerror(-err));
	return err;
}

int guests_verify(struct fleet *f, unsigned int size_mib)
{
	int err = 0;

	for (int g = 0; g < f->nr && !err; g++)
		err = guest_verify(&f->w[g], (unsigned int)g, size_mib);
	return err;
}
