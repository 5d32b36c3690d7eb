/* SPDX-License-Identifier: MIT */
/*
 * prober.c - a thread that feels what merging does to a program's own threads.
 *
 * The prober touches memory that is being merged, and takes the time of each touch. Four properties
 * make its figures mean something.
 *
 * Even: bursts start by an absolute clock, every `period` on average and with jitter. So they
 * neither follow the rhythm of what they watch nor drift. The longest time without a burst is kept.
 *
 * Light: a prober that never sleeps takes a CPU away from the merging that it watches, and then
 * times the scheduler. This one sleeps for four fifths of the time.
 *
 * Controlled: after each touch comes one of control memory, which is private to the process and
 * never offered. Preemption, interrupts and TLB shootdowns hit both alike, so merging causes what
 * the control does not see. A store breaks copy-on-write in the control as well, which maps a file
 * privately. It would otherwise be so much shorter than a store to a merged page that it would be
 * preempted less often.
 *
 * On memory that is really merged: loads go to random pages. A store un-merges the page that it
 * hits, and a page that is stored to in every pass is never merged. So a walk stores once to each
 * page before it comes to any page again. Small processes get more probers that are slower
 * (stalls.c). A store writes back the word that is there.
 */
#include "prober.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/span.h"
#include "config.h"
#include "rand.h"

enum {
	PROBE_LOADS = 4,      /* per burst, beside one store */
	CONTROL_PAGES = 2048, /* stored to once each, then taken from the file again */
};

struct prober {
	unsigned char *mem, *control;
	uint64_t nr_pages, period;
	uint64_t rnd, store_at, stride, control_at;
	pthread_t thread;
	atomic_bool stop, forget;
	atomic_int tid;
	/* The prober's thread owns these until it is joined. */
	struct probes seen;
	uint64_t last;
};

static void time_load(struct hist *h, const unsigned char *p)
{
	uint64_t t = clock_ns();

	(void)*(const volatile unsigned char *)p;
	hist_add(h, clock_ns() - t);
}

/* The load before the store is not timed: it brings in what a program that stores has looked at. */
static void time_store(struct hist *h, unsigned char *p)
{
	volatile uint64_t *word = (volatile uint64_t *)(void *)p;
	uint64_t was = *word, t = clock_ns();

	*word = was;
	hist_add(h, clock_ns() - t);
}

static int control_arm(struct prober *p)
{
	size_t len = (size_t)CONTROL_PAGES * BENCH_PAGE;

	if (madvise(p->control, len, MADV_DONTNEED) || madvise(p->control, len, MADV_POPULATE_READ))
		return errno;
	return 0;
}

static void burst(struct prober *p)
{
	for (int i = 0; i < PROBE_LOADS; i++) {
		uint64_t page = xorshift(&p->rnd) % p->nr_pages,
			 control = xorshift(&p->rnd) % CONTROL_PAGES;

		time_load(&p->seen.hist[PROBE_LOAD], p->mem + page * BENCH_PAGE);
		time_load(&p->seen.hist[PROBE_CONTROL_LOAD], p->control + control * BENCH_PAGE);
	}
	p->store_at = (p->store_at + p->stride) % p->nr_pages;
	time_store(&p->seen.hist[PROBE_STORE], p->mem + p->store_at * BENCH_PAGE);
	if (p->control_at == CONTROL_PAGES) {
		control_arm(p); /* as it did at the start, or stores become cheap */
		p->control_at = 0;
	}
	time_store(&p->seen.hist[PROBE_CONTROL_STORE], p->control + p->control_at++ * BENCH_PAGE);
	p->seen.bursts++;
}

/* Sleep until the next burst is due. A burst that is overdue is not made up for. */
static void pause_until(struct prober *p, uint64_t *due)
{
	uint64_t now = clock_ns();
	struct timespec ts;

	*due += p->period / 2 + xorshift(&p->rnd) % p->period;
	if (*due < now)
		*due = now;
	ts.tv_sec = (time_t)(*due / 1000000000);
	ts.tv_nsec = (long)(*due % 1000000000);
	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL);
}

static void *prober_main(void *arg)
{
	struct prober *p = arg;
	uint64_t due = clock_ns();

	prctl(PR_SET_TIMERSLACK, 1);
	atomic_store(&p->tid, (int)syscall(SYS_gettid));
	p->last = due;
	while (!atomic_load(&p->stop)) {
		uint64_t now = clock_ns();

		if (atomic_exchange(&p->forget, false)) {
			memset(&p->seen, 0, sizeof(p->seen));
		} else {
			p->seen.gap_ns = u64_max(p->seen.gap_ns, now - p->last);
		}
		p->last = now;
		burst(p);
		pause_until(p, &due);
	}
	return NULL;
}

static int control_map(struct prober *p)
{
	size_t len = (size_t)CONTROL_PAGES * BENCH_PAGE;
	int fd = memfd_create("ksm-bench control", MFD_CLOEXEC), err = 0;

	if (fd < 0)
		return errno;
	if (ftruncate(fd, (off_t)len)) {
		err = errno;
	} else {
		p->control = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		if (p->control == MAP_FAILED)
			err = errno;
	}
	close(fd);
	if (err || !p->control) {
		p->control = NULL;
		return err;
	}
	for (uint64_t i = 0; i < CONTROL_PAGES; i++) /* fill the file's holes, once */
		(void)*(volatile unsigned char *)(p->control + i * BENCH_PAGE);
	return control_arm(p);
}

static void prober_free(struct prober *p)
{
	if (p->control)
		munmap(p->control, (size_t)CONTROL_PAGES * BENCH_PAGE);
	free(p);
}

int prober_start(struct prober **out, unsigned char *mem, uint64_t nr_pages, uint32_t period_ns,
		 uint32_t seed)
{
	struct prober *p = calloc(1, sizeof(*p));
	int err;

	if (!p)
		return ENOMEM;
	p->mem = mem;
	p->nr_pages = nr_pages;
	p->period = period_ns;
	p->rnd = 0x1234567ull + seed;
	p->store_at = xorshift(&p->rnd) % nr_pages;
	/*
	 * Near the golden section: neighbours in time are far apart, and the walk meets every page.
	 */
	p->stride = stride_from((uint64_t)((double)nr_pages * 0.618) | 1, nr_pages);
	err = control_map(p);
	err = err ? err : pthread_create(&p->thread, NULL, prober_main, p);
	if (err) {
		prober_free(p);
		return err;
	}
	*out = p;
	return 0;
}

void prober_forget(struct prober *p)
{
	if (p)
		atomic_store(&p->forget, true);
}

void prober_stop(struct prober **out, struct probes *seen)
{
	struct prober *p = *out;

	if (!p)
		return;
	*out = NULL;
	atomic_store(&p->stop, true);
	pthread_join(p->thread, NULL);
	*seen = p->seen;
	prober_free(p);
}

pid_t prober_tid(struct prober *p)
{
	return p ? atomic_load(&p->tid) : 0;
}
