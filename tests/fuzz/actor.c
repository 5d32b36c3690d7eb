/* SPDX-License-Identifier: MIT */
/* actor.c - see actor.h */
#include "actor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>

#include "daemon/attr.h"
#include "engine/engine.h"
#include "wire/wire.h"

#define BASE 0x7f00000e0000ull /* not at a block's start */

static void put_file(struct os_file **f)
{
	if (*f)
		os_file_put(*f);
	*f = NULL;
}

/* ---- saying things ---- */

static void say(struct actor *a, const void *msg, size_t len)
{
	if (a->sock)
		os_peer_send(a->sock, msg, len, NULL, 0);
}

static void say_range(struct actor *a, uint32_t type, unsigned int from, unsigned int to)
{
	struct ksm_msg_range m = { { type, sizeof(m) }, 0, 0, 0 };

	if (!a->ready)
		return;
	m.seq = ++a->seq;
	m.start = a->proc->base + from * OS_PAGE;
	m.end = a->proc->base + to * OS_PAGE;
	say(a, &m, sizeof(m));
}

static void say_adopt(struct actor *a, unsigned int page)
{
	struct ksm_msg_adopt m = { { KSM_MSG_ADOPT, sizeof(m) }, 0, 0, 1, 0 };

	if (!a->ready || a->proc->page[page].arena != a->arena->inode)
		return;
	m.seq = ++a->seq;
	m.addr = a->proc->base + page * OS_PAGE;
	m.frame = a->proc->page[page].frame;
	say(a, &m, sizeof(m));
}

/* ---- life ---- */

struct actor *actor_new(struct actors *as, uid_t uid)
{
	for (int i = 0; i < MAX_ACTORS; i++) {
		struct actor *a = &as->v[i];

		if (a->proc)
			continue;
		memset(a, 0, sizeof(*a));
		a->proc = os_proc_new(uid);
		if (!a->proc)
			return NULL;
		a->proc->base = BASE;
		for (unsigned int p = 0; p < PROC_PAGES; p++)
			a->proc->page[p].offered = a->proc->page[p].tracked = true;
		return a;
	}
	return NULL;
}

static struct os_file *proc_file(struct actor *a, enum os_kind kind)
{
	struct os_file *f = os_file_new(kind);

	f->proc = a->proc;
	return f;
}

static void say_hello(struct actor *a)
{
	struct ksm_msg_hello m = {
		{ KSM_MSG_HELLO, sizeof(m) }, KSM_WIRE_VERSION, 0, 20, 65530, ""
	};
	struct os_file *files[3] = { proc_file(a, OS_PIDFD), proc_file(a, OS_PAGEMAP),
				     proc_file(a, OS_MEM) };

	os_peer_send(a->sock, &m, sizeof(m), files, 3);
}

void actor_connect(struct actors *as, struct actor *a)
{
	if (a->sock || a->never)
		return;
	a->sock = os_connect(as->w->client_listen, a->proc->pid, a->proc->uid, false);
	if (a->sock && !a->proc->liar)
		say_hello(a);
}

void actor_hang_up(struct actor *a)
{
	if (a->sock)
		os_sock_put(a->sock);
	a->sock = NULL;
	a->ready = false;
	put_file(&a->arena);
}

void actor_exit(struct actor *a)
{
	a->proc->alive = false;
	actor_hang_up(a);
	put_file(&a->sentinel);
	put_file(&a->prev);
	while (a->nr_old)
		os_file_put(a->old[--a->nr_old]);
	a->proc = NULL;
}

struct actor *actor_fork(struct actors *as, struct actor *a, bool raw)
{
	struct actor *c = actor_new(as, a->proc->uid);

	if (!c)
		return NULL;
	memcpy(c->proc->page, a->proc->page, sizeof(c->proc->page));
	for (unsigned int p = 0; p < PROC_PAGES; p++) {
		c->proc->page[p].written = true;
		c->proc->page[p].pinned = false;
	}
	c->proc->liar = a->proc->liar;
	c->never = raw;
	for (int i = 0; i < a->nr_old; i++)
		c->old[c->nr_old++] = os_file_get(a->old[i]);
	if (a->prev)
		c->old[c->nr_old++] = os_file_get(a->prev);
	if (a->sentinel)
		c->old[c->nr_old++] = os_file_get(a->sentinel);
	return c;
}

/* ---- its memory ---- */

static void make_private(struct page *p)
{
	if (p->how == PAGE_FILE) {
		p->how = PAGE_ANON;
		p->written = true;
	}
	p->cow = false;
}

void actor_store(struct actor *a, unsigned int page, uint64_t tag)
{
	struct page *p = &a->proc->page[page];

	p->cow |= p->how == PAGE_FILE;
	p->how = PAGE_ANON;
	p->tag = tag;
	p->written = true;
}

static void empty(struct page *p)
{
	p->how = PAGE_NONE;
	p->tag = 0;
	p->cow = false;
	p->written = false;
}

void actor_forget(struct actor *a, unsigned int from, unsigned int nr)
{
	for (unsigned int p = from; p < from + nr; p++)
		empty(&a->proc->page[p]);
	say_range(a, KSM_MSG_FORGET, from, from + nr);
}

void actor_del(struct actor *a, unsigned int from, unsigned int nr)
{
	for (unsigned int p = from; p < from + nr; p++) {
		make_private(&a->proc->page[p]);
		a->proc->page[p].offered = a->proc->page[p].tracked = false;
	}
	say_range(a, KSM_MSG_DEL, from, from + nr);
}

void actor_add(struct actor *a, unsigned int from, unsigned int nr)
{
	for (unsigned int p = from; p < from + nr; p++) {
		struct page *pg = &a->proc->page[p];

		pg->written |= !pg->offered;
		pg->offered = pg->tracked = true;
	}
	say_range(a, KSM_MSG_ADD, from, from + nr);
}

/* Events in the order of follow_move(): gone there, come here, and what it stands on. */
void actor_move(struct actor *a, unsigned int from, unsigned int to)
{
	struct page *s = &a->proc->page[from], *d = &a->proc->page[to];

	if (from == to || !s->offered)
		return;
	say_range(a, KSM_MSG_DEL, to, to + 1);
	*d = *s;
	d->written = d->how != PAGE_NONE;
	empty(s);
	s->offered = s->tracked = false;
	say_range(a, KSM_MSG_DEL, from, from + 1);
	say_range(a, KSM_MSG_ADD, to, to + 1);
	if (d->how == PAGE_FILE)
		say_adopt(a, to);
}

/* ---- hearing things ---- */

static void each_run(struct actor *a,
		     void (*fn)(struct actor *a, unsigned int from, unsigned int to))
{
	unsigned int from = 0, to;

	for (; from < PROC_PAGES; from = to + 1) {
		for (to = from; to < PROC_PAGES && a->proc->page[to].offered; to++)
			;
		if (to > from)
			fn(a, from, to);
	}
}

static void declare(struct actor *a, unsigned int from, unsigned int to)
{
	for (unsigned int p = from; p < to; p++)
		a->proc->page[p].written = a->proc->page[p].how != PAGE_NONE;
	say_range(a, KSM_MSG_ADD, from, to);
}

static void adopt(struct actor *a, unsigned int from, unsigned int to)
{
	for (unsigned int p = from; p < to; p++)
		if (a->proc->page[p].how == PAGE_FILE)
			say_adopt(a, p);
}

static bool has_foreign(const struct actor *a)
{
	for (unsigned int p = 0; p < PROC_PAGES; p++) {
		const struct page *pg = &a->proc->page[p];

		if ((pg->how == PAGE_FILE || pg->cow) && pg->arena != a->arena->inode)
			return true;
	}
	return false;
}

static void on_welcome(struct actor *a, const struct ksm_msg_welcome *m, struct os_msg *msg)
{
	struct ksm_msg_ready ready = { { KSM_MSG_READY, sizeof(ready) } };
	struct ksm_msg_stat stat = { { KSM_MSG_STAT, sizeof(stat) }, 0, 0, 0 };

	os_must(msg->nr_files == 3 && !a->ready && msg->file[1]->inode->arena);
	os_must(msg->file[2]->lock_sh);
	os_must(a->nr_old + 2 <= MAX_SENTINELS);
	if (a->prev)
		a->old[a->nr_old++] = a->prev;
	if (a->sentinel)
		a->old[a->nr_old++] = a->sentinel;
	a->prev = NULL;
	a->epoch_stat = 0;
	put_file(&a->arena);
	a->arena = os_file_get(msg->file[1]);
	a->sentinel = os_file_get(msg->file[2]);
	a->epoch = m->epoch;
	a->ready = true;
	a->seq = 0;
	say(a, &ready, sizeof(ready));
	each_run(a, declare);
	each_run(a, adopt);
	if (!a->nr_old)
		return;
	stat.id = a->adopt_stat = ++a->stat_id;
	say(a, &stat, sizeof(stat));
}

static void on_epoch(struct actor *a, const struct ksm_msg_epoch *m, struct os_msg *msg)
{
	struct ksm_msg_epoch done = { { KSM_MSG_EPOCH_DONE, sizeof(done) }, m->epoch };
	struct ksm_msg_stat ask = { { KSM_MSG_STAT, sizeof(ask) }, 0, 0, 0 };

	os_must(msg->nr_files == 1 && m->epoch > a->epoch && msg->file[0]->lock_sh);
	a->epoch = m->epoch;
	if (a->prev)
		put_file(&a->sentinel);
	else
		a->prev = a->sentinel;
	a->sentinel = os_file_get(msg->file[0]);
	say(a, &done, sizeof(done));
	ask.id = a->epoch_stat = ++a->stat_id;
	say(a, &ask, sizeof(ask));
}

static uint8_t merge_one(struct actor *a, struct page *p, uint32_t frame)
{
	uint64_t tag;
	bool hole;

	if (!p->offered || p->how == PAGE_NONE)
		return KSM_RES_GONE;
	if (p->pinned)
		return KSM_RES_BUSY;
	if (frame == KSM_FRAME_ZERO) {
		if (p->how == PAGE_FILE || p->cow)
			return KSM_RES_GONE;
		if (p->tag)
			return KSM_RES_DIFFERENT;
		empty(p);
		return KSM_RES_MERGED;
	}
	tag = os_frame_tag(a->arena->inode, frame, &hole);
	os_must(!hole, "process %d is ordered to frame %u, which is empty", (int)a->proc->pid,
		frame);
	if (p->tag != tag)
		return KSM_RES_DIFFERENT;
	p->how = PAGE_FILE;
	p->frame = frame;
	p->arena = a->arena->inode;
	p->cow = false;
	return KSM_RES_MERGED;
}

static void on_order(struct actor *a, const struct ksm_msg_order *m)
{
	struct ksm_msg_order_done done = { { KSM_MSG_ORDER_DONE, sizeof(done) }, m->id, 0, { 0 } };
	unsigned int i;

	a->last_order = m->id;
	for (i = 0; i < KSM_ORDER_PAGES; i++) {
		uint64_t page = (m->addr + i * OS_PAGE - a->proc->base) / OS_PAGE;

		if (m->frame[i] == KSM_FRAME_NONE)
			continue;
		done.result[i] = KSM_RES_STALE;
		if (m->seq != a->seq)
			continue;
		os_must(page < PROC_PAGES, "an order is for memory that was never offered");
		done.result[i] = merge_one(a, &a->proc->page[page], m->frame[i]);
	}
	say(a, &done, sizeof(done));
}

static void on_unmerge(struct actor *a, const struct ksm_msg_unmerge *m)
{
	struct ksm_msg_unmerge done = *m;

	for (unsigned int p = 0; p < PROC_PAGES; p++)
		if (a->proc->page[p].how == PAGE_FILE)
			make_private(&a->proc->page[p]);
	done.hdr.type = KSM_MSG_UNMERGE_DONE;
	done.error = 0;
	say(a, &done, sizeof(done));
}

static void on_stat(struct actor *a, const struct ksm_msg_stat_reply *m)
{
	os_must(m->id <= a->stat_id);
	if (a->epoch_stat && m->id >= a->epoch_stat) {
		a->epoch_stat = 0;
		put_file(&a->prev);
	}
	if (!a->adopt_stat || m->id < a->adopt_stat)
		return;
	a->adopt_stat = 0;
	if (!has_foreign(a))
		while (a->nr_old)
			os_file_put(a->old[--a->nr_old]);
}

static void on_error(const struct actors *as, const struct ksm_msg_error *m)
{
	/*
	 * The daemon turns an honest client away only for want of a resource, never for its
	 * messages.
	 */
	bool want = m->error == ENOMEM || m->error == EMFILE || m->error == ENOSPC ||
		    m->error == EAGAIN || m->error == ENOSYS;

	os_must((want && as->faults) || as->crowd, "an honest client was told: %s", m->text);
}

static void honest(struct actors *as, struct actor *a, struct os_msg *msg)
{
	union ksm_msg m;

	os_must(msg->len <= sizeof(m) && msg->len >= sizeof(m.hdr));
	memcpy(&m, msg->data, msg->len);
	os_must(m.hdr.len == msg->len && ksm_msg_size(m.hdr.type) == msg->len);
	os_must(a->ready || m.hdr.type == KSM_MSG_WELCOME || m.hdr.type == KSM_MSG_ERROR);
	switch (m.hdr.type) {
	case KSM_MSG_WELCOME:
		on_welcome(a, &m.welcome, msg);
		break;
	case KSM_MSG_EPOCH:
		on_epoch(a, &m.epoch, msg);
		break;
	case KSM_MSG_ORDER:
		on_order(a, &m.order);
		break;
	case KSM_MSG_UNMERGE:
		on_unmerge(a, &m.unmerge);
		break;
	case KSM_MSG_STAT_REPLY:
		on_stat(a, &m.stat_reply);
		break;
	case KSM_MSG_ERROR:
		on_error(as, &m.error);
		break;
	default:
		os_must(false, "the daemon sent type %u", m.hdr.type);
	}
}

/* It keeps what may be of use to it. */
static void dishonest(struct actor *a, struct os_msg *msg)
{
	union ksm_msg m;

	memcpy(&m, msg->data, msg->len < sizeof(m) ? msg->len : sizeof(m));
	if (m.hdr.type == KSM_MSG_ORDER)
		a->last_order = m.order.id;
	if (m.hdr.type == KSM_MSG_WELCOME) {
		os_must(msg->nr_files == 3);
		put_file(&a->arena);
		a->arena = os_file_get(msg->file[1]);
		a->ready = true;
	}
	if (msg->nr_files && (m.hdr.type == KSM_MSG_WELCOME || m.hdr.type == KSM_MSG_EPOCH)) {
		put_file(&a->sentinel);
		a->sentinel = os_file_get(msg->file[msg->nr_files - 1]);
		a->epoch = m.hdr.type == KSM_MSG_EPOCH ? m.epoch.epoch : m.welcome.epoch;
	}
}

bool actor_read(struct actors *as, struct actor *a)
{
	struct os_msg *msg;

	if (!a->sock)
		return false;
	msg = os_peer_recv(a->sock);
	if (!msg) {
		if (a->sock->shut)
			actor_hang_up(a);
		return false;
	}
	if (a->proc->liar)
		dishonest(a, msg);
	else
		honest(as, a, msg);
	os_msg_free(msg);
	return true;
}

/* ---- lies ---- */

static uint64_t some_u64(struct actor *a, struct input *in)
{
	static const uint64_t odd[] = { 0,
					1,
					2,
					OS_PAGE,
					OS_PAGE - 1,
					1ull << 47,
					(1ull << 47) - OS_PAGE,
					1ull << 63,
					UINT64_MAX,
					UINT64_MAX - OS_PAGE + 1 };
	uint8_t kind = take8(in);

	switch (kind & 7) {
	case 0:
		return a->seq + 1;
	case 1:
		return a->seq;
	case 2:
		return odd[(kind >> 3) % (sizeof(odd) / sizeof(odd[0]))];
	case 3:
		return a->epoch + (kind >> 3 & 1);
	case 4:
		return (uint64_t)take32(in) << 12;
	case 5:
		return take32(in);
	default:
		return a->proc->base + (uint64_t)take8(in) * OS_PAGE;
	}
}

static uint32_t some_u32(struct actor *a, struct input *in)
{
	uint8_t kind = take8(in);

	switch (kind & 7) {
	case 0:
		return a->last_order;
	case 1:
		return a->last_order + (kind >> 3);
	case 2:
		return UINT32_MAX - (kind >> 3);
	case 3:
		return take32(in);
	default:
		return kind >> 3;
	}
}

static struct os_file *some_file(struct actors *as, struct actor *a, uint8_t kind)
{
	static const char *const path[] = { "/tmp/5000000/pagemap", "/tmp/mem",
					    "/proc/5000000/maps", "/", "" };
	struct actor *b = &as->v[kind >> 4 & 7];
	struct os_file *f;

	if (!b->proc || kind & 0x80)
		b = a;
	switch (kind & 7) {
	case 0:
	case 1:
		return proc_file(b, OS_PIDFD);
	case 2:
	case 3:
		return proc_file(b, OS_PAGEMAP);
	case 4:
		return proc_file(b, OS_MEM);
	case 5:
		return a->sentinel ? os_file_get(a->sentinel) : os_file_new(OS_EVENT);
	case 6:
		return os_file_new(OS_EVENT);
	default:
		f = os_file_new(OS_PLAIN);
		strcpy(f->text, path[(kind >> 3) % 5]);
		return f;
	}
}

/* A domain that there is, that there is not, or bytes. */
static void some_label(char field[KSM_LABEL_SIZE], struct input *in)
{
	static const char *const labels[] = { "", "", "both", "one", "none" };
	uint8_t how = take8(in);

	if (how < 0xf0)
		strcpy(field, labels[how % 5]);
	else
		for (unsigned int i = 0; i < KSM_LABEL_SIZE; i += 1 + how % 16)
			field[i] = (char)take8(in);
}

/*
 * The fields of every message, in the order of wire.h, so that inputs reach the checks behind the
 * first.
 */
static void fill(struct actor *a, union ksm_msg *m, struct input *in)
{
	switch (m->hdr.type) {
	case KSM_MSG_HELLO:
		m->hello.version = KSM_WIRE_VERSION + (take8(in) == 7);
		m->hello.flags = take8(in);
		m->hello.nr_vmas = some_u32(a, in);
		m->hello.max_map_count = some_u32(a, in);
		some_label(m->hello.domain, in);
		break;
	case KSM_MSG_ADD:
	case KSM_MSG_DEL:
	case KSM_MSG_FORGET:
		m->range.seq = some_u64(a, in);
		m->range.start = some_u64(a, in);
		m->range.end = some_u64(a, in);
		a->seq += m->range.seq == a->seq + 1;
		break;
	case KSM_MSG_ADOPT:
		m->adopt.seq = some_u64(a, in);
		m->adopt.addr = some_u64(a, in);
		m->adopt.nr_pages = some_u32(a, in);
		m->adopt.frame = some_u32(a, in);
		a->seq += m->adopt.seq == a->seq + 1;
		break;
	case KSM_MSG_ORDER_DONE:
		m->order_done.id = some_u32(a, in);
		for (unsigned int i = 0; i < KSM_ORDER_PAGES; i += 8)
			memset(m->order_done.result + i, take8(in) % (KSM_RES_NR + 1), 8);
		break;
	case KSM_MSG_UNMERGE_DONE:
		m->unmerge.id = some_u32(a, in);
		m->unmerge.error = take8(in) - 128;
		break;
	case KSM_MSG_EPOCH_DONE:
		m->epoch.epoch = some_u64(a, in);
		break;
	case KSM_MSG_INFO:
		m->info.flags = take8(in);
		m->info.nr_vmas = some_u32(a, in);
		m->info.cpu_ns = some_u64(a, in);
		for (unsigned int i = 0; i < KSM_LEFT_CLIENT_NR; i++)
			m->info.left_out[i] = UINT64_MAX >> i;
		break;
	default:
		m->stat.id = take8(in);
	}
}

void actor_lie(struct actors *as, struct actor *a, struct input *in)
{
	uint8_t type = take8(in), shape = take8(in);
	struct os_file *files[MSG_FILES];
	char bytes[sizeof(union ksm_msg) + 16];
	union ksm_msg m;
	int nr = 0;

	memset(&m, 0, sizeof(m));
	memset(bytes, 0x5a, sizeof(bytes));
	a->proc->liar = true;
	if (!a->sock) {
		actor_connect(as, a);
		if (!a->sock)
			return;
	}
	m.hdr.type = type % (KSM_MSG_NR + 2);
	m.hdr.len = ksm_msg_size(m.hdr.type);
	fill(a, &m, in);
	/* HELLO carries its descriptors; now and then any message carries any descriptor. */
	if (m.hdr.type == KSM_MSG_HELLO && shape < 0xc0) {
		files[nr++] = proc_file(a, OS_PIDFD);
		files[nr++] = proc_file(a, OS_PAGEMAP);
		files[nr++] = proc_file(a, OS_MEM);
		a->seq = 0;
	} else if (shape >= 0xc0) {
		for (int i = shape & 7; i > 0 && nr < MSG_FILES; i--)
			files[nr++] = some_file(as, a, take8(in));
	}
	memcpy(bytes, &m, sizeof(m));
	if ((shape & 0x38) == 0x38) { /* the wrong size, in the header or in truth */
		uint32_t len = shape & 1 ? take8(in) : m.hdr.len;

		memcpy(bytes + 4, &len, sizeof(len));
		os_peer_send(a->sock, bytes, take32(in) % (sizeof(bytes) + 1), files, nr);
		return;
	}
	os_peer_send(a->sock, bytes, m.hdr.len, files, nr);
}

/* ---- the truth ---- */

void actors_check(struct actors *as)
{
	for (int i = 0; i < MAX_ACTORS; i++) {
		struct actor *a = &as->v[i];

		for (unsigned int p = 0; a->proc && !a->proc->liar && p < PROC_PAGES; p++) {
			const struct page *pg = &a->proc->page[p];
			bool hole = false;

			if (pg->how == PAGE_FILE)
				os_must(os_frame_tag(pg->arena, pg->frame, &hole) == pg->tag &&
						!hole,
					"process %d, page %u", (int)a->proc->pid, p);
		}
	}
}

static bool anything_to_do(struct actors *as)
{
	bool some = false;

	for (int i = 0; i < MAX_ACTORS; i++)
		while (as->v[i].proc && actor_read(as, &as->v[i]))
			some = true;
	return some;
}

/*
 * Frames of this engine's arena that its clients map, each once, and the pages that map them. A
 * client that maps frames of another arena keeps all its old sentinels (`strangers`), and with them
 * frames that are retired here.
 */
static void count_truth(struct actors *as, const struct domain *d, uint64_t *sites,
			uint64_t *nr_frames, bool *strangers)
{
	const struct os_inode *arena = os_file_of(d->arena->file.fd)->inode;
	struct {
		const struct os_inode *arena;
		uint32_t frame;
	} seen[MAX_ACTORS * PROC_PAGES];
	uint64_t nr = 0;

	*sites = 0;
	*strangers = false;
	for (int i = 0; i < MAX_ACTORS; i++) {
		struct actor *a = &as->v[i];

		*strangers |= a->proc && a->nr_old;
		for (unsigned int p = 0; a->proc && a->ready && p < PROC_PAGES; p++) {
			const struct page *pg = &a->proc->page[p];
			uint64_t k = 0;

			if (pg->how != PAGE_FILE || pg->arena != arena || a->arena->inode != arena)
				continue;
			++*sites;
			while (k < nr && seen[k].frame != pg->frame)
				k++;
			seen[k].frame = pg->frame;
			nr += k == nr;
		}
	}
	*nr_frames = nr;
}

static void compare_with_truth(struct actors *as)
{
	unsigned int nr;
	struct domain **v = domain_table_snapshot(&as->w->d.domains, &nr);

	for (unsigned int i = 0; i < nr; i++) {
		struct engine_counters c = { 0 };
		uint64_t sites, nr_frames;
		bool strangers;

		count_truth(as, v[i], &sites, &nr_frames, &strangers);
		engine_counters(v[i]->engine, &c);
		os_must(c.pages_shared == nr_frames && c.pages_shared + c.pages_sharing == sites,
			"domain %u: %lu frames, %lu sites; mapped: %lu, %lu", v[i]->id,
			c.pages_shared, c.pages_shared + c.pages_sharing, nr_frames, sites);
		os_must(c.frames_used == c.pages_shared + c.frames_retired &&
				(strangers || !c.frames_retired),
			"domain %u: %lu frames used, %lu retired, %lu mapped", v[i]->id,
			c.frames_used, c.frames_retired, nr_frames);
	}
	domain_snapshot_free(v, nr);
}

void actors_rest(struct actors *as)
{
	os_fault(0, 0);
	for (int i = 0; i < MAX_ACTORS; i++) {
		struct actor *a = &as->v[i];

		if (a->proc && (a->proc->liar || a->never))
			actor_exit(a);
		for (unsigned int p = 0; a->proc && p < PROC_PAGES; p++)
			a->proc->page[p].pinned = false;
		if (a->sock)
			a->sock->room = 64;
	}
	/*
	 * A grace period polls at most every two seconds, and three may follow each other. A page
	 * that changed again and again is left out of fifteen passes (page_age()) and ordered after
	 * that.
	 */
	for (int i = 0, quiet = 0; quiet < 20; i++) {
		os_must(i < 3000, "no end");
		attr_set(&as->w->groups.tree, "ksm/run", "1");
		quiet = anything_to_do(as) ? 0 : quiet + 1;
		for (int k = 0; k < MAX_ACTORS; k++)
			if (as->v[k].proc && !as->v[k].sock)
				actor_connect(as, &as->v[k]);
		os_advance_ms(2100);
		world_scan(as->w, 5000, true);
		world_clients(as->w);
		world_control(as->w);
	}
	world_check(as->w);
	actors_check(as);
	compare_with_truth(as);
}
