/* SPDX-License-Identifier: MIT */
/*
 * kernel.c - the kernel's KSM as one side of a comparison.
 *
 * Its knobs belong to the whole machine. So a benchmark must give them back as it found them,
 * however it ends. It reads them once, and then forks a watchdog, which waits on a pipe whose only
 * other end is here. If this process ends normally, it restores the knobs and tells the watchdog
 * so. If it dies in any way, SIGKILL included, the watchdog sees the end of the pipe and restores
 * them itself. The watchdog shares the machine's lock (the same open file description), so nobody
 * else can start to measure in between.
 *
 * Should somebody kill the watchdog as well, the values stand in SAVED_FILE, which the next
 * ksm-bench puts back before it does anything else. The file is in /run: it is root's alone, and
 * gone after a boot, as the knobs are.
 *
 * `run` is written last and never as 2: the benchmark unmerges its own pages before, and
 * kernel_knobs_save() refuses a machine on which KSM is already at work for somebody else.
 */
#include "kernel.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "file.h"
#include "message.h"

#define KSM_DIR "/sys/kernel/mm/ksm/" /* in messages; knob_path() knows where they are */
#define SAVED_FILE "ksm-bench.knobs"
#define MAX_MAP_COUNT "max_map_count" /* of /proc/sys/vm: how many mappings a process may have */

/*
 * In the order in which they are put back: the scan knobs can be set only while the advisor is off.
 */
static const char *const knob_names[] = {
	MAX_MAP_COUNT,
	"sleep_millisecs",
	"pages_to_scan",
	"merge_across_nodes",
	"max_page_sharing",
	"stable_node_chains_prune_millisecs",
	"use_zero_pages",
	"smart_scan",
	"advisor_max_cpu",
	"advisor_min_pages_to_scan",
	"advisor_max_pages_to_scan",
	"advisor_target_scan_time",
	"advisor_mode",
	"run",
};
enum { NR_KNOBS = sizeof(knob_names) / sizeof(knob_names[0]) };

static struct {
	char value[NR_KNOBS][64]; /* "": this kernel does not have it */
	bool saved;
	int pipe; /* to the watchdog */
	pid_t watchdog, owner;
} knobs = { .pipe = -1 };

static const char *knob_path(const char *name, char *path, size_t size)
{
	char in_dir[64];

	if (!strcmp(name, MAX_MAP_COUNT))
		return file_of_machine("/proc/sys", "vm/" MAX_MAP_COUNT, path, size);
	snprintf(in_dir, sizeof(in_dir), "ksm/%s", name);
	return file_of_machine("/sys/kernel/mm", in_dir, path, size);
}

static int knob_read(const char *name, char *buf, size_t size)
{
	char path[512];
	ssize_t n = file_read(knob_path(name, path, sizeof(path)), buf, size);

	if (n < 0)
		return (int)n;
	buf[strcspn(buf, "\n")] = 0;
	return 0;
}

int kernel_set(const char *name, const char *value)
{
	char path[512];
	int err = file_write(knob_path(name, path, sizeof(path)), value);

	if (err)
		complain("%s: cannot write \"%s\": %s", path, value, strerror(-err));
	return err;
}

int kernel_get(const char *name, uint64_t *value)
{
	char buf[64];
	int err = knob_read(name, buf, sizeof(buf));

	if (err) {
		complain(KSM_DIR "%s: %s", name, strerror(-err));
		return err;
	}
	*value = strtoull(buf, NULL, 10);
	return 0;
}

/* A choice reads as "[none] scan-time" and is written as "none". */
static void strip_choice(char *s)
{
	char *open = strchr(s, '['), *close = open ? strchr(open, ']') : NULL;

	if (!close)
		return;
	*close = 0;
	memmove(s, open + 1, strlen(open + 1) + 1);
}

const char *kernel_knob_saved(const char *name)
{
	for (int i = 0; i < NR_KNOBS; i++)
		if (knobs.saved && !strcmp(knob_names[i], name))
			return knobs.value[i];
	return "";
}

/* The file is written whole or not at all: half of it would be put back as if it were all. */
static int saved_write(void)
{
	char path[512], temp[520], text[NR_KNOBS * 128];
	size_t n = 0;
	int fd, err = 0;

	for (int i = 0; i < NR_KNOBS; i++)
		if (*knobs.value[i])
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s %s\n", knob_names[i],
					      knobs.value[i]);
	file_of_machine("/run", SAVED_FILE, path, sizeof(path));
	snprintf(temp, sizeof(temp), "%s.new", path);
	unlink(temp);
	fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, text, n) != (ssize_t)n || rename(temp, path)) {
		err = -errno;
		complain("%s: %s", temp, strerror(errno));
	}
	if (fd >= 0)
		close(fd);
	return err;
}

static void saved_remove(void)
{
	char path[512];

	unlink(file_of_machine("/run", SAVED_FILE, path, sizeof(path)));
}

/* Place of a knob in knob_names[]; -1 when there is none. */
static int knob_index(const char *name)
{
	for (int i = 0; i < NR_KNOBS; i++)
		if (!strcmp(knob_names[i], name))
			return i;
	return -1;
}

/* The file must be ours, and hold nothing except knobs and values as saved_write() writes them. */
static int saved_read(const char *path)
{
	char text[NR_KNOBS * 128], *save = NULL;
	struct stat st;
	ssize_t n;

	if (lstat(path, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != geteuid())
		return -EPERM;
	n = file_read(path, text, sizeof(text));
	if (n <= 0 || n == (ssize_t)sizeof(text) - 1 || text[n - 1] != '\n')
		return -EINVAL;
	memset(knobs.value, 0, sizeof(knobs.value));
	for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char name[64], value[64], more;
		int i;

		if (sscanf(line, "%63s %63s %c", name, value, &more) != 2)
			return -EINVAL;
		i = knob_index(name);
		if (i < 0)
			return -EINVAL;
		snprintf(knobs.value[i], sizeof(knobs.value[i]), "%s", value);
	}
	return *knobs.value[NR_KNOBS - 1] ? 0 : -EINVAL; /* run is always there */
}

/*
 * Unmerge what we merged, then put every knob back. Signals stay blocked: one would make the kernel
 * give up unmerging.
 */
static void knobs_write_back(void)
{
	sigset_t all, before;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	kernel_set("run", "2");
	kernel_set("run", "0");
	if (*knobs.value[NR_KNOBS - 2])
		kernel_set("advisor_mode", "none");
	for (int i = 0; i < NR_KNOBS; i++)
		if (*knobs.value[i] && strcmp(knob_names[i], "run") != 0)
			kernel_set(knob_names[i], knobs.value[i]);
	kernel_set("run", knobs.value[NR_KNOBS - 1]);
	saved_remove();
	sigprocmask(SIG_SETMASK, &before, NULL);
}

int kernel_knobs_recover(void)
{
	char path[512];
	int err = saved_read(file_of_machine("/run", SAVED_FILE, path, sizeof(path)));

	if (err == -ENOENT)
		return 0;
	if (err) {
		complain("%s, the kernel's knobs as a killed run found them, cannot be used (%s); "
			 "set the knobs in " KSM_DIR " by hand, and remove the file",
			 path, strerror(-err));
		return err;
	}
	knobs_write_back();
	complain("put the kernel's knobs back, which a killed run had left changed");
	return 0;
}

static void watchdog_main(int fd)
{
	char c;
	ssize_t n;

	setsid();
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
	do
		n = read(fd, &c, 1);
	while (n < 0 && errno == EINTR);
	if (n == 0)
		knobs_write_back();
	_exit(0);
}

static int watchdog_start(void)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC))
		return -errno;
	knobs.watchdog = fork();
	if (knobs.watchdog < 0) {
		int err = -errno;

		close(fd[0]);
		close(fd[1]);
		return err;
	}
	if (!knobs.watchdog) {
		close(fd[1]);
		watchdog_main(fd[0]);
	}
	close(fd[0]);
	knobs.pipe = fd[1];
	return 0;
}

/* Another program's merged memory would be counted as ours, and run = 2 would unmerge it. */
static int refuse_if_in_use(void)
{
	static const char *const counters[] = { "pages_shared", "pages_unshared",
						"pages_volatile" };
	uint64_t v;

	for (int i = 0; i < 3; i++) {
		int err = kernel_get(counters[i], &v);

		if (err)
			return err;
		if (v) {
			complain("the kernel's KSM is already at work for other processes "
				 "(%s is %llu); stop it first (echo 2 >" KSM_DIR "run)",
				 counters[i], (unsigned long long)v);
			return -EBUSY;
		}
	}
	return 0;
}

int kernel_knobs_save(void)
{
	char path[512];
	int err;

	if (access(knob_path("run", path, sizeof(path)), F_OK)) {
		complain("this kernel has no KSM (" KSM_DIR " is missing)");
		return -ENOENT;
	}
	if (access(path, W_OK)) {
		complain("measuring the kernel's KSM needs root, because its knobs are the "
			 "machine's (" KSM_DIR "run is not writable); run it with sudo, or use "
			 "--only ksmd-user");
		return -EPERM;
	}
	err = kernel_knobs_recover();
	err = err ? err : refuse_if_in_use();
	if (err)
		return err;
	for (int i = 0; i < NR_KNOBS; i++) {
		if (knob_read(knob_names[i], knobs.value[i], sizeof(knobs.value[i])))
			knobs.value[i][0] = 0;
		strip_choice(knobs.value[i]);
	}
	if (!*knobs.value[NR_KNOBS - 1])
		return -EIO;
	knobs.saved = true;
	knobs.owner = getpid();
	err = saved_write();
	return err ? err : watchdog_start();
}

void kernel_knobs_restore(void)
{
	if (!knobs.saved || knobs.owner != getpid())
		return;
	knobs_write_back();
	knobs.saved = false;
	if (knobs.pipe < 0) /* no watchdog was started */
		return;
	if (write(knobs.pipe, "q", 1) < 0)
		complain("watchdog is gone");
	close(knobs.pipe);
	waitpid(knobs.watchdog, NULL, 0);
}

static pid_t find_ksmd(void)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	pid_t found = -1;

	while (d && found < 0 && (e = readdir(d))) {
		char path[64], name[32];

		if (strspn(e->d_name, "0123456789") != strlen(e->d_name) || strlen(e->d_name) > 10)
			continue;
		snprintf(path, sizeof(path), "/proc/%.10s/cmdline", e->d_name);
		if (file_read(path, name, sizeof(name)) != 0) /* kernel threads have none */
			continue;
		snprintf(path, sizeof(path), "/proc/%.10s/comm", e->d_name);
		if (file_read(path, name, sizeof(name)) > 0 && !strcmp(name, "ksmd\n"))
			found = (pid_t)atoi(e->d_name);
	}
	if (d)
		closedir(d);
	return found;
}

int kernel_max_map_count(unsigned int nr)
{
	char value[16];

	if (!knobs.saved || !*kernel_knob_saved(MAX_MAP_COUNT))
		return nr ? -EPERM : 0;
	snprintf(value, sizeof(value), "%u", nr);
	return kernel_set(MAX_MAP_COUNT, nr ? value : kernel_knob_saved(MAX_MAP_COUNT));
}

int kernel_start(const struct bench_config *cfg, pid_t *ksmd, struct round *out)
{
	bool zero = cfg->workload.contents == CONTENTS_ZERO;
	char v[64];
	int err;

	*ksmd = find_ksmd();
	if (*ksmd < 0) {
		complain("the kernel thread ksmd is not running");
		return -ESRCH;
	}
	err = kernel_set("run", "2"); /* drops what earlier rounds left; full_scans becomes 0 */
	err = err ? err : kernel_set("run", "0");
	if (*kernel_knob_saved("advisor_mode"))
		err = err ? err : kernel_set("advisor_mode", "none");
	err = err ? err : kernel_set("sleep_millisecs", "0");
	err = err ? err : kernel_set("pages_to_scan", BENCH_PAGES_TO_SCAN);
	if (*kernel_knob_saved("use_zero_pages"))
		err = err ? err : kernel_set("use_zero_pages", zero ? "1" : "0");
	if (cfg->smart_scan >= 0 && *kernel_knob_saved("smart_scan"))
		err = err ? err : kernel_set("smart_scan", cfg->smart_scan ? "1" : "0");
	for (int i = 0; i < NR_KNOBS - 1; i++)
		if (!knob_read(knob_names[i], v, sizeof(v)))
			round_knob(out, knob_names[i], v);
	return err;
}

void kernel_stop(void)
{
	kernel_set("run", "2");
	kernel_set("run", "0");
}
