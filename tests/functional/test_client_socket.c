/* SPDX-License-Identifier: MIT */
/*
 * test_client_socket.c - what a client may and may not say on client.sock.
 *
 * The test speaks the wire protocol without the library, so it can send what the library never
 * would. For every violation the daemon must answer with an ERROR message and the right errno, and
 * end the connection. It must go on serving others, keep true counters and leak no descriptor.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/lib/fake_client.h"
#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"
#include "wire/kernel_abi.h"
#include "wire/wire.h"

/* ---- a proper client ---- */

/* Seen to fail (a byte is written) with arena_open_readonly() opening with O_RDWR. */
START_TEST(proper_client_is_served)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct stat st;
	struct fake f;
	void *p;

	fake_ready(d, &f);
	expect_served(&f);
	ck_assert_uint_eq(ctl_client_u64(d, getpid(), "uid"), geteuid());
	/* The arena can be mapped but not written, by no way. */
	ck_assert_int_eq(fstat(f.fds[1], &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, f.welcome.arena_pages * KSM_PAGE_SIZE);
	ck_assert_int_lt(write(f.fds[1], "x", 1), 0);
	ck_assert_int_lt(ftruncate(f.fds[1], 0), 0);
	p = mmap(NULL, KSM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, f.fds[1], 0);
	ck_assert_ptr_eq(p, MAP_FAILED);
	p = mmap(NULL, KSM_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, f.fds[1], 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	munmap(p, KSM_PAGE_SIZE);
	fake_close(&f);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

/* Seen to fail with one key for all in domain_join(). */
START_TEST(domains_have_different_arenas)
{
	struct daemon *d = daemon_start((const char *const[]){ "--domain", "process", NULL });
	int nr_fds = harness_nr_fds(d->pid);
	struct fake a, b;

	fake_ready(d, &a);
	fake_ready(d, &b);
	ck_assert_uint_ne(a.welcome.arena_id, b.welcome.arena_id);
	fake_close(&a);
	fake_close(&b);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(killed_client_leaves_nothing)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);

	for (int i = 0; i < 20; i++) {
		pid_t pid = fork();
		struct fake f;

		if (pid == 0) {
			fake_ready(d, &f);
			expect_served(&f);
			raise(SIGKILL);
		}
		waitpid(pid, NULL, 0);
	}
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

/* ---- descriptors ---- */

static int fd_pipe(void)
{
	int p[2];

	ck_assert_int_eq(pipe(p), 0);
	close(p[1]);
	return p[0];
}

static int fd_parent_pidfd(void)
{
	return (int)syscall(SYS_pidfd_open, getppid(), 0);
}

static int fd_parent_file(const char *name)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)getppid(), name);
	return open(path, O_RDONLY);
}

/* A file of the right name and directory name, but not procfs's. */
static char false_dir[] = "/tmp/ksmd-test.XXXXXX";

static int fd_false_mem(void)
{
	char path[128];

	ck_assert_ptr_nonnull(mkdtemp(false_dir));
	snprintf(path, sizeof(path), "%s/%d", false_dir, (int)getpid());
	mkdir(path, 0700);
	snprintf(path, sizeof(path), "%s/%d/mem", false_dir, (int)getpid());
	return open(path, O_RDWR | O_CREAT, 0600);
}

/* Not before the daemon has seen it: the path of a removed file ends in "(deleted)". */
static void remove_false_mem(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%d/mem", false_dir, (int)getpid());
	unlink(path);
	*strrchr(path, '/') = '\0';
	rmdir(path);
	rmdir(false_dir);
}

enum wrong {
	WRONG_PIDFD_PIPE,
	WRONG_PIDFD_PARENT,
	WRONG_PAGEMAP_PIPE,
	WRONG_PAGEMAP_IS_MEM,
	WRONG_PAGEMAP_PARENT,
	WRONG_MEM_NULL,
	WRONG_MEM_FALSE,
	WRONG_MEM_WRITE_ONLY,
	WRONG_MEM_MAPS,
	WRONG_MEM_PARENT,
	WRONG_ALL_PARENT,
	WRONG_NR
};

static void replace(int *fd, int by)
{
	ck_assert_int_ge(by, 0);
	close(*fd);
	*fd = by;
}

static void spoil(int fds[NR_FDS], enum wrong wrong)
{
	switch (wrong) {
	case WRONG_PIDFD_PIPE:
		return replace(&fds[0], fd_pipe());
	case WRONG_PIDFD_PARENT:
		return replace(&fds[0], fd_parent_pidfd());
	case WRONG_PAGEMAP_PIPE:
		return replace(&fds[1], fd_pipe());
	case WRONG_PAGEMAP_IS_MEM:
		return replace(&fds[1], open("/proc/self/mem", O_RDONLY));
	case WRONG_PAGEMAP_PARENT:
		return replace(&fds[1], fd_parent_file("pagemap"));
	case WRONG_MEM_NULL:
		return replace(&fds[2], open("/dev/null", O_RDWR));
	case WRONG_MEM_FALSE:
		return replace(&fds[2], fd_false_mem());
	case WRONG_MEM_WRITE_ONLY:
		return replace(&fds[2], open("/proc/self/mem", O_WRONLY));
	case WRONG_MEM_MAPS:
		return replace(&fds[2], open("/proc/self/maps", O_RDONLY));
	case WRONG_MEM_PARENT:
		return replace(&fds[2], fd_parent_file("mem"));
	case WRONG_ALL_PARENT:
		replace(&fds[0], fd_parent_pidfd());
		replace(&fds[1], fd_parent_file("pagemap"));
		return replace(&fds[2], fd_parent_file("mem"));
	case WRONG_NR:
		break;
	}
}

/*
 * Seen to fail (the handshake goes on) when client_fds.c does not compare the pidfd with
 * SO_PEERCRED (WRONG_ALL_PARENT), and when is_proc_file() takes the files of any process.
 */
START_TEST(wrong_descriptors)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct ksm_msg_hello msg = hello();

	for (enum wrong w = 0; w < WRONG_NR; w++) {
		int sock = raw_connect(d), fds[NR_FDS];

		own_fds(fds);
		spoil(fds, w);
		ck_assert_int_gt(send_fds(sock, &msg, sizeof(msg), fds, NR_FDS), 0);
		close_fds(fds);
		expect_error(sock, EBADF);
		close(sock);
	}
	remove_false_mem();
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/protocol_errors"), WRONG_NR);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

/*
 * A process that ends in the middle of the handshake has done nothing wrong. Seen to fail (a
 * protocol error, and a warning for each) when the daemon took it for one that sends no pidfd.
 */
START_TEST(ended_while_it_joined)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct ksm_msg_hello msg = hello();
	int sock = raw_connect(d), fds[NR_FDS];
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	own_fds(fds);
	close(fds[0]);
	fds[0] = (int)syscall(SYS_pidfd_open, pid, 0);
	ck_assert_int_ge(fds[0], 0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_gt(send_fds(sock, &msg, sizeof(msg), fds, NR_FDS), 0);
	close_fds(fds);
	expect_error(sock, ESRCH);
	close(sock);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/protocol_errors"), 0);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(wrong_number_of_descriptors)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid), fds[2 * NR_FDS];
	struct ksm_msg_hello msg = hello();

	own_fds(fds);
	own_fds(fds + NR_FDS);
	for (int nr = 0; nr <= 2 * NR_FDS; nr++) {
		int sock = raw_connect(d);

		if (nr == NR_FDS) {
			close(sock);
			continue;
		}
		ck_assert_int_gt(send_fds(sock, &msg, sizeof(msg), fds, nr), 0);
		expect_error(sock, EBADF);
		close(sock);
	}
	close_fds(fds);
	close_fds(fds + NR_FDS);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(descriptors_that_nobody_asked_for)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid), fds[NR_FDS];
	struct ksm_msg_stat msg = { .hdr = { KSM_MSG_STAT, sizeof(msg) } };
	struct fake f;

	own_fds(fds);
	fake_ready(d, &f);
	ck_assert_int_gt(send_fds(f.sock, &msg, sizeof(msg), fds, NR_FDS), 0);
	expect_error(f.sock, EBADF);
	fake_close(&f);
	close_fds(fds);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

/* ---- messages ---- */

START_TEST(wrong_version)
{
	struct daemon *d = daemon_start(NULL);
	struct ksm_msg_hello msg = hello();
	int sock = raw_connect(d), fds[NR_FDS];

	own_fds(fds);
	msg.version = KSM_WIRE_VERSION + 1;
	ck_assert_int_gt(send_fds(sock, &msg, sizeof(msg), fds, NR_FDS), 0);
	expect_error(sock, EPROTONOSUPPORT);
	close(sock);
	close_fds(fds);
	daemon_stop(d);
}
END_TEST

/* The HELLO of another version may be shorter or longer. Operators are told who sent it. */
START_TEST(other_versions_are_named)
{
	static const size_t lengths[] = { 12, 16, sizeof(struct ksm_msg_hello), 200 };
	struct daemon *d = daemon_start(NULL);
	char want[64], got[256];

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		union {
			struct ksm_msg_hello hello;
			char bytes[200];
		} m = { .hello = hello() };
		int sock = raw_connect(d);

		m.hello.hdr.len = (uint32_t)lengths[i];
		m.hello.version = KSM_WIRE_VERSION - 1;
		ck_assert_int_eq(send(sock, &m, lengths[i], 0), (ssize_t)lengths[i]);
		expect_error(sock, EPROTONOSUPPORT);
		close(sock);
	}
	snprintf(want, sizeof(want), "%d (test_client_soc, version %u)", (int)getpid(),
		 KSM_WIRE_VERSION - 1);
	ck_assert_int_ge(ctl_get(d, "ksm/outdated", got, sizeof(got)), 0);
	ck_assert_str_eq(got, want);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_outdated"), 4);
	daemon_stop(d);
}
END_TEST

/* Every type, in every state in which it must not come. */
START_TEST(messages_at_the_wrong_time)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);

	for (uint32_t type = 1; type < KSM_MSG_NR; type++) {
		union ksm_msg msg = { 0 };
		struct fake f;

		if (type != KSM_MSG_HELLO) {
			int sock = raw_connect(d);

			send_msg(sock, &msg, type);
			expect_error(sock, EPROTO);
			close(sock);
		}
		if (type != KSM_MSG_READY) {
			fake_hello(d, &f);
			send_msg(f.sock, &msg, type);
			expect_error(f.sock, EPROTO);
			fake_close(&f);
		}
		switch (type) {
		case KSM_MSG_HELLO:
		case KSM_MSG_READY:
		case KSM_MSG_WELCOME:
		case KSM_MSG_ORDER:
		case KSM_MSG_UNMERGE:
		case KSM_MSG_EPOCH:
		case KSM_MSG_STAT_REPLY:
		case KSM_MSG_ERROR:
			fake_ready(d, &f);
			send_msg(f.sock, &msg, type);
			expect_error(f.sock, EPROTO);
			fake_close(&f);
		}
	}
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(wrong_lengths_and_types)
{
	static const uint32_t types[] = { 0, KSM_MSG_NR, KSM_MSG_NR + 1, 0xffffffff };
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	char big[8192] = { 0 };
	struct ksm_msg_hdr *hdr = (void *)big;

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		int sock = raw_connect(d);

		*hdr = (struct ksm_msg_hdr){ types[i], sizeof(*hdr) };
		send(sock, big, sizeof(*hdr), 0);
		expect_error(sock, EPROTO);
		close(sock);
	}
	for (uint32_t type = 1; type < KSM_MSG_NR; type++) {
		size_t right = ksm_msg_size(type);
		size_t lens[] = { right - 1, right + 1, sizeof(big) };

		for (int i = 0; i < 3; i++) {
			int sock = raw_connect(d);

			*hdr = (struct ksm_msg_hdr){ type, (uint32_t)lens[i] };
			/* A HELLO of another version may have another length. */
			((struct ksm_msg_hello *)hdr)->version = KSM_WIRE_VERSION;
			send(sock, big, lens[i], 0);
			expect_error(sock, lens[i] < sizeof(*hdr) ? EPROTO : EMSGSIZE);
			close(sock);
		}
	}
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(bytes_without_sense)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	unsigned int seed = 1;
	char buf[sizeof(union ksm_msg)];

	for (int i = 0; i < 500; i++) {
		size_t len = (size_t)rand_r(&seed) % sizeof(buf);
		int sock = raw_connect(d);

		for (size_t k = 0; k < len; k++)
			buf[k] = (char)rand_r(&seed);
		send(sock, buf, len, MSG_NOSIGNAL);
		if (len)
			expect_error(sock, EPROTO);
		else
			expect_end(sock); /* an empty message is the end */
		close(sock);
	}
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

static const struct {
	uint64_t start, end;
} bad_ranges[] = {
	{ 0x1001, 0x3000 },    { 0x1000, 0x3001 },  { 0x3000, 0x3000 },
	{ 0x3000, 0x1000 },    { END, END + 4096 }, { 0x1000, END + 4096 },
	{ 0x1000, ~0xfffull }, { ~0xfffull, 0 },    { 0, 0 },
};
#define NR_BAD_RANGES (sizeof(bad_ranges) / sizeof(bad_ranges[0]))

START_TEST(ranges_that_are_none)
{
	static const uint32_t types[] = { KSM_MSG_ADD, KSM_MSG_DEL, KSM_MSG_FORGET };
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct fake f;

	for (int t = 0; t < 3; t++) {
		for (size_t i = 0; i < NR_BAD_RANGES; i++) {
			fake_ready(d, &f);
			send_range(&f, types[t], bad_ranges[i].start, bad_ranges[i].end);
			expect_error(f.sock, EINVAL);
			fake_close(&f);
		}
	}
	/* The largest that is one, and twice; and taking away what is not there. */
	fake_ready(d, &f);
	send_range(&f, KSM_MSG_DEL, 0x1000, 0x2000);
	send_range(&f, KSM_MSG_ADD, 0x1000, 0x200000);
	send_range(&f, KSM_MSG_ADD, 0x1000, 0x200000);
	send_range(&f, KSM_MSG_ADD, END - 0x200000, END);
	send_range(&f, KSM_MSG_FORGET, 0, END);
	send_range(&f, KSM_MSG_DEL, 0, END);
	expect_served(&f);
	fake_close(&f);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

/*
 * A client may name all of its address space, over and over, though next to nothing is in it. Seen
 * to fail (the other client waits for more than 10 s) when the daemon walked the page tables 128
 * MiB at a time, and (its own work takes 23 s of the daemon's time) when it did so 512 MiB at a
 * time with others served in between.
 */
START_TEST(wide_ranges_keep_nobody_waiting)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct fake f, other;
	uint64_t before;

	fake_ready(d, &f);
	fake_ready(d, &other);
	expect_served(&other);
	for (int i = 0; i < 64; i++)
		send_range(&f, KSM_MSG_FORGET, 0, END);
	before = harness_now_ms();
	expect_served(&other);
	ck_assert_uint_lt(harness_now_ms() - before, 5000);
	expect_served(&f);
	/* A daemon that strace(1) looks over takes as long for the calls alone. */
	if (!getenv("KSM_DAEMON") && !SANITIZED)
		ck_assert_uint_lt(harness_now_ms() - before, 15000);
	fake_close(&f);
	fake_close(&other);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(adoptions_that_are_none)
{
	static const struct {
		uint64_t addr;
		uint32_t nr_pages, frame;
	} bad[] = {
		{ 0x10001, 1, 0 },          { 0x10000, 0, 0 },
		{ 0x800000, 1, 0 },         { END, 1, 0 },
		{ END - 4096, 2, 0 },       { ~0xfffull, 1, 0 },
		{ 0x10000, 0xffffffff, 0 }, { 0x10000, 1, 0xfffffffe },
		{ 0x10000, 1, 0xffffffff }, { 0x10000, 2, 0x03ffffff },
	};
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct ksm_msg_adopt msg = { .addr = bad[i].addr,
					     .nr_pages = bad[i].nr_pages,
					     .frame = bad[i].frame };
		struct fake f;

		fake_ready(d, &f);
		send_range(&f, KSM_MSG_ADD, 0x10000, 0x20000);
		msg.seq = ++f.seq;
		send_msg(f.sock, &msg, KSM_MSG_ADOPT);
		expect_error(f.sock, EINVAL);
		fake_close(&f);
	}
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(numbers_must_follow)
{
	static const uint64_t bad[] = { 0, 1, 3, ~0ull };
	struct daemon *d = daemon_start(NULL);
	struct fake f;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		fake_ready(d, &f);
		send_range(&f, KSM_MSG_ADD, 0x10000, 0x20000);
		f.seq = bad[i] - 1;
		send_range(&f, KSM_MSG_ADD, 0x10000, 0x20000);
		expect_error(f.sock, EPROTO);
		fake_close(&f);
	}
	daemon_stop(d);
}
END_TEST

START_TEST(answers_to_nothing)
{
	struct daemon *d = daemon_start(NULL);
	struct ksm_msg_order_done done = { .id = 1 };
	struct ksm_msg_unmerge unmerge = { .id = 0 };
	struct ksm_msg_epoch epoch = { .epoch = 99 };
	struct fake f;

	fake_ready(d, &f);
	send_msg(f.sock, &done, KSM_MSG_ORDER_DONE);
	expect_error(f.sock, EPROTO);
	fake_close(&f);
	fake_ready(d, &f);
	done.result[63] = KSM_RES_NR;
	send_msg(f.sock, &done, KSM_MSG_ORDER_DONE);
	expect_error(f.sock, EINVAL);
	fake_close(&f);
	fake_ready(d, &f);
	send_msg(f.sock, &unmerge, KSM_MSG_UNMERGE_DONE);
	expect_error(f.sock, EPROTO);
	fake_close(&f);
	fake_ready(d, &f);
	send_msg(f.sock, &epoch, KSM_MSG_EPOCH_DONE);
	expect_error(f.sock, EPROTO);
	fake_close(&f);
	daemon_stop(d);
}
END_TEST

/* ---- clients that do not do what they are told ---- */

/* Offer nr pages, tracked as the library would; equal ones will bring orders. */
static char *offer_pages(struct fake *f, size_t nr, bool equal)
{
	char *p = mmap(NULL, nr * KSM_PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = KABI_UFFD_FEATURE_WP_ASYNC | KABI_UFFD_FEATURE_WP_UNPOPULATED,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)p, nr * KSM_PAGE_SIZE },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	int uffd = ioctl(f->fds[0], KABI_USERFAULTFD_IOC_NEW, O_CLOEXEC);

	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_ge(uffd, 0); /* stays open until the test's process ends */
	ck_assert_int_eq(ioctl(uffd, UFFDIO_API, &api), 0);
	for (size_t i = 0; i < nr; i++)
		page_fill(p + i * KSM_PAGE_SIZE, equal ? 7 : 1000 + i);
	ck_assert_int_eq(ioctl(uffd, UFFDIO_REGISTER, &reg), 0);
	send_range(f, KSM_MSG_ADD, (uintptr_t)p, (uintptr_t)p + nr * KSM_PAGE_SIZE);
	return p;
}

/* Answer that every page of every order was merged, until the daemon hangs up. */
static int lie(struct fake *f)
{
	union ksm_msg msg;

	for (;;) {
		struct ksm_msg_order_done done = { 0 };

		ck_assert_int_gt(recv_msg(f->sock, &msg, NULL), 0);
		if (msg.hdr.type == KSM_MSG_ERROR)
			return msg.error.error;
		if (msg.hdr.type != KSM_MSG_ORDER)
			continue;
		done.id = msg.order.id;
		for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
			if (msg.order.frame[i] != KSM_FRAME_NONE)
				done.result[i] = KSM_RES_MERGED;
		done.hdr = (struct ksm_msg_hdr){ KSM_MSG_ORDER_DONE, sizeof(done) };
		send(f->sock, &done, sizeof(done), MSG_NOSIGNAL); /* may be hung up on already */
	}
}

/* Frame under a page of another process, from the place of its mapping in the arena. */
static uint32_t frame_at(pid_t pid, unsigned long addr)
{
	struct mapping m;

	if (!mapping_of_frame(pid, addr, &m))
		return KSM_FRAME_NONE;
	return (uint32_t)((m.offset + addr - m.start) / KSM_PAGE_SIZE);
}

/*
 * A merged page is moved and written. The daemon's scan sees the write before the daemon reads the
 * client's message about the move, which was true when it was sent. The page counts as merged until
 * the daemon looks again, which is soon, although no further write comes. Seen to fail
 * (ksm_merging_pages stays 100) when the daemon looks only at pages that change tracking shows.
 */
START_TEST(adoption_of_what_was_written_since)
{
	enum { NR = 100 };
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_offer, NR, 1, 1), b = puppet_call(q, fn_offer, NR, 1, 1);
	struct fake f;
	char *mine;

	daemon_hasten(d);
	wait_counter(d, "pages_sharing", NR);
	fake_ready(d, &f);
	mine = offer_pages(&f, NR, false);
	wait_until(ctl_client_u64(d, getpid(), "ksm_rmap_items") == NR, WAIT_MS, "seen");
	for (unsigned long i = 0; i < NR; i++) {
		struct ksm_msg_adopt msg = { .seq = ++f.seq,
					     .addr = (uintptr_t)mine + i * KSM_PAGE_SIZE,
					     .nr_pages = 1,
					     .frame = frame_at(p->pid, a + i * KSM_PAGE_SIZE) };

		ck_assert_uint_ne(msg.frame, KSM_FRAME_NONE);
		send_msg(f.sock, &msg, KSM_MSG_ADOPT);
	}
	expect_served(&f); /* so it has taken them in */
	wait_until(ctl_client_u64(d, getpid(), "ksm_merging_pages") == 0, WAIT_MS, "the truth");
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), NR);
	ck_assert_int_eq(puppet_call(p, fn_check, a, NR, 1, 1), 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, NR, 1, 1), 0);
	fake_close(&f);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

START_TEST(lying_client_is_dropped)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct fake f;

	fake_ready(d, &f);
	offer_pages(&f, 1024, true);
	ck_assert_int_eq(lie(&f), EPROTO);
	fake_close(&f);
	expect_clean(d, nr_fds);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_shared"), 0);
	daemon_stop(d);
}
END_TEST

START_TEST(client_that_answers_nothing)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct fake f, other;
	uint64_t at;

	fake_ready(d, &f);
	offer_pages(&f, 1024, true);
	/* Ten seconds without an answer; others are served meanwhile. */
	wait_until(ctl_client_u64(d, getpid(), "stalled") == 1, WAIT_MS,
		   "client is seen as stalled");
	fake_ready(d, &other);
	expect_served(&other);
	fake_close(&other);
	/* Nobody waits for it, and the operator learns that it was not reached. */
	at = harness_now_ms();
	ck_assert_int_eq(ctl_set(d, "ksm/run", "2"), -ETIMEDOUT);
	ck_assert_uint_lt(harness_now_ms() - at, 4000);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), 0);
	fake_close(&f);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

/* Answer the orders that have come: the memory had changed. */
static void answer_orders(struct fake *f)
{
	struct pollfd p = { .fd = f->sock, .events = POLLIN };
	union ksm_msg msg;

	while (poll(&p, 1, 0) > 0) {
		struct ksm_msg_order_done done = { 0 };

		ck_assert_int_gt(recv_msg(f->sock, &msg, NULL), 0);
		if (msg.hdr.type != KSM_MSG_ORDER)
			continue;
		done.id = msg.order.id;
		for (unsigned int i = 0; i < KSM_ORDER_PAGES; i++)
			if (msg.order.frame[i] != KSM_FRAME_NONE)
				done.result[i] = KSM_RES_STALE;
		send_msg(f->sock, &done, KSM_MSG_ORDER_DONE);
	}
}

/* Is the next message an order? */
static bool gets_order(struct fake *f)
{
	union ksm_msg msg;

	ck_assert_int_gt(recv_msg(f->sock, &msg, NULL), 0);
	return msg.hdr.type == KSM_MSG_ORDER;
}

/*
 * A pass counts when its orders are answered: whoever waits for two finds everything merged. A
 * client that does not answer keeps it from being counted for a second, no longer. Seen to fail at
 * the first place when the scan thread counts the pass as it ends, at the second when it waits for
 * the orders that it gave up.
 */
START_TEST(pass_counts_with_its_answers)
{
	struct daemon *d = daemon_start(NULL);
	struct fake f;
	uint64_t at, scans, now;

	fake_ready(d, &f);
	offer_pages(&f, KSM_ORDER_PAGES, true);
	while (!gets_order(&f))
		;
	at = harness_now_ms();
	scans = ctl_get_u64(d, "ksm/full_scans");
	do {
		now = ctl_get_u64(d, "ksm/full_scans");
		if (harness_now_ms() - at < 300)
			ck_assert_uint_eq(now, scans);
		harness_nap();
	} while (harness_now_ms() - at < 300);
	wait_full_scans(d, 5, WAIT_MS);
	fake_close(&f);
	daemon_stop(d);
}
END_TEST

/*
 * A client has as many orders as it can have, and more pages wait. With `run` 0 these pages stop
 * waiting, and the daemon does not order them when the client answers. Seen to fail without
 * engine_cancel_orders() in scan_pass_halt() (scan_pass.c): they count as orders until then.
 */
START_TEST(run_0_leaves_no_order_waiting)
{
	/* Orders under way; and pages, twice as many as these can hold. */
	enum { MOST = 64, MANY = 2 * MOST * KSM_ORDER_PAGES };
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid);
	struct fake f;

	fake_ready(d, &f);
	offer_pages(&f, 2 * MANY, true);
	wait_until(ctl_get_u64(d, "ksm/orders") > MANY, WAIT_MS, "pages wait for orders");
	ck_assert_int_eq(ctl_set(d, "ksm/run", "0"), -ETIMEDOUT);
	wait_until(ctl_get_u64(d, "ksm/orders") <= MOST, WAIT_MS, "no page waits");
	wait_until((answer_orders(&f), ctl_get_u64(d, "ksm/orders") == 0), WAIT_MS,
		   "no order is under way");
	/* They are looked at again when it is 1. */
	ck_assert_int_eq(ctl_set(d, "ksm/run", "0"), 0);
	ck_assert_int_eq(ctl_set(d, "ksm/run", "1"), 0);
	wait_until(ctl_get_u64(d, "ksm/orders") > MANY, WAIT_MS, "pages wait for orders again");
	fake_close(&f);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

/* Answer UNMERGE, after other control connections were served; with this error. */
static void answer_unmerge(struct daemon *d, struct fake *f, int error)
{
	struct ksm_msg_unmerge done = { .error = error };
	union ksm_msg msg;

	do
		ck_assert_int_gt(recv_msg(f->sock, &msg, NULL), 0);
	while (msg.hdr.type != KSM_MSG_UNMERGE);
	/* The store waits for us, and nobody else does. */
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/run"), 2);
	done.id = msg.unmerge.id;
	send_msg(f->sock, &done, KSM_MSG_UNMERGE_DONE);
}

/* The store in a child, so that the test can be the client. Returns its process. */
static pid_t store_run(struct daemon *d, struct fake *f, const char *value)
{
	pid_t pid = fork();

	if (pid == 0) {
		close(f->sock); /* only the test's end counts */
		_exit(-ctl_set(d, "ksm/run", value));
	}
	return pid;
}

/*
 * `run` 0 is answered when nothing is being merged any more. Seen to fail (answered at once) when
 * the store does not wait for the orders under way.
 */
START_TEST(run_0_waits_for_answers)
{
	struct daemon *d = daemon_start(NULL);
	struct fake f;
	uint64_t at;
	int status;
	pid_t pid;

	fake_ready(d, &f);
	offer_pages(&f, KSM_ORDER_PAGES, true);
	wait_until(ctl_get_u64(d, "ksm/orders_given") > 0, WAIT_MS, "an order");
	at = harness_now_ms();
	pid = store_run(d, &f, "0");
	wait_until(ctl_get_u64(d, "ksm/run") == 0, WAIT_MS, "the store has arrived");
	while (harness_now_ms() - at < 300) {
		int ended = waitpid(pid, &status, WNOHANG);

		/* After a second the client counts as silent. */
		if (harness_now_ms() - at < 800)
			ck_assert_int_eq(ended, 0);
		harness_nap();
	}
	answer_orders(&f);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (harness_now_ms() - at < 800)
		ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/orders"), 0);
	fake_close(&f);
	daemon_stop(d);
}
END_TEST

START_TEST(unmerge_waits_for_clients)
{
	int error = _i ? ENOMEM : 0, status;
	struct daemon *d = daemon_start(NULL);
	struct fake f;
	pid_t pid;

	fake_ready(d, &f);
	expect_served(&f);
	pid = store_run(d, &f, "2");
	answer_unmerge(d, &f, error);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), error);
	/* Not 0, as with the kernel: everybody else is unmerged, and should stay so. */
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/run"), 2);
	expect_served(&f);
	fake_close(&f);
	daemon_stop(d);
}
END_TEST

/*
 * The daemon carries out stores to `run` one after the other, and does not wait for a client that
 * leaves.
 */
START_TEST(unmerge_then_next_store)
{
	struct daemon *d = daemon_start(NULL);
	struct fake f;
	union ksm_msg msg;
	pid_t pid, next;
	int status;

	fake_ready(d, &f);
	expect_served(&f);
	pid = store_run(d, &f, "2");
	do
		ck_assert_int_gt(recv_msg(f.sock, &msg, NULL), 0);
	while (msg.hdr.type != KSM_MSG_UNMERGE);
	next = store_run(d, &f, "1");
	for (int i = 0; i < 5; i++) /* time enough for it to overtake, if it could */
		ck_assert_uint_eq(ctl_get_u64(d, "ksm/run"), 2);
	fake_close(&f);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(waitpid(next, &status, 0), next);
	ck_assert_int_eq(status, 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/run"), 1);
	daemon_stop(d);
}
END_TEST

/* ---- crowds ---- */

#define NR_IDLE 1000

/*
 * What the daemon may grow by. They take 600 bytes each, 300 KiB with all that the connections in
 * between leave, and multiples of that under the address sanitizer. The thread sanitizer's run time
 * grows by 13 to 24 MiB here and sometimes more (its records of threads, locks and stacks, and the
 * debugging information by which it knows what it is to suppress), whatever a connection costs. So
 * there a bound would say nothing of the daemon.
 */
#if defined(__SANITIZE_THREAD__)
#define IDLE_BYTES_MAX (UINT64_MAX / 2)
#elif defined(__SANITIZE_ADDRESS__)
#define IDLE_BYTES_MAX (32ull << 20)
#else
#define IDLE_BYTES_MAX (4ull << 20)
#endif

START_TEST(thousand_silent_connections)
{
	struct daemon *d = daemon_start(NULL);
	int nr_fds = harness_nr_fds(d->pid), socks[NR_IDLE];
	uint64_t rss = ctl_get_u64(d, "daemon/rss_bytes");
	struct fake f;

	for (int i = 0; i < NR_IDLE; i++) {
		socks[i] = raw_connect(d);
		if (i % 100 == 0) {
			fake_ready(d, &f);
			expect_served(&f);
			fake_close(&f);
		}
	}
	fake_ready(d, &f);
	expect_served(&f);
	/* The oldest have given way to the newest. */
	expect_error(socks[0], EAGAIN);
	ck_assert_uint_lt(ctl_get_u64(d, "daemon/rss_bytes"), rss + IDLE_BYTES_MAX);
	fake_close(&f);
	for (int i = 0; i < NR_IDLE; i++)
		close(socks[i]);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

START_TEST(silent_connection_is_dropped)
{
	struct daemon *d = daemon_start(NULL);
	int sock = raw_connect(d);
	struct fake half; /* says HELLO, and then nothing */

	fake_hello(d, &half);
	expect_error(sock, ETIMEDOUT);
	expect_error(half.sock, ETIMEDOUT);
	close(sock);
	fake_close(&half);
	expect_clean(d, 1000);
	daemon_stop(d);
}
END_TEST

/* A peer that asks and never reads the answers. */
START_TEST(client_that_does_not_read)
{
	struct daemon *d = daemon_start(NULL);
	struct ksm_msg_stat msg = { .hdr = { KSM_MSG_STAT, sizeof(msg) } };
	struct fake f, other;

	fake_ready(d, &f);
	for (int i = 0; i < 20000; i++)
		send(f.sock, &msg, sizeof(msg), MSG_NOSIGNAL | MSG_DONTWAIT);
	fake_ready(d, &other);
	expect_served(&other);
	fake_close(&other);
	fake_close(&f);
	expect_clean(d, 1000);
	daemon_stop(d);
}
END_TEST

static Suite *client_suite(void)
{
	Suite *s = suite_create("client socket");
	TCase *tc = tcase_create("client socket");

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, proper_client_is_served);
	tcase_add_test(tc, domains_have_different_arenas);
	tcase_add_test(tc, killed_client_leaves_nothing);
	tcase_add_test(tc, wrong_descriptors);
	tcase_add_test(tc, ended_while_it_joined);
	tcase_add_test(tc, wrong_number_of_descriptors);
	tcase_add_test(tc, descriptors_that_nobody_asked_for);
	tcase_add_test(tc, wrong_version);
	tcase_add_test(tc, other_versions_are_named);
	tcase_add_test(tc, messages_at_the_wrong_time);
	tcase_add_test(tc, wrong_lengths_and_types);
	tcase_add_test(tc, bytes_without_sense);
	tcase_add_test(tc, ranges_that_are_none);
	tcase_add_test(tc, wide_ranges_keep_nobody_waiting);
	tcase_add_test(tc, adoptions_that_are_none);
	tcase_add_test(tc, numbers_must_follow);
	tcase_add_test(tc, answers_to_nothing);
	tcase_add_test(tc, adoption_of_what_was_written_since);
	tcase_add_test(tc, lying_client_is_dropped);
	tcase_add_test(tc, client_that_answers_nothing);
	tcase_add_test(tc, pass_counts_with_its_answers);
	tcase_add_test(tc, run_0_leaves_no_order_waiting);
	tcase_add_test(tc, run_0_waits_for_answers);
	tcase_add_loop_test(tc, unmerge_waits_for_clients, 0, 2);
	tcase_add_test(tc, unmerge_then_next_store);
	tcase_add_test(tc, thousand_silent_connections);
	tcase_add_test(tc, silent_connection_is_dropped);
	tcase_add_test(tc, client_that_does_not_read);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(client_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
