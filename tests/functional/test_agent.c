/* SPDX-License-Identifier: MIT */
/*
 * test_agent.c - the client's side alone: libksm against a daemon that the test plays.
 *
 * The test plays the daemon on the client socket, in the same process as the library (whose agent
 * has a descriptor table of its own). So orders can be wrong or stale, and can come in the middle
 * of anything. The test checks the agent's work at the page itself: its contents and its entry in
 * /proc/self/pagemap.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/mempolicy.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/agent.h"
#include "client/as_life.h"
#include "client/as_ranges.h"
#include "client/client.h"
#include "ksm.h"
#include "lib/harness.h"
#include "lib/mapping.h"
#include "lib/slowfile.h"
#include "wire/kernel_abi.h"
#include "wire/wire.h"

#define PAGE 4096ul
#define BLOCK (64 * PAGE)
#define ARENA_PAGES 4096u

/* The daemon's side of one connection. */
struct puppet {
	int sock, fd[3]; /* pidfd, pagemap, mem */
	uint64_t seq;    /* newest numbered message taken in */
	uint32_t nr_adopted;
	struct ksm_msg_adopt adopt[64];
	struct ksm_msg_range last;
};
static struct fake {
	char dir[64];
	int listener, arena, arena_ro, sentinel;
	uint8_t *frames; /* the arena, writable */
	uint32_t from;   /* of the next orders */
	uint32_t next_order;
} fake;

static int reopen(int fd, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, flags | O_CLOEXEC);
}

static void fake_listen(void)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", fake.dir, KSM_CLIENT_SOCKET);
	unlink(sun.sun_path);
	fake.listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fake.listener, (void *)&sun, sizeof(sun)), 0);
	ck_assert_int_eq(listen(fake.listener, 64), 0);
}

static void fake_start(void)
{
	strcpy(fake.dir, "/tmp/ksm-agent-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(fake.dir));
	setenv("KSMD_RUNTIME_DIR", fake.dir, 1);
	fake_listen();
	fake.arena = memfd_create(KSM_ARENA_NAME, MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fake.arena, ARENA_PAGES * PAGE), 0);
	fake.arena_ro = reopen(fake.arena, O_RDONLY);
	fake.frames =
		mmap(NULL, ARENA_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fake.arena, 0);
	fake.sentinel = memfd_create("ksm-sentinel", MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fake.sentinel, PAGE), 0);
}

static void fake_stop(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", fake.dir, KSM_CLIENT_SOCKET);
	unlink(path);
	rmdir(fake.dir);
}

static void send_fds(int sock, const void *m, size_t len, const int *fds, int nr)
{
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} ctl = { .h = { CMSG_LEN((size_t)nr * sizeof(int)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { (void *)m, len };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &ctl,
			     .msg_controllen = CMSG_SPACE((size_t)nr * sizeof(int)) };

	memcpy(CMSG_DATA(&ctl.h), fds, (size_t)nr * sizeof(int));
	if (sendmsg(sock, &mh, MSG_NOSIGNAL) != (ssize_t)len)
		harness_die("sendmsg: %s", strerror(errno));
}

static void recv_hello(struct puppet *p)
{
	struct ksm_msg_hello hello;
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(3 * sizeof(int))];
	} ctl;
	struct iovec iov = { &hello, sizeof(hello) };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl)
	};

	ck_assert_int_eq(recvmsg(p->sock, &mh, MSG_CMSG_CLOEXEC), sizeof(hello));
	ck_assert_uint_eq(hello.hdr.type, KSM_MSG_HELLO);
	ck_assert_uint_eq(ctl.h.cmsg_len, CMSG_LEN(3 * sizeof(int)));
	memcpy(p->fd, CMSG_DATA(&ctl.h), sizeof(p->fd));
}

static void fake_accept(struct puppet *p)
{
	struct ksm_msg_welcome w = {
		{ KSM_MSG_WELCOME, sizeof(w) }, KSM_WIRE_VERSION, 1, 7, ARENA_PAGES, 1
	};
	int fds[3];

	memset(p, 0, sizeof(*p));
	p->sock = accept4(fake.listener, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(p->sock, 0);
	recv_hello(p);
	fds[0] = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	fds[1] = fake.arena_ro;
	fds[2] = fake.sentinel;
	ck_assert_int_ge(fds[0], 0);
	send_fds(p->sock, &w, sizeof(w), fds, 3);
	close(fds[0]);
}

/* Take in messages until one of the wanted type; numbered ones are counted as the daemon does. */
static void fake_recv(struct puppet *p, uint32_t type, union ksm_msg *m)
{
	do {
		ssize_t n = recv(p->sock, m, sizeof(*m), 0);

		ck_assert_msg(n >= (ssize_t)sizeof(m->hdr), "recv: %s", strerror(errno));
		ck_assert_uint_eq(n, ksm_msg_size(m->hdr.type));
		if (m->hdr.type == KSM_MSG_STAT) {
			struct ksm_msg_stat_reply r = { { KSM_MSG_STAT_REPLY, sizeof(r) },
							m->stat.id,
							1,
							2,
							3,
							4,
							5,
							0,
							0,
							0,
							0 };

			send(p->sock, &r, sizeof(r), 0);
		}
		if (m->hdr.type == KSM_MSG_ADOPT && p->nr_adopted < 64)
			p->adopt[p->nr_adopted++] = m->adopt;
		if (m->hdr.type >= KSM_MSG_ADD && m->hdr.type <= KSM_MSG_ADOPT) {
			ck_assert_uint_eq(m->range.seq, p->seq + 1);
			p->seq = m->range.seq;
			p->last = m->range;
		}
	} while (m->hdr.type != type);
}

/* Order nr pages at addr (within one block) to frames from `frame` on. */
static void order_at(struct puppet *p, const void *addr, unsigned int nr, uint32_t frame,
		     uint64_t seq, uint8_t result[64])
{
	struct ksm_msg_order t = { .hdr = { KSM_MSG_ORDER, sizeof(t) },
				   .id = ++fake.next_order,
				   .from = fake.from,
				   .seq = seq };
	unsigned int first = (uintptr_t)addr / PAGE % 64;
	union ksm_msg m;

	t.addr = (uintptr_t)addr - first * PAGE;
	for (unsigned int i = 0; i < 64; i++)
		t.frame[i] = KSM_FRAME_NONE;
	for (unsigned int i = 0; i < nr; i++)
		t.frame[first + i] = frame == KSM_FRAME_ZERO ? frame : frame + i;
	ck_assert_int_eq(send(p->sock, &t, sizeof(t), 0), sizeof(t));
	fake_recv(p, KSM_MSG_ORDER_DONE, &m);
	ck_assert_uint_eq(m.order_done.id, t.id);
	memcpy(result, m.order_done.result + first, nr);
}

static void order(struct puppet *p, const void *addr, unsigned int nr, uint32_t frame,
		  uint8_t result[64])
{
	order_at(p, addr, nr, frame, p->seq, result);
}

static void expect_all(const uint8_t *result, unsigned int nr, uint8_t want)
{
	for (unsigned int i = 0; i < nr; i++)
		ck_assert_msg(result[i] == want, "page %u: result %u, wanted %u", i, result[i],
			      want);
}

static void fill(uint8_t *p, size_t nr, unsigned int salt)
{
	for (size_t i = 0; i < nr; i++)
		for (size_t j = 0; j < PAGE / 8; j++)
			((uint64_t *)(p + i * PAGE))[j] =
				(i + 1) * 0x9e3779b97f4a7c15ull + j + salt;
}

static void check_fill(const uint8_t *p, size_t nr, unsigned int salt)
{
	for (size_t i = 0; i < nr; i++)
		for (size_t j = 0; j < PAGE / 8; j++)
			if (((uint64_t *)(p + i * PAGE))[j] !=
			    (i + 1) * 0x9e3779b97f4a7c15ull + j + salt)
				harness_die("page %zu word %zu is wrong", i, j);
}

static void check_zero(const uint8_t *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i])
			harness_die("byte %zu is not zero", i);
}

/* nr pages of registered memory at a block boundary, and the frames with the same contents. */
static uint8_t *make_memory(size_t nr, unsigned int salt)
{
	uint8_t *raw = ksm_mmap(NULL, (nr + 64) * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	uint8_t *p = (uint8_t *)(((uintptr_t)raw + BLOCK - 1) & ~(BLOCK - 1));

	ck_assert_ptr_ne(raw, MAP_FAILED);
	fill(p, nr, salt);
	fill(fake.frames, nr, salt);
	ck_assert_int_eq(ksm_madvise(p, nr * PAGE, MADV_MERGEABLE), 0);
	return p;
}

static uint64_t pagemap(const void *p)
{
	static __thread int fd = -1;
	uint64_t v;

	if (fd < 0)
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(pread(fd, &v, 8, (off_t)((uintptr_t)p / PAGE * 8)), 8);
	return v;
}

#define PM_PRESENT (1ull << 63)
#define PM_FILE (1ull << 61)
static bool on_frame(const void *p)
{
	*(volatile const uint8_t *)p;
	return (pagemap(p) & (PM_PRESENT | PM_FILE)) == (PM_PRESENT | PM_FILE);
}

static void start_joined(struct puppet *p, uint8_t **mem, size_t nr)
{
	union ksm_msg m;

	fake_start();
	*mem = make_memory(nr, 1);
	fake_accept(p);
	fake_recv(p, KSM_MSG_ADD, &m);
	ck_assert_uint_eq(m.range.start, (uintptr_t)*mem);
	ck_assert_uint_eq(m.range.end, (uintptr_t)*mem + nr * PAGE);
}

/* Whether libksm knows any of the range, or all of it, as offered. */
static bool knows(uint64_t start, uint64_t end)
{
	struct as_guard g;
	bool yes;

	as_enter(&g);
	yes = as_knows(start, end);
	as_leave(&g);
	return yes;
}

static bool covers(uint64_t start, uint64_t end)
{
	struct as_guard g;
	bool yes;

	as_enter(&g);
	yes = as_covers(start, end);
	as_leave(&g);
	return yes;
}

/* An order for the block at mem. */
static void order_inlays(struct puppet *p, const void *mem, const uint32_t frame[64],
			 uint8_t result[64])
{
	struct ksm_msg_order t = {
		.hdr = { KSM_MSG_ORDER, sizeof(t) },
		.id = ++fake.next_order,
		.seq = p->seq,
		.addr = (uintptr_t)mem,
	};
	union ksm_msg m;

	memcpy(t.frame, frame, sizeof(t.frame));
	ck_assert_int_eq(send(p->sock, &t, sizeof(t), 0), sizeof(t));
	fake_recv(p, KSM_MSG_ORDER_DONE, &m);
	memcpy(result, m.order_done.result, 64);
}

static unsigned int nr_mappings(const uint8_t *mem, size_t pages)
{
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long start, end, from = (uintptr_t)mem, to = from + pages * PAGE;
	unsigned int nr = 0;
	char line[512];

	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start < to && end > from)
			nr++;
	fclose(f);
	return nr;
}

static unsigned long frames_held(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(fake.arena, &st), 0);
	return (unsigned long)st.st_blocks * 512 / PAGE;
}

/* Pages of two blocks: those of the first alternate, and those of the second lie in pairs. */
static void inlay_blocks(struct puppet *p, uint8_t *mem)
{
	uint32_t frame[64];
	uint8_t res[64];

	for (uint32_t i = 1; i < 128; i += 2)
		ck_assert_int_eq(fallocate(fake.arena, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					   (off_t)(i * PAGE), PAGE),
				 0);
	for (uint32_t i = 0; i < 64; i++)
		frame[i] = i & 1 ? KSM_FRAME_INLAY : i;
	order_inlays(p, mem, frame, res);
	for (uint32_t i = 0; i < 64; i++)
		ck_assert_uint_eq(res[i], i & 1 ? KSM_RES_INLAID : KSM_RES_MERGED);
	/* The frames lie the other way round: the contents have to, too. */
	for (uint32_t i = 0; i < 64; i += 2) {
		memcpy(mem + (64 + i) * PAGE, fake.frames + (126 - i) * PAGE, PAGE);
		frame[i] = 126 - i;
	}
	order_inlays(p, mem + BLOCK, frame, res);
	for (uint32_t i = 0; i < 64; i++)
		ck_assert_uint_eq(res[i], i & 1 ? KSM_RES_INLAID : KSM_RES_MERGED);
}

/* What the pages of inlay_blocks() hold. */
static void check_inlays(const uint8_t *mem)
{
	static uint8_t want[128 * PAGE];

	fill(want, 128, 1);
	ck_assert_int_eq(memcmp(mem, want, BLOCK), 0);
	for (uint32_t i = 64; i < 128; i++)
		ck_assert_int_eq(
			memcmp(mem + i * PAGE, want + (i & 1 ? i : 64 + 126 - i) * PAGE, PAGE), 0);
}

/*
 * Pages between frames become private pages of their mapping. Seen to fail (the frames' holes)
 * without inlay_copy(). Un-shared they are one mapping again; seen to fail (129 mappings) when
 * replace_frames() leaves private pages where they are, however many there are.
 */
START_TEST(test_pages_between_frames_are_inlaid)
{
	unsigned long held;
	struct puppet p;
	uint8_t *mem;
	int status;
	pid_t pid;

	start_joined(&p, &mem, 128);
	inlay_blocks(&p, mem);
	held = frames_held();
	check_inlays(mem);
	for (uint32_t i = 0; i < 128; i++)
		ck_assert_int_eq(on_frame(mem + i * PAGE), !(i & 1));
	ck_assert_uint_eq(frames_held(), held);
	ck_assert_uint_le(nr_mappings(mem, 64), 2);
	ck_assert_uint_le(nr_mappings(mem, 128), 34);
	mem[3 * PAGE] ^= 1;
	mem[66 * PAGE] ^= 1;
	mem[67 * PAGE] ^= 1;
	pid = fork();
	if (pid == 0) {
		mem[3 * PAGE] ^= 1;
		mem[66 * PAGE] ^= 1;
		mem[67 * PAGE] ^= 1;
		check_inlays(mem);
		_exit(0);
	}
	waitpid(pid, &status, 0);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	mem[3 * PAGE] ^= 1;
	mem[66 * PAGE] ^= 1;
	mem[67 * PAGE] ^= 1;
	ck_assert_int_eq(ksm_madvise(mem, 128 * PAGE, MADV_UNMERGEABLE), 0);
	check_inlays(mem);
	for (uint32_t i = 0; i < 128; i++)
		ck_assert(!on_frame(mem + i * PAGE));
	ck_assert_uint_le(nr_mappings(mem, 128), 4);
	fake_stop();
}
END_TEST

/* What is given back reads as zeros, and what is not stays. */
START_TEST(test_inlaid_pages_are_given_back)
{
	struct puppet p;
	union ksm_msg m;
	uint8_t *mem;

	start_joined(&p, &mem, 128);
	inlay_blocks(&p, mem);
	ck_assert_int_eq(ksm_madvise(mem + 5 * PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	fake_recv(&p, KSM_MSG_FORGET, &m);
	check_zero(mem + 5 * PAGE, 2 * PAGE);
	for (uint32_t i = 0; i < 5; i++)
		ck_assert_int_eq(mem[i * PAGE], (uint8_t)((i + 1) * 0x9e3779b97f4a7c15ull + 1));
	fake_stop();
}
END_TEST

/*
 * A process that may have pages pinned gives up no test for pins. Seen to fail (INLAID) without
 * inlay_may().
 */
START_TEST(test_no_inlays_beside_direct_io)
{
	int direct = open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC | O_DIRECT, 0600);
	uint32_t frame[64];
	uint8_t *mem, res[64];
	struct puppet p;

	if (direct < 0) {
		printf("SKIP: no O_DIRECT on /var/tmp\n");
		return;
	}
	start_joined(&p, &mem, 64);
	for (uint32_t i = 0; i < 64; i++)
		frame[i] = i & 1 ? KSM_FRAME_INLAY : i;
	order_inlays(&p, mem, frame, res);
	expect_all(res, 64, KSM_RES_PLAIN);
	check_fill(mem, 64, 1);
	close(direct);
	fake_stop();
}
END_TEST

/* Where one cannot be moved or has nothing to go on from, the mapping ends, and all bytes stay. */
START_TEST(test_inlays_that_cannot_be)
{
	struct puppet p;
	union ksm_msg m;
	uint32_t frame[64];
	uint8_t *mem, res[64];

	start_joined(&p, &mem, 64);
	for (uint32_t i = 0; i < 64; i++)
		frame[i] = i & 1 ? KSM_FRAME_INLAY : i;
	frame[0] = KSM_FRAME_INLAY;
	fake.frames[8 * PAGE] ^= 1;
	ck_assert_int_eq(ksm_madvise(mem + 21 * PAGE, PAGE, MADV_DONTNEED), 0);
	fake_recv(&p, KSM_MSG_FORGET, &m);
	order_inlays(&p, mem, frame, res);
	for (uint32_t i = 0; i < 64; i++) {
		uint8_t want = i & 1 ? KSM_RES_INLAID : KSM_RES_MERGED;

		if (i < 2 || i == 9 || i == 21)
			want = KSM_RES_GONE;
		if (i == 8)
			want = KSM_RES_DIFFERENT;
		ck_assert_msg(res[i] == want, "page %u: %u, wanted %u", i, res[i], want);
	}
	check_fill(mem, 21, 1);
	check_zero(mem + 21 * PAGE, PAGE);
	ck_assert_int_eq(memcmp(mem + 22 * PAGE, fake.frames + 22 * PAGE, 42 * PAGE), 0);
	fake_stop();
}
END_TEST

START_TEST(test_merge_maps_frames)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 128);
	order(&p, mem, 64, 0, res);
	expect_all(res, 64, KSM_RES_MERGED);
	order(&p, mem + 80 * PAGE, 20, 80, res);
	expect_all(res, 20, KSM_RES_MERGED);
	for (int i = 0; i < 128; i++)
		ck_assert_int_eq(on_frame(mem + i * PAGE), i < 64 || (i >= 80 && i < 100));
	check_fill(mem, 128, 1);
	/* A write is private, the frame stays. */
	mem[5 * PAGE] ^= 0xff;
	ck_assert(!on_frame(mem + 5 * PAGE));
	check_fill(fake.frames, 128, 1);
	fake_stop();
}
END_TEST

/* Threads that load from all pages of a block, round after round. */
enum { LOADERS = 3 };
static struct loads {
	const uint8_t *mem;
	_Atomic bool stop;
	_Atomic uint64_t rounds[LOADERS];
	_Atomic int nr;
} loads;

static void *load_all(void *arg)
{
	int me = atomic_fetch_add(&loads.nr, 1);

	(void)arg;
	while (!loads.stop) {
		for (int i = 0; i < 64; i++)
			(void)*(volatile const uint8_t *)(loads.mem + i * PAGE);
		loads.rounds[me]++;
	}
	return NULL;
}

/*
 * A thread that reaches a page just as the agent finishes with it goes on, too. Seen to fail after
 * a few rounds when uffd_release() does not wake threads: the kernel's own wake-up comes too early
 * for some (see there).
 */
START_TEST(test_no_load_waits_for_ever)
{
	pthread_t t[LOADERS];
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	loads.mem = mem;
	for (int i = 0; i < LOADERS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, load_all, NULL), 0);
	for (int round = 0; round < 300; round++) {
		uint64_t seen[LOADERS];

		memset(mem, 0, BLOCK);
		order(&p, mem, 64, KSM_FRAME_ZERO, res);
		for (int i = 0; i < LOADERS; i++)
			seen[i] = loads.rounds[i];
		for (int i = 0; i < LOADERS; i++)
			wait_until(loads.rounds[i] >= seen[i] + 2, WAIT_MS, "a thread goes on");
	}
	loads.stop = true;
	for (int i = 0; i < LOADERS; i++)
		pthread_join(t[i], NULL);
	check_zero(mem, BLOCK);
	fake_stop();
}
END_TEST

/* Seen to fail (MERGED) when compare() in inplace.c takes pages for equal without comparing. */
START_TEST(test_broken_pages_merge_again)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	for (int i = 0; i < 10; i++)
		mem[i * PAGE] ^= 0xff;
	for (int i = 0; i < 8; i++)
		mem[i * PAGE] ^= 0xff;
	order(&p, mem, 64, 0, res);
	for (int i = 0; i < 64; i++) {
		bool differs = i == 8 || i == 9;

		ck_assert_uint_eq(res[i], differs ? KSM_RES_DIFFERENT : KSM_RES_MERGED);
		ck_assert_int_eq(on_frame(mem + i * PAGE), !differs);
	}
	/* To other frames of the same contents, as when an earlier daemon's are given up. */
	memcpy(fake.frames + 200 * PAGE, fake.frames + 20 * PAGE, 40 * PAGE);
	order(&p, mem + 20 * PAGE, 40, 200, res);
	expect_all(res, 40, KSM_RES_MERGED);
	mem[8 * PAGE] ^= 0xff;
	mem[9 * PAGE] ^= 0xff;
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* Put pages of `mem` on frames from `frame` on, said to be copies of those from `from` on. */
static void order_copies(struct puppet *p, const uint8_t *mem, uint32_t from, uint32_t frame,
			 uint8_t result[64])
{
	fake.from = from + 1;
	order(p, mem, 64, frame, result);
	fake.from = 0;
}

/*
 * The daemon is trusted with what it copied, and with nothing that stands in the program. Seen to
 * fail when are_copied() does not ask whether pages are private, or where they stand.
 */
START_TEST(test_copies_of_frames)
{
	uint8_t *mem, *frames, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	frames = fake.frames;
	order(&p, mem, 64, 0, res);
	memcpy(frames + 200 * PAGE, frames, 64 * PAGE);
	order_copies(&p, mem, 0, 200, res);
	expect_all(res, 64, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	/* A page was written since. */
	memcpy(frames + 300 * PAGE, frames, 64 * PAGE);
	mem[5 * PAGE] ^= 0xff;
	order_copies(&p, mem, 200, 300, res);
	for (int i = 0; i < 64; i++)
		ck_assert_uint_eq(res[i], i == 5 ? KSM_RES_DIFFERENT : KSM_RES_MERGED);
	mem[5 * PAGE] ^= 0xff;
	check_fill(mem, 64, 1);
	order(&p, mem, 64, 300, res);
	expect_all(res, 64, KSM_RES_MERGED);
	/* Pages stand elsewhere than the daemon says. */
	memset(frames + 400 * PAGE, 0x5a, 64 * PAGE);
	order_copies(&p, mem, 200, 400, res);
	expect_all(res, 64, KSM_RES_DIFFERENT);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* As order_copies(), for blocks that follow each other; their orders wait for the agent. */
static void order_run(struct puppet *p, const uint8_t *mem, unsigned int blocks, uint32_t from,
		      uint32_t frame, uint8_t *result)
{
	struct ksm_msg_order t = { .hdr = { KSM_MSG_ORDER, sizeof(t) }, .seq = p->seq };
	union ksm_msg m;

	for (unsigned int b = 0; b < blocks; b++) {
		t.id = ++fake.next_order;
		t.from = from + b * 64 + 1;
		t.addr = (uintptr_t)mem + b * BLOCK;
		for (unsigned int i = 0; i < 64; i++)
			t.frame[i] = frame + b * 64 + i;
		ck_assert_int_eq(send(p->sock, &t, sizeof(t), 0), sizeof(t));
	}
	for (unsigned int b = 0; b < blocks; b++) {
		fake_recv(p, KSM_MSG_ORDER_DONE, &m);
		ck_assert_uint_eq(m.order_done.id, fake.next_order - blocks + 1 + b);
		memcpy(result + b * 64, m.order_done.result, 64);
	}
}

/*
 * Orders that are one run are carried out together, and ask of every page what an order by itself
 * asks. Seen to fail when replace_together() does not look at what stands there.
 */
START_TEST(test_copies_of_a_run)
{
	enum { BLOCKS = 6, PAGES = BLOCKS * 64, WRITTEN = 2 * 64 + 7 };
	uint8_t *mem, res[PAGES];
	struct puppet p;

	start_joined(&p, &mem, PAGES);
	for (unsigned int b = 0; b < BLOCKS; b++)
		order(&p, mem + b * BLOCK, 64, b * 64, res);
	memcpy(fake.frames + 512 * PAGE, fake.frames, PAGES * PAGE);
	order_run(&p, mem, BLOCKS, 0, 512, res);
	expect_all(res, PAGES, KSM_RES_MERGED);
	check_fill(mem, PAGES, 1);
	/* All stand on the new frames. */
	memset(fake.frames, 0x5a, PAGES * PAGE);
	check_fill(mem, PAGES, 1);
	memcpy(fake.frames + 1024 * PAGE, fake.frames + 512 * PAGE, PAGES * PAGE);
	mem[WRITTEN * PAGE] ^= 0xff;
	order_run(&p, mem, BLOCKS, 512, 1024, res);
	for (int i = 0; i < PAGES; i++) {
		ck_assert_uint_eq(res[i], i == WRITTEN ? KSM_RES_DIFFERENT : KSM_RES_MERGED);
		ck_assert_int_eq(on_frame(mem + i * PAGE), i != WRITTEN);
	}
	mem[WRITTEN * PAGE] ^= 0xff;
	check_fill(mem, PAGES, 1);
	/* One that was put elsewhere, of which the daemon says that it stands with the others. */
	memcpy(fake.frames + (2048 + WRITTEN) * PAGE, mem + WRITTEN * PAGE, PAGE);
	order(&p, mem + WRITTEN * PAGE, 1, 2048 + WRITTEN, res);
	expect_all(res, 1, KSM_RES_MERGED);
	memset(fake.frames + 1536 * PAGE, 0x5a, PAGES * PAGE);
	order_run(&p, mem, BLOCKS, 1024, 1536, res);
	ck_assert_uint_eq(res[WRITTEN], KSM_RES_DIFFERENT);
	ck_assert_int_eq(memcmp(mem + WRITTEN * PAGE, fake.frames + (2048 + WRITTEN) * PAGE, PAGE),
			 0);
	fake_stop();
}
END_TEST

/* Seen to fail (MERGED) when map_equal() in replace.c takes pages for equal without comparing. */
START_TEST(test_different_pages_stay)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	mem[3 * PAGE + 17]++;
	mem[63 * PAGE + 4095]++;
	order(&p, mem, 64, 0, res);
	for (int i = 0; i < 64; i++) {
		bool differs = i == 3 || i == 63;

		ck_assert_uint_eq(res[i], differs ? KSM_RES_DIFFERENT : KSM_RES_MERGED);
		ck_assert_int_eq(on_frame(mem + i * PAGE), !differs);
	}
	mem[3 * PAGE + 17]--;
	mem[63 * PAGE + 4095]--;
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* ---- an order in parts ---- */

#define ARG_LOW(i) ((uint32_t)(offsetof(struct seccomp_data, args) + (i)*8))

/* Have the agent stop where it maps over `page`, and where it reads the arena at `offset`. */
static int hold_agent(const void *page, uint64_t offset)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mremap, 0, 2),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(4)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(uintptr_t)page, 3, 4),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARG_LOW(3)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)offset, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };
	unsigned long flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC |
			      SECCOMP_FILTER_FLAG_TSYNC_ESRCH;
	long fd;

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter);
	ck_assert_msg(fd >= 0, "seccomp: %s", strerror(errno));
	return (int)fd;
}

static struct seccomp_notif wait_held(int listener)
{
	struct pollfd p = { listener, POLLIN, 0 };
	struct seccomp_notif n;

	memset(&n, 0, sizeof(n));
	ck_assert_int_eq(poll(&p, 1, 10000), 1);
	ck_assert_int_eq(ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &n), 0);
	return n;
}

static void let_go(int listener, const struct seccomp_notif *n)
{
	struct seccomp_notif_resp r = { .id = n->id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE };

	ck_assert_int_eq(ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &r), 0);
}

static struct {
	const uint8_t *from, *to; /* pages to read */
	_Atomic pid_t tid;
	_Atomic bool done;
} reader;

static void *reader_main(void *arg)
{
	(void)arg;
	atomic_store(&reader.tid, gettid());
	for (const uint8_t *p = reader.from; p < reader.to; p += PAGE)
		*(volatile const uint8_t *)p;
	atomic_store(&reader.done, true);
	return NULL;
}

static pthread_t reader_start(const uint8_t *from, const uint8_t *to)
{
	pthread_t t;

	reader.from = from;
	reader.to = to;
	atomic_store(&reader.tid, 0);
	atomic_store(&reader.done, false);
	ck_assert_int_eq(pthread_create(&t, NULL, reader_main, NULL), 0);
	return t;
}

static bool reader_sleeps(void)
{
	char path[64], state = 0;
	pid_t tid = atomic_load(&reader.tid);
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	f = tid ? fopen(path, "r") : NULL;
	if (f && fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
		state = 0;
	if (f)
		fclose(f);
	return state == 'S' || state == 'D';
}

/* Of every step-th page of a block from the first on, each for a frame of its own of its bytes. */
static struct ksm_msg_order order_of_single_pages(const struct puppet *p, const uint8_t *mem,
						  unsigned int first, unsigned int step)
{
	struct ksm_msg_order t = { .hdr = { KSM_MSG_ORDER, sizeof(t) }, .id = 1 };

	t.addr = (uintptr_t)mem;
	t.seq = p->seq;
	memset(t.frame, 0xff, sizeof(t.frame)); /* KSM_FRAME_NONE */
	for (unsigned int i = first; i < 64; i += step) {
		t.frame[i] = 1000 + 2 * i;
		memcpy(fake.frames + t.frame[i] * PAGE, mem + i * PAGE, PAGE);
	}
	return t;
}

/* Takes and arms what was written in nr pages from p on. Returns how many, or -1 if not tracked. */
#define PM_SCAN_CHECK_WPASYNC (1u << 1)
static long written(const void *p, size_t nr)
{
	struct kabi_page_region v[64];
	struct kabi_pm_scan_arg scan = {
		.size = sizeof(scan),
		.flags = KABI_PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + nr * PAGE,
		.vec = (uintptr_t)v,
		.vec_len = 64,
		.category_mask = KABI_PAGE_IS_WRITTEN,
		.return_mask = KABI_PAGE_IS_WRITTEN,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int n = ioctl(fd, KABI_PAGEMAP_SCAN, &scan);
	long pages = 0;

	close(fd);
	for (int i = 0; i < n; i++)
		pages += (long)((v[i].end - v[i].start) / PAGE);
	return n < 0 ? -1 : pages;
}

static void *lock_main(void *arg)
{
	struct as_guard g;

	as_enter(&g);
	atomic_store((_Atomic bool *)arg, true);
	as_leave(&g);
	return NULL;
}

#define TOGETHER 5u /* blocks: the first by itself, and then as many as go together */

/* Every eighth page of each block, each for a frame of its own of its bytes. */
static void orders_of_blocks(const struct puppet *p, const uint8_t *mem, struct ksm_msg_order *t)
{
	for (uint32_t b = 0; b < TOGETHER; b++) {
		t[b] = (struct ksm_msg_order){ .hdr = { KSM_MSG_ORDER, sizeof(t[b]) },
					       .id = b + 1,
					       .addr = (uintptr_t)mem + b * BLOCK,
					       .seq = p->seq };
		memset(t[b].frame, 0xff, sizeof(t[b].frame));
		for (unsigned int i = 0; i < 64; i += 8) {
			t[b].frame[i] = 500 + 16 * b + 2 * (i / 8);
			memcpy(fake.frames + t[b].frame[i] * PAGE, mem + b * BLOCK + i * PAGE,
			       PAGE);
		}
	}
}

/* The first one waits for the lock, so that the agent finds the others together. */
static void send_together(const struct puppet *p, const struct ksm_msg_order *t)
{
	struct as_guard g;

	as_enter(&g);
	ck_assert_int_eq(send(p->sock, &t[0], sizeof(t[0]), 0), sizeof(t[0]));
	wait_until(atomic_load(&as.lock.word) == AS_LOCK_WAITED, 10000, "the first one waits");
	for (uint32_t b = 1; b < TOGETHER; b++)
		ck_assert_int_eq(send(p->sock, &t[b], sizeof(t[b]), 0), sizeof(t[b]));
	as_leave(&g);
}

/*
 * Orders that wait in the socket are carried out together, and yet a thread of the program gets the
 * lock between two. Seen to fail: the third block tracked, with TXN_ORDERS 1; no lock within 10 s
 * when replace_private() does not look at as.waiting; and the fourth one merged when the first
 * one's number counts for all.
 */
START_TEST(test_orders_that_come_together)
{
	_Atomic bool locked = false;
	struct ksm_msg_order t[TOGETHER];
	struct seccomp_notif n;
	union ksm_msg m;
	struct puppet p;
	pthread_t thread;
	uint8_t *mem;
	int listener;

	start_joined(&p, &mem, TOGETHER * 64);
	orders_of_blocks(&p, mem, t);
	t[3].seq--;
	listener = hold_agent(mem + BLOCK, t[2].frame[0] * PAGE);
	send_together(&p, t);

	n = wait_held(listener); /* in the second one */
	ck_assert_int_eq(written(mem + 2 * BLOCK, 1), -1);
	ck_assert_int_ge(written(mem + 3 * BLOCK, 1), 0);
	pthread_create(&thread, NULL, lock_main, &locked);
	wait_until(atomic_load(&as.waiting), 10000, "a thread wants the lock");
	ck_assert(!atomic_load(&locked));
	let_go(listener, &n);
	n = wait_held(listener); /* in the third one */
	wait_until(atomic_load(&locked), 10000, "it has had the lock");
	pthread_join(thread, NULL);
	let_go(listener, &n);

	for (uint32_t b = 0; b < TOGETHER; b++) {
		fake_recv(&p, KSM_MSG_ORDER_DONE, &m);
		ck_assert_uint_eq(m.order_done.id, t[b].id);
		for (unsigned int i = 0; i < 64; i++) {
			bool merged = i % 8 == 0 && b != 3;

			ck_assert_uint_eq(m.order_done.result[i], merged     ? KSM_RES_MERGED :
								  i % 8 == 0 ? KSM_RES_STALE :
									       KSM_RES_NONE);
			ck_assert_int_eq(on_frame(mem + b * BLOCK + i * PAGE), merged);
		}
	}
	check_fill(mem, TOGETHER * 64, 1);
	fake_stop();
}
END_TEST

/*
 * Of orders that are carried out together, one gives pages of zeros back. A thread that comes to
 * one of them waits for the order that is under way, and not for all. Seen to fail (it is not done
 * within 10 s) when uffd_serve() fills no holes.
 */
START_TEST(test_holes_wait_for_one_order)
{
	struct ksm_msg_order t[TOGETHER];
	struct seccomp_notif n;
	union ksm_msg m;
	struct puppet p;
	pthread_t thread;
	uint8_t *mem;
	int listener;

	start_joined(&p, &mem, TOGETHER * 64);
	orders_of_blocks(&p, mem, t);
	memset(mem + BLOCK, 0, BLOCK);
	for (unsigned int i = 0; i < 64; i++)
		t[1].frame[i] = KSM_FRAME_ZERO;
	listener = hold_agent(mem + 2 * BLOCK, t[3].frame[0] * PAGE);
	send_together(&p, t);

	n = wait_held(listener); /* in the third one */
	thread = reader_start(mem + BLOCK, mem + BLOCK + PAGE);
	wait_until(reader_sleeps(), 10000, "waits for a page that was given back");
	let_go(listener, &n);
	n = wait_held(listener); /* in the fourth one */
	wait_until(atomic_load(&reader.done), 10000, "the page is there");
	pthread_join(thread, NULL);
	let_go(listener, &n);

	for (uint32_t b = 0; b < TOGETHER; b++) {
		fake_recv(&p, KSM_MSG_ORDER_DONE, &m);
		for (unsigned int i = 0; i < 64; i++)
			ck_assert_uint_eq(m.order_done.result[i],
					  b == 1 || i % 8 == 0 ? KSM_RES_MERGED : KSM_RES_NONE);
	}
	check_zero(mem + BLOCK, BLOCK);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/*
 * Where each page needs a mapping of its own, few pages are out at a time. The agent is held where
 * the first page is out (it maps its frame), and where it prepares the last one. Seen to fail, both
 * not within 10 s, with CHUNK_RUNS 64; the first one without the wake-up behind a chunk.
 */
START_TEST(test_pages_are_out_for_a_short_time)
{
	struct seccomp_notif n;
	int listener;
	struct ksm_msg_order t;
	union ksm_msg m;
	struct puppet p;
	pthread_t thread;
	uint8_t *mem;

	start_joined(&p, &mem, 64);
	t = order_of_single_pages(&p, mem, 0, 1);
	listener = hold_agent(mem, t.frame[63] * PAGE);
	ck_assert_int_eq(send(p.sock, &t, sizeof(t), 0), sizeof(t));

	n = wait_held(listener);
	thread = reader_start(mem, mem + PAGE);
	wait_until(reader_sleeps(), 10000, "waits for a page that is out");
	let_go(listener, &n);

	n = wait_held(listener);
	wait_until(atomic_load(&reader.done), 10000, "a page that was replaced can be read");
	pthread_join(thread, NULL);
	ck_assert(on_frame(mem));
	thread = reader_start(mem, mem + 64 * PAGE);
	wait_until(atomic_load(&reader.done), 10000,
		   "pages that wait for their frames can be read");
	pthread_join(thread, NULL);
	ck_assert(!on_frame(mem + 63 * PAGE));
	let_go(listener, &n);

	fake_recv(&p, KSM_MSG_ORDER_DONE, &m);
	expect_all(m.order_done.result, 64, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	for (unsigned int i = 0; i < 64; i++)
		ck_assert(on_frame(mem + i * PAGE));
	fake_stop();
}
END_TEST

/*
 * Single pages of an order: each is out by itself, and what lies between them stays tracked. Seen
 * to fail: the reader not done within 10 s, when all pages of a chunk are moved out first; 41 pages
 * written in place of 2, with MAX_GAP 64; -1 when stretches_track() does nothing.
 */
START_TEST(test_pages_apart)
{
	struct seccomp_notif n;
	int listener;
	struct ksm_msg_order t;
	union ksm_msg m;
	struct puppet p;
	pthread_t thread;
	uint8_t *mem;

	start_joined(&p, &mem, 64);
	t = order_of_single_pages(&p, mem, 8, 40);
	ck_assert_int_eq(written(mem, 64), 64);
	ck_assert_int_eq(written(mem, 64), 0);
	listener = hold_agent(mem + 8 * PAGE, 0);
	ck_assert_int_eq(send(p.sock, &t, sizeof(t), 0), sizeof(t));

	n = wait_held(listener);
	thread = reader_start(mem + 9 * PAGE, mem + 64 * PAGE);
	wait_until(atomic_load(&reader.done), 10000, "a page of the same order can be read");
	pthread_join(thread, NULL);
	thread = reader_start(mem, mem + 9 * PAGE);
	wait_until(reader_sleeps(), 10000, "waits for a page that is out");
	let_go(listener, &n);
	pthread_join(thread, NULL);

	fake_recv(&p, KSM_MSG_ORDER_DONE, &m);
	for (unsigned int i = 0; i < 64; i++) {
		bool is = t.frame[i] != KSM_FRAME_NONE;

		ck_assert_uint_eq(m.order_done.result[i], is ? KSM_RES_MERGED : KSM_RES_NONE);
		ck_assert(on_frame(mem + i * PAGE) == is);
	}
	ck_assert_int_eq(written(mem, 64), 2);
	mem[8 * PAGE]++;
	mem[9 * PAGE]++;
	ck_assert_int_eq(written(mem, 64), 2);
	mem[8 * PAGE]--;
	mem[9 * PAGE]--;
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* Seen to fail (MERGED) when compare_zeros() does not look whether the page is zeros. */
START_TEST(test_zero_pages_are_given_back)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	memset(mem, 0, 10 * PAGE);
	mem[4 * PAGE + 100] = 1;
	order(&p, mem, 10, KSM_FRAME_ZERO, res);
	for (int i = 0; i < 10; i++) {
		ck_assert_uint_eq(res[i], i == 4 ? KSM_RES_DIFFERENT : KSM_RES_MERGED);
		ck_assert_int_eq(!!(pagemap(mem + i * PAGE) & PM_PRESENT), i == 4);
	}
	ck_assert_uint_eq(mem[4 * PAGE + 100], 1);
	mem[4 * PAGE + 100] = 0;
	check_zero(mem, 10 * PAGE);
	fake_stop();
}
END_TEST

/* Seen to fail (MERGED) when txn_execute() does not compare the order's number with its own. */
START_TEST(test_stale_and_foreign_orders)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	order_at(&p, mem, 64, 0, p.seq - 1, res);
	expect_all(res, 64, KSM_RES_STALE);
	/* Memory that was never offered, frames that do not exist, holes. */
	order(&p, (void *)((uintptr_t)&p & ~(PAGE - 1)), 1, 0, res);
	expect_all(res, 1, KSM_RES_GONE);
	order(&p, mem, 4, ARENA_PAGES - 2, res);
	expect_all(res, 4, KSM_RES_GONE);
	ck_assert_int_eq(ksm_madvise(mem + 8 * PAGE, 8 * PAGE, MADV_DONTNEED), 0);
	fake_recv(&p, KSM_MSG_FORGET, &m);
	order(&p, mem, 32, 0, res);
	for (int i = 0; i < 32; i++)
		ck_assert_uint_eq(res[i], i >= 8 && i < 16 ? KSM_RES_GONE : KSM_RES_MERGED);
	check_fill(mem, 8, 1);
	check_fill(mem, 0, 1);
	fake_stop();
}
END_TEST

/* Seen to fail (the frames' bytes) when ops_empty_frames() does nothing. */
START_TEST(test_dontneed_gives_zeros)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	ck_assert_int_eq(ksm_madvise(mem + PAGE, 2 * PAGE, MADV_DONTNEED), 0);
	check_zero(mem + PAGE, 2 * PAGE);
	fake_recv(&p, KSM_MSG_FORGET, &m);
	ck_assert_uint_eq(m.range.start, (uintptr_t)mem + PAGE);
	/* The memory is anonymous again and can be merged again. */
	memcpy(mem + PAGE, fake.frames + PAGE, 2 * PAGE);
	order(&p, mem + PAGE, 2, 1, res);
	expect_all(res, 2, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

START_TEST(test_unmerge_restores_anonymous_memory)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 128);
	order(&p, mem, 64, 0, res);
	order(&p, mem + BLOCK, 64, 64, res);
	mem[7 * PAGE] ^= 1; /* one broken page among them */
	ck_assert_int_eq(ksm_madvise(mem, 32 * PAGE, MADV_UNMERGEABLE), 0);
	for (int i = 0; i < 128; i++)
		ck_assert_int_eq(on_frame(mem + i * PAGE), i >= 32);
	mem[7 * PAGE] ^= 1;
	check_fill(mem, 128, 1);
	fake_recv(&p, KSM_MSG_DEL, &m);
	ck_assert_uint_eq(m.range.end, (uintptr_t)mem + 32 * PAGE);
	/* Not offered any more ... */
	order(&p, mem, 32, 0, res);
	expect_all(res, 32, KSM_RES_GONE);
	/* ... until it is again; all but the broken page are plain memory. */
	ck_assert_int_eq(ksm_madvise(mem, 32 * PAGE, MADV_MERGEABLE), 0);
	fake_recv(&p, KSM_MSG_ADD, &m);
	order(&p, mem, 32, 0, res);
	expect_all(res, 32, KSM_RES_MERGED);
	check_fill(mem, 128, 1);
	fake_stop();
}
END_TEST

START_TEST(test_unmerge_of_prot_none)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	ck_assert_int_eq(ksm_mprotect(mem, 64 * PAGE, PROT_NONE), 0);
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_UNMERGEABLE), 0);
	ck_assert_int_eq(ksm_mprotect(mem, 64 * PAGE, PROT_READ | PROT_WRITE), 0);
	for (int i = 0; i < 64; i++)
		ck_assert(!on_frame(mem + i * PAGE));
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

START_TEST(test_mremap_takes_frames_along)
{
	uint8_t *mem, *to, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	order(&p, mem + 4 * PAGE, 20, 4, res);
	order(&p, mem + 40 * PAGE, 3, 40, res);
	to = ksm_mmap(NULL, 200 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_eq(ksm_mremap(mem, 64 * PAGE, 100 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 to);
	check_fill(to, 64, 1);
	for (int i = 0; i < 64; i++)
		ck_assert_int_eq(on_frame(to + i * PAGE),
				 (i >= 4 && i < 24) || (i >= 40 && i < 43));
	check_zero(to + 64 * PAGE, 36 * PAGE);
	fake_recv(&p, KSM_MSG_ADOPT, &m);
	while (p.adopt[p.nr_adopted - 1].addr != (uintptr_t)to + 40 * PAGE)
		fake_recv(&p, KSM_MSG_ADOPT, &m);
	ck_assert_uint_eq(p.adopt[p.nr_adopted - 1].frame, 40);
	ck_assert_uint_eq(p.adopt[p.nr_adopted - 1].nr_pages, 3);
	/* In place, shrink, and the rest stays mergeable. */
	ck_assert_ptr_eq(ksm_mremap(to, 100 * PAGE, 30 * PAGE, 0, NULL), to);
	check_fill(to, 30, 1);
	ck_assert_ptr_eq(ksm_mremap(to, 30 * PAGE, 31 * PAGE, MREMAP_MAYMOVE, NULL), to);
	ck_assert_uint_eq(to[30 * PAGE], 0);
	fake_stop();
}
END_TEST

/*
 * The program has one mapping. The kernel has two, since only the second half is offered. A move to
 * a fixed place must take both. Linux 6.17 and later move the first of several mappings and refuse
 * the second with EFAULT, because it is in a userfaultfd. Seen to fail there (EFAULT, and the first
 * half gone from its place) without is_one_mapping() in ops_remap.c, when the library asked the
 * kernel first. _i: split once more, by mprotect(2).
 */
START_TEST(test_mremap_of_several_mappings_to_a_fixed_place)
{
	uint8_t *mem, *to, res[64];
	struct puppet p;
	union ksm_msg m;

	fake_start();
	mem = make_memory(128, 1);
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_UNMERGEABLE), 0);
	if (_i)
		ck_assert_int_eq(ksm_mprotect(mem + 96 * PAGE, PAGE, PROT_READ), 0);
	fake_accept(&p);
	fake_recv(&p, KSM_MSG_READY, &m);
	/* Answered, so all that was offered stands in the userfaultfd. */
	order(&p, mem + 64 * PAGE, 1, KSM_FRAME_NONE, res);
	to = ksm_mmap(NULL, 192 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	to = (uint8_t *)(((uintptr_t)to + BLOCK - 1) & ~(BLOCK - 1));
	ck_assert_ptr_eq(ksm_mremap(mem, 128 * PAGE, 128 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 to);
	check_fill(to, 128, 1);
	ck_assert(!knows((uintptr_t)mem, (uintptr_t)mem + 128 * PAGE));
	do
		fake_recv(&p, KSM_MSG_ADD, &m);
	while (m.range.end != (uintptr_t)to + 128 * PAGE);
	order(&p, to + 64 * PAGE, 32, 64, res);
	expect_all(res, 32, KSM_RES_MERGED);
	check_fill(to, 128, 1);
	fake_stop();
}
END_TEST

static void limit_address_space(long more)
{
	struct rlimit lim;
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long pages;

	ck_assert_int_eq(fscanf(f, "%lu", &pages), 1);
	fclose(f);
	getrlimit(RLIMIT_AS, &lim);
	lim.rlim_cur = more < 0 ? lim.rlim_max : pages * PAGE + (unsigned long)more;
	ck_assert_int_eq(setrlimit(RLIMIT_AS, &lim), 0);
}

struct flight {
	uint8_t *mem, *to;
	size_t nr;
	int pagemap;
	bool moved;
};

/* As soon as the first page is withdrawn, the last ones go to a place before it. */
static void *move_the_rest(void *arg)
{
	struct flight *f = arg;
	uint8_t *tail = f->mem + (f->nr - 64) * PAGE;
	uint64_t entry = PM_FILE;

	while (entry & PM_FILE)
		ck_assert_int_eq(pread(f->pagemap, &entry, 8, (uintptr_t)f->mem / PAGE * 8), 8);
	f->moved = ksm_mremap(tail, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, f->to) ==
		   f->to;
	return NULL;
}

/* Pages on frames, and room before them. */
static void flight_start(struct flight *f, size_t nr, struct puppet *p)
{
	uint8_t *space, res[64];
	union ksm_msg m;

	fake_start();
	space = ksm_mmap(NULL, (nr + 256) * PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	f->nr = nr;
	f->to = space;
	f->mem = (uint8_t *)(((uintptr_t)space + 64 * PAGE + BLOCK - 1) & ~(BLOCK - 1));
	f->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	fill(f->mem, nr, 1);
	fill(fake.frames, nr, 1);
	ck_assert_int_eq(ksm_madvise(f->mem, nr * PAGE, MADV_MERGEABLE), 0);
	fake_accept(p);
	fake_recv(p, KSM_MSG_ADD, &m);
	for (unsigned int i = 0; i < nr; i += 64) {
		order(p, f->mem + i * PAGE, 64, i, res);
		expect_all(res, 64, KSM_RES_MERGED);
	}
}

static void flight_end(struct flight *f)
{
	ck_assert(f->moved);
	for (int i = 0; i < 64; i++)
		ck_assert(!on_frame(f->to + i * PAGE));
	check_fill(f->mem, f->nr - 64, 1);
	ck_assert_int_eq(memcmp(f->to, fake.frames + (f->nr - 64) * PAGE, 64 * PAGE), 0);
	close(f->pagemap);
	fake_stop();
}

/*
 * One thread moves memory while another withdraws it: the moved memory is withdrawn as well. Seen
 * to fail when mremap did not wait: the moved pages kept their frames, although the library had
 * told the daemon that no page has them.
 */
START_TEST(test_mremap_under_a_withdrawal)
{
	struct flight f;
	struct puppet p;
	pthread_t t;

	flight_start(&f, 4096 - 64, &p);
	pthread_create(&t, NULL, move_the_rest, &f);
	/* ENOMEM when it sees the hole that the move has left. */
	ksm_madvise(f.to, (size_t)(f.mem - f.to) + f.nr * PAGE, MADV_UNMERGEABLE);
	pthread_join(t, NULL);
	flight_end(&f);
}
END_TEST

/*
 * The kernel moves memory without frames, and needs room for the growth alone. Seen to fail
 * (ENOMEM) when the library reserved a target of full size first.
 */
START_TEST(test_mremap_of_plain_memory_is_the_kernels)
{
	const size_t len = 256ul << 20;
	uint8_t *p, *q;

	fake_start();
	p = ksm_mmap(NULL, len + PAGE, PROT_READ | PROT_WRITE,
		     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ck_assert_ptr_ne(p, MAP_FAILED);
	ck_assert_int_eq(ksm_mprotect(p + len, PAGE, PROT_NONE), 0); /* it cannot grow in place */
	fill(p, 16, 1);
	limit_address_space(32l << 20);
	q = ksm_mremap(p, len, len + (16ul << 20), MREMAP_MAYMOVE, NULL);
	ck_assert_ptr_ne(q, MAP_FAILED);
	check_fill(q, 16, 1);
	check_zero(q + len, 16ul << 20);
	/* The tables have followed: known as one range, of which nothing is left behind. */
	ck_assert(covers((uintptr_t)q, (uintptr_t)q + len + (16ul << 20)));
	ck_assert(!knows((uintptr_t)p, (uintptr_t)p + len));
	fake_stop();
}
END_TEST

/*
 * Without memory for its tables the library does not move. Seen to fail (the move succeeded, and
 * MADV_DONTNEED showed the frames) when the library set the frame bits only afterwards.
 */
START_TEST(test_mremap_without_memory_for_tables)
{
	uint8_t *mem, *to, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	to = mmap((void *)(64ul << 40), 64 * PAGE, PROT_NONE,
		  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	ck_assert_ptr_eq(to, (void *)(64ul << 40)); /* a GiB that nothing was ever known of */
	limit_address_space(6 * PAGE);              /* a table of pieces, but no frame bits */
	if (ksm_mremap(mem, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
		       to) == to) {
		check_fill(to, 64, 1);
		ck_assert_int_eq(ksm_madvise(to, 64 * PAGE, MADV_DONTNEED), 0);
		check_zero(to, 64 * PAGE);
		ck_abort_msg("the limit does not bite");
	}
	ck_assert_int_eq(errno, ENOMEM);
	check_fill(mem, 64, 1);
	limit_address_space(-1);
	ck_assert_ptr_eq(ksm_mremap(mem, 64 * PAGE, 64 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to),
			 to);
	check_fill(to, 64, 1);
	ck_assert_int_eq(ksm_madvise(to, 64 * PAGE, MADV_DONTNEED), 0);
	check_zero(to, 64 * PAGE);
	fake_stop();
}
END_TEST

/* Take up every mapping that the process may have. */
static void use_up_mappings(void)
{
	const size_t len = 80000 * PAGE;
	uint8_t *p = mmap(NULL, len, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	for (size_t at = PAGE; at < len; at += 2 * PAGE)
		if (mprotect(p + at, PAGE, PROT_READ))
			return;
	harness_die("there is no limit of mappings below %zu", len / PAGE);
}

/*
 * A tail that cannot be cut off stays, and the library knows it. Seen to fail (success, the tail
 * still there) when the library ignored the result of munmap().
 */
START_TEST(test_mremap_that_cannot_shrink)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	use_up_mappings();
	ck_assert_ptr_eq(ksm_mremap(mem, 40 * PAGE, 20 * PAGE, 0, NULL), MAP_FAILED);
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_ptr_eq(ksm_mremap(mem, 40 * PAGE, 20 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
				    mem + (1ul << 30)),
			 MAP_FAILED);
	ck_assert_int_eq(errno, ENOMEM);
	check_fill(mem, 64, 1);
	ck_assert(covers((uintptr_t)mem, (uintptr_t)mem + 64 * PAGE));
	fake_stop();
}
END_TEST

START_TEST(test_closing_all_descriptors)
{
	uint8_t *mem, res[64];
	struct puppet p;

	/* As daemons do; only the test's own end of the socket is kept. */
	start_joined(&p, &mem, 64);
	for (int fd = 3; fd < 256; fd++)
		if (fd != p.sock)
			close(fd);
	order(&p, mem, 64, 0, res);
	expect_all(res, 64, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

static long io_uring_pin(void *buf, size_t len)
{
	struct io_uring_params params = { 0 };
	struct iovec iov = { buf, len };
	long ring = syscall(SYS_io_uring_setup, 1, &params);

	if (ring < 0)
		return -errno;
	if (syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &iov, 1) < 0)
		return -errno;
	return ring;
}

/*
 * Seen to fail (pages before the pinned ones are not MERGED) when staged() says that nothing was
 * moved.
 */
START_TEST(test_pinned_pages_stay)
{
	uint8_t *mem, res[64];
	struct puppet p;
	long ring;

	start_joined(&p, &mem, 64);
	ring = io_uring_pin(mem + 8 * PAGE, 4 * PAGE);
	if (ring < 0) {
		printf("SKIP: io_uring is not available here (%s)\n", strerror((int)-ring));
		fake_stop();
		return;
	}
	order(&p, mem, 64, 0, res);
	for (int i = 0; i < 64; i++)
		ck_assert_uint_eq(res[i], i >= 8 && i < 12 ? KSM_RES_BUSY : KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	close((int)ring);
	fake_stop();
}
END_TEST

/* A file whose descriptor is not O_DIRECT so far. */
static int plain_file(void)
{
	return open("/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
}

/*
 * A page that broke copy-on-write is anonymous memory in a file mapping, where the kernel offers no
 * test for pins. Seen to fail (MERGED in place of BUSY) with hold_may_be_pinned() returning false.
 */
START_TEST(test_broken_pages_that_may_be_pinned_stay)
{
	uint8_t *mem, res[64];
	struct puppet p;
	int direct = plain_file();

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	for (int i = 0; i < 4; i++) {
		volatile uint8_t *byte = mem + i * PAGE;

		*byte = *byte;
	}
	/* Any descriptor with O_DIRECT may have a read into these pages under way. */
	if (fcntl(direct, F_SETFL, O_DIRECT) == 0) {
		order(&p, mem, 8, 0, res);
		for (int i = 0; i < 8; i++)
			ck_assert_uint_eq(res[i], i < 4 ? KSM_RES_BUSY : KSM_RES_MERGED);
	} else {
		printf("SKIP: no O_DIRECT on /var/tmp\n");
	}
	close(direct);
	order(&p, mem, 8, 0, res);
	expect_all(res, 8, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/*
 * The kernel may be writing to them for io_submit(2) as well; its rings are found among the
 * mappings. Seen to fail (MERGED in place of BUSY) when none is.
 */
START_TEST(test_broken_pages_of_an_aio_process_stay)
{
	unsigned long ctx = 0;
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	*(volatile uint8_t *)mem ^= 0;
	if (syscall(SYS_io_setup, 8, &ctx)) {
		printf("SKIP: no io_setup(2) here\n");
	} else {
		order(&p, mem, 8, 0, res);
		for (int i = 0; i < 8; i++)
			ck_assert_uint_eq(res[i], i ? KSM_RES_MERGED : KSM_RES_BUSY);
		ck_assert_int_eq(syscall(SYS_io_destroy, ctx), 0);
	}
	order(&p, mem, 8, 0, res);
	expect_all(res, 8, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/*
 * A policy that was set by a raw system call keeps pages out, wherever it begins in an order of
 * many runs. Seen to fail (MERGED in place of GONE) when the third run's answer is taken for all.
 */
START_TEST(test_policy_in_the_middle_of_many_runs)
{
	unsigned long node = 1;
	uint32_t frame[64];
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	for (unsigned int i = 0; i < 64; i++)
		frame[i] = i % 2 ? KSM_FRAME_NONE : i;
	if (syscall(SYS_mbind, mem + 20 * PAGE, 13 * PAGE, MPOL_BIND, &node, 8, 0)) {
		printf("SKIP: this kernel has no NUMA policies\n");
	} else {
		order_inlays(&p, mem, frame, res);
		for (unsigned int i = 0; i < 64; i++)
			ck_assert_uint_eq(res[i], i % 2             ? KSM_RES_NONE :
						  i >= 20 && i < 33 ? KSM_RES_GONE :
								      KSM_RES_MERGED);
	}
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/*
 * Where every second page broke copy-on-write each is held by itself, and the look for means of
 * pinning is for several. Seen to fail: BUSY for pages that stand on frames when the answer is
 * taken for all pages of the order; MERGED in place of BUSY behind the eighth when it is taken for
 * the first group alone; DIFFERENT pages on frames when compare() compares nothing.
 */
START_TEST(test_broken_pages_one_by_one)
{
	uint32_t frame[64];
	uint8_t *mem, res[64];
	struct puppet p;
	int direct = plain_file();

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	memcpy(fake.frames + 100 * PAGE, fake.frames, 64 * PAGE);
	for (unsigned int i = 0; i < 64; i++)
		frame[i] = i % 4 == 1 ? KSM_FRAME_NONE : 100 + i;
	for (unsigned int i = 0; i < 64; i += 2)
		*(volatile uint8_t *)(mem + i * PAGE) ^= i == 34 ? 1 : 0;
	if (fcntl(direct, F_SETFL, O_DIRECT) == 0) {
		order_inlays(&p, mem, frame, res);
		for (unsigned int i = 0; i < 64; i++)
			ck_assert_uint_eq(res[i], i % 4 == 1 ? KSM_RES_NONE :
						  i % 2 == 0 ? KSM_RES_BUSY :
							       KSM_RES_MERGED);
	} else {
		printf("SKIP: no O_DIRECT on /var/tmp\n");
	}
	close(direct);
	order_inlays(&p, mem, frame, res);
	for (unsigned int i = 0; i < 64; i++) {
		ck_assert_uint_eq(res[i], i % 4 == 1 ? KSM_RES_NONE :
					  i == 34    ? KSM_RES_DIFFERENT :
						       KSM_RES_MERGED);
		ck_assert_int_eq(on_frame(mem + i * PAGE), i != 34);
	}
	mem[34 * PAGE] ^= 1;
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

struct poller {
	int epoll;
	struct epoll_event *at;
	_Atomic bool over;
};

static void *poll_on(void *arg)
{
	struct poller *p = arg;

	while (!p->over)
		ck_assert_int_eq(epoll_wait(p->epoll, p->at, 1, 0), 1);
	return NULL;
}

/*
 * Whoever stores events has a lock of the epoll instance, which the kernel takes to show that
 * descriptor's fdinfo, too. Here he does so all the time, in a page that is held while descriptors
 * are looked through. Seen to fail (no end) when fdinfo was read of each.
 */
START_TEST(test_epoll_events_into_a_held_page)
{
	struct epoll_event ready = { .events = EPOLLIN };
	int event = eventfd(1, EFD_CLOEXEC);
	struct poller poller = { .epoll = epoll_create1(EPOLL_CLOEXEC) };
	uint8_t *mem, res[64];
	pthread_t thread;
	struct puppet p;

	ck_assert_int_eq(epoll_ctl(poller.epoll, EPOLL_CTL_ADD, event, &ready), 0);
	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	poller.at = (struct epoll_event *)(mem + 3 * PAGE);
	ck_assert_int_eq(pthread_create(&thread, NULL, poll_on, &poller), 0);
	for (int round = 0; round < 200; round++) {
		for (int i = 0; i < 8; i++)
			if (i != 3)
				*(volatile uint8_t *)(mem + i * PAGE) ^= 0;
		order(&p, mem, 8, 0, res);
		for (int i = 0; i < 8; i++)
			if (i != 3)
				ck_assert_uint_eq(res[i], KSM_RES_MERGED);
	}
	poller.over = true;
	pthread_join(thread, NULL);
	close(poller.epoll);
	close(event);
	for (int i = 0; i < 64; i++)
		ck_assert(i == 3 || !memcmp(mem + i * PAGE, fake.frames + i * PAGE, PAGE));
	fake_stop();
}
END_TEST

/* ---- devices in the middle of writing to memory ---- */

struct direct_read {
	int fd;
	pthread_barrier_t *own_table; /* read by a table of descriptors of the thread's own */
	uint8_t *buf;
	ssize_t got;
};

static void *read_directly(void *arg)
{
	struct direct_read *d = arg;

	if (d->own_table) {
		ck_assert_int_eq(unshare(CLONE_FILES), 0);
		pthread_barrier_wait(d->own_table); /* it has a copy of the descriptor */
		pthread_barrier_wait(d->own_table); /* the original is gone */
	}
	d->got = pread(d->fd, d->buf, 2 * PAGE, 0);
	return NULL;
}

/*
 * A direct read is under way while the agent is to merge its buffer. The bytes it delivers must be
 * in memory at the end. _i: whether the buffer was merged before, and broke copy-on-write; 2: that,
 * and the descriptor is in the table of the reading thread alone. Seen to lose the bytes: for fresh
 * memory with every page taken for one in frames (txn_execute) and hold_may_be_pinned() false; for
 * broken pages with the latter alone; for 2 when it looked at /proc/self/fdinfo, which is the first
 * thread's.
 */
START_TEST(test_direct_read_in_flight)
{
	pthread_barrier_t both;
	struct direct_read d;
	struct slowfile f;
	uint8_t *mem, res[64];
	struct puppet p;
	pthread_t t;
	int err = slowfile_open(&f);

	if (err) {
		printf("SKIP: cannot mount FUSE here: %s\n", strerror(-err));
		return;
	}
	start_joined(&p, &mem, 64);
	if (_i) {
		order(&p, mem, 16, 0, res);
		expect_all(res, 16, KSM_RES_MERGED);
	}
	d = (struct direct_read){ .fd = f.fd, .buf = mem + 4 * PAGE };
	if (_i == 2)
		d.own_table = &both;
	pthread_barrier_init(&both, NULL, 2);
	pthread_create(&t, NULL, read_directly, &d);
	if (d.own_table) {
		pthread_barrier_wait(&both);
		close(f.fd);
		f.fd = -1;
		pthread_barrier_wait(&both);
	}
	slowfile_wait_read(&f);
	order(&p, mem, 16, 0, res);
	slowfile_answer(&f, 0x5a);
	pthread_join(t, NULL);
	ck_assert_int_eq(d.got, 2 * PAGE);
	for (size_t i = 0; i < 2 * PAGE; i++)
		ck_assert_uint_eq(mem[4 * PAGE + i], 0x5a);
	for (int i = 0; i < 16; i++)
		ck_assert_uint_eq(res[i], i == 4 || i == 5 ? KSM_RES_BUSY : KSM_RES_MERGED);
	check_fill(mem, 4, 1);
	slowfile_close(&f);
	fake_stop();
}
END_TEST

struct ring {
	int fd;
	struct io_uring_params params;
	uint8_t *sq, *cq; /* one mapping (IORING_FEAT_SINGLE_MMAP) */
	struct io_uring_sqe *sqe;
};

static uint32_t *ring_word(uint8_t *base, uint32_t off)
{
	return (uint32_t *)(base + off);
}

/* A ring of one entry; false and a word of why where there are none. */
static bool ring_open(struct ring *r)
{
	size_t len;

	memset(r, 0, sizeof(*r));
	r->fd = (int)syscall(SYS_io_uring_setup, 1, &r->params);
	if (r->fd < 0) {
		printf("SKIP: io_uring is not available here (%s)\n", strerror(errno));
		return false;
	}
	ck_assert(r->params.features & IORING_FEAT_SINGLE_MMAP);
	len = r->params.cq_off.cqes + r->params.cq_entries * sizeof(struct io_uring_cqe) + PAGE;
	r->sq = r->cq =
		mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->sqe = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	ck_assert(r->sq != MAP_FAILED && (void *)r->sqe != MAP_FAILED);
	return true;
}

/* Start a read into a buffer that is registered as number 0. */
static void ring_read_fixed(struct ring *r, int fd, void *buf, size_t len)
{
	uint32_t *tail = ring_word(r->sq, r->params.sq_off.tail);

	*r->sqe = (struct io_uring_sqe){ .opcode = IORING_OP_READ_FIXED,
					 .fd = fd,
					 .off = -1ull,
					 .addr = (uintptr_t)buf,
					 .len = (uint32_t)len };
	ring_word(r->sq, r->params.sq_off.array)[0] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	ck_assert_int_eq(syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0), 1);
}

static int ring_result(struct ring *r)
{
	syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
	return ((struct io_uring_cqe *)(r->cq + r->params.cq_off.cqes))[0].res;
}

/*
 * The same with a registered buffer of io_uring: a read from an empty pipe, which waits as long as
 * the test likes. Its descriptor is not O_DIRECT; VmPin shows the pin. Seen to lose bytes as above.
 */
START_TEST(test_fixed_buffer_in_flight)
{
	uint8_t *mem, res[64], data[PAGE];
	struct puppet p;
	struct ring r;
	struct iovec iov;
	int fd[2];

	if (!ring_open(&r))
		return;
	ck_assert_int_eq(pipe2(fd, O_CLOEXEC), 0);
	start_joined(&p, &mem, 64);
	if (_i) {
		order(&p, mem, 16, 0, res);
		expect_all(res, 16, KSM_RES_MERGED);
	}
	iov = (struct iovec){ mem + 4 * PAGE, PAGE };
	ck_assert_int_eq(syscall(SYS_io_uring_register, r.fd, IORING_REGISTER_BUFFERS, &iov, 1), 0);
	ring_read_fixed(&r, fd[0], mem + 4 * PAGE, PAGE);
	order(&p, mem, 16, 0, res);
	memset(data, 0x5a, sizeof(data));
	ck_assert_int_eq(write(fd[1], data, sizeof(data)), sizeof(data));
	ck_assert_int_eq(ring_result(&r), PAGE);
	ck_assert_int_eq(memcmp(mem + 4 * PAGE, data, PAGE), 0);
	for (int i = 0; i < 16; i++)
		ck_assert_uint_eq(res[i], i == 4 ? KSM_RES_BUSY : KSM_RES_MERGED);
	check_fill(mem, 4, 1);
	fake_stop();
}
END_TEST

/*
 * The reader of a pipe sees a page as it is when it reads, with every store until then. (The
 * kernel's own KSM leaves such a page alone: its reference count is too high.) _i: fresh memory,
 * merged, or merged and written to before. Seen to fail (MERGED, and the reader finds the old byte)
 * with vmsplice(2) in place of ksm_vmsplice(): that reference is no pin, UFFDIO_MOVE does not
 * refuse it.
 */
START_TEST(test_page_in_a_pipe)
{
	uint8_t *mem, res[64], got[2 * PAGE];
	struct iovec iov;
	struct puppet p;
	union ksm_msg m;
	int fd[2];

	start_joined(&p, &mem, 64);
	ck_assert_int_eq(pipe2(fd, O_CLOEXEC), 0);
	if (_i > 0)
		order(&p, mem, 16, 0, res);
	if (_i > 1)
		memset(mem + 4 * PAGE, 1, PAGE);
	memcpy(mem + 4 * PAGE, fake.frames + 4 * PAGE, PAGE);
	/* From the middle of one page into the next. */
	iov = (struct iovec){ mem + 4 * PAGE + 100, PAGE };
	ck_assert_int_eq(ksm_vmsplice(fd[1], &iov, 1, 0), PAGE);
	fake_recv(&p, KSM_MSG_DEL, &m);
	order(&p, mem, 16, 0, res);
	for (int i = 0; i < 16; i++)
		ck_assert_uint_eq(res[i], i == 4 || i == 5 ? KSM_RES_GONE : KSM_RES_MERGED);
	mem[4 * PAGE + 100] = 0x5a;
	mem[5 * PAGE] = 0x5b;
	ck_assert_int_eq(read(fd[0], got, sizeof(got)), PAGE);
	ck_assert_uint_eq(got[0], 0x5a);
	ck_assert_uint_eq(got[PAGE - 100], 0x5b);
	/* Again, for which nothing is left to do; and bad pointers are the kernel's. */
	ck_assert_int_eq(ksm_vmsplice(fd[1], &iov, 1, 0), PAGE);
	ck_assert_int_eq(ksm_vmsplice(fd[1], (struct iovec *)8, 1, 0), -1);
	ck_assert_int_eq(errno, EFAULT);
	ck_assert_int_eq(read(fd[0], got, sizeof(got)), PAGE);
	/* Offered again, it merges again. */
	memcpy(mem + 4 * PAGE, fake.frames + 4 * PAGE, 2 * PAGE);
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_MERGEABLE), 0);
	fake_recv(&p, KSM_MSG_ADD, &m);
	order(&p, mem, 16, 0, res);
	expect_all(res, 16, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* ---- threads and raw forks in the middle of transactions ---- */

struct storm {
	uint8_t *_Atomic mem; /* block of this round; the writer takes it up when it sees it */
	uint8_t *_Atomic seen;
	_Atomic int stop;
	_Atomic uint64_t writes, forks;
};

static uint64_t first_word(int page)
{
	return (uint64_t)(page + 1) * 0x9e3779b97f4a7c15ull + 1;
}

/*
 * One word per page is the writer's and must always hold its last store. Two times out of three
 * that word makes the page equal to its frame. The rest of the page never changes.
 */
static void write_block(struct storm *s, uint8_t *mem)
{
	uint64_t shadow[64], n = 0;

	for (int i = 0; i < 64; i++)
		shadow[i] = first_word(i);
	s->seen = mem;
	while (s->mem == mem && !s->stop) {
		int i = (int)(n++ * 7 % 64);
		_Atomic uint64_t *w = (void *)(mem + i * PAGE);

		if (*w != shadow[i])
			harness_die("page %d lost a store", i);
		shadow[i] = n % 3 ? first_word(i) : n;
		*w = shadow[i];
	}
	s->writes += n;
	for (int i = 0; i < 64; i++) {
		if (*(uint64_t *)(mem + i * PAGE) != shadow[i])
			harness_die("page %d lost a store", i);
		*(uint64_t *)(mem + i * PAGE) = first_word(i);
	}
	s->seen = NULL;
}

static void *writer(void *arg)
{
	struct storm *s = arg;

	while (!s->stop) {
		uint8_t *mem = s->mem;

		if (mem)
			write_block(s, mem);
	}
	return NULL;
}

/* Does a child see every page, but its first word? It forks first, and so do its children. */
static int raw_family(const uint8_t *mem, int generations)
{
	pid_t pid = generations ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : -1;
	int status = 0;

	if (pid == 0)
		_exit(raw_family(mem, generations - 1));
	for (size_t i = 0; i < 64; i++)
		for (size_t j = 1; j < PAGE / 8; j++)
			if (((uint64_t *)(mem + i * PAGE))[j] !=
			    (i + 1) * 0x9e3779b97f4a7c15ull + j + 1)
				return 1;
	if (pid > 0)
		waitpid(pid, &status, 0);
	return status != 0;
}

/* A fork that the C library knows nothing of. */
static void *raw_forker(void *arg)
{
	struct storm *s = arg;

	while (!s->stop) {
		uint8_t *mem = s->mem;
		pid_t pid = mem ? (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : -1;
		int status;

		if (pid == 0)
			_exit(raw_family(mem, (int)(s->forks % 3)));
		if (pid < 0)
			continue;
		waitpid(pid, &status, 0);
		if (!WIFEXITED(status) || WEXITSTATUS(status))
			harness_die("a raw child saw a page that was not there");
		s->forks++;
	}
	return NULL;
}

/* One round on memory that was never merged: orders come while the threads use it. */
static unsigned int storm_round(struct storm *s, struct puppet *p, uint8_t *area,
				unsigned int round)
{
	uint8_t *mem = area + round * BLOCK, res[64];
	unsigned int merged = 0;

	s->mem = mem;
	while (s->seen != mem)
		sched_yield();
	for (int k = 0; k < 3; k++) {
		order(p, mem, 64, 0, res);
		for (int i = 0; i < 64; i++)
			merged += res[i] == KSM_RES_MERGED;
	}
	s->mem = NULL;
	while (s->seen)
		sched_yield();
	check_fill(mem, 64, 1);
	return merged;
}

#define ROUNDS 100u
static void run_storm(bool forks, unsigned int batches)
{
	uint8_t *area;
	struct puppet p;
	struct storm s = { .stop = 0 };
	pthread_t t[2];
	unsigned int merged = 0;
	union ksm_msg m;

	start_joined(&p, &area, 64);
	pthread_create(&t[0], NULL, writer, &s);
	if (forks)
		pthread_create(&t[1], NULL, raw_forker, &s);
	for (unsigned int b = 0; b < batches; b++) {
		area = ksm_mmap(NULL, (ROUNDS + 1) * BLOCK, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		area = (uint8_t *)(((uintptr_t)area + BLOCK - 1) & ~(BLOCK - 1));
		for (unsigned int i = 0; i < ROUNDS; i++)
			fill(area + i * BLOCK, 64, 1);
		ck_assert_int_eq(ksm_madvise(area, ROUNDS * BLOCK, MADV_MERGEABLE), 0);
		fake_recv(&p, KSM_MSG_ADD, &m);
		for (unsigned int i = 0; i < ROUNDS; i++)
			merged += storm_round(&s, &p, area, i);
		ck_assert_int_eq(ksm_munmap(area, ROUNDS * BLOCK), 0);
		fake_recv(&p, KSM_MSG_DEL, &m);
	}
	s.stop = 1;
	pthread_join(t[0], NULL);
	if (forks)
		pthread_join(t[1], NULL);
	printf("storm: %u orders, %u pages merged, %lu writes, %lu raw forks\n",
	       batches * ROUNDS * 3, merged, (unsigned long)s.writes, (unsigned long)s.forks);
	ck_assert_uint_gt(merged, batches * ROUNDS);
	fake_stop();
}

/* Seen to fail within a second when replace.c takes pages for equal without comparing. */
START_TEST(test_writers_lose_nothing)
{
	run_storm(false, 20);
}
END_TEST

/*
 * Seen to fail without UFFD_FEATURE_EVENT_FORK (features of the synchronous userfaultfd in uffd.c)
 * and when serve_child() copies nothing: children find zeros where pages were in the staging area.
 * And when staged() says that nothing was moved, or pages are not compared.
 */
START_TEST(test_raw_forks_lose_nothing)
{
	if (geteuid() != 0) {
		printf("SKIP: raw forks are protected with CAP_SYS_PTRACE only\n");
		return;
	}
	run_storm(true, 10);
}
END_TEST

struct robust {
	pthread_mutex_t *mutex;
	_Atomic bool over;
};

static void *dies_holding(void *mutex)
{
	pthread_mutex_lock(mutex);
	ksmc_thread_ends(); /* as the preloaded object does */
	usleep(500);        /* destructors of others */
	return NULL;
}

static void *kills_owners(void *arg)
{
	struct robust *r = arg;

	for (int i = 0; i < 1000; i++) {
		struct timespec patience;
		pthread_t t;

		pthread_create(&t, NULL, dies_holding, r->mutex);
		pthread_join(t, NULL);
		clock_gettime(CLOCK_REALTIME, &patience);
		patience.tv_sec += WAIT_MS / 1000;
		if (pthread_mutex_timedlock(r->mutex, &patience) != EOWNERDEAD)
			harness_die("nobody heard of the end of owner %d", i);
		pthread_mutex_consistent(r->mutex);
		pthread_mutex_unlock(r->mutex);
	}
	r->over = true;
	return NULL;
}

/*
 * The kernel tells of an owner's end in the mutex, and does not wait for a page that is in the
 * staging area. Seen to fail at once when leaving_lock() waits for nobody.
 */
START_TEST(test_ends_of_threads_are_heard_of)
{
	struct puppet p;
	uint8_t *mem, res[64];
	pthread_mutexattr_t a;
	struct robust r = { .over = false };
	pthread_t t;

#ifdef __SANITIZE_THREAD__
	printf("SKIP: the sanitizer does not know that an owner can die\n");
	return;
#endif
	start_joined(&p, &mem, 64);
	for (int i = 0; i < 64; i++)
		mem[i * PAGE + PAGE - 1] ^= 1; /* none is equal; all go back */
	r.mutex = (void *)mem;
	pthread_mutexattr_init(&a);
	pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(r.mutex, &a);
	pthread_create(&t, NULL, kills_owners, &r);
	while (!r.over)
		order(&p, mem, 64, 0, res);
	pthread_join(t, NULL);
	fake_stop();
}
END_TEST

/* ---- real-time threads ---- */

static void on_cpu_0(pid_t tid)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(0, &set);
	ck_assert_int_eq(sched_setaffinity(tid, sizeof(set), &set), 0);
}

/*
 * Another process, which has the CPU whenever nobody is more urgent. It begins when something is
 * written to *go: the memory to merge must not be there yet when it is forked.
 */
static pid_t start_hog(int *go)
{
	struct sched_param p = { .sched_priority = 10 };
	int fd[2];
	pid_t pid;
	char c;

	ck_assert_int_eq(pipe(fd), 0);
	*go = fd[1];
	pid = fork();
	if (pid)
		return pid;
	if (read(fd[0], &c, 1) != 1)
		_exit(1);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	on_cpu_0(0);
	if (sched_setscheduler(0, SCHED_FIFO, &p))
		_exit(1);
	for (;;)
		;
}

struct urgent {
	uint8_t *mem;
	_Atomic bool over;
	uint64_t longest_ms;
};

static void *urgent_loads(void *arg)
{
	struct urgent *u = arg;
	struct sched_param p = { .sched_priority = 50 };

	on_cpu_0(0);
	ck_assert_int_eq(sched_setscheduler(0, SCHED_FIFO, &p), 0);
	for (unsigned int n = 0; !u->over; n++) {
		uint64_t begin = harness_now_ms(), end;

		(void)*(volatile uint8_t *)(u->mem + n % 64 * PAGE);
		end = harness_now_ms();
		if (end - begin > u->longest_ms)
			u->longest_ms = end - begin;
		usleep(n % 64 ? 100 : 1000);
	}
	return NULL;
}

/*
 * The agent is as urgent as who waits for it. Seen to fail when urgent_begin() does nothing: it
 * loses its CPU in the middle of an order, in every other run, and a load takes 990 ms.
 */
START_TEST(test_urgent_threads_do_not_wait)
{
	struct sched_param p = { .sched_priority = 10 }, none = { 0 };
	struct urgent u = { .over = false };
	struct puppet t;
	uint8_t res[64];
	uint64_t end;
	pthread_t thread;
	pid_t hog;
	int go;

	if (sched_setscheduler(0, SCHED_FIFO, &p)) {
		printf("SKIP: no right to real-time priorities\n");
		return;
	}
	sched_setscheduler(0, SCHED_OTHER, &none);
	hog = start_hog(&go);
	start_joined(&t, &u.mem, 64);
	for (int i = 0; i < 64; i++)
		u.mem[i * PAGE + PAGE - 1] ^= 1; /* none is equal; all go back */
	on_cpu_0(mailbox.tid);
	pthread_create(&thread, NULL, urgent_loads, &u);
	usleep(200000); /* the agent looks every 100 ms */
	order(&t, u.mem, 64, 0, res);
	ck_assert_int_eq(write(go, "x", 1), 1);
	end = harness_now_ms() + 4000;
	while (harness_now_ms() < end)
		order(&t, u.mem, 64, 0, res);
	kill(hog, SIGKILL);
	waitpid(hog, NULL, 0);
	u.over = true;
	pthread_join(thread, NULL);
	ck_assert_int_eq(sched_getscheduler(mailbox.tid), SCHED_OTHER);
	ck_assert_uint_lt(u.longest_ms, 100);
	fake_stop();
}
END_TEST

static void *spin_forker(void *arg)
{
	struct storm *s = arg;

	while (!s->stop) {
		pid_t pid;

		s->seen = s->mem; /* NULL: the main thread wants no forks now */
		if (!s->seen)
			continue;
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
		if (pid == 0) {
			for (size_t i = 0; i < 64; i++)
				for (size_t j = 0; j < PAGE / 8; j++)
					if (((uint64_t *)(s->seen + i * PAGE))[j] !=
					    (i + 1) * 0x9e3779b97f4a7c15ull + j + 1)
						_exit(1);
			_exit(0);
		}
		if (pid > 0) {
			int status;

			waitpid(pid, &status, 0);
			if (status)
				harness_die("a raw child saw a page that was not there");
			s->forks++;
		}
	}
	return NULL;
}

/*
 * A fork while a range is held leaves an event. A thread of the library must read it, or the fork
 * waits for ever. Seen to hang without uffd_serve_forks() in hold_end().
 */
START_TEST(test_raw_forks_go_on_after_unmerge)
{
	uint8_t *mem, res[64];
	struct puppet p;
	struct storm s = { .stop = 0 };
	pthread_t t;
	union ksm_msg m;

	if (geteuid() != 0) {
		printf("SKIP: fork events need CAP_SYS_PTRACE\n");
		return;
	}
	start_joined(&p, &mem, 64);
	pthread_create(&t, NULL, spin_forker, &s);
	for (int round = 0; round < 300; round++) {
		uint64_t before;

		/* Pages that a fork shares are not merged until they are written. */
		s.mem = NULL;
		wait_until(!s.seen, WAIT_MS, "the forker pauses");
		for (int i = 0; i < 64; i++)
			*(volatile uint8_t *)(mem + i * PAGE) = mem[i * PAGE];
		order(&p, mem, 64, 0, res);
		expect_all(res, 64, KSM_RES_MERGED);
		s.mem = mem;
		wait_until(s.seen, WAIT_MS, "the forker goes on");
		ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_UNMERGEABLE), 0);
		ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_MERGEABLE), 0);
		fake_recv(&p, KSM_MSG_ADD, &m);
		before = s.forks;
		wait_until(s.forks > before + 1, WAIT_MS, "a raw fork hangs");
	}
	s.stop = 1;
	pthread_join(t, NULL);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

static unsigned int nr_sentinels(void)
{
	FILE *f = mapping_open(getpid());
	struct mapping m;
	unsigned int nr = 0;

	while (mapping_next(f, &m))
		nr += strstr(m.name, "ksm-sentinel") != NULL;
	return nr;
}

/*
 * A process that changes its user belongs to another domain: its library gives up the connection
 * and the arena. Seen to fail without sentinel_leave_domain(): the old domain's sentinel stays, and
 * with it every frame retired there.
 */
START_TEST(test_change_of_user_reconnects)
{
	uint8_t *mem, res[64];
	struct puppet p;
	char path[128];

	if (geteuid() != 0) {
		printf("SKIP: only root can change its user\n");
		return;
	}
	start_joined(&p, &mem, 64);
	order(&p, mem, 16, 0, res);
	chmod(fake.dir, 0755);
	snprintf(path, sizeof(path), "%s/%s", fake.dir, KSM_CLIENT_SOCKET);
	chmod(path, 0666);
	ck_assert_int_eq(seteuid(65534), 0);
	/* The agent looks when it has something to do. */
	ck_assert_int_eq(ksm_madvise(mem, PAGE, MADV_DONTNEED), 0);
	ck_assert_int_eq(recv(p.sock, res, sizeof(res), MSG_PEEK | MSG_TRUNC) >= 0, 1);
	while (recv(p.sock, res, sizeof(res), 0) > 0)
		;
	wait_until(nr_sentinels() == 0, WAIT_MS, "the old domain need not wait for us");
	ck_assert_int_eq(seteuid(0), 0);
	for (int i = 0; i < 64; i++)
		ck_assert(!on_frame(mem + i * PAGE));
	memcpy(mem, fake.frames, PAGE);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/*
 * The same while a thread moves memory: no page may stay on a frame that the daemon no longer keeps
 * for it. Seen to fail (moved pages are on frames when the sentinels are gone) when the agent did
 * not look again at memory that it had passed.
 */
START_TEST(test_mremap_under_a_change_of_user)
{
	struct flight f;
	struct puppet p;
	pthread_t t;

	if (geteuid() != 0) {
		printf("SKIP: only root can change its user\n");
		return;
	}
	flight_start(&f, 4096 - 64, &p);
	pthread_create(&t, NULL, move_the_rest, &f);
	ck_assert_int_eq(seteuid(65534), 0);
	/* For the agent to look; not where the pages may have come to by now. */
	ck_assert_int_eq(ksm_madvise(f.mem + f.nr * PAGE, PAGE, MADV_DONTNEED), 0);
	pthread_join(t, NULL);
	wait_until(nr_sentinels() == 0, WAIT_MS, "the old domain need not wait for us");
	ck_assert_int_eq(seteuid(0), 0);
	flight_end(&f);
}
END_TEST

START_TEST(test_forked_child_joins_and_adopts)
{
	uint8_t *mem, res[64];
	struct puppet p, c;
	union ksm_msg m;
	int status, pipefd[2];
	char ch = 0;
	pid_t pid;

	start_joined(&p, &mem, 64);
	order(&p, mem, 32, 0, res);
	ck_assert_int_eq(pipe(pipefd), 0);
	pid = fork();
	if (pid == 0) {
		read(pipefd[0], &ch, 1);
		check_fill(mem, 64, 1);
		_exit(0);
	}
	fake_accept(&c);
	fake_recv(&c, KSM_MSG_STAT, &m); /* the child's "I have told you all" */
	ck_assert_uint_eq(c.nr_adopted, 1);
	ck_assert_uint_eq(c.adopt[0].addr, (uintptr_t)mem);
	ck_assert_uint_eq(c.adopt[0].nr_pages, 32);
	ck_assert_uint_eq(c.adopt[0].frame, 0);
	order(&c, mem + 32 * PAGE, 32, 32, res);
	/* Pages that the parent maps, too, are one page already. */
	expect_all(res, 32, KSM_RES_FORK_SHARED);
	write(pipefd[1], &ch, 1);
	waitpid(pid, &status, 0);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	order(&p, mem, 1, 0, res); /* the parent's agent is alive and well */
	fake_stop();
}
END_TEST

/*
 * While orders meet no page that a fork shared none is looked for; a raw clone, of which nobody is
 * told, makes some. Seen to fail (BUSY) when pages that were refused are not looked up.
 */
START_TEST(test_pages_become_shared_late)
{
	uint8_t *mem, res[64];
	struct puppet p;
	int status, pipefd[2];
	char ch = 0;
	pid_t pid;

	start_joined(&p, &mem, 64);
	for (unsigned int i = 0; i < 40; i++) {
		order(&p, mem + i * PAGE, 1, i, res);
		expect_all(res, 1, KSM_RES_MERGED);
	}
	ck_assert_int_eq(pipe(pipefd), 0);
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		read(pipefd[0], &ch, 1);
		check_fill(mem, 64, 1);
		_exit(0);
	}
	for (int i = 0; i < 2; i++) {
		order(&p, mem + 40 * PAGE, 24, 40, res);
		expect_all(res, 24, KSM_RES_FORK_SHARED);
	}
	write(pipefd[1], &ch, 1);
	waitpid(pid, &status, 0);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	/* Mapped here alone, and not exclusive to the kernel. */
	order(&p, mem + 40 * PAGE, 24, 40, res);
	expect_all(res, 24, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* Seen to fail (nobody connects) when the agent sleeps for ever after its first connection. */
START_TEST(test_reconnects)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	order(&p, mem, 16, 0, res);
	close(p.sock);
	fake_accept(&p);
	fake_recv(&p, KSM_MSG_STAT, &m);
	ck_assert_uint_eq(p.nr_adopted, 1);
	ck_assert_uint_eq(p.adopt[0].nr_pages, 16);
	order(&p, mem + 16 * PAGE, 48, 16, res);
	expect_all(res, 48, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* Does the agent wait until the daemon has read something? */
static bool agent_waits_to_send(const struct puppet *p)
{
	char path[64], text[32] = "";
	int unread = 0, fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", (int)mailbox.tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0 || ioctl(p->sock, FIONREAD, &unread))
		harness_die("%s: %s", path, strerror(errno));
	close(fd);
	return strtol(text, NULL, 10) == SYS_ppoll &&
	       unread > 100 * (int)sizeof(struct ksm_msg_range);
}

/*
 * A thread offers memory that stands on frames while the agent declares ranges: after the agent has
 * passed it with ADD, before it passes with ADOPT. An ADD must still come first. Seen to fail when
 * adopt_mapping() assumes that: the daemon then drops an honest client. The torture found it.
 */
START_TEST(test_adopt_follows_an_add)
{
	enum { COMB = 3000 };
	uint8_t *comb = MAP_FAILED, *mem, res[64];
	struct as_guard g;
	struct puppet p;
	union ksm_msg m;

	fake_start();
	mem = make_memory(64, 1);
	for (ptrdiff_t gib = 1; comb == MAP_FAILED; gib++)
		comb = ksm_mmap(mem + (gib << 30), 2 * COMB * PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	fake_accept(&p);
	fake_recv(&p, KSM_MSG_ADD, &m);
	order(&p, mem, 64, 0, res);
	expect_all(res, 64, KSM_RES_MERGED);
	/* As after a withdrawal that failed for want of memory. */
	as_enter(&g);
	as_set((uintptr_t)mem, (uintptr_t)mem + BLOCK, PROT_READ | PROT_WRITE, 0, 0);
	as_leave(&g);
	for (int i = 0; i < COMB; i++)
		ck_assert_int_eq(ksm_madvise(comb + 2 * i * PAGE, PAGE, MADV_MERGEABLE), 0);
	close(p.sock);
	fake_accept(&p);
	wait_until(agent_waits_to_send(&p), WAIT_MS, "the agent waits");
	ck_assert_int_eq(ksm_madvise(mem, BLOCK, MADV_MERGEABLE), 0);
	do
		fake_recv(&p, KSM_MSG_ADD, &m);
	while (!p.nr_adopted && m.range.start != (uintptr_t)mem);
	ck_assert_uint_eq(p.nr_adopted, 0);
	fake_recv(&p, KSM_MSG_ADOPT, &m);
	ck_assert_uint_eq(m.adopt.addr, (uintptr_t)mem);
	ck_assert_uint_eq(m.adopt.nr_pages, 64);
	fake_stop();
}
END_TEST

/*
 * An unmapping in the middle of a range needs one more entry in the table of ranges. The table
 * keeps room for it while memory is short. Otherwise the library would forget the rest of the
 * range. Seen to fail, at the second hole, without SPARE.
 */
START_TEST(test_holes_without_memory)
{
	enum { HOLES = 60, RANGES = 600 }; /* of 602 for which the table has room at first */
	uint8_t *comb, *mem;
	struct as_guard g;
	struct puppet p;

	start_joined(&p, &mem, 2 * HOLES);
	comb = mmap(NULL, 2 * RANGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(comb, MAP_FAILED);
	as_enter(&g);
	for (int i = 0; as.nr < RANGES; i++)
		ck_assert_int_eq(as_set((uintptr_t)comb + 2 * i * PAGE,
					(uintptr_t)comb + (2 * i + 1) * PAGE, PROT_NONE, 0, 0),
				 0);
	as_leave(&g);
	limit_address_space(0);
	for (int i = 0; i < HOLES; i++)
		ck_assert_int_eq(ksm_munmap(mem + (2 * i + 1) * PAGE, PAGE), 0);
	limit_address_space(-1);
	for (int i = 0; i < HOLES; i++) {
		uintptr_t at = (uintptr_t)mem + 2 * i * PAGE;

		ck_assert_msg(covers(at, at + PAGE), "range %d is forgotten", i);
		ck_assert(!knows(at + PAGE, at + 2 * PAGE));
	}
	fake_stop();
}
END_TEST

START_TEST(test_stat)
{
	struct ksm_stat st = { .size = sizeof(st) };
	uint8_t *mem;
	struct puppet p;
	pid_t pid;
	union ksm_msg m;

	ck_assert_int_eq(ksm_stat(&st), 0);
	ck_assert_uint_eq(st.connected, 0);
	start_joined(&p, &mem, 64);
	(void)pid;
	/* The daemon answers from another thread's point of view: here, a stopped one. */
	st.size = sizeof(st);
	errno = 0;
	while (ksm_stat(&st) == 0 && !st.connected)
		st.size = sizeof(st);
	ck_assert_int_eq(errno, ETIMEDOUT);
	fake_recv(&p, KSM_MSG_STAT, &m);
	st.size = 3;
	ck_assert_int_eq(ksm_stat(&st), -1);
	ck_assert_int_eq(errno, EINVAL);
	fake_stop();
}
END_TEST

/*
 * The library once sent the signal that wakes the agent to the child's process id, and no second
 * one.
 */
START_TEST(test_vfork_child_wakes_the_agent)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;
	pid_t pid;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	fake_recv(&p, KSM_MSG_INFO, &m); /* from here on it sleeps until it is woken */
	pid = vfork();
	if (pid == 0) {
		ksm_madvise(mem, PAGE, MADV_DONTNEED);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_UNMERGEABLE), 0);
	fake_recv(&p, KSM_MSG_DEL, &m);
	fake_stop();
}
END_TEST

static void *stat_thread(void *mem)
{
	struct ksm_stat st = { .size = sizeof(st) };
	intptr_t err = ksm_stat(&st) ? errno : st.connected ? 0 : -1;

	return (void *)(ksm_madvise(mem, 64 * PAGE, MADV_MERGEABLE) ? -1 : err);
}

/*
 * Requests of different kinds once shared the number by which a STAT under way is known. Whoever
 * withdraws memory sends a STAT of its own and, with nobody here to answer it, gives up.
 */
START_TEST(test_stat_after_the_same_unmerge)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;
	pthread_t t;
	void *err;

	start_joined(&p, &mem, 64);
	fake_recv(&p, KSM_MSG_INFO, &m);
	for (int i = 0; i < 2; i++) {
		order(&p, mem, 64, 0, res);
		expect_all(res, 64, KSM_RES_MERGED);
		ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_UNMERGEABLE), 0);
		pthread_create(&t, NULL, stat_thread, mem);
		fake_recv(&p, KSM_MSG_ADD, &m); /* and what comes before it */
		pthread_join(t, &err);
		ck_assert_int_eq((intptr_t)err, 0);
	}
	fake_stop();
}
END_TEST

/* A refused mprotect() must not decide what protection fresh memory gets, nor where ranges end. */
START_TEST(test_failed_mprotect_changes_nothing)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	ck_assert_int_eq(ksm_mprotect(mem, 64 * PAGE, 0x7fff0000), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(ksm_mprotect(mem + 8 * PAGE + 1, PAGE, PROT_READ), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(ksm_madvise(mem, 16 * PAGE, MADV_DONTNEED), 0);
	fake_recv(&p, KSM_MSG_FORGET, &m);
	memcpy(mem, fake.frames, 16 * PAGE);
	order(&p, mem, 64, 0, res);
	expect_all(res, 64, KSM_RES_MERGED);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* Lengths far beyond the end of the address space: the kernel's answer, not a crash. */
START_TEST(test_absurd_lengths)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	ck_assert_int_eq(ksm_madvise(mem + 60 * PAGE, 1ul << 62, MADV_UNMERGEABLE), -1);
	ck_assert_int_eq(errno, ENOMEM);
	fake_recv(&p, KSM_MSG_DEL, &m);
	ck_assert_uint_le(m.range.end, 1ul << 47);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/* MADV_GUARD_INSTALL throws away what is there, as MADV_DONTNEED does. */
START_TEST(test_guards_leave_zeros)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	if (ksm_madvise(mem, 2 * PAGE, 102 /* MADV_GUARD_INSTALL */)) {
		printf("SKIP: this kernel has no guard pages\n");
	} else {
		ck_assert_int_eq(ksm_madvise(mem, 2 * PAGE, 103 /* MADV_GUARD_REMOVE */), 0);
		check_zero(mem, 2 * PAGE);
	}
	fake_stop();
}
END_TEST

static int fork_and_look(const uint8_t *mem, bool wiped)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (wiped)
			check_zero(mem, 64 * PAGE);
		else
			check_fill(mem, 64, 1);
		memset((void *)mem, 7, 64 * PAGE);
		_exit(mem[64 * PAGE - 1] == 7 ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	check_fill(mem, 64, 1);
	return status;
}

/*
 * MADV_WIPEONFORK works on memory in which a page broke copy-on-write, too. Seen to fail with
 * EINVAL when the library passed the advice to the kernel unchanged.
 */
START_TEST(test_wipeonfork_with_broken_pages)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	for (int i = 5; i < 64; i += 20) {
		volatile uint8_t *byte = mem + i * PAGE;

		*byte = *byte;
	}
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_WIPEONFORK), 0);
	check_fill(mem, 64, 1);
	ck_assert_int_eq(fork_and_look(mem, true), 0);
	/* Wiped memory is wiped in a child of a child, and after it was thrown away. */
	ck_assert_int_eq(ksm_madvise(mem + 5 * PAGE, PAGE, MADV_DONTNEED), 0);
	memcpy(mem + 5 * PAGE, fake.frames + 5 * PAGE, PAGE);
	ck_assert_int_eq(fork_and_look(mem, true), 0);
	/*
	 * Memory that the program marks to be wiped, then not inherited, then inherited, is wiped.
	 */
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_DONTFORK), 0);
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_DOFORK), 0);
	ck_assert_int_eq(fork_and_look(mem, true), 0);
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_KEEPONFORK), 0);
	ck_assert_int_eq(fork_and_look(mem, false), 0);
	fake_stop();
}
END_TEST

/* How many pages has a child that nobody's wrapper makes? */
static int pages_in_child(const uint8_t *p, int nr)
{
	int status;
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

	if (!pid) {
		int has = 0;

		for (int i = 0; i < nr; i++)
			has += !msync((void *)(p + (size_t)i * PAGE), PAGE, MS_ASYNC);
		_exit(has);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

/*
 * The program gives advice first and offers the memory later. Only what is to be wiped in children
 * cannot stand on frames. Seen to fail (MERGED) when the library ignored advice on memory that it
 * did not know; and (GONE) when a stretch reached over two ranges.
 */
START_TEST(test_advice_before_the_offer)
{
	static const int advice[][2] = { { MADV_DONTFORK, MADV_DOFORK },
					 { MADV_WIPEONFORK, MADV_KEEPONFORK },
					 { MADV_DONTDUMP, MADV_DODUMP } };
	uint8_t *mem, *raw, res[64];
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	for (int i = 0; i < 3; i++) {
		bool wipe = advice[i][0] == MADV_WIPEONFORK;

		raw = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			   0);
		raw = (uint8_t *)(((uintptr_t)raw + BLOCK - 1) & ~(BLOCK - 1));
		fill(raw, 64, 1);
		ck_assert_int_eq(ksm_madvise(raw + 8 * PAGE, 8 * PAGE, advice[i][0]), 0);
		ck_assert_int_eq(ksm_madvise(raw, 64 * PAGE, MADV_MERGEABLE), 0);
		fake_recv(&p, KSM_MSG_ADD, &m);
		while (p.last.end != (uintptr_t)raw + 64 * PAGE)
			fake_recv(&p, KSM_MSG_ADD, &m);
		order(&p, raw, 64, 0, res);
		for (int k = 0; k < 64; k++)
			ck_assert_uint_eq(res[k],
					  wipe && k >= 8 && k < 16 ? KSM_RES_GONE : KSM_RES_MERGED);
		ck_assert_int_eq(pages_in_child(raw, 64), advice[i][0] == MADV_DONTFORK ? 56 : 64);
		ck_assert_int_eq(ksm_madvise(raw + 8 * PAGE, 8 * PAGE, advice[i][1]), 0);
		if (wipe)
			fake_recv(&p, KSM_MSG_ADD, &m);
		order(&p, raw + 8 * PAGE, 8, 8, res);
		expect_all(res, 8, KSM_RES_MERGED);
		check_fill(raw, 64, 1);
	}
	fake_stop();
}
END_TEST

/*
 * Single pages of one order, in memory of both kinds: a fork has those that it is to have, and no
 * others. Seen to fail (28 pages of 32, and 4 of those that no fork is to have) when have_sheet()
 * makes a sheet anew, for what is prepared on it already, because the next page has another advice.
 */
START_TEST(test_two_advices_in_one_order)
{
	struct ksm_msg_order t;
	uint8_t *mem, *raw;
	struct puppet p;
	union ksm_msg m;

	start_joined(&p, &mem, 64);
	raw = mmap(NULL, 2 * BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	raw = (uint8_t *)(((uintptr_t)raw + BLOCK - 1) & ~(BLOCK - 1));
	fill(raw, 64, 1);
	ck_assert_int_eq(ksm_madvise(raw + (_i ? 0 : 32 * PAGE), 32 * PAGE, MADV_DONTFORK), 0);
	ck_assert_int_eq(ksm_madvise(raw, 64 * PAGE, MADV_MERGEABLE), 0);
	do
		fake_recv(&p, KSM_MSG_ADD, &m);
	while (p.last.end != (uintptr_t)raw + 64 * PAGE);
	t = order_of_single_pages(&p, raw, 3, 8);
	ck_assert_int_eq(send(p.sock, &t, sizeof(t), 0), sizeof(t));
	fake_recv(&p, KSM_MSG_ORDER_DONE, &m);
	for (unsigned int i = 3; i < 64; i += 8) {
		ck_assert_uint_eq(m.order_done.result[i], KSM_RES_MERGED);
		ck_assert(on_frame(raw + i * PAGE));
	}
	ck_assert_int_eq(pages_in_child(raw + (_i ? 32 * PAGE : 0), 32), 32);
	ck_assert_int_eq(pages_in_child(raw + (_i ? 0 : 32 * PAGE), 32), 0);
	check_fill(raw, 64, 1);
	fake_stop();
}
END_TEST

/*
 * A program may offer all its memory, including the memory that the agent uses while pages are
 * missing. Seen to fail (the first table was moved away and compared) without as_clear_own() and
 * agent_clear_own().
 */
START_TEST(test_own_tables_are_left_alone)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;
	struct as_guard g;
	void *own[6];

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	as_enter(&g);
	ck_assert_int_eq(as_reserve(10000), 0); /* it grows now, and not then */
	as_leave(&g);
	own[0] = as.ranges.leaf;
	own[1] = as.frames_l1;
	own[2] = agent.kit.buf;
	own[3] = (uint8_t *)agent.heritage.stack + agent.heritage.stack_size - PAGE;
	own[4] = as.frames_l1[(uintptr_t)mem >> 30];
	own[5] = &as;
	ck_assert_int_eq(ksm_madvise((void *)PAGE, (1ul << 47) - 2 * PAGE, MADV_MERGEABLE), -1);
	ck_assert_int_eq(errno, ENOMEM); /* there are gaps */
	ck_assert_ptr_eq(own[0], as.ranges.leaf);
	fake_recv(&p, KSM_MSG_ADD, &m);
	do /* the rest of the messages comes before the answer */
		order(&p, mem, 1, 0, res);
	while (res[0] == KSM_RES_STALE);
	for (int i = 0; i < 6; i++) {
		order(&p, (void *)((uintptr_t)own[i] & ~(PAGE - 1)), 1, 5, res);
		ck_assert_msg(res[0] == KSM_RES_GONE, "own %d: result %u", i, res[0]);
	}
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/*
 * MADV_DONTNEED refuses locked memory, wherever it lies. The kernel gives back the pages before it
 * and keeps those after it. Seen to fail (success, all zeros and nothing locked) when the library
 * mapped over frames without asking the kernel.
 */
START_TEST(test_locked_pages_are_not_discarded)
{
	uint8_t *mem, res[64];
	struct puppet p;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	expect_all(res, 64, KSM_RES_MERGED);
	for (int i = 8; i < 12; i++)
		mem[i * PAGE] ^= 1; /* broken: private pages in a file mapping */
	ck_assert_int_eq(syscall(SYS_mlock, mem + 8 * PAGE, 2 * PAGE), 0);
	ck_assert_int_eq(ksm_madvise(mem + 2 * PAGE, 16 * PAGE, MADV_DONTNEED), -1);
	ck_assert_int_eq(errno, EINVAL);
	check_zero(mem + 2 * PAGE, 6 * PAGE);
	for (int i = 8; i < 12; i++)
		mem[i * PAGE] ^= 1;
	ck_assert_int_eq(ksm_madvise(mem + 9 * PAGE, PAGE, MADV_FREE), -1);
	ck_assert_int_eq(errno, EINVAL);
	memcpy(mem + 2 * PAGE, fake.frames + 2 * PAGE, 6 * PAGE);
	check_fill(mem, 64, 1);
	ck_assert_int_eq(ksm_madvise(mem + 8 * PAGE, 4 * PAGE, MADV_DONTNEED_LOCKED), 0);
	check_zero(mem + 8 * PAGE, 4 * PAGE);
	ck_assert_int_eq(harness_status(getpid(), "VmLck"), 8);
	ck_assert_int_eq(ksm_madvise(mem + 8 * PAGE, PAGE, MADV_DONTNEED), -1);
	ck_assert_int_eq(syscall(SYS_munlock, mem + 8 * PAGE, 2 * PAGE), 0);
	ck_assert_int_eq(ksm_madvise(mem + 8 * PAGE, PAGE, MADV_DONTNEED), 0);
	memcpy(mem + 8 * PAGE, fake.frames + 8 * PAGE, 4 * PAGE);
	check_fill(mem, 64, 1);
	fake_stop();
}
END_TEST

/*
 * A new connection with another arena, as after a change of user. The old arena's daemon knows of
 * this process by the old sentinel alone, and would reuse frames that still stand here.
 */
START_TEST(test_sentinel_stays_with_frames_of_another_arena)
{
	uint8_t *mem, res[64];
	struct puppet p;
	union ksm_msg m;
	int first;

	start_joined(&p, &mem, 64);
	order(&p, mem, 16, 0, res);
	first = fake.arena_ro;
	fake.arena = memfd_create(KSM_ARENA_NAME, MFD_CLOEXEC);
	ck_assert_int_eq(ftruncate(fake.arena, ARENA_PAGES * PAGE), 0);
	fake.arena_ro = reopen(fake.arena, O_RDONLY);
	close(p.sock);
	fake_accept(&p);
	fake_recv(&p, KSM_MSG_STAT, &m); /* and its answer */
	ck_assert_uint_eq(p.nr_adopted, 0);
	order(&p, mem, 1, 0, res); /* comes after the answer */
	ck_assert_uint_eq(nr_sentinels(), 2);
	/* Back to the first arena, and all is adopted. */
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_UNMERGEABLE), 0);
	fake.arena_ro = first;
	close(p.sock);
	fake_accept(&p);
	fake_recv(&p, KSM_MSG_STAT, &m);
	order(&p, mem, 1, 0, res);
	ck_assert_uint_eq(nr_sentinels(), 1);
	fake_stop();
}
END_TEST

/*
 * The child does not have memory that the parent kept from it: other memory may be mapped there by
 * now.
 */
START_TEST(test_child_forgets_what_it_did_not_inherit)
{
	uint8_t *mem, res[64];
	struct puppet p;
	int fd = memfd_create("file", 0), status;
	pid_t pid;

	ck_assert_int_eq(ftruncate(fd, PAGE), 0);
	ck_assert_int_eq(pwrite(fd, "file", 4, 0), 4);
	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	mem[0] ^= 1; /* a private page in a frame mapping, which un-sharing leaves where it is */
	ck_assert_int_eq(ksm_madvise(mem, 64 * PAGE, MADV_DONTFORK), 0);
	pid = fork();
	if (pid == 0) {
		/* As if the kernel had chosen the address. */
		if (ksm_mmap(mem, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, fd, 0) != mem)
			_exit(1);
		if (ksm_madvise(mem, PAGE, MADV_DONTNEED))
			_exit(2);
		_exit(memcmp(mem, "file", 4) ? 3 : 0);
	}
	waitpid(pid, &status, 0);
	ck_assert_int_eq(status, 0);
	fake_stop();
}
END_TEST

/*
 * Where the library could not be set up, the forks that it sees still work. Seen to fail (SIGSEGV
 * in the child) when as_reset_child() takes the cookie for given.
 */
START_TEST(test_fork_without_the_library)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_madvise, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MADV_WIPEONFORK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOMEM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };
	char *mem = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
	ck_assert_int_eq(ksm_madvise(mem, BLOCK, MADV_MERGEABLE), -1);
	ck_assert_int_eq(errno, ENOMEM);
	ksmc_fork_prepare();
	pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		ksmc_fork_child();
		_exit(mem[0]);
	}
	ksmc_fork_parent();
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(mem[0], 0);
}
END_TEST

/* A child in a sandbox inherits frames but cannot have an agent; it must not wait for one. */
START_TEST(test_sandboxed_child_unmerges_alone)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_close_range, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = { sizeof(code) / sizeof(code[0]), code };
	uint8_t *mem, res[64];
	struct puppet p;
	int status;
	pid_t pid;

	start_joined(&p, &mem, 64);
	order(&p, mem, 64, 0, res);
	ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter), 0);
	pid = fork();
	if (pid == 0) {
		if (ksm_madvise(mem, 64 * PAGE, MADV_UNMERGEABLE))
			_exit(1);
		check_fill(mem, 64, 1);
		_exit(on_frame(mem) || on_frame(mem + 63 * PAGE) ? 2 : 0);
	}
	waitpid(pid, &status, 0);
	ck_assert_int_eq(status, 0);
	fake_stop();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("agent");
	TCase *tc = tcase_create("agent"), *te = tcase_create("ends_of_threads");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 150); /* of 31 s that all of them take where nothing else runs */
	tcase_set_timeout(te, 150); /* of 31 s that all of them take where nothing else runs */
	tcase_add_test(tc, test_merge_maps_frames);
	tcase_add_test(tc, test_pages_between_frames_are_inlaid);
	tcase_add_test(tc, test_inlaid_pages_are_given_back);
	tcase_add_test(tc, test_no_inlays_beside_direct_io);
	tcase_add_test(tc, test_inlays_that_cannot_be);
	tcase_add_test(tc, test_different_pages_stay);
	tcase_add_test(tc, test_zero_pages_are_given_back);
	tcase_add_test(tc, test_orders_that_come_together);
	tcase_add_test(tc, test_holes_wait_for_one_order);
	tcase_add_test(tc, test_pages_are_out_for_a_short_time);
	tcase_add_test(tc, test_pages_apart);
	tcase_add_test(tc, test_stale_and_foreign_orders);
	tcase_add_test(tc, test_dontneed_gives_zeros);
	tcase_add_test(tc, test_unmerge_restores_anonymous_memory);
	tcase_add_test(tc, test_unmerge_of_prot_none);
	tcase_add_test(tc, test_mremap_takes_frames_along);
	tcase_add_loop_test(tc, test_mremap_of_several_mappings_to_a_fixed_place, 0, 2);
	tcase_add_test(tc, test_mremap_under_a_withdrawal);
	tcase_add_test(tc, test_mremap_of_plain_memory_is_the_kernels);
	tcase_add_test(tc, test_mremap_without_memory_for_tables);
#ifdef __SANITIZE_ADDRESS__ /* its run time needs mappings as well */
	(void)test_mremap_that_cannot_shrink;
#else
	tcase_add_test(tc, test_mremap_that_cannot_shrink);
#endif
	tcase_add_test(tc, test_fork_without_the_library);
	tcase_add_test(tc, test_closing_all_descriptors);
	tcase_add_test(tc, test_pinned_pages_stay);
	tcase_add_test(tc, test_no_load_waits_for_ever);
	tcase_add_test(tc, test_broken_pages_merge_again);
	tcase_add_test(tc, test_copies_of_frames);
	tcase_add_test(tc, test_copies_of_a_run);
	tcase_add_test(tc, test_broken_pages_that_may_be_pinned_stay);
	tcase_add_test(tc, test_broken_pages_of_an_aio_process_stay);
	tcase_add_test(tc, test_policy_in_the_middle_of_many_runs);
	tcase_add_test(tc, test_broken_pages_one_by_one);
	tcase_add_test(tc, test_epoll_events_into_a_held_page);
	tcase_add_loop_test(tc, test_direct_read_in_flight, 0, 3);
	tcase_add_loop_test(tc, test_fixed_buffer_in_flight, 0, 2);
	tcase_add_loop_test(tc, test_page_in_a_pipe, 0, 3);
	tcase_add_test(tc, test_writers_lose_nothing);
	tcase_add_test(tc, test_raw_forks_lose_nothing);
	tcase_add_test(te, test_urgent_threads_do_not_wait);
	tcase_add_test(te, test_ends_of_threads_are_heard_of);
	tcase_add_test(tc, test_raw_forks_go_on_after_unmerge);
	tcase_add_test(tc, test_change_of_user_reconnects);
	tcase_add_test(tc, test_mremap_under_a_change_of_user);
	tcase_add_test(tc, test_forked_child_joins_and_adopts);
	tcase_add_test(tc, test_pages_become_shared_late);
	tcase_add_test(tc, test_reconnects);
	tcase_add_test(tc, test_adopt_follows_an_add);
	tcase_add_test(tc, test_holes_without_memory);
	tcase_add_test(tc, test_stat);
	tcase_add_test(tc, test_vfork_child_wakes_the_agent);
	tcase_add_test(tc, test_stat_after_the_same_unmerge);
	tcase_add_test(tc, test_failed_mprotect_changes_nothing);
	tcase_add_test(tc, test_absurd_lengths);
	tcase_add_test(tc, test_guards_leave_zeros);
	tcase_add_test(tc, test_wipeonfork_with_broken_pages);
	tcase_add_test(tc, test_advice_before_the_offer);
	tcase_add_loop_test(tc, test_two_advices_in_one_order, 0, 2);
	tcase_add_test(tc, test_own_tables_are_left_alone);
	tcase_add_test(tc, test_locked_pages_are_not_discarded);
	tcase_add_test(tc, test_sentinel_stays_with_frames_of_another_arena);
	tcase_add_test(tc, test_child_forgets_what_it_did_not_inherit);
	tcase_add_test(tc, test_sandboxed_child_unmerges_alone);
	suite_add_tcase(s, tc);
	suite_add_tcase(s, te);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
