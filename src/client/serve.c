/* SPDX-License-Identifier: MIT */
/*
 * serve.c - the agent's loop: orders in, changes out, and what is due by the clock.
 *
 * Whatever comes from the daemon is checked here and in link_receive(); a message that makes no
 * sense ends the connection, and the agent connects again. An order is one message: once it is
 * read the agent finishes it alone, whatever becomes of the daemon.
 */
#include "client/serve.h"

#include <errno.h>
#include <poll.h>

#include "base/span.h"
#include "client/as_queue.h"
#include "client/connect.h"
#include "client/inlay.h"
#include "client/mailbox.h"
#include "client/pageset.h"
#include "client/release.h"
#include "client/sysc.h"
#include "client/tell.h"
#include "client/txn.h"
#include "client/unshare.h"
#include "client/urgent.h"
#include "client/wait.h"

/* ---- messages of the daemon ---- */

static bool on_stat(struct link *l, struct heritage *h, const struct ksm_msg_stat_reply *m)
{
	uint64_t arena_file = l->kit->arena_file;

	if (m->id > l->stat_id)
		return false; /* nobody has asked */
	sentinel_answer(&h->sentinels, m->id, arena_file);
	if ((mailbox_kind() == REQ_STAT || mailbox_kind() == REQ_PASSES) &&
	    l->reply_for == mailbox.nr && m->id == l->reply_id) {
		mailbox.stat = *m;
		mailbox.result = 0;
		mailbox_finish(mailbox_kind());
	}
	if (!h->past.due_ms)
		return true;
	past_answer(&h->past, l, m);
	if (!h->past.due_ms && !h->sentinels.adopt_stat)
		sentinel_drop_old(&h->sentinels, arena_file);
	return true;
}

/* Orders that are to be carried out together: txn.h. */
struct orders {
	unsigned int nr, weight;
	struct ksm_msg_order m[TXN_ORDERS];
};

/* Does this one go with those that are there? */
static bool goes_with(const struct orders *o, const struct ksm_msg_order *m)
{
	return o->nr < TXN_ORDERS && o->weight + txn_weight(m) <= TXN_WEIGHT &&
	       m->addr - o->m[o->nr - 1].addr == KIT_ORDER_BYTES;
}

static void add_order(struct orders *o, const struct ksm_msg_order *m)
{
	o->m[o->nr++] = *m;
	o->weight += txn_weight(m);
}

static bool carry_out(struct link *l, struct orders *o)
{
	struct ksm_msg_order_done done[TXN_ORDERS];
	unsigned int nr = o->nr;
	bool may;

	o->nr = o->weight = 0;
	if (!link_same_identity(l))
		return false;
	for (unsigned int i = 0; i < nr; i++) {
		done[i] = (struct ksm_msg_order_done){
			{ KSM_MSG_ORDER_DONE, sizeof(done[i]) }, o->m[i].id, 0, { 0 }
		};
		inlay_look(l->kit, &o->m[i]);
	}
	may = urgent_begin(l->kit);
	/* An order that must not be begun is answered as one that is out of date. */
	for (unsigned int i = 0; i < nr && !may; i++)
		o->m[i].seq = ~l->sent_seq;
	txn_execute(l->kit, o->m, nr, l->sent_seq, done);
	urgent_rest(l->kit);
	tell_info_later(l);
	for (unsigned int i = 0; i < nr; i++)
		if (!tell_message(l, &done[i], sizeof(done[i])))
			return false;
	return true;
}

/* Some pages are private now and others are not: what stands where is told from the beginning. */
static void tell_anew(void)
{
	as_agent_lock();
	as_event(KSM_MSG_FORGET, 0, KSM_ADDR_END);
	as_event(KSM_MSG_ADOPT, 0, KSM_ADDR_END);
	as_unlock();
}

static bool on_unmerge(struct link *l, const struct ksm_msg_unmerge *m)
{
	struct ksm_msg_unmerge done = *m;
	struct headroom room = { 0 };

	done.hdr.type = KSM_MSG_UNMERGE_DONE;
	urgent_begin(l->kit);
	done.error = -unshare_range(l->kit, 0, KSM_ADDR_END, &room);
	urgent_rest(l->kit);
	tell_short(l, done.error);
	if (done.error)
		tell_anew();
	return tell_message(l, &done, sizeof(done));
}

/* False: it is done, and the connection is to end; or that is broken. */
static bool on_release(struct link *l, struct heritage *h, const struct ksm_msg_unmerge *m)
{
	struct ksm_msg_unmerge done = *m;

	done.hdr.type = KSM_MSG_RELEASE_DONE;
	done.error = -release_all(l->kit, &h->sentinels);
	if (!done.error) {
		atomic_store(&h->released, true);
		tell_message(l, &done, sizeof(done));
		return false;
	}
	tell_anew();
	return tell_message(l, &done, sizeof(done));
}

/*
 * Each run that is given back makes an event, and at most 32 do: they are told before the next
 * message is looked at. What cannot be given back stays, and the daemon asks again or does not.
 */
static bool on_give_back(struct link *l, const struct ksm_msg_give_back *m)
{
	struct headroom room = { 0 };
	int err = 0;

	if (m->addr % KIT_ORDER_BYTES || m->addr >= KSM_ADDR_END)
		return false;
	urgent_begin(l->kit);
	for (unsigned int i = 0, j; !err && pageset_next(m->mask, &i, &j); i = j)
		err = unshare_mapping(l->kit, m->addr + i * (uint64_t)KSM_PAGE_SIZE,
				      m->addr + j * (uint64_t)KSM_PAGE_SIZE, &room);
	urgent_rest(l->kit);
	sysc0(SYS_sched_yield); /* as txn_execute() does */
	tell_info_later(l);
	return true;
}

/* Closes the descriptors in f. */
static bool on_message(struct link *l, struct heritage *h, const union ksm_msg *m,
		       struct link_fds *f)
{
	if (m->hdr.type == KSM_MSG_EPOCH)
		return sentinel_epoch(&h->sentinels, l, &m->epoch, f);
	link_close_fds(f);
	switch (m->hdr.type) {
	case KSM_MSG_UNMERGE:
		return on_unmerge(l, &m->unmerge);
	case KSM_MSG_GIVE_BACK:
		return on_give_back(l, &m->give_back);
	case KSM_MSG_RELEASE:
		return on_release(l, h, &m->unmerge);
	case KSM_MSG_STAT_REPLY:
		return on_stat(l, h, &m->stat_reply);
	default:
		return false;
	}
}

/*
 * Receive the next message. Returns as link_receive(), but for -EPROTO where the connection is to
 * end; then, and for an order, no descriptor is left open.
 */
static long receive(struct link *l, union ksm_msg *m, struct link_fds *f)
{
	long n;

	do
		n = link_receive(l, m, f);
	while (n == -EINTR);
	if (n == -EAGAIN)
		return n;
	if (n > 0 && m->hdr.type == KSM_MSG_ORDER) {
		link_close_fds(f);
		return m->order.addr % KIT_ORDER_BYTES ? -EPROTO : n;
	}
	if (n > 0 && link_same_identity(l))
		return n;
	link_close_fds(f);
	return -EPROTO;
}

/* Between messages: what happened meanwhile. False: the connection is to end. */
static bool look_up(struct link *l)
{
	if (!tell_events(l))
		return false;
	wait_ask_passes(l);
	/* Orders may keep coming for seconds; program threads must not wait for that. */
	wait_for(l, 0, 0);
	return !mailbox_ending();
}

/*
 * Receive until the socket is empty. Orders that have come are kept as long as the next message is
 * one that goes with them. False: the connection is to end.
 */
static bool receive_all(struct link *l, struct heritage *h)
{
	struct orders o = { 0 };
	union ksm_msg m;
	struct link_fds f;

	for (;;) {
		long n = receive(l, &m, &f);
		bool order = n > 0 && m.hdr.type == KSM_MSG_ORDER;

		if (order && o.nr && goes_with(&o, &m.order)) {
			add_order(&o, &m.order);
			continue;
		}
		if (o.nr && (!carry_out(l, &o) || !look_up(l))) {
			link_close_fds(&f);
			return false;
		}
		if (n <= 0)
			return n == -EAGAIN;
		if (order)
			add_order(&o, &m.order);
		else if (!on_message(l, h, &m, &f) || !look_up(l))
			return false;
	}
}

/* ---- the clock ---- */

/* Milliseconds from now to the earlier of `until` and what is due at due_ms (0: nothing is). */
static int until_due(int until, uint64_t due_ms, uint64_t now)
{
	int t = due_ms > now ? (int)u64_min(due_ms - now, INT32_MAX) : 0;

	return due_ms && (until == WAIT_FOREVER || t < until) ? t : until;
}

/* How long to sleep: until INFO, FORKS, the past or the heap want a look. */
static int next_timeout(const struct link *l, const struct heritage *h)
{
	uint64_t now = kit_now_ms();
	int t = until_due(WAIT_FOREVER, l->info_due_ms, now);

	t = until_due(t, l->forks_due_ms, now);
	t = until_due(t, h->past.due_ms, now);
	return heap_is_offered(&h->heap) ? until_due(t, now + h->heap.poll_ms, now) : t;
}

/*
 * Orders have come to a rest. They may have been the last for frames that a process of another
 * domain left to this one: a worker that has changed its user stands on frames of its parent's.
 */
static bool tell_rest(struct link *l, struct heritage *h)
{
	if (h->sentinels.nr_old && !h->sentinels.adopt_stat)
		sentinel_drop_old(&h->sentinels, l->kit->arena_file);
	urgent_begin(l->kit);
	unshare_withdrawn(l->kit);
	urgent_rest(l->kit);
	return tell_info(l);
}

/* False: the connection is broken. */
static bool do_what_is_due(struct link *l, struct heritage *h)
{
	if (l->info_due_ms && kit_now_ms() >= l->info_due_ms && !tell_rest(l, h))
		return false;
	if (h->past.due_ms && kit_now_ms() >= h->past.due_ms && !past_ask(&h->past, l))
		return false;
	heap_poll(&h->heap);
	if (!tell_forks(l) || !tell_events(l))
		return false;
	wait_ask_passes(l);
	return true;
}

static void serve(struct link *l, struct heritage *h)
{
	while (!mailbox_ending() && tell_events(l) && link_same_identity(l) &&
	       do_what_is_due(l, h)) {
		wait_serve_request(l);
		if (wait_for(l, POLLIN, next_timeout(l, h)) && !receive_all(l, h))
			return;
	}
}

bool serve_connection(struct link *l, struct heritage *h)
{
	bool greeted = connect_handshake(l, h);

	if (greeted) {
		tell_info_later(l);
		tell_forks_drop();
		if (tell_all(l) && sentinel_ask(&h->sentinels, l)) {
			atomic_store(&mailbox.connected, 1);
			mailbox_tried();
			serve(l, h);
		}
	}
	atomic_store(&mailbox.connected, 0);
	sentinel_leave_domain(&h->sentinels, l);
	link_end(l);
	if (mailbox_kind() == REQ_STAT || mailbox_kind() == REQ_PASSES)
		wait_serve_request(l); /* whose answer will not come */
	return greeted;
}
