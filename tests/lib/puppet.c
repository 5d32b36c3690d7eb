/* SPDX-License-Identifier: MIT */
/*
 * puppet.c - see puppet.h.
 *
 * A puppet is a fork: it has the same code at the same addresses. So function pointers are sent as
 * they are.
 */
#include "tests/lib/puppet.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"

struct call {
	puppet_fn fn; /* NULL: fork */
	long a[6];
};

static void puppet_loop(int fd, int spare)
{
	struct call c;
	bool child = false;

	while (recv(fd, &c, sizeof(c), 0) == (ssize_t)sizeof(c)) {
		long r = 0;

		if (c.fn) {
			r = c.fn(c.a);
		} else if ((r = fork()) == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(fd);
			fd = spare;
			child = true;
			continue; /* the first answer comes from the parent */
		}
		if (send(fd, &r, sizeof(r), MSG_NOSIGNAL) != (ssize_t)sizeof(r))
			_exit(1);
	}
	close(fd);
	if (!child) {
		close(spare);
		while (wait(NULL) > 0)
			;
	}
	_exit(0);
}

static void drop_to(uid_t uid)
{
	if (setgroups(0, NULL) || setgid(uid) || setuid(uid))
		harness_die("cannot become uid %u: %s", (unsigned)uid, strerror(errno));
	/* As after an execve(): otherwise /proc/self belongs to root. */
	prctl(PR_SET_DUMPABLE, 1);
}

/* The ends that a new puppet is made with. */
struct ends {
	int sv[2], spare[2];
};

static struct puppet *puppet_begin(struct ends *e)
{
	struct puppet *p = calloc(1, sizeof(*p));

	if (!p || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, e->sv) ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, e->spare))
		harness_die("puppet: %s", strerror(errno));
	fflush(NULL);
	return p;
}

static void puppet_main(struct ends *e, uid_t uid)
{
	/* Ends of other puppets, or they would not end. */
	close_range(3, (unsigned)e->sv[1] - 1, 0);
	close(e->sv[0]);
	close(e->spare[0]);
	if (uid)
		drop_to(uid);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	puppet_loop(e->sv[1], e->spare[1]);
}

static struct puppet *puppet_made(struct puppet *p, const struct ends *e)
{
	close(e->sv[1]);
	close(e->spare[1]);
	p->fd = e->sv[0];
	p->spare = e->spare[0];
	return p;
}

struct puppet *puppet_new_uid(uid_t uid)
{
	struct ends e;
	struct puppet *p = puppet_begin(&e);

	p->pid = fork();
	if (p->pid < 0)
		harness_die("fork: %s", strerror(errno));
	if (!p->pid)
		puppet_main(&e, uid);
	return puppet_made(p, &e);
}

/* Root inside is root outside, and nobody else is mapped. */
static void enter_namespaces(int namespaces)
{
	static const char *const file[] = { "setgroups", "uid_map", "gid_map" };
	static const char *const text[] = { "deny", "0 0 1", "0 0 1" };
	char path[64];

	if (unshare(namespaces))
		harness_die("unshare: %s", strerror(errno));
	for (int i = 0; i < 3 && (namespaces & CLONE_NEWUSER); i++) {
		int fd;

		snprintf(path, sizeof(path), "/proc/self/%s", file[i]);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0 || write(fd, text[i], strlen(text[i])) < 0)
			harness_die("%s: %s", path, strerror(errno));
		close(fd);
	}
}

/* The first process of a pid namespace is a child of the one that made it. */
static void namespaced_main(struct ends *e, int namespaces, uid_t uid)
{
	pid_t pid;
	int status;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	enter_namespaces(namespaces);
	pid = fork();
	if (pid == 0) {
		if ((namespaces & CLONE_NEWPID) &&
		    (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
		     mount("proc", "/proc", "proc", 0, NULL)))
			harness_die("/proc: %s", strerror(errno));
		puppet_main(e, uid);
	}
	close(e->sv[0]);
	close(e->spare[0]);
	close(e->spare[1]);
	if (pid < 0 || send(e->sv[1], &pid, sizeof(pid), 0) != sizeof(pid))
		_exit(1);
	close(e->sv[1]);
	_exit(waitpid(pid, &status, 0) == pid && !status ? 0 : 1);
}

struct puppet *puppet_new_in(int namespaces, uid_t uid)
{
	struct ends e;
	struct puppet *p = puppet_begin(&e);
	pid_t between = fork();

	if (between < 0)
		harness_die("fork: %s", strerror(errno));
	if (!between)
		namespaced_main(&e, namespaces, uid);
	puppet_made(p, &e);
	if (recv(p->fd, &p->pid, sizeof(p->pid), 0) != sizeof(p->pid))
		harness_die("no puppet in namespaces");
	return p;
}

struct puppet *puppet_new(void)
{
	return puppet_new_uid(0);
}

static long fn_nothing(const long a[6])
{
	return a[0];
}

/* The number that a puppet has here. In a pid namespace of its own it knows another. */
static pid_t number_of(struct puppet *p)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	long r;
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control) };
	struct ucred cred;
	int on = 1, off = 0;

	setsockopt(p->fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on));
	puppet_post(p, fn_nothing, 0);
	if (recvmsg(p->fd, &mh, 0) != sizeof(r) || control.hdr.cmsg_type != SCM_CREDENTIALS)
		harness_die("a puppet does not answer");
	setsockopt(p->fd, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off));
	memcpy(&cred, CMSG_DATA(&control.hdr), sizeof(cred));
	return cred.pid;
}

struct puppet *puppet_fork(struct puppet *p)
{
	struct puppet *child = calloc(1, sizeof(*child));

	if (!child || p->spare < 0)
		harness_die("puppet_fork: no memory, or the second one");
	child->pid = (pid_t)puppet_call_(p, NULL, (const long[6]){ 0 });
	if (child->pid <= 0)
		harness_die("fork in a puppet failed");
	child->fd = p->spare;
	child->spare = p->spare = -1;
	child->pid = number_of(child);
	return child;
}

void puppet_post_(struct puppet *p, puppet_fn fn, const long a[6])
{
	struct call c = { .fn = fn };

	memcpy(c.a, a, sizeof(c.a));
	if (send(p->fd, &c, sizeof(c), MSG_NOSIGNAL) != (ssize_t)sizeof(c))
		harness_die("puppet %d is gone", (int)p->pid);
}

long puppet_result(struct puppet *p)
{
	struct pollfd pfd = { .fd = p->fd, .events = POLLIN };
	long r;

	if (poll(&pfd, 1, PUPPET_TIMEOUT_MS) != 1)
		harness_die("puppet %d is blocked: no answer within %d ms", (int)p->pid,
			    PUPPET_TIMEOUT_MS);
	if (recv(p->fd, &r, sizeof(r), 0) != (ssize_t)sizeof(r)) {
		int status = 0;

		waitpid(p->pid, &status, 0);
		harness_die("puppet %d died (status %#x)", (int)p->pid, (unsigned)status);
	}
	return r;
}

long puppet_call_(struct puppet *p, puppet_fn fn, const long a[6])
{
	puppet_post_(p, fn, a);
	return puppet_result(p);
}

static void puppet_free(struct puppet *p)
{
	close(p->fd);
	if (p->spare >= 0)
		close(p->spare);
	free(p);
}

void puppet_end(struct puppet *p)
{
	pid_t pid = p->pid;
	int status;

	puppet_free(p);
	/* A forked puppet is not our child (ECHILD): its parent waits for it. */
	if (waitpid(pid, &status, 0) == pid && status)
		harness_die("puppet %d ended with status %#x", (int)pid, (unsigned)status);
}

void puppet_kill(struct puppet *p)
{
	kill(p->pid, SIGKILL);
	waitpid(p->pid, NULL, 0);
	puppet_free(p);
}

/* ---- functions to call in a puppet ---- */

void page_fill(void *page, uint64_t content)
{
	uint64_t *p = page, x = content * 0x9e3779b97f4a7c15ull;

	for (unsigned i = 0; i < PUPPET_PAGE / 8; i++) {
		p[i] = x; /* 0 stays 0 */
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
	}
}

bool page_holds(const void *page, uint64_t content)
{
	char want[PUPPET_PAGE] __attribute__((aligned(8)));

	page_fill(want, content);
	return !memcmp(page, want, PUPPET_PAGE);
}

static long result(int r)
{
	return r < 0 ? -errno : r;
}

static long address(void *p)
{
	return p == MAP_FAILED ? -errno : (long)p;
}

long fn_map(const long a[6])
{
	int prot = a[1] ? (int)a[1] : PROT_READ | PROT_WRITE;
	int flags = a[2] ? (int)a[2] : MAP_PRIVATE;

	return address(mmap(NULL, (size_t)a[0] * PUPPET_PAGE, prot, flags | MAP_ANONYMOUS, -1, 0));
}

long fn_ksm_map(const long a[6])
{
	return address(ksm_mmap(NULL, (size_t)a[0] * PUPPET_PAGE, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

long fn_merge_any(const long a[6])
{
	return result(ksm_merge_any(a[0]));
}

long fn_fill(const long a[6])
{
	for (long i = 0; i < a[1]; i++)
		page_fill((char *)a[0] + (size_t)i * PUPPET_PAGE, (uint64_t)(a[2] + i * a[3]));
	return 0;
}

long fn_touch(const long a[6])
{
	for (long i = 0; i < a[1]; i++)
		(void)*(volatile char *)(a[0] + i * (long)PUPPET_PAGE);
	return 0;
}

long fn_check(const long a[6])
{
	long bad = 0;

	for (long i = 0; i < a[1]; i++)
		bad += !page_holds((char *)a[0] + (size_t)i * PUPPET_PAGE,
				   (uint64_t)(a[2] + i * a[3]));
	return bad;
}

long fn_madvise(const long a[6])
{
	return result(ksm_madvise((void *)a[0], (size_t)a[1], (int)a[2]));
}

long fn_munmap(const long a[6])
{
	return result(ksm_munmap((void *)a[0], (size_t)a[1]));
}

long fn_mremap(const long a[6])
{
	return address(
		ksm_mremap((void *)a[0], (size_t)a[1], (size_t)a[2], (int)a[3], (void *)a[4]));
}

long fn_mprotect(const long a[6])
{
	return result(ksm_mprotect((void *)a[0], (size_t)a[1], (int)a[2]));
}

long fn_connected(const long a[6])
{
	struct ksm_stat st = { .size = sizeof(st) };

	(void)a;
	return ksm_stat(&st) ? -errno : (long)st.connected;
}

long fn_offer(const long a[6])
{
	long addr = fn_map((const long[6]){ a[0] });

	if (addr < 0)
		return addr;
	fn_fill((const long[6]){ addr, a[0], a[1], a[2] });
	if (ksm_madvise((void *)addr, (size_t)a[0] * PUPPET_PAGE, MADV_MERGEABLE))
		return -errno;
	return addr;
}

/* ---- what can be seen from outside ---- */

void daemon_hasten(struct daemon *d)
{
	if (ctl_set(d, "ksm/run", "1") || ctl_set(d, "ksm/pages_to_scan", "100000") ||
	    ctl_set(d, "ksm/sleep_millisecs", "5") || ctl_set(d, "ksm/max_idle_millisecs", "20") ||
	    ctl_set(d, "ksm/max_cpu_percent", "100"))
		harness_die("the daemon refuses knobs");
}

void wait_counter_at(const char *file, int line, struct daemon *d, const char *path, uint64_t value)
{
	uint64_t end = harness_now_ms() + WAIT_MS, now;

	while ((now = ctl_get_u64(d, path)) != value) {
		if (harness_now_ms() > end)
			harness_die_at(file, line, "%s is %llu and not %llu", path,
				       (unsigned long long)now, (unsigned long long)value);
		harness_nap();
	}
}

uint64_t pagemap_entry(pid_t pid, long addr)
{
	char path[64];
	uint64_t e = 0;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		harness_die("%s: %s", path, strerror(errno));
	if (pread(fd, &e, sizeof(e), addr / (long)PUPPET_PAGE * 8) != (ssize_t)sizeof(e))
		harness_die("%s: %s", path, strerror(errno));
	close(fd);
	return e;
}

uint64_t page_pfn(pid_t pid, long addr)
{
	uint64_t e = pagemap_entry(pid, addr);

	return e >> 63 ? e & ((1ull << 55) - 1) : 0;
}

bool page_present(pid_t pid, long addr)
{
	return pagemap_entry(pid, addr) >> 63;
}

bool page_is_file(pid_t pid, long addr)
{
	uint64_t e = pagemap_entry(pid, addr);

	return (e >> 63) && (e >> 61 & 1);
}

int pages_on_frames(pid_t pid, long addr, int pages)
{
	int nr = 0;

	for (int i = 0; i < pages; i++)
		nr += page_is_file(pid, addr + i * (long)PUPPET_PAGE);
	return nr;
}

int puppet_pages_on_frames(struct puppet *p, long addr, int pages)
{
	puppet_call(p, fn_touch, addr, pages);
	return pages_on_frames(p->pid, addr, pages);
}

int pages_sharing_frames(struct puppet *p, long a, struct puppet *q, long b, int pages)
{
	int nr = 0;

	puppet_call(p, fn_touch, a, pages);
	puppet_call(q, fn_touch, b, pages);
	for (long i = 0; i < pages; i++) {
		uint64_t pfn = page_pfn(p->pid, a + i * (long)PUPPET_PAGE);

		nr += pfn && pfn == page_pfn(q->pid, b + i * (long)PUPPET_PAGE);
	}
	return nr;
}

bool pfns_visible(void)
{
	static char byte;

	*(volatile char *)&byte = 1;
	if (page_pfn(getpid(), (long)&byte & -4096))
		return true;
	printf("SKIP: the kernel hides page frame numbers from this user (run as root)\n");
	return false;
}
