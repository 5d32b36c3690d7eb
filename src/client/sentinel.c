/* SPDX-License-Identifier: MIT */
/*
 * sentinel.c - epochs, as a client lives through them.
 *
 * The daemon gives a retired frame to other contents when no process of the epochs before is left.
 * It knows by pages ("sentinels"), one for each epoch, that every process of the epoch has mapped.
 * So the order of two things is what counts here: the daemon learns where frames stand, and then a
 * sentinel goes.
 *
 * The newest sentinel no longer protects frames that were retired before its epoch. One of them may
 * be ours all the same: its page has moved, and the daemon has heard that it left and not that it
 * came, which it will never hear if the connection ends now. So the sentinel before stays until the
 * daemon has answered a STAT that was sent after all that was said. If further epochs begin first,
 * keeping the oldest sentinel is enough: an epoch cannot end before the ones before it.
 */
#include "client/sentinel.h"

#include <sys/mman.h>

#include "client/as.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "client/tell.h"
#include "client/unshare.h"

static void *map_page(int fd)
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

static void unmap_old(struct sentinels *s)
{
	while (s->nr_old)
		unmap_page(&s->old[--s->nr_old]);
}

void sentinel_retire(struct sentinels *s)
{
	void *both[] = { s->prev, s->newest };

	for (int i = 0; i < 2; i++)
		if (both[i] && s->nr_old < OLD_SENTINELS)
			s->old[s->nr_old++] = both[i];
	s->prev = s->newest = NULL;
	s->epoch_stat = s->adopt_stat = 0;
}

bool sentinel_begin(struct sentinels *s, int fd)
{
	void *fresh = map_page(fd);

	if (!fresh)
		return false;
	as_agent_lock();
	sentinel_retire(s);
	s->newest = fresh;
	as_unlock();
	return true;
}

bool sentinel_ask(struct sentinels *s, struct link *l)
{
	return !s->nr_old || tell_stat(l, &s->adopt_stat);
}

bool sentinel_epoch(struct sentinels *s, struct link *l, const struct ksm_msg_epoch *m,
		    struct link_fds *f)
{
	struct ksm_msg_epoch done = { { KSM_MSG_EPOCH_DONE, sizeof(done) }, m->epoch };
	void *fresh = f->nr == 1 ? map_page(f->fd[0]) : NULL;

	link_close_fds(f);
	if (!fresh)
		return false;
	as_agent_lock();
	if (s->prev)
		unmap_page(&s->newest);
	else
		s->prev = s->newest;
	s->newest = fresh;
	as_unlock();
	return tell_message(l, &done, sizeof(done)) && tell_stat(l, &s->epoch_stat);
}

static void drop_prev(struct sentinels *s)
{
	as_agent_lock();
	unmap_page(&s->prev);
	as_unlock();
	s->epoch_stat = 0;
}

struct foreign_ctx {
	uint64_t arena_file;
	bool found;
};

static void find_foreign(void *arg, const struct maps_entry *e)
{
	struct foreign_ctx *c = arg;

	c->found |= maps_is_arena(e) && e->file != c->arena_file;
}

/*
 * What stands on this arena has been adopted. Frames of another arena cannot be: after a change of
 * user, or in a child where every process is a domain of its own, that arena's daemon may well be
 * alive, and the old sentinel is all that tells it of us.
 */
void sentinel_drop_old(struct sentinels *s, uint64_t arena_file)
{
	struct foreign_ctx c = { arena_file, false };

	as_agent_lock();
	if (maps_walk(0, UINT64_MAX, find_foreign, &c) >= 0 && !c.found)
		unmap_old(s);
	as_unlock();
}

void sentinel_answer(struct sentinels *s, uint64_t id, uint64_t arena_file)
{
	if (s->adopt_stat && id >= s->adopt_stat) {
		sentinel_drop_old(s, arena_file);
		s->adopt_stat = 0;
	}
	if (s->epoch_stat && id >= s->epoch_stat)
		drop_prev(s);
}

void sentinel_drop_all(struct sentinels *s)
{
	unmap_old(s);
	unmap_page(&s->prev);
	unmap_page(&s->newest);
	s->epoch_stat = s->adopt_stat = 0;
}

/*
 * The daemon of the domain that the process has left must not wait for it: frames of that domain
 * may be reused when no process of its epochs is left. So stand on none of them, nor on those of
 * any earlier daemon, and say so by dropping the sentinels. Without memory for that the sentinels
 * stay, and the frames with them.
 */
void sentinel_leave_domain(struct sentinels *s, const struct link *l)
{
	struct headroom room = { 0 };
	uint64_t moves;

	if (link_same_identity(l))
		return;
	as_agent_lock();
	do {
		moves = as.frame_moves;
		as_unlock();
		if (unshare_range(l->kit, 0, KSM_ADDR_END, &room) < 0)
			return;
		as_agent_lock();
	} while (as.frame_moves != moves); /* perhaps to where it had looked before */
	sentinel_drop_all(s);
	as_unlock();
}
