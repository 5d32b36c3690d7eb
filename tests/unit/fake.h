/* SPDX-License-Identifier: MIT */
/*
 * fake.h - an engine's whole world in memory: clients, their agents, and the arena.
 *
 * A page's content is one 64-bit tag, which stands for 512 copies of it; tag 0 is the zero page.
 * The fake keeps each page's expected contents apart from its mapping. After any step it reads
 * every page as its process would, through frames, and compares. A frame that is freed while a page
 * maps it ends the test.
 *
 * Orders are queued by send_order, carried out by fake_agent_run() and answered by
 * fake_agent_answer(), each when the test says so.
 */
#ifndef FAKE_H
#define FAKE_H

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/engine.h"

#define FAKE_NO_FRAME 0xffffffffu
#define FAKE_ZERO_TAG 0ull
#define FAKE_NID_UNKNOWN 0xff
#define PAGE 4096ull

enum fake_how { FAKE_NOT_THERE, FAKE_ANON, FAKE_FILE, FAKE_ZERO };

struct fake_page {
	uint64_t tag; /* what the process must read here */
	enum fake_how how;
	uint32_t frame; /* FAKE_FILE; FAKE_ANON in a mapping of a frame: cow is set */
	bool written, cow, pinned, offered;
	bool inherited; /* another process of a fork maps it, too */
	uint8_t nid;    /* FAKE_ANON: where it lies, or FAKE_NID_UNKNOWN */
};

struct fake_order {
	struct ksm_msg_order order;
	uint8_t result[KSM_ORDER_PAGES];
	uint64_t changes; /* of the client when the order was sent */
	bool done;        /* carried out, not answered */
	bool held;        /* FAKE_FAIL_SILENT */
};

/* What can be had to fail once, at the nth time (fail_in). */
enum fake_fault {
	FAKE_FAIL_COPY,   /* a frame cannot get its bytes */
	FAKE_FAIL_ALLOW,  /* there are to be no more frames */
	FAKE_FAIL_SEND,   /* an order cannot be sent now */
	FAKE_FAIL_ANSWER, /* a page of an order ends as fail_result */
	FAKE_FAIL_SILENT, /* an order is not carried out until fake_release() */
	FAKE_FAULTS
};

struct fake;
struct fake_client {
	struct fake *w;
	struct mm_slot *mm;
	uint64_t base; /* address of page 0 */
	uint64_t bare; /* bytes behind the last page where nothing is and nothing comes */
	uint32_t nr;
	struct fake_page *page;
	struct fake_order order[64];
	int nr_orders;
	struct {
		uint64_t addr, mask;
	} asked[256]; /* to be given back */
	int nr_asked;
	bool keeps; /* it gives nothing back */
	uint64_t changes;
	uint64_t ran;     /* what ran() says */
	uint64_t faults;  /* what changes() says */
	uint64_t allowed; /* what memory_allow() said last */
	bool full;        /* send_order answers -EAGAIN */
	bool gone;        /* track and read answer -ESRCH */
	bool plain;       /* it can inlay nothing */
	bool blind;       /* track cannot say what is there, nor can look */
	bool crowded;     /* track has no room to say it, and reports holes, too */
	bool huge;        /* huge pages map it where nothing was armed or merged */
	uint32_t id;
};

struct fake {
	struct ksm_knobs knobs;
	struct engine *e;
	int nr_nodes;
	uint32_t nr_frames;
	uint64_t max_memory;          /* of records of each client; 0: no limit */
	uint32_t max_frames, allowed; /* what frames_allow() says at most, and said last */
	uint64_t max_debt;            /* what debt_allow() says at most; 0: no limit */
	uint64_t *frame_tag;          /* FAKE_FREE_TAG when it has no content */
	uint8_t full_nid;             /* where all frames come to lie, plus 1; 0: where wanted */
	uint64_t nids_asked;          /* calls of frame_nids() */
	int move_fails;               /* frames that cannot be moved; or the error of frame_move */
	uint32_t move_calls, move_most; /* calls of frame_move; most frames of one */
	uint8_t *frame_nid;             /* node that it lies on, plus 1; 0: the one of its zone */
	struct fake_client *client[64];
	int nr_clients;
	int released; /* client_release calls; atomic */
	struct slab_memory memory;
	size_t memory_out; /* bytes of it that are in use */
	bool memory_full;  /* there is no more of it */
	int write_fails;   /* frame_write calls that are to fail */
	uint64_t writes, copies, frees, frames_freed, reads, looks, cleans, tracks, writtens, sent,
		asked;
	int fail_percent;                  /* of the pages of an order */
	unsigned int fail_in[FAKE_FAULTS]; /* 0: never (again) */
	enum ksm_res fail_result;
	uint64_t rng, now_ms;
	struct engine_migrated migrated;   /* of all steps */
	struct engine_compacted compacted; /* as the last one ended */
	struct engine_drained drained;     /* the same; and how the last drain ended */
	/* Called once, in the next track or read call (the unlocked part of a scan). */
	void (*in_track)(struct fake_client *c);
	void (*in_read)(struct fake_client *c);
	void (*in_look)(struct fake_client *c);
	void (*in_clean)(struct fake_client *c);
	/*
	 * Called once, in the next frame_write or frame_copy: the engine fills new frames without
	 * its lock, too.
	 */
	void (*in_write)(struct fake *w);
	void (*in_frames)(struct fake *w); /* the same, in frame_nids or frame_move */
};
#define FAKE_FREE_TAG 0xfeedfacedeadbeefull

/* As ck_assert_msg(), which tells the parent process of every call: too slow for each page. */
#define must_msg(cond, ...)                                                                        \
	do {                                                                                       \
		if (!(cond))                                                                       \
			ck_abort_msg(__VA_ARGS__);                                                 \
	} while (0)
#define must(cond) must_msg(cond, "%s", #cond)

uint64_t fake_seed(void); /* of this run: KSM_TEST_SEED or the clock; printed when first asked */
uint64_t fake_rand(uint64_t *state);
/* From now on fake_rand() deals out these bytes, then zeros; NULL: random numbers again. */
void fake_script(const uint8_t *bytes, size_t nr);
bool fake_script_left(void);

struct fake *fake_new(int nr_nodes, uint32_t zone_frames, uint32_t max_frames);
/* A world without a limit of frames in which each node has trees of its own. */
struct fake *fake_apart(int nr_nodes, uint32_t zone_frames);
void fake_free(struct fake *w); /* exits all clients, frees the engine, checks for leaks */
void fake_set(struct fake *w, enum knob_id id, uint32_t v);

/* So many clients with the same FAKE_CROWD_PAGES contents, all merged. */
enum { FAKE_CROWD_PAGES = 100 };
#define FAKE_CROWD_BASE 0x7f0000000000ull
struct fake *fake_crowd(int nr_nodes, uint32_t zone_frames, int clients);
/* nr pages at base, all offered, none present. */
struct fake_client *fake_client(struct fake *w, uint64_t base, uint32_t nr);
/* The same with its memory on a NUMA node, and in it the contents that all such clients have. */
struct fake_client *fake_client_on(struct fake *w, uint64_t base, uint32_t nr, uint8_t nid);
/* Let time pass, and the engine know it. */
void fake_tick(struct fake *w, uint64_t ms);
void fake_exit(struct fake_client *c);
void fake_store(struct fake_client *c, uint32_t page, uint64_t tag);
void fake_fill(struct fake_client *c, uint32_t from, uint32_t nr, uint64_t tag); /* all alike */
void fake_fill_unique(struct fake_client *c, uint32_t from, uint32_t nr, uint64_t tag);
/* Withdraw; replace by nothing (MADV_DONTNEED); both as libksm would. */
void fake_del(struct fake_client *c, uint32_t from, uint32_t nr);
void fake_add(struct fake_client *c, uint32_t from, uint32_t nr);
void fake_dontneed(struct fake_client *c, uint32_t from, uint32_t nr);
/* Frame under a page, FAKE_NO_FRAME if it is private. */
uint32_t fake_frame(const struct fake_client *c, uint32_t page);

void fake_agent_run(struct fake_client *c);
/* What was held back is carried out by the next fake_agent_run(). */
void fake_release(struct fake *w);
/* Agents carry out what they were sent, and answer. */
void fake_answer_all(struct fake *w);
void fake_agent_answer(struct fake_client *c);
/* One pass without orders; a pass with all orders carried out; n such passes. All check. */
void fake_scan(struct fake *w);
void fake_pass(struct fake *w);
void fake_passes(struct fake *w, int n);
/* Send, run and answer until nothing is left. */
void fake_orders(struct fake *w);
/* Look at all of a client before its counters are read. */
void fake_look(struct fake_client *c);
/* One step of each migration that is under way. Returns how many have not ended. */
int fake_migrate_step(struct fake *w);
/* The same for frames that are taken out of use. */
int fake_drain_step(struct fake *w);
int fake_compact_step(struct fake *w);
/* Carry them on, with all orders carried out and answered, until all have ended. */
void fake_migrate(struct fake *w);
/* Ask of all pages and frames on which node they are, a few at a time. */
void fake_survey(struct fake *w);
/* engine_check(), and every byte of every client. */
void fake_check(struct fake *w);
struct engine_counters fake_counters(struct fake *w);
/* Mappings that merging added to a client, counted from its pages. */
uint64_t fake_vmas(const struct fake_client *c);

#endif
