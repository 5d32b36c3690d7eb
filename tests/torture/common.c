/* SPDX-License-Identifier: MIT */
/*
 * common.c - see torture.h. Children of raw clones use it too: it makes system calls and touches
 * memory, nothing else.
 */
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/torture/torture.h"

struct ctl *ctl;

const char *const op_names[OP_NR] = {
#define X(n) [OP_##n] = #n,
	TORTURE_OPS(X)
#undef X
};

uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t now_ms(void)
{
	return now_ns() / 1000000;
}

void nap_us(uint64_t us)
{
	nanosleep(&(struct timespec){ (time_t)(us / 1000000), (long)(us % 1000000) * 1000 }, NULL);
}

void content_fill(void *page, uint64_t id)
{
	uint64_t *p = page, x = (id & 0xffffffffffffffull) * 0x9e3779b97f4a7c15ull;
	uint64_t variant = id >> 56;

	for (unsigned int i = 0; i < PG / 8; i++) {
		p[i] = x; /* 0 stays 0 */
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
	if (variant) /* the last byte, the first, and places between */
		((uint8_t *)page)[PG - 1 - (variant - 1) * 585 % PG] ^= 1;
}

bool ctl_map(int fd)
{
	ctl = mmap(NULL, sizeof(*ctl), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	return ctl != MAP_FAILED;
}

unsigned int seats_live(void)
{
	unsigned int nr = 0;

	for (int i = 0; i < SEATS; i++) {
		uint32_t s = atomic_load(&ctl->p[i].state);

		nr += s == SEAT_TAKEN || s == SEAT_LIVE;
	}
	return nr;
}

int seat_take(int parent)
{
	if (seats_live() >= ctl->max_live)
		return -1;
	for (int i = 0; i < SEATS; i++) {
		struct proc_seat *p = &ctl->p[i];
		uint32_t want = SEAT_FREE;

		if (!atomic_compare_exchange_strong(&p->state, &want, SEAT_TAKEN))
			continue;
		atomic_store(&p->pid, 0);
		atomic_store(&p->killed, 0);
		atomic_store(&p->stopped, 0);
		p->client = 0;
		p->parent = parent;
		p->taker = getpid();
		p->taken_ms = now_ms();
		p->generation++;
		memset(p->t, 0, sizeof(p->t));
		return i;
	}
	return -1;
}

void seat_drop(int seat)
{
	if (seat >= 0)
		atomic_store(&ctl->p[seat].state, SEAT_FREE);
}

bool failure_begin(void)
{
	uint32_t none = 0;

	return atomic_compare_exchange_strong(&ctl->failed, &none, 1);
}

void failure_end(void)
{
	atomic_store(&ctl->failed, 2);
}
