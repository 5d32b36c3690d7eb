/* SPDX-License-Identifier: MIT */
/*
 * bench_worker.c - a process whose memory is merged.
 *
 * ksm-bench re-executes itself as `ksm-bench --worker FD` and commands the copy over a socketpair: a
 * fresh process image has no memory in common with its parent by fork, which would spoil both
 * page counts and PSS. The worker remembers a content number for each page and can therefore check every
 * byte at any time.
 *
 * The prober is a thread that touches random pages and takes the time of each touch. It touches in
 * short bursts, because a prober that never sleeps takes a CPU away from the merging that it watches, and
 * then times the scheduler. Its stores write back the byte that is there. It runs in rounds of its
 * own, since its stores un-merge pages.
 */
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ksm.h"

enum {
	WORDS = BENCH_PAGE / 8,
	HUGE_BYTES = 2 << 20,
	PROBE_LOADS = 63,      /* per burst */
	PROBE_STORE_EVERY = 4, /* bursts: a store un-merges a page, so few of them */
	PROBE_PAUSE_NS = 50000,
	CONNECT_TIMEOUT_MS = 10000,
};

struct worker {
	const struct workload *workload;
	unsigned char *mem;
	uint64_t *content; /* of each page */
	uint64_t nr_pages;
	uint32_t proc, side;
	uint64_t next_content; /* for rewrites: numbers that nobody else uses */

	pthread_t prober;
	bool probing;
	atomic_bool probe_stop;
	atomic_uint probe_generation; /* a change makes the prober forget what it has seen */
	pid_t prober_tid;
	struct hist hist[2];
	pthread_mutex_t lock; /* hist, prober_tid */
};

/* Pages of different numbers differ in their first word already: multiplication by an odd number. */
static void page_fill(uint64_t *p, uint64_t content)
{
	uint64_t x = content * 0x9e3779b97f4a7c15ull;

	if (!content) {
		memset(p, 0, BENCH_PAGE);
		return;
	}
	for (int i = 0; i < WORDS; i++) {
		p[i] = x;
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
}

static bool page_right(const uint64_t *p, uint64_t content)
{
	uint64_t want[WORDS];

	page_fill(want, content);
	return !memcmp(p, want, BENCH_PAGE);
}

static uint64_t *page(const struct worker *w, uint64_t i)
{
	return (uint64_t *)(w->mem + i * BENCH_PAGE);
}

static int worker_setup(struct worker *w, const struct worker_cmd *c)
{
	size_t len = c->nr_pages * BENCH_PAGE;
	unsigned char *m;

	w->workload = &workloads[c->workload];
	w->nr_pages = c->nr_pages;
	w->proc = c->proc;
	w->side = c->side;
	w->next_content = (1ull << 40) * (c->proc + 1);
	m = mmap(NULL, len + HUGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		 0);
	if (m == MAP_FAILED)
		return errno;
	/* Page tables and huge pages alike in all processes and on both sides. */
	w->mem = (unsigned char *)(((uintptr_t)m + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
	if (madvise(m, len + HUGE_BYTES, w->workload->huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE))
		return errno;
	w->content = malloc(c->nr_pages * sizeof(*w->content));
	if (!w->content)
		return ENOMEM;
	for (uint64_t i = 0; i < w->nr_pages; i++) {
		w->content[i] = workload_content(w->workload, w->proc, i, w->nr_pages);
		page_fill(page(w, i), w->content[i]);
	}
	return 0;
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static int wait_connected(uint64_t deadline)
{
	struct ksm_stat st = { .size = sizeof(st) };

	for (;;) {
		if (!ksm_stat(&st) && st.connected && st.mergeable)
			return 0;
		if (now_ns() > deadline)
			return ETIMEDOUT;
		usleep(1000);
	}
}

static int worker_register(struct worker *w, struct worker_reply *r)
{
	size_t len = w->nr_pages * BENCH_PAGE;
	uint64_t wall = now_ns(), cpu = thread_cpu_ns();
	int err;

	if (w->side == SIDE_KERNEL)
		err = madvise(w->mem, len, MADV_MERGEABLE);
	else
		err = ksm_madvise(w->mem, len, MADV_MERGEABLE);
	err = err ? errno : 0;
	r->v[0] = thread_cpu_ns() - cpu;
	if (!err && w->side == SIDE_USER)
		err = wait_connected(wall + CONNECT_TIMEOUT_MS * 1000000ull);
	r->v[1] = now_ns() - wall;
	return err;
}

static uint64_t random_next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static void probe_burst(struct worker *w, uint64_t *rnd, bool store, struct hist hist[2])
{
	for (int i = 0; i < PROBE_LOADS; i++) {
		volatile unsigned char *p = (void *)page(w, random_next(rnd) % w->nr_pages);
		uint64_t t = now_ns();

		(void)*p;
		hist_add(&hist[0], now_ns() - t);
	}
	if (store) {
		volatile uint64_t *p = page(w, random_next(rnd) % w->nr_pages);
		uint64_t word = *p, t = now_ns();

		*p = word;
		hist_add(&hist[1], now_ns() - t);
	}
}

static void *prober_main(void *arg)
{
	struct worker *w = arg;
	const struct timespec pause = { .tv_nsec = PROBE_PAUSE_NS };
	uint64_t rnd = 0x1234567ull + w->proc;
	unsigned int generation = 0;

	prctl(PR_SET_TIMERSLACK, 1);
	pthread_mutex_lock(&w->lock);
	w->prober_tid = (pid_t)syscall(SYS_gettid);
	for (uint64_t n = 0; !atomic_load(&w->probe_stop); n++) {
		/* The lock is only contended when the parent fetches the result. */
		if (atomic_load(&w->probe_generation) != generation) {
			generation = atomic_load(&w->probe_generation);
			memset(w->hist, 0, sizeof(w->hist));
		}
		probe_burst(w, &rnd, n % PROBE_STORE_EVERY == 0, w->hist);
		pthread_mutex_unlock(&w->lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&w->lock);
	}
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

static int worker_probe(struct worker *w, uint32_t what, struct worker_reply *r)
{
	int err = 0;

	switch (what) {
	case 0:
		if (!w->probing)
			break;
		atomic_store(&w->probe_stop, true);
		pthread_join(w->prober, NULL);
		w->probing = false;
		break;
	case 1:
		if (w->probing)
			break;
		atomic_store(&w->probe_stop, false);
		err = pthread_create(&w->prober, NULL, prober_main, w);
		w->probing = !err;
		break;
	case 2:
		atomic_fetch_add(&w->probe_generation, 1);
		break;
	}
	pthread_mutex_lock(&w->lock);
	memcpy(r->hist, w->hist, sizeof(r->hist));
	pthread_mutex_unlock(&w->lock);
	return err;
}

/* Rewrite 1 % of the pages with bytes that nobody else has. */
static int worker_dirty(struct worker *w, uint32_t salt, struct worker_reply *r)
{
	uint64_t rnd = salt * 0x9e3779b97f4a7c15ull + w->proc + 1, n = w->nr_pages / 100,
		 t = now_ns();

	for (uint64_t i = 0; i < n; i++) {
		uint64_t k = random_next(&rnd) % w->nr_pages;

		w->content[k] = w->next_content++;
		page_fill(page(w, k), w->content[k]);
	}
	r->v[0] = n;
	r->v[1] = now_ns() - t;
	return 0;
}

/*
 * Whether a page is merged now. ksmd-user's frames are file pages (bit 61 of pagemap); the kernel's KSM
 * pages say so in /proc/kpageflags only (root). A zero page given back is a hole or the zero page.
 */
static bool page_merged(struct worker *w, int pagemap, int kpageflags, uint64_t i)
{
	enum { PM_PRESENT = 63, PM_FILE = 61, KPF_KSM = 21, KPF_ZERO_PAGE = 24 };
	uint64_t e, flags = 0;
	off_t at = (off_t)((uintptr_t)page(w, i) / BENCH_PAGE * sizeof(e));

	if (pread(pagemap, &e, sizeof(e), at) != (ssize_t)sizeof(e))
		return false;
	if (!(e >> PM_PRESENT & 1))
		return w->workload->zero;
	if (e >> PM_FILE & 1)
		return true;
	e &= (1ull << 55) - 1;
	if (!e ||
	    pread(kpageflags, &flags, sizeof(flags), (off_t)(e * 8)) != (ssize_t)sizeof(flags))
		return false;
	return flags >> KPF_KSM & 1 || (w->workload->zero && flags >> KPF_ZERO_PAGE & 1);
}

/* Time single writes to merged pages, spread evenly over the memory. */
static int worker_cow(struct worker *w, uint32_t writes, struct worker_reply *r)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int kpageflags = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t step = w->nr_pages / writes;

	for (uint64_t i = 0; i < w->nr_pages && r->v[0] < writes; i++) {
		volatile uint64_t *p = page(w, i);
		uint64_t word, t;

		if (!page_merged(w, pagemap, kpageflags, i))
			continue;
		word = *p;
		t = now_ns();
		*p = word;
		hist_add(&r->hist[0], now_ns() - t);
		r->v[0]++;
		i += step - 1;
	}
	close(pagemap);
	if (kpageflags >= 0)
		close(kpageflags);
	return 0;
}

static int worker_verify(struct worker *w, struct worker_reply *r)
{
	for (uint64_t i = 0; i < w->nr_pages; i++) {
		if (page_right(page(w, i), w->content[i]))
			continue;
		if (!r->v[0]++)
			r->v[1] = i;
	}
	return 0;
}

static int worker_touch(struct worker *w)
{
	for (uint64_t i = 0; i < w->nr_pages; i++)
		(void)*(volatile uint64_t *)page(w, i);
	return 0;
}

static int worker_do(struct worker *w, const struct worker_cmd *c, struct worker_reply *r)
{
	switch (c->op) {
	case WOP_SETUP:
		return worker_setup(w, c);
	case WOP_REGISTER:
		return worker_register(w, r);
	case WOP_PROBE:
		return worker_probe(w, c->arg, r);
	case WOP_DIRTY:
		return worker_dirty(w, c->arg, r);
	case WOP_COW:
		return worker_cow(w, c->arg, r);
	case WOP_TOUCH:
		return worker_touch(w);
	case WOP_VERIFY:
		return worker_verify(w, r);
	}
	return EINVAL;
}

int worker_main(int fd)
{
	static struct worker w = { .lock = PTHREAD_MUTEX_INITIALIZER };
	static struct worker_reply r;
	struct worker_cmd c;

	while (recv(fd, &c, sizeof(c), 0) == (ssize_t)sizeof(c)) {
		memset(&r, 0, sizeof(r));
		r.op = c.op;
		r.error = worker_do(&w, &c, &r);
		r.tid[0] = getpid();
		pthread_mutex_lock(&w.lock);
		r.tid[1] = w.prober_tid;
		pthread_mutex_unlock(&w.lock);
		if (send(fd, &r, sizeof(r), MSG_NOSIGNAL) != (ssize_t)sizeof(r))
			return 1;
	}
	return 0;
}
