/* SPDX-License-Identifier: MIT */
/*
 * area.c - memory of an actor, its shadow, and the comparison of the two.
 *
 * This file uses no stdio, and no malloc except for areas that are malloc's: children of raw clones
 * come here.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/torture/actor.h"

/* Contents that every actor uses. Runs of them start at few places, so that runs of frames meet. */
#define COMMON 96u
#define RUN_STARTS 4u
#define CONTENT_OWN (1ull << 40)

static uint64_t pick_content(void)
{
	uint64_t kind = dice(100), id = 1 + dice(12);

	if (kind < 50)
		return id;
	if (kind < 70)
		return 0;
	if (kind < 90)
		return id | (1 + dice(7)) << 56; /* all but one byte of a common page */
	return CONTENT_OWN | (rnd(&me->seed) >> 24);
}

/* Bytes of another page of this process, as the shadow has them. */
static bool copy_of_mine(uint8_t *page)
{
	const struct area *a = &world->area[dice(AREAS)];

	if (!a->pages || a->owner != me->index)
		return false;
	memcpy(page, a->shadow + dice(a->pages) * PG, PG);
	return true;
}

void make_content(const struct piece *p, uint8_t *buf)
{
	bool run = odds(50);
	uint64_t start = 100 + dice(RUN_STARTS) * COMMON;

	for (uint32_t i = 0; i < p->nr; i++) {
		uint8_t *page = buf + i * PG;

		if (run)
			content_fill(page, start + i % COMMON);
		else if (!odds(15) || !copy_of_mine(page))
			content_fill(page, pick_content());
	}
}

void shadow_store(const struct piece *p, const uint8_t *buf)
{
	for (uint32_t i = 0; i < p->nr; i++)
		memcpy(piece_shadow(p) + i * PG + p->off, buf + i * PG + p->off, p->len);
}

/* ---- comparing ---- */

static bool is_zero(const uint8_t *p, size_t len)
{
	return !p[0] && !memcmp(p, p + 1, len - 1);
}

_Noreturn static void fail_bytes(struct area *a, uint32_t page, uint32_t off)
{
	uint8_t found[PG];
	struct failure *f = &ctl->fail;

	memcpy(found, a->mem + page * PG, PG);
	if (failure_begin()) {
		f->kind = FAIL_BYTES;
		f->pid = getpid();
		f->tid = (int)syscall(SYS_gettid);
		f->seat = world->seat;
		f->thread = (int)me->index;
		f->addr = (uintptr_t)a->mem + page * PG;
		f->aux = off;
		f->area = (uint32_t)(a - world->area);
		f->page = page;
		memcpy(f->expected, a->shadow + page * PG, PG);
		memcpy(f->found, found, PG);
		failure_end();
	}
	raise(SIGSTOP); /* to be examined */
	_exit(1);
}

static uint32_t first_difference(const uint8_t *p, const uint8_t *q, uint32_t len)
{
	uint32_t i = 0;

	while (i < len && p[i] == q[i])
		i++;
	return i;
}

static void check_page(struct area *a, uint32_t i, uint32_t off, uint32_t len)
{
	const uint8_t *mem = a->mem + i * PG + off, *shadow = a->shadow + i * PG + off;

	if (a->flag[i] & (PF_HOLE | PF_NONE))
		return;
	my_seat()->checks++;
	my_seat()->checked_bytes += len;
	if (!memcmp(mem, shadow, len) || ((a->flag[i] & PF_LAZY) && is_zero(mem, len)))
		return;
	fail_bytes(a, i, off + first_difference(mem, shadow, len));
}

bool area_mine(const struct area *a)
{
	return a->pages && (world->solo || a->owner == me->index);
}

void check_pages(struct area *a, uint32_t first, uint32_t nr, bool all)
{
	for (uint32_t i = first; i < first + nr; i++) {
		if (all || area_mine(a)) {
			check_page(a, i, 0, PG);
		} else {
			check_page(a, i, me->index * SECTOR, SECTOR);
			check_page(a, i, THREADS * SECTOR, PG - THREADS * SECTOR);
		}
	}
}

void check_all(void)
{
	for (unsigned int i = 0; i < AREAS; i++) {
		struct area *a = &world->area[i];

		if (!a->pages || !(area_mine(a) || a->owner == AREA_SHARED))
			continue;
		if (world->solo) {
			check_pages(a, 0, a->pages, true);
		} else {
			area_lock(a, false);
			check_pages(a, 0, a->pages, false);
			area_unlock(a, false);
		}
		beat();
	}
}

void resolve_lazy(struct area *a, uint32_t first, uint32_t nr)
{
	for (uint32_t i = first; i < first + nr; i++) {
		uint8_t *mem = a->mem + i * PG, *shadow = a->shadow + i * PG;

		if (!(a->flag[i] & PF_LAZY) || (a->flag[i] & PF_NO_STORE))
			continue;
		*(volatile uint8_t *)mem = shadow[0];
		if (mem[1] != shadow[1] || memcmp(mem, shadow, PG)) {
			memset(shadow + 1, 0, PG - 1);
			check_page(a, i, 0, PG);
		}
		a->flag[i] &= (uint8_t)~PF_LAZY;
	}
}

int page_on_file(const void *addr)
{
	uint64_t e = 0;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ssize_t n = -1;

	if (fd >= 0) {
		n = pread(fd, &e, sizeof(e), (off_t)((uintptr_t)addr / PG * sizeof(e)));
		close(fd);
	}
	return n == (ssize_t)sizeof(e) ? (e >> 63) && (e >> 61 & 1) : -1;
}

/* ---- making and dropping ---- */

static uint32_t pick_size(void)
{
	uint64_t kind = dice(100);

	if (kind < 15)
		return 1 + (uint32_t)dice(15); /* too small for ksm-run to offer by itself */
	if (kind < 80)
		return 16 + (uint32_t)dice(ctl->small ? 48 : 240);
	if (ctl->small)
		return 64 + (uint32_t)dice(AREA_SMALL - 64);
	return 512 + (uint32_t)dice(AREA_PAGES - 512);
}

static void fill(struct area *a)
{
	struct piece p = { .a = a, .off = 0, .len = PG };

	while (p.first < a->pages) {
		p.nr = a->pages - p.first < BUF_PAGES ? a->pages - p.first : BUF_PAGES;
		make_content(&p, me->buf);
		if (odds(85)) { /* the rest stays untouched: zeros */
			memcpy(piece_mem(&p), me->buf, piece_bytes(&p));
			shadow_store(&p, me->buf);
		}
		p.first += p.nr;
	}
}

bool area_make(unsigned int i, uint8_t owner, bool heap)
{
	struct area *a = &world->area[i];
	uint32_t pages = heap ? 8 + (uint32_t)dice(120) : pick_size();
	void *mem = MAP_FAILED;

	if (!heap)
		mem = call_mmap(NULL, pages * PG, 0);
	else if (posix_memalign(&mem, PG, pages * PG))
		mem = MAP_FAILED;
	if (mem == MAP_FAILED)
		return false;
	a->mem = mem;
	a->owner = owner;
	a->heap = heap;
	memset(a->flag, 0, sizeof(a->flag));
	memset(a->shadow, 0, pages * PG);
	if (heap)
		memset(mem, 0, pages * PG);
	a->pages = pages;
	fill(a);
	if (!heap && odds(calls_are_plain ? 40 : 95) &&
	    call_madvise(mem, pages * PG, MADV_MERGEABLE))
		fail_call("madvise MERGEABLE on a new area", errno);
	return true;
}

void area_drop(struct area *a)
{
	uint32_t pages = a->pages;

	a->pages = 0;
	if (a->heap) {
		free(a->mem);
		return;
	}
	for (uint32_t i = 0, k; i < pages; i = k + 1) {
		for (k = i; k < pages && !(a->flag[k] & PF_HOLE); k++)
			;
		if (k > i && call_munmap(a->mem + i * PG, (k - i) * PG))
			fail_call("munmap of an area", errno);
	}
}

void areas_after_fork(bool seen)
{
	for (unsigned int n = 0; n < AREAS; n++) {
		struct area *a = &world->area[n];

		atomic_store(&a->lock, 0);
		for (uint32_t i = 0; i < a->pages; i++) {
			/*
			 * Known limit: where a page broke copy-on-write, a child that the library
			 * does not see finds nothing in place of zeros.
			 */
			if (a->flag[i] & (seen ? PF_DONTFORK : PF_DONTFORK | PF_WIPE))
				a->flag[i] = PF_HOLE;
			if (a->flag[i] & PF_WIPE) {
				memset(a->shadow + i * PG, 0, PG);
				a->flag[i] &= (uint8_t)~PF_LAZY;
			}
			a->flag[i] &= (uint8_t)~PF_LOCKED;
		}
	}
}
