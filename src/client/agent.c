// SPDX-License-Identifier: MIT
/*
 * agent.c - life of the agent thread; see agent.h for what it is and why it is safe.
 *
 * Loop: (re)connect, declare everything that is offered, then serve orders and pass changes on.
 * It sleeps in one ppoll: the socket, and a signalfd through which program threads wake it. The
 * signal is SIGURG, sent to this thread alone, which has it blocked; the program's own use of
 * SIGURG is not touched, and should the signal ever get elsewhere its default is to do nothing.
 *
 * The agent never waits for the daemon with the lock held, and answers requests of program threads
 * also while it waits for room in the socket: a stopped daemon stops nobody.
 */
#include "client/agent.h"

#include <errno.h>
#include <linux/close_range.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "base/span.h"
#include "client/as.h"
#include "client/heap.h"
#include "client/hold.h"
#include "client/io.h"
#include "client/maps.h"
#include "client/past.h"
#include "client/sysc.h"
#include "client/txn.h"
#include "client/uffd.h"
#include "client/unshare.h"
#include "wire/kernel_abi.h"
#include "wire/runtime_dir.h"

/* Room for the thread's frames (the largest is the 12 KiB of maps and scan buffers) and for the
 * static TLS of the program, which glibc puts on the same mapping. Untouched pages cost nothing. */
#define STACK_MIN (1u << 20)
#define STACK_MAX (16u << 20)
#define RETRY_MIN_MS 100
#define RETRY_MAX_MS 1000
/* A forked child that is about to exec, or (under ksm-run) a program that is over in an instant,
 * should not have paid for a connection. */
#define START_DELAY_MS 30
/* Facts about this process are worth a message once it has been quiet for so long. */
#define INFO_DELAY_MS 300
/* A daemon that is stopped in the middle of a handshake is tried again after this. */
#define HANDSHAKE_MS 10000
#define HEAP_POLL_MIN_MS 100
#define HEAP_POLL_MAX_MS 3200

struct agent agent = { .kit = KIT_NONE, .sock = -1 };

static uint64_t now_ms(void)
{
	struct timespec ts;

	sysc2(SYS_clock_gettime, CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- requests of program threads ---- */

/* One that has timed out may have made room for another by now, which is not done. */
static void finish_request(struct agent *a, uint32_t kind)
{
	if (atomic_compare_exchange_strong(&a->req_kind, &kind, REQ_NONE))
		sysc3(SYS_futex, &a->req_kind, FUTEX_WAKE_PRIVATE, INT32_MAX);
}

static void serve_request(struct agent *a)
{
	uint32_t kind = atomic_load_explicit(&a->req_kind, memory_order_acquire);

	switch (kind) {
	case REQ_UNSHARE:
		a->req_result = unshare_range(&a->kit, a->req_start, a->req_end);
		break;
	case REQ_STAT: {
		struct ksm_msg_stat m = { { KSM_MSG_STAT, sizeof(m) }, a->stat_id + 1 };

		if (atomic_load(&a->connected) && a->stat_for == a->req_nr)
			return; /* under way */
		a->stat_for = a->req_nr;
		a->req_stat_id = ++a->stat_id;
		if (!atomic_load(&a->connected))
			a->req_result = -ENOTCONN;
		else if (sysc6(SYS_sendto, a->sock, (long)&m, sizeof(m),
			       MSG_NOSIGNAL | MSG_DONTWAIT, 0, 0) == sizeof(m))
			return; /* the reply finishes it */
		else
			a->req_result = -ETIMEDOUT;
		break;
	}
	default:
		return;
	}
	finish_request(a, kind);
}

static void drain_pokes(struct agent *a)
{
	struct signalfd_siginfo si[4];

	while (sysc3(SYS_read, a->kit.sigfd, si, sizeof(si)) > 0)
		;
	atomic_store(&a->poked, 0);
}

/*
 * Sleep until the socket has `events`, a poke, or timeout. Requests are served here, so that they
 * are also while we wait to send. Returns the socket's revents.
 */
static short agent_wait(struct agent *a, short events, int timeout_ms)
{
	struct pollfd p[2] = { { a->kit.sigfd, POLLIN, 0 }, { a->sock, events, 0 } };
	struct timespec ts = { timeout_ms / 1000, timeout_ms % 1000 * 1000000L };
	/* glibc's own two signals (32: cancel, 33: setxid) are let in here and nowhere else: the
	 * handler of setxid reads the caller's stack, which may be missing in a transaction. */
	uint64_t mask = ~(3ull << 31);
	long r = sysc5(SYS_ppoll, p, a->sock >= 0 ? 2 : 1, timeout_ms < 0 ? NULL : &ts, &mask,
		       sizeof(mask));

	if (r > 0 && p[0].revents)
		drain_pokes(a);
	serve_request(a);
	return r > 0 && a->sock >= 0 ? p[1].revents : 0;
}

void agent_poke(void)
{
	int32_t tid = atomic_load_explicit(&agent.tid, memory_order_acquire);

	/* Not getpid(): a vfork child shares our memory but not our process id, and a signal that
	 * gets nowhere would leave `poked` set for ever. */
	if (tid > 0 && !atomic_exchange(&agent.poked, 1))
		sysc3(SYS_tgkill, agent.pid, tid, SIGURG);
}

void agent_request_begin(uint64_t *sigmask)
{
	uint64_t all = ~0ull;
	uint32_t zero = 0;

	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &all, sigmask, sizeof(all));
	if (atomic_compare_exchange_strong(&agent.req_lock, &zero, 1))
		return;
	while (atomic_exchange(&agent.req_lock, 2) != 0)
		sysc4(SYS_futex, &agent.req_lock, FUTEX_WAIT_PRIVATE, 2, NULL);
}

void agent_request_end(const uint64_t *sigmask)
{
	if (atomic_exchange(&agent.req_lock, 0) == 2)
		sysc3(SYS_futex, &agent.req_lock, FUTEX_WAKE_PRIVATE, 1);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, sigmask, NULL, sizeof(*sigmask));
}

/* Hand the request over and wait; 0 when it was finished, -ETIMEDOUT, -ENOSYS: nobody is there. */
static int request(uint32_t kind, int timeout_ms)
{
	uint64_t until = now_ms() + (uint64_t)timeout_ms;

	atomic_store_explicit(&agent.req_kind, kind, memory_order_release);
	agent_poke();
	while (atomic_load_explicit(&agent.req_kind, memory_order_acquire) == kind) {
		struct timespec ts = { 1, 0 };

		if (atomic_load(&agent.disabled)) {
			atomic_store(&agent.req_kind, REQ_NONE);
			return -ENOSYS;
		}
		sysc4(SYS_futex, &agent.req_kind, FUTEX_WAIT_PRIVATE, kind, &ts);
		if (timeout_ms >= 0 && now_ms() >= until) {
			atomic_store(&agent.req_kind, REQ_NONE);
			return -ETIMEDOUT;
		}
	}
	return 0;
}

int agent_unshare(uint64_t start, uint64_t end)
{
	if (agent_start(false) < 0)
		return unshare_range(&agent.kit, start, end);
	agent.req_start = start;
	agent.req_end = end;
	if (request(REQ_UNSHARE, -1) < 0)
		return unshare_range(&agent.kit, start, end);
	return agent.req_result;
}

int agent_stat(struct ksm_msg_stat_reply *out)
{
	int r;

	if (!atomic_load(&agent.connected))
		return -ENOTCONN;
	agent.req_result = 0;
	agent.req_nr++;
	r = request(REQ_STAT, 2000);
	if (!r)
		r = agent.req_result;
	*out = agent.req_stat;
	return r;
}

/* ---- sending ---- */

static bool send_msg(struct agent *a, const void *m, size_t len)
{
	for (;;) {
		long r = sysc6(SYS_sendto, a->sock, (long)m, (long)len, MSG_NOSIGNAL | MSG_DONTWAIT,
			       0, 0);

		if (r == (long)len)
			return true;
		if (r == -EAGAIN) {
			if (agent_wait(a, POLLOUT, -1) & (POLLERR | POLLHUP))
				return false;
		} else if (r != -EINTR) {
			return false;
		}
	}
}

static bool send_range(struct agent *a, uint32_t type, uint64_t start, uint64_t end)
{
	struct ksm_msg_range m = { { type, sizeof(m) }, ++a->sent_seq, start, end };

	return send_msg(a, &m, sizeof(m));
}

static uint32_t count_vmas(void)
{
	int n = maps_walk(0, 0, NULL, NULL);

	return n > 0 ? (uint32_t)n : 0;
}

static uint64_t thread_cpu_ns(void)
{
	struct timespec ts = { 0 };

	sysc2(SYS_clock_gettime, CLOCK_THREAD_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static bool send_info(struct agent *a)
{
	struct ksm_msg_info m = { { KSM_MSG_INFO, sizeof(m) }, 0, 0, 0, { 0 } };

	m.cpu_ns = thread_cpu_ns();
	as_agent_lock();
	m.flags = as.merge_any ? KSM_INFO_MERGE_ANY : 0;
	for (size_t i = 0; i < as.nr; i++) {
		const struct as_range *r = &as.range[i];
		uint64_t pages = (r->end - r->start) >> KSM_PAGE_SHIFT;

		for (int why = 0; why < KSM_LEFT_CLIENT_NR; why++)
			if (r->left_out & 1u << why)
				m.left_out[why] += pages;
		if ((r->flags & AS_WANTED) && r->prot != (PROT_READ | PROT_WRITE))
			m.left_out[KSM_LEFT_PROT] += pages;
	}
	as_unlock();
	m.nr_vmas = count_vmas();
	a->info_due_ms = 0;
	/* This is sent when orders have ceased to come: what they were compared in is memory, too. */
	if (a->kit.buf)
		sysc3(SYS_madvise, a->kit.buf, 2 * KSM_ORDER_PAGES * KSM_PAGE_SIZE, MADV_DONTNEED);
	return send_msg(a, &m, sizeof(m));
}

/* ---- passing changes on ---- */

struct adopt_ctx {
	struct agent *a;
	uint64_t start, end;
	/* The daemon has heard of what was offered of `told` when the events were taken, and of all of `added`. */
	struct span told, added;
	bool ok;
};

static bool within(uint64_t start, uint64_t end, const struct span *s)
{
	return start >= s->start && end <= s->end;
}

/*
 * The next part of [at, end) in which the daemon has to know of frames: what is offered, and what is
 * just being withdrawn, where they stand until that is done. *add: what it has to be told first (it
 * may have heard otherwise, or nothing, when the events are not in step with what is offered by now; the end
 * of it is under way); empty if nothing.
 */
static bool next_adoptable(const struct adopt_ctx *c, uint64_t at, uint64_t end, struct span *part,
			   struct span *add)
{
	bool found = false;

	*add = (struct span){ 0, 0 };
	as_agent_lock();
	for (size_t i = as_find(at); !found && i < as.nr && as.range[i].start < end; i++) {
		const struct as_range *r = &as.range[i];
		bool leaves = r->flags & AS_UNSHARING;

		found = as_offered(r) || leaves;
		part->start = r->start > at ? r->start : at;
		part->end = r->end < end ? r->end : end;
		if (!found || within(part->start, part->end, &c->added) ||
		    (!leaves && !as.nr_events && !as.overflow &&
		     within(part->start, part->end, &c->told)))
			continue;
		add->start = r->start > c->start ? r->start : c->start;
		add->end = r->end < c->end ? r->end : c->end;
	}
	as_unlock();
	return found;
}

static bool send_adopt(struct agent *a, uint64_t start, uint64_t end, uint64_t offset)
{
	struct ksm_msg_adopt m = { { KSM_MSG_ADOPT, sizeof(m) }, 0, start, 0, 0 };

	if (start == end)
		return true;
	m.seq = ++a->sent_seq;
	m.nr_pages = (uint32_t)((end - start) >> KSM_PAGE_SHIFT);
	m.frame = (uint32_t)(offset >> KSM_PAGE_SHIFT);
	return send_msg(a, &m, sizeof(m));
}

/*
 * Frames in one offered part of a mapping, `offset` being the file's at its start. Pages that were
 * written since are private, and no frame is to be kept for them. (One that is written from now on is
 * found by tracking, and one that cannot be told is taken for a frame, which is the safe side.)
 */
static bool adopt_part(struct agent *a, uint64_t start, uint64_t end, uint64_t offset)
{
	struct kabi_page_region v[HOLD_MAX_PAGES];
	uint64_t at = start, base = start - offset;

	while (at < end) {
		uint64_t stop = at + HOLD_MAX_PAGES * KSM_PAGE_SIZE;
		long n;

		stop = stop < end ? stop : end;
		n = hold_private(&a->kit, at, stop, v);
		for (long i = 0; i < n; at = v[i++].end)
			if (!send_adopt(a, at, v[i].start, at - base))
				return false;
		if (!send_adopt(a, at, stop, at - base))
			return false;
		at = stop;
	}
	return true;
}

/*
 * A mapping of frames can reach beyond what is offered: pages that were written and withdrawn since
 * are private, and stay in it.
 */
static void adopt_one(void *arg, const struct maps_entry *e)
{
	struct adopt_ctx *c = arg;
	uint64_t start = e->start > c->start ? e->start : c->start;
	uint64_t end = e->end < c->end ? e->end : c->end;
	struct span part, add;

	if (!maps_is_arena(e) || e->inode != c->a->kit.arena_ino || e->shared)
		return;
	for (; c->ok && start < end && next_adoptable(c, start, end, &part, &add);
	     start = part.end) {
		if (add.end) {
			c->ok = send_range(c->a, KSM_MSG_ADD, add.start, add.end);
			c->added = add;
		}
		if (c->ok)
			c->ok = adopt_part(c->a, part.start, part.end,
					   e->offset + (part.start - e->start));
	}
}

/* Tell of the frames that stand in a range already. `told`: see adopt_ctx. */
static bool adopt_range(struct agent *a, uint64_t start, uint64_t end, struct span told)
{
	struct adopt_ctx c = { .a = a, .start = start, .end = end, .told = told, .ok = true };

	/* Frames that were not seen would be taken for not there. */
	return maps_walk(start, end, adopt_one, &c) >= 0 && c.ok;
}

static void track_part(struct agent *a, const struct as_range *r, bool anew)
{
	if (anew)
		uffd_unregister(a->kit.uffd_async, r->start, r->end);
	uffd_register(a->kit.uffd_async, r->start, r->end, UFFDIO_REGISTER_MODE_WP);
}

/*
 * `told`: see adopt_ctx. `anew`: forget what tracking knows, so that everything shows as written. The daemon
 * that armed it may be gone, and another one would never see pages that do not change.
 */
static bool pass_on(struct agent *a, const struct as_event *e, struct span told, bool anew)
{
	struct as_range part[32];
	uint64_t at = e->start;

	if (e->type == KSM_MSG_ADOPT)
		return adopt_range(a, e->start, e->end, told);
	if (e->type == KSM_MSG_DEL || e->type == KSM_MSG_FORGET)
		if (!send_range(a, e->type, e->start, e->end))
			return false;
	if (e->type == KSM_MSG_DEL)
		return true;
	/* What is offered of the range by now; it may be less than when the event was made, and
	 * then another event follows. */
	while (at < e->end) {
		size_t nr = 0;

		as_agent_lock();
		for (size_t i = as_find(at); i < as.nr && as.range[i].start < e->end && nr < 32;
		     i++) {
			struct as_range r = as.range[i];

			at = r.end;
			if (!as_offered(&r))
				continue;
			r.start = r.start > e->start ? r.start : e->start;
			r.end = r.end < e->end ? r.end : e->end;
			part[nr++] = r;
		}
		if (nr < 32)
			at = e->end;
		for (size_t i = 0; i < nr; i++)
			track_part(a, &part[i], anew);
		as_unlock();
		for (size_t i = 0; i < nr && e->type == KSM_MSG_ADD; i++)
			if (!send_range(a, KSM_MSG_ADD, part[i].start, part[i].end))
				return false;
	}
	return true;
}

static bool pass_events(struct agent *a)
{
	static struct as_event batch[AS_EVENTS]; /* agent only; too large for its stack */
	uint32_t nr;

	for (;;) {
		struct span told = { 0, 0 };

		as_agent_lock();
		if (as.overflow) {
			as_unlock();
			return false; /* reconnect and declare everything anew */
		}
		nr = as.nr_events;
		memcpy(batch, as.event, nr * sizeof(batch[0]));
		as.nr_events = 0;
		as_unlock();
		if (!nr)
			return true;
		a->info_due_ms = now_ms() + INFO_DELAY_MS;
		for (uint32_t i = 0; i < nr; i++) {
			if (!pass_on(a, &batch[i], told, false))
				return false;
			if (batch[i].type == KSM_MSG_ADD)
				told = (struct span){ batch[i].start, batch[i].end };
			else if (batch[i].type != KSM_MSG_ADOPT)
				told.end = 0;
		}
	}
}

/* After a connection: everything that is offered, and what stands on frames of this arena. */
static bool declare_all(struct agent *a)
{
	struct as_event all = { KSM_MSG_ADD, 0, KSM_ADDR_END };
	struct ksm_msg_stat m = { { KSM_MSG_STAT, sizeof(m) }, 0 };

	as_agent_lock();
	as.nr_events = 0;
	as.overflow = false;
	as_unlock();
	if (!pass_on(a, &all, (struct span){ 0, 0 }, true))
		return false;
	all.type = KSM_MSG_ADOPT;
	if (!pass_on(a, &all, (struct span){ all.start, all.end }, true))
		return false;
	if (!a->nr_old)
		return true;
	m.id = a->adopt_stat = ++a->stat_id;
	return send_msg(a, &m, sizeof(m));
}

/* ---- receiving ---- */

struct fds {
	int fd[3];
	int nr;
};

/* One message; returns its length, 0 at the end, or -errno. Unexpected descriptors are closed. */
static long recv_msg(struct agent *a, union ksm_msg *m, struct fds *f)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} ctl;
	struct iovec iov = { m, sizeof(*m) };
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &ctl,
		/* Exactly three: the padding of CMSG_SPACE would let a fourth in. */
		.msg_controllen = CMSG_LEN(3 * sizeof(int)),
	};
	long n = sysc3(SYS_recvmsg, a->sock, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	f->nr = 0;
	if (n < 0)
		return n;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		f->nr = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(f->fd, CMSG_DATA(c), (size_t)f->nr * sizeof(int));
	}
	if (n < (long)sizeof(m->hdr) || m->hdr.len != n || ksm_msg_size(m->hdr.type) != n)
		return n ? -EPROTO : 0;
	return n;
}

static void close_fds(struct fds *f)
{
	while (f->nr > 0)
		sysc1(SYS_close, f->fd[--f->nr]);
}

/* A page whose mapping tells the daemon that a process of this epoch is alive. */
static void *map_sentinel(int fd)
{
	long r = sysc6(SYS_mmap, 0, KSM_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);

	return sysc_failed(r) ? NULL : (void *)r;
}

static void unmap_page(void **p)
{
	if (*p)
		sysc2(SYS_munmap, *p, KSM_PAGE_SIZE);
	*p = NULL;
}

/*
 * The newest sentinel no longer protects frames that were retired before its epoch. One of them may be ours
 * all the same: its page has moved, the daemon has heard that it left and not that it came, and will never
 * hear when it ends the connection now. So the one before stays until the daemon has answered what it was
 * asked after all that was said.
 */
static bool on_epoch(struct agent *a, const struct ksm_msg_epoch *m, struct fds *f)
{
	struct ksm_msg_epoch done = { { KSM_MSG_EPOCH_DONE, sizeof(done) }, m->epoch };
	struct ksm_msg_stat ask = { { KSM_MSG_STAT, sizeof(ask) }, a->stat_id + 1 };
	void *fresh = f->nr == 1 ? map_sentinel(f->fd[0]) : NULL;

	close_fds(f);
	if (!fresh)
		return false;
	as_agent_lock(); /* a fork must inherit enough of them */
	if (a->prev_sentinel)
		unmap_page(&a->sentinel);
	else
		a->prev_sentinel = a->sentinel;
	a->sentinel = fresh;
	as_unlock();
	a->epoch_stat = ++a->stat_id;
	return send_msg(a, &done, sizeof(done)) && send_msg(a, &ask, sizeof(ask));
}

static void drop_prev_sentinel(struct agent *a)
{
	as_agent_lock();
	unmap_page(&a->prev_sentinel);
	as_unlock();
	a->epoch_stat = 0;
}

struct foreign_ctx {
	uint64_t arena_ino;
	bool found;
};

static void find_foreign(void *arg, const struct maps_entry *e)
{
	struct foreign_ctx *c = arg;

	c->found |= maps_is_arena(e) && e->inode != c->arena_ino;
}

/*
 * What stands on this arena has been adopted. Frames of another arena cannot be: after a change of
 * user, or in a child where every process is a domain of its own, that arena's daemon may well be
 * alive, and the old sentinel is all that tells it of us.
 */
static void drop_old_sentinels(struct agent *a)
{
	struct foreign_ctx c = { a->kit.arena_ino, false };

	as_agent_lock();
	if (maps_walk(0, UINT64_MAX, find_foreign, &c) >= 0 && !c.found)
		while (a->nr_old)
			unmap_page(&a->old_sentinel[--a->nr_old]);
	as_unlock();
}

static bool on_stat(struct agent *a, const struct ksm_msg_stat_reply *m)
{
	if (m->id > a->stat_id)
		return false; /* we did not ask */
	if (a->adopt_stat && m->id >= a->adopt_stat) {
		drop_old_sentinels(a);
		a->adopt_stat = 0;
	}
	if (a->epoch_stat && m->id >= a->epoch_stat)
		drop_prev_sentinel(a);
	if (atomic_load(&a->req_kind) == REQ_STAT && m->id == a->req_stat_id) {
		a->req_stat = *m;
		a->req_result = 0;
		finish_request(a, REQ_STAT);
	}
	if (!a->past_due_ms)
		return true;
	past_answer(a, m, now_ms());
	if (!a->past_due_ms && !a->adopt_stat)
		drop_old_sentinels(a);
	return true;
}

static bool on_order(struct agent *a, const struct ksm_msg_order *m)
{
	struct ksm_msg_order_done done = { { KSM_MSG_ORDER_DONE, sizeof(done) }, m->id, 0, { 0 } };

	txn_execute(&a->kit, m, a->sent_seq, done.result);
	/* Now, with no page in hand, and not in the middle of the next order: threads that wait for its
	 * pages would wait for the length of somebody else's time slice. */
	sysc0(SYS_sched_yield);
	a->info_due_ms = now_ms() + INFO_DELAY_MS;
	return send_msg(a, &done, sizeof(done));
}

static bool on_unmerge(struct agent *a, const struct ksm_msg_unmerge *m)
{
	struct ksm_msg_unmerge done = *m;

	done.hdr.type = KSM_MSG_UNMERGE_DONE;
	done.error = -unshare_range(&a->kit, 0, KSM_ADDR_END);
	return send_msg(a, &done, sizeof(done));
}

static bool on_message(struct agent *a, const union ksm_msg *m, struct fds *f)
{
	if (m->hdr.type == KSM_MSG_EPOCH)
		return on_epoch(a, &m->epoch, f);
	close_fds(f);
	switch (m->hdr.type) {
	case KSM_MSG_ORDER:
		return m->order.addr % (KSM_ORDER_PAGES * KSM_PAGE_SIZE) == 0 &&
		       on_order(a, &m->order);
	case KSM_MSG_UNMERGE:
		return on_unmerge(a, &m->unmerge);
	case KSM_MSG_STAT_REPLY:
		return on_stat(a, &m->stat_reply);
	default:
		return false;
	}
}

/* ---- connection ---- */

void agent_find_daemon(const char *dir)
{
	char *path = agent.sock_path;

	if (!path[0] && ksm_runtime_path(path, sizeof(agent.sock_path), dir, KSM_CLIENT_SOCKET) < 0)
		path[0] = '\0';
}

static bool connect_daemon(struct agent *a)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	long fd;

	if (!a->sock_path[0])
		return false;
	memcpy(sun.sun_path, a->sock_path, sizeof(sun.sun_path));
	fd = sysc3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	a->sock = (int)fd;
	a->uid = (uint32_t)sysc0(SYS_getuid);
	a->euid = (uint32_t)sysc0(SYS_geteuid);
	if (sysc3(SYS_connect, fd, &sun, sizeof(sun)) == 0)
		return true;
	kit_close(&a->sock);
	return false;
}

static uint32_t max_map_count(void)
{
	char buf[32] = "";
	uint32_t v = 0;

	io_slurp("/proc/sys/vm/max_map_count", buf, sizeof(buf));
	for (const char *p = buf; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (uint32_t)(*p - '0');
	return v ? v : 65530;
}

static bool send_hello(struct agent *a)
{
	struct ksm_msg_hello m = { { KSM_MSG_HELLO, sizeof(m) }, KSM_WIRE_VERSION, 0, 0, 0 };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} ctl = { .h = { CMSG_LEN(3 * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl)
	};
	int fd[3];
	long r;

	m.nr_vmas = count_vmas();
	m.max_map_count = max_map_count();
	as_agent_lock();
	m.flags = as.merge_any ? KSM_INFO_MERGE_ANY : 0;
	as_unlock();
	fd[0] = (int)sysc2(SYS_pidfd_open, sysc0(SYS_getpid), 0);
	fd[1] = a->kit.pagemap;
	fd[2] = a->kit.mem;
	if (fd[0] < 0)
		return false;
	memcpy(CMSG_DATA(&ctl.h), fd, sizeof(fd));
	r = sysc3(SYS_sendmsg, a->sock, &mh, MSG_NOSIGNAL);
	sysc1(SYS_close, fd[0]);
	return r == sizeof(m);
}

static bool make_staging(struct agent *a)
{
	size_t len = KSM_ORDER_PAGES * KSM_PAGE_SIZE;

	if (!a->kit.buf) {
		a->kit.buf = kit_map(2 * len);
		if (a->kit.buf)
			sysc3(SYS_madvise, a->kit.buf, 2 * len, MADV_DONTFORK);
	}
	if (!a->kit.staging) {
		a->kit.staging = kit_map(len);
		if (a->kit.staging)
			sysc3(SYS_madvise, a->kit.staging, len, MADV_DONTFORK);
		if (a->kit.staging)
			sysc3(SYS_madvise, a->kit.staging, len, MADV_NOHUGEPAGE);
		if (a->kit.staging)
			sysc3(SYS_mprotect, a->kit.staging, len, PROT_NONE);
	}
	return a->kit.buf && a->kit.staging &&
	       uffd_register(a->kit.uffd_sync, (uintptr_t)a->kit.staging,
			     (uintptr_t)a->kit.staging + len, UFFDIO_REGISTER_MODE_MISSING) == 0;
}

/*
 * Frames that this process has from before are protected by the old sentinels until the daemon knows of
 * them. Lock held, or in a forked child.
 */
static void retire_sentinels(struct agent *a)
{
	void *both[] = { a->prev_sentinel, a->sentinel };

	for (int i = 0; i < 2; i++)
		if (both[i] && a->nr_old < OLD_SENTINELS)
			a->old_sentinel[a->nr_old++] = both[i];
	a->prev_sentinel = a->sentinel = NULL;
	a->epoch_stat = 0;
}

static bool take_welcome(struct agent *a, const struct ksm_msg_welcome *m, struct fds *f)
{
	struct stat st;
	void *sentinel;

	if (f->nr != 3 || m->version != KSM_WIRE_VERSION || uffd_open(&a->kit, f->fd[0]) < 0 ||
	    !make_staging(a) || sysc2(SYS_fstat, f->fd[1], &st) < 0)
		return false;
	sentinel = map_sentinel(f->fd[2]);
	if (!sentinel)
		return false;
	as_agent_lock();
	retire_sentinels(a);
	a->sentinel = sentinel;
	as_unlock();
	kit_close(&a->kit.arena);
	a->kit.arena = f->fd[1];
	f->fd[1] = f->fd[2];
	f->nr = 2; /* the rest is closed by the caller */
	past_begin(a, st.st_ino, now_ms());
	a->kit.arena_ino = st.st_ino;
	a->kit.arena_pages = m->arena_pages;
	return true;
}

/* Say hello, wait for the welcome, say ready. */
static bool handshake(struct agent *a)
{
	struct ksm_msg_ready ready = { { KSM_MSG_READY, sizeof(ready) } };
	uint64_t until = now_ms() + HANDSHAKE_MS;
	union ksm_msg m;
	struct fds f;
	long n;
	bool ok;

	if (!send_hello(a))
		return false;
	do {
		/* Also woken by pokes; those wait until we are connected. */
		agent_wait(a, POLLIN, HANDSHAKE_MS);
		n = recv_msg(a, &m, &f);
	} while ((n == -EAGAIN || n == -EINTR) && now_ms() < until);
	if (n <= 0) {
		close_fds(&f);
		return false;
	}
	ok = m.hdr.type == KSM_MSG_WELCOME && take_welcome(a, &m.welcome, &f);
	close_fds(&f);
	a->sent_seq = 0;
	return ok && send_msg(a, &ready, sizeof(ready));
}

/* How long may we sleep? Until the heap or our own facts want a look. */
static int next_timeout(struct agent *a)
{
	uint64_t now = now_ms();
	int t = -1;

	if (a->info_due_ms)
		t = a->info_due_ms > now ? (int)(a->info_due_ms - now) : 0;
	if (a->past_due_ms && (t < 0 || a->past_due_ms < now + (uint64_t)t))
		t = a->past_due_ms > now ? (int)(a->past_due_ms - now) : 0;
	if (atomic_load(&a->heap_watch) && (t < 0 || t > (int)a->heap_poll_ms))
		t = (int)a->heap_poll_ms;
	return t;
}

static void look_at_heap(struct agent *a)
{
	if (!atomic_load(&a->heap_watch))
		return;
	if (heap_poll(&a->heap_end))
		a->heap_poll_ms = HEAP_POLL_MIN_MS;
	else if (a->heap_poll_ms < HEAP_POLL_MAX_MS)
		a->heap_poll_ms *= 2;
}

/* A process that changed its user belongs to another domain, and must lose the arena of this one. */
static bool same_identity(const struct agent *a)
{
	return a->uid == (uint32_t)sysc0(SYS_getuid) && a->euid == (uint32_t)sysc0(SYS_geteuid);
}

/*
 * The domain that we have left must not wait for us: its frames may be reused when nobody from its
 * epochs is left. So stand on none of them, nor on those of any earlier daemon, and say so by
 * dropping the sentinels. Without memory for that they stay, and the frames with them.
 */
static void leave_domain(struct agent *a)
{
	uint64_t moves;

	if (same_identity(a))
		return;
	as_agent_lock();
	do {
		moves = as.frame_moves;
		as_unlock();
		if (unshare_range(&a->kit, 0, KSM_ADDR_END) < 0)
			return;
		as_agent_lock();
	} while (as.frame_moves != moves); /* perhaps to where nobody looks any more */
	while (a->nr_old)
		unmap_page(&a->old_sentinel[--a->nr_old]);
	unmap_page(&a->sentinel);
	as_unlock();
}

/* Receive until the socket is empty. */
static bool receive_all(struct agent *a)
{
	union ksm_msg m;
	struct fds f;

	for (;;) {
		long n = recv_msg(a, &m, &f);

		if (n == -EAGAIN)
			return true;
		if (n == -EINTR)
			continue;
		if (n <= 0 || !same_identity(a)) {
			close_fds(&f);
			return false;
		}
		if (!on_message(a, &m, &f) || !pass_events(a))
			return false;
		/* Orders may keep coming for seconds; requests and signals must not wait for that. */
		agent_wait(a, 0, 0);
	}
}

static void serve(struct agent *a)
{
	while (pass_events(a) && same_identity(a)) {
		short ev;

		if (a->info_due_ms && now_ms() >= a->info_due_ms && !send_info(a))
			return;
		if (a->past_due_ms && now_ms() >= a->past_due_ms && !past_ask(a, now_ms()))
			return;
		look_at_heap(a);
		if (!pass_events(a))
			return;
		ev = agent_wait(a, POLLIN, next_timeout(a));
		if (ev && !receive_all(a))
			return;
	}
}

/* The one that is open stays when no other can be had. */
static void reopen(int *fd, const char *path)
{
	long r = sysc4(SYS_openat, -100, path, 02000000 /* O_CLOEXEC */, 0);

	if (r < 0)
		return;
	kit_close(fd);
	*fd = (int)r;
}

/*
 * Our own memory, for the daemon. Opened at start, since a program that sets its user ID afterwards
 * may not open them any more (it is not dumpable then), and again for each connection, for a
 * program that could not open them at first.
 */
static bool open_self(struct agent *a)
{
	reopen(&a->kit.mem, "/proc/self/mem");
	reopen(&a->kit.pagemap, "/proc/self/pagemap");
	return a->kit.mem >= 0 && a->kit.pagemap >= 0;
}

static void agent_loop(struct agent *a, int delay_ms)
{
	uint64_t until = now_ms() + (uint64_t)delay_ms;

	for (;;) {
		uint64_t now = now_ms();

		if (now < until) {
			agent_wait(a, 0, (int)(until - now));
			continue;
		}
		look_at_heap(a);
		if (open_self(a) && connect_daemon(a)) {
			if (handshake(a)) {
				delay_ms = RETRY_MIN_MS;
				a->info_due_ms = now_ms() + INFO_DELAY_MS;
				if (declare_all(a)) {
					atomic_store(&a->connected, 1);
					serve(a);
				}
			}
			atomic_store(&a->connected, 0);
			leave_domain(a);
			kit_close(&a->sock);
			kit_close(&a->kit.arena);
			if (atomic_load(&a->req_kind) == REQ_STAT)
				serve_request(a);
		}
		delay_ms = delay_ms * 2 > RETRY_MAX_MS ? RETRY_MAX_MS : delay_ms * 2;
		if (delay_ms < RETRY_MIN_MS)
			delay_ms = RETRY_MIN_MS;
		until = now_ms() + (uint64_t)delay_ms;
	}
}

/* ---- thread ---- */

/* A sandbox (seccomp) refuses what we need. Somebody may be waiting for us already. */
static void *give_up(struct agent *a)
{
	atomic_store(&a->disabled, true);
	sysc3(SYS_futex, &a->req_kind, FUTEX_WAKE_PRIVATE, INT32_MAX);
	return NULL;
}

static void *agent_main(void *arg)
{
	struct agent *a = &agent;
	uint64_t urg = 1ull << (SIGURG - 1), all = ~0ull;

	/* Our own, empty table; the program's stays as it is. */
	if (sysc3(SYS_close_range, 0, ~0u, CLOSE_RANGE_UNSHARE) < 0)
		return give_up(a);
	sysc5(SYS_prctl, 15 /* PR_SET_NAME */, "ksm-agent", 0, 0, 0);
	a->kit.sigfd = (int)sysc4(SYS_signalfd4, -1, &urg, sizeof(urg), SFD_CLOEXEC | SFD_NONBLOCK);
	if (a->kit.sigfd < 0)
		return give_up(a);
	sysc4(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL, sizeof(all)); /* see agent_wait() */
	a->heap_poll_ms = HEAP_POLL_MIN_MS;
	a->kit.owner = (int32_t)sysc0(SYS_gettid);
	atomic_store_explicit(&a->tid, a->kit.owner, memory_order_release);
	open_self(a);
	agent_loop(a, (int)(intptr_t)arg);
	return NULL;
}

static int try_start(int delay_ms, size_t size)
{
	pthread_attr_t attr;
	pthread_t thread;
	sigset_t all, old;
	int r;

	if (!agent.stack) {
		agent.stack = kit_map(size);
		agent.stack_size = size;
	}
	if (!agent.stack || pthread_attr_init(&attr))
		return -ENOMEM;
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstack(&attr, agent.stack, agent.stack_size);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, &attr, agent_main, (void *)(intptr_t)delay_ms);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

/* A program with much static TLS (sanitizers, for one) is refused the small stack with EINVAL. */
static int start_thread(int delay_ms)
{
	int r = -EINVAL;

	for (size_t size = STACK_MIN; r == -EINVAL && size <= STACK_MAX; size *= 2) {
		r = try_start(delay_ms, size);
		if (r == -EINVAL && agent.stack) {
			sysc2(SYS_munmap, agent.stack, agent.stack_size);
			agent.stack = NULL;
		}
	}
	return r;
}

void agent_clear_own(void)
{
	const struct {
		const void *p;
		size_t len;
	} own[] = {
		{ &agent, sizeof(agent) },
		{ agent.stack, agent.stack_size },
		{ agent.kit.buf, 2 * KSM_ORDER_PAGES * KSM_PAGE_SIZE },
		{ agent.kit.staging, KSM_ORDER_PAGES * KSM_PAGE_SIZE },
	};

	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		uint64_t start = (uintptr_t)own[i].p & ~(uint64_t)(KSM_PAGE_SIZE - 1);
		uint64_t end = ((uintptr_t)own[i].p + own[i].len + KSM_PAGE_SIZE - 1) &
			       ~(uint64_t)(KSM_PAGE_SIZE - 1);

		if (own[i].p)
			as_clear(start, end);
	}
}

int agent_start(bool told)
{
	int32_t none = 0, pid = (int32_t)sysc0(SYS_getpid);
	bool deferred = atomic_load(&agent.deferred);
	int delay = deferred || (agent.pid && agent.pid != pid) ? START_DELAY_MS : 0;
	int r;

	if (agent.disabled)
		return -ENOSYS;
	if (deferred && !told)
		return atomic_load(&agent.tid) ? 0 : -EAGAIN;
	if (!atomic_compare_exchange_strong(&agent.tid, &none, -1))
		return 0;
	agent.pid = pid;
	agent_find_daemon(NULL);
	r = start_thread(delay);
	if (r)
		atomic_store(&agent.tid, 0);
	return r ? -ENOMEM : 0;
}

void agent_reset_child(bool raw)
{
	struct agent *a = &agent;
	void *stack = a->stack;
	void *old[OLD_SENTINELS];
	size_t stack_size = a->stack_size;
	uint32_t nr_old;
	int32_t pid = a->pid;
	uint32_t heap = atomic_load(&a->heap_watch), deferred = atomic_load(&a->deferred);
	uint64_t heap_end = a->heap_end, past[PAST_ARENAS];
	uint32_t nr_past = a->nr_past;
	char path[sizeof(a->sock_path)];

	retire_sentinels(a);
	nr_old = a->nr_old;
	memcpy(path, a->sock_path, sizeof(path));
	memcpy(old, a->old_sentinel, sizeof(old));
	memcpy(past, a->past_arena, sizeof(past));
	memset(a, 0, sizeof(*a));
	memcpy(a->sock_path, path, sizeof(path));
	a->kit = (struct kit)KIT_NONE;
	a->sock = -1;
	/* glibc has forgotten the parent's threads (and their stacks) by now; the memory is ours. The
	 * kit was not inherited. The sentinels are, and witness for us until we adopt. */
	a->stack = stack;
	a->stack_size = stack_size;
	memcpy(a->old_sentinel, old, sizeof(old));
	a->nr_old = nr_old;
	memcpy(a->past_arena, past, sizeof(past));
	a->nr_past = nr_past;
	a->pid = pid;
	a->disabled = raw;
	a->heap_end = heap_end;
	atomic_store(&a->heap_watch, heap);
	atomic_store(&a->deferred, deferred);
}
