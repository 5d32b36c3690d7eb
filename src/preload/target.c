/* SPDX-License-Identifier: MIT */
/*
 * target.c - see target.h.
 *
 * A loader that finds the object in LD_PRELOAD and cannot load it ends the program: musl's, which
 * has other symbols, and one of an older C library. The shared runtime of a sanitizer ends it when
 * anything is loaded before it. Such programs run uncovered, and so do those that they start.
 *
 * A program names its loader. It is judged by whether that is the file that loaded this process,
 * for which the object has been good. It names a sanitizer among the libraries that it needs.
 *
 * The files are read by raw system calls and with little stack, because the caller may be a vfork
 * child on a small one.
 */
#include "preload/target.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/sysc.h"

/* Scripts whose interpreter is a script, one after another; the kernel has a limit as well. */
#define SCRIPTS_MAX 4
/* A program with more of these is believed to fit. */
#define PHDRS_MAX 64
#define DYN_MAX 512
/* Longer names of loaders, and of interpreters of scripts, are believed to be ours. */
#define NAME_MAX_HERE 256
#define DIR_MAX 512

static bool read_at(int fd, void *buf, size_t len, uint64_t off)
{
	return sysc4(SYS_pread64, fd, buf, len, off) == (long)len;
}

/* Read what is there of a string. Returns false where there is nothing. */
static bool read_string(int fd, char *buf, size_t size, uint64_t off)
{
	long n = sysc4(SYS_pread64, fd, buf, size - 1, off);

	if (n <= 0)
		return false;
	buf[n] = '\0';
	return true;
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The loader of this process, or NULL: it was started by hand (ld.so PROGRAM). */
static const char *own_loader(void)
{
	const ElfW(Phdr) *ph = (const void *)getauxval(AT_PHDR);
	size_t n = getauxval(AT_PHNUM);
	uintptr_t base = 0;

	for (size_t i = 0; ph && i < n; i++)
		if (ph[i].p_type == PT_PHDR)
			base = (uintptr_t)ph - ph[i].p_vaddr;
	for (size_t i = 0; ph && i < n; i++)
		if (ph[i].p_type == PT_INTERP)
			return (const char *)base + ph[i].p_vaddr;
	return NULL;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return stat(a, &x) || stat(b, &y) || (x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

/* Loaders of the C library for this machine have one name. */
static bool is_own_loader(const char *loader)
{
	const char *own = own_loader();

	if (!own)
		return !strncmp(base_name(loader), "ld-linux", 8);
	return !strcmp(own, loader) || same_file(own, loader);
}

/* `name` is the file's name of a library. */
static bool is_sanitizer(const char *name)
{
	static const char *const begins[] = { "libasan.so", "libtsan.so", "liblsan.so",
					      "libhwasan.so", "libclang_rt." };

	for (size_t i = 0; i < sizeof(begins) / sizeof(begins[0]); i++)
		if (!strncmp(name, begins[i], strlen(begins[i])))
			return true;
	return false;
}

bool target_list_is_sanitized(const char *list)
{
	for (const char *p = list; *p;) {
		size_t len = strcspn(p, " :");
		const char *name = p + len;

		while (name > p && name[-1] != '/')
			name--;
		if (is_sanitizer(name))
			return true;
		p += len + (p[len] != '\0');
	}
	return false;
}

/* Where the file has what is loaded at `addr`. False: nowhere. */
static bool offset_of(int fd, const Elf64_Ehdr *eh, uint64_t addr, uint64_t *off)
{
	Elf64_Phdr ph;

	for (int i = 0; i < eh->e_phnum && i < PHDRS_MAX; i++) {
		if (!read_at(fd, &ph, sizeof(ph), eh->e_phoff + (uint64_t)i * sizeof(ph)))
			return false;
		if (ph.p_type == PT_LOAD && addr >= ph.p_vaddr && addr - ph.p_vaddr < ph.p_filesz) {
			*off = ph.p_offset + (addr - ph.p_vaddr);
			return true;
		}
	}
	return false;
}

/* Is a sanitizer among what the dynamic section at `at` needs? */
static bool needs_sanitizer(int fd, const Elf64_Ehdr *eh, uint64_t at, uint64_t size)
{
	uint64_t strings = 0, nr = size / sizeof(Elf64_Dyn);
	char name[32];
	Elf64_Dyn d;

	nr = nr < DYN_MAX ? nr : DYN_MAX;
	for (uint64_t i = 0; i < nr && !strings; i++)
		if (!read_at(fd, &d, sizeof(d), at + i * sizeof(d)) ||
		    (d.d_tag == DT_STRTAB && !offset_of(fd, eh, d.d_un.d_ptr, &strings)))
			return false;
	for (uint64_t i = 0; i < nr; i++) {
		if (!read_at(fd, &d, sizeof(d), at + i * sizeof(d)) || d.d_tag == DT_NULL)
			return false;
		if (d.d_tag == DT_NEEDED && strings &&
		    read_string(fd, name, sizeof(name), strings + d.d_un.d_val) &&
		    is_sanitizer(name))
			return true;
	}
	return false;
}

static bool has_own_loader(int fd, const Elf64_Phdr *ph)
{
	char loader[NAME_MAX_HERE];

	return ph->p_filesz >= sizeof(loader) ||
	       !read_string(fd, loader, ph->p_filesz, ph->p_offset) || is_own_loader(loader);
}

enum target target_of(int fd)
{
	enum target t = TARGET_STATIC;
	Elf64_Ehdr eh;
	Elf64_Phdr ph;

	if (!read_at(fd, &eh, sizeof(eh), 0) || memcmp(eh.e_ident, ELFMAG, SELFMAG) != 0)
		return TARGET_FITS;
	if (eh.e_ident[EI_CLASS] != ELFCLASS64)
		return TARGET_OTHER_CLASS;
	if (eh.e_phentsize != sizeof(ph) || eh.e_phnum > PHDRS_MAX)
		return TARGET_FITS;
	for (int i = 0; i < eh.e_phnum; i++) {
		if (!read_at(fd, &ph, sizeof(ph), eh.e_phoff + (uint64_t)i * sizeof(ph)))
			return TARGET_FITS;
		if (ph.p_type == PT_INTERP) {
			if (!has_own_loader(fd, &ph))
				return TARGET_OTHER_LOADER;
			t = TARGET_FITS;
		} else if (ph.p_type == PT_DYNAMIC &&
			   needs_sanitizer(fd, &eh, ph.p_offset, ph.p_filesz)) {
			return TARGET_SANITIZED;
		}
	}
	return t;
}

/* Takes the interpreter out of the first line of a script. False: it is none. */
static bool read_interpreter(int fd, char name[NAME_MAX_HERE])
{
	char *p;

	if (!read_string(fd, name, NAME_MAX_HERE, 0) || name[0] != '#' || name[1] != '!')
		return false;
	p = name + 2;
	p += strspn(p, " \t");
	p[strcspn(p, " \t\n")] = '\0';
	memmove(name, p, strlen(p) + 1);
	return name[0] == '/';
}

bool target_fits(int dir, const char *path, int flags)
{
	bool empty = (flags & AT_EMPTY_PATH) && !path[0], fits = true;
	char interpreter[NAME_MAX_HERE];
	long fd = empty ? dir : sysc4(SYS_openat, dir, path, O_RDONLY | O_CLOEXEC, 0);

	for (int i = 0; fd >= 0; i++) {
		long next = -1;

		if (i < SCRIPTS_MAX && read_interpreter((int)fd, interpreter)) {
			next = sysc4(SYS_openat, AT_FDCWD, interpreter, O_RDONLY | O_CLOEXEC, 0);
		} else {
			enum target t = target_of((int)fd);

			fits = t == TARGET_FITS || t == TARGET_STATIC;
		}
		if (!empty)
			sysc1(SYS_close, fd);
		empty = false;
		fd = next;
	}
	return fits;
}

bool target_fits_in_path(const char *file)
{
	const char *p = getenv("PATH"), *end;
	char path[DIR_MAX];

	if (strchr(file, '/'))
		return target_fits(AT_FDCWD, file, 0);
	for (p = p ? p : "/bin:/usr/bin"; *p; p = *end ? end + 1 : end) {
		size_t len = strcspn(p, ":");

		end = p + len;
		if (len + strlen(file) + 2 > sizeof(path))
			continue;
		memcpy(path, p, len);
		path[len] = '/';
		strcpy(path + len + (len > 0), file);
		if (!sysc4(SYS_faccessat, AT_FDCWD, path, X_OK, 0))
			return target_fits(AT_FDCWD, path, 0);
	}
	return true;
}
