/* SPDX-License-Identifier: MIT */
/*
 * engine.h - the deduplication engine: everything that decides, nothing that touches the system.
 *
 * One engine is one domain: one arena of frames, one set of trees. The daemon tells it
 * of clients and their regions. It asks its ops what was written, reads and hashes that, looks it
 * up, and gives orders whose outcome the daemon reports. It knows no sockets, clocks, file
 * descriptors or libnuma: they come in through struct engine_ops. There is no file-scope state, so
 * any number of engines can live in one process.
 *
 * A page's way, file by file: see.c (change tracking) -> read.c (hash, trees) -> order.c (order,
 * outcome) -> counters.c.
 *
 * Context. Every function may be called from any thread and takes the engine lock itself;
 * engine_scan() by one thread at a time for each worker. Functions that look up clients or regions
 * (RCU) must run on a thread registered with liburcu. The engine calls ops marked [unlocked]
 * without its lock, the others with it; no op may call back into the engine.
 *
 * Addresses are bytes, frames are numbers of 4 KiB pages in the arena.
 *
 * Length: it is the face of a whole folder, and most of it says what may be expected.
 */
#ifndef KSM_ENGINE_H
#define KSM_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/slab.h"
#include "base/span.h"
#include "engine/knobs.h"
#include "wire/wire.h"

struct engine;
struct mm_slot; /* a client's address space; reference-counted */

/* What change tracking says of a run of present pages that were written since the last look. */
enum track_kind {
	TRACK_ANON,    /* private anonymous memory */
	TRACK_FILE,    /* a page of a file mapping: a frame, unbroken */
	TRACK_ZERO,    /* the kernel's shared zero page */
	TRACK_UNKNOWN, /* it was written, and could not be looked at for the moment */
	TRACK_HUGE,    /* private anonymous memory mapped by a huge page, which is never armed:
			* whether it was written is not known */
};
struct track_range {
	struct span at; /* bytes */
	enum track_kind kind;
};

/* What the engine knows of a range whose changes it asks for: how it is best walked. */
enum track_how {
	TRACK_MIXED,
	TRACK_DENSE, /* every page of it is tracked, so hardly any is missing, and arming missing
		      * pages too (which costs page tables) is a fair price for a faster walk */
	TRACK_NEW,   /* its first pages are not tracked, so probably none is */
};

struct engine_ops {
	/*
	 * [unlocked] Runs of present pages in [start, end) written since the last call, armed again
	 * atomically; at most `max`, ascending. A page that is written during the call may be in
	 * two of them. *walk_end: where to go on (== end when done). Returns the number of runs.
	 * Whatever was armed again is among them, as TRACK_UNKNOWN if need be, and all huge pages
	 * are, unless the range is dense. Or returns -ESRCH when the client is gone, or another
	 * negative errno: then nothing was armed, and the engine skips the range. The range may be
	 * terabytes of which hardly any is there: the call returns after about a millisecond, and
	 * with what it has when that is some hundred pages. Of 128 MiB and less it may return all.
	 */
	int (*track)(void *client, uint64_t start, uint64_t end, enum track_how how,
		     struct track_range *v, int max, uint64_t *walk_end);
	/*
	 * [unlocked] CPU time of the client's process so far, in ns; it grows with whatever a
	 * thread of it does. 0: not known. May be NULL: it never is.
	 */
	uint64_t (*ran)(void *client);
	/*
	 * [unlocked] A number that grows by one or more with each page of the client that its
	 * process uses for the first time, or writes for the first time since track() reported it.
	 * 0: not known. One worker at a time asks for a client. Goes with ran().
	 */
	uint64_t (*changes)(void *client);
	/*
	 * [unlocked] What is present in [start, end) now, written or not; arms nothing. Returns as
	 * track().
	 */
	int (*look)(void *client, uint64_t start, uint64_t end, struct track_range *v, int max);
	/*
	 * [unlocked] Runs of present pages that are tracked and were not written since they were
	 * reported; arms nothing. Returns as track().
	 */
	int (*clean)(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		     uint64_t *walk_end);
	/*
	 * [unlocked] Runs of present pages in [start, end) written since track() has told of them
	 * last; arms nothing, so that track() will tell of them again. Everything else as track().
	 */
	int (*written)(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		       uint64_t *walk_end);
	/*
	 * [unlocked] Read client memory. Returns bytes (fewer where a page cannot be read), or a
	 * negative errno.
	 */
	ssize_t (*read)(void *client, uint64_t addr, void *buf, size_t len);
	/* [unlocked] Node of each page, in nids[]; unknown is -1. Not called when nr_nodes is 1. */
	void (*nid)(void *client, const uint64_t *addr, int nr, int *nids);
	/*
	 * Send an order, of which the engine fills in id, addr and frame[], the op hdr and seq.
	 * Returns 0, -EAGAIN (the client cannot take it now; the engine tries again at the next
	 * engine_flush()), or another negative errno (the client is going away).
	 */
	int (*send_order)(void *client, struct ksm_msg_order *order);
	/*
	 * Ask for private memory in the place of frames of the block at addr: bit n of mask is page
	 * n. The answer is engine_region_forget(). Returns as send_order().
	 */
	int (*give_back)(void *client, uint64_t addr, uint64_t mask);
	/*
	 * [unlocked] Write nr contiguous frames. Several workers may be at it at once, each with
	 * frames of its own. Returns 0 or -ENOSPC, -ENOMEM, -EIO.
	 */
	int (*frame_write)(void *arena, uint32_t frame, const void *buf, uint32_t nr);
	/*
	 * [unlocked] Fill nr contiguous new frames with the bytes of others, which do not change,
	 * and have them lie on node `nid` if that has room. Returns as frame_write().
	 */
	int (*frame_copy)(void *arena, uint32_t from, uint32_t to, uint32_t nr, int nid);
	/*
	 * The engine has `least` frames in use or is about to, and would have room for `wish`.
	 * Returns how many it may have in use: from `least` to `wish`, or what it said before when
	 * that many cannot be had. Fewer than before can always be had.
	 */
	uint32_t (*frames_allow)(void *arena, uint32_t least, uint32_t wish);
	/*
	 * Pages that are merged, or ordered to be, would each need memory if all were written. So
	 * many are; forks make more that nobody can refuse. Returns how many there may be: up to
	 * `wish`, and in_use at least. Fewer than `least` count as a refusal.
	 */
	uint64_t (*debt_allow)(void *arena, uint64_t in_use, uint64_t least, uint64_t wish);
	/* The same for bytes of the engine's records of a client, which are on its user. */
	uint64_t (*memory_allow)(void *client, uint64_t least, uint64_t wish);
	/*
	 * [unlocked] Node on which each of nr frames with contents lies, in nids[]; unknown is -1.
	 * nr <= ENGINE_ASK_MAX. Not called when nr_nodes is 1.
	 */
	void (*frame_nids)(void *arena, const uint32_t *frame, uint32_t nr, int *nids);
	/*
	 * [unlocked] Have frames with contents moved to node `to`, under all their mappings; nids[]
	 * as for frame_nids(), nr <= ENGINE_MOVE_MAX. Returns 0, also where a frame could not be
	 * moved, or -errno: none will be, as we may not.
	 */
	int (*frame_move)(void *arena, const uint32_t *frame, uint32_t nr, int to, int *nids);
	/* Give the memory of nr contiguous frames back. Must not fail. */
	void (*frame_free)(void *arena, uint32_t frame, uint32_t nr);
	/*
	 * Is this frame, which has contents, part of a huge page? `bare` is one of the same 2 MiB
	 * that has none and makes the answer cheap, or KSM_FRAME_NONE. NULL: there are none.
	 */
	bool (*frame_is_huge)(void *arena, uint32_t frame, uint32_t bare);
	/* The last reference to a client's mm_slot is gone: free the client. Any context. */
	void (*client_release)(void *client);
};

#define ENGINE_NODES 64
#define ENGINE_ASK_MAX 512u   /* frames */
#define ENGINE_MOVE_MAX 2048u /* frames; a move takes one to four microseconds each */

struct engine_config {
	const struct engine_ops *ops;
	void *arena;
	const struct ksm_knobs *knobs; /* shared by all engines of a daemon; outlives them */
	int nr_nodes;                  /* 1..ENGINE_NODES */
	uint32_t zone_frames;          /* frames of each node's zone; node n owns [n*z, (n+1)*z) */
	uint8_t (*distance)[ENGINE_NODES]; /* between nodes; copied. NULL: all are as far */
	/*
	 * Memory on each node, whose number is the place. Trees and lists are walked by the scan
	 * threads of their node, so their records lie there: a stable node on the node that it
	 * counts for, what is known of a client's pages on the one where most of its threads run;
	 * engine_survey() has them follow. NULL: malloc(). Outlives the engine.
	 */
	const struct slab_memory *memory;
	bool one_client;   /* the domain never has another: min_sharers is void */
	bool guard_frames; /* for debugging: a frame is kept empty beside each run of frames */
	uint32_t reserve_frames; /* contiguous reserve of each zone, at its end; whole pageblocks */
	uint64_t hash_seed;      /* secret: contents must not be predictable from hashes */
};

/* The engine, which the caller frees, or NULL (no memory, or nr_nodes out of range). */
struct engine *engine_new(const struct engine_config *cfg);
/*
 * All clients must have exited (engine_mm_exit()) and their references been dropped. Waits for RCU
 * callbacks.
 */
void engine_free(struct engine *e);
/* The same without waiting: the caller has called rcu_barrier() twice since the last reference. */
void engine_free_quiet(struct engine *e);

/*
 * A client. engine_mm_new() returns one with a reference, which is the caller's, or NULL (no
 * memory); `client` is what the ops get. engine_mm_exit() drops everything that the engine knows of
 * it: its pages leave the trees, its sites leave their stable nodes, orders under way are
 * forgotten. No scan finds it afterwards. The caller still owns its reference and drops it with
 * mm_put(). ops->client_release(client) runs when the last one goes, after an RCU grace period.
 */
struct mm_slot *engine_mm_new(struct engine *e, void *client, uint32_t id);
void engine_mm_exit(struct mm_slot *mm);
void mm_get(struct mm_slot *mm);
void mm_put(struct mm_slot *mm);
/* mm_get() by who has no reference, in an RCU read section. False: it is too late. */
bool mm_get_live(struct mm_slot *mm);
/*
 * Clients of one family came from each other by fork(2), with no execve(2) since: min_sharers
 * counts them as one. Before the client offers anything; else it is a family of its own.
 */
void engine_mm_set_family(struct mm_slot *mm, uint64_t family);
/*
 * Mappings, for the budget: how many the process has as it counted them just now, those of merging
 * included, and its limit. Between two counts the engine follows its own orders.
 */
void engine_mm_set_vmas(struct mm_slot *mm, uint32_t nr_vmas, uint32_t max_map_count);

void engine_mm_forked(struct mm_slot *mm, uint32_t nr); /* since it said so last: forks.h */

/*
 * Somebody waits until the client's pages are merged: in the pass under way and the two after it no
 * page sits out because it was written often (smart_scan).
 */
void engine_mm_hurry(struct mm_slot *mm);

/*
 * Ranges, in bytes, page aligned, start < end <= 2^47. ADD of what is there already is fine; DEL
 * and FORGET of what is not there, too. DEL drops tracking; FORGET keeps the range offered but
 * drops what is known of its pages, which count as new when tracking shows them. The next pass
 * looks for pages in the ranges of both that tracking will not report (unseen.h). Return 0, -EINVAL
 * (a bad range; ADD: the client has exited) or -ENOMEM.
 */
int engine_region_add(struct mm_slot *mm, uint64_t start, uint64_t end);
int engine_region_del(struct mm_slot *mm, uint64_t start, uint64_t end);
int engine_region_forget(struct mm_slot *mm, uint64_t start, uint64_t end);
/*
 * The first part of a range that DEL and FORGET drop within about a millisecond: the rest has its
 * turn when others had theirs.
 */
struct span engine_part(struct mm_slot *mm, struct span at);
/* The same for ADD, which joins regions that the range reaches over. */
struct span engine_part_to_add(struct mm_slot *mm, struct span at);
/* Regions that the client offers. */
uint32_t engine_nr_regions(struct mm_slot *mm);
/*
 * The client says that pages already stand on frames (it was forked, or moved them). A page that is
 * tracked and said to stand on an unknown or freed frame is counted KSM_LEFT_FOREIGN. Retired
 * frames come back to life. Returns 0, -EINVAL (outside offered memory or outside the arena), or
 * -ENOMEM.
 */
int engine_adopt(struct mm_slot *mm, uint64_t addr, uint32_t nr, uint32_t frame);

/*
 * Look whether a part of what merging has placed was written since, from *addr on, so that counters
 * show the present; *addr: where to go on. One thread at a time for each engine. Returns 1 when
 * there is more, 0 at the end, or -ESRCH: the client is gone.
 */
int engine_look(struct mm_slot *mm, uint64_t *addr);

/* Outcome of an order. Returns 0, or -EPROTO when no such order is under way (client lies). */
int engine_order_done(struct mm_slot *mm, uint32_t id, const uint8_t result[KSM_ORDER_PAGES]);

/* Most threads that can scan at a time: more cores than that would have to share few clients. */
#define ENGINE_WORKERS KNOB_SCAN_THREADS_MAX
enum engine_scan {
	ENGINE_SCAN_BUDGET,  /* the budget is used up */
	ENGINE_SCAN_PASS,    /* the pass over every region of every client is complete */
	ENGINE_SCAN_NO_WORK, /* other workers are at the last clients of the pass */
};
/*
 * Scan clients and regions from where the last call stopped, until about *budget pages have been
 * examined or the pass is complete. *budget goes down by one for a page whose contents are read, by
 * a thousandth for a page that change tracking shows clean, and by at least one for each call of
 * change tracking. worker: below ENGINE_WORKERS, of this thread alone until the call returns. One
 * worker at a time scans a client; the next goes on where another stopped for want of budget.
 */
enum engine_scan engine_scan(struct engine *e, unsigned int worker, int64_t *budget);
/*
 * The worker runs on NUMA node `nid` (-1: on any) from here on: it takes up clients that run there
 * before others. By the worker's own thread.
 */
void engine_set_worker_nid(struct engine *e, unsigned int worker, int nid);
/* Which of the orders that wait to send. */
enum engine_flush {
	ENGINE_FLUSH_RIPE, /* of full blocks, and of blocks that got nothing in several flushes */
	ENGINE_FLUSH_ALL,  /* every one */
	ENGINE_FLUSH_PASS, /* every one: the pass is over, no longer run can come (budget.c) */
};
/* Send orders. The daemon calls it after each thousand pages or so. */
void engine_flush(struct engine *e, enum engine_flush what);
/*
 * The time, in milliseconds that never go back, and random bits that nobody can guess (0 will do
 * while merge_delay_millisecs is 0): pages that have waited long enough are merged, and a change of
 * min_sharers takes effect. Deals with a part at a time and returns true when there is more. To be
 * called before scanning, again and again.
 */
bool engine_tick(struct engine *e, uint64_t now_ms, uint64_t salt);
/* What has become of a page that is tracked. `why` in ksmdctl has words for each. */
enum engine_why {
	WHY_MERGED,      /* it stands on a frame with others */
	WHY_ALONE,       /* the others have left its frame */
	WHY_ZERO,        /* it was zeros, and was given back */
	WHY_ORDERED,     /* its order waits or is under way */
	WHY_UNIQUE,      /* no other page has its contents so far */
	WHY_FEW_SHARERS, /* too few hold its contents: min_sharers */
	WHY_DELAYED,     /* it waits for merge_delay_millisecs */
	WHY_NEW,         /* it has not been compared yet */
	WHY_HELD,        /* and is not going to be for now: engine_hold() */
	WHY_DEBT,        /* the same, because of debt_allow() */
	WHY_VOLATILE,    /* it was written whenever it was looked at */
	WHY_COW_BROKEN,
	WHY_PINNED,
	WHY_FORK_SHARED,
	WHY_VMA_BUDGET,
	WHY_FORK_BUDGET,
	WHY_ARENA_LIMIT,
	WHY_FOREIGN, /* these seven are counted as left out */
	WHY_NR
};
#define ENGINE_WHY_NAMES                                                                           \
	{                                                                                          \
		"merged", "alone", "zero", "ordered", "unique", "few_sharers", "delayed", "new",   \
			"held", "debt", "volatile", "cow_broken", "pinned", "fork_shared",         \
			"vma_budget", "fork_budget", "arena_limit", "foreign"                      \
	}

/*
 * Merge nothing until further notice: no page is read, and nothing is bound to a frame. What is
 * merged stays, and scanning goes on where anything is, so that frames which are written go.
 */
void engine_hold(struct engine *e, bool hold);
/* Why nothing is read and merged: WHY_HELD, WHY_DEBT, or WHY_NR when something is. */
enum engine_why engine_rest(struct engine *e);
/* Orders under way plus pages that wait to be ordered; 0 when merging has come to rest. */
uint64_t engine_nr_orders(struct engine *e);
/* Forget all orders not yet sent (before unmerging). */
void engine_cancel_orders(struct engine *e);

/*
 * Grace periods. A frame that lost its last site is retired into the current epoch. The daemon
 * moves every client on to a new epoch, which engine_epoch_advance() returns. When no process that
 * lived in epochs <= upto is left, engine_epoch_free(upto) frees the frames retired in them.
 */
uint64_t engine_epoch(struct engine *e);
uint64_t engine_epoch_advance(struct engine *e);
uint64_t engine_epoch_free(struct engine *e, uint64_t upto); /* frames freed */
uint64_t engine_nr_retired(struct engine *e);
/*
 * Pages of the arena that belong to frames. If the arena has many more, members have made them, and
 * a sweep gives them back: engine_sweep() does a few milliseconds' worth from `frame` on, at first
 * 0, and returns where to go on, or KSM_FRAME_NONE.
 */
uint64_t engine_nr_in_memory(struct engine *e);
uint32_t engine_sweep(struct engine *e, uint32_t frame);

/*
 * Migration: migrate.c says how. A job has a number, under which it is carried on and ended:
 *
 * a node's      Nothing is to lie on node `from`: its frames are moved to `to` under their
 *               mappings, or their pages to frames of the same contents there, or to new ones.
 * CLIENT        The same for what the pages of one client stand on, and lies on another node than
 *               `to`. Where others' pages stand on the frame, too, those of the client alone move.
 * TWINS         Contents that came to stand twice on a node, because a frame was moved there, or
 *               because one of its sharers could not follow the others, are merged. What fails is
 *               tried by the next such job, but not for ever.
 *
 * engine_migrate() and the others begin one and return 0, -EINVAL (no such node, or the same one),
 * -EALREADY (one of the number is under way) or -ENOMEM.
 *
 * engine_migrate_step() carries it on, by one thread at a time; now_ms never goes back and is not
 * 0. It adds to *out what has become of frames since the last step. A job ends in bounded time,
 * whatever clients do; engine_migrate_end() has the next step put back what has not moved yet.
 */
enum { ENGINE_JOB_CLIENT = ENGINE_NODES, ENGINE_JOB_TWINS, ENGINE_JOBS };
enum engine_move_failed {
	MOVE_NOT_FAILED,
	MOVE_SILENT,      /* a client did not answer its order in time */
	MOVE_REFUSED,     /* a client could not carry it out, for now */
	MOVE_WRITTEN,     /* a page has been written, and the scan has not seen it yet */
	MOVE_NO_MAPPINGS, /* it would have cost mappings that a client cannot spare */
	MOVE_NO_MEMORY,   /* the node is full, or the arena's limit is reached */
	MOVE_IN_USE,      /* pages were on their way to it all the time */
	MOVE_FAILED_NR
};
/* From MOVE_SILENT on. */
#define ENGINE_MOVE_FAILED_NAMES                                                                   \
	"silent", "refused", "written", "no_mappings", "no_memory", "in_use"
struct engine_migrated {
	uint64_t frames;                 /* have no page left of those that were to move */
	uint64_t placed;                 /* lie elsewhere now, under the same number */
	uint64_t collisions;             /* nodes whose contents were there, each once */
	uint64_t failed[MOVE_FAILED_NR]; /* frames that were put back, with pages on them */
	struct engine_culprit {
		uint32_t frame, client; /* the last of these, and the id of who kept it, or 0 */
		enum engine_move_failed why; /* MOVE_NOT_FAILED: there was none */
	} culprit;
};
/* The sums, and the last culprit. */
void engine_migrated_add(struct engine_migrated *to, const struct engine_migrated *more);
enum engine_migrate {
	ENGINE_MIGRATE_NONE, /* there is no such job */
	ENGINE_MIGRATE_DONE, /* it has ended with this step */
	ENGINE_MIGRATE_MORE, /* the next step has work at once */
	ENGINE_MIGRATE_WAIT, /* it waits for answers */
};
int engine_migrate(struct engine *e, int from, int to);
int engine_migrate_client(struct mm_slot *mm, int to);
int engine_migrate_twins(struct engine *e);
/* Are there contents that stand twice, for which that has not been tried often enough? Cheap. */
bool engine_wants_twins(struct engine *e);
enum engine_migrate engine_migrate_step(struct engine *e, int job, uint64_t now_ms,
					struct engine_migrated *out);
void engine_migrate_end(struct engine *e, int job);

/*
 * From now on pages on node `nid` count as pages of node `to`, so that no new frame comes to lie on
 * `nid`; `to` equal to it: no longer. What stands there follows by migration. Pages that wait
 * follow by survey, which is due then. Both are below nr_nodes.
 */
void engine_set_home(struct engine *e, int nid, int to);
/* Frames that lie on node `nid` or are to: in use, and waiting for a grace period. */
struct engine_on_node {
	uint64_t used, retired;
};
void engine_on_node(struct engine *e, int nid, struct engine_on_node *out);
/*
 * Frames that could not be made on their own node, and lie on `nid`, count for that from now on. By
 * the thread that calls engine_migrate_step().
 */
void engine_count_away(struct engine *e, int nid);

/*
 * Frames taken out of use, and the memory they held given back: drain.c says how. What stands on
 * frames [first, end) of node `nid`, which are whole pageblocks, is moved to frames of node `to`;
 * that may be the same one, unless the range is all of it. engine_offline() begins; 0, -EINVAL (no
 * such range or node), -EALREADY (the node is being emptied, or drained), -EBUSY (part of it is
 * offline or isolated; *frame says where) or -ENOMEM. Then everything is in use as before.
 *
 * engine_drain_step() carries it on, by the thread that calls engine_migrate_step(). It ends in
 * bounded time: with the step that returns ENGINE_MIGRATE_DONE, `err` says how. If not 0, all of
 * the range is in use as before. engine_drain_end() has it end with -ECANCELED.
 *
 * engine_online() is the reverse; frames that are not offline stay as they are. 0, or -EINVAL.
 */
struct engine_drained {
	struct engine_migrated moved; /* added to */
	bool retired;                 /* frames have been, in this step */
	int err;                      /* -EBUSY, -ECANCELED, -ENOMEM; of the last step alone */
	uint32_t first, end;          /* the range; likewise */
	/* What stood in the way: `why` of the culprit if that is not 0, else this. */
	struct engine_culprit culprit;
	const char *why;
};
int engine_offline(struct engine *e, int nid, uint32_t first, uint32_t end, int to,
		   uint32_t *frame);
int engine_online(struct engine *e, int nid, uint32_t first, uint32_t end);
enum engine_migrate engine_drain_step(struct engine *e, int nid, uint64_t now_ms,
				      struct engine_drained *out);
void engine_drain_end(struct engine *e, int nid);

/*
 * A contiguous range is emptied and kept for who asks: claimed (pool/claim.h), from which other
 * frames of its pageblocks are in use as before. Either frames [first, end) of node `nid`, any
 * number of them; or, where nr is not 0, nr frames of it, the first a multiple of `align` (a power
 * of two), where they can be had: in the contiguous reserve at first. What stands there goes to
 * other frames of the node.
 *
 * engine_claim() begins as engine_offline() does, and returns the same; on failure out->why may say
 * why and out->culprit.frame where. engine_drain_step() carries it on, and says which range it has
 * become; engine_drain_end() has it end. engine_unclaim() gives it, or a part of it, back: 0, or
 * -EINVAL: some of it is not claimed; then all is as before. engine_next_claimed() finds the first
 * run of claimed frames from f on: POOL_NONE, there is none.
 */
struct engine_claim {
	uint32_t first, end, nr, align;
};
int engine_claim(struct engine *e, int nid, const struct engine_claim *c,
		 struct engine_drained *out);
int engine_unclaim(struct engine *e, int nid, uint32_t first, uint32_t end);
uint32_t engine_next_claimed(struct engine *e, int nid, uint32_t f, uint32_t *nr);

/*
 * Ask where pages and frames lie, of about nr pages, and have trees follow what has gone to another
 * node (survey.c). What is kept of a page follows its client, and what is kept of a frame follows
 * that (record.c), at about the same cost. One thread at a time. Each call goes on where the last
 * one stopped; true: all have been asked since the last time that it was true.
 */
bool engine_survey(struct engine *e, uint32_t nr);
/* May pages wait in a tree that is no longer theirs, until all have been asked? Any thread. */
bool engine_survey_due(struct engine *e);

/*
 * Steering: what merge_policy wants of frames that are there (numa_policy.h, steer.c).
 *
 * engine_mm_set_reader() says on which node most threads of a client run, -1: it is not known.
 * engine_steer_step() carries a round over all frames on, or begins one if something has changed
 * that matters, by the thread that calls engine_migrate_step(); `pressure`: memory is short. It
 * adds to *out. ENGINE_MIGRATE_NONE: nothing is to be done for now; DONE: the round has ended with
 * this step, and retired frames if something was moved.
 */
bool engine_mm_set_reader(struct mm_slot *mm, int nid);
/* Frames, by the node that they were to go to. All are uint64_t. */
struct engine_steered {
	struct {
		uint64_t moved;  /* lie there now, or all their pages are on another frame there */
		uint64_t copied; /* were made there for the readers of that node */
		uint64_t joined; /* were given up: their pages stand on one that was there */
		uint64_t failed; /* kept pages that were to go there, for now */
	} to[ENGINE_NODES];
};
enum engine_migrate engine_steer_step(struct engine *e, uint64_t now_ms, bool pressure,
				      struct engine_steered *out);

/*
 * Compaction of the frames of a node (compact.c). COMPACT_ALL: frames that neighbour in a client's
 * address space are brought next to each other (gather.c), then those of sparse pageblocks are
 * moved together. COMPACT_RESTING: the first alone; it gives way to whatever else is wanted of the
 * node. COMPACT_DIRECT: the second alone, because a pageblock could not be had; it is passed over
 * where that is for want of frames (extfrag_threshold) or has failed lately, and ends as soon as
 * one is free. COMPACT_BACKGROUND: the same before anybody wants one. Where nobody asked for a run,
 * that is, for the last and for COMPACT_RESTING, compaction_proactiveness 0 ends it.
 *
 * Returns 0, -EINVAL (no such node), -EALREADY (something moves on that node), -EAGAIN (passed
 * over) or -ENOMEM. engine_compact_step() carries it on as engine_drain_step() does; with
 * ENGINE_MIGRATE_DONE it fills in *out. engine_compact_end() has it end.
 */
enum engine_compact { COMPACT_ALL, COMPACT_DIRECT, COMPACT_BACKGROUND, COMPACT_RESTING };
struct engine_compacted {
	uint64_t pageblocks; /* that have become free */
	uint64_t skipped;    /* that were not begun, because it would not have paid */
	uint64_t migrate_scanned, free_scanned, isolated; /* frames */
	uint64_t gathered;                                /* frames that were to come together */
	uint64_t stretches, stretches_skipped; /* of clients: in several mappings; left alone */
	uint64_t vmas_before, vmas_after;      /* mappings that merging has added */
	uint64_t merged_before, merged_after;  /* pages that are merged */
	bool retired;                          /* frames have been, in this step */
	bool resting;                          /* it was COMPACT_RESTING to the end */
	bool pause;                            /* of that: no client has orders of it now */
};
int engine_compact(struct engine *e, int nid, enum engine_compact how);
/*
 * Merging rests: are there many mappings for the pages that are merged, and has that changed since
 * frames were gathered last? Then COMPACT_RESTING is due.
 */
bool engine_wants_gathering(struct engine *e, int nid);
/*
 * Has a client gone without a window since direct compaction was asked for last (WANT_DIRECT), or
 * are most of the zone's numbers free and of no use for one (WANT_BACKGROUND)? Then one is due.
 */
enum engine_want { WANT_NOTHING, WANT_DIRECT, WANT_BACKGROUND };
enum engine_want engine_wants_compaction(struct engine *e, int nid);
/* The first of these alone, for any node; cheap. */
bool engine_wants_pageblock(struct engine *e);
enum engine_migrate engine_compact_step(struct engine *e, int nid, uint64_t now_ms,
					struct engine_compacted *out);
void engine_compact_end(struct engine *e, int nid);

/*
 * Have frames moved to node `nid` that could not be made there (place.c), for a millisecond's work;
 * adds to *placed how many were. One thread at a time. True: there is nothing more to do now. Call
 * it when the node has room.
 */
bool engine_bring_back(struct engine *e, int nid, uint64_t *placed);

/* What is counted since the engine began, and never falls. All are uint64_t. */
struct engine_totals {
	uint64_t pages_scanned;  /* pages whose contents were read and hashed */
	uint64_t pages_skipped;  /* pages that smart_scan passed over */
	uint64_t frames_held_up; /* times that too many retired ones forbade a new one */
	uint64_t cow_breaks;     /* merged pages found written */
	uint64_t pages_merged;   /* sites placed */
	uint64_t pages_migrated; /* sites moved to another frame of their contents */
	uint64_t orders, order_pages_failed;
	uint64_t pages_followed, frames_followed; /* seen on another node than before */
};
/* Adds to *to, so that what an engine has counted outlives it. */
void engine_totals_add(struct engine_totals *to, const struct engine_totals *from);

struct engine_counters {
	uint64_t pages_shared;   /* stable nodes with at least one site */
	uint64_t pages_sharing;  /* sites beyond the first of each */
	uint64_t pages_unshared; /* pages in the unstable tree */
	uint64_t pages_waiting;  /* equal to others, and must not be merged yet */
	uint64_t pages_volatile; /* tracked and none of the above */
	uint64_t pages_tracked;  /* rmap_items in use */
	uint64_t zero_pages;
	uint64_t stable_node_chains, stable_node_dups;
	uint64_t frames_used, frames_retired;
	uint64_t pages_indebted; /* merged, zeros that were given back, and ordered to be either */
	uint64_t nr_indebted;    /* engines that merge nothing because of debt_allow() */
	uint64_t frames_away;    /* could not be made on their node, and lie elsewhere for now */
	uint64_t frames_met;     /* came to where their contents stood, and are to be merged */
	struct engine_totals total;
	uint64_t metadata_bytes; /* daemon memory of nodes, rmap items, block and region tables */
	uint64_t left_out[KSM_LEFT_NR];
};
/* Adds to *out, so that a caller can sum over engines. */
void engine_counters(struct engine *e, struct engine_counters *out);

/*
 * What the frames of the zone of node `nid` (below nr_nodes) are, at one moment. The structure is
 * in pool/pool.h.
 */
struct pool_counts;
void engine_zone_counts(struct engine *e, int nid, struct pool_counts *out);
/*
 * Its free runs by order, of one type or (POOL_TYPES) of all, those of isolated pageblocks left
 * out. nr has room for POOL_ORDERS.
 */
void engine_zone_runs(struct engine *e, int nid, unsigned int type, uint64_t *nr);
/* What its pageblocks are: index_map() in pool/index.h. */
bool engine_zone_map(struct engine *e, int nid, uint32_t *extent, char *map);

/*
 * What stands on frames of a node, and what its clients read from where. Nobody counts reads: each
 * merged page of a client is taken to be read, and as often as any other, from the node on which
 * most of its threads run. Clients of which that is not known are left out.
 */
struct engine_node_counters {
	uint64_t shared, sharing;        /* as pages_shared and pages_sharing; sums are these */
	uint64_t copies;                 /* frames that are there only as copies */
	uint64_t own, elsewhere;         /* frames of its zone, by where they lie */
	uint64_t readers;                /* clients that run there */
	uint64_t read_here, read_remote; /* merged pages of these */
	uint64_t read_distance;          /* sum of the distances of both, 10 for what is here */
};
/* Adds to *out. Costs a walk over all clients. */
void engine_node_counters(struct engine *e, int nid, struct engine_node_counters *out);

struct mm_counters {
	uint64_t rmap_items, merging_pages, zero_pages;
	int reader;                      /* node on which it runs, -1: not known */
	uint64_t read_here, read_remote; /* as above */
	uint64_t on_nid[ENGINE_NODES];   /* merging_pages by the node of their frames */
	uint64_t region_bytes, nr_regions;
	uint64_t nr_vmas;    /* the client's own, plus those of merging (vma.c) */
	uint64_t added_vmas; /* those of merging */
	uint64_t cow_breaks, orders, forks;
	uint64_t fork_budget; /* most added_vmas because of forks; 0: they limit nothing */
	uint64_t metadata_bytes;
	uint64_t left_out[KSM_LEFT_NR]; /* daemon-side reasons only */
};
void mm_counters(struct mm_slot *mm, struct mm_counters *out);

/* Offered memory: a region or a part of one, and the pages of it that are tracked. */
struct engine_range {
	struct span at;
	uint64_t pages[WHY_NR];
};
/*
 * The ranges from address `from` on, at most `max`, in v[]; returns how many. Looks at some
 * thousands of blocks, for about a millisecond; *next says where to go on, or is KSM_ADDR_END.
 */
int engine_why(struct mm_slot *mm, uint64_t from, struct engine_range *v, int max, uint64_t *next);

/* Merged pages side by side whose frames count for the same node. */
struct engine_stretch {
	struct span at;
	int nid;
};
/* The same as engine_why(), of these. */
int engine_where(struct mm_slot *mm, uint64_t from, struct engine_stretch *v, int max,
		 uint64_t *next);

/*
 * Walk the reverse mapping of a frame, for tests and the operator: fn(arg, client id, address) for
 * every site, under the engine lock. Returns the number of sites, or -ENOENT (no such frame).
 */
int engine_rmap_walk(struct engine *e, uint32_t frame,
		     void (*fn)(void *arg, uint32_t client_id, uint64_t addr), void *arg);
/* Check every invariant (slow; tests and debug builds). Returns 0, or -1 and a text in msg. */
int engine_check(struct engine *e, char *msg, size_t size);

#endif
