/* SPDX-License-Identifier: MIT */
/*
 * exec.c - ksm-run holds for the programs that a program starts, too.
 *
 * The environment carries the settings, and most programs pass theirs on. Those that make a new one
 * for their children (servers, build tools, sandboxes) would lose them. So every call that takes or
 * implies an environment goes through here, and an interposer adds what is missing in it, on the
 * stack, because the caller may be a vfork child. What the program set itself stays as it is.
 * KSM_RUN_MERGE_ANY is not a setting but the state of this process, and is always written again. So
 * is a domain that the process has joined since it was started.
 *
 * A program that cannot start with the object (target.h) does not get it, and runs unmerged.
 *
 * system(3) and popen(3) use the program's `environ` inside the C library. They lose the settings
 * only where the program has wiped that; the state stands there, too (exec_note_merge_any()).
 */
#include "preload/exec.h"

#include <alloca.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "client/as_domain.h"
#include "client/client.h"
#include "client/user.h"
#include "preload/preload.h"
#include "preload/rights.h"
#include "preload/settings.h"
#include "preload/target.h"
#include "wire/runtime_dir.h"

#define PRELOAD_VAR "LD_PRELOAD"
/*
 * Variables that may be added: LD_PRELOAD, mode, malloc, runtime directory, view, domain,
 * respect-dontdump, merge-any; and NULL.
 */
#define NR_ADDED 9
/*
 * Stack that an environment may take here. The kernel refuses one whose pointers and strings fill a
 * quarter of the stack, and programs try that.
 */
#define ENV_ROOM_MAX (1ul << 20)

typedef int (*execvpe_fn)(const char *, char *const[], char *const[]);
typedef int (*spawn_fn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
			const posix_spawnattr_t *, char *const[], char *const[]);

static void *next_execvpe, *next_spawn, *next_spawnp;

void exec_resolve(void)
{
	preload_next(&next_execvpe, "execvpe");
	preload_next(&next_spawn, "posix_spawn");
	preload_next(&next_spawnp, "posix_spawnp");
}

/* Value of `name` in an entry "name=value", or NULL. */
static const char *value_of(const char *entry, const char *name)
{
	size_t n = strlen(name);

	return strncmp(entry, name, n) == 0 && entry[n] == '=' ? entry + n + 1 : NULL;
}

static const char *find_value(char *const envp[], const char *name)
{
	const char *v = NULL;

	for (size_t i = 0; envp && envp[i] && !v; i++)
		v = value_of(envp[i], name);
	return v;
}

/* Where the list of LD_PRELOAD names this object; NULL: it does not. */
static const char *find_us(const char *list)
{
	size_t n = strlen(preload.path);

	for (const char *p = list; n && (p = strstr(p, preload.path)); p += n)
		if ((p == list || strchr(" :", p[-1])) && strchr(" :", p[n]))
			return p;
	return NULL;
}

static bool lists_us(const char *list)
{
	return find_us(list) != NULL;
}

/* The entry of LD_PRELOAD without this object, which it names, at `text`. Returns its end. */
static char *without_us(char *text, const char *list)
{
	const char *us = find_us(list), *rest = us + strlen(preload.path);
	size_t before = (size_t)(us - list);

	if (before && !*rest)
		before--; /* the separator */
	text += sprintf(text, "%s=%.*s%s", PRELOAD_VAR, (int)before, list, rest + (*rest != '\0'));
	return text + 1;
}

/* Does the entry ask for the domain that this process asked for when it was started? */
static bool was_ours(const char *entry)
{
	const char *v = value_of(entry, KSM_DOMAIN_VAR);

	return v && strcmp(v, preload.domain) == 0;
}

/* The entries so far, as an environment. There is room for the NULL. */
static char **out_end(char **out, size_t n)
{
	out[n] = NULL;
	return out;
}

/* Bytes that env_build() needs. */
static size_t env_room(char *const envp[])
{
	const char *list = find_value(envp, PRELOAD_VAR);
	size_t n = 0;

	while (envp && envp[n])
		n++;
	return (n + NR_ADDED) * sizeof(char *) + sizeof(PRELOAD_VAR) + 2 + strlen(preload.path) +
	       (list ? strlen(list) : 0) + sizeof(KSM_DIR_VAR) + 2 + strlen(preload.runtime_dir) +
	       sizeof(KSM_RUN_VIEW) + 2 + strlen(preload.view) + sizeof(KSM_DOMAIN_VAR) + 1 +
	       KSM_LABEL_SIZE;
}

/* The entry of LD_PRELOAD if it has to be another one than that of envp; see env_build(). */
static char *preload_entry(char **out, size_t *n, char *text, const char *list, bool fits)
{
	if (fits && !(list && lists_us(list))) {
		out[(*n)++] = text;
		text += sprintf(text, "%s=%s%s%s", PRELOAD_VAR, preload.path,
				list && *list ? ":" : "", list ? list : "") +
			1;
	} else if (!fits && strcmp(list, preload.path) != 0) {
		out[(*n)++] = text;
		text = without_us(text, list);
	}
	return text;
}

/*
 * The environment with what is missing, in `room`. Strings are shared with envp. It names this
 * object if the program `fits`, and does not otherwise.
 */
static char **env_build(void *room, char *const envp[], bool fits)
{
	static char *const mode[] = {
		[PRELOAD_UNSET] = KSM_RUN_MODE "=" KSM_RUN_MODE_AUTO,
		[PRELOAD_OFF] = KSM_RUN_MODE "=" KSM_RUN_MODE_OFF,
		[PRELOAD_MADVISE] = KSM_RUN_MODE "=" KSM_RUN_MODE_MADVISE,
		[PRELOAD_AUTO] = KSM_RUN_MODE "=" KSM_RUN_MODE_AUTO,
	};
	const char *list = find_value(envp, PRELOAD_VAR);
	bool have_list = !*preload.path || fits == (list && lists_us(list));
	char **out = room, *text, domain[KSM_LABEL_SIZE];
	bool joined;
	size_t n = 0;

	if (preload_active())
		as_domain_get(domain);
	else
		strcpy(domain, preload.domain);
	joined = strcmp(domain, preload.domain) != 0;
	for (size_t i = 0; envp && envp[i]; i++)
		if (!value_of(envp[i], KSM_RUN_MERGE_ANY) && !(joined && was_ours(envp[i])) &&
		    (have_list || !value_of(envp[i], PRELOAD_VAR)))
			out[n++] = envp[i];
	text = (char *)&out[n + NR_ADDED];
	if (!have_list)
		text = preload_entry(out, &n, text, list, fits);
	if (!find_value(envp, KSM_RUN_MODE))
		out[n++] = mode[preload.wanted_mode];
	if (!find_value(envp, KSM_RUN_MALLOC))
		out[n++] = preload.wanted_native_malloc ? KSM_RUN_MALLOC "=" KSM_RUN_MALLOC_NATIVE :
							  KSM_RUN_MALLOC "=" KSM_RUN_MALLOC_HEAP;
	if (preload.respect_dontdump && !find_value(envp, KSM_RUN_RESPECT_DONTDUMP))
		out[n++] = KSM_RUN_RESPECT_DONTDUMP "=1";
	if (*preload.runtime_dir && !find_value(envp, KSM_DIR_VAR)) {
		sprintf(text, "%s=%s", KSM_DIR_VAR, preload.runtime_dir);
		out[n++] = text;
		text += strlen(text) + 1;
	}
	if (*preload.view && !find_value(envp, KSM_RUN_VIEW)) {
		sprintf(text, "%s=%s", KSM_RUN_VIEW, preload.view);
		out[n++] = text;
		text += strlen(text) + 1;
	}
	if (*domain && !find_value(out_end(out, n), KSM_DOMAIN_VAR)) {
		sprintf(text, "%s=%s", KSM_DOMAIN_VAR, domain);
		out[n++] = text;
	}
	out[n++] = ksmc_get_merge_any() ? KSM_RUN_MERGE_ANY "=1" : KSM_RUN_MERGE_ANY "=0";
	out[n] = NULL;
	return out;
}

/* A list that begins with a sanitizer ends the program when it does so no longer. */
static bool list_fits(char *const envp[])
{
	const char *list = find_value(envp, PRELOAD_VAR);

	return !list || lists_us(list) || !target_list_is_sanitized(list);
}

/*
 * The environment to go on with; `fits` says whether the program may get the object. One that
 * cannot be read or is too large goes to the kernel as it is, which refuses it. A macro, because
 * the environment lies on the stack of the caller.
 */
#define ENV_ALLOCA(envp, fits)                                                                     \
	({                                                                                         \
		char *const *env_ = (envp);                                                        \
		if (rights_filtered() || user_strings(env_)) {                                     \
			size_t room_;                                                              \
			preload_setup();                                                           \
			room_ = env_room(env_);                                                    \
			if (room_ <= ENV_ROOM_MAX)                                                 \
				env_ = env_build(alloca(room_), env_,                              \
						 !rights_given_up() && list_fits(env_) && (fits)); \
		}                                                                                  \
		env_;                                                                              \
	})

void exec_note_merge_any(bool on)
{
	for (char **env = environ; env && *env; env++) {
		char *v = (char *)value_of(*env, KSM_RUN_MERGE_ANY);

		if (v && (*v == '0' || *v == '1') && !v[1])
			*v = on ? '1' : '0';
	}
}

/*
 * May the program be looked at before it is started? A filter of system calls may kill for it, and
 * a path that cannot be read is the kernel's to refuse.
 */
static bool may_look(const char *path)
{
	char *const string[] = { (char *)path, NULL };

	return *preload.path && !rights_filtered() && user_strings(string);
}

/* ---- exec ---- */

long proc_execve(const char *path, char *const argv[], char *const envp[])
{
	char *const *env = ENV_ALLOCA(envp, !may_look(path) || target_fits(AT_FDCWD, path, 0));

	return sysc3(SYS_execve, path, argv, env);
}

long proc_execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	char *const *env = ENV_ALLOCA(envp, !may_look(path) || target_fits(dir, path, flags));

	return sysc5(SYS_execveat, dir, path, argv, env, flags);
}

static int search_and_exec(const char *file, char *const argv[], char *const envp[])
{
	execvpe_fn real = (execvpe_fn)preload_next(&next_execvpe, "execvpe");
	char *const *env = ENV_ALLOCA(envp, !may_look(file) || target_fits_in_path(file));

	return real(file, argv, env);
}

EXPORT int execve(const char *path, char *const argv[], char *const envp[])
{
	return (int)preload_ret(proc_execve(path, argv, envp));
}

EXPORT int execveat(int dir, const char *path, char *const argv[], char *const envp[], int flags)
{
	return (int)preload_ret(proc_execveat(dir, path, argv, envp, flags));
}

EXPORT int fexecve(int fd, char *const argv[], char *const envp[])
{
	if (fd < 0)
		return (int)preload_ret(-EINVAL);
	return (int)preload_ret(proc_execveat(fd, "", argv, envp, AT_EMPTY_PATH));
}

EXPORT int execv(const char *path, char *const argv[])
{
	return (int)preload_ret(proc_execve(path, argv, environ));
}

EXPORT int execvp(const char *file, char *const argv[])
{
	return search_and_exec(file, argv, environ);
}

EXPORT int execvpe(const char *file, char *const argv[], char *const envp[])
{
	return search_and_exec(file, argv, envp);
}

/* Arguments up to and with the NULL that ends them; what follows it (execle) is left in ap. */
static size_t count_args(va_list ap)
{
	size_t n = 1;

	while (va_arg(ap, char *))
		n++;
	return n;
}

static void take_args(char **argv, size_t n, const char *first, va_list ap)
{
	argv[0] = (char *)first;
	for (size_t i = 1; i <= n; i++)
		argv[i] = va_arg(ap, char *);
}

/* Defines `argv` on the stack from the variable arguments after `first`, and leaves `ap` open. */
#define ARGS_ALLOCA(first)                                                                         \
	va_list ap;                                                                                \
	char **argv;                                                                               \
	size_t nr_args;                                                                            \
	va_start(ap, first);                                                                       \
	nr_args = count_args(ap);                                                                  \
	va_end(ap);                                                                                \
	argv = alloca((nr_args + 1) * sizeof(*argv));                                              \
	va_start(ap, first);                                                                       \
	take_args(argv, nr_args, first, ap)

EXPORT int execl(const char *path, const char *arg, ...)
{
	ARGS_ALLOCA(arg);
	va_end(ap);
	return execv(path, argv);
}

EXPORT int execlp(const char *file, const char *arg, ...)
{
	ARGS_ALLOCA(arg);
	va_end(ap);
	return execvp(file, argv);
}

EXPORT int execle(const char *path, const char *arg, ...)
{
	char *const *envp;

	ARGS_ALLOCA(arg);
	envp = va_arg(ap, char *const *);
	va_end(ap);
	return execve(path, argv, envp);
}

/* ---- posix_spawn ---- */

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
		       const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	spawn_fn real = (spawn_fn)preload_next(&next_spawn, "posix_spawn");
	char *const *env = ENV_ALLOCA(envp, !may_look(path) || target_fits(AT_FDCWD, path, 0));

	return real(pid, path, actions, attr, argv, env);
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *attr, char *const argv[], char *const envp[])
{
	spawn_fn real = (spawn_fn)preload_next(&next_spawnp, "posix_spawnp");
	char *const *env = ENV_ALLOCA(envp, !may_look(file) || target_fits_in_path(file));

	return real(pid, file, actions, attr, argv, env);
}
