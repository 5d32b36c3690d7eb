/* SPDX-License-Identifier: MIT */
/*
 * node_memory.c - see node_memory.h.
 *
 * Slices are aligned to their size, so that a chunk's address tells its slice, whose head has the
 * rest. Many slices of a node lie side by side, and the kernel makes one mapping of them. So the
 * number of mappings, which is limited, stays small.
 */
#include "daemon/node_memory.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <urcu/list.h>

#include "base/bits.h"
#include "base/guard.h"
#include "base/span.h"
#include "wire/abi.h"

#define SLICE_BYTES ((size_t)2 << 20)
#define SLICE_HEAD ((size_t)KSM_PAGE_SIZE)
#define MAX_CHUNKS 512u

/* At the start of its memory. Under the lock. */
struct slice {
	struct cds_list_head list; /* of its node, if it has room; else it is in none */
	size_t bytes;              /* of each chunk */
	unsigned int place, nr, max;
	uint64_t used[MAX_CHUNKS / BITS_PER_WORD];
};

struct node_memory {
	struct slab_memory slab;
	struct numa_topology *topology;
	struct lock lock;
	struct cds_list_head with_room[NUMA_MAX_NODES]; /* under the lock */
};

/* Untouched memory of SLICE_BYTES, aligned to that; NULL: none. */
static void *map_aligned(void)
{
	char *p = mmap(NULL, 2 * SLICE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	size_t before;

	if (p == MAP_FAILED)
		return NULL;
	before = -(uintptr_t)p & (SLICE_BYTES - 1);
	if (before)
		munmap(p, before);
	munmap(p + before + SLICE_BYTES, SLICE_BYTES - before);
	return p + before;
}

static struct slice *slice_new(struct node_memory *m, size_t bytes, unsigned int place)
	NEEDS(m->lock)
{
	struct slice *s = map_aligned();

	if (!s)
		return NULL;
	/* Where the kernel refuses, for a cpuset of ours, it lies where it may. */
	m->topology->ops->place(m->topology, s, SLICE_BYTES, (int)place);
	s->bytes = bytes;
	s->place = place;
	s->max = (unsigned int)u64_min((SLICE_BYTES - SLICE_HEAD) / bytes, MAX_CHUNKS);
	cds_list_add(&s->list, &m->with_room[place]);
	return s;
}

static struct slice *slice_with_room(struct node_memory *m, size_t bytes, unsigned int place)
	NEEDS(m->lock)
{
	struct slice *s;

	cds_list_for_each_entry(s, &m->with_room[place], list)
		if (s->bytes == bytes)
			return s;
	return slice_new(m, bytes, place);
}

static void *get(void *arg, size_t bytes, unsigned int place)
{
	struct node_memory *m = arg;
	struct slice *s;
	uint32_t i = 0;

	assert(place < NUMA_MAX_NODES && bytes <= SLICE_BYTES - SLICE_HEAD);
	lock_take(&m->lock);
	s = slice_with_room(m, bytes, place);
	if (s) {
		i = bits_first_clear(s->used, MAX_CHUNKS);
		bits_set(s->used, i);
		if (++s->nr == s->max)
			cds_list_del(&s->list);
	}
	lock_give(&m->lock);
	return s ? (char *)s + SLICE_HEAD + i * bytes : NULL;
}

static void put(void *arg, void *p, size_t bytes)
{
	struct node_memory *m = arg;
	uintptr_t at = (uintptr_t)p, start = page_up(at), end = page_down(at + bytes);
	struct slice *s = (struct slice *)(at & ~(uintptr_t)(SLICE_BYTES - 1));

	lock_take(&m->lock);
	assert(s->bytes == bytes);
	bits_clear(s->used, (uint32_t)((at - (uintptr_t)s - SLICE_HEAD) / bytes));
	if (s->nr-- == s->max)
		cds_list_add(&s->list, &m->with_room[s->place]);
	if (!s->nr) {
		cds_list_del(&s->list);
		munmap(s, SLICE_BYTES);
	} else if (start < end) {
		madvise((void *)start, end - start, MADV_DONTNEED);
	}
	lock_give(&m->lock);
}

struct node_memory *node_memory_new(struct numa_topology *t)
{
	struct node_memory *m;

	errno = 0;
	if (t->nr_nodes == 1 || !t->ops->place)
		return NULL;
	m = calloc(1, sizeof(*m));
	if (!m)
		return NULL;
	m->slab = (struct slab_memory){ get, put, m };
	m->topology = t;
	lock_init(&m->lock);
	for (int nid = 0; nid < NUMA_MAX_NODES; nid++)
		CDS_INIT_LIST_HEAD(&m->with_room[nid]);
	return m;
}

void node_memory_free(struct node_memory *m)
{
	if (!m)
		return;
	lock_deinit(&m->lock);
	free(m);
}

const struct slab_memory *node_memory_slab(const struct node_memory *m)
{
	return m ? &m->slab : NULL;
}
