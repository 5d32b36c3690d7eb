/* SPDX-License-Identifier: MIT */
/*
 * preload.c - the settings, and whether this program's memory is offered at all.
 *
 * The first interposed call, which is often an allocator's in front of any constructor, reads the
 * settings from the initial environment block, because the C library has not yet taken it in, and
 * switches the offer policy on. So the library registers its fork handlers before an allocator
 * does, and fork takes the library's lock after the allocator's, as every other call does. The rest
 * of the start waits for the constructor (start.c), in which no lock is held.
 *
 * Nothing is offered in a Go program. Its runtime takes memory through the C library's mmap() where
 * it is linked with that, and gives pages back with madvise() instructions of its own.
 */
#include "preload/preload.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "client/as_domain.h"
#include "client/client.h"
#include "preload/settings.h"
#include "wire/runtime_dir.h"

struct preload preload;

/* The dynamic loader sets it before anything runs: argc, argv, NULL, the environment, NULL. */
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

/* The linker of Go marks its programs by a note of this name; its size counts the padding. */
static const char go_note[4] = "Go";

static bool note_says_go(const char *p, size_t size)
{
	while (size >= sizeof(ElfW(Nhdr))) {
		const ElfW(Nhdr) *n = (const void *)p;
		/* The dynamic loader has read it as well. */
		/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference) */
		size_t skip = sizeof(*n) + ((n->n_namesz + 3) & ~3u) + ((n->n_descsz + 3) & ~3u);

		if (n->n_namesz == sizeof(go_note) && memcmp(n + 1, go_note, sizeof(go_note)) == 0)
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

/*
 * QEMU says of its guests' memory whether it may be merged (-machine mem-merge=), and its user
 * relies on that. So only the mappings that it asks for are offered; and its heap, which has copies
 * of what it loads into guests, once it has asked for any. Without that all stays as it is.
 */
static bool program_says_itself(void)
{
	const char *path = (const char *)getauxval(AT_EXECFN);
	const char *name = path ? strrchr(path, '/') : NULL;

	name = name ? name + 1 : path;
	return name && (!strncmp(name, "qemu-system-", 12) || !strcmp(name, "qemu-kvm"));
}

static enum preload_mode mode_of(const char *v)
{
	if (v && strcmp(v, KSM_RUN_MODE_OFF) == 0)
		return PRELOAD_OFF;
	if (v && strcmp(v, KSM_RUN_MODE_MADVISE) == 0)
		return PRELOAD_MADVISE;
	return PRELOAD_AUTO;
}

/* Keeps a copy, because programs write over their initial environment to change their title. */
static void copy_dir(char to[static PATH_MAX], const char *dir)
{
	if (dir && strlen(dir) < PATH_MAX)
		strcpy(to, dir);
}

static void copy_domain(const char *name)
{
	if (name && *name)
		strcpy(preload.domain, ksm_label_valid(name) ? name : AS_DOMAIN_BAD);
}

void preload_setup_slow(void)
{
	const char *v = initial_env(KSM_RUN_MALLOC);

	preload.wanted_mode = mode_of(initial_env(KSM_RUN_MODE));
	preload.wanted_native_malloc = v && strcmp(v, KSM_RUN_MALLOC_NATIVE) == 0;
	v = initial_env(KSM_RUN_RESPECT_DONTDUMP);
	preload.respect_dontdump = v && strcmp(v, "1") == 0;
	copy_dir(preload.runtime_dir, initial_env(KSM_DIR_VAR));
	copy_dir(preload.view, initial_env(KSM_RUN_VIEW));
	copy_domain(initial_env(KSM_DOMAIN_VAR));
	preload.mode = preload.wanted_mode;
	if (program_is_go() || program_is_daemon())
		preload.mode = PRELOAD_OFF;
	if (preload.mode == PRELOAD_OFF)
		return;
	preload.native_malloc = preload.wanted_native_malloc;
	if (program_says_itself()) {
		preload.heap_when_asked = preload.mode == PRELOAD_AUTO;
		preload.native_malloc |= !preload.heap_when_asked;
		preload.mode = PRELOAD_MADVISE;
	}
	ksmc_set_domain(preload.domain);
	if (*preload.runtime_dir)
		ksmc_set_runtime_dir(preload.runtime_dir);
	if (preload.respect_dontdump)
		ksmc_respect_dontdump();
	ksmc_defer_agent();
	ksmc_set_learn(preload.native_malloc ? KSMC_LEARN_NONE : KSMC_LEARN_HEAP);
	ksmc_set_offer_policy(preload.mode == PRELOAD_AUTO ? PRELOAD_OFFER_MIN : 0);
}

void *preload_next_slow(void **kept, const char *name)
{
	*kept = dlsym(RTLD_NEXT, name);
	return *kept;
}
