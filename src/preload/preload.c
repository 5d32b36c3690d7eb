// SPDX-License-Identifier: MIT
/*
 * setup.c - settings, start-up, and what is done about malloc.
 *
 * Two moments. The first interposed call, which is often an allocator's in front of any
 * constructor, reads the settings from the initial environment block (the C library has not yet
 * taken it in) and switches the offer policy on. By that the library's fork handlers come before
 * those of an allocator, so that the library's lock is taken after the allocator's on fork, as it
 * is everywhere else. Then the constructor, in which no lock is held: malloc, the main heap, the
 * agent.
 *
 * The C library's malloc asks for memory from within, where no interposer sees it. So it is
 * told to take all of it from the main heap, which it then never gives back to the kernel: growth
 * is noticed by asking for the break now and then, and nothing else happens to a heap. One arena,
 * no mappings, no trimming; malloc_trim() does nothing and says so (returns 0).
 *
 * Nothing is offered in a Go program. Its runtime takes memory through the C library's mmap() where
 * it is linked with that, and gives pages back with madvise() instructions of its own.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "client/client.h"
#include "preload/settings.h"

/* A mapping costs the daemon a region and the process, if it is merged, mappings of its own: below
 * 64 KiB that is seldom worth it. */
#define OFFER_MIN_PAGES 16

struct preload preload;

/* Set by the dynamic loader before anything runs: argc, then argv, NULL, the environment, NULL. */
extern void *__libc_stack_end;

const char *initial_env(const char *name)
{
	long *argc = __libc_stack_end;
	char **env = (char **)(argc + 1) + *argc + 1;
	size_t n = strlen(name);

	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	return NULL;
}

static bool note_says_go(const char *p, size_t size)
{
	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *n = (const void *)p;
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): the dynamic loader has read it as well */
		size_t skip = sizeof(*n) + ((n->n_namesz + 3) & ~3u) + ((n->n_descsz + 3) & ~3u);

		if (n->n_namesz == 4 && memcmp(n + 1, "Go", 3) == 0)
			return true;
		if (skip > size)
			return false;
		p += skip;
		size -= skip;
	}
	return false;
}

static bool program_is_go(void)
{
	const ElfW(Phdr) *ph = (const void *)getauxval(AT_PHDR);
	size_t n = getauxval(AT_PHNUM);
	uintptr_t base = 0;

	if (!ph)
		return false;
	for (size_t i = 0; i < n; i++)
		if (ph[i].p_type == PT_PHDR)
			base = (uintptr_t)ph - ph[i].p_vaddr;
	for (size_t i = 0; i < n; i++)
		if (ph[i].p_type == PT_NOTE &&
		    note_says_go((const char *)base + ph[i].p_vaddr, ph[i].p_memsz))
			return true;
	return false;
}

/* The daemon must not be a client of itself. */
static bool program_is_daemon(void)
{
	const char *path = (const char *)getauxval(AT_EXECFN);
	const char *name = path ? strrchr(path, '/') : NULL;

	return path && strcmp(name ? name + 1 : path, "ksmd-user") == 0;
}

static enum preload_mode mode_of(const char *v)
{
	if (v && strcmp(v, KSM_RUN_MODE_OFF) == 0)
		return PRELOAD_OFF;
	if (v && strcmp(v, KSM_RUN_MODE_MADVISE) == 0)
		return PRELOAD_MADVISE;
	return PRELOAD_AUTO;
}

/* A copy: programs write over their initial environment to change their title. */
static void copy_runtime_dir(const char *dir)
{
	if (dir && strlen(dir) < sizeof(preload.runtime_dir))
		strcpy(preload.runtime_dir, dir);
}

void preload_setup_slow(void)
{
	const char *v = initial_env(KSM_RUN_MALLOC);

	preload.wanted_mode = mode_of(initial_env(KSM_RUN_MODE));
	preload.native_malloc = v && strcmp(v, KSM_RUN_MALLOC_NATIVE) == 0;
	copy_runtime_dir(initial_env("KSMD_RUNTIME_DIR"));
	preload.mode = preload.wanted_mode;
	if (program_is_go() || program_is_daemon())
		preload.mode = PRELOAD_OFF;
	if (preload.mode == PRELOAD_OFF)
		return;
	if (*preload.runtime_dir)
		ksmc_set_runtime_dir(preload.runtime_dir);
	ksmc_defer_agent();
	ksmc_set_learn(preload.native_malloc ? KSMC_LEARN_NONE : KSMC_LEARN_HEAP);
	ksmc_set_offer_policy(preload.mode == PRELOAD_AUTO ? OFFER_MIN_PAGES : 0);
}

void *preload_next(void **slot, const char *name)
{
	if (!*slot)
		*slot = dlsym(RTLD_NEXT, name);
	return *slot;
}
