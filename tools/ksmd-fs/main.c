/* SPDX-License-Identifier: MIT */
/*
 * main.c - ksmd-fs: the daemon's knobs and counters as files, in the shape of the kernel's.
 *
 * Tools that know /sys/kernel/mm/ksm work on ksmd-user through this view: one read is one get, one
 * write is one set, and both fail with the daemon's errno. The view is a client of the control
 * socket like ksmdctl. It has no state but the pages that an open file has read, and connections at
 * rest, so the daemon may end and come back below it. Files are read past the page cache (direct
 * I/O), because a counter that the kernel has cached is not fresh. A store that waits occupies one
 * thread of several, and a signal to its caller ends the wait.
 */
#define FUSE_USE_VERSION 312
#include <errno.h>
#include <fcntl.h>
#include <fuse.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "tools/ksmd-fs/tree.h"
#include "wire/runtime_dir.h"
#include "wire/wire.h"

#define MAX_THREADS 64 /* as many stores and reads may wait at once as the daemon has places */

#define INTERRUPT SIGUSR1

enum exit_code { EXIT_USAGE = 2, EXIT_NO_MOUNT = 1 };

/* What an open file holds. FUSE calls for one file may come from several threads at once. */
struct open_file {
	struct tree_node node;
	pthread_mutex_t lock; /* covers what follows */
	struct text text;     /* what the read at offset 0 found, for those behind it */
};

static char socket_path[108]; /* set before the first thread starts; sun_path's size */
static struct call_pool pool = { .lock = PTHREAD_MUTEX_INITIALIZER };
static struct snapshot snapshot = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* The kernel names the thread that asks, and a program is known by its first. */
static pid_t caller_process(void)
{
	pid_t thread = fuse_get_context()->pid, process = 0;
	char path[40], *line = NULL;
	size_t size = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)thread);
	f = fopen(path, "re");
	while (f && !process && getline(&line, &size, f) > 0)
		if (!strncmp(line, "Tgid:", 5))
			process = (pid_t)strtol(line + 5, NULL, 10);
	if (f)
		fclose(f);
	free(line);
	return process ? process : thread;
}

static void set_view(struct tree_view *v)
{
	const struct fuse_context *ctx = fuse_get_context();

	v->pool = &pool;
	v->snapshot = &snapshot;
	v->socket = socket_path;
	v->who.uid = ctx->uid;
	v->who.gid = ctx->gid;
	v->who.nr_groups = 0;
	v->groups = getuid() == 0 ? fuse_getgroups : NULL;
	v->process = caller_process;
}

static int find(const char *path, struct tree_view *v, struct tree_node *n)
{
	set_view(v);
	return tree_find(v, path, n);
}

/* ---- files and directories ---- */

static int view_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
	struct tree_view v;
	struct tree_node n;
	int err = find(path, &v, &n);

	(void)fi;
	if (err)
		return err;
	st->st_mode = n.mode;
	st->st_nlink = S_ISDIR(n.mode) ? 2 : 1;
	st->st_size = S_ISREG(n.mode) ? 4096 : 0; /* as sysfs says of every attribute */
	st->st_uid = getuid();
	st->st_gid = getgid();
	return 0;
}

static int view_readlink(const char *path, char *buf, size_t size)
{
	struct tree_view v;
	struct tree_node n;
	int err = find(path, &v, &n);

	if (err)
		return err;
	if (n.kind != TREE_SELF)
		return -EINVAL;
	snprintf(buf, size, "%d", (int)caller_process());
	return 0;
}

static int view_readdir(const char *path, void *buf, fuse_fill_dir_t fill, off_t off,
			struct fuse_file_info *fi, enum fuse_readdir_flags flags)
{
	struct text names = { 0 };
	struct tree_view v;
	struct tree_node n;
	int err = find(path, &v, &n);

	(void)off;
	(void)fi;
	(void)flags;
	if (err)
		return err;
	if (!S_ISDIR(n.mode))
		return -ENOTDIR;
	err = tree_list(&v, &n, &names);
	fill(buf, ".", NULL, 0, 0);
	fill(buf, "..", NULL, 0, 0);
	for (size_t at = 0; !err && at < names.len;) {
		char *name = names.data + at;
		char *end = memchr(name, '\n', names.len - at);

		if (!end)
			break;
		at = (size_t)(end - names.data) + 1;
		*end = '\0';
		if (end > name && end[-1] == '/')
			end[-1] = '\0';
		fill(buf, name, NULL, 0, 0);
	}
	text_free(&names);
	return err;
}

static int view_open(const char *path, struct fuse_file_info *fi)
{
	struct open_file *f;
	struct tree_view v;
	struct tree_node n;
	int err = find(path, &v, &n);

	if (err)
		return err;
	if (S_ISDIR(n.mode))
		return -EISDIR;
	if ((fi->flags & O_ACCMODE) != O_RDONLY && !(n.mode & 0222))
		return -EACCES;
	f = calloc(1, sizeof(*f));
	if (!f)
		return -ENOMEM;
	f->node = n;
	pthread_mutex_init(&f->lock, NULL);
	fi->fh = (uintptr_t)f;
	fi->direct_io = 1;
	fi->noflush = 1;
	return 0;
}

static int view_release(const char *path, struct fuse_file_info *fi)
{
	struct open_file *f = (struct open_file *)(uintptr_t)fi->fh;

	(void)path;
	pthread_mutex_destroy(&f->lock);
	text_free(&f->text);
	free(f);
	return 0;
}

/* A read at the beginning looks again; one behind it goes on in what that found, as in sysfs. */
static int view_read(const char *path, char *buf, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct open_file *f = (struct open_file *)(uintptr_t)fi->fh;
	struct text fresh = { 0 };
	struct tree_view v;
	size_t n = 0;
	bool look;
	int err;

	(void)path;
	set_view(&v);
	pthread_mutex_lock(&f->lock);
	look = off == 0 || !f->text.len;
	pthread_mutex_unlock(&f->lock);
	err = look ? tree_read(&v, &f->node, &fresh) : 0;
	if (err) {
		text_free(&fresh);
		return err;
	}
	pthread_mutex_lock(&f->lock);
	if (fresh.len) {
		text_free(&f->text);
		f->text = fresh;
	}
	if (off >= 0 && (size_t)off < f->text.len) {
		n = f->text.len - (size_t)off < size ? f->text.len - (size_t)off : size;
		memcpy(buf, f->text.data + off, n);
	}
	pthread_mutex_unlock(&f->lock);
	return (int)n;
}

/* One write is one store, at whatever offset, as in sysfs. */
static int view_write(const char *path, const char *buf, size_t size, off_t off,
		      struct fuse_file_info *fi)
{
	struct open_file *f = (struct open_file *)(uintptr_t)fi->fh;
	struct tree_view v;

	(void)path;
	(void)off;
	set_view(&v);
	return (int)tree_write(&v, &f->node, buf, size);
}

/* `echo 1 >run` opens with O_TRUNC. There is nothing to cut off. */
static int view_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
	struct tree_view v;
	struct tree_node n;
	int err = find(path, &v, &n);

	(void)size;
	(void)fi;
	if (err)
		return err;
	if (S_ISDIR(n.mode))
		return -EISDIR;
	return n.mode & 0222 ? 0 : -EACCES;
}

/* ---- what no file of the view allows ---- */

static int no_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	(void)path;
	(void)mode;
	(void)fi;
	return -EACCES;
}

static int no_node(const char *path, mode_t mode, dev_t dev)
{
	(void)path;
	(void)mode;
	(void)dev;
	return -EACCES;
}

static int no_dir(const char *path, mode_t mode)
{
	(void)path;
	(void)mode;
	return -EPERM;
}

static int no_removal(const char *path)
{
	(void)path;
	return -EPERM;
}

static int no_link(const char *from, const char *to)
{
	(void)from;
	(void)to;
	return -EPERM;
}

static int no_rename(const char *from, const char *to, unsigned int flags)
{
	(void)from;
	(void)to;
	(void)flags;
	return -EPERM;
}

static int no_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
	(void)path;
	(void)mode;
	(void)fi;
	return -EPERM;
}

static int no_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
	(void)path;
	(void)uid;
	(void)gid;
	(void)fi;
	return -EPERM;
}

static int no_utimens(const char *path, const struct timespec tv[2], struct fuse_file_info *fi)
{
	(void)path;
	(void)tv;
	(void)fi;
	return -EPERM;
}

/* Modes and contents change behind the kernel's back, so it keeps neither. */
static void *view_init(struct fuse_conn_info *conn, struct fuse_config *cfg)
{
	(void)conn;
	cfg->attr_timeout = cfg->entry_timeout = cfg->negative_timeout = 0;
	cfg->direct_io = 1;
	cfg->intr = 1;
	cfg->intr_signal = INTERRUPT;
	sd_notify(0, "READY=1");
	return NULL;
}

static const struct fuse_operations operations = {
	.getattr = view_getattr,
	.readlink = view_readlink,
	.readdir = view_readdir,
	.open = view_open,
	.release = view_release,
	.read = view_read,
	.write = view_write,
	.truncate = view_truncate,
	.create = no_create,
	.mknod = no_node,
	.mkdir = no_dir,
	.unlink = no_removal,
	.rmdir = no_removal,
	.symlink = no_link,
	.link = no_link,
	.rename = no_rename,
	.chmod = no_chmod,
	.chown = no_chown,
	.utimens = no_utimens,
	.init = view_init,
};

/* ---- the program ---- */

static const char usage_text[] =
	"usage: ksmd-fs [OPTION]... DIRECTORY\n"
	"\n"
	"Mount the counters and knobs of a running ksmd-user: DIRECTORY/kernel/mm/ksm as the\n"
	"kernel has them in /sys, DIRECTORY/proc/PID/ksm_stat, and all others in DIRECTORY/ksmd.\n"
	"\n"
	"  --runtime-dir DIR where the daemon is [$KSMD_RUNTIME_DIR, else\n"
	"                    $XDG_RUNTIME_DIR/ksmd-user, else root's in /run/ksmd-user]\n"
	"  -f, --foreground  stay in the foreground\n"
	"  --help, --version\n"
	"\n"
	"Unmount it with umount or fusermount3 -u. Exit code: 0 done, 1 no mount, 2 wrong usage.\n";

struct options {
	const char *runtime_dir, *directory;
	bool foreground;
};

static void parse(int argc, char **argv, struct options *o)
{
	static const struct option longopts[] = {
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "foreground", no_argument, NULL, 'f' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "f", longopts, NULL)) != -1) {
		if (c == 'r') {
			o->runtime_dir = optarg;
		} else if (c == 'f') {
			o->foreground = true;
		} else if (c == 'h') {
			fputs(usage_text, stdout);
			exit(EXIT_SUCCESS);
		} else if (c == 'v') {
			puts("ksmd-fs " KSMD_VERSION);
			exit(EXIT_SUCCESS);
		} else {
			exit(EXIT_USAGE);
		}
	}
	if (optind != argc - 1) {
		fputs("ksmd-fs: one directory is wanted; see ksmd-fs --help\n", stderr);
		exit(EXIT_USAGE);
	}
	o->directory = argv[optind];
}

/* Returns NULL with a message said. */
static struct fuse *mount_view(const char *directory)
{
	/* Every user may look when root mounts; the daemon decides what each sees. */
	char *args[] = { "ksmd-fs", "-o",          "fsname=ksmd-user,subtype=ksmd-fs,nosuid,nodev",
			 "-o",      "allow_other", NULL };
	struct fuse_args fa = FUSE_ARGS_INIT(getuid() == 0 ? 5 : 3, args);
	struct fuse *f = fuse_new(&fa, &operations, sizeof(operations), NULL);

	if (f && fuse_mount(f, directory)) {
		fuse_destroy(f);
		f = NULL;
	}
	fuse_opt_free_args(&fa);
	return f;
}

static void nothing(int sig)
{
	(void)sig;
}

/*
 * libfuse sends this signal to a thread whose caller was interrupted, so that its receive ends with
 * EINTR. libfuse 3.14 installs no handler when the request for it comes from init().
 */
static int catch_interrupts(void)
{
	const struct sigaction sa = { .sa_handler = nothing };

	return sigaction(INTERRUPT, &sa, NULL);
}

/*
 * Where the daemon is, now and later. Whoever has no daemon of their own at the start is shown
 * root's. False: nobody says where to look.
 */
static bool find_daemon(const char *dir)
{
	static const char root[] = KSM_ROOT_DIR "/" KSM_CONTROL_SOCKET;
	bool named = !ksm_runtime_path(socket_path, sizeof(socket_path), dir, KSM_CONTROL_SOCKET);

	if (!ksm_runtime_or_root(dir) || (named && access(socket_path, F_OK) == 0))
		return named;
	if (!named || access(root, F_OK) == 0)
		strcpy(socket_path, root);
	return true;
}

int main(int argc, char **argv)
{
	struct options o = { 0 };
	struct fuse_loop_config *loop;
	struct fuse *f;
	int err;

	parse(argc, argv, &o);
	if (!find_daemon(o.runtime_dir)) {
		fputs("ksmd-fs: no runtime directory: give --runtime-dir\n", stderr);
		return EXIT_USAGE;
	}
	f = mount_view(o.directory);
	if (!f)
		return EXIT_NO_MOUNT;
	loop = fuse_loop_cfg_create();
	err = !loop || catch_interrupts() || fuse_daemonize(o.foreground) ||
	      fuse_set_signal_handlers(fuse_get_session(f));
	if (!err) {
		fuse_loop_cfg_set_max_threads(loop, MAX_THREADS);
		err = fuse_loop_mt(f, loop);
		fuse_remove_signal_handlers(fuse_get_session(f));
	}
	fuse_loop_cfg_destroy(loop);
	fuse_unmount(f);
	fuse_destroy(f);
	return err ? EXIT_NO_MOUNT : EXIT_SUCCESS;
}
