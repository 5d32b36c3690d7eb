/* SPDX-License-Identifier: MIT */
/*
 * maps.c - read /proc/self/maps line by line with raw system calls.
 *
 * The text of all mappings costs 0.3 us each. Since Linux 6.11 the kernel answers for single
 * addresses, and for mappings of one kind; where only these are wanted it is asked in that way.
 *
 * A buffer holds a line of PATH_MAX + 100 bytes, which none exceeds. Programs call from stacks of a
 * few KiB (coroutines), so the buffer is a shared one, and on the stack only while another thread
 * has that. Names are cut to what struct maps_entry holds.
 */
#include "client/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/span.h"
#include "client/sysc.h"
#include "wire/kernel_abi.h"
#include "wire/wire.h"

static const char *hex(const char *p, uint64_t *v)
{
	for (*v = 0;; p++) {
		if (*p >= '0' && *p <= '9')
			*v = *v << 4 | (uint64_t)(*p - '0');
		else if (*p >= 'a' && *p <= 'f')
			*v = *v << 4 | (uint64_t)(*p - 'a' + 10);
		else
			return p;
	}
}

/* "start-end rwxp offset maj:min inode   name" */
static void parse(const char *p, struct maps_entry *e)
{
	uint64_t major, minor, inode = 0;
	size_t n = 0;

	p = hex(p, &e->start) + 1;
	p = hex(p, &e->end) + 1;
	e->prot = (p[0] == 'r' ? PROT_READ : 0) | (p[1] == 'w' ? PROT_WRITE : 0) |
		  (p[2] == 'x' ? PROT_EXEC : 0);
	e->shared = p[3] == 's';
	p = hex(p + 5, &e->offset) + 1;
	p = hex(p, &major) + 1;
	p = hex(p, &minor) + 1;
	for (; *p >= '0' && *p <= '9'; p++)
		inode = inode * 10 + (uint64_t)(*p - '0');
	e->file = maps_file_id((unsigned int)major, (unsigned int)minor, inode);
	while (*p == ' ')
		p++;
	while (*p && n < sizeof(e->name) - 1)
		e->name[n++] = *p++;
	e->name[n] = '\0';
}

/*
 * Hand the lines of buf[0, have) that overlap `range` to fn. Returns how many bytes whole lines
 * take, and adds their number to *nr.
 */
static size_t walk_lines(char *buf, size_t have, struct span range,
			 void (*fn)(void *arg, const struct maps_entry *e), void *arg, int *nr)
{
	char *line = buf, *nl;

	while ((nl = memchr(line, '\n', have - (size_t)(line - buf)))) {
		struct maps_entry e;

		*nl = '\0';
		++*nr;
		if (fn)
			parse(line, &e);
		if (fn && span_meets((struct span){ e.start, e.end }, range))
			fn(arg, &e);
		line = nl + 1;
	}
	return (size_t)(line - buf);
}

struct maps_scratch maps_scratch;

/*
 * The mapping at or behind `at`, of those that are as `which` says (KABI_PROCMAP_*). A name that
 * does not fit is left out: it is none of ours.
 */
static long query(long fd, uint64_t at, uint64_t which, char buf[MAPS_SCRATCH],
		  struct maps_entry *e)
{
	struct kabi_procmap_query q = {
		.size = sizeof(q),
		.query_flags = KABI_PROCMAP_QUERY_OR_NEXT | which,
		.query_addr = at,
		.vma_name_addr = (uintptr_t)buf,
		.vma_name_size = MAPS_SCRATCH,
	};
	long r = sysc3(SYS_ioctl, fd, KABI_PROCMAP_QUERY, &q);

	if (r)
		return r;
	*e = (struct maps_entry){ .start = q.vma_start, .end = q.vma_end, .offset = q.vma_offset };
	e->file = maps_file_id(q.dev_major, q.dev_minor, q.inode);
	e->prot = (uint8_t)(((q.vma_flags & KABI_PROCMAP_READABLE) ? PROT_READ : 0) |
			    ((q.vma_flags & KABI_PROCMAP_WRITABLE) ? PROT_WRITE : 0) |
			    ((q.vma_flags & KABI_PROCMAP_EXECUTABLE) ? PROT_EXEC : 0));
	e->shared = q.vma_flags & KABI_PROCMAP_SHARED;
	if (q.vma_name_size)
		strncpy(e->name, buf, sizeof(e->name) - 1);
	return 0;
}

/* As maps_walk(), of mappings as `which` says; -ENOTTY where the kernel cannot do this. */
static int query_all(long fd, char buf[MAPS_SCRATCH], struct span range, uint64_t which,
		     void (*fn)(void *arg, const struct maps_entry *e), void *arg)
{
	struct maps_entry e;
	int nr = 0;

	for (uint64_t at = range.start; at < range.end; at = e.end) {
		long r = query(fd, at, which, buf, &e);

		if (r == -ENOENT)
			break;
		if (r)
			return r == -EINTR || r == -ENOMEM ? (int)r : -ENOTTY;
		if (e.start >= range.end)
			break;
		nr++;
		if (fn)
			fn(arg, &e);
	}
	return nr;
}

static int walk_in(long fd, char buf[MAPS_SCRATCH], uint64_t start, uint64_t end,
		   void (*fn)(void *arg, const struct maps_entry *e), void *arg)
{
	size_t have = 0;
	int nr = 0;

	if (start < end && end != UINT64_MAX) {
		nr = query_all(fd, buf, (struct span){ start, end }, 0, fn, arg);
		if (nr != -ENOTTY)
			return nr;
		nr = 0;
	}
	for (;;) {
		long n = sysc3(SYS_read, fd, buf + have, MAPS_SCRATCH - 1 - have);
		size_t done;

		if (n == -EINTR)
			continue;
		if (n < 0)
			nr = (int)n;
		if (n <= 0)
			break;
		have += (size_t)n;
		done = walk_lines(buf, have, (struct span){ start, end }, fn, arg, &nr);
		have -= done;
		memmove(buf, buf + done, have);
	}
	return nr;
}

/* Not inlined: its buffer would count for the callers that do not need it. */
__attribute__((noinline)) static int
walk_on_stack(long fd, uint64_t start, uint64_t end,
	      void (*fn)(void *arg, const struct maps_entry *e), void *arg)
{
	char buf[MAPS_SCRATCH];

	return walk_in(fd, buf, start, end, fn, arg);
}

/* A child may find the buffer taken by a thread that it does not have. Then it stays taken. */
int maps_walk_in(int fd, uint64_t start, uint64_t end,
		 void (*fn)(void *arg, const struct maps_entry *e), void *arg)
{
	sysc3(SYS_lseek, fd, 0, SEEK_SET);
	return walk_on_stack(fd, start, end, fn, arg);
}

int maps_walk(uint64_t start, uint64_t end, void (*fn)(void *arg, const struct maps_entry *e),
	      void *arg)
{
	long fd = sysc4(SYS_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC, 0);
	int nr;

	if (fd < 0)
		return (int)fd;
	if (atomic_exchange_explicit(&maps_scratch.taken, true, memory_order_acquire)) {
		nr = walk_on_stack(fd, start, end, fn, arg);
	} else {
		nr = walk_in(fd, maps_scratch.buf, start, end, fn, arg);
		atomic_store_explicit(&maps_scratch.taken, false, memory_order_release);
	}
	sysc1(SYS_close, fd);
	return nr;
}

/* Not inlined: see walk_on_stack(). */
__attribute__((noinline)) static int
query_shared(long fd, void (*fn)(void *arg, const struct maps_entry *e), void *arg)
{
	char buf[MAPS_SCRATCH];

	return query_all(fd, buf, (struct span){ 0, UINT64_MAX },
			 KABI_PROCMAP_SHARED | KABI_PROCMAP_FILE_BACKED, fn, arg);
}

int maps_walk_shared(int fd, void (*fn)(void *arg, const struct maps_entry *e), void *arg)
{
	int nr = query_shared(fd, fn, arg);

	return nr == -ENOTTY ? maps_walk_in(fd, 0, UINT64_MAX, fn, arg) : nr;
}

uint64_t maps_end(int fd, uint64_t addr)
{
	struct kabi_procmap_query q = { .size = sizeof(q), .query_addr = addr };

	return sysc3(SYS_ioctl, fd, KABI_PROCMAP_QUERY, &q) ? 0 : q.vma_end;
}

uint32_t maps_count(void)
{
	int nr = maps_walk(0, 0, NULL, NULL);

	return nr > 0 ? (uint32_t)nr : 0;
}

/* Does a path end like that: the name, and perhaps what says that the file has no link? */
static bool named_arena(const char *path)
{
	static const char name[] = KSM_ARENA_NAME;

	if (strncmp(path, name, sizeof(name) - 1) != 0)
		return false;
	path += sizeof(name) - 1;
	return !*path || !strcmp(path, " (deleted)");
}

bool maps_is_arena(const struct maps_entry *e)
{
	/* A file at the root of the daemon's own tmpfs, or a memfd where it could not make one. */
	if (!strncmp(e->name, "/memfd:", 7))
		return named_arena(e->name + 7);
	return e->name[0] == '/' && named_arena(e->name + 1);
}

bool maps_is_anon(const struct maps_entry *e)
{
	if (e->file || e->shared)
		return false;
	return !e->name[0] || !strcmp(e->name, "[heap]") || !strncmp(e->name, "[anon:", 6);
}
