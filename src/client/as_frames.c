/* SPDX-License-Identifier: MIT */
/*
 * as_frames.c - the frame bits in two levels.
 *
 * The first level has a pointer per GiB of addresses, the second 32 KiB of bits for that GiB. A
 * second level is made when a frame first stands there, and stays.
 */
#include "client/as_frames.h"

#include <errno.h>

#include "base/span.h"

#define GIB_SHIFT 30
#define L1_SLOTS (KSM_ADDR_END >> GIB_SHIFT)
#define BITS_BYTES ((1ul << (GIB_SHIFT - KSM_PAGE_SHIFT)) / 8)

int as_frames_init(void)
{
	if (!as.frames_l1)
		as.frames_l1 = as_map_table(L1_SLOTS * sizeof(*as.frames_l1));
	return as.frames_l1 ? 0 : -ENOMEM;
}

static uint64_t *bits_of(uint64_t addr)
{
	return as.frames_l1 ? as.frames_l1[addr >> GIB_SHIFT] : NULL;
}

static size_t bit_nr(uint64_t addr)
{
	return (addr >> KSM_PAGE_SHIFT) & (BITS_BYTES * 8 - 1);
}

bool as_frame_bit(uint64_t addr)
{
	uint64_t *bits = bits_of(addr);
	size_t b = bit_nr(addr);

	return bits && (bits[b / 64] >> (b % 64) & 1);
}

int as_frames_reserve(uint64_t start, uint64_t end)
{
	for (size_t i = start >> GIB_SHIFT; i <= (end - 1) >> GIB_SHIFT; i++) {
		if (!as.frames_l1[i])
			as.frames_l1[i] = as_map_table(BITS_BYTES);
		if (!as.frames_l1[i])
			return -ENOMEM;
	}
	return 0;
}

int as_frames_set(uint64_t start, uint64_t end)
{
	for (uint64_t a = start; a < end; a += KSM_PAGE_SIZE) {
		uint64_t *bits;
		size_t b = bit_nr(a);

		if (!bits_of(a) && as_frames_reserve(a, a + 1) < 0)
			return -ENOMEM;
		bits = bits_of(a);
		if (!(bits[b / 64] >> (b % 64) & 1))
			as.nr_frame_pages++;
		bits[b / 64] |= 1ull << (b % 64);
	}
	return 0;
}

void as_frames_clear(uint64_t start, uint64_t end)
{
	while (as.nr_frame_pages && as_frames_next(&start, &(uint64_t){ 0 }, end)) {
		size_t b = bit_nr(start);

		bits_of(start)[b / 64] &= ~(1ull << (b % 64));
		as.nr_frame_pages--;
		start += KSM_PAGE_SIZE;
	}
}

/* The first page at or after addr whose bit equals `set`; end when there is none. */
static uint64_t next_bit(uint64_t addr, uint64_t end, bool set)
{
	while (addr < end) {
		uint64_t *bits = bits_of(addr);
		size_t b = bit_nr(addr);
		uint64_t word;

		if (!bits) {
			if (!set)
				return addr;
			addr = ((addr >> GIB_SHIFT) + 1) << GIB_SHIFT;
			continue;
		}
		word = (set ? bits[b / 64] : ~bits[b / 64]) >> (b % 64);
		if (word) {
			addr += (uint64_t)__builtin_ctzll(word) << KSM_PAGE_SHIFT;
			return addr < end ? addr : end;
		}
		addr += (64 - b % 64) << KSM_PAGE_SHIFT;
	}
	return end;
}

bool as_frames_next(uint64_t *start, uint64_t *run_end, uint64_t end)
{
	if (!as.nr_frame_pages)
		return false;
	end = u64_min(end, KSM_ADDR_END);
	*start = next_bit(*start, end, true);
	if (*start >= end)
		return false;
	*run_end = next_bit(*start, end, false);
	return true;
}

void as_frames_own(void (*fn)(void *arg, const void *p, size_t len), void *arg)
{
	fn(arg, as.frames_l1, L1_SLOTS * sizeof(*as.frames_l1));
	for (size_t i = 0; i < L1_SLOTS; i++)
		fn(arg, as.frames_l1[i], BITS_BYTES);
}
