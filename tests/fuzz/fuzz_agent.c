/* SPDX-License-Identifier: MIT */
/*
 * fuzz_agent.c - what a lying daemon can do to a client: nothing but waste its time.
 *
 * The real agent, transactions and un-sharing run on a kernel that this file plays behind sysc6().
 * The program's memory is real, so its bytes can be compared; a table holds the mappings (page
 * tables, userfaultfds, staging area). An input is a list of daemon messages, mostly well formed,
 * with any sizes, types, ids, numbers, frames and descriptors. In between the program acts, and
 * pages refuse to be moved.
 *
 * Oracles: only the program's own stores change a byte of its memory; no page is missing when the
 * agent waits for the next message; the agent replaces nothing outside offered memory; it closes
 * every descriptor that came, or keeps it in its place; it answers every order truthfully; nothing
 * crashes.
 *
 * Seen to fail: with a control buffer of CMSG_SPACE(3 descriptors), which lets a fourth in; without
 * the comparison in replace.c, or in inplace.c; when the agent does not move unequal pages back;
 * in the sweep without mend_hole(), or without its uffd_register(); when unshare.c assumes that a
 * failed mremap() left everything in its place.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>

#include "client/agent.h"
#include "client/as_frames.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/mailbox.h"
#include "client/serve.h"
#include "client/sysc.h"
#include "client/txn.h"
#include "wire/kernel_abi.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
bool fuzz_agent_sweep(const uint8_t *script, size_t size, unsigned int nth, int error);

#define PAGES 192u
#define BASE 0x200000000000ull /* a block's start */
#define OFFERED_FROM 5u
#define OFFERED_TO 180u
#define FRAMES 64u
#define PAGE ((uint64_t)KSM_PAGE_SIZE)

enum {
	FD_SOCK = 1000,
	FD_SIG,
	FD_DEV,
	FD_ASYNC,
	FD_SYNC,
	FD_MEM,
	FD_PAGEMAP,
	FD_MAPS,
	FD_SMALL,
	FD_DIR
};
#define FD_PASSED 2000 /* from here on: came with messages */
#define MAX_PASSED 4096
enum passed { CLOSED, OPEN };

enum how { ABSENT, ANON, FRAME, STAGED };
/* Where a move of frames failed: no mapping, or none that pages could be moved to. */
enum hole { NO_HOLE, HOLE, HOLE_MAPPED };
static struct {
	const uint8_t *p, *end;
	enum how page[PAGES];
	enum hole hole[PAGES];
	uint32_t frame[PAGES];
	bool pinned[PAGES];
	bool lone[PAGES];    /* was shared by a fork; only this process maps it by now */
	bool shared[PAGES];  /* is shared by a fork */
	uint8_t want[PAGES]; /* what the program must read: the page's fill */
	bool staged[KSM_ORDER_PAGES];
	uint8_t passed[MAX_PASSED];
	int nr_passed;
	uint64_t nr_messages, orders, answers;
	struct ksm_msg_order order[TXN_ORDERS]; /* those without an answer, in a ring */
	size_t maps_at, small_at;
	int nr_tasks; /* entries left in the directory that is open */
	const char *small;
	bool in_order;
	uint64_t now;
	unsigned int fault_in; /* 0: none */
	int fault_errno;
	bool fault_came;
} k;
uint64_t fuzz_agent_merged; /* pages, by the last input */
static uint8_t *memory;
static uint8_t frames[FRAMES][KSM_PAGE_SIZE];

#define MUST(cond)                                                                                 \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: must hold: %s\n", __FILE__, __LINE__, #cond);      \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

static uint8_t take8(void)
{
	return k.p < k.end ? *k.p++ : 0;
}

static uint8_t *page_at(unsigned int i)
{
	return memory + i * PAGE;
}

/* ---- the program's memory ---- */

static void store(unsigned int i, uint8_t fill)
{
	k.page[i] = ANON;
	k.want[i] = fill;
	k.lone[i] = k.shared[i] = false;
	memset(page_at(i), fill, PAGE);
}

/* Every byte right, and nothing missing. */
static void check_memory(void)
{
	for (unsigned int i = 0; i < PAGES; i++) {
		MUST(k.page[i] != STAGED && k.hole[i] == NO_HOLE);
		MUST(page_at(i)[0] == k.want[i] && page_at(i)[PAGE - 1] == k.want[i]);
		MUST(!memcmp(page_at(i), page_at(i) + 1, PAGE - 1));
		if (k.page[i] == FRAME) {
			MUST(i >= OFFERED_FROM && i < OFFERED_TO);
			MUST(frames[k.frame[i]][7] == k.want[i]);
		}
	}
}

static bool inside(uint64_t start, uint64_t len)
{
	return start >= BASE && start % PAGE == 0 && len % PAGE == 0 && len &&
	       len <= PAGES * PAGE && start - BASE <= PAGES * PAGE - len;
}

static unsigned int number(uint64_t addr)
{
	return (unsigned int)((addr - BASE) / PAGE);
}

static bool in_staging(uint64_t addr)
{
	uint64_t s = (uintptr_t)agent.kit.staging;

	return s && addr >= s && addr < s + KSM_ORDER_PAGES * PAGE;
}

static unsigned int slot_of(uint64_t addr)
{
	return (unsigned int)((addr - (uintptr_t)agent.kit.staging) / PAGE);
}

/* ---- what comes ---- */

static int pass_fd(void)
{
	MUST(k.nr_passed < MAX_PASSED);
	k.passed[k.nr_passed] = OPEN;
	return FD_PASSED + k.nr_passed++;
}

static uint32_t some_frame(unsigned int i)
{
	uint8_t kind = take8();

	switch (kind & 7) {
	case 0:
	case 1:
		return KSM_FRAME_NONE;
	case 2:
		return KSM_FRAME_ZERO;
	case 3:
		return kind >> 3;
	case 4:
		return (uint32_t)(FRAMES - 2 +
				  (kind >> 3)); /* at the end of the arena, and behind it */
	case 5:
		return UINT32_MAX - 8 + (kind >> 3);
	default:
		return k.want[i] % FRAMES; /* the very frame for it, if nothing changes */
	}
}

static void fill_order(struct ksm_msg_order *m)
{
	uint8_t where = take8(), how = take8();
	unsigned int block = where % 5;
	uint32_t frame = 0;

	m->id = take8();
	m->seq = how & 0x80 ? agent.link.sent_seq + 1 : agent.link.sent_seq;
	m->addr = BASE + block * KSM_ORDER_PAGES * PAGE;
	if (where >= 0xf0)
		m->addr = (uint64_t)where << 56 | take8();
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		if (i % (1 + (how & 15)) == 0)
			frame = some_frame((block * KSM_ORDER_PAGES + i) % PAGES);
		else if (how & 16)
			frame++;
		m->frame[i] = frame;
	}
}

static void fill_message(union ksm_msg *m)
{
	switch (m->hdr.type) {
	case KSM_MSG_ORDER:
		fill_order(&m->order);
		break;
	case KSM_MSG_WELCOME:
		m->welcome.version = KSM_WIRE_VERSION;
		m->welcome.arena_pages = FRAMES;
		m->welcome.arena_id = take8();
		break;
	case KSM_MSG_STAT_REPLY:
		m->stat_reply.id = take8();
		m->stat_reply.full_scans = m->stat_reply.id;
		if (m->stat_reply.id & 1)
			m->stat_reply.id = m->stat_reply.id & 2 ?
						   agent.heritage.past.stat :
						   agent.heritage.sentinels.epoch_stat;
		break;
	case KSM_MSG_UNMERGE:
		m->unmerge.id = take8();
		break;
	default:
		m->epoch.epoch = take8();
	}
}

static int usual_fds(uint32_t type)
{
	return type == KSM_MSG_WELCOME ? 3 : type == KSM_MSG_EPOCH ? 1 : 0;
}

/* As the kernel: as many descriptors as there is room for. */
static void pass_fds(struct msghdr *mh, int nr)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(mh);
	int max = (int)((mh->msg_controllen - sizeof(struct cmsghdr)) / sizeof(int));

	nr = nr < max ? nr : max;
	mh->msg_flags = 0;
	if (!nr) {
		mh->msg_controllen = 0;
		return;
	}
	*c = (struct cmsghdr){ CMSG_LEN((size_t)nr * sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	for (int i = 0; i < nr; i++) {
		int fd = pass_fd();

		memcpy(CMSG_DATA(c) + (size_t)i * sizeof(int), &fd, sizeof(fd));
	}
	mh->msg_controllen = CMSG_SPACE((size_t)nr * sizeof(int));
}

static void act(uint8_t what)
{
	unsigned int i = take8() % PAGES;

	switch (what & 3) {
	case 0: /* a store breaks copy-on-write where the frame bit stays */
		store(i, take8());
		break;
	case 1:
		if ((what >> 2 & 3) == 1)
			k.lone[i] = !k.lone[i];
		else if ((what >> 2 & 3) == 2)
			k.shared[i] = !k.shared[i];
		else
			k.pinned[i] = !k.pinned[i];
		break;
	case 2:
		mailbox.range.start = BASE + i * PAGE;
		mailbox.range.end = mailbox.range.start + take8() * PAGE;
		atomic_store(&mailbox.kind, REQ_UNSHARE);
		break;
	default:
		mailbox.nr++;
		atomic_store(&mailbox.kind, REQ_STAT);
	}
}

static long do_recvmsg(struct msghdr *mh)
{
	static const uint8_t types[] = { KSM_MSG_ORDER,   KSM_MSG_ORDER,   KSM_MSG_ORDER,
					 KSM_MSG_EPOCH,   KSM_MSG_UNMERGE, KSM_MSG_STAT_REPLY,
					 KSM_MSG_WELCOME, KSM_MSG_ERROR,   KSM_MSG_HELLO,
					 KSM_MSG_NR,      KSM_MSG_RELEASE, 0 };
	union ksm_msg m = { 0 };
	uint8_t kind = take8(), shape;
	uint32_t len;
	int nr;

	MUST(!k.in_order || k.orders - k.answers < TXN_ORDERS);
	check_memory();
	if (k.p >= k.end) {
		mh->msg_controllen = 0;
		return 0;
	}
	if (kind >= 0xc0) {
		act(kind);
		mh->msg_controllen = 0;
		return -EAGAIN;
	}
	shape = kind >= 0xa0 ? take8() : 0;
	m.hdr.type = types[kind % sizeof(types)];
	if (!k.nr_messages++ && kind < 0x80)
		m.hdr.type = KSM_MSG_WELCOME;
	len = ksm_msg_size(m.hdr.type);
	fill_message(&m);
	nr = shape & 1 ? shape >> 4 & 7 : usual_fds(m.hdr.type);
	m.hdr.len = shape & 2 ? take8() : len;
	if (shape & 4)
		len = take8() * 2u;
	len = len < sizeof(m) ? len : sizeof(m);
	MUST(mh->msg_iov->iov_len == sizeof(m));
	memcpy(mh->msg_iov->iov_base, &m, len);
	pass_fds(mh, nr);
	if (m.hdr.type == KSM_MSG_ORDER && len == sizeof(m.order) && m.hdr.len == len &&
	    m.order.addr % (KSM_ORDER_PAGES * PAGE) == 0) {
		k.order[k.orders++ % TXN_ORDERS] = m.order;
		k.in_order = true;
	}
	return len;
}

/* ---- what is answered ---- */

static void check_done(const struct ksm_msg_order_done *d)
{
	const struct ksm_msg_order *o = &k.order[k.answers % TXN_ORDERS];

	MUST(k.answers++ < k.orders && d->id == o->id);
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		uint64_t addr = o->addr + i * PAGE;

		MUST(d->result[i] < KSM_RES_NR);
		MUST((d->result[i] == KSM_RES_NONE) == (o->frame[i] == KSM_FRAME_NONE));
		if (d->result[i] == KSM_RES_INLAID)
			MUST(o->frame[i] == KSM_FRAME_INLAY && inside(addr, PAGE) &&
			     k.page[number(addr)] == ANON);
		if (d->result[i] != KSM_RES_MERGED)
			continue;
		fuzz_agent_merged++;
		MUST(inside(addr, PAGE));
		if (o->frame[i] == KSM_FRAME_ZERO)
			MUST(k.page[number(addr)] == ABSENT && !k.want[number(addr)]);
		else
			MUST(k.page[number(addr)] == FRAME && k.frame[number(addr)] == o->frame[i]);
	}
}

static long do_sendto(const void *data, size_t len)
{
	const union ksm_msg *m = data;

	MUST(len >= sizeof(m->hdr) && m->hdr.len == len && ksm_msg_size(m->hdr.type) == len);
	if (m->hdr.type == KSM_MSG_ORDER_DONE)
		check_done(&m->order_done);
	if (m->hdr.type == KSM_MSG_ADD || m->hdr.type == KSM_MSG_DEL)
		MUST(m->range.start < m->range.end);
	check_memory();
	return (long)len;
}

/* ---- memory calls ---- */

static long map_frames(uint64_t addr, uint64_t len, int fd, uint64_t off)
{
	MUST(fd == agent.kit.arena && k.passed[fd - FD_PASSED] == OPEN);
	MUST(inside(addr, len) && number(addr) >= OFFERED_FROM &&
	     number(addr) + len / PAGE <= OFFERED_TO);
	MUST(off / PAGE + len / PAGE <= FRAMES);
	for (unsigned int i = number(addr); len; i++, len -= PAGE, off += PAGE) {
		MUST(!k.pinned[i] || k.page[i] != ANON);
		memcpy(page_at(i), frames[off / PAGE], PAGE);
		k.page[i] = FRAME;
		k.frame[i] = (uint32_t)(off / PAGE);
		k.hole[i] = NO_HOLE;
		k.lone[i] = k.shared[i] = false;
	}
	return (long)addr;
}

/*
 * Frames mapped away from the program's memory: the agent compares there and moves them into place.
 * A sheet is mapped before the frames of a long run, and outlives them.
 */
static struct aside {
	uint64_t addr, len, off; /* len 0: unused */
	uint64_t left;           /* bytes that were neither moved away nor unmapped */
	bool inlaid[FRAMES + 1]; /* pages of it that are private, and no frames */
} asides[20]; /* of a chunk of replace.c: 16 runs, their sheet, and what a failed one has left */

static struct aside *aside_at(uint64_t from, uint64_t len)
{
	for (unsigned int i = 0; i < sizeof(asides) / sizeof(asides[0]); i++)
		if (from >= asides[i].addr && from + len <= asides[i].addr + asides[i].len)
			return &asides[i];
	return NULL;
}

/* The agent is done with what was there: its address is in use again, or nothing is there. */
static void forget_asides(uint64_t addr, uint64_t len)
{
	for (unsigned int i = 0; i < sizeof(asides) / sizeof(asides[0]); i++)
		if (addr < asides[i].addr + asides[i].len && addr + len > asides[i].addr)
			asides[i].len = 0;
}

/* A part was moved away or unmapped. An agent that does so to a part twice leaves no more of it. */
static void lose_part(struct aside *a, uint64_t len)
{
	a->left -= len < a->left ? len : a->left;
	if (!a->left)
		a->len = 0;
}

static long map_aside(uint64_t len, uint64_t off)
{
	struct aside *a = NULL;
	long p;

	/* A sheet is one page longer than its frames. */
	MUST(k.passed[agent.kit.arena - FD_PASSED] == OPEN &&
	     off / PAGE + len / PAGE <= FRAMES + 1);
	p = sysc6_kernel(SYS_mmap, 0, (long)len, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p < 0 && p > -4096)
		return p;
	forget_asides((uint64_t)p, len);
	for (unsigned int i = 0; i < sizeof(asides) / sizeof(asides[0]); i++)
		a = asides[i].len ? a : &asides[i];
	MUST(a);
	for (uint64_t at = 0; at < len && (off + at) / PAGE < FRAMES; at += PAGE)
		memcpy((void *)(p + (long)at), frames[(off + at) / PAGE], PAGE);
	*a = (struct aside){ .addr = (uint64_t)p, .len = len, .off = off, .left = len };
	return p;
}

/* Frames of a mapping aside show where there were private pages. */
static void drop_inlaid(struct aside *a, uint64_t from, uint64_t len)
{
	for (uint64_t at = from - a->addr; at < from - a->addr + len; at += PAGE)
		if (a->inlaid[at / PAGE]) {
			MUST((a->off + at) / PAGE < FRAMES);
			memcpy((void *)(a->addr + at), frames[(a->off + at) / PAGE], PAGE);
			a->inlaid[at / PAGE] = false;
		}
}

/* Private pages go along with the mapping that they are part of. */
static void move_inlaid(struct aside *a, uint64_t from, uint64_t len, uint64_t to)
{
	for (uint64_t at = 0; at < len; at += PAGE) {
		unsigned int i = number(to + at);

		if (!a->inlaid[(from - a->addr + at) / PAGE])
			continue;
		memcpy(page_at(i), (void *)(from + at), PAGE);
		k.page[i] = ANON;
	}
	drop_inlaid(a, from, len);
}

/* Anonymous memory where a move of frames has failed, so that the pages can come back. */
static long map_hole(uint64_t addr, uint64_t len)
{
	MUST(inside(addr, len));
	for (uint64_t at = 0; at < len; at += PAGE) {
		MUST(k.page[number(addr + at)] == STAGED);
		k.hole[number(addr + at)] = HOLE_MAPPED;
	}
	return (long)addr;
}

static long do_mmap(uint64_t addr, uint64_t len, int prot, int flags, int fd, uint64_t off)
{
	long p;

	if (flags & MAP_FIXED)
		return flags & MAP_ANONYMOUS ? map_hole(addr, len) : map_frames(addr, len, fd, off);
	if (fd >= FD_PASSED && fd == agent.kit.arena)
		return map_aside(len, off);
	MUST(flags & MAP_ANONYMOUS || (fd >= FD_PASSED && len == PAGE));
	p = sysc6_kernel(SYS_mmap, 0, (long)len, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p > 0)
		forget_asides((uint64_t)p, len);
	return p;
}

/* Without memory a move fails after it has unmapped the new place. */
static void mremap_fails(uint64_t len, uint64_t to)
{
	for (uint64_t at = 0; at < len; at += PAGE) {
		unsigned int i = number(to + at);

		k.hole[i] = HOLE;
		if (k.page[i] != STAGED) {
			k.page[i] = ABSENT;
			memset(page_at(i), 0, PAGE);
		}
	}
}

/* Frames put over pages, or fresh memory over frames. */
static long do_mremap(uint64_t from, uint64_t len, int flags, uint64_t to)
{
	struct aside *a = aside_at(from, len);

	MUST(inside(to, len));
	if (a) {
		map_frames(to, len, agent.kit.arena, a->off + (from - a->addr));
		move_inlaid(a, from, len, to);
		if (flags & MREMAP_DONTUNMAP) {
			MUST(len < a->len); /* else the copy would have no anon_vma */
		} else {
			sysc6_kernel(SYS_munmap, (long)from, (long)len, 0, 0, 0, 0);
			lose_part(a, len);
		}
		return (long)to;
	}
	for (uint64_t at = 0; at < len; at += PAGE) {
		unsigned int i = number(to + at);

		/* A page that was written may leave the mapping, too: with its bytes. */
		MUST(k.page[i] == FRAME || k.page[i] == ABSENT ||
		     (k.page[i] == ANON && !memcmp(page_at(i), (const void *)(from + at), PAGE)));
		memcpy(page_at(i), (const void *)(from + at), PAGE);
		k.page[i] = ANON;
		k.hole[i] = NO_HOLE;
	}
	sysc6_kernel(SYS_munmap, (long)from, (long)len, 0, 0, 0, 0);
	return (long)to;
}

/* Without MS_SYNC the call only says whether something is mapped. */
static long do_msync(uint64_t addr, uint64_t len)
{
	MUST(inside(addr, len));
	for (uint64_t at = 0; at < len; at += PAGE)
		if (k.hole[number(addr + at)] == HOLE)
			return -ENOMEM;
	return 0;
}

static long do_munmap(uint64_t addr, uint64_t len)
{
	struct aside *a = aside_at(addr, len);

	MUST(addr + len <= BASE || addr >= BASE + PAGES * PAGE);
	if (a)
		lose_part(a, len);
	return sysc6_kernel(SYS_munmap, (long)addr, (long)len, 0, 0, 0, 0);
}

/*
 * The buffers that orders are compared in: really dropped, so never while an order is unanswered.
 */
static long drop_buffers(uint64_t addr, uint64_t len)
{
	MUST(len == 2 * KSM_ORDER_PAGES * PAGE);
	MUST(!k.in_order || k.answers == k.orders);
	return sysc6_kernel(SYS_madvise, (long)addr, (long)len, MADV_DONTNEED, 0, 0, 0);
}

/* A write fault makes a page exclusive, or takes it off its frame. It may come to no other. */
static long populate_write(uint64_t addr, uint64_t len) UNCHECKED_LOCKING
{
	if (aside_at(addr, len))
		return 0;
	MUST(inside(addr, len));
	for (uint64_t at = addr; at < addr + len; at += PAGE) {
		unsigned int i = number(at);

		MUST(k.page[i] == FRAME || k.page[i] == ANON);
		MUST(as_frame_bit(at) || (len == PAGE && !k.shared[i]));
		k.page[i] = ANON;
		k.lone[i] = k.shared[i] = false;
	}
	return 0;
}

static long do_madvise(uint64_t addr, uint64_t len, int advice)
{
	if (advice == MADV_POPULATE_WRITE)
		return populate_write(addr, len);
	if (advice == MADV_DONTNEED && aside_at(addr, len)) {
		/* The page that was written there to make an anon_vma, or what was inlaid. */
		drop_inlaid(aside_at(addr, len), addr, len);
		return 0;
	}
	if (in_staging(addr) && (advice == MADV_DONTNEED_LOCKED || advice == MADV_DONTNEED))
		for (uint64_t at = 0; at < len; at += PAGE)
			k.staged[slot_of(addr + at)] = false;
	else if (agent.kit.buf && addr == (uintptr_t)agent.kit.buf && advice == MADV_DONTNEED)
		return drop_buffers(addr, len);
	else
		MUST(advice != MADV_DONTNEED && advice != MADV_DONTNEED_LOCKED &&
		     advice != MADV_FREE && advice != MADV_REMOVE);
	return 0;
}

static long move_one(uint64_t dst, uint64_t src)
{
	if (in_staging(dst)) {
		unsigned int i = number(src);

		MUST(inside(src, PAGE));
		if (k.page[i] == ABSENT)
			return -ENOENT;
		if (k.pinned[i] || k.lone[i] || k.shared[i])
			return -EBUSY;
		MUST(k.page[i] == ANON && !k.staged[slot_of(dst)]);
		memcpy((void *)dst, page_at(i), PAGE);
		k.staged[slot_of(dst)] = true;
		k.page[i] = STAGED;
		memset(page_at(i), 0, PAGE); /* a hole reads as zeros once nobody waits at it */
		return 0;
	}
	MUST(in_staging(src) && inside(dst, PAGE) && k.staged[slot_of(src)]);
	MUST(k.page[number(dst)] == STAGED && k.hole[number(dst)] == NO_HOLE);
	memcpy(page_at(number(dst)), (void *)src, PAGE);
	k.staged[slot_of(src)] = false;
	k.page[number(dst)] = ANON;
	return 0;
}

/* Pages of the staging area, which stay there, become private ones of a mapping aside. */
static long inlay(struct aside *a, const struct uffdio_copy *c)
{
	MUST(c->len && c->len % PAGE == 0);
	for (uint64_t at = 0; at < c->len; at += PAGE) {
		uint64_t src = c->src + at, i = (c->dst + at - a->addr) / PAGE;

		MUST(in_staging(src) && k.staged[slot_of(src)] && !a->inlaid[i]);
		memcpy((void *)(uintptr_t)(c->dst + at), (void *)(uintptr_t)src, PAGE);
		a->inlaid[i] = true;
	}
	return 0;
}

/* Back from the staging area, where the page stays. */
static long do_copy(const struct uffdio_copy *c)
{
	struct aside *a = aside_at(c->dst, c->len);
	unsigned int i = number(c->dst);

	if (a)
		return inlay(a, c);
	MUST(c->len == PAGE && in_staging(c->src) && inside(c->dst, PAGE) &&
	     k.staged[slot_of(c->src)]);
	MUST(k.page[i] == STAGED && k.hole[i] == NO_HOLE);
	memcpy(page_at(i), (void *)(uintptr_t)c->src, PAGE);
	k.page[i] = ANON;
	return 0;
}

static long do_move(struct kabi_uffdio_move *mv)
{
	uint64_t at;
	long r = 0;

	MUST(mv->len && mv->len % PAGE == 0);
	for (at = 0; at < mv->len && !r; at += PAGE)
		r = move_one(mv->dst + at, mv->src + at);
	mv->move = r && at == PAGE ? r : (int64_t)(r ? at - PAGE : at);
	return !r ? 0 : at == PAGE ? r : -EAGAIN;
}

static long do_scan(struct kabi_pm_scan_arg *arg)
{
	struct kabi_page_region *v = (struct kabi_page_region *)(uintptr_t)arg->vec;
	enum how wanted = ANON;
	long n = 0;

	if (arg->return_mask == KABI_PAGE_IS_HUGE || arg->return_mask == KABI_PAGE_IS_PFNZERO ||
	    arg->flags & KABI_PM_SCAN_WP_MATCHING)
		return 0; /* there are no huge pages, and nobody asks what was written */
	if (aside_at(arg->start, arg->end - arg->start)) {
		/* Its page tables are filled. */
		*v = (struct kabi_page_region){ arg->start, arg->end, KABI_PAGE_IS_PRESENT };
		return 1;
	}
	MUST(inside(arg->start, arg->end - arg->start));
	if (arg->category_mask & KABI_PAGE_IS_FILE && !arg->category_inverted)
		wanted = FRAME;
	for (uint64_t at = arg->start; at < arg->end; at += PAGE) {
		if (k.page[number(at)] != wanted)
			continue;
		if (n && v[n - 1].end == at)
			v[n - 1].end += PAGE;
		else if (n == (long)arg->vec_len)
			break;
		else
			v[n++] = (struct kabi_page_region){ at, at + PAGE, KABI_PAGE_IS_PRESENT };
	}
	return n;
}

/* In the synchronous userfaultfd, so that pages can come back. */
static void close_holes(uint64_t start, uint64_t len)
{
	for (uint64_t at = 0; at < len && !in_staging(start); at += PAGE)
		if (k.hole[number(start + at)] == HOLE_MAPPED)
			k.hole[number(start + at)] = NO_HOLE;
}

/* Missing pages that no thread waits for any more are zeros from now on. */
static void let_go(uint64_t start, uint64_t len)
{
	for (uint64_t at = 0; at < len && !in_staging(start); at += PAGE)
		if (k.page[number(start + at)] == STAGED)
			k.page[number(start + at)] = ABSENT;
}

static long do_ioctl(int fd, unsigned long req, void *arg)
{
	struct uffdio_range *r = arg;

	switch (req) {
	case KABI_USERFAULTFD_IOC_NEW:
		MUST(fd >= FD_PASSED);
		return agent.kit.uffd_async < 0 ? FD_ASYNC : FD_SYNC;
	case UFFDIO_API:
		return ((struct uffdio_api *)arg)->features & UFFD_FEATURE_EVENT_FORK ? -EPERM : 0;
	case UFFDIO_REGISTER:
	case UFFDIO_UNREGISTER:
	case UFFDIO_WRITEPROTECT:
	case UFFDIO_WAKE:
		MUST(fd == FD_SYNC || fd == FD_ASYNC);
		if (aside_at(r->start, r->len)) {
			MUST(req == UFFDIO_REGISTER && fd == FD_SYNC);
			return 0;
		}
		MUST(inside(r->start, r->len) || in_staging(r->start));
		if (req == UFFDIO_WAKE || (req == UFFDIO_UNREGISTER && fd == FD_SYNC))
			let_go(r->start, r->len);
		if (req == UFFDIO_REGISTER && fd == FD_SYNC)
			close_holes(r->start, r->len);
		return 0;
	case KABI_UFFDIO_MOVE:
		MUST(fd == FD_SYNC);
		return do_move(arg);
	case UFFDIO_COPY:
		MUST(fd == FD_SYNC);
		return do_copy(arg);
	case KABI_PAGEMAP_SCAN:
		return fd == FD_PAGEMAP ? do_scan(arg) : -EBADF;
	default:
		return -ENOTTY;
	}
}

/* ---- files ---- */

static long do_close(int fd)
{
	if (fd < FD_PASSED)
		return 0;
	MUST(fd < FD_PASSED + k.nr_passed && k.passed[fd - FD_PASSED] == OPEN);
	k.passed[fd - FD_PASSED] = CLOSED;
	return 0;
}

static uint64_t entry_of(unsigned int i)
{
	switch (k.page[i]) {
	case ANON:
		return KABI_PM_PRESENT | (k.shared[i] ? 0 : KABI_PM_EXCLUSIVE);
	case FRAME:
		return KABI_PM_PRESENT | KABI_PM_FILE;
	default:
		return 0;
	}
}

static long do_pread(int fd, void *buf, uint64_t len, uint64_t off)
{
	if (fd == FD_PAGEMAP) {
		uint64_t *out = buf, addr = off / 8 * PAGE;

		MUST(in_staging(addr) || inside(addr, len / 8 * PAGE));
		for (unsigned int i = 0; i < len / 8; i++)
			out[i] = in_staging(addr) ? (k.staged[i] ? KABI_PM_PRESENT : 0) :
						    entry_of(number(addr) + i);
		return (long)len;
	}
	if (fd == FD_MEM) {
		MUST(inside(off, len));
		memcpy(buf, memory + (off - BASE), len);
		return (long)len;
	}
	MUST(fd == agent.kit.arena);
	if (off / PAGE >= FRAMES)
		return 0;
	len = len < FRAMES * PAGE - off ? len : FRAMES * PAGE - off;
	memcpy(buf, (uint8_t *)frames + off, len);
	return (long)len;
}

static long do_mincore(uint64_t addr, uint64_t len, uint8_t *out)
{
	for (uint64_t at = 0; at < len; at += PAGE) {
		MUST(in_staging(addr + at));
		out[at / PAGE] = k.staged[slot_of(addr + at)];
	}
	return 0;
}

/* Pages are pinned by means that can be seen. */
static const char *status(void)
{
	for (unsigned int i = 0; i < PAGES; i++)
		if (k.pinned[i])
			return "VmLck:\t0 kB\nVmPin:\t4 kB\n";
	return "VmLck:\t0 kB\nVmPin:\t0 kB\n";
}

static long do_open(const char *path)
{
	k.small_at = 0;
	if (strstr(path, "/self/maps")) {
		k.maps_at = 0;
		return FD_MAPS;
	}
	if (strstr(path, "/self/mem"))
		return FD_MEM;
	if (strstr(path, "/pagemap"))
		return FD_PAGEMAP;
	k.nr_tasks = strstr(path, "/self/task") && !strstr(path, "/fd");
	if (k.nr_tasks || strstr(path, "/fd"))
		return FD_DIR;
	k.small = strstr(path, "status") ? status() : "0\n";
	return FD_SMALL;
}

/* One thread, the agent, and no descriptors. */
static long do_getdents(char *buf)
{
	uint16_t len = 24;

	if (!k.nr_tasks)
		return 0;
	k.nr_tasks = 0;
	memset(buf, 0, len);
	memcpy(buf + 16, &len, sizeof(len));
	snprintf(buf + 19, 5, "%d", agent.kit.owner);
	return len;
}

/* A line per page: what maps.c must cope with in any case. */
static long do_read_maps(char *buf, size_t len)
{
	size_t have = 0;

	for (; k.maps_at < PAGES && len - have > 120; k.maps_at++) {
		uint64_t at = BASE + k.maps_at * PAGE;
		bool frame = k.page[k.maps_at] == FRAME;

		have += (size_t)sprintf(buf + have, "%lx-%lx rw-p %08lx 00:01 %d    %s\n", at,
					at + PAGE, frame ? k.frame[k.maps_at] * PAGE : 0,
					frame ? 77 : 0,
					frame ? "/memfd:" KSM_ARENA_NAME " (deleted)" : "");
	}
	return (long)have;
}

static long do_read(int fd, char *buf, size_t len)
{
	size_t n;

	if (fd == FD_MAPS)
		return do_read_maps(buf, len);
	if (fd != FD_SMALL)
		return -EAGAIN;
	n = strlen(k.small + k.small_at);
	n = n < len ? n : len;
	memcpy(buf, k.small + k.small_at, n);
	k.small_at += n;
	return (long)n;
}

static long do_ppoll(struct pollfd *p, long nr)
{
	for (long i = 0; i < nr; i++)
		p[i].revents = p[i].fd == FD_SOCK ? p[i].events : 0;
	k.now += 10;
	return 1;
}

/* Calls that the kernel can refuse for want of a resource, or interrupt. */
static bool may_fail(long nr, long b, long d)
{
	switch (nr) {
	case SYS_ioctl:
		return b != (long)UFFDIO_UNREGISTER && b != (long)UFFDIO_WAKE;
	case SYS_mmap:
		return true;
	case SYS_madvise: /* DONTNEED of our own pages cannot fail */
		return false;
	default:
		(void)d;
		return nr == SYS_recvmsg || nr == SYS_sendto || nr == SYS_sendmsg ||
		       nr == SYS_openat || nr == SYS_read || nr == SYS_pread64 ||
		       nr == SYS_mremap || nr == SYS_mprotect || nr == SYS_prlimit64 ||
		       nr == SYS_fstat || nr == SYS_pidfd_open || nr == SYS_get_mempolicy ||
		       nr == SYS_getdents64;
	}
}

static long played(long nr, long a, long b, long c, long d, long e, long f);

long sysc6(long nr, long a, long b, long c, long d, long e, long f)
{
	if (k.fault_in && may_fail(nr, b, d) && !--k.fault_in) {
		k.fault_came = true;
		if (nr == SYS_mremap && k.fault_errno == -ENOMEM)
			mremap_fails((uint64_t)b, (uint64_t)e);
		return k.fault_errno;
	}
	return played(nr, a, b, c, d, e, f);
}

static long played(long nr, long a, long b, long c, long d, long e, long f)
{
	switch (nr) {
	case SYS_recvmsg:
		return do_recvmsg((struct msghdr *)b);
	case SYS_sendto:
		return do_sendto((void *)b, (size_t)c);
	case SYS_sendmsg:
		return (long)((struct msghdr *)b)->msg_iov->iov_len;
	case SYS_ppoll:
		return do_ppoll((struct pollfd *)a, b);
	case SYS_mmap:
		return do_mmap((uint64_t)a, (uint64_t)b, (int)c, (int)d, (int)e, (uint64_t)f);
	case SYS_munmap:
		return do_munmap((uint64_t)a, (uint64_t)b);
	case SYS_mremap:
		return do_mremap((uint64_t)a, (uint64_t)b, (int)d, (uint64_t)e);
	case SYS_msync:
		return do_msync((uint64_t)a, (uint64_t)b);
	case SYS_madvise:
		return do_madvise((uint64_t)a, (uint64_t)b, (int)c);
	case SYS_ioctl:
		return do_ioctl((int)a, (unsigned long)b, (void *)c);
	case SYS_close:
		return do_close((int)a);
	case SYS_pread64:
		return do_pread((int)a, (void *)b, (uint64_t)c, (uint64_t)d);
	case SYS_lseek:
		MUST(a == FD_MAPS);
		k.maps_at = 0;
		return 0;
	case SYS_mincore:
		return do_mincore((uint64_t)a, (uint64_t)b, (uint8_t *)c);
	case SYS_openat:
		return do_open((const char *)b);
	case SYS_read:
		return do_read((int)a, (char *)b, (size_t)c);
	case SYS_getdents64:
		return do_getdents((char *)b);
	case SYS_clock_gettime:
		*(struct timespec *)b =
			(struct timespec){ (time_t)(k.now / 1000), (long)(k.now % 1000) * 1000000 };
		return 0;
	case SYS_fstat:
		((struct stat *)b)->st_ino = 77;
		return 0;
	case SYS_pidfd_open:
		return FD_SMALL;
	case SYS_prlimit64:
		*(struct rlimit *)d = (struct rlimit){ RLIM_INFINITY, RLIM_INFINITY };
		return 0;
	case SYS_getpid:
	case SYS_gettid:
		return 4242;
	/* Brk, locks, signals, mprotect, identity: nothing happens, and that is all right. */
	default:
		return 0;
	}
}

/* ---- one input ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	memory = mmap((void *)BASE, PAGES * PAGE, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	MUST(memory == (void *)BASE);
	for (unsigned int i = 0; i < FRAMES; i++)
		memset(frames[i], (int)i, PAGE);
	MUST(as_init() == 0);
	return 0;
}

static void set_scene(void)
{
	agent.kit.sigfd = FD_SIG;
	agent.kit.mem = FD_MEM;
	agent.kit.pagemap = FD_PAGEMAP;
	agent.kit.maps = FD_MAPS;
	agent.kit.uffd_async = agent.kit.uffd_sync = agent.kit.arena = -1;
	as_agent_lock();
	as_clear(0, 1ull << 47);
	as_frames_clear(BASE, BASE + PAGES * PAGE);
	MUST(!as_set(BASE + OFFERED_FROM * PAGE, BASE + OFFERED_TO * PAGE, PROT_READ | PROT_WRITE,
		     AS_WANTED, 0));
	as_unlock();
	for (unsigned int i = 0; i < PAGES; i++)
		store(i, (uint8_t)(i % 7 ? i % FRAMES : 0));
	for (unsigned int i = 0; i < PAGES; i += 11) {
		store(i, 0);
		k.page[i] = ABSENT;
	}
}

/* As at the end of a process: the agent leaves nothing open or mapped. */
static void clean_up(void)
{
	struct agent *a = &agent;
	struct sentinels *s = &a->heritage.sentinels;

	check_memory();
	sentinel_retire(s);
	while (s->nr_old)
		sysc2(SYS_munmap, s->old[--s->nr_old], PAGE);
	for (int i = 0; i < k.nr_passed; i++)
		MUST(k.passed[i] == CLOSED);
	kit_end(&a->kit);
	*a = (struct agent){ .kit = KIT_NONE, .link = LINK_NONE(&a->kit) };
	mailbox = (struct mailbox){ 0 };
}

/* One connection, to its end. */
static void connection(struct agent *a)
{
	k.nr_messages = k.orders = k.answers = 0;
	k.in_order = false;
	link_begin(&a->link, FD_SOCK);
	serve_connection(&a->link, &a->heritage);
}

/*
 * Fail the nth call with an errno, and play the script; then again without. Did the nth call come?
 */
bool fuzz_agent_sweep(const uint8_t *script, size_t size, unsigned int nth, int error)
{
	memset(&k, 0, sizeof(k));
	k.now = 1000;
	set_scene();
	k.fault_in = nth;
	k.fault_errno = error;
	for (int i = 0; i < 2; i++) {
		k.p = script;
		k.end = script + size;
		fuzz_agent_merged = 0;
		connection(&agent);
		k.fault_in = 0; /* the second is whole */
	}
	clean_up();
	return k.fault_came;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int errors[] = { -ENOMEM, -EMFILE, -EINTR, -EAGAIN, -EBUSY, -EINVAL };

	memset(&k, 0, sizeof(k));
	k.p = data;
	k.end = data + size;
	k.now = 1000;
	set_scene();
	k.fault_in = take8();
	k.fault_in |= (unsigned int)take8() << 8;
	k.fault_errno = errors[take8() % 6];
	/* The next connection inherits what the agent leaves when it gives one up. */
	for (int i = 0; i < 4; i++)
		connection(&agent);
	k.fault_in = 0;
	clean_up();
	return 0;
}
