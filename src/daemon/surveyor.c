/* SPDX-License-Identifier: MIT */
/*
 * surveyor.c - see surveyor.h.
 *
 * A process may keep its own address space locked for as long as it likes, and the surveyor with
 * it. While an answer is owed (beside.h), nodes are unknown.
 */
#include "daemon/surveyor.h"

#include <errno.h>
#include <linux/capability.h>
#include <numaif.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/confine.h"
#include "numa/numa_topology.h"

/* The answer is a status for each page. */
struct question {
	int32_t pid;
	void *page[NUMA_MAX_QUERY];
};
#define QUESTION_BYTES(nr) (offsetof(struct question, page) + (nr) * sizeof(void *))

/* ---- the surveyor ---- */

static int answer(const struct beside_message *m, struct beside_message *a)
{
	struct question *q = m->body;
	size_t nr;

	if (m->len < QUESTION_BYTES(0))
		return -EINVAL;
	nr = (m->len - QUESTION_BYTES(0)) / sizeof(q->page[0]);
	if (move_pages(q->pid, nr, q->page, NULL, a->body, 0) < 0)
		return -errno;
	a->len = nr * sizeof(int);
	return 0;
}

/* ---- the daemon ---- */

static const struct beside_kind surveyor_kind = {
	.what = "the process that sees where pages lie",
	.room = sizeof(struct question),
	.confine = confine_surveyor,
	.answer = answer,
};

static bool may_trace(void)
{
	struct __user_cap_header_struct hdr = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	return !syscall(SYS_capget, &hdr, data) &&
	       (data[0].effective & (1u << CAP_SYS_PTRACE)) != 0;
}

int surveyor_start(struct surveyor *s)
{
	s->beside = (struct beside){ .sock = -1 };
	lock_init(&s->lock);
	return may_trace() ? beside_start(&s->beside, &surveyor_kind) : -EPERM;
}

void surveyor_stop(struct surveyor *s)
{
	beside_stop(&s->beside);
	lock_deinit(&s->lock);
}

int surveyor_query(void *surveyor, pid_t pid, void **page, int nr, int *status)
{
	struct surveyor *s = surveyor;
	struct question q = { .pid = pid };
	struct beside_message ask = { .body = &q, .len = QUESTION_BYTES((size_t)nr) };
	struct beside_message a = { .body = status, .len = (size_t)nr * sizeof(status[0]) };
	int err;

	memcpy(q.page, page, (size_t)nr * sizeof(page[0]));
	lock_take(&s->lock);
	err = beside_ask(&s->beside, &ask, &a);
	lock_give(&s->lock);
	return !err && a.len != (size_t)nr * sizeof(status[0]) ? -EBADMSG : err;
}
