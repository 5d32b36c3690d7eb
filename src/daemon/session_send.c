/* SPDX-License-Identifier: MIT */
/*
 * session_send.c - what clients are told.
 *
 * Nothing here waits. A message that does not fit into the socket is refused (orders: the engine
 * tries again) or remembered as a bit and sent when there is room (epochs, unmerging, answers). So a client that stops reading costs one socket buffer.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/session_priv.h"
#include "daemon/track.h"

#define MAX_FDS 3

static int send_locked(struct session *s, const struct ksm_msg_hdr *msg, const int *fds, int nr_fds)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)msg, .iov_len = msg->len };
	struct msghdr mh = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (nr_fds) {
		memset(&control, 0, sizeof(control));
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE((size_t)nr_fds * sizeof(int));
		control.hdr.cmsg_level = SOL_SOCKET;
		control.hdr.cmsg_type = SCM_RIGHTS;
		control.hdr.cmsg_len = CMSG_LEN((size_t)nr_fds * sizeof(int));
		memcpy(CMSG_DATA(&control.hdr), fds, (size_t)nr_fds * sizeof(int));
	}
	return sendmsg(s->sock, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int session_send(struct session *s, const void *msg, const int *fds, int nr_fds)
{
	int err;

	pthread_mutex_lock(&s->send_lock);
	err = send_locked(s, msg, fds, nr_fds);
	pthread_mutex_unlock(&s->send_lock);
	return err;
}

void session_send_error(struct session *s, int error, const char *text)
{
	struct ksm_msg_error msg = {
		.hdr = { KSM_MSG_ERROR, sizeof(msg) },
		.error = error,
	};

	snprintf(msg.text, sizeof(msg.text), "%s", text);
	session_send(s, &msg, NULL, 0);
}

int session_send_welcome(struct session *s, uint64_t epoch, int sentinel)
{
	struct arena *a = s->domain->arena;
	struct ksm_msg_welcome msg = {
		.hdr = { KSM_MSG_WELCOME, sizeof(msg) },
		.version = KSM_WIRE_VERSION,
		.client_id = s->id,
		.arena_id = a->id,
		.arena_pages = (uint64_t)a->zone_frames * (unsigned int)a->nr_nodes,
		.epoch = epoch,
	};
	int arena = arena_open_readonly(a), err;

	if (arena < 0)
		return arena;
	err = session_send(s, &msg, (int[]){ s->owner->d->uffd_dev, arena, sentinel }, 3);
	close(arena);
	return err;
}

/* ---- things that must arrive some time ---- */

static int send_epoch(struct session *s)
{
	struct ksm_msg_epoch msg = { .hdr = { KSM_MSG_EPOCH, sizeof(msg) } };
	int fd = grace_open_shared(&s->domain->grace), err;

	/* No descriptor, or the file is locked against us: announce_again() comes back to it. */
	if (fd < 0)
		return 0;
	msg.epoch = s->domain->grace.current->epoch;
	err = session_send(s, &msg, &fd, 1);
	close(fd);
	if (!err)
		s->epoch = msg.epoch;
	return err;
}

static int send_unmerge(struct session *s)
{
	struct ksm_msg_unmerge msg = {
		.hdr = { KSM_MSG_UNMERGE, sizeof(msg) },
		.id = s->owner->d->unmerge.id,
	};
	int err;

	/* Under the lock with the flag, so that no order can leave after UNMERGE and before its
	 * answer: the answer makes us forget what stands where. */
	pthread_mutex_lock(&s->send_lock);
	err = send_locked(s, &msg.hdr, NULL, 0);
	if (!err)
		s->unmerging = true;
	pthread_mutex_unlock(&s->send_lock);
	return err;
}

/* A client drops sentinels by it, so it comes even when there is no room now. */
static int send_stat(struct session *s)
{
	struct ksm_msg_stat_reply reply = {
		.hdr = { KSM_MSG_STAT_REPLY, sizeof(reply) },
		.id = s->stat_id,
	};
	struct mm_counters c = { 0 };

	mm_counters(s->mm, &c);
	reply.full_scans = s->owner->d->full_scans;
	reply.rmap_items = c.rmap_items;
	reply.zero_pages = c.zero_pages;
	reply.merging_pages = c.merging_pages;
	reply.process_profit = session_profit(s, &c);
	return session_send(s, &reply, NULL, 0);
}

static void poll_out(struct session *s, bool on)
{
	struct epoll_event ev = {
		.events = EPOLLIN | (on ? (uint32_t)EPOLLOUT : 0),
		.data.ptr = &s->sock_source,
	};

	if (s->polls_out != on && !epoll_ctl(s->owner->epoll, EPOLL_CTL_MOD, s->sock, &ev))
		s->polls_out = on;
}

void session_flush(struct session *s)
{
	if (s->state != SESSION_READY)
		return;
	/* An error other than "full" is the end of the connection, which epoll reports. */
	if ((s->want & WANT_UNMERGE) && send_unmerge(s) != -EAGAIN)
		s->want &= ~WANT_UNMERGE;
	if ((s->want & WANT_EPOCH) && send_epoch(s) != -EAGAIN)
		s->want &= ~WANT_EPOCH;
	if ((s->want & WANT_STAT) && send_stat(s) != -EAGAIN)
		s->want &= ~WANT_STAT;
	poll_out(s, s->want != 0);
}

/* ---- orders ---- */

bool session_stalled(struct session *s)
{
	return s->nr_orders && clock_ms() - s->waiting_ms > STALL_MS;
}

bool session_order_addr(struct session *s, uint32_t id, uint64_t *addr)
{
	struct order_sent *o = &s->orders[id % ORDER_SLOTS];
	bool found;

	pthread_mutex_lock(&s->send_lock);
	found = o->addr && o->id == id;
	*addr = o->addr;
	pthread_mutex_unlock(&s->send_lock);
	return found;
}

static bool may_order(struct session *s)
{
	return s->state == SESSION_READY && !s->unmerging &&
	       knob_get(&s->owner->d->knobs, KNOB_RUN) != KSM_RUN_UNMERGE && !session_stalled(s);
}

static int op_send_order(void *client, struct ksm_msg_order *order)
{
	struct session *s = client;
	int err;

	order->hdr = (struct ksm_msg_hdr){ KSM_MSG_ORDER, sizeof(*order) };
	order->reserved = 0;
	pthread_mutex_lock(&s->send_lock);
	if (!may_order(s)) {
		pthread_mutex_unlock(&s->send_lock);
		return -EAGAIN;
	}
	order->seq = s->seq;
	/* Counted before it can be answered, which the client thread may see at once. */
	if (s->nr_orders++ == 0)
		s->waiting_ms = clock_ms();
	s->orders[order->id % ORDER_SLOTS] = (struct order_sent){ order->id, order->addr };
	err = send_locked(s, &order->hdr, NULL, 0);
	if (err)
		s->nr_orders--;
	pthread_mutex_unlock(&s->send_lock);
	return err == -EWOULDBLOCK || err == -ENOBUFS || err == -ENOMEM ? -EAGAIN : err;
}

/* ---- the engine's other questions ---- */

static int op_track(void *client, uint64_t start, uint64_t end, bool dense, struct track_range *v,
		    int max, uint64_t *walk_end)
{
	struct session *s = client;

	*walk_end = start;
	if (s->state == SESSION_DEAD)
		return -ESRCH;
	return track_written(s->fds[CLIENT_PAGEMAP], start, end, dense, v, max, walk_end);
}

static int op_look(void *client, uint64_t start, uint64_t end, struct track_range *v, int max)
{
	struct session *s = client;

	if (s->state == SESSION_DEAD)
		return -ESRCH;
	return track_look(s->fds[CLIENT_PAGEMAP], start, end, v, max);
}

static ssize_t op_read(void *client, uint64_t addr, void *buf, size_t len)
{
	struct session *s = client;

	return track_read(s->fds[CLIENT_MEM], addr, buf, len);
}

#define NID_BATCH 512 /* what numa_topology takes at a time */

static void op_nid(void *client, const uint64_t *addr, int nr, int *nids)
{
	struct session *s = client;
	struct numa_topology *t = s->owner->d->topology;

	for (int i = 0; i < nr; i += NID_BATCH)
		t->ops->page_nids(t, s->pid, addr + i, nr - i < NID_BATCH ? nr - i : NID_BATCH,
				  nids + i);
}

/* May run on liburcu's thread: nothing but releasing. */
static void op_client_release(void *client)
{
	struct session *s = client;
	struct sessions *ss = s->owner;

	for (int i = 0; i < CLIENT_FDS_NR; i++)
		close(s->fds[i]);
	close(s->sock);
	domain_leave(s->domain);
	pthread_mutex_destroy(&s->send_lock);
	free(s->orders);
	free(s);
	ss->nr_connections--;
	bell_ring(&ss->d->client_bell,
		  CLIENTS_RETIRED); /* its frames, and perhaps the domain, can go */
}

const struct engine_ops session_ops = {
	.track = op_track,
	.look = op_look,
	.read = op_read,
	.nid = op_nid,
	.send_order = op_send_order,
	.frame_write = arena_frame_write,
	.frame_free = arena_frame_free,
	.client_release = op_client_release,
};
