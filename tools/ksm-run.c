/* SPDX-License-Identifier: MIT */
/*
 * ksm-run - run an unmodified program with its anonymous memory offered for merging.
 *
 * libksm-preload.so, which the dynamic loader puts in front of the C library, does all the work.
 * This program finds that object, writes the settings into the environment and becomes the program
 * (exec). So exit status, signals, job control and the process number are those of the program
 * itself.
 *
 * The loader ignores LD_PRELOAD in silence for programs that are set-user-ID or have no dynamic
 * loader at all. Such a program runs just as well without us, but a user who asked for merging
 * wants to know: ksm-run looks at the program first, and says so on the standard error. Others do
 * not start with the object (target.h), and get none.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "preload/settings.h"
#include "preload/target.h"
#include "tools/memory/watch.h"
#include "wire/label.h"
#include "wire/runtime_dir.h"
#include "wire/trust.h"
#include "wire/wire.h"

/* As env(1), nice(1) and the rest of that family have it. */
enum { EXIT_OWN = 125, EXIT_CANNOT_RUN = 126, EXIT_NOT_FOUND = 127 };

/* Scripts whose interpreter is a script, one after another; the kernel has a limit as well. */
#define SCRIPTS_MAX 4
/* With this personality(2) only says which one the process has. */
#define PERSONALITY_QUERY 0xffffffff

struct options {
	const char *mode, *malloc_mode;
	const char *runtime_dir, *view, *preload, *domain;
	bool fixed_layout, respect_dontdump, estimate;
};

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static void die(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));

static void vsay(const char *fmt, va_list ap)
{
	fputs("ksm-run: ", stderr);
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
}

static void say(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(fmt, ap);
	va_end(ap);
}

static void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsay(fmt, ap);
	va_end(ap);
	exit(EXIT_OWN);
}

static const char usage_text[] =
	"usage: ksm-run [OPTION]... [--] COMMAND [ARG]...\n"
	"\n"
	"Run COMMAND with its private anonymous memory offered to ksmd-user for merging.\n"
	"\n"
	"  --fixed-layout       no address space randomisation: alike programs merge better,\n"
	"                       and lose that protection against exploits\n"
	"  --madvise-only       offer only what the program itself asks for with\n"
	"                       madvise(MADV_MERGEABLE) or prctl(PR_SET_MEMORY_MERGE)\n"
	"  --malloc=heap        keep malloc memory where it is seen, and offer it (default)\n"
	"  --malloc=native      leave malloc alone; its memory is not offered\n"
	"  --domain NAME        share pages only with the programs in this domain; the operator\n"
	"                       says who may join it, and whoever may not runs unmerged.\n"
	"                       An empty name: in the daemon's choice [$KSM_DOMAIN]\n"
	"  --respect-dontdump   offer nothing that the program keeps out of core dumps\n"
	"                       (MADV_DONTDUMP): keys and the like\n"
	"  --runtime-dir DIR    where the daemon is (default $KSMD_RUNTIME_DIR, else\n"
	"                       $XDG_RUNTIME_DIR/ksmd-user, else root's in /run/ksmd-user)\n"
	"  --estimate           merge nothing: say on standard error what merging would save,\n"
	"                       when COMMAND ends and whenever ksm-run gets SIGUSR1\n"
	"  --view DIR           where ksmd-fs is mounted: the program finds its own\n"
	"                       /proc/self/ksm_stat and ksm_merging_pages there\n"
	"  --preload FILE       use this libksm-preload.so\n"
	"  --help, --version\n"
	"\n"
	"The exit status is that of COMMAND; 125 when ksm-run fails, 126 when COMMAND cannot\n"
	"be run, 127 when it is not found.\n";

static void usage(FILE *to)
{
	fputs(usage_text, to);
}

enum {
	FIXED = 1,
	MADVISE,
	MALLOC,
	DOMAIN,
	DONTDUMP,
	RUNTIME_DIR,
	ESTIMATE,
	VIEW,
	PRELOAD,
	HELP,
	VERSION
};
static const struct option opts[] = {
	{ "fixed-layout", no_argument, NULL, FIXED },
	{ "madvise-only", no_argument, NULL, MADVISE },
	{ "malloc", required_argument, NULL, MALLOC },
	{ "domain", required_argument, NULL, DOMAIN },
	{ "respect-dontdump", no_argument, NULL, DONTDUMP },
	{ "runtime-dir", required_argument, NULL, RUNTIME_DIR },
	{ "estimate", no_argument, NULL, ESTIMATE },
	{ "view", required_argument, NULL, VIEW },
	{ "preload", required_argument, NULL, PRELOAD },
	{ "help", no_argument, NULL, HELP },
	{ "version", no_argument, NULL, VERSION },
	{ 0 },
};

static void parse(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt_long(argc, argv, "+h", opts, NULL)) != -1) {
		switch (c) {
		case FIXED:
			o->fixed_layout = true;
			break;
		case MADVISE:
			o->mode = KSM_RUN_MODE_MADVISE;
			break;
		case MALLOC:
			if (strcmp(optarg, KSM_RUN_MALLOC_HEAP) != 0 &&
			    strcmp(optarg, KSM_RUN_MALLOC_NATIVE) != 0)
				die("--malloc must be heap or native, not '%s'", optarg);
			o->malloc_mode = optarg;
			break;
		case DOMAIN:
			if (*optarg && !ksm_label_valid(optarg))
				die("--domain must be 1 to 31 letters, digits, '.', '_' and '-', "
				    "not '%s'",
				    optarg);
			o->domain = optarg;
			break;
		case DONTDUMP:
			o->respect_dontdump = true;
			break;
		case RUNTIME_DIR:
			if (!*optarg)
				die("--runtime-dir is empty");
			o->runtime_dir = optarg;
			break;
		case ESTIMATE:
			o->estimate = true;
			break;
		case VIEW:
			o->view = optarg;
			break;
		case PRELOAD:
			o->preload = optarg;
			break;
		case 'h':
		case HELP:
			usage(stdout);
			exit(0);
		case VERSION:
			puts("ksm-run " KSMD_VERSION);
			exit(0);
		default:
			fputs("Try 'ksm-run --help'.\n", stderr);
			exit(EXIT_OWN);
		}
	}
}

/* The object to preload: as named, else where the build or the installation puts it. */
static void find_preload(const char *named, char path[static PATH_MAX])
{
	static const char *const where[] = { "libksm-preload.so",
					     "../lib/ksmd-user/libksm-preload.so" };
	char self[PATH_MAX], try[PATH_MAX + 64];
	ssize_t n;

	if (named) {
		if (!realpath(named, path))
			die("%s: %s", named, strerror(errno));
		return;
	}
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n < 0)
		die("/proc/self/exe: %s (is /proc mounted?)", strerror(errno));
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	for (size_t i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
		snprintf(try, sizeof(try), "%s/%s", self, where[i]);
		if (realpath(try, path) && access(path, R_OK) == 0)
			return;
	}
	die("libksm-preload.so is neither in %s nor in %s/../lib/ksmd-user; name it with --preload",
	    self, self);
}

static void set(const char *name, const char *value)
{
	if (setenv(name, value, 1) != 0)
		die("cannot set %s: %s", name, strerror(errno));
}

/* In front of what is there, and once only. */
static void set_preload(const char *path)
{
	const char *old = getenv("LD_PRELOAD");
	char *value;

	/* The loader splits the list at both and knows no quoting. */
	if (strpbrk(path, " :"))
		die("the path of the preloaded object must not have a space or a colon: %s", path);
	if (!old || !*old || strcmp(old, path) == 0) {
		set("LD_PRELOAD", path);
		return;
	}
	if (asprintf(&value, "%s:%s", path, old) < 0)
		die("out of memory");
	set("LD_PRELOAD", value);
	free(value);
}

/* `dir`, else what the variable says. The program may change its directory before it looks. */
static void set_dir(const char *var, const char *dir)
{
	char cwd[PATH_MAX], *value;

	if (!dir)
		dir = getenv(var);
	if (!dir || !*dir)
		return;
	if (*dir == '/') {
		set(var, dir);
		return;
	}
	if (!getcwd(cwd, sizeof(cwd)))
		die("current directory: %s", strerror(errno));
	if (asprintf(&value, "%s/%s", cwd, dir) < 0)
		die("out of memory");
	set(var, value);
	free(value);
}

/* The file that execvp(3) will run. Returns false where there is none to look at. */
static bool find_program(const char *name, char path[static PATH_MAX])
{
	const char *p = getenv("PATH"), *end;
	int n;

	if (strchr(name, '/')) {
		n = snprintf(path, PATH_MAX, "%s", name);
		return n < PATH_MAX && access(path, X_OK) == 0;
	}
	for (p = p ? p : "/bin:/usr/bin"; *p; p = *end ? end + 1 : end) {
		end = strchrnul(p, ':');
		n = snprintf(path, PATH_MAX, "%.*s%s%s", (int)(end - p), p, end > p ? "/" : "",
			     name);
		if (n < PATH_MAX && access(path, X_OK) == 0)
			return true;
	}
	return false;
}

/* Why the loader would not load us into this file; NULL when it would. */
static const char *elf_objection(enum target t)
{
	static const char *const why[] = {
		[TARGET_FITS] = NULL,
		[TARGET_STATIC] = "it is statically linked",
		[TARGET_OTHER_CLASS] = "it is not a 64-bit program",
		[TARGET_OTHER_LOADER] = "it is for another C library",
		[TARGET_SANITIZED] = "its sanitizer has to be loaded first",
	};

	return why[t];
}

static const char *privilege_objection(int fd)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return NULL;
	if ((st.st_mode & S_ISUID) && st.st_uid != getuid())
		return "it is set-user-ID";
	if ((st.st_mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP) && st.st_gid != getgid())
		return "it is set-group-ID";
	if (geteuid() != 0 && fgetxattr(fd, "security.capability", NULL, 0) > 0)
		return "it has file capabilities";
	return NULL;
}

/*
 * Say so when LD_PRELOAD will have no effect. A script is judged by its interpreter. False: the
 * program would not start with it.
 */
static bool check_program(const char *name, int depth)
{
	enum target t = TARGET_FITS;
	char path[PATH_MAX], line[256];
	const char *why = NULL;
	bool fits = true;
	ssize_t n;
	int fd;

	if (!find_program(name, path))
		return true; /* exec says why */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return true; /* may be executable and not readable */
	n = pread(fd, line, sizeof(line) - 1, 0);
	if (n > 2 && line[0] == '#' && line[1] == '!' && depth < SCRIPTS_MAX) {
		char *p = line + 2;

		line[n] = '\0';
		p += strspn(p, " \t");
		p[strcspn(p, " \t\n")] = '\0';
		if (*p == '/')
			fits = check_program(p, depth + 1);
	} else if (n > 0) {
		t = target_of(fd);
		why = elf_objection(t);
		if (!why)
			why = privilege_objection(fd);
	}
	close(fd);
	if (why)
		say("warning: %s: %s, so its memory is not offered", path, why);
	return fits && (t == TARGET_FITS || t == TARGET_STATIC);
}

/* Say so when the user preloads a sanitizer. False: its program would not start with ours. */
static bool check_list(void)
{
	const char *list = getenv("LD_PRELOAD");

	if (!list || !target_list_is_sanitized(list))
		return true;
	say("warning: %s has to be loaded first, so the program's memory is not offered", list);
	return false;
}

/*
 * Connect to the daemon as the program will: to the one in its place, else to root's. Returns the
 * socket, or -errno of the last place, which path[] names; -ENOENT with an empty path when there is
 * no place to look. A daemon that takes nobody in (EAGAIN) keeps no program waiting.
 */
static int reach(struct sockaddr_un *sun)
{
	bool own = !ksm_runtime_path(sun->sun_path, sizeof(sun->sun_path), NULL, KSM_CLIENT_SOCKET);
	bool root = ksm_runtime_or_root(NULL);
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int err = ENOENT;

	if (sock < 0)
		return -errno;
	if (own)
		err = connect(sock, (struct sockaddr *)sun, sizeof(*sun)) ? errno : 0;
	if ((err == ENOENT || err == ECONNREFUSED) && root) {
		strcpy(sun->sun_path, KSM_ROOT_DIR "/" KSM_CLIENT_SOCKET);
		err = connect(sock, (struct sockaddr *)sun, sizeof(*sun)) ? errno : 0;
	}
	if (!err)
		return sock;
	close(sock);
	if (!own && !root)
		sun->sun_path[0] = '\0';
	return -err;
}

/* HELLO of this process, which is about to be the program. */
static bool say_hello(int sock, const char *domain)
{
	struct ksm_msg_hello m = { { KSM_MSG_HELLO, sizeof(m) }, KSM_WIRE_VERSION, 0, 0, 0, "" };
	int fd[3] = { (int)syscall(SYS_pidfd_open, getpid(), 0),
		      open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC),
		      open("/proc/self/mem", O_RDONLY | O_CLOEXEC) };
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(fd))];
	} ctl = { .h = { CMSG_LEN(sizeof(fd)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl)
	};
	bool said;

	strncpy(m.domain, domain, sizeof(m.domain) - 1);
	memcpy(CMSG_DATA(&ctl.h), fd, sizeof(fd));
	said = sendmsg(sock, &mh, MSG_NOSIGNAL) == sizeof(m);
	for (int i = 0; i < 3; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	return said;
}

/* Say so when the daemon will not let the program into the domain: join it for a moment. */
static void check_domain(int sock, const char *domain)
{
	struct timeval patience = { .tv_sec = 1 };
	struct ksm_msg_error m;

	if (!ksm_label_valid(domain)) {
		say("warning: %s: no name of a domain, so nothing is offered", domain);
		return;
	}
	fcntl(sock, F_SETFL, 0);
	setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (say_hello(sock, domain) && recv(sock, &m, sizeof(m), 0) == sizeof(m) &&
	    m.hdr.type == KSM_MSG_ERROR && m.error == EDOM)
		say("warning: this program may not join the domain %s, so nothing is offered",
		    domain);
}

/*
 * Say so when no daemon is there, or when the program will not obey the one that is. The program
 * itself cannot: its agent has no standard error. A daemon that does not answer within a second is
 * not waited for.
 */
static void check_daemon(const char *domain)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int sock = reach(&sun);

	if (sock == -EAGAIN)
		return;
	if (sock < 0 && !*sun.sun_path)
		say("warning: the path of the runtime directory is too long: nothing is merged");
	else if (sock < 0)
		say("warning: no daemon at %s (%s): nothing is merged until one is there",
		    sun.sun_path, strerror(-sock));
	else if (!trust_dir(sun.sun_path) || !trust_peer(sock))
		say("warning: %s or its directory belongs to another user than root and yourself, "
		    "or others can write there: nothing is offered",
		    sun.sun_path);
	else if (domain && *domain)
		check_domain(sock, domain);
	if (sock >= 0)
		close(sock);
}

static void fix_layout(void)
{
	int was = personality(PERSONALITY_QUERY);

	if (was < 0 || personality((unsigned long)was | ADDR_NO_RANDOMIZE) < 0)
		die("--fixed-layout: %s", strerror(errno));
}

int main(int argc, char **argv)
{
	struct options o = { .mode = KSM_RUN_MODE_AUTO, .malloc_mode = KSM_RUN_MALLOC_HEAP };
	char preload[PATH_MAX];
	int err;

	parse(argc, argv, &o);
	if (optind == argc) {
		usage(stderr);
		return EXIT_OWN;
	}
	if (o.fixed_layout)
		fix_layout();
	if (o.estimate)
		return watch_run(argv + optind);
	find_preload(o.preload, preload);
	if (check_program(argv[optind], 0) && check_list())
		set_preload(preload);
	set_dir(KSM_DIR_VAR, o.runtime_dir);
	set_dir(KSM_RUN_VIEW, o.view);
	if (!getenv(KSM_RUN_MERGE_ANY))
		set(KSM_RUN_MERGE_ANY, "0"); /* a place for what the program says later */
	set(KSM_RUN_MODE, o.mode);
	set(KSM_RUN_MALLOC, o.malloc_mode);
	if (o.domain)
		set(KSM_DOMAIN_VAR, o.domain);
	if (o.respect_dontdump)
		set(KSM_RUN_RESPECT_DONTDUMP, "1");
	check_daemon(getenv(KSM_DOMAIN_VAR));
	execvp(argv[optind], argv + optind);
	err = errno;
	say("%s: %s", argv[optind], strerror(err));
	return err == ENOENT ? EXIT_NOT_FOUND : EXIT_CANNOT_RUN;
}
