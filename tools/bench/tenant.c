/* SPDX-License-Identifier: MIT */
/*
 * tenant.c - a process whose memory is merged.
 *
 * ksm-bench executes itself again as `ksm-bench --tenant FD`, and commands the copy over a
 * socketpair. A fresh process image shares no memory with its parent; a forked one would, which
 * would spoil page counts and PSS. The tenant remembers a content number for each page, so it can
 * check every byte at any time.
 */
#include "tenant.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "churn.h"
#include "config.h"
#include "ksm.h"
#include "rand.h"

enum {
	WORDS = BENCH_PAGE / 8,
	HUGE_BYTES = 2 << 20,
	CONNECT_TIMEOUT_MS = 10000,
};

/* Of MANNER_SPARSE: half of what x86-64 gives a process without asking for more. */
#define SPARSE_BYTES (32ull << 40)

struct tenant {
	struct workload workload;
	unsigned char *mem;
	uint64_t stride;   /* bytes from a page to the next: BENCH_PAGE but where they are sparse */
	uint64_t *content; /* of each page */
	uint64_t nr_pages;
	uint32_t proc, side;
	uint64_t next_content; /* for rewrites: numbers that nobody else uses */
	struct prober *prober; /* NULL: none runs */
	struct churn *churn;   /* the same */
};

/* Pages of different numbers differ in their first word already: the factor is odd. */
static void page_fill(uint64_t *p, uint64_t content)
{
	uint64_t x = content * 0x9e3779b97f4a7c15ull;

	if (!content) {
		memset(p, 0, BENCH_PAGE);
		return;
	}
	for (int i = 0; i < WORDS; i++) {
		p[i] = x;
		xorshift(&x);
	}
}

static bool page_right(const uint64_t *p, uint64_t content)
{
	uint64_t want[WORDS];

	page_fill(want, content);
	return !memcmp(p, want, BENCH_PAGE);
}

static uint64_t *page(const struct tenant *w, uint64_t i)
{
	return (uint64_t *)(w->mem + i * w->stride);
}

static size_t length(const struct tenant *w)
{
	return w->nr_pages * w->stride;
}

static int tenant_setup(struct tenant *w, const struct tenant_cmd *c, struct tenant_reply *r)
{
	size_t len;
	unsigned char *m;

	w->workload = c->workload;
	w->nr_pages = c->nr_pages;
	w->stride = BENCH_PAGE;
	if (w->workload.manner == MANNER_SPARSE)
		w->stride = SPARSE_BYTES / w->nr_pages & ~(uint64_t)(HUGE_BYTES - 1);
	len = length(w);
	w->proc = c->proc;
	w->side = c->side;
	w->next_content = (1ull << 40) * (c->proc + 1);
	m = mmap(NULL, len + HUGE_BYTES, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (m == MAP_FAILED)
		return errno;
	/* Page tables and huge pages must be alike in all processes and on both sides. */
	w->mem = (unsigned char *)(((uintptr_t)m + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	if (madvise(m, len + HUGE_BYTES,
		    w->workload.manner == MANNER_HUGE ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		return errno;
	w->content = malloc(c->nr_pages * sizeof(*w->content));
	if (!w->content)
		return ENOMEM;
	for (uint64_t i = 0; i < w->nr_pages; i++) {
		w->content[i] = workload_content(w->workload.contents, w->proc, i, w->nr_pages);
		page_fill(page(w, i), w->content[i]);
	}
	r->v[0] = (uintptr_t)w->mem;
	r->v[1] = (uintptr_t)w->mem + len;
	return 0;
}

static int wait_connected(uint64_t deadline)
{
	struct ksm_stat st = { .size = sizeof(st) };

	for (;;) {
		if (!ksm_stat(&st) && st.connected && st.mergeable)
			return 0;
		if (clock_ns() > deadline)
			return ETIMEDOUT;
		usleep(1000);
	}
}

/* A child like any other tenant, which shares its memory with this one; fd is its socket. */
static int tenant_fork(struct tenant *w, const struct tenant_cmd *c, int *fd,
		       struct tenant_reply *r)
{
	pid_t pid = fork();

	if (pid < 0)
		return errno;
	if (pid) {
		r->v[0] = (uint64_t)pid;
		r->v[1] = (uintptr_t)w->mem;
		close((int)c->arg);
		return 0;
	}
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	*fd = (int)c->arg;
	close_range((unsigned int)*fd + 1, ~0u, 0); /* the parent's, and those of later children */
	w->proc = c->proc;
	return 0;
}

static int tenant_rewrite(struct tenant *w)
{
	for (uint64_t i = 0; i < w->nr_pages; i += 2)
		page_fill(page(w, i), w->content[i]);
	return 0;
}

static void rewrite_volatile(void *arg, uint64_t i)
{
	struct tenant *w = arg;

	if (!workload_volatile(w->workload.contents, i))
		return;
	w->content[i] = w->next_content++;
	page_fill(page(w, i), w->content[i]);
}

static int tenant_register(struct tenant *w, struct tenant_reply *r)
{
	size_t len = length(w);
	uint64_t wall = clock_ns(), cpu = clock_thread_cpu_ns();
	int err;

	if (w->side == SIDE_KERNEL)
		err = madvise(w->mem, len, MADV_MERGEABLE);
	else
		err = ksm_madvise(w->mem, len, MADV_MERGEABLE);
	err = err ? errno : 0;
	r->v[0] = clock_thread_cpu_ns() - cpu;
	if (!err && w->side == SIDE_USER)
		err = wait_connected(wall + CONNECT_TIMEOUT_MS * 1000000ull);
	r->v[1] = clock_ns() - wall;
	if (!err && w->workload.manner == MANNER_CHURN)
		err = churn_start(&w->churn, rewrite_volatile, w, w->nr_pages);
	return err;
}

static int tenant_probe(struct tenant *w, uint32_t arg, struct tenant_reply *r)
{
	switch (arg & 255) {
	case PROBE_STOP:
		prober_stop(&w->prober, &r->probes);
		break;
	case PROBE_START:
		return w->prober ? 0 :
				   prober_start(&w->prober, w->mem, w->nr_pages, (arg >> 8) * 1000,
						w->proc);
	case PROBE_FORGET:
		prober_forget(w->prober);
		break;
	}
	return 0;
}

/* Rewrite 1 % of the pages with bytes that no other page holds. */
static int tenant_dirty(struct tenant *w, uint32_t salt, struct tenant_reply *r)
{
	uint64_t rnd = salt * 0x9e3779b97f4a7c15ull + w->proc + 1, n = w->nr_pages / 100,
		 t = clock_ns();

	for (uint64_t i = 0; i < n; i++) {
		uint64_t k = xorshift(&rnd) % w->nr_pages;

		w->content[k] = w->next_content++;
		page_fill(page(w, k), w->content[k]);
	}
	r->v[0] = n;
	r->v[1] = clock_ns() - t;
	return 0;
}

/*
 * Whether a page is merged now. ksmd-user's frames are file pages (bit 61 of pagemap). The kernel's
 * KSM pages are marked in /proc/kpageflags only, which root can read. A zero page that was given
 * back is a hole or the zero page.
 */
static bool page_merged(struct tenant *w, int pagemap, int kpageflags, uint64_t i)
{
	enum { PM_PRESENT = 63, PM_FILE = 61, KPF_KSM = 21, KPF_ZERO_PAGE = 24 };
	bool zero = w->workload.contents == CONTENTS_ZERO;
	uint64_t e, flags = 0;
	off_t at = (off_t)((uintptr_t)page(w, i) / BENCH_PAGE * sizeof(e));

	if (pread(pagemap, &e, sizeof(e), at) != (ssize_t)sizeof(e))
		return false;
	if (!(e >> PM_PRESENT & 1))
		return zero;
	if (e >> PM_FILE & 1)
		return true;
	e &= (1ull << 55) - 1;
	if (!e ||
	    pread(kpageflags, &flags, sizeof(flags), (off_t)(e * 8)) != (ssize_t)sizeof(flags))
		return false;
	return flags >> KPF_KSM & 1 || (zero && flags >> KPF_ZERO_PAGE & 1);
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Time single writes to merged pages that are spread evenly over the memory. */
static int tenant_cow(struct tenant *w, uint32_t writes, struct tenant_reply *r)
{
	uint64_t *ns = calloc(writes, sizeof(*ns));
	int err = ns ? 0 : ENOMEM;
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t step = w->nr_pages / writes;

	for (uint64_t i = 0; ns && i < w->nr_pages && r->v[0] < writes; i++) {
		volatile uint64_t *p = page(w, i);
		uint64_t word, t;

		if (!page_merged(w, pagemap, kpageflags, i))
			continue;
		word = *p;
		t = clock_ns();
		*p = word;
		ns[r->v[0]++] = clock_ns() - t;
		i += step - 1;
	}
	if (r->v[0]) {
		qsort(ns, r->v[0], sizeof(*ns), compare);
		r->v[1] = ns[r->v[0] / 2];
	}
	close(pagemap);
	if (kpageflags >= 0)
		close(kpageflags);
	free(ns);
	return err;
}

static int tenant_verify(struct tenant *w, struct tenant_reply *r)
{
	churn_stop(&w->churn);
	for (uint64_t i = 0; i < w->nr_pages; i++) {
		if (page_right(page(w, i), w->content[i]))
			continue;
		if (!r->v[0]++)
			r->v[1] = i;
	}
	return 0;
}

static int tenant_touch(struct tenant *w)
{
	churn_stop(&w->churn);
	for (uint64_t i = 0; i < w->nr_pages; i++)
		(void)*(volatile uint64_t *)page(w, i);
	return 0;
}

static int tenant_do(struct tenant *w, const struct tenant_cmd *c, int *fd, struct tenant_reply *r)
{
	switch (c->op) {
	case TENANT_SETUP:
		return tenant_setup(w, c, r);
	case TENANT_FORK:
		return tenant_fork(w, c, fd, r);
	case TENANT_REWRITE:
		return tenant_rewrite(w);
	case TENANT_REGISTER:
		return tenant_register(w, r);
	case TENANT_PROBE:
		return tenant_probe(w, c->arg, r);
	case TENANT_DIRTY:
		return tenant_dirty(w, c->arg, r);
	case TENANT_COW:
		return tenant_cow(w, c->arg, r);
	case TENANT_TOUCH:
		return tenant_touch(w);
	case TENANT_VERIFY:
		return tenant_verify(w, r);
	}
	return EINVAL;
}

int tenant_main(int fd)
{
	static struct tenant w;
	static struct tenant_reply r;
	struct tenant_cmd c;

	while (recv(fd, &c, sizeof(c), 0) == (ssize_t)sizeof(c)) {
		memset(&r, 0, sizeof(r));
		r.op = c.op;
		r.error = tenant_do(&w, &c, &fd, &r);
		if (!r.v[0] && c.op == TENANT_FORK && !r.error)
			continue; /* the child: its parent answers */
		r.tid[0] = getpid();
		r.tid[1] = prober_tid(w.prober);
		r.tid[2] = churn_tid(w.churn);
		if (send(fd, &r, sizeof(r), MSG_NOSIGNAL) != (ssize_t)sizeof(r))
			return 1;
	}
	return 0;
}
