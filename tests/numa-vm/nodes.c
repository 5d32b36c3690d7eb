/* SPDX-License-Identifier: MIT */
/* nodes.c - see nodes.h. */
#include "tests/numa-vm/nodes.h"

#include <errno.h>
#include <glob.h>
#include <numaif.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"

enum { MAX_PAGES = 8192, MASK_BITS = 64 };

static bool node_file(int node, const char *name, char *buf, int size)
{
	char path[128];
	FILE *f;
	bool ok;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/%s", node, name);
	f = fopen(path, "re");
	ok = f && fgets(buf, size, f);
	if (f)
		fclose(f);
	return ok;
}

int nodes_nr(void)
{
	char buf[256];
	int nr = 0;

	while (nr < MAX_NODES && node_file(nr, "cpulist", buf, sizeof(buf)))
		nr++;
	return nr;
}

bool node_has_cpus(int node)
{
	char buf[256];

	return node_file(node, "cpulist", buf, sizeof(buf)) && buf[0] != '\n';
}

long node_meminfo(int node, const char *key)
{
	char path[128], line[256], name[64];
	long value = -1, v;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/meminfo", node);
	f = fopen(path, "re");
	while (f && value < 0 && fgets(line, sizeof(line), f))
		if (sscanf(line, "Node %*d %63[^:]: %ld", name, &v) == 2 && !strcmp(name, key))
			value = v;
	if (f)
		fclose(f);
	if (value < 0)
		harness_die("%s has no %s", path, key);
	return value;
}

bool node_has_memory(int node)
{
	return node_meminfo(node, "MemTotal") > 0;
}

/* Writes to a file of the kernel's. Returns whether that takes it. */
static bool put(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	bool ok = f && fputs(text, f) >= 0;

	return f && !fclose(f) && ok;
}

static bool block_is(const char *path, const char *state)
{
	char buf[32] = "";
	FILE *f = fopen(path, "re");
	bool is = f && fgets(buf, sizeof(buf), f) && !strncmp(buf, state, strlen(state));

	if (f)
		fclose(f);
	return is;
}

bool node_use_memory(int node, bool on)
{
	char path[128];
	bool done = true;
	glob_t blocks;

	snprintf(path, sizeof(path), "/sys/devices/system/node/node%d/memory[0-9]*", node);
	if (glob(path, 0, NULL, &blocks))
		harness_die("%s: none", path);
	for (size_t i = 0; i < blocks.gl_pathc; i++) {
		snprintf(path, sizeof(path), "%s/state", blocks.gl_pathv[i]);
		if (!block_is(path, on ? "online" : "offline"))
			done &= put(path, on ? "online_movable" : "offline");
	}
	globfree(&blocks);
	return done;
}

void cpu_use(int cpu, bool on)
{
	char path[64];

	snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online", cpu);
	if (!put(path, on ? "1" : "0"))
		harness_die("%s: %s", path, strerror(errno));
}

int node_first_cpu(int node)
{
	char buf[256];

	if (!node_file(node, "cpulist", buf, sizeof(buf)) || *buf < '0' || *buf > '9')
		return -1;
	return (int)strtol(buf, NULL, 10);
}

long fn_run_on(const long a[6])
{
	char buf[256];
	cpu_set_t set;

	CPU_ZERO(&set);
	if (!node_file((int)a[0], "cpulist", buf, sizeof(buf)))
		return -ENODEV;
	for (char *at = buf; *at >= '0' && *at <= '9';) {
		long first = strtol(at, &at, 10), last = first;

		if (*at == '-')
			last = strtol(at + 1, &at, 10);
		for (long cpu = first; cpu <= last; cpu++)
			CPU_SET((int)cpu, &set);
		at += *at == ',';
	}
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

long fn_policy(const long a[6])
{
	unsigned long mask = 1ul << a[1];

	return set_mempolicy((int)a[0], a[0] == MPOL_DEFAULT ? NULL : &mask, MASK_BITS) ? -errno :
											  0;
}

long fn_mbind(const long a[6])
{
	unsigned long mask = 1ul << a[3];

	return syscall(SYS_mbind, a[0], a[1] * (long)PUPPET_PAGE, a[2],
		       a[2] == MPOL_DEFAULT ? NULL : &mask, MASK_BITS, a[4]) ?
		       -errno :
		       0;
}

static void *page[MAX_PAGES];
static int status[MAX_PAGES], to[MAX_PAGES];

static void name_pages(long addr, long pages, int node)
{
	if (pages > MAX_PAGES)
		harness_die("%ld pages", pages);
	for (long i = 0; i < pages; i++) {
		page[i] = (void *)(addr + i * (long)PUPPET_PAGE);
		status[i] = -ENOENT;
		to[i] = node;
	}
}

/* The pages of a new chunk that are on the node, also after they were asked to go there. -errno. */
static long take_chunk(int node, bool all)
{
	enum { CHUNK = 256 };
	char *m = mmap(NULL, CHUNK * PUPPET_PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	long nr = 0;

	if (m == MAP_FAILED)
		return -errno;
	name_pages((long)m, CHUNK, node);
	if (move_pages(0, CHUNK, page, all ? to : NULL, status, MPOL_MF_MOVE) < 0)
		return all && errno == ENOMEM ? 0 : -errno; /* there is no page left */
	for (int i = 0; i < CHUNK; i++) {
		nr += status[i] == node;
		if (status[i] != node)
			munmap(page[i], PUPPET_PAGE);
	}
	return nr;
}

/*
 * Each CPU keeps some of a node's free pages for itself (35 MiB were seen), so they are taken from
 * each. A process that prefers a node goes elsewhere while the kernel still has pages there for
 * those who must have them. So pages are moved there at last, as the daemon will move its own: what
 * it could have had then is gone.
 */
long fn_fill_node(const long a[6])
{
	long cpus = sysconf(_SC_NPROCESSORS_CONF), nr = 0, more = 0;

	/* Preferred: a process that may have no other memory is killed when that is full. */
	if (fn_policy((const long[6]){ MPOL_PREFERRED, a[0] }))
		return -errno;
	for (long i = 0; i < 2 * cpus && more >= 0; i++) {
		cpu_set_t one;

		CPU_ZERO(&one);
		CPU_SET((size_t)(i % cpus), &one);
		if (sched_setaffinity(0, sizeof(one), &one))
			continue; /* it is offline */
		do {
			more = take_chunk((int)a[0], i >= cpus);
			nr += more > 0 ? more : 0;
		} while (more > 0);
	}
	return more < 0 ? more : nr;
}

long fn_policy_at(const long a[6])
{
	int mode;

	return get_mempolicy(&mode, NULL, 0, (void *)a[0], MPOL_F_ADDR) ? -errno : mode;
}

long fn_offer_on(const long a[6])
{
	const long where[6] = { MPOL_BIND, a[3] }, back[6] = { MPOL_DEFAULT };
	long addr = fn_map((const long[6]){ a[0] }), err;

	if (addr < 0)
		return addr;
	/* Whatever is large would be split when it is merged, and costs time. */
	madvise((void *)addr, (size_t)a[0] * PUPPET_PAGE, MADV_NOHUGEPAGE);
	err = fn_policy(where);
	if (!err)
		err = fn_fill((const long[6]){ addr, a[0], a[1], a[2] });
	if (!err)
		err = fn_policy(back);
	if (!err && ksm_madvise((void *)addr, (size_t)a[0] * PUPPET_PAGE, MADV_MERGEABLE))
		err = -errno;
	return err ? err : addr;
}

long fn_where(const long a[6])
{
	long nr = 0;

	name_pages(a[0], a[1], 0);
	fn_touch(a);
	if (move_pages(0, (unsigned long)a[1], page, NULL, status, 0) < 0)
		return -errno;
	for (long i = 0; i < a[1]; i++)
		nr += status[i] == (int)a[2];
	return nr;
}

/* What the kernel says of its own move: a moment later the daemon may have moved them again. */
long fn_move(const long a[6])
{
	long nr = 0;

	name_pages(a[0], a[1], (int)a[2]);
	fn_touch(a);
	if (move_pages(0, (unsigned long)a[1], page, to, status, (int)a[3]) < 0)
		return -errno;
	for (long i = 0; i < a[1]; i++)
		nr += status[i] == (int)a[2];
	return nr;
}
