/* SPDX-License-Identifier: MIT */
/*
 * ops_pin.c - pages that a device, or the kernel in a device's place, writes to without the page
 * tables: a page that is pinned must never be replaced.
 *
 * URING_FIXED is the sharpest test. Registered buffers stay pinned while the thread waits for
 * hundreds of milliseconds, with contents that others have too; then bytes arrive. If a page was
 * replaced meanwhile, they land in a page that nobody can see any more.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/io_uring.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/torture/actor.h"
#include "tests/torture/ops.h"

/* ---- O_DIRECT ---- */

static int open_direct(enum op op)
{
	int fd = open(ctl->data_path, O_RDONLY | O_DIRECT | O_CLOEXEC);

	if (fd < 0 && errno == EINVAL)
		op_lacks(op, errno);
	return fd;
}

static void direct_done(struct piece *p)
{
	shadow_store(p, me->buf);
	log_end(0);
	check_pages(p->a, p->first, p->nr, false);
}

/*
 * Read all of it at once. A sector each of a run of pages must come from consecutive bytes of the
 * file, so the expected bytes are put together in the same way.
 */
static bool direct(enum op op, struct piece *p)
{
	uint32_t from = (uint32_t)dice(DATA_PAGES - p->nr);
	struct iovec iov[BUF_PAGES];
	unsigned int nr = piece_iov(p, piece_mem(p), iov);
	size_t len = (size_t)p->nr * p->len;
	static _Thread_local uint8_t file[BUF_PAGES * PG];
	int fd = open_direct(op);
	ssize_t n;

	if (fd < 0)
		return false;
	log_begin(op, p, from);
	data_fill(file, from, p->nr);
	for (uint32_t i = 0; i < p->nr; i++)
		memcpy(me->buf + i * PG + p->off, file + (size_t)i * p->len, p->len);
	do
		n = preadv(fd, iov, (int)nr, (off_t)(from * PG));
	while (n < 0 && errno == EINTR);
	if (n != (ssize_t)len)
		fail_call("O_DIRECT preadv", n < 0 ? errno : EIO);
	close(fd);
	direct_done(p);
	return true;
}

static bool direct_read(struct piece *p)
{
	return p->len == PG && direct(OP_DIRECT_READ, p);
}

/* Read directly while other threads store into the other sectors of the same pages. */
static bool direct_sectors(struct piece *p)
{
	return p->len != PG && direct(OP_DIRECT_SECTORS, p);
}

static bool aio_read(struct piece *p)
{
	uint32_t from = (uint32_t)dice(DATA_PAGES - p->nr);
	struct iocb cb = { .aio_lio_opcode = IOCB_CMD_PREAD }, *list = &cb;
	struct io_event ev;
	aio_context_t ctx = 0;
	long n;

	if (syscall(SYS_io_setup, 4, &ctx)) {
		if (errno == ENOSYS || errno == EPERM)
			op_lacks(OP_AIO_READ, errno);
		return false;
	}
	cb.aio_fildes = (uint32_t)open_direct(OP_AIO_READ);
	cb.aio_buf = (uintptr_t)piece_mem(p);
	cb.aio_nbytes = piece_bytes(p);
	cb.aio_offset = (int64_t)(from * PG);
	if ((int)cb.aio_fildes < 0) {
		syscall(SYS_io_destroy, ctx);
		return false;
	}
	log_begin(OP_AIO_READ, p, from);
	data_fill(me->buf, from, p->nr);
	if (syscall(SYS_io_submit, ctx, 1, &list) != 1)
		fail_call("io_submit", errno);
	close((int)cb.aio_fildes); /* the request goes on; only the context tells of it now */
	do
		n = syscall(SYS_io_getevents, ctx, 1, 1, &ev, NULL);
	while (n < 0 && errno == EINTR);
	if (n != 1 || ev.res != (int64_t)piece_bytes(p))
		fail_call("io_getevents", n == 1 ? (long)-ev.res : errno);
	syscall(SYS_io_destroy, ctx);
	direct_done(p);
	return true;
}

/* ---- io_uring, without a library ---- */

struct ring {
	int fd;
	uint8_t *map;
	size_t map_len, sqes_len;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
	_Atomic uint32_t *sq_tail, *cq_head, *cq_tail;
	uint32_t *sq_array, sq_mask, cq_mask;
};

static bool ring_open(enum op op, struct ring *r)
{
	struct io_uring_params prm = { 0 };

	r->fd = (int)syscall(SYS_io_uring_setup, 4, &prm);
	if (r->fd < 0) {
		if (errno == ENOSYS || errno == EPERM)
			op_lacks(op, errno);
		return false;
	}
	r->map_len = prm.cq_off.cqes + prm.cq_entries * sizeof(struct io_uring_cqe);
	if (r->map_len < prm.sq_off.array + prm.sq_entries * sizeof(uint32_t))
		r->map_len = prm.sq_off.array + prm.sq_entries * sizeof(uint32_t);
	r->sqes_len = prm.sq_entries * sizeof(struct io_uring_sqe);
	r->map = mmap(NULL, r->map_len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		      (off_t)IORING_OFF_SQ_RING);
	r->sqes = mmap(NULL, r->sqes_len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd,
		       (off_t)IORING_OFF_SQES);
	if (r->map == MAP_FAILED || r->sqes == MAP_FAILED)
		fail_call("mmap of an io_uring", errno);
	r->sq_tail = (_Atomic uint32_t *)(void *)(r->map + prm.sq_off.tail);
	r->sq_array = (uint32_t *)(void *)(r->map + prm.sq_off.array);
	r->sq_mask = *(uint32_t *)(void *)(r->map + prm.sq_off.ring_mask);
	r->cq_head = (_Atomic uint32_t *)(void *)(r->map + prm.cq_off.head);
	r->cq_tail = (_Atomic uint32_t *)(void *)(r->map + prm.cq_off.tail);
	r->cq_mask = *(uint32_t *)(void *)(r->map + prm.cq_off.ring_mask);
	r->cqes = (struct io_uring_cqe *)(void *)(r->map + prm.cq_off.cqes);
	return true;
}

static void ring_close(struct ring *r)
{
	munmap(r->sqes, r->sqes_len);
	munmap(r->map, r->map_len);
	close(r->fd);
}

static void ring_submit(struct ring *r, const struct io_uring_sqe *sqe)
{
	uint32_t tail = atomic_load(r->sq_tail), i = tail & r->sq_mask;
	long n;

	r->sqes[i] = *sqe;
	r->sq_array[i] = i;
	atomic_store(r->sq_tail, tail + 1);
	do
		n = syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0);
	while (n < 0 && (errno == EINTR || errno == EAGAIN));
	if (n != 1)
		fail_call("io_uring_enter", errno);
}

static int32_t ring_wait(struct ring *r)
{
	uint32_t head = atomic_load(r->cq_head);
	int32_t res;

	while (atomic_load(r->cq_tail) == head)
		if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			fail_call("io_uring_enter to wait", errno);
	res = r->cqes[head & r->cq_mask].res;
	atomic_store(r->cq_head, head + 1);
	return res;
}

/*
 * Read bytes that come through a pipe only after the pages have been pinned for long enough to
 * tempt.
 */
static void fixed_round(struct ring *r, struct piece *p)
{
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_READ_FIXED,
		.fd = me->pipe[0],
		.off = (uint64_t)-1,
		.addr = (uintptr_t)piece_mem(p),
		.len = (uint32_t)piece_bytes(p),
	};
	uint64_t until = now_ms() + dice(odds(50) ? 30 : 400);
	int32_t n;

	ring_submit(r, &sqe);
	while (now_ms() < until) {
		check_pages(p->a, p->first, p->nr, false);
		beat();
		nap_us(4000);
	}
	make_content(p, me->buf);
	if (write(me->pipe[1], me->buf, piece_bytes(p)) != (ssize_t)piece_bytes(p))
		fail_call("write to a pipe", errno);
	n = ring_wait(r);
	if (n != (int32_t)piece_bytes(p))
		fail_call("IORING_OP_READ_FIXED", n < 0 ? -n : EIO);
	shadow_store(p, me->buf);
	check_pages(p->a, p->first, p->nr, false);
}

static bool uring_fixed(struct piece *p)
{
	struct iovec iov = { piece_mem(p), piece_bytes(p) };
	struct ring r;

	make_pipe(me->pipe);
	if (!ring_open(OP_URING_FIXED, &r))
		return false;
	if (syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &iov, 1)) {
		if (errno != ENOMEM && errno != EOPNOTSUPP) /* the limit of locked memory */
			fail_call("IORING_REGISTER_BUFFERS", errno);
		ring_close(&r);
		return false;
	}
	log_begin(OP_URING_FIXED, p, 0);
	for (uint64_t i = 1 + dice(3); i; i--)
		fixed_round(&r, p);
	log_end(0);
	ring_close(&r);
	return true;
}

static bool uring_direct(struct piece *p)
{
	uint32_t from = (uint32_t)dice(DATA_PAGES - p->nr);
	struct io_uring_sqe sqe = {
		.opcode = IORING_OP_READ,
		.off = from * PG,
		.addr = (uintptr_t)piece_mem(p),
		.len = (uint32_t)piece_bytes(p),
	};
	struct ring r;
	int32_t n;

	sqe.fd = open_direct(OP_URING_DIRECT);
	if (sqe.fd < 0)
		return false;
	if (!ring_open(OP_URING_DIRECT, &r)) {
		close(sqe.fd);
		return false;
	}
	log_begin(OP_URING_DIRECT, p, from);
	data_fill(me->buf, from, p->nr);
	ring_submit(&r, &sqe);
	close(sqe.fd);
	n = ring_wait(&r);
	if (n != (int32_t)piece_bytes(p))
		fail_call("IORING_OP_READ of O_DIRECT", n < 0 ? -n : EIO);
	direct_done(p);
	ring_close(&r);
	return true;
}

/*
 * From now on this thread's descriptors, that for O_DIRECT among them, are in a table that other
 * threads do not see.
 */
static bool unshare_files(struct piece *p)
{
	log_begin(OP_UNSHARE_FILES, p, 0);
	if (unshare(CLONE_FILES) && errno != ENOMEM)
		fail_call("unshare(CLONE_FILES)", errno);
	log_end(0);
	return true;
}

const struct op_desc ops_pin[] = {
	{ OP_DIRECT_READ, 8, NEED_STORE, BUF_PAGES, 1, direct_read },
	{ OP_DIRECT_SECTORS, 8, NEED_STORE, 16, 1, direct_sectors },
	{ OP_AIO_READ, 3, NEED_STORE | NEED_PRIVATE, 16, 1, aio_read },
	{ OP_URING_FIXED, 2, NEED_STORE | NEED_PRIVATE, 16, 1, uring_fixed },
	{ OP_URING_DIRECT, 3, NEED_STORE | NEED_PRIVATE, 16, 1, uring_direct },
	{ OP_UNSHARE_FILES, 1, NEED_ANY, 1, 1, unshare_files },
};
const unsigned int nr_ops_pin = sizeof(ops_pin) / sizeof(ops_pin[0]);
