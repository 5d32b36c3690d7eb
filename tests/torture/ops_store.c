/* SPDX-License-Identifier: MIT */
/*
 * ops_store.c - loads and stores of the program itself.
 */
#include <string.h>

#include "tests/torture/actor.h"

/* Store buf; only the part of each page that p names counts. */
static void store(const struct piece *p, const uint8_t *buf)
{
	for (uint32_t i = 0; i < p->nr; i++)
		memcpy(piece_mem(p) + i * PG + p->off, buf + i * PG + p->off, p->len);
	shadow_store(p, buf);
}

static bool fill(struct piece *p)
{
	log_begin(OP_STORE_FILL, p, 0);
	make_content(p, me->buf);
	store(p, me->buf);
	log_end(0);
	return true;
}

/* Store bytes, words and odd lengths at odd places, and look at each again. */
static bool bytes(struct piece *p)
{
	log_begin(OP_STORE_BYTES, p, 0);
	for (unsigned int k = 0; k < 40; k++) {
		uint32_t page = (uint32_t)dice(p->nr), off = p->off + (uint32_t)dice(p->len);
		uint32_t len = 1 + (uint32_t)dice(odds(80) ? 16 : 600);
		uint8_t *mem = piece_mem(p) + page * PG + off;
		uint8_t v = odds(50) ? 0 : (uint8_t)dice(3);

		if (off + len > p->off + p->len)
			len = p->off + p->len - off;
		for (uint32_t i = 0; i < len; i++)
			((volatile uint8_t *)mem)[i] = v;
		memset(piece_shadow(p) + page * PG + off, v, len);
		check_pages(p->a, p->first + page, 1, false);
	}
	log_end(0);
	return true;
}

static bool same(struct piece *p)
{
	log_begin(OP_STORE_SAME, p, 0);
	for (uint32_t i = 0; i < p->nr; i++) {
		uint64_t off = p->off + dice(p->len);

		((volatile uint8_t *)piece_mem(p))[i * PG + off] = piece_shadow(p)[i * PG + off];
	}
	log_end(0);
	return true;
}

/* Make a page unequal by one byte; when this meets it again, equal. */
static bool near_miss(struct piece *p)
{
	uint64_t off = odds(50) ? p->off + p->len - 1 : p->off + dice(p->len);

	log_begin(OP_STORE_NEAR, p, off);
	for (uint32_t i = 0; i < p->nr; i++) {
		piece_mem(p)[i * PG + off] ^= 1;
		piece_shadow(p)[i * PG + off] ^= 1;
	}
	log_end(0);
	return true;
}

static bool zero(struct piece *p)
{
	log_begin(OP_STORE_ZERO, p, 0);
	memset(me->buf, 0, piece_bytes(p));
	store(p, me->buf);
	log_end(0);
	return true;
}

static bool check(struct piece *p)
{
	struct thread_seat *t = my_seat();

	log_begin(OP_CHECK, p, 0);
	if (odds(15)) {
		int on_frame = page_on_file(piece_mem(p));

		t->frame_samples += on_frame >= 0;
		t->frame_checks += on_frame > 0;
	}
	check_pages(p->a, p->first, p->nr, false);
	log_end(0);
	return true;
}

const struct op_desc ops_store[] = {
	{ OP_STORE_FILL, 90, NEED_STORE, BUF_PAGES, 1, fill },
	{ OP_STORE_BYTES, 60, NEED_STORE, 8, 1, bytes },
	{ OP_STORE_SAME, 20, NEED_STORE, BUF_PAGES, 1, same },
	{ OP_STORE_NEAR, 30, NEED_STORE, 16, 1, near_miss },
	{ OP_STORE_ZERO, 20, NEED_STORE, BUF_PAGES, 1, zero },
	{ OP_CHECK, 150, 0, 256, 1, check },
};
const unsigned int nr_ops_store = sizeof(ops_store) / sizeof(ops_store[0]);
