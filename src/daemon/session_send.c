/* SPDX-License-Identifier: MIT */
/* session_send.c - see session_send.h. */
#include "daemon/session_send.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/daemon.h"

#define MAX_FDS 3 /* WELCOME carries the most */

int session_send_locked(struct session *s, const struct ksm_msg_hdr *msg, const int *fds,
			int nr_fds)
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

int session_send(struct session *s, const struct ksm_msg_hdr *msg, const int *fds, int nr_fds)
{
	int err;

	lock_take(&s->send_lock);
	err = session_send_locked(s, msg, fds, nr_fds);
	lock_give(&s->send_lock);
	return err;
}

void session_send_error(struct session *s, int error, const char *text)
{
	struct ksm_msg_error msg = {
		.hdr = { KSM_MSG_ERROR, sizeof(msg) },
		.error = error,
	};

	snprintf(msg.text, sizeof(msg.text), "%s", text);
	session_send(s, &msg.hdr, NULL, 0);
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
	err = session_send(s, &msg.hdr, (int[]){ s->d->uffd_dev, arena, sentinel }, 3);
	close(arena);
	return err;
}

/* ---- what must arrive some time ---- */

static int send_epoch(struct session *s)
{
	struct ksm_msg_epoch msg = { .hdr = { KSM_MSG_EPOCH, sizeof(msg) } };
	int fd = grace_open_shared(&s->domain->grace), err;

	/* No descriptor, or the file is locked against us: announce_again() comes back to it. */
	if (fd < 0)
		return 0;
	msg.epoch = domain_epoch(s->domain);
	err = session_send(s, &msg.hdr, &fd, 1);
	close(fd);
	if (!err)
		s->epoch = msg.epoch;
	return err;
}

static int send_unmerge(struct session *s)
{
	struct ksm_msg_unmerge msg = {
		.hdr = { KSM_MSG_UNMERGE, sizeof(msg) },
		.id = s->d->unmerge.id,
	};
	int err;

	/*
	 * The flag changes under the lock, so no order can leave after UNMERGE and before its
	 * answer: the answer makes us forget what stands where.
	 */
	lock_take(&s->send_lock);
	err = session_send_locked(s, &msg.hdr, NULL, 0);
	if (!err)
		s->unmerging = true;
	lock_give(&s->send_lock);
	return err;
}

static int send_release(struct session *s)
{
	struct ksm_msg_unmerge msg = { .hdr = { KSM_MSG_RELEASE, sizeof(msg) } };

	return session_send(s, &msg.hdr, NULL, 0);
}

/* A client drops sentinels by the answer, so it comes even when there is no room now. */
static int send_stat(struct session *s)
{
	struct ksm_msg_stat_reply reply = {
		.hdr = { KSM_MSG_STAT_REPLY, sizeof(reply) },
		.id = s->stat_id,
	};
	struct mm_counters c = { 0 };

	mm_counters(s->mm, &c);
	reply.full_scans = s->d->full_scans;
	reply.passes_begun = s->d->passes_begun;
	reply.passes_done = s->d->passes_done;
	reply.merging = knob_get(&s->d->knobs, KNOB_RUN) == KSM_RUN_MERGE &&
			knob_get(&s->d->knobs, KNOB_PAGES_TO_SCAN) &&
			engine_rest(s->domain->engine) == WHY_NR;
	reply.rmap_items = c.rmap_items;
	reply.zero_pages = c.zero_pages;
	reply.merging_pages = c.merging_pages;
	reply.process_profit = session_profit(&c);
	return session_send(s, &reply.hdr, NULL, 0);
}

void session_flush(struct session *s)
{
	if (s->state != SESSION_READY)
		return;
	/* An error other than "full" is the end of the connection, which the loop reports. */
	if ((s->want & WANT_UNMERGE) && send_unmerge(s) != -EAGAIN)
		s->want &= ~WANT_UNMERGE;
	if ((s->want & WANT_EPOCH) && send_epoch(s) != -EAGAIN)
		s->want &= ~WANT_EPOCH;
	if ((s->want & WANT_RELEASE) && send_release(s) != -EAGAIN)
		s->want &= ~WANT_RELEASE;
	if ((s->want & WANT_STAT) && send_stat(s) != -EAGAIN)
		s->want &= ~WANT_STAT;
	session_listen(s);
}

void session_listen(struct session *s)
{
	if (s->state == SESSION_DEAD)
		return;
	loop_watch_set(&s->sock_watch,
		       (s->work.type ? 0 : (uint32_t)EPOLLIN) | (s->want ? (uint32_t)EPOLLOUT : 0));
}

void session_want(struct session *s, uint32_t want)
{
	s->want |= want;
	session_flush(s);
}
