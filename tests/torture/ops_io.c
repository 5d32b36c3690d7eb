/* SPDX-License-Identifier: MIT */
/* ops_io.c - stores and loads that the kernel, or another process, makes in the actor's memory. */
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/torture/actor.h"
#include "tests/torture/ops.h"

/* The pages that a pipe holds for sure, and a socket. */
#define PIPE_PAGES 16
#define MAIL_TIMEOUT_MS 60000

void make_pipe(int fd[2])
{
	if (fd[0] < 0 && pipe2(fd, O_CLOEXEC))
		fail_call("pipe", errno);
}

static void make_socket(int fd[2])
{
	if (fd[0] < 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
		fail_call("socketpair", errno);
}

unsigned int piece_iov(const struct piece *p, uint8_t *base, struct iovec *iov)
{
	if (p->len == PG) {
		iov[0] = (struct iovec){ base, piece_bytes(p) };
		return 1;
	}
	for (uint32_t i = 0; i < p->nr; i++)
		iov[i] = (struct iovec){ base + i * PG + p->off, p->len };
	return p->nr;
}

typedef ssize_t (*vector_fn)(int fd, const struct iovec *iov, int nr);

/* Transfer all of it, whatever partial results and signals come. */
static void transfer(const char *what, vector_fn fn, int fd, struct iovec *iov, unsigned int nr)
{
	while (nr) {
		ssize_t n = fn(fd, iov, (int)nr);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			fail_call(what, n ? errno : EPIPE);
		while (nr && (size_t)n >= iov->iov_len) {
			n -= (ssize_t)iov->iov_len;
			iov++;
			nr--;
		}
		if (nr) {
			iov->iov_base = (uint8_t *)iov->iov_base + n;
			iov->iov_len -= (size_t)n;
		}
	}
}

static void send_all(int fd, const struct piece *p, uint8_t *base)
{
	struct iovec iov[BUF_PAGES];

	transfer("writev", writev, fd, iov, piece_iov(p, base, iov));
}

/* ---- reading into memory ---- */

static bool read_through(enum op op, struct piece *p, int *fd, void (*make)(int fd[2]))
{
	struct iovec iov[BUF_PAGES];

	make(fd);
	log_begin(op, p, 0);
	make_content(p, me->buf);
	send_all(fd[1], p, me->buf);
	transfer(op_names[op], readv, fd[0], iov, piece_iov(p, piece_mem(p), iov));
	shadow_store(p, me->buf);
	log_end(0);
	check_pages(p->a, p->first, p->nr, false);
	return true;
}

static bool read_pipe(struct piece *p)
{
	return read_through(OP_READ_PIPE, p, me->pipe, make_pipe);
}

static bool receive(struct piece *p)
{
	return read_through(OP_RECV, p, me->sock, make_socket);
}

void data_fill(uint8_t *buf, uint32_t from, uint32_t pages)
{
	for (uint32_t i = 0; i < pages; i++)
		content_fill(buf + i * PG, 100 + (from + i) % DATA_PAGES);
}

/*
 * Read or write the data file at whole pages. `split`: into two vectors that meet at an odd place.
 */
static bool read_file(enum op op, struct piece *p, bool split)
{
	uint32_t from = (uint32_t)dice(DATA_PAGES - p->nr);
	struct iovec iov[2] = { { piece_mem(p), piece_bytes(p) } };
	unsigned int nr = 1;
	int fd;

	if (p->len != PG)
		return false;
	fd = open(ctl->data_path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false; /* every descriptor was closed; or the end */
	if (split) {
		iov[0].iov_len = dice(piece_bytes(p));
		iov[1] = (struct iovec){ piece_mem(p) + iov[0].iov_len,
					 piece_bytes(p) - iov[0].iov_len };
		nr = 2;
	}
	log_begin(op, p, from);
	data_fill(me->buf, from, p->nr);
	if (lseek(fd, (off_t)(from * PG), SEEK_SET) < 0)
		fail_call("lseek", errno);
	transfer(op_names[op], readv, fd, iov, nr);
	close(fd);
	shadow_store(p, me->buf);
	log_end(0);
	check_pages(p->a, p->first, p->nr, false);
	return true;
}

static bool read_whole(struct piece *p)
{
	return read_file(OP_READ_FILE, p, false);
}

static bool read_split(struct piece *p)
{
	return read_file(OP_PREADV, p, true);
}

/* Memory that may not be written: the kernel must refuse to, and nothing may change. */
static bool read_protected(struct piece *p)
{
	char byte = 0;
	ssize_t n;

	if (!(p->a->flag[p->first] & PF_RO))
		return false;
	make_pipe(me->pipe);
	log_begin(OP_READ_PROTECTED, p, 0);
	if (write(me->pipe[1], "x", 1) != 1)
		fail_call("write to a pipe", errno);
	do
		n = read(me->pipe[0], piece_mem(p), 1);
	while (n < 0 && errno == EINTR);
	log_end(n < 0 ? -errno : n);
	if (n != -1 || errno != EFAULT)
		fail_other("read(2) into memory with PROT_READ returned %zd, %s", n,
			   strerrorname_np(errno));
	if (read(me->pipe[0], &byte, 1) != 1 || byte != 'x') /* it is still there */
		fail_other("a refused read(2) took the byte");
	check_pages(p->a, p->first, p->nr, false);
	return true;
}

/* ---- memory is read ---- */

static void compare_out(const struct piece *p, const char *what)
{
	for (uint32_t i = 0; i < p->nr; i++)
		if (memcmp(me->buf + i * PG + p->off, piece_shadow(p) + i * PG + p->off, p->len))
			fail_other("%s: page %u of the piece came out wrong", what, i);
}

static bool write_out(struct piece *p)
{
	struct iovec iov[BUF_PAGES];

	for (uint32_t i = 0; i < p->nr; i++)
		if (p->a->flag[p->first + i] & PF_LAZY)
			return false;
	make_pipe(me->pipe);
	log_begin(OP_WRITE_OUT, p, 0);
	send_all(me->pipe[1], p, piece_mem(p));
	transfer("readv", readv, me->pipe[0], iov, piece_iov(p, me->buf, iov));
	log_end(0);
	compare_out(p, "writev(2)");
	return true;
}

/*
 * ---- /proc/PID/mem and process_vm_writev ----
 *
 * The kernel does not let an access through /proc/PID/mem (or ptrace) wait for a userfaultfd. Where
 * a page is just being moved it says EIO, and has done nothing. That is documented, so these
 * operations try again.
 */
#define MEM_TRIES 5000

static bool self_mem(struct piece *p)
{
	int fd = open("/proc/self/mem", O_RDWR | O_CLOEXEC);

	if (fd < 0)
		return false; /* not dumpable, after a change of user */
	log_begin(OP_SELF_MEM, p, 0);
	make_content(p, me->buf);
	for (uint32_t i = 0; i < p->nr; i++) {
		uint64_t off = i * PG + p->off;
		off_t at = (off_t)(uintptr_t)piece_mem(p) + (off_t)off;
		int tries = MEM_TRIES;
		ssize_t n;

		while ((n = pwrite(fd, me->buf + off, p->len, at)) < 0 && errno == EIO && --tries)
			nap_us(100);
		if (n != (ssize_t)p->len)
			fail_call("pwrite to /proc/self/mem", n < 0 ? errno : EIO);
	}
	close(fd);
	shadow_store(p, me->buf);
	log_end(0);
	check_pages(p->a, p->first, p->nr, false);
	return true;
}

static bool self_vm_write(struct piece *p)
{
	struct iovec from[BUF_PAGES], to[BUF_PAGES];
	unsigned int nr = piece_iov(p, me->buf, from);
	ssize_t n;

	log_begin(OP_SELF_VM_WRITE, p, 0);
	make_content(p, me->buf);
	piece_iov(p, piece_mem(p), to);
	n = process_vm_writev(getpid(), from, nr, to, nr, 0);
	if (n != (ssize_t)((size_t)p->nr * p->len))
		fail_call("process_vm_writev", n < 0 ? errno : EIO);
	shadow_store(p, me->buf);
	log_end(n);
	check_pages(p->a, p->first, p->nr, false);
	return true;
}

/* ---- from outside ---- */

static int32_t ask_outside(enum mail_kind kind, const struct piece *p, uint64_t off, uint64_t len)
{
	struct mail *m = &my_seat()->mail;
	uint64_t until = now_ms() + MAIL_TIMEOUT_MS;

	m->kind = kind;
	m->pid = getpid();
	m->addr = (uintptr_t)piece_mem(p) + off;
	m->len = len;
	atomic_store(&m->state, MAIL_ASKED);
	atomic_fetch_add(&ctl->mail_bell, 1);
	syscall(SYS_futex, &ctl->mail_bell, FUTEX_WAKE, 1);
	while (atomic_load(&m->state) != MAIL_DONE) {
		struct timespec ts = { 0, 100000000 };

		syscall(SYS_futex, &m->state, FUTEX_WAIT, MAIL_ASKED, &ts);
		if (now_ms() > until)
			fail_other("the outside writer did not answer");
		beat();
		if (atomic_load(&ctl->phase) == PHASE_STOP &&
		    now_ms() > until - MAIL_TIMEOUT_MS / 2)
			_exit(0);
	}
	atomic_store(&m->state, MAIL_EMPTY);
	return m->res;
}

static bool outside_write(enum op op, enum mail_kind kind, struct piece *p)
{
	uint8_t *data = my_seat()->mail.data;
	uint64_t step = p->len == PG ? piece_bytes(p) : p->len;

	log_begin(op, p, 0);
	make_content(p, me->buf);
	for (uint64_t off = p->len == PG ? 0 : p->off; off < piece_bytes(p);
	     off += p->len == PG ? step : PG) {
		int32_t r;

		memcpy(data, me->buf + off, step);
		r = ask_outside(kind, p, off, step);
		if (r != (int32_t)step)
			fail_call(op_names[op], r < 0 ? -r : EIO);
	}
	shadow_store(p, me->buf);
	log_end(0);
	check_pages(p->a, p->first, p->nr, false);
	return true;
}

static bool outside_vm_write(struct piece *p)
{
	return outside_write(OP_OUTSIDE_VM_WRITE, MAIL_VM_WRITE, p);
}

static bool outside_mem_write(struct piece *p)
{
	return outside_write(OP_OUTSIDE_MEM_WRITE, MAIL_MEM_WRITE, p);
}

/* Look at the memory as another process sees it, also where the actor itself may not look. */
static bool outside_read(struct piece *p)
{
	uint64_t off = p->off, len = p->len == PG ? piece_bytes(p) : p->len;
	int32_t r;

	for (uint32_t i = 0; i < p->nr; i++)
		if (p->a->flag[p->first + i] & (PF_HOLE | PF_LAZY))
			return false;
	log_begin(OP_OUTSIDE_READ, p, 0);
	r = ask_outside(MAIL_READ, p, off, len);
	log_end(r);
	if (r != (int32_t)len)
		fail_call("OUTSIDE_READ", r < 0 ? -r : EIO);
	if (memcmp(my_seat()->mail.data, piece_shadow(p) + off, len))
		fail_other("another process reads wrong bytes from %p", piece_mem(p));
	return true;
}

/* ---- futexes ---- */

static long futex(uint32_t *word, int op, uint32_t value)
{
	struct timespec ts = { 0, 100000 };

	return syscall(SYS_futex, word, op, value, &ts, NULL, 0) < 0 ? -errno : 0;
}

/*
 * The kernel must be able to read the word wherever its page is just then: EFAULT would end any
 * program. Operations that write to the word can fail; that is documented.
 */
static bool futex_word(struct piece *p)
{
	int shared = odds(50) ? 0 : FUTEX_PRIVATE_FLAG;

	for (uint32_t i = 0; i < p->nr; i++) {
		uint32_t *word = (uint32_t *)(void *)(piece_mem(p) + i * PG + p->off), value;
		long r;

		log_begin(OP_FUTEX, p, (uint64_t)shared);
		memcpy(&value, piece_shadow(p) + i * PG + p->off, sizeof(value));
		r = futex(word, FUTEX_WAIT | shared, value);
		if (r != -ETIMEDOUT && r != -EINTR && r) /* 0: woken by nobody, which is allowed */
			fail_call("FUTEX_WAIT", -r);
		r = futex(word, FUTEX_WAIT | shared, value + 1);
		if (r != -EAGAIN)
			fail_call("FUTEX_WAIT for another value", r ? -r : EINVAL);
		r = syscall(SYS_futex, word, FUTEX_WAKE | shared, 1) < 0 ? -errno : 0;
		if (r)
			fail_call("FUTEX_WAKE", -r);
		log_end(0);
	}
	return true;
}

/* ---- vmsplice ---- */

/* The pages lie in the pipe for a while, and must come out as they went in. */
static bool vmsplice_out(struct piece *p)
{
	struct iovec iov[BUF_PAGES], in[BUF_PAGES];
	unsigned int nr = piece_iov(p, piece_mem(p), iov);
	size_t len = (size_t)p->nr * p->len;
	ssize_t n;

	make_pipe(me->pipe);
	log_begin(OP_VMSPLICE_OUT, p, 0);
	n = vmsplice(me->pipe[1], iov, nr, 0);
	if (n != (ssize_t)len)
		fail_call("vmsplice out", n < 0 ? errno : EIO);
	nap_us(dice(20000));
	transfer("readv", readv, me->pipe[0], in, piece_iov(p, me->buf, in));
	log_end(n);
	compare_out(p, "vmsplice(2)");
	return true;
}

static ssize_t vmsplice_from(int fd, const struct iovec *iov, int nr)
{
	return vmsplice(fd, iov, (size_t)nr, 0);
}

static bool vmsplice_in(struct piece *p)
{
	struct iovec iov[BUF_PAGES];

	make_pipe(me->pipe);
	log_begin(OP_VMSPLICE_IN, p, 0);
	make_content(p, me->buf);
	send_all(me->pipe[1], p, me->buf);
	transfer("vmsplice in", vmsplice_from, me->pipe[0], iov, piece_iov(p, piece_mem(p), iov));
	shadow_store(p, me->buf);
	log_end(0);
	check_pages(p->a, p->first, p->nr, false);
	return true;
}

const struct op_desc ops_io[] = {
	{ OP_READ_FILE, 15, NEED_STORE, BUF_PAGES, 1, read_whole },
	{ OP_READ_PIPE, 25, NEED_STORE, PIPE_PAGES, 1, read_pipe },
	{ OP_RECV, 25, NEED_STORE, PIPE_PAGES, 1, receive },
	{ OP_PREADV, 15, NEED_STORE, BUF_PAGES, 1, read_split },
	{ OP_WRITE_OUT, 20, 0, PIPE_PAGES, 1, write_out },
	{ OP_READ_PROTECTED, 20, 0, 8, 1, read_protected },
	{ OP_SELF_MEM, 10, NEED_STORE, 8, 1, self_mem },
	{ OP_SELF_VM_WRITE, 10, NEED_STORE, 16, 1, self_vm_write },
	{ OP_OUTSIDE_VM_WRITE, 12, NEED_STORE, MAIL_PAGES, 1, outside_vm_write },
	{ OP_OUTSIDE_MEM_WRITE, 12, NEED_STORE, MAIL_PAGES, 1, outside_mem_write },
	{ OP_OUTSIDE_READ, 8, 0, MAIL_PAGES, 1, outside_read },
	{ OP_FUTEX, 8, NEED_STORE, 8, 1, futex_word },
	{ OP_VMSPLICE_OUT, 8, NEED_STORE, 8, 1, vmsplice_out },
	{ OP_VMSPLICE_IN, 8, NEED_STORE, 8, 1, vmsplice_in },
};
const unsigned int nr_ops_io = sizeof(ops_io) / sizeof(ops_io[0]);
