/* SPDX-License-Identifier: MIT */
/*
 * unseen.c - see unseen.h.
 *
 * Go maps its memory through the C library where there is one, and gives it back by system calls of
 * its own. Assembler in other objects may do the same. What can be told is told by an object's
 * file: Go leaves its mark in the data, and elsewhere the instruction that calls the kernel follows
 * the one that loads the number. Larger code than is read here, and numbers that come from
 * elsewhere, are not found.
 *
 * Objects that were asked about are remembered. One that is unloaded may leave its place to another
 * of the same size, which is then taken for it.
 */
#include "preload/unseen.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

#include "base/span.h"
#include "client/sysc.h"
#include "preload/preload.h"
#include "wire/abi.h"

#define OBJECTS 128
#define BUF ((size_t)64 << 10)
#define MAX_CODE ((uint64_t)8 << 20) /* what is read of an object's code: a few milliseconds */
#define MAX_HEADERS 64
#define GO_MARK "\xff Go buildinf:" /* debug/buildinfo: at the start of the data, aligned to 16 */

enum { EMPTY, TAKEN, SEEN, UNSEEN };

static struct object {
	_Atomic int state; /* SEEN or UNSEEN: the rest is valid and stays */
	uintptr_t start, end;
} objects[OBJECTS];

/* The C library's since 2.35; it takes no lock, which others may hold for as long as they like. */
extern int _dl_find_object(void *addr, struct dl_find_object *result) __attribute__((weak));

/* ---- files ---- */

static size_t read_at(long fd, void *to, size_t len, uint64_t at)
{
	long n = sysc4(SYS_pread64, fd, to, len, at);

	return n > 0 ? (size_t)n : 0;
}

static bool has_go_mark(long fd, unsigned char *buf, const Elf64_Phdr *p)
{
	size_t n = read_at(fd, buf, p->p_filesz < BUF ? p->p_filesz : BUF, p->p_offset);

	for (size_t i = 0; i + sizeof(GO_MARK) <= n; i += 16)
		if (!memcmp(buf + i, GO_MARK, sizeof(GO_MARK) - 1))
			return true;
	return false;
}

#ifdef __x86_64__
#define LOOK_BACK ((size_t)24) /* bytes from loading the number to the call */

/* munmap, mremap, madvise, process_madvise */
static bool takes_away(uint32_t nr)
{
	return nr == SYS_munmap || nr == SYS_mremap || nr == SYS_madvise ||
	       nr == SYS_process_madvise;
}

/* Is the number of such a call loaded in these bytes, by "mov $nr, %eax" or the longer form? */
static bool loads_number(const unsigned char *p, size_t len)
{
	for (size_t i = 0; i + 5 <= len; i++) {
		bool longer = i >= 2 && p[i] == 0xc0 && p[i - 1] == 0xc7 && p[i - 2] == 0x48;
		uint32_t nr;

		memcpy(&nr, p + i + 1, sizeof(nr));
		if ((p[i] == 0xb8 || longer) && takes_away(nr))
			return true;
	}
	return false;
}

static bool calls_kernel(const unsigned char *code, size_t n)
{
	const unsigned char *p = code;

	/* "syscall" is 0f 05. */
	while ((p = memchr(p, 0x05, (size_t)(code + n - p)))) {
		size_t back = (size_t)(p - code) < LOOK_BACK ? (size_t)(p - code) : LOOK_BACK;

		if (p > code && p[-1] == 0x0f && loads_number(p - back, back))
			return true;
		p++;
	}
	return false;
}

static bool code_calls_kernel(long fd, unsigned char *buf, const Elf64_Phdr *p)
{
	uint64_t at = 0;
	size_t n;

	for (; p->p_filesz <= MAX_CODE && at + LOOK_BACK < p->p_filesz; at += BUF - LOOK_BACK) {
		uint64_t rest = p->p_filesz - at;

		n = read_at(fd, buf, rest < BUF ? rest : BUF, p->p_offset + at);
		if (calls_kernel(buf, n))
			return true;
	}
	return false;
}
#else
static bool code_calls_kernel(long fd, unsigned char *buf, const Elf64_Phdr *p)
{
	(void)fd;
	(void)buf;
	(void)p;
	return false;
}
#endif

/* Is libksm in the object? It says itself what it does. */
static bool has_libksm(long fd, unsigned char *buf, const Elf64_Phdr *p)
{
	const size_t len = sizeof(KSM_MARK) - 1;
	size_t n;

	for (uint64_t at = 0; at < p->p_filesz && at < MAX_CODE; at += BUF - len) {
		n = read_at(fd, buf, BUF, p->p_offset + at);
		if (memmem(buf, n, KSM_MARK, len))
			return true;
	}
	return false;
}

static bool is_ours(long fd, unsigned char *buf, const Elf64_Phdr *ph, int nr)
{
	for (int i = 0; i < nr; i++)
		if (ph[i].p_type == PT_LOAD && !(ph[i].p_flags & PF_W) &&
		    has_libksm(fd, buf, &ph[i]))
			return true;
	return false;
}

static bool file_calls_unseen(long fd, unsigned char *buf)
{
	Elf64_Phdr ph[MAX_HEADERS];
	Elf64_Ehdr eh;

	if (read_at(fd, &eh, sizeof(eh), 0) != sizeof(eh) || eh.e_phentsize != sizeof(ph[0]) ||
	    eh.e_phnum > MAX_HEADERS ||
	    read_at(fd, ph, eh.e_phnum * sizeof(ph[0]), eh.e_phoff) != eh.e_phnum * sizeof(ph[0]))
		return false;
	for (int i = 0; i < eh.e_phnum; i++) {
		if (ph[i].p_type != PT_LOAD)
			continue;
		if ((ph[i].p_flags & PF_W) && has_go_mark(fd, buf, &ph[i]))
			return true;
		if ((ph[i].p_flags & PF_X) && code_calls_kernel(fd, buf, &ph[i]))
			return !is_ours(fd, buf, ph, eh.e_phnum);
	}
	return false;
}

static bool object_calls_unseen(const struct link_map *map)
{
	const char *path = map && map->l_name && map->l_name[0] ? map->l_name : "/proc/self/exe";
	long fd = sysc4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	long buf =
		sysc6(SYS_mmap, 0, BUF, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	bool unseen = fd >= 0 && !sysc_failed(buf) && file_calls_unseen(fd, (unsigned char *)buf);

	if (fd >= 0)
		sysc1(SYS_close, fd);
	if (!sysc_failed(buf))
		sysc2(SYS_munmap, buf, BUF);
	return unseen;
}

/* ---- what is known ---- */

static const struct object *known(uintptr_t addr)
{
	for (int i = 0; i < OBJECTS; i++) {
		int state = atomic_load_explicit(&objects[i].state, memory_order_acquire);

		if (state == EMPTY)
			break;
		if (state != TAKEN && addr >= objects[i].start && addr < objects[i].end)
			return &objects[i];
	}
	return NULL;
}

static void remember(uintptr_t start, uintptr_t end, bool unseen)
{
	for (int i = 0; i < OBJECTS; i++) {
		int empty = EMPTY;

		if (!atomic_compare_exchange_strong(&objects[i].state, &empty, TAKEN))
			continue;
		objects[i].start = start;
		objects[i].end = end;
		atomic_store_explicit(&objects[i].state, unseen ? UNSEEN : SEEN,
				      memory_order_release);
		return;
	}
}

bool unseen_calls_in(const void *caller)
{
	const struct object *o = known((uintptr_t)caller);
	struct dl_find_object found, ours;
	bool unseen;

	if (o)
		return atomic_load(&o->state) == UNSEEN;
	if (!_dl_find_object || _dl_find_object((void *)(uintptr_t)caller, &found))
		return false;
	unseen =
		(_dl_find_object(&preload, &ours) || ours.dlfo_map_start != found.dlfo_map_start) &&
		object_calls_unseen(found.dlfo_link_map);
	remember((uintptr_t)found.dlfo_map_start, (uintptr_t)found.dlfo_map_end, unseen);
	return unseen;
}
