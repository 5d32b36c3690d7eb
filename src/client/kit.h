/* SPDX-License-Identifier: MIT */
/*
 * kit.h - the descriptors and buffers with which the agent replaces pages.
 *
 * The tools (txn.h, inplace.h, unshare.h, hold.h, uffd.h) get a kit and know nothing of the thread,
 * the connection or the program threads. A kit is touched by its owner alone, so no lock covers it.
 */
#ifndef KSM_KIT_H
#define KSM_KIT_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <time.h>

#include "client/sysc.h"
#include "wire/wire.h"

/* Bytes of an order's pages, and of the staging area. */
#define KIT_ORDER_BYTES ((size_t)KSM_ORDER_PAGES * KSM_PAGE_SIZE)

/*
 * Invariant: every descriptor is -1 or open in the private table of `owner`; a kit without an owner
 * has none. uffd_sync and staging come together: staging is registered in uffd_sync for missing
 * pages, and between transactions it is empty and PROT_NONE (staging.c). No part of a kit is
 * inherited: the buffers are MADV_DONTFORK, and a child begins with KIT_NONE.
 */
struct kit {
	int32_t owner; /* ID of the agent's thread; 0: none runs */
	int sigfd;     /* signals of program threads that wake the agent */
	int mem, pagemap, maps;
	int uffd_async;   /* WP_ASYNC: change tracking; every offered range is registered here */
	int uffd_sync;    /* MISSING and WP: makes threads wait during a transaction */
	bool event_fork;  /* uffd_sync tells of forks */
	bool urgent;      /* the agent has a real-time priority: urgent.h */
	int priority;     /* the highest of the program's threads; 0: none is real-time */
	uint64_t look_ms; /* when to look again for that */
	/* The kernel promises no more memory than there is: vm.overcommit_memory, looked at again
	 * with every INFO. */
	bool commit_limited;
	uint8_t unshared_orders; /* the last ones, none of whose pages a fork shared: txn.c */
	bool may_inlay;          /* as the last look found; the next is due at inlay_ms */
	uint64_t inlay_ms;
	int arena;                        /* read-only; -1 between connections */
	uint64_t arena_file, arena_pages; /* of the newest connection; 0: there was none */
	uint8_t *staging;                 /* KIT_ORDER_BYTES: pages that are out of the program */
	uint8_t *buf; /* twice KIT_ORDER_BYTES: frames and memory are read here to be compared */
};

#define KIT_NONE                                                                                   \
	{                                                                                          \
		.sigfd = -1, .mem = -1, .pagemap = -1, .maps = -1, .uffd_async = -1,               \
		.uffd_sync = -1, .arena = -1                                                       \
	}

/* Private memory for the library's own use, never offered. NULL: there is none. */
static inline void *kit_map(size_t len)
{
	long r = sysc6(SYS_mmap, 0, (long)len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	return sysc_failed(r) ? NULL : (void *)r;
}

/* Close *fd if it is open; it is -1 afterwards. */
static inline void kit_close(int *fd)
{
	if (*fd >= 0)
		sysc1(SYS_close, *fd);
	*fd = -1;
}

/* Give the buffers back; which arena was the newest stays known. Descriptors are the caller's. */
static inline void kit_end(struct kit *k)
{
	struct kit none = KIT_NONE;

	if (k->buf)
		sysc2(SYS_munmap, k->buf, 2 * KIT_ORDER_BYTES);
	if (k->staging)
		sysc2(SYS_munmap, k->staging, KIT_ORDER_BYTES);
	none.arena_file = k->arena_file;
	none.arena_pages = k->arena_pages;
	*k = none;
}

/* Monotonic time, without the C library. */
static inline uint64_t kit_now_ms(void)
{
	struct timespec ts = { 0 };

	sysc2(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* Address of page i of an order. */
static inline uint64_t order_page(const struct ksm_msg_order *m, unsigned int i)
{
	return m->addr + (uint64_t)i * KSM_PAGE_SIZE;
}

/* What to answer for a page where the kernel has refused with this negative errno. */
static inline enum ksm_res order_result(long err)
{
	switch (err) {
	case -EBUSY:
		return KSM_RES_BUSY;
	case -ENOMEM:
		return KSM_RES_NOMEM;
	default: /* ENOENT: a hole; EINVAL: mlocked, other protection key */
		return KSM_RES_GONE;
	}
}

#endif
