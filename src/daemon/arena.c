/* SPDX-License-Identifier: MIT */
/*
 * arena.c - see arena.h.
 *
 * The arena is a sparse file of the largest size that can ever be needed, so it never grows and
 * clients can map any frame of it. It never shrinks either: a shrunk file would make clients fault
 * with SIGBUS and would take their private pages. vault.h says why nobody else can write to it.
 *
 * A frame comes to lie on its node by the policy of the thread that writes it, and the file has no
 * policy. The kernel obeys one of the file also where a client copies a page after a write: all
 * copies would lie on the frame's node, and not where the writer runs or wants them.
 */
#include "daemon/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/span.h"
#include "wire/kernel_abi.h"
#include "wire/wire.h"

#define MAX_ARENA_FRAMES (1ull << 31) /* numbers of frames stay far from KSM_FRAME_NONE */
#define SPAN_TIMES 4u                 /* see arena.h */
#define MIN_ZONE_FRAMES (1u << 14)    /* 64 MiB: below that nothing is saved */
#define ZONE_ALIGN 512u               /* frames of a pageblock */
#define HUGE_FRAMES 512u              /* frames of a huge page on x86-64 */

static off_t frame_offset(uint32_t frame)
{
	return (off_t)frame << KSM_PAGE_SHIFT;
}

static int make_file(struct arena *a, const struct vault *v)
{
	uint64_t size = ((uint64_t)a->zone_frames << KSM_PAGE_SHIFT) * (unsigned int)a->nr_nodes;

	return vault_file_new(v, KSM_ARENA_NAME, size, VAULT_WRITTEN, &a->file);
}

static size_t nr_frames(const struct arena *a)
{
	return (size_t)a->zone_frames * (unsigned int)a->nr_nodes;
}

/* Where frames are taken to lie. It takes memory for those that were moved and those beside. */
static int make_pretended(struct arena *a)
{
	void *p;

	if (!a->topology->pretends_moves)
		return 0;
	p = mmap(NULL, nr_frames(a), PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return -errno;
	a->pretended = p;
	return 0;
}

static int pretended_nid(const struct arena *a, uint32_t frame)
{
	int moved = a->pretended ? a->pretended[frame] : 0;

	return moved ? moved - 1 : (int)(frame / a->zone_frames);
}

static void pretend(const struct arena *a, uint32_t frame, uint32_t nr, int nid)
{
	for (uint32_t i = 0; a->pretended && i < nr; i++)
		a->pretended[frame + i] = (uint8_t)(nid + 1);
}

/* Frames that the machine's memory would fill. */
static uint64_t machine_frames(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);

	return pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size >> KSM_PAGE_SHIFT :
				       MAX_ARENA_FRAMES;
}

uint32_t arena_zone_frames(int nr_nodes, uint64_t limit, uint64_t span)
{
	uint64_t frames = span >> KSM_PAGE_SHIFT, most = MAX_ARENA_FRAMES / (unsigned int)nr_nodes;

	if (!frames)
		frames = SPAN_TIMES * (limit ? limit >> KSM_PAGE_SHIFT : machine_frames());
	if (frames < MIN_ZONE_FRAMES)
		frames = MIN_ZONE_FRAMES;
	if (frames > most)
		frames = most;
	return (uint32_t)(frames + ZONE_ALIGN - 1) & ~(ZONE_ALIGN - 1);
}

struct arena *arena_new(struct numa_topology *t, const struct vault *v,
			struct account_table *accounts, uid_t uid, bool common,
			uint32_t zone_frames)
{
	struct arena *a = calloc(1, sizeof(*a));
	int err;

	if (!a)
		return NULL;
	a->topology = t;
	a->accounts = accounts;
	a->charge.common = common;
	a->uid = uid;
	a->nr_nodes = t->nr_nodes;
	a->zone_frames = zone_frames;
	a->pagemap = -1;
	err = make_file(a, v);
	err = err ? err : make_pretended(a);
	if (!err && getrandom(&a->id, sizeof(a->id), 0) != sizeof(a->id))
		err = -errno;
	if (err) {
		arena_free(a);
		errno = -err;
		return NULL;
	}
	return a;
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	if (a->pretended)
		munmap(a->pretended, nr_frames(a));
	vault_file_close(&a->file);
	charge_drop(&a->charge);
	free(a);
}

int arena_open_readonly(const struct arena *a)
{
	return vault_file_share(&a->file);
}

void arena_drop_policy(const struct arena *a)
{
	size_t len = ((size_t)a->zone_frames << KSM_PAGE_SHIFT) * (unsigned int)a->nr_nodes;
	void *p;

	if (a->nr_nodes == 1 || !a->topology->ops->unbind)
		return;
	p = mmap(NULL, len, PROT_NONE, MAP_SHARED | MAP_NORESERVE, a->file.fd, 0);
	if (p == MAP_FAILED)
		return; /* no memory now; the next pass tries again */
	a->topology->ops->unbind(a->topology, p, len);
	munmap(p, len);
}

/* From here on this thread's frames come to lie on node `nid`; -1: where it runs. */
static void prefer_node(const struct arena *a, int nid)
{
	/* Where the kernel refuses, for a cpuset of ours, the frame lies where it may. */
	if (a->nr_nodes > 1)
		a->topology->ops->prefer(a->topology, nid);
}

/* What a call that fills frames came to: 0 (it got on, or is to be made again) or -errno. */
static int filled(ssize_t n)
{
	if (n > 0 || (n < 0 && errno == EINTR))
		return 0;
	return n < 0 && (errno == ENOSPC || errno == ENOMEM) ? -errno : -EIO;
}

static int write_frames(const struct arena *a, uint32_t frame, const void *buf, uint32_t nr)
{
	size_t len = (size_t)nr << KSM_PAGE_SHIFT, done = 0;
	int err = 0;

	while (done < len && !err) {
		ssize_t n = pwrite(a->file.fd, (const char *)buf + done, len - done,
				   frame_offset(frame) + (off_t)done);

		err = filled(n);
		if (n > 0)
			done += (size_t)n;
	}
	return err;
}

int arena_frame_write(void *arena, uint32_t frame, const void *buf, uint32_t nr)
{
	struct arena *a = arena;
	int err;

	prefer_node(a, (int)(frame / a->zone_frames));
	err = write_frames(a, frame, buf, nr);
	prefer_node(a, -1);
	return err;
}

static uint64_t length(uint32_t nr)
{
	return (uint64_t)nr << KSM_PAGE_SHIFT;
}

/*
 * The frames, at an address one behind the other, present, or NULL; and the address of each. To map
 * a frame as present fills a hole, which is why each must have contents.
 */
static void *map_frames(const struct arena *a, const uint32_t *frame, uint32_t nr, uint64_t *addr)
{
	char *p = mmap(NULL, length(nr), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
		       0);
	bool ok = true;

	if (p == MAP_FAILED)
		return NULL;
	for (uint32_t i = 0, to; i < nr && ok; i = to) {
		for (to = i + 1; to < nr && frame[to] == frame[to - 1] + 1; to++)
			;
		ok = mmap(p + length(i), length(to - i), PROT_READ, MAP_SHARED | MAP_FIXED,
			  a->file.fd, frame_offset(frame[i])) != MAP_FAILED;
	}
	for (uint32_t i = 0; i < nr; i++)
		addr[i] = (uint64_t)(uintptr_t)p + length(i);
	if (ok && !madvise(p, length(nr), MADV_POPULATE_READ))
		return p;
	munmap(p, length(nr));
	return NULL;
}

/*
 * Inside the kernel, which maps the old frames nowhere for it. That takes a tenth less than to
 * write them from a mapping. A hole would be filled, but each of these has contents.
 */
static int copy_frames(const struct arena *a, uint32_t from, uint32_t to, uint32_t nr)
{
	off_t in = frame_offset(from), out = frame_offset(to);
	const off_t end = frame_offset(from + nr);
	int err = 0;

	while (in < end && !err)
		err = filled(
			copy_file_range(a->file.fd, &in, a->file.fd, &out, (size_t)(end - in), 0));
	return err;
}

int arena_frame_copy(void *arena, uint32_t from, uint32_t to, uint32_t nr, int nid)
{
	struct arena *a = arena;
	int err;

	pretend(a, to, nr, nid);
	prefer_node(a, nid);
	err = copy_frames(a, from, to, nr);
	prefer_node(a, -1);
	return err;
}

void arena_frame_nids(void *arena, const uint32_t *frame, uint32_t nr, int *nids)
{
	struct arena *a = arena;
	uint64_t addr[NUMA_MAX_QUERY];
	void *p;

	for (uint32_t i = 0; i < nr; i++)
		nids[i] = a->topology->query ? -1 : pretended_nid(a, frame[i]);
	p = a->topology->query ? map_frames(a, frame, nr, addr) : NULL;
	if (!p)
		return;
	a->topology->ops->page_nids(a->topology, 0, addr, (int)nr, nids);
	munmap(p, length(nr));
}

static void ask_all(struct numa_topology *t, const uint64_t *addr, uint32_t nr, int *nids)
{
	for (uint32_t i = 0; i < nr; i += NUMA_MAX_QUERY)
		t->ops->page_nids(t, 0, addr + i, (int)u64_min(nr - i, NUMA_MAX_QUERY), nids + i);
}

int arena_frame_move(void *arena, const uint32_t *frame, uint32_t nr, int to, int *nids)
{
	struct arena *a = arena;
	uint64_t addr[NUMA_MAX_MOVE];
	void *p;
	int err;

	for (uint32_t i = 0; i < nr; i++) {
		nids[i] = a->pretended ? to : -1;
		pretend(a, frame[i], 1, to);
	}
	if (!a->topology->ops->move)
		return a->pretended ? 0 : -ENOSYS;
	p = map_frames(a, frame, nr, addr);
	if (!p)
		return 0; /* no memory now */
	err = a->topology->ops->move(a->topology, addr, (int)nr, to);
	if (!err)
		ask_all(a->topology, addr, nr, nids);
	munmap(p, length(nr));
	return err;
}

uint32_t arena_frames_allow(void *arena, uint32_t least, uint32_t wish)
{
	struct arena *a = arena;

	/* Refused or not, the charge says what holds. */
	charge_some(a->accounts, &a->charge, a->uid, ACCOUNT_ARENA_BYTES,
		    (uint64_t)least << KSM_PAGE_SHIFT, (uint64_t)wish << KSM_PAGE_SHIFT);
	return (uint32_t)(a->charge.held[ACCOUNT_ARENA_BYTES] >> KSM_PAGE_SHIFT);
}

uint64_t arena_debt_allow(void *arena, uint64_t in_use, uint64_t least, uint64_t wish)
{
	const enum account_unit unit = ACCOUNT_DEBT_BYTES;
	struct arena *a = arena;
	uint64_t need = in_use << KSM_PAGE_SHIFT;

	if (need > a->charge.held[unit])
		charge_note(a->accounts, &a->charge, a->uid, unit, need);
	charge_some(a->accounts, &a->charge, a->uid, unit, least << KSM_PAGE_SHIFT,
		    wish << KSM_PAGE_SHIFT);
	return u64_max(a->charge.held[unit] >> KSM_PAGE_SHIFT, in_use);
}

void arena_frame_free(void *arena, uint32_t frame, uint32_t nr)
{
	struct arena *a = arena;

	pretend(a, frame, nr, -1);
	/* The engine may use the frame again at once: without the hole it only keeps its memory. */
	if (fallocate(a->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, frame_offset(frame),
		      (off_t)nr << KSM_PAGE_SHIFT))
		log_msg(LOG_WARNING, "frames %u+%u keep their memory: error %d", frame, nr, errno);
}

uint64_t arena_nr_pages(const struct arena *a)
{
	struct stat st;

	/* In units of 512 bytes: stat(2). */
	return fstat(a->file.fd, &st) ? 0 : (uint64_t)st.st_blocks >> (KSM_PAGE_SHIFT - 9);
}

static bool is_hole(const struct arena *a, uint32_t frame)
{
	return lseek(a->file.fd, frame_offset(frame), SEEK_HOLE) == frame_offset(frame);
}

/* Does the kernel map the 2 MiB at p as one? -1: it does not say. */
static int maps_huge(const struct arena *a, const char *p)
{
	struct kabi_page_region r;
	struct kabi_pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uint64_t)(uintptr_t)p,
		.end = (uint64_t)(uintptr_t)p + length(HUGE_FRAMES),
		.vec = (uint64_t)(uintptr_t)&r,
		.vec_len = 1,
		.category_mask = KABI_PAGE_IS_HUGE,
		.return_mask = KABI_PAGE_IS_HUGE,
	};

	return ioctl(a->pagemap, KABI_PAGEMAP_SCAN, &arg);
}

/*
 * A huge page has no holes, so a look at a place that should be one is enough as a rule. To be
 * sure the frame is mapped anew: the kernel then maps a huge page as one, if the place suits it.
 */
bool arena_frame_is_huge(void *arena, uint32_t frame, uint32_t bare)
{
	const struct arena *a = arena;
	uint32_t first = frame - frame % HUGE_FRAMES;
	size_t len = length(HUGE_FRAMES);
	char *room, *p;
	int huge = -1;

	if (a->pagemap < 0 || (bare != KSM_FRAME_NONE && is_hole(a, bare)))
		return false;
	room = mmap(NULL, 2 * len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (room == MAP_FAILED)
		return true;
	p = room + (len - (uintptr_t)room % len) % len;
	if (mmap(p, len, PROT_READ, MAP_SHARED | MAP_FIXED, a->file.fd, frame_offset(first)) == p &&
	    !madvise(p + length(frame - first), KSM_PAGE_SIZE, MADV_POPULATE_READ))
		huge = maps_huge(a, p);
	munmap(room, 2 * len);
	return huge != 0; /* to hold memory back is safe */
}
