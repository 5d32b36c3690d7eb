/* SPDX-License-Identifier: MIT */
/* fake.c - see fake.h */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <urcu.h>

#include "fake.h"

static const uint8_t *script, *script_end;

void fake_script(const uint8_t *bytes, size_t nr)
{
	script = bytes;
	script_end = bytes + nr;
}

bool fake_script_left(void)
{
	return script < script_end;
}

uint64_t fake_rand(uint64_t *s)
{
	/* splitmix64: any seed is good */
	uint64_t z = (*s += 0x9e3779b97f4a7c15ull);

	if (script)
		return script < script_end ? *script++ : 0;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

uint64_t fake_seed(void)
{
	const char *s = getenv("KSM_TEST_SEED");
	uint64_t seed = s ? strtoull(s, NULL, 0) : (uint64_t)time(NULL) * 1000003u;

	printf("KSM_TEST_SEED=%llu\n", (unsigned long long)seed);
	fflush(stdout);
	return seed;
}

/* --- ops --- */

static enum track_kind kind_of(const struct fake_page *p)
{
	return p->how == FAKE_ANON ? TRACK_ANON : p->how == FAKE_FILE ? TRACK_FILE : TRACK_ZERO;
}

/* Does a huge page map this page? All of one that is there is private, and none of it was armed. */
static bool is_huge(const struct fake_client *c, uint32_t page)
{
	uint64_t first = (c->base + page * PAGE) / (512 * PAGE) * (512 * PAGE);

	if (!c->huge || c->page[page].how != FAKE_ANON)
		return false;
	for (uint32_t i = first > c->base ? (uint32_t)((first - c->base) / PAGE) : 0;
	     i < c->nr && c->base + i * PAGE < first + 512 * PAGE; i++)
		if (c->page[i].how != FAKE_NOT_THERE &&
		    (c->page[i].how != FAKE_ANON || c->page[i].cow || !c->page[i].written))
			return false;
	return true;
}

static int op_track(void *client, uint64_t start, uint64_t end, enum track_how how,
		    struct track_range *v, int max, uint64_t *walk_end)
{
	struct fake_client *c = client;
	uint64_t at, found = 0, huge_end = 0;
	bool huge = false;
	int n = 0;

	if (c->gone)
		return -ESRCH;
	*walk_end = end;
	c->w->tracks++;
	must(start >= c->base && end <= c->base + c->nr * PAGE + c->bare);
	for (at = start; at < end && at < c->base + c->nr * PAGE; at += PAGE) {
		struct fake_page *p;
		enum track_kind kind;

		p = &c->page[(at - c->base) / PAGE];
		if (p->how == FAKE_NOT_THERE ? !c->crowded : !p->written)
			continue;
		kind = c->blind || c->crowded ? TRACK_UNKNOWN : kind_of(p);
		if (at >= huge_end) {
			huge = is_huge(c, (uint32_t)((at - c->base) / PAGE));
			huge_end = (at / (512 * PAGE) + 1) * (512 * PAGE);
		}
		must(!huge || how != TRACK_DENSE); /* it would be armed */
		if (huge && kind == TRACK_ANON)
			kind = TRACK_HUGE;
		if (found == 512 && end - start > 128ull << 20) { /* as the daemon's */
			*walk_end = at;
			break;
		}
		if (n && v[n - 1].at.end == at && v[n - 1].kind == kind) {
			v[n - 1].at.end += PAGE;
		} else if (n == max) {
			*walk_end = at;
			break;
		} else {
			v[n++] = (struct track_range){ { at, at + PAGE }, kind };
		}
		p->written = kind == TRACK_HUGE;
		found++;
	}
	if (c->w->in_track) {
		void (*fn)(struct fake_client *) = c->w->in_track;

		c->w->in_track = NULL;
		fn(c);
	}
	return n;
}

static uint64_t op_ran(void *client)
{
	return ((struct fake_client *)client)->ran;
}

static uint64_t op_changes(void *client)
{
	return ((struct fake_client *)client)->faults;
}

static int op_look(void *client, uint64_t start, uint64_t end, struct track_range *v, int max)
{
	struct fake_client *c = client;
	void (*fn)(struct fake_client * c) = c->w->in_look;
	uint64_t at;
	int n = 0;

	if (c->gone)
		return -ESRCH;
	c->w->looks++;
	if (c->blind)
		return -ENOMEM;
	for (at = start; at < end; at += PAGE) {
		struct fake_page *p = &c->page[(at - c->base) / PAGE];

		if (at < c->base || at >= c->base + c->nr * PAGE || p->how == FAKE_NOT_THERE)
			continue;
		must(n < max);
		v[n++] = (struct track_range){ { at, at + PAGE }, kind_of(p) };
	}
	c->w->in_look = NULL;
	if (fn)
		fn(c);
	return n;
}

/* Present, and not written since it was reported. */
static int op_clean(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		    uint64_t *walk_end)
{
	struct fake_client *c = client;
	int n = 0;

	*walk_end = start;
	if (c->gone)
		return -ESRCH;
	c->w->cleans++;
	must(start >= c->base && end <= c->base + c->nr * PAGE + c->bare);
	for (uint64_t at = start; at < end && n < max; at += PAGE) {
		const struct fake_page *p = &c->page[(at - c->base) / PAGE];

		if (at >= c->base + c->nr * PAGE) {
			*walk_end = end;
			break;
		}
		*walk_end = at + PAGE;
		if (!p->written && p->how != FAKE_NOT_THERE)
			v[n++] = (struct track_range){ { at, at + PAGE }, kind_of(p) };
	}
	if (c->w->in_clean) {
		void (*fn)(struct fake_client *) = c->w->in_clean;

		c->w->in_clean = NULL;
		fn(c);
	}
	return n;
}

/* Like op_track, and what was written stays so. */
static int op_written(void *client, uint64_t start, uint64_t end, struct track_range *v, int max,
		      uint64_t *walk_end)
{
	struct fake_client *c = client;
	void (*fn)(struct fake_client * c) = c->w->in_look;
	uint64_t at;
	int n = 0;

	if (c->gone)
		return -ESRCH;
	must(start >= c->base && end <= c->base + c->nr * PAGE + c->bare);
	c->w->writtens++;
	for (at = start; at < end && n < max; at += PAGE) {
		struct fake_page *p = &c->page[(at - c->base) / PAGE];

		if (at >= c->base + c->nr * PAGE)
			continue;
		if (p->written && p->how != FAKE_NOT_THERE)
			v[n++] = (struct track_range){ { at, at + PAGE }, kind_of(p) };
	}
	*walk_end = at;
	c->w->in_look = NULL;
	if (fn)
		fn(c);
	return n;
}

static uint64_t tag_read(const struct fake_client *c, uint32_t page)
{
	const struct fake_page *p = &c->page[page];

	if (p->how != FAKE_FILE)
		return p->how == FAKE_ANON ? p->tag : FAKE_ZERO_TAG;
	must(c->w->frame_tag[p->frame] != FAKE_FREE_TAG);
	return c->w->frame_tag[p->frame];
}

static ssize_t op_read(void *client, uint64_t addr, void *buf, size_t len)
{
	struct fake_client *c = client;
	uint64_t *out = buf;
	size_t i, w;

	if (c->gone)
		return -ESRCH;
	must(len <= 64 * PAGE);
	c->w->reads++;
	for (i = 0; i < len / PAGE; i++) {
		uint32_t page = (uint32_t)((addr - c->base) / PAGE + i);

		must(page < c->nr);
		if (c->page[page].how == FAKE_NOT_THERE)
			break;
		for (w = 0; w < 512; w++)
			*out++ = tag_read(c, page);
	}
	if (c->w->in_read) {
		void (*fn)(struct fake_client *) = c->w->in_read;

		c->w->in_read = NULL;
		fn(c);
	}
	return i ? (ssize_t)(i * PAGE) : -EFAULT;
}

static bool fails(struct fake *w, enum fake_fault what)
{
	return w->fail_in[what] && !--w->fail_in[what];
}

static void run_hook(struct fake *w, void (**hook)(struct fake *w))
{
	void (*fn)(struct fake * w) = *hook;

	*hook = NULL;
	if (fn)
		fn(w);
}

static void nids_of(const struct fake *w, const uint32_t *frame, uint32_t nr, int *nids)
{
	for (uint32_t i = 0; i < nr; i++) {
		uint32_t f = frame[i];

		/* The kernel would fill a hole. */
		must(w->frame_tag[f] != FAKE_FREE_TAG);
		nids[i] = w->frame_nid[f] ? w->frame_nid[f] - 1 :
					    (int)(f * (uint64_t)w->nr_nodes / w->nr_frames);
	}
}

static void op_frame_nids(void *arena, const uint32_t *frame, uint32_t nr, int *nids)
{
	struct fake *w = arena;

	run_hook(w, &w->in_frames);
	w->nids_asked++;
	nids_of(w, frame, nr, nids);
}

static int op_frame_move(void *arena, const uint32_t *frame, uint32_t nr, int to, int *nids)
{
	struct fake *w = arena;

	run_hook(w, &w->in_frames);
	w->move_calls++;
	w->move_most = nr > w->move_most ? nr : w->move_most;
	if (w->move_fails < 0)
		return w->move_fails;
	for (uint32_t i = 0; i < nr; i++) {
		if (!w->move_fails || !--w->move_fails)
			w->frame_nid[frame[i]] = (uint8_t)(to + 1);
		nids_of(w, frame + i, 1, nids + i);
	}
	return 0;
}

static void op_nid(void *client, const uint64_t *addr, int nr, int *nids)
{
	struct fake_client *c = client;

	for (int i = 0; i < nr; i++) {
		const struct fake_page *p = &c->page[(addr[i] - c->base) / PAGE];

		if (p->how == FAKE_FILE)
			nids_of(c->w, &p->frame, 1, nids + i);
		else
			nids[i] = p->nid;
	}
}

static int op_send(void *client, struct ksm_msg_order *order)
{
	struct fake_client *c = client;
	struct fake_order *o;

	if (c->full || c->nr_orders == 64 || fails(c->w, FAKE_FAIL_SEND))
		return -EAGAIN;
	o = &c->order[c->nr_orders++];
	memset(o, 0, sizeof(*o));
	o->order = *order;
	o->changes = c->changes;
	o->held = fails(c->w, FAKE_FAIL_SILENT);
	c->w->sent++;
	return 0;
}

static int op_give_back(void *client, uint64_t addr, uint64_t mask)
{
	struct fake_client *c = client;

	if (c->full || c->nr_asked == 256)
		return -EAGAIN;
	c->asked[c->nr_asked].addr = addr;
	c->asked[c->nr_asked++].mask = mask;
	c->w->asked += (uint64_t)__builtin_popcountll(mask);
	return 0;
}

static int op_frame_write(void *arena, uint32_t frame, const void *buf, uint32_t nr)
{
	struct fake *w = arena;
	const uint64_t *in = buf;
	uint32_t i;

	must(nr && frame + nr <= w->nr_frames);
	w->writes++;
	run_hook(w, &w->in_write);
	if (w->write_fails) {
		w->write_fails--;
		return -ENOSPC;
	}
	for (i = 0; i < nr; i++, in += 512) {
		/* A frame's bytes never change while it is in use. */
		must(w->frame_tag[frame + i] == FAKE_FREE_TAG);
		w->frame_tag[frame + i] = in[0];
		w->frame_nid[frame + i] = w->full_nid;
	}
	return 0;
}

static int op_frame_copy(void *arena, uint32_t from, uint32_t to, uint32_t nr, int nid)
{
	struct fake *w = arena;

	must(nr && from + nr <= w->nr_frames && to + nr <= w->nr_frames);
	w->copies++;
	run_hook(w, &w->in_write);
	if (fails(w, FAKE_FAIL_COPY))
		return -ENOSPC;
	if (w->write_fails) {
		w->write_fails--;
		return -ENOSPC;
	}
	for (uint32_t i = 0; i < nr; i++) {
		must(w->frame_tag[to + i] == FAKE_FREE_TAG);
		must(w->frame_tag[from + i] != FAKE_FREE_TAG);
		w->frame_tag[to + i] = w->frame_tag[from + i];
		w->frame_nid[to + i] = w->full_nid ? w->full_nid : (uint8_t)(nid + 1);
	}
	return 0;
}

/* As the daemon's account would: as many as there are, or none more. */
static uint32_t op_frames_allow(void *arena, uint32_t least, uint32_t wish)
{
	struct fake *w = arena;

	must(least <= wish);
	if (wish > w->allowed && fails(w, FAKE_FAIL_ALLOW))
		return w->allowed;
	if (wish <= w->allowed || wish <= w->max_frames)
		w->allowed = wish;
	else if (least <= w->max_frames)
		w->allowed = w->max_frames;
	return w->allowed;
}

static uint64_t op_debt_allow(void *arena, uint64_t in_use, uint64_t least, uint64_t wish)
{
	const struct fake *w = arena;

	must(in_use <= least && (!wish || least <= wish));
	if (w->max_debt && wish > w->max_debt)
		wish = w->max_debt;
	return wish > in_use ? wish : in_use;
}

static uint64_t op_memory_allow(void *client, uint64_t least, uint64_t wish)
{
	struct fake_client *c = client;

	must(least <= wish);
	if (wish <= c->allowed || wish <= c->w->max_memory || !c->w->max_memory)
		c->allowed = wish;
	else if (least <= c->w->max_memory)
		c->allowed = c->w->max_memory;
	return c->allowed;
}

static void op_frame_free(void *arena, uint32_t frame, uint32_t nr)
{
	struct fake *w = arena;
	uint32_t i, p;
	int k;

	must(nr && frame + nr <= w->nr_frames);
	w->frees++;
	w->frames_freed += nr;
	for (i = 0; i < nr; i++)
		w->frame_tag[frame + i] = FAKE_FREE_TAG;
	memset(w->frame_nid + frame, 0, nr);
	for (k = 0; k < w->nr_clients; k++)
		for (p = 0; w->client[k] && p < w->client[k]->nr; p++)
			must_msg(w->client[k]->page[p].how != FAKE_FILE ||
					 w->client[k]->page[p].frame - frame >= nr,
				 "frame %u freed under a mapping", w->client[k]->page[p].frame);
}

static void op_release(void *client)
{
	struct fake_client *c = client;

	__atomic_fetch_add(&c->w->released, 1, __ATOMIC_RELAXED);
	free(c->page);
	free(c);
}

static const struct engine_ops fake_ops = {
	.track = op_track,
	.ran = op_ran,
	.changes = op_changes,
	.look = op_look,
	.clean = op_clean,
	.written = op_written,
	.read = op_read,
	.nid = op_nid,
	.send_order = op_send,
	.give_back = op_give_back,
	.frame_write = op_frame_write,
	.frame_copy = op_frame_copy,
	.frame_nids = op_frame_nids,
	.frame_move = op_frame_move,
	.frames_allow = op_frames_allow,
	.debt_allow = op_debt_allow,
	.memory_allow = op_memory_allow,
	.frame_free = op_frame_free,
	.client_release = op_release,
};

/* --- life --- */

/* Memory on nodes, which there are where there are several. */
static void *memory_get(void *world, size_t bytes, unsigned int place)
{
	struct fake *w = world;
	void *p = w->memory_full ? NULL : malloc(bytes);

	must(place < (unsigned int)w->nr_nodes);
	if (!p)
		return NULL;
	w->memory_out += bytes;
	return p;
}

static void memory_put(void *world, void *p, size_t bytes)
{
	struct fake *w = world;

	must(bytes <= w->memory_out);
	w->memory_out -= bytes;
	free(p);
}

struct fake *fake_new(int nr_nodes, uint32_t zone_frames, uint32_t max_frames)
{
	struct fake *w = calloc(1, sizeof(*w));
	struct engine_config cfg = {
		.ops = &fake_ops,
		.arena = w,
		.knobs = &w->knobs,
		.nr_nodes = nr_nodes,
		.zone_frames = zone_frames,
		.hash_seed = 42,
	};
	uint32_t i;

	w->memory = (struct slab_memory){ memory_get, memory_put, w };
	if (nr_nodes > 1)
		cfg.memory = &w->memory;
	knobs_init(&w->knobs);
	w->max_frames = max_frames ? max_frames : UINT32_MAX;
	w->nr_nodes = nr_nodes;
	w->nr_frames = zone_frames * (uint32_t)nr_nodes;
	w->frame_tag = malloc(w->nr_frames * sizeof(*w->frame_tag));
	for (i = 0; i < w->nr_frames; i++)
		w->frame_tag[i] = FAKE_FREE_TAG;
	w->frame_nid = calloc(w->nr_frames, 1);
	w->rng = w->now_ms = 1;
	w->e = engine_new(&cfg);
	ck_assert_ptr_nonnull(w->e);
	return w;
}

struct fake *fake_apart(int nr_nodes, uint32_t zone_frames)
{
	struct fake *w = fake_new(nr_nodes, zone_frames, 0);

	fake_set(w, KNOB_MERGE_ACROSS_NODES, 0);
	fake_pass(w);
	return w;
}

void fake_free(struct fake *w)
{
	struct engine_counters n;
	int i, exited = 0;
	uint32_t f;

	for (i = 0; i < w->nr_clients; i++) {
		exited++;
		if (w->client[i])
			fake_exit(w->client[i]);
	}
	fake_migrate(w);
	fake_check(w);
	n = fake_counters(w);
	ck_assert_uint_eq(n.pages_tracked, 0);
	ck_assert_uint_eq(n.pages_shared, 0);
	ck_assert_uint_eq(n.frames_used, n.frames_retired);
	engine_epoch_free(w->e, engine_epoch(w->e));
	n = fake_counters(w);
	ck_assert_uint_eq(n.frames_used, 0);
	for (f = 0; f < w->nr_frames; f++)
		must(w->frame_tag[f] == FAKE_FREE_TAG);
	must(!w->allowed);
	engine_free(w->e);
	ck_assert_int_eq(w->released, exited);
	ck_assert_uint_eq(w->memory_out, 0);
	free(w->frame_tag);
	free(w->frame_nid);
	free(w);
}

void fake_set(struct fake *w, enum knob_id id, uint32_t v)
{
	atomic_store(&w->knobs.v[id], v);
}

struct fake_client *fake_client(struct fake *w, uint64_t base, uint32_t nr)
{
	struct fake_client *c = calloc(1, sizeof(*c));
	uint32_t i;

	c->w = w;
	c->base = base;
	c->nr = nr;
	c->id = (uint32_t)w->nr_clients + 100;
	c->page = calloc(nr, sizeof(*c->page));
	for (i = 0; i < nr; i++)
		c->page[i].offered = true;
	w->client[w->nr_clients++] = c;
	c->mm = engine_mm_new(w->e, c, c->id);
	ck_assert_ptr_nonnull(c->mm);
	ck_assert_int_eq(engine_region_add(c->mm, base, base + nr * PAGE), 0);
	return c;
}

struct fake_client *fake_client_on(struct fake *w, uint64_t base, uint32_t nr, uint8_t nid)
{
	struct fake_client *c = fake_client(w, base, nr);

	for (uint32_t p = 0; p < nr; p++)
		c->page[p].nid = nid;
	fake_fill_unique(c, 0, nr, 1000);
	return c;
}

struct fake *fake_crowd(int nr_nodes, uint32_t zone_frames, int clients)
{
	struct fake *w = fake_new(nr_nodes, zone_frames, 0);

	for (int i = 0; i < clients; i++)
		fake_fill_unique(fake_client(w, FAKE_CROWD_BASE + (uint64_t)i * 0x10000000,
					     FAKE_CROWD_PAGES),
				 0, FAKE_CROWD_PAGES, 1000);
	fake_passes(w, 3);
	return w;
}

void fake_tick(struct fake *w, uint64_t ms)
{
	w->now_ms += ms;
	while (engine_tick(w->e, w->now_ms, fake_rand(&w->rng)))
		;
	fake_check(w);
}

void fake_exit(struct fake_client *c)
{
	struct fake *w = c->w;
	int i;

	for (i = 0; i < w->nr_clients; i++)
		if (w->client[i] == c)
			w->client[i] = NULL;
	engine_mm_exit(c->mm);
	mm_put(c->mm);
}

/* --- what a process does --- */

void fake_store(struct fake_client *c, uint32_t i, uint64_t tag)
{
	struct fake_page *p = &c->page[i];

	if (p->how == FAKE_FILE)
		p->cow = true;
	p->how = FAKE_ANON;
	p->tag = tag;
	p->written = true;
}

void fake_fill(struct fake_client *c, uint32_t from, uint32_t nr, uint64_t tag)
{
	while (nr--)
		fake_store(c, from++, tag);
}

void fake_fill_unique(struct fake_client *c, uint32_t from, uint32_t nr, uint64_t tag)
{
	while (nr--)
		fake_store(c, from++, tag++);
}

static void make_private(struct fake_client *c, uint32_t i)
{
	struct fake_page *p = &c->page[i];

	if (p->how == FAKE_FILE) {
		p->how = FAKE_ANON;
		p->written = true;
	}
	p->cow = false;
}

void fake_del(struct fake_client *c, uint32_t from, uint32_t nr)
{
	uint32_t i;

	for (i = from; i < from + nr; i++) {
		make_private(c, i);
		c->page[i].offered = false;
	}
	c->changes++;
	ck_assert_int_eq(
		engine_region_del(c->mm, c->base + from * PAGE, c->base + (from + nr) * PAGE), 0);
}

void fake_add(struct fake_client *c, uint32_t from, uint32_t nr)
{
	uint32_t i;

	for (i = from; i < from + nr; i++) {
		/* Newly tracked memory shows as written. */
		c->page[i].written |= !c->page[i].offered;
		c->page[i].offered = true;
	}
	c->changes++;
	ck_assert_int_eq(
		engine_region_add(c->mm, c->base + from * PAGE, c->base + (from + nr) * PAGE), 0);
}

void fake_dontneed(struct fake_client *c, uint32_t from, uint32_t nr)
{
	uint32_t i;

	for (i = from; i < from + nr; i++) {
		c->page[i].how = FAKE_NOT_THERE;
		c->page[i].tag = FAKE_ZERO_TAG;
		c->page[i].cow = c->page[i].written = false;
	}
	c->changes++;
	ck_assert_int_eq(engine_region_forget(c->mm, c->base + from * PAGE,
					      c->base + (from + nr) * PAGE),
			 0);
}

uint32_t fake_frame(const struct fake_client *c, uint32_t page)
{
	return c->page[page].how == FAKE_FILE ? c->page[page].frame : FAKE_NO_FRAME;
}

/* --- the agent --- */

static enum ksm_res merge_one(struct fake_client *c, uint32_t i, uint32_t frame)
{
	struct fake_page *p = &c->page[i];
	struct fake *w = c->w;

	if ((int)(fake_rand(&w->rng) % 100) < w->fail_percent) {
		static const enum ksm_res bad[] = { KSM_RES_BUSY, KSM_RES_GONE, KSM_RES_NOMEM };

		return bad[fake_rand(&w->rng) % 3];
	}
	if (fails(w, FAKE_FAIL_ANSWER))
		return w->fail_result;
	if (p->pinned)
		return KSM_RES_BUSY;
	if (p->inherited)
		return KSM_RES_FORK_SHARED;
	if (!p->offered || p->how == FAKE_NOT_THERE || p->how == FAKE_ZERO)
		return KSM_RES_GONE;
	/* Memory in a mapping of frames is merged in place, but cannot be given back. */
	if (frame == KSM_FRAME_ZERO && (p->cow || p->how == FAKE_FILE))
		return KSM_RES_GONE;
	if (frame == KSM_FRAME_ZERO) {
		if (p->tag != FAKE_ZERO_TAG)
			return KSM_RES_DIFFERENT;
		p->how = FAKE_NOT_THERE;
		p->written = false;
		return KSM_RES_MERGED;
	}
	must(frame < w->nr_frames);
	must(w->frame_tag[frame] != FAKE_FREE_TAG);
	if (p->tag != w->frame_tag[frame])
		return KSM_RES_DIFFERENT;
	p->how = FAKE_FILE;
	p->frame = frame;
	p->cow = false;
	/* A new mapping shows as written once, as a file page, or not at all. */
	p->written = fake_rand(&w->rng) & 1;
	return KSM_RES_MERGED;
}

/* The page becomes private memory in the mapping of the frames to its left. */
static enum ksm_res inlay_one(struct fake_client *c, uint32_t i, const uint8_t *result, uint32_t s)
{
	struct fake_page *p = &c->page[i];

	must(s > 0);
	if (c->plain)
		return KSM_RES_PLAIN;
	if (result[s - 1] != KSM_RES_MERGED && result[s - 1] != KSM_RES_INLAID)
		return KSM_RES_GONE;
	if (p->pinned || p->inherited || !p->offered || p->how != FAKE_ANON || p->cow)
		return KSM_RES_GONE;
	p->cow = true;
	p->frame = c->page[i - 1].frame + 1;
	p->written = true;
	return KSM_RES_INLAID;
}

/* Are pages to be inlaid in the mapping that this page is to have? */
static bool wants_inlays(const struct ksm_msg_order *o, uint32_t s)
{
	uint32_t to = s + 1;

	while (to < KSM_ORDER_PAGES && o->frame[s] != KSM_FRAME_ZERO &&
	       o->frame[to] == o->frame[s] + to - s)
		to++;
	return to < KSM_ORDER_PAGES && o->frame[to] == KSM_FRAME_INLAY;
}

static enum ksm_res replace_one(struct fake_client *c, const struct fake_order *o, uint32_t s)
{
	uint32_t i = (uint32_t)((o->order.addr - c->base) / PAGE) + s;

	if (o->order.frame[s] == KSM_FRAME_INLAY)
		return inlay_one(c, i, o->result, s);
	if (c->plain && wants_inlays(&o->order, s))
		return KSM_RES_PLAIN;
	/* Agents do not compare then. */
	if (o->order.from && c->page[i].how == FAKE_FILE &&
	    c->page[i].frame == o->order.from - 1 + s)
		must(c->w->frame_tag[c->page[i].frame] == c->w->frame_tag[o->order.frame[s]]);
	return merge_one(c, i, o->order.frame[s]);
}

void fake_agent_run(struct fake_client *c)
{
	int k;
	uint32_t s;

	for (k = 0; k < c->nr_orders; k++) {
		struct fake_order *o = &c->order[k];

		if (o->done || o->held)
			continue;
		o->done = true;
		for (s = 0; s < KSM_ORDER_PAGES; s++) {
			if (o->order.frame[s] == KSM_FRAME_NONE)
				continue;
			o->result[s] = KSM_RES_STALE;
			if (o->changes == c->changes)
				o->result[s] = (uint8_t)replace_one(c, o, s);
		}
	}
}

/* As libksm: private pages in the place of frames, and of what was written on them. */
static void give_back(struct fake_client *c, uint64_t addr, uint64_t mask)
{
	for (uint32_t i = 0; i < KSM_ORDER_PAGES; i++) {
		uint64_t at = addr + i * PAGE;
		struct fake_page *p = &c->page[(at - c->base) / PAGE];

		if (!(mask >> i & 1))
			continue;
		must(at >= c->base && at < c->base + c->nr * PAGE);
		if (p->how != FAKE_FILE && !p->cow)
			continue; /* it has gone meanwhile */
		p->how = FAKE_ANON;
		p->cow = false;
		p->written = true;
		ck_assert_int_eq(engine_region_forget(c->mm, at, at + PAGE), 0);
	}
	c->changes++;
}

void fake_agent_answer(struct fake_client *c)
{
	int k, left = 0;

	for (k = 0; k < c->nr_asked && !c->keeps; k++)
		give_back(c, c->asked[k].addr, c->asked[k].mask);
	c->nr_asked = 0;

	for (k = 0; k < c->nr_orders; k++) {
		if (!c->order[k].done) {
			c->order[left++] = c->order[k];
			continue;
		}
		ck_assert_int_eq(engine_order_done(c->mm, c->order[k].order.id, c->order[k].result),
				 0);
	}
	c->nr_orders = left;
}

void fake_release(struct fake *w)
{
	for (int i = 0; i < w->nr_clients; i++)
		for (int k = 0; w->client[i] && k < w->client[i]->nr_orders; k++)
			w->client[i]->order[k].held = false;
}

void fake_answer_all(struct fake *w)
{
	for (int i = 0; i < w->nr_clients; i++)
		if (w->client[i]) {
			fake_agent_run(w->client[i]);
			fake_agent_answer(w->client[i]);
		}
}

/* --- passes --- */

void fake_scan(struct fake *w)
{
	int64_t budget;
	int n = 0;

	do {
		budget = 1000;
		ck_assert_int_lt(n++, 1000000);
	} while (!engine_scan(w->e, 0, &budget));
}

void fake_orders(struct fake *w)
{
	int n = 0;

	while (engine_nr_orders(w->e)) {
		engine_flush(w->e, ENGINE_FLUSH_PASS);
		fake_answer_all(w);
		ck_assert_int_lt(n++, 100000);
	}
}

void fake_look(struct fake_client *c)
{
	uint64_t addr = 0;

	while (engine_look(c->mm, &addr) > 0)
		;
}

int fake_migrate_step(struct fake *w)
{
	int left = 0;

	for (int job = 0; job < ENGINE_JOBS; job++)
		left += engine_migrate_step(w->e, job, w->now_ms, &w->migrated) >=
			ENGINE_MIGRATE_MORE;
	return left;
}

int fake_drain_step(struct fake *w)
{
	int left = 0;

	for (int nid = 0; nid < w->nr_nodes; nid++) {
		enum engine_migrate r = engine_drain_step(w->e, nid, w->now_ms, &w->drained);

		left += r >= ENGINE_MIGRATE_MORE;
	}
	return left;
}

int fake_compact_step(struct fake *w)
{
	int left = 0;

	for (int nid = 0; nid < w->nr_nodes; nid++)
		left += engine_compact_step(w->e, nid, w->now_ms, &w->compacted) >=
			ENGINE_MIGRATE_MORE;
	return left;
}

void fake_migrate(struct fake *w)
{
	int n = 0;

	while (fake_migrate_step(w)) {
		fake_check(w);
		fake_answer_all(w);
		fake_check(w);
		w->now_ms += 5;
		ck_assert_int_lt(n++, 100000);
	}
	fake_check(w);
}

void fake_survey(struct fake *w)
{
	int n = 0;

	while (!engine_survey(w->e, 10))
		ck_assert_int_lt(n++, 1000);
	fake_check(w);
}

void fake_pass(struct fake *w)
{
	fake_scan(w);
	fake_check(w);
	fake_orders(w);
	fake_check(w);
}

void fake_passes(struct fake *w, int n)
{
	while (n--)
		fake_pass(w);
}

/* --- checks --- */

void fake_check(struct fake *w)
{
	char msg[256] = "";
	uint32_t p;
	int i;

	must_msg(!engine_check(w->e, msg, sizeof(msg)), "engine_check: %s", msg);
	for (i = 0; i < w->nr_clients; i++)
		for (p = 0; w->client[i] && p < w->client[i]->nr; p++) {
			struct fake_page *pg = &w->client[i]->page[p];

			must_msg(tag_read(w->client[i], p) == pg->tag,
				 "client %d page %u reads wrong", i, p);
		}
}

struct engine_counters fake_counters(struct fake *w)
{
	struct engine_counters n;

	memset(&n, 0, sizeof(n));
	engine_counters(w->e, &n);
	return n;
}

static uint32_t mapping(const struct fake_page *p)
{
	return p->how == FAKE_FILE || p->cow ? p->frame : FAKE_NO_FRAME;
}

uint64_t fake_vmas(const struct fake_client *c)
{
	uint64_t nr = 0;
	uint32_t i, a, b;

	for (i = 1; i < c->nr; i++) {
		if (!c->page[i - 1].offered || !c->page[i].offered)
			continue;
		a = mapping(&c->page[i - 1]);
		b = mapping(&c->page[i]);
		nr += a == FAKE_NO_FRAME || b == FAKE_NO_FRAME ? a != b : b != a + 1;
	}
	return nr;
}
