/* SPDX-License-Identifier: MIT */
/*
 * session_msg.c - what clients say, checked before it is believed.
 *
 * Which message may come in which state is a table. Every number in a message is checked against its
 * range before it reaches the engine. Whatever is wrong ends the connection with a reason; a client
 * of the library never sees that.
 *
 * A client can lie about its own memory only. Claiming merges that it did not make would inflate the
 * counters, so now and then the page map is asked whether claimed pages still are private memory that
 * was not written since it was last scanned. (A write makes a merged page private again at once, and all
 * pages of an order may have been written by the time we look; a page that was merged is not armed.)
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/session_priv.h"
#include "daemon/track.h"

/* Messages taken from one client before others have their turn; fewer when they take long. */
#define FAIR_SHARE 64
#define FAIR_MS 5

/* Claims are checked for every order at first, then for every 16th: a look costs about 2 us, the
 * merge of a full order 45. */
#define CHECK_ALL_FIRST 8
#define CHECK_EVERY 16
#define CLAIMS_ENOUGH 64   /* none is judged by fewer */
#define CLAIMS_WINDOW 1024 /* then older ones count half */

/* ---- which message may come when ---- */

struct rule {
	uint32_t states; /* bit mask */
	void (*handle)(struct session *s, const union ksm_msg *msg);
};

/* Every order of address space changes is numbered without a gap. */
static bool check_seq(struct session *s, uint64_t seq)
{
	if (seq == s->seq + 1)
		return true;
	session_fail(s, ERR_PROTOCOL, EPROTO, "message number %llu does not follow %llu",
		     (unsigned long long)seq, (unsigned long long)s->seq);
	return false;
}

/* Takes effect after the engine has been told: an order may carry an older number than what it knows,
 * never a newer one. */
static void took_in(struct session *s, uint64_t seq, int err)
{
	if (err) {
		session_fail(s, err == -ENOMEM ? ERR_RESOURCES : ERR_PROTOCOL, -err,
			     "message number %llu cannot be carried out", (unsigned long long)seq);
		return;
	}
	s->seq = seq;
	sessions_grace_soon(s->owner);
}

static bool check_range(struct session *s, const struct ksm_msg_range *r)
{
	if (!((r->start | r->end) & (KSM_PAGE_SIZE - 1)) && r->start < r->end &&
	    r->end <= KSM_ADDR_END)
		return true;
	session_fail(s, ERR_PROTOCOL, EINVAL, "not a range: %#llx to %#llx",
		     (unsigned long long)r->start, (unsigned long long)r->end);
	return false;
}

static void handle_ready(struct session *s, const union ksm_msg *msg)
{
	(void)msg;
	session_become_ready(s);
}

/*
 * Of memory where nothing was found so much more at a time, if looking took no time: a client may name
 * terabytes that are not there. Else in small pieces: the kernel holds its mmap_lock meanwhile.
 */
#define CLEAN_BYTES (128ull << 20) /* 0.3 ms where all pages are there */
#define CLEAN_GROWTH 4
#define CLEAN_QUICK_NS 100000

/*
 * The scan may have come to a range between what the client did and what it says here: then it has taken
 * the pages that are there now for those of before, which are forgotten with this message, and tracking
 * will not report these again. Only the page tables know them.
 */
static void see_clean(struct session *s, const struct ksm_msg_range *r)
{
	struct track_range v[256];
	uint64_t at = r->start, piece = CLEAN_BYTES, next, end, begin;

	while (s->state != SESSION_DEAD && at < r->end) {
		int n;

		end = r->end - at < piece ? r->end : at + piece;
		begin = clock_thread_cpu_ns();
		n = track_clean(s->fds[CLIENT_PAGEMAP], at, end, v, 256, &next);
		piece = !n && clock_thread_cpu_ns() - begin < CLEAN_QUICK_NS ?
				piece * CLEAN_GROWTH :
				CLEAN_BYTES;

		if (n > 0)
			engine_see_clean(s->mm, v, n);
		/* Out of memory, or the process is ending: what is missed is merged when it is written. */
		if (n < 0 || next <= at)
			return;
		at = next;
	}
}

static void handle_add(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (!check_seq(s, r->seq) || !check_range(s, r))
		return;
	took_in(s, r->seq, engine_region_add(s->mm, r->start, r->end));
	see_clean(s, r);
	bell_ring(&s->owner->d->scan_bell, SCAN_HINT);
}

static void handle_del(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (check_seq(s, r->seq) && check_range(s, r))
		took_in(s, r->seq, engine_region_del(s->mm, r->start, r->end));
}

static void handle_forget(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_range *r = &msg->range;

	if (!check_seq(s, r->seq) || !check_range(s, r))
		return;
	took_in(s, r->seq, engine_region_forget(s->mm, r->start, r->end));
	see_clean(s, r);
}

static void handle_adopt(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_adopt *a = &msg->adopt;

	if (!check_seq(s, a->seq))
		return;
	if ((a->addr & (KSM_PAGE_SIZE - 1)) || a->addr >= KSM_ADDR_END || !a->nr_pages ||
	    a->nr_pages > (KSM_ADDR_END - a->addr) / KSM_PAGE_SIZE) {
		session_fail(s, ERR_PROTOCOL, EINVAL, "not a range: %#llx, %u pages",
			     (unsigned long long)a->addr, a->nr_pages);
		return;
	}
	took_in(s, a->seq, engine_adopt(s->mm, a->addr, a->nr_pages, a->frame));
	/* A child that was forked before everything was unmerged, and says so only now. */
	if (s->state == SESSION_READY && !s->unmerging &&
	    knob_get(&s->owner->d->knobs, KNOB_RUN) == KSM_RUN_UNMERGE) {
		s->want |= WANT_UNMERGE;
		session_flush(s);
	}
}

/* ---- orders ---- */

/* Pages claimed merged: bit mask; or false after an unknown result. */
static bool claims(const uint8_t *result, uint64_t *mask)
{
	*mask = 0;
	for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++) {
		if (result[i] >= KSM_RES_NR)
			return false;
		if (result[i] == KSM_RES_MERGED)
			*mask |= 1ull << i;
	}
	return true;
}

static bool time_to_check(struct session *s)
{
	return s->nr_done++ < CHECK_ALL_FIRST || s->nr_done % CHECK_EVERY == 0;
}

/* Look at what is claimed. Returns false when the client was dropped for lying. */
static bool check_claims(struct session *s, uint32_t id, uint64_t mask)
{
	uint64_t addr;

	if (!mask || !time_to_check(s) || !session_order_addr(s, id, &addr))
		return true;
	s->claims_checked += (uint32_t)__builtin_popcountll(mask);
	s->claims_false += (uint32_t)__builtin_popcountll(
		track_private_pages(s->fds[CLIENT_PAGEMAP], addr, mask));
	if (s->claims_checked >= CLAIMS_ENOUGH && s->claims_false > s->claims_checked / 2) {
		session_fail(s, ERR_LIAR, EPROTO, "%u of %u pages said to be merged are not",
			     s->claims_false, s->claims_checked);
		return false;
	}
	if (s->claims_checked >= CLAIMS_WINDOW) {
		s->claims_checked /= 2;
		s->claims_false /= 2;
	}
	return true;
}

static void handle_order_done(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_order_done *t = &msg->order_done;
	uint64_t mask;

	if (!claims(t->result, &mask)) {
		session_fail(s, ERR_PROTOCOL, EINVAL, "unknown result in the answer to order %u",
			     t->id);
		return;
	}
	/* The count guards against an answer to an order that this connection never got. */
	if (!s->nr_orders || engine_order_done(s->mm, t->id, t->result)) {
		session_fail(s, ERR_PROTOCOL, EPROTO, "answer to order %u, which is not under way",
			     t->id);
		return;
	}
	s->nr_orders--;
	s->waiting_ms = clock_ms();
	check_claims(s, t->id, mask);
	sessions_grace_soon(s->owner);
}

static void handle_unmerge_done(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_unmerge *u = &msg->unmerge;

	if (!s->unmerging) {
		session_fail(s, ERR_PROTOCOL, EPROTO, "nobody asked for unmerging");
		return;
	}
	if (u->error < 0) {
		session_fail(s, ERR_PROTOCOL, EINVAL, "not an error number: %d", u->error);
		return;
	}
	if (u->error == 0 && engine_region_forget(s->mm, 0, KSM_ADDR_END)) {
		session_fail(s, ERR_RESOURCES, ENOMEM, "cannot forget what was merged");
		return;
	}
	s->unmerging = false;
	session_unmerge_done(s, u->error);
	sessions_grace_soon(s->owner);
}

/* ---- the rest ---- */

/* The sentinel's lock says who lives; this says that nothing older is under way (all_moved_on()). */
static void handle_epoch_done(struct session *s, const union ksm_msg *msg)
{
	if (msg->epoch.epoch > s->epoch) {
		session_fail(s, ERR_PROTOCOL, EPROTO, "epoch %llu is not yet",
			     (unsigned long long)msg->epoch.epoch);
		return;
	}
	if (msg->epoch.epoch == s->epoch)
		s->epoch_done = s->epoch;
	sessions_grace_soon(s->owner);
}

static void handle_stat(struct session *s, const union ksm_msg *msg)
{
	s->stat_id = msg->stat.id;
	s->want |= WANT_STAT;
	session_flush(s);
}

static void handle_info(struct session *s, const union ksm_msg *msg)
{
	const struct ksm_msg_info *info = &msg->info;

	s->flags = info->flags;
	s->own_vmas = info->nr_vmas;
	s->agent_cpu_ns = info->cpu_ns;
	for (int i = 0; i < KSM_LEFT_CLIENT_NR; i++)
		s->left_out[i] = info->left_out[i];
	engine_mm_set_vmas(s->mm, info->nr_vmas, s->max_map_count);
}

#define IN_WELCOME (1u << SESSION_WELCOME)
#define IN_READY (1u << SESSION_READY)

/* HELLO is apart: it alone brings descriptors. */
static const struct rule rules[KSM_MSG_NR] = {
	[KSM_MSG_READY] = { IN_WELCOME, handle_ready },
	[KSM_MSG_ADD] = { IN_READY, handle_add },
	[KSM_MSG_DEL] = { IN_READY, handle_del },
	[KSM_MSG_FORGET] = { IN_READY, handle_forget },
	[KSM_MSG_ADOPT] = { IN_READY, handle_adopt },
	[KSM_MSG_ORDER_DONE] = { IN_READY, handle_order_done },
	[KSM_MSG_UNMERGE_DONE] = { IN_READY, handle_unmerge_done },
	[KSM_MSG_EPOCH_DONE] = { IN_READY, handle_epoch_done },
	[KSM_MSG_STAT] = { IN_READY, handle_stat },
	[KSM_MSG_INFO] = { IN_READY, handle_info },
};

/* A message and the descriptors that came with it. */
struct received {
	union {
		union ksm_msg msg;
		char bytes[sizeof(union ksm_msg) + 1]; /* one more shows what is too long */
	};
	size_t len;
	int fds[CLIENT_FDS_NR];
	int nr_fds;
	bool too_many_fds;
};

static void close_fds(struct received *r)
{
	for (int i = 0; i < r->nr_fds; i++)
		close(r->fds[i]);
	r->nr_fds = 0;
}

static void handle_hello(struct session *s, struct received *r)
{
	char why[100];
	int err;

	if (r->msg.hello.version != KSM_WIRE_VERSION) {
		session_fail(s, ERR_PROTOCOL, EPROTONOSUPPORT,
			     "version %u is not spoken here, only %u", r->msg.hello.version,
			     KSM_WIRE_VERSION);
		return;
	}
	if (r->nr_fds != CLIENT_FDS_NR || r->too_many_fds) {
		session_fail(s, ERR_DESCRIPTORS, EBADF,
			     "need three descriptors: pidfd, pagemap and mem; got %d%s", r->nr_fds,
			     r->too_many_fds ? " and more" : "");
		return;
	}
	err = client_fds_check(r->fds, s->pid, why, sizeof(why));
	if (err) {
		session_fail(s,
			     err == -EBADF ? ERR_DESCRIPTORS :
			     err == -ESRCH ? ERR_ENDED :
					     ERR_RESOURCES,
			     -err, "%s", why);
		return;
	}
	memcpy(s->fds, r->fds, sizeof(s->fds));
	r->nr_fds = 0; /* the session's now */
	err = session_become_client(s, &r->msg.hello);
	if (err)
		session_fail(s, err == -EPIPE ? ERR_ENDED : ERR_RESOURCES, -err,
			     "cannot take another client: %s", strerror(-err));
}

static void dispatch(struct session *s, struct received *r)
{
	uint32_t type = r->len >= sizeof(r->msg.hdr) ? r->msg.hdr.type : 0;

	if (!ksm_msg_size(type)) {
		session_fail(s, ERR_PROTOCOL, EPROTO, "no such message: type %u, %zu bytes", type,
			     r->len);
		return;
	}
	if (r->len != ksm_msg_size(type) || r->msg.hdr.len != r->len) {
		session_fail(s, ERR_PROTOCOL, EMSGSIZE, "message of type %u must have %u bytes",
			     type, ksm_msg_size(type));
		return;
	}
	if (type == KSM_MSG_HELLO && s->state == SESSION_HELLO) {
		handle_hello(s, r);
		return;
	}
	if (r->nr_fds || r->too_many_fds)
		session_fail(s, ERR_DESCRIPTORS, EBADF, "message of type %u brings descriptors",
			     type);
	else if (!(rules[type].states & (1u << s->state)))
		session_fail(s, ERR_PROTOCOL, EPROTO, "message of type %u must not come now", type);
	else
		rules[type].handle(s, &r->msg);
}

/* Returns 1, 0 when there is nothing more, -1 at the end of the connection. */
static int receive(struct session *s, struct received *r)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(CLIENT_FDS_NR * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = r->bytes, .iov_len = sizeof(r->bytes) };
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		/* Exactly three: the padding of CMSG_SPACE would let a fourth in. */
		.msg_controllen = CMSG_LEN(CLIENT_FDS_NR * sizeof(int)),
	};
	ssize_t n = recvmsg(s->sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	r->nr_fds = 0;
	r->too_many_fds = false;
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		r->nr_fds = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(r->fds, CMSG_DATA(c), (size_t)r->nr_fds * sizeof(int));
	}
	r->too_many_fds = mh.msg_flags & MSG_CTRUNC;
	r->len = (size_t)n;
	return n > 0 || r->nr_fds ? 1 : -1;
}

void session_input(struct session *s)
{
	uint64_t begin = clock_ms();
	struct received r;

	for (int i = 0; i < FAIR_SHARE && s->state != SESSION_DEAD && clock_ms() - begin < FAIR_MS;
	     i++) {
		int got = receive(s, &r);

		if (got < 0)
			session_drop(s);
		if (got <= 0)
			return;
		dispatch(s, &r);
		close_fds(&r);
	}
}
