/* SPDX-License-Identifier: MIT */
/*
 * estimate.c - see estimate.h.
 *
 * Each page that is there is read once and hashed, as a pass of the daemon would; pages of equal
 * hashes would share a frame. A page in a sparse reservation costs nothing, because the kernel says
 * where pages are (PAGEMAP_SCAN).
 *
 * How many mappings merging adds depends on how equal pages lie: neighbours that would stand on
 * neighbouring frames need one mapping for all of them. The first page of each content stands for
 * its frame here, so that memory which lies alike in two processes counts as one piece.
 *
 * A look at one moment cannot tell how often a page is written. So the figures are what can be
 * saved at most, and pages that change all the time are among them.
 */
#include "tools/memory/estimate.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/kernel_cost.h"
#include "tools/memory/smaps.h"
#include "wire/abi.h"
#include "wire/kernel_abi.h"

#define MIB 1048576.0
#define CHUNK 64u   /* pages in a read */
#define RUNS 512u   /* runs of pages in an answer of the kernel */
#define SHARERS 256 /* pages that share a frame: ksm/max_page_sharing by default */
/* Bytes of the daemon: for each page that it tracks, and each frame (engine/rmap.h, stable.h). */
#define PAGE_RECORD 23
#define FRAME_RECORD 80
/* Nanoseconds of a client and the daemon for a page that is merged, and for a mapping more. */
#define MERGE_PAGE_NS 700
#define MERGE_MAPPING_NS 2000
/* Share of a process's mappings that merging may take: ksm/vma_budget_percent by default. */
#define BUDGET_PERCENT 50
#define NONE UINT32_MAX

struct page {
	uint64_t hash, pn;
	uint32_t first;   /* the first page of the same contents; NONE: there is no other */
	uint32_t process; /* in processes */
	bool zero, on_frame;
};

struct estimate {
	struct page *page;
	size_t nr, room;
	struct estimate_process *process;
	size_t nr_processes;
	uint64_t read_ns;
};

static uint64_t cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct estimate *estimate_new(void)
{
	return calloc(1, sizeof(struct estimate));
}

void estimate_free(struct estimate *e)
{
	free(e->page);
	free(e->process);
	free(e);
}

/* ---- reading ---- */

/* A process while it is read. */
struct reader {
	struct estimate *e;
	int mem, pagemap;
	bool on_frame; /* the mapping is one of frames */
	unsigned char buf[CHUNK * KSM_PAGE_SIZE];
};

static bool is_zero(const unsigned char *p)
{
	return !p[0] && !memcmp(p, p + 1, KSM_PAGE_SIZE - 1);
}

static int add_page(const struct reader *r, uint64_t addr, const unsigned char *bytes)
{
	struct estimate *e = r->e;

	if (e->nr == e->room) {
		size_t room = e->room ? e->room * 2 : 1u << 16;
		struct page *v = room < NONE ? realloc(e->page, room * sizeof(*v)) : NULL;

		if (!v)
			return -ENOMEM;
		e->page = v;
		e->room = room;
	}
	e->page[e->nr++] = (struct page){
		.hash = XXH3_64bits(bytes, KSM_PAGE_SIZE),
		.pn = addr / KSM_PAGE_SIZE,
		.first = NONE,
		.process = (uint32_t)(e->nr_processes - 1),
		.zero = is_zero(bytes),
		.on_frame = r->on_frame,
	};
	return 0;
}

/* Pages that have gone by the time they are read are left out. */
static int read_run(struct reader *r, uint64_t start, uint64_t end)
{
	int err = 0;

	for (uint64_t at = start; at < end && !err; at += sizeof(r->buf)) {
		size_t len = end - at < sizeof(r->buf) ? end - at : sizeof(r->buf);
		ssize_t n = pread(r->mem, r->buf, len, (off_t)at);

		for (ssize_t i = 0; i + (ssize_t)KSM_PAGE_SIZE <= n && !err; i += KSM_PAGE_SIZE)
			err = add_page(r, at + (uint64_t)i, r->buf + i);
	}
	return err;
}

/* What is there of a mapping: private pages, or frames; not the kernel's shared zero page. */
static int read_mapping(struct reader *r, const struct mapping *m)
{
	struct kabi_page_region v[RUNS];
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.start = m->start,
		.end = m->end,
		.vec = (uintptr_t)v,
		.vec_len = RUNS,
		.category_inverted = KABI_PAGE_IS_PFNZERO,
		.category_mask = KABI_PAGE_IS_PFNZERO | KABI_PAGE_IS_PRESENT,
		.return_mask = KABI_PAGE_IS_PRESENT,
	};
	int err = 0;

	r->on_frame = !strcmp(m->kind, "merged");
	while (scan.start < m->end && !err) {
		int n = ioctl(r->pagemap, KABI_PAGEMAP_SCAN, &scan);

		if (n < 0)
			return errno == ESRCH ? 0 : -errno;
		for (int i = 0; i < n && !err; i++)
			err = read_run(r, v[i].start, v[i].end);
		if (scan.walk_end <= scan.start)
			break;
		scan.start = scan.walk_end;
	}
	return err;
}

/* Memory that ksm-run would offer, or that is merged already. */
static bool is_candidate(const struct mapping *m)
{
	return !strcmp(m->kind, "not_offered") || !strcmp(m->kind, "merged") ||
	       !strcmp(m->kind, "userfaultfd");
}

static int open_of(pid_t pid, const char *name)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? errno == ENOENT ? -ESRCH : -errno : fd;
}

static int read_process(struct reader *r, pid_t pid)
{
	FILE *f = smaps_open(pid);
	struct mapping m;
	int err = 0;

	if (!f)
		return errno == ENOENT ? -ESRCH : -errno;
	while (!err && smaps_next(f, &m))
		if (is_candidate(&m))
			err = read_mapping(r, &m);
	fclose(f);
	return err;
}

static uint64_t max_mappings(void)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "re");
	uint64_t v = 65530;

	if (f && fscanf(f, "%" SCNu64, &v) != 1)
		v = 65530;
	if (f)
		fclose(f);
	return v;
}

int estimate_add(struct estimate *e, pid_t pid)
{
	struct estimate_process *v;
	struct reader *r;
	uint64_t begin = cpu_ns();
	int err;

	for (size_t i = 0; i < e->nr_processes; i++)
		if (e->process[i].pid == pid)
			return 0;
	v = realloc(e->process, (e->nr_processes + 1) * sizeof(*v));
	r = malloc(sizeof(*r));
	if (v)
		e->process = v;
	if (!v || !r) {
		free(r);
		return -ENOMEM;
	}
	e->process[e->nr_processes++] =
		(struct estimate_process){ .pid = pid, .max_mappings = max_mappings() };
	r->e = e;
	r->mem = open_of(pid, "mem");
	r->pagemap = open_of(pid, "pagemap");
	err = r->mem < 0 ? r->mem : r->pagemap < 0 ? r->pagemap : read_process(r, pid);
	if (r->mem >= 0)
		close(r->mem);
	if (r->pagemap >= 0)
		close(r->pagemap);
	free(r);
	e->read_ns += cpu_ns() - begin;
	return err;
}

/* ---- comparing ---- */

static int by_hash(const void *a, const void *b, void *pages)
{
	const struct page *p = pages;
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	if (p[x].hash != p[y].hash)
		return p[x].hash < p[y].hash ? -1 : 1;
	return x < y ? -1 : x > y;
}

/* Pages that go when `nr` equal ones share frames. */
static uint64_t saved(uint64_t nr)
{
	return nr - (nr + SHARERS - 1) / SHARERS;
}

/* Equal pages: index[from] to index[to - 1]. Those of one process follow each other. */
static void take_group(struct estimate *e, const uint32_t *index, size_t from, size_t to,
		       struct estimate_result *r)
{
	size_t begin = from;

	r->saved += saved(to - from);
	for (size_t i = from; i < to; i++) {
		struct page *p = &e->page[index[i]];

		if (to - from > 1) {
			p->first = index[from];
			e->process[p->process].mergeable++;
		}
		if (i + 1 == to || e->page[index[i + 1]].process != p->process) {
			r->alone += saved(i + 1 - begin);
			begin = i + 1;
		}
	}
}

/* Would page i, with the one before it in the same process, need another mapping? */
static bool parts(const struct estimate *e, size_t i)
{
	const struct page *p = &e->page[i], *before = p - 1;

	if (!i || before->process != p->process || before->pn + 1 != p->pn)
		return p->first != NONE;
	if (p->first == NONE || before->first == NONE)
		return p->first != before->first;
	return p->first != before->first + 1;
}

static void sum_up(struct estimate *e, struct estimate_result *r)
{
	uint64_t frames;

	for (size_t i = 0; i < e->nr; i++) {
		struct estimate_process *p = &e->process[e->page[i].process];

		p->pages++;
		p->zero += e->page[i].zero;
		p->on_frames += e->page[i].on_frame;
		p->mappings += parts(e, i);
	}
	for (size_t i = 0; i < e->nr_processes; i++) {
		r->pages += e->process[i].pages;
		r->zero += e->process[i].zero;
		r->mergeable += e->process[i].mergeable;
		r->mappings += e->process[i].mappings;
	}
	frames = r->mergeable - r->saved;
	r->metadata =
		r->pages * PAGE_RECORD + frames * FRAME_RECORD + r->mappings * KERNEL_VMA_BYTES;
	r->merge_ns = r->mergeable * MERGE_PAGE_NS + r->mappings * MERGE_MAPPING_NS;
}

int estimate_result(struct estimate *e, struct estimate_result *r)
{
	uint64_t begin = cpu_ns();
	uint32_t *index = malloc(e->nr * sizeof(*index) + 1);

	*r = (struct estimate_result){ .v = e->process, .nr = e->nr_processes };
	if (!index)
		return -ENOMEM;
	for (size_t i = 0; i < e->nr; i++) {
		index[i] = (uint32_t)i;
		e->page[i].first = NONE;
	}
	for (size_t i = 0; i < e->nr_processes; i++)
		e->process[i] =
			(struct estimate_process){ .pid = e->process[i].pid,
						   .max_mappings = e->process[i].max_mappings };
	qsort_r(index, e->nr, sizeof(*index), by_hash, e->page);
	for (size_t from = 0, to; from < e->nr; from = to) {
		to = from + 1;
		while (to < e->nr && e->page[index[to]].hash == e->page[index[from]].hash)
			to++;
		take_group(e, index, from, to, r);
	}
	free(index);
	sum_up(e, r);
	r->read_ns = e->read_ns + cpu_ns() - begin;
	return 0;
}

/* ---- for people ---- */

static double mib(uint64_t pages)
{
	return (double)pages * KSM_PAGE_SIZE / MIB;
}

static void print_processes(const struct estimate_result *r, FILE *f)
{
	fprintf(f, "%8s %12s %12s %12s %10s\n", "PID", "READ", "WITH A LIKE", "ON FRAMES",
		"MAPPINGS");
	for (size_t i = 0; i < r->nr; i++) {
		const struct estimate_process *p = &r->v[i];

		fprintf(f, "%8d %8.1f MiB %8.1f MiB %8.1f MiB %10" PRIu64 "%s\n", (int)p->pid,
			mib(p->pages), mib(p->mergeable), mib(p->on_frames), p->mappings,
			p->mappings > p->max_mappings * BUDGET_PERCENT / 100 ?
				"  beyond its budget: see vm.max_map_count" :
				"");
	}
}

void estimate_print(const struct estimate_result *r, void *file)
{
	int64_t net = (int64_t)(r->saved * KSM_PAGE_SIZE) - (int64_t)r->metadata;
	FILE *f = file;

	print_processes(r, f);
	fprintf(f,
		"saved     %.1f MiB net, at most: %.1f MiB of memory less %.1f MiB for records "
		"and mappings\n",
		(double)net / MIB, mib(r->saved), (double)r->metadata / MIB);
	if (r->nr > 1)
		fprintf(f,
			"          %.1f MiB of it within single processes, %.1f MiB between them\n",
			mib(r->alone), mib(r->saved - r->alone));
	fprintf(f, "          %.1f MiB of what was read are zeros\n", mib(r->zero));
	fprintf(f, "mappings  %" PRIu64 " more\n", r->mappings);
	fprintf(f, "CPU       %.2f s for a first pass, about %.2f s for merging\n",
		(double)r->read_ns / 1e9, (double)r->merge_ns / 1e9);
	fputs("Pages that are written all the time are counted, and would not be merged.\n", f);
}
