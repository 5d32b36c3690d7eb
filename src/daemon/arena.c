/* SPDX-License-Identifier: MIT */
/*
 * arena.c - see arena.h.
 *
 * The arena is a sparse file of the largest size that can ever be needed, so it never grows and
 * clients can map any frame of it. It never shrinks either: a shrunk file would make clients fault
 * with SIGBUS and would take their private pages. vault.h says why nobody else can write to it.
 */
#include "daemon/arena.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "wire/wire.h"

#define MAX_ARENA_FRAMES (1ull << 31) /* numbers of frames stay far from KSM_FRAME_NONE */
#define SPAN_TIMES 4u                 /* see arena.h */
#define MIN_ZONE_FRAMES (1u << 14)    /* 64 MiB: below that nothing is saved */
#define ZONE_ALIGN 512u               /* frames of a pageblock */

static off_t frame_offset(uint32_t frame)
{
	return (off_t)frame << KSM_PAGE_SHIFT;
}

/*
 * Bind each zone to its node. The policy of a shared file lives in its inode, so a mapping is
 * needed only while the policy is set. Failure costs locality, not correctness: say so and go on.
 */
static void bind_zones(const struct arena *a, struct numa_topology *t)
{
	size_t len = (size_t)a->zone_frames << KSM_PAGE_SHIFT;

	for (int nid = 0; nid < a->nr_nodes && a->nr_nodes > 1; nid++) {
		void *p = mmap(NULL, len, PROT_NONE, MAP_SHARED | MAP_NORESERVE, a->file.fd,
			       (off_t)len * nid);
		int err = p == MAP_FAILED ? -errno : t->ops->bind(t, p, len, nid);

		if (err)
			log_msg(LOG_WARNING, "frames of node %d cannot be bound to it: error %d",
				nid, -err);
		if (p != MAP_FAILED)
			munmap(p, len);
	}
}

static int make_file(struct arena *a, const struct vault *v)
{
	uint64_t size = ((uint64_t)a->zone_frames << KSM_PAGE_SHIFT) * (unsigned int)a->nr_nodes;

	return vault_file_new(v, KSM_ARENA_NAME, size, VAULT_WRITTEN, &a->file);
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
	a->accounts = accounts;
	a->charge.common = common;
	a->uid = uid;
	a->nr_nodes = t->nr_nodes;
	a->zone_frames = zone_frames;
	err = make_file(a, v);
	if (!err && getrandom(&a->id, sizeof(a->id), 0) != sizeof(a->id))
		err = -errno;
	if (err) {
		arena_free(a);
		errno = -err;
		return NULL;
	}
	bind_zones(a, t);
	return a;
}

void arena_free(struct arena *a)
{
	if (!a)
		return;
	vault_file_close(&a->file);
	charge_drop(&a->charge);
	free(a);
}

int arena_open_readonly(const struct arena *a)
{
	return vault_file_share(&a->file);
}

int arena_frame_write(void *arena, uint32_t frame, const void *buf, uint32_t nr)
{
	struct arena *a = arena;
	size_t len = (size_t)nr << KSM_PAGE_SHIFT, done = 0;

	while (done < len) {
		ssize_t n = pwrite(a->file.fd, (const char *)buf + done, len - done,
				   frame_offset(frame) + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == ENOSPC || errno == ENOMEM ? -errno : -EIO;
		if (n == 0)
			return -EIO;
		done += (size_t)n;
	}
	return 0;
}

int arena_frame_copy(void *arena, uint32_t from, uint32_t to, uint32_t nr)
{
	struct arena *a = arena;
	unsigned char page[KSM_PAGE_SIZE];

	for (; nr--; from++, to++) {
		ssize_t n;
		int err;

		do
			n = pread(a->file.fd, page, sizeof(page), frame_offset(from));
		while (n < 0 && errno == EINTR);
		if (n != (ssize_t)sizeof(page))
			return -EIO;
		err = arena_frame_write(a, to, page, 1);
		if (err)
			return err;
	}
	return 0;
}

uint32_t arena_frames_allow(void *arena, uint32_t least, uint32_t wish)
{
	struct arena *a = arena;

	/* Refused or not, the charge says what holds. */
	charge_some(a->accounts, &a->charge, a->uid, ACCOUNT_ARENA_BYTES,
		    (uint64_t)least << KSM_PAGE_SHIFT, (uint64_t)wish << KSM_PAGE_SHIFT);
	return (uint32_t)(a->charge.held[ACCOUNT_ARENA_BYTES] >> KSM_PAGE_SHIFT);
}

void arena_frame_free(void *arena, uint32_t frame, uint32_t nr)
{
	struct arena *a = arena;

	/* The engine may use the frame again at once: without the hole it only keeps its memory. */
	if (fallocate(a->file.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, frame_offset(frame),
		      (off_t)nr << KSM_PAGE_SHIFT))
		log_msg(LOG_WARNING, "frames %u+%u keep their memory: error %d", frame, nr, errno);
}
