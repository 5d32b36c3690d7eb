/* SPDX-License-Identifier: MIT */
/*
 * arena.h - the memory of one domain's frames.
 *
 * Only the daemon holds a writable descriptor; clients get one opened read-only. All functions may
 * be called from any thread; the engine orders calls that concern the same frame.
 */
#ifndef KSMD_ARENA_H
#define KSMD_ARENA_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/account.h"
#include "daemon/vault.h"
#include "numa/numa_topology.h"

struct arena {
	struct vault_file file;
	struct numa_topology *topology;
	struct account_table *accounts;
	struct charge charge; /* frames that the engine may use; engine's lock */
	uid_t uid;            /* who pays for them */
	uint64_t id;          /* random; differs between any two arenas */
	uint32_t zone_frames; /* node n owns [n * zone_frames, (n + 1) * zone_frames) */
	int nr_nodes;
	int pagemap; /* of the daemon itself, its owner's; -1: no huge page can be seen */
	/*
	 * NULL, or for each frame the node that it is taken to lie on, plus 1 (0: the one of its
	 * zone): numa_topology.pretends_moves.
	 */
	_Atomic uint8_t *pretended;
};

/*
 * Span of each zone, in frames, when there are that many nodes and frames may hold `limit` bytes
 * (0: as much as the machine has memory): four times that, so that there is room to have frames
 * side by side, and not so much that it is for nothing. `span` bytes override it if not 0.
 */
uint32_t arena_zone_frames(int nr_nodes, uint64_t limit, uint64_t span);
/*
 * Returns the arena, or NULL with errno. Frames take memory only once they are written. They are
 * charged to `uid`, or to nobody's share if they are for all (`common`). zone_frames
 * is what arena_zone_frames() says.
 */
struct arena *arena_new(struct numa_topology *t, const struct vault *v,
			struct account_table *accounts, uid_t uid, bool common,
			uint32_t zone_frames);
void arena_free(struct arena *a);
/* A new read-only descriptor for a client, close-on-exec, owned by the caller; or -errno. */
int arena_open_readonly(const struct arena *a);

/*
 * A client can give the file a policy through its own mapping, and so decide where everybody's
 * copies and new frames lie. This takes it away. Costs some microseconds; nothing on one node.
 */
void arena_drop_policy(const struct arena *a);
/* Pages that it has, in memory or swapped out. */
uint64_t arena_nr_pages(const struct arena *a);

/* For struct engine_ops; `arena` is a struct arena. */
int arena_frame_write(void *arena, uint32_t frame, const void *buf, uint32_t nr);
int arena_frame_copy(void *arena, uint32_t from, uint32_t to, uint32_t nr, int nid);
uint32_t arena_frames_allow(void *arena, uint32_t least, uint32_t wish);
uint64_t arena_debt_allow(void *arena, uint64_t in_use, uint64_t least, uint64_t wish);
void arena_frame_nids(void *arena, const uint32_t *frame, uint32_t nr, int *nids);
int arena_frame_move(void *arena, const uint32_t *frame, uint32_t nr, int to, int *nids);
void arena_frame_free(void *arena, uint32_t frame, uint32_t nr);
bool arena_frame_is_huge(void *arena, uint32_t frame, uint32_t bare);

#endif
