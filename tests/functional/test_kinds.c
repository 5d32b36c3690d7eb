/* SPDX-License-Identifier: MIT */
/*
 * test_kinds.c - memory of every kind that real programs have is merged as well as plain memory is,
 * and stays what it was.
 *
 * Guests' memory that children must not have, buffer pools that dumps must not have, memory that a
 * fork has shared, memory with a NUMA policy, memory of which a core dump is taken.
 */
#include <check.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/client.h"
#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"
#include "wire/kernel_abi.h"

static const long PG = PUPPET_PAGE;
enum { NR = 150 }; /* more than two blocks of 64, and no multiple */

/* ---- what can be seen of a mapping ---- */

/* Does /proc/PID/smaps show this flag (proc(5), VmFlags) for all that is mapped in the range? */
static bool has_flag(pid_t pid, unsigned long start, unsigned long end, const char *flag)
{
	char path[64], line[512], want[8];
	unsigned long from, to;
	bool in = false, all = true;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	snprintf(want, sizeof(want), " %s ", flag);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			in = from < end && to > start;
		else if (in && !strncmp(line, "VmFlags:", 8))
			all &= strstr(line, want) != NULL;
	}
	fclose(f);
	return all;
}

/* The sum of such numbers, "Rss", in KiB. Mappings lie in the range or outside. */
static long smaps_kib(pid_t pid, unsigned long start, unsigned long end, const char *key)
{
	char path[64], line[512];
	size_t len = strlen(key);
	unsigned long from, to;
	bool in = false;
	long sum = 0, kib;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps", (int)pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
			in = from < end && to > start;
		else if (in && !strncmp(line, key, len) && sscanf(line + len, ": %ld", &kib) == 1)
			sum += kib;
	}
	fclose(f);
	return sum;
}

static const char *left_out(const struct puppet *p, const char *why)
{
	static char name[64];

	(void)p;
	snprintf(name, sizeof(name), "left_out/%s", why);
	return name;
}

/* ---- children and dumps ---- */

/* Map, fill, advise, offer: (pages, content, step, advice). */
static long fn_offer_advised(const long a[6])
{
	char *p = mmap(NULL, (size_t)(a[0] * PG), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	fn_fill((const long[6]){ (long)p, a[0], a[1], a[2] });
	if (ksm_madvise(p, (size_t)(a[0] * PG), MADV_MERGEABLE) ||
	    ksm_madvise(p, (size_t)(a[0] * PG), (int)a[3]))
		return -errno;
	return (long)p;
}

/* The same memory that nobody offers: (pages, content, step). */
static long fn_map_plain(const long a[6])
{
	char *p = mmap(NULL, (size_t)(a[0] * PG), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	fn_fill((const long[6]){ (long)p, a[0], a[1], a[2] });
	return (long)p;
}

/* How many of these pages does a child have that a raw clone made? (addr, pages) */
static long fn_raw_child_has(const long a[6])
{
	int status = 0;
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (!pid) {
		int nr = 0;

		for (long i = 0; i < a[1]; i++)
			nr += !msync((void *)(a[0] + i * PG), (size_t)PG, MS_ASYNC);
		_exit(nr);
	}
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/*
 * QEMU marks its guests' memory so, V8 and InnoDB theirs. Seen to fail (nothing is merged) when
 * such memory was left out.
 */
START_TEST(advised_memory_merges)
{
	static const struct {
		int advice, undo;
		const char *flag;
	} kind[] = { { MADV_DONTFORK, MADV_DOFORK, "dc" }, { MADV_DONTDUMP, MADV_DODUMP, "dd" } };
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();

	daemon_hasten(d);
	for (int i = 0; i < 2; i++) {
		long a = puppet_call(p, fn_offer_advised, NR, 1, 1, kind[i].advice);
		long b = puppet_call(q, fn_offer, NR, 1, 1);
		bool fork = kind[i].advice == MADV_DONTFORK;

		wait_counter(d, "pages_sharing", NR);
		ck_assert(has_flag(p->pid, a, a + NR * PG, kind[i].flag));
		ck_assert_int_eq(puppet_call(p, fn_raw_child_has, a, NR), fork ? 0 : NR);
		/* Pages in between are written, un-shared, given back, merged anew. */
		puppet_call(p, fn_fill, a + 10 * PG, 20, 5000, 1);
		puppet_call(q, fn_fill, b + 10 * PG, 20, 5000, 1);
		wait_full_scans(d, 2, WAIT_MS);
		wait_counter(d, "pages_sharing", NR);
		ck_assert_int_eq(puppet_call(p, fn_madvise, a + 40 * PG, 20 * PG, MADV_DONTNEED),
				 0);
		ck_assert_int_eq(puppet_call(p, fn_madvise, a + 70 * PG, 9 * PG, MADV_UNMERGEABLE),
				 0);
		ck_assert(has_flag(p->pid, a, a + NR * PG, kind[i].flag));
		ck_assert_int_eq(puppet_call(p, fn_raw_child_has, a, NR), fork ? 0 : NR);
		ck_assert_int_eq(puppet_call(p, fn_check, a + 40 * PG, 20, 0, 0), 0);
		ck_assert_int_eq(puppet_call(p, fn_check, a + 60 * PG, NR - 60, 61, 1), 0);
		/* And back. */
		ck_assert_int_eq(puppet_call(p, fn_madvise, a, NR * PG, kind[i].undo), 0);
		ck_assert(!has_flag(p->pid, a, a + PG, kind[i].flag));
		ck_assert_int_eq(puppet_call(p, fn_raw_child_has, a, NR), NR);
		puppet_call(p, fn_munmap, a, NR * PG);
		puppet_call(q, fn_munmap, b, NR * PG);
		wait_counter(d, "pages_sharing", 0);
	}
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* The advice comes when the memory is merged already, for a part of it. */
START_TEST(advice_on_merged_memory)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	b = puppet_call(q, fn_offer, NR, 1, 1);
	wait_counter(d, "pages_sharing", NR);
	ck_assert_int_eq(puppet_call(p, fn_madvise, a + 30 * PG, 50 * PG, MADV_DONTFORK), 0);
	ck_assert_int_eq(puppet_pages_on_frames(p, a, NR), NR);
	ck_assert_int_eq(puppet_call(p, fn_raw_child_has, a, NR), NR - 50);
	/* Across its end, merged in place: each page keeps what it was told. */
	puppet_call(p, fn_fill, a + 70 * PG, 20, 5000, 1);
	puppet_call(q, fn_fill, b + 70 * PG, 20, 5000, 1);
	wait_full_scans(d, 2, WAIT_MS);
	wait_counter(d, "pages_sharing", NR);
	ck_assert_int_eq(puppet_call(p, fn_raw_child_has, a, NR), NR - 50);
	ck_assert_int_eq(puppet_call(p, fn_check, a, 70, 1, 1), 0);
	ck_assert_int_eq(puppet_call(p, fn_check, a + 90 * PG, NR - 90, 91, 1), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* Children that fork(2) and nobody's wrapper makes, while pages are merged: (addr, pages, ms). */
static long fn_raw_forks(const long a[6])
{
	uint64_t end = harness_now_ms() + (uint64_t)a[2];
	long worst = 0, nr;

	while (harness_now_ms() < end) {
		nr = fn_raw_child_has(a);
		worst = nr > worst ? nr : worst;
	}
	return worst;
}

START_TEST(no_fork_ever_has_it)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer_advised, NR, 1, 1, MADV_DONTFORK);
	b = puppet_call(q, fn_offer, NR, 1, 1);
	puppet_post(p, fn_raw_forks, a, NR, 500);
	for (int i = 0; i < 8; i++) {
		puppet_call(q, fn_fill, b, NR, 1, 1);
		wait_full_scans(d, 3, WAIT_MS);
		puppet_call(q, fn_fill, b, NR, 7000, 1);
	}
	ck_assert_int_eq(puppet_result(p), 0);
	ck_assert_int_eq(puppet_call(p, fn_check, a, NR, 1, 1), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* ---- memory with a NUMA policy ---- */

static long fn_bind(const long a[6]) /* (addr, bytes): to node 0 */
{
	unsigned long mask = 1;

	return ksmc_mbind((void *)a[0], (size_t)a[1], MPOL_BIND, &mask, 8, 0);
}

static long fn_mode_at(const long a[6])
{
	int mode = -1;

	return syscall(SYS_get_mempolicy, &mode, NULL, 0, a[0], MPOL_F_ADDR) ? -errno : mode;
}

/* Seen to fail (nothing is merged) when memory with a policy was left out. */
START_TEST(memory_with_a_policy_merges)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	b = puppet_call(q, fn_offer, NR, 1, 1);
	wait_counter(d, "pages_sharing", NR);
	if (puppet_call(p, fn_bind, a + 10 * PG, 100 * PG)) {
		printf("SKIP: this kernel has no NUMA policies\n");
	} else {
		/* It stood on frames when the program set the policy, and does so again. */
		wait_full_scans(d, 3, WAIT_MS);
		wait_counter(d, "pages_sharing", NR);
		ck_assert_int_eq(puppet_pages_on_frames(p, a, NR), NR);
		/* No frame has it: a write of another process does not follow it. */
		ck_assert_int_eq(puppet_call(q, fn_mode_at, b + 20 * PG), MPOL_DEFAULT);
		/* Memory that takes the place of frames does. */
		ck_assert_int_eq(puppet_call(p, fn_madvise, a + 20 * PG, 5 * PG, MADV_DONTNEED), 0);
		ck_assert_int_eq(puppet_call(p, fn_madvise, a + 50 * PG, 5 * PG, MADV_UNMERGEABLE),
				 0);
		ck_assert_int_eq(puppet_call(p, fn_mode_at, a + 22 * PG), MPOL_BIND);
		ck_assert_int_eq(puppet_call(p, fn_mode_at, a + 52 * PG), MPOL_BIND);
		ck_assert_int_eq(puppet_call(p, fn_check, a + 25 * PG, NR - 25, 26, 1), 0);
	}
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* ---- who is counted ---- */

/* A hundred pages in address space for a million, all of it kept from merging. */
static long fn_locked(const long a[6])
{
	size_t len = 4ul << 30;
	char *p = ksm_mmap(NULL, len, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	(void)a;
	memset(p, 1, (size_t)(100 * PG));
	return ksmc_exclude(p, len, KSM_LEFT_MLOCKED);
}

/* What a monitor does that gives its guest shared memory. */
static long fn_offer_shared(const long a[6])
{
	char *p = mmap(NULL, (size_t)(a[0] * PG), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	memset(p, 1, (size_t)(a[0] * PG));
	return ksm_madvise(p, (size_t)(a[0] * PG), MADV_MERGEABLE) ? -errno : (long)p;
}

/* Seen to fail (a million pages; none shared) when address space was counted. */
START_TEST(what_is_there_is_counted)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new();
	long shared;

	daemon_hasten(d);
	ck_assert_int_gt(puppet_call(p, fn_offer, NR, 1, 1), 0);
	ck_assert_int_eq(puppet_call(p, fn_locked), 0);
	shared = puppet_call(p, fn_offer_shared, 70);
	ck_assert_int_gt(shared, 0);
	wait_until(ctl_client_u64(d, p->pid, left_out(p, "mlocked")) == 100, WAIT_MS,
		   "locked pages are counted");
	wait_until(ctl_client_u64(d, p->pid, left_out(p, "shared")) == 70, WAIT_MS,
		   "shared pages are counted");
	puppet_call(p, fn_munmap, shared, 70 * PG);
	wait_until(ctl_client_u64(d, p->pid, left_out(p, "shared")) == 0, WAIT_MS, "they are gone");
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/* ---- core dumps ---- */

/* Pages of [addr, +NR) that a core file holds with their contents, as fn_offer() numbers these. */
static int pages_in_core(const char *path, unsigned long addr, long content, long step)
{
	Elf64_Ehdr eh;
	char *page = malloc((size_t)PG);
	int fd = open(path, O_RDONLY | O_CLOEXEC), nr = 0;

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(pread(fd, &eh, sizeof(eh), 0), sizeof(eh));
	for (int i = 0; i < eh.e_phnum; i++) {
		Elf64_Phdr ph;

		ck_assert_int_eq(pread(fd, &ph, sizeof(ph), (off_t)(eh.e_phoff + i * sizeof(ph))),
				 sizeof(ph));
		for (int k = 0; ph.p_type == PT_LOAD && k < NR; k++) {
			unsigned long at = addr + (unsigned long)(k * PG);

			if (at < ph.p_vaddr || at >= ph.p_vaddr + ph.p_filesz)
				continue;
			ck_assert_int_eq(pread(fd, page, (size_t)PG,
					       (off_t)(ph.p_offset + (at - ph.p_vaddr))),
					 PG);
			nr += page_holds(page, (uint64_t)(content + k * step));
		}
	}
	close(fd);
	free(page);
	return nr;
}

static long fn_dump_here(const long a[6])
{
	struct rlimit all = { RLIM_INFINITY, RLIM_INFINITY };

	if (chdir((const char *)a[0]) || setrlimit(RLIMIT_CORE, &all) ||
	    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		return -errno;
	return 0;
}

static bool cores_are_files(void)
{
	char pattern[64] = "";
	FILE *f = fopen("/proc/sys/kernel/core_pattern", "re");

	if (f) {
		fgets(pattern, sizeof(pattern), f);
		fclose(f);
	}
	if (!strncmp(pattern, "core", 4) && !strchr(pattern, '%') && !geteuid())
		return true;
	printf("SKIP: core files have other names here\n");
	return false;
}

/* The puppet dies and leaves a file. */
static void dump(struct puppet *p, const char *dir, char core[64])
{
	char with_pid[96];
	pid_t pid = p->pid;

	ck_assert_int_eq(puppet_call(p, fn_dump_here, dir), 0);
	kill(pid, SIGABRT);
	waitpid(pid, NULL, 0);
	snprintf(core, 64, "%s/core", dir);
	snprintf(with_pid, sizeof(with_pid), "%s.%d", core, (int)pid);
	if (access(core, R_OK))
		rename(with_pid, core);
}

/* Does a process map the arena anywhere else than in these ranges of NR pages? */
static bool arena_elsewhere(pid_t pid, const long at[], int nr)
{
	bool elsewhere = false;
	char path[64], line[512];
	long from, to;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f)) {
		if (!strstr(line, "ksm-arena") || sscanf(line, "%lx-%lx ", &from, &to) != 2)
			continue;
		/* A mapping may go on from one range to the next. */
		for (; from < to && !elsewhere; from += PG) {
			elsewhere = true;
			for (int i = 0; i < nr; i++)
				elsewhere &= from < at[i] || from >= at[i] + NR * PG;
		}
	}
	fclose(f);
	return elsewhere;
}

/*
 * Merged pages are in a core dump, whether they stand alone or side by side, and what is kept from
 * dumps is not. Seen to fail (0 of 150 pages) when mappings of frames had no anon_vma, and 50 of
 * 150 when pieces of a sheet stayed MADV_DONTDUMP. A sheet that stays is seen in the maps.
 */
START_TEST(core_dump_has_merged_memory)
{
	char dir[] = "/tmp/ksm-core.XXXXXX", core[64];
	struct daemon *d;
	struct puppet *p, *q;
	long a, b, secret, forward, back;

	if (!cores_are_files())
		return;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	d = daemon_start(NULL);
	p = puppet_new();
	q = puppet_new();
	daemon_hasten(d);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	/* Every third page differs: most mappings are of two pages. */
	b = puppet_call(q, fn_offer, NR, 1, 1);
	for (long i = 0; i < NR; i += 3)
		puppet_call(q, fn_fill, b + i * PG, 1, 9000 + i, 1);
	secret = puppet_call(p, fn_offer_advised, NR, 20000, 1, MADV_DONTDUMP);
	puppet_call(q, fn_offer, NR, 20000, 1);
	/* One of these has its frames the wrong way round: each page is a mapping of its own. */
	forward = puppet_call(p, fn_offer, NR, 30000, 1);
	back = puppet_call(p, fn_offer, NR, 30000 + NR - 1, -1);
	wait_counter(d, "pages_sharing", NR - NR / 3 + 2 * NR);
	/* Nothing that was mapped aside is left. */
	wait_until(!arena_elsewhere(p->pid, (const long[]){ a, secret, forward, back }, 4), WAIT_MS,
		   "mappings of frames stand where pages were merged, and nowhere else");
	dump(p, dir, core);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)a, 1, 1), NR);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)forward, 30000, 1), NR);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)back, 30000 + NR - 1, -1), NR);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)secret, 20000, 1), 0);
	unlink(core);
	rmdir(dir);
	puppet_kill(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

static long fn_core_filter(const long a[6]) /* (what is dumped: core(5)) */
{
	char text[16];
	int fd = open("/proc/self/coredump_filter", O_WRONLY | O_CLOEXEC), n;

	n = snprintf(text, sizeof(text), "0x%lx", (unsigned long)a[0]);
	n = fd >= 0 && write(fd, text, (size_t)n) == n ? 0 : -errno;
	close(fd);
	return n;
}

/*
 * Which memory is dumped the program's user chooses: private memory (1), that of files (4). Merged
 * memory is there exactly when memory beside it is that nobody has offered. Seen to fail (all of it
 * is dumped with 4) when mappings of frames were always dumped.
 */
START_TEST(core_filter_holds_for_merged_memory)
{
	static const struct {
		long filter, later; /* before it merges, and once it is merged */
	} runs[] = { { 1, 0 }, { 4, 0 }, { 5, 0 }, { 2, 0 }, { 4, 1 }, { 1, 4 } };
	char dir[] = "/tmp/ksm-core.XXXXXX", core[64];
	struct daemon *d;
	struct puppet *p, *q;
	long a, b, plain, filter = runs[_i].later ? runs[_i].later : runs[_i].filter;

	if (!cores_are_files())
		return;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	d = daemon_start(NULL);
	p = puppet_new();
	q = puppet_new();
	daemon_hasten(d);
	ck_assert_int_eq(puppet_call(p, fn_core_filter, runs[_i].filter), 0);
	plain = puppet_call(p, fn_map_plain, NR, 50000, 1);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	/* Its frames the wrong way round: pieces of a sheet. */
	b = puppet_call(p, fn_offer, NR, NR, -1);
	puppet_call(q, fn_offer, NR, 1, 1);
	wait_counter(d, "pages_sharing", 2 * NR);
	if (runs[_i].later) {
		ck_assert_int_eq(puppet_call(p, fn_core_filter, filter), 0);
		/* The agent looks when it has merged something. */
		puppet_call(p, fn_offer, NR, 7000, 1);
		puppet_call(q, fn_offer, NR, 7000, 1);
		wait_until(has_flag(p->pid, a, a + NR * PG, "dd") == (filter == 4) &&
				   has_flag(p->pid, b, b + NR * PG, "dd") == (filter == 4),
			   WAIT_MS, "the mappings follow the filter");
	}
	/* A program's own word on it changes nothing. */
	ck_assert_int_eq(puppet_call(p, fn_madvise, a, NR * PG, MADV_DONTDUMP), 0);
	ck_assert_int_eq(puppet_call(p, fn_madvise, a, NR * PG, MADV_DODUMP), 0);
	dump(p, dir, core);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)plain, 50000, 1), filter & 1 ? NR : 0);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)a, 1, 1), filter & 1 ? NR : 0);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)b, NR, -1), filter & 1 ? NR : 0);
	unlink(core);
	rmdir(dir);
	puppet_kill(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST
#define NR_FILTERS 6

/* A debugger's dump of a process that lives on: gcore(1), which decides by maps and smaps. */
START_TEST(gcore_has_merged_memory)
{
	char dir[] = "/tmp/ksm-core.XXXXXX", core[64], command[160];
	struct daemon *d;
	struct puppet *p, *q;
	long a, secret;

	if (system("gcore -h >/dev/null 2>&1") == 127 << 8) { /* NOLINT(cert-env33-c) */
		printf("SKIP: there is no gcore\n");
		return;
	}
	ck_assert_ptr_nonnull(mkdtemp(dir));
	d = daemon_start(NULL);
	p = puppet_new();
	q = puppet_new();
	daemon_hasten(d);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	puppet_call(q, fn_offer, NR, NR, -1);
	secret = puppet_call(p, fn_offer_advised, NR, 20000, 1, MADV_DONTDUMP);
	puppet_call(q, fn_offer, NR, 20000, 1);
	wait_counter(d, "pages_sharing", 2 * NR);
	puppet_call(p, fn_fill, a, 10, 1, 1); /* written, with the same contents */
	snprintf(command, sizeof(command), "gcore -o %s/core %d >%s/out 2>&1", dir, (int)p->pid,
		 dir);
	ck_assert_int_eq(system(command), 0); /* NOLINT(cert-env33-c) */
	snprintf(core, sizeof(core), "%s/core.%d", dir, (int)p->pid);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)a, 1, 1), NR);
	ck_assert_int_eq(pages_in_core(core, (unsigned long)secret, 20000, 1), 0);
	ck_assert_int_eq(puppet_call(p, fn_check, a, NR, 1, 1), 0);
	unlink(core);
	snprintf(core, sizeof(core), "%s/out", dir);
	unlink(core);
	rmdir(dir);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* ---- what others see and do ---- */

/* What smaps says of merged memory adds up, for each who reads it. */
START_TEST(smaps_add_up)
{
	const long kib = NR * PG / 1024, written = 10 * PG / 1024;
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b, end, pss;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	b = puppet_call(q, fn_offer, NR, NR, -1);
	end = a + NR * PG;
	wait_counter(d, "pages_sharing", NR);
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Size"), kib);
	wait_until(smaps_kib(p->pid, a, end, "Rss") == kib, WAIT_MS, "all of it is present");
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Anonymous"), 0);
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Swap"), 0);
	/* Each mapping's is rounded down. Page tables come a moment after the frames. */
	wait_until((pss = smaps_kib(p->pid, a, end, "Pss") +
			  smaps_kib(q->pid, b, b + NR * PG, "Pss")) <= kib,
		   WAIT_MS, "each has half of it");
	ck_assert_int_ge(pss, kib - NR / 2);
	ck_assert(has_flag(p->pid, a, end, "rd") && has_flag(p->pid, a, end, "wr"));
	ck_assert(!has_flag(p->pid, a, end, "sh"));
	puppet_call(p, fn_fill, a, 10, 70000, 1);
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Rss"), kib);
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Anonymous"), written);
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Private_Dirty"), written);
	ck_assert_int_eq(puppet_call(p, fn_madvise, a, NR * PG, MADV_UNMERGEABLE), 0);
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Anonymous"), kib);
	ck_assert_int_eq(smaps_kib(p->pid, a, end, "Size"), kib);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/*
 * Whoever has killed a process may take its memory before it has ended: process_mrelease(2). The
 * kernel does not take what is shared, so frames in shared mappings would stay.
 */
START_TEST(killed_client_is_released)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b;
	int pidfd, status;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	b = puppet_call(q, fn_offer, NR, 1, 1);
	wait_counter(d, "pages_sharing", NR);
	puppet_call(p, fn_fill, a, 10, 70000, 1);
	pidfd = (int)syscall(SYS_pidfd_open, p->pid, 0);
	ck_assert_int_ge(pidfd, 0);
	/* It stops at its end, with all of its memory. */
	ck_assert_int_eq(ptrace(PTRACE_SEIZE, p->pid, NULL, (void *)PTRACE_O_TRACEEXIT), 0);
	ck_assert_int_eq(kill(p->pid, SIGKILL), 0);
	ck_assert_int_eq(waitpid(p->pid, &status, __WALL), p->pid);
	ck_assert_int_eq(status >> 8, SIGTRAP | PTRACE_EVENT_EXIT << 8);
	ck_assert_int_gt(smaps_kib(p->pid, a, a + NR * PG, "Rss"), 0);
	if (syscall(SYS_process_mrelease, pidfd, 0)) {
		ck_assert_int_eq(errno, ENOSYS);
		printf("SKIP: this kernel has no process_mrelease(2)\n");
	} else {
		ck_assert_int_eq(smaps_kib(p->pid, a, a + NR * PG, "Rss"), 0);
	}
	ck_assert_int_eq(puppet_pages_on_frames(q, b, NR), NR);
	ck_assert_int_eq(puppet_call(q, fn_check, b, NR, 1, 1), 0);
	ptrace(PTRACE_DETACH, p->pid, NULL, NULL);
	close(pidfd);
	puppet_kill(p);
	wait_counter(d, "pages_sharing", 0);
	ck_assert_int_eq(puppet_call(q, fn_check, b, NR, 1, 1), 0);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* ---- huge pages ---- */

enum { NR_HUGE = 4, HUGE_PAGES = 512, HUGE_KIB = 2048 };

/* KiB of the range that are in huge pages. */
static long huge_kib(pid_t pid, unsigned long start, unsigned long end)
{
	return smaps_kib(pid, start, end, "AnonHugePages");
}

/* Memory that begins with a huge page and may have such ones; contents as by fn_fill(). */
static long map_aligned(long content, long step, int advice)
{
	const size_t huge = (size_t)HUGE_PAGES * (size_t)PG, len = NR_HUGE * huge;
	char *p =
		mmap(NULL, len + huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *at = (char *)(((uintptr_t)p + huge - 1) / huge * huge);

	munmap(at + len, (size_t)(p + len + huge - (at + len)));
	if (at > p)
		munmap(p, (size_t)(at - p));
	madvise(at, len, advice);
	fn_fill((const long[6]){ (long)at, NR_HUGE * HUGE_PAGES, content, step });
	return (long)at;
}

/* Huge pages whose pages get the contents content + i * step: (content, step). */
static long fn_map_huge(const long a[6])
{
	return map_aligned(a[0], a[1], MADV_HUGEPAGE);
}

/* The same of small pages, offered. */
static long fn_offer_small(const long a[6])
{
	long at = map_aligned(a[0], a[1], MADV_NORMAL);
	size_t len = (size_t)NR_HUGE * HUGE_PAGES * (size_t)PG;

	return ksm_madvise((void *)at, len, MADV_MERGEABLE) ? -errno : at;
}

/* Give every fifth page contents that no page has had: (addr, nr, first content). */
static long fn_write_some(const long a[6])
{
	for (long i = 0; i < a[1]; i += 5)
		fn_fill((const long[6]){ a[0] + i * PG, 1, a[2] + i, 1 });
	return 0;
}

static long fn_check_some(const long a[6])
{
	for (long i = 0; i < a[1]; i += 5)
		if (fn_check((const long[6]){ a[0] + i * PG, 1, a[2] + i, 1 }))
			return -1;
	return 0;
}

/*
 * Unique memory keeps its huge pages, also when it is followed for long and written, and of two
 * pages that merge only the huge pages around them are split: one that was there from the
 * beginning, and one that was written later. Seen to fail (none is left) when change tracking began
 * and ended within huge pages, and when it protected them.
 */
START_TEST(huge_pages_are_kept)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a = puppet_call(p, fn_map_huge, 1, 1), b;
	const long nr = NR_HUGE * HUGE_PAGES, end = a + nr * PG;

	daemon_hasten(d);
	if (huge_kib(p->pid, a, end) != NR_HUGE * HUGE_KIB) {
		printf("SKIP: the kernel gives no huge pages\n");
	} else {
		ck_assert_int_eq(puppet_call(p, fn_madvise, a, nr * PG, MADV_MERGEABLE), 0);
		wait_counter(d, "pages_unshared", nr);
		wait_full_scans(d, 5, WAIT_MS);
		ck_assert_int_eq(huge_kib(p->pid, a, end), NR_HUGE * HUGE_KIB);
		for (long i = 1; i <= 3; i++) {
			puppet_call(p, fn_write_some, a, nr, i * 100000);
			wait_full_scans(d, 3, WAIT_MS);
		}
		ck_assert_int_eq(huge_kib(p->pid, a, end), NR_HUGE * HUGE_KIB);
		ck_assert_int_eq(puppet_call(p, fn_check_some, a, nr, 300000), 0);
		puppet_call(p, fn_fill, a, nr, 1, 1);
		b = puppet_call(q, fn_offer, 1, 1 + HUGE_PAGES + 100, 1);
		wait_counter(d, "pages_sharing", 1);
		ck_assert_int_eq(page_pfn(p->pid, a + (HUGE_PAGES + 100) * PG),
				 page_pfn(q->pid, b));
		wait_full_scans(d, 5, WAIT_MS);
		ck_assert_int_eq(huge_kib(p->pid, a, end), (NR_HUGE - 1) * HUGE_KIB);
		ck_assert_int_eq(puppet_call(p, fn_check, a, nr, 1, 1), 0);
		puppet_call(p, fn_fill, a + PG, 1, 90000, 1);
		puppet_call(q, fn_fill, b, 1, 90000, 1);
		/* The counter may still be that of the pages that were written. */
		wait_until(page_pfn(p->pid, a + PG) == page_pfn(q->pid, b), WAIT_MS, "they meet");
		ck_assert_int_eq(huge_kib(p->pid, a, end), (NR_HUGE - 2) * HUGE_KIB);
	}
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* How many of these pages are parts of a huge page, mapped as one or not? */
static long nr_in_huge(pid_t pid, long addr, long nr)
{
	int fd = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
	uint64_t flags;
	long sum = 0;

	ck_assert_int_ge(fd, 0);
	for (long i = 0; i < nr; i++) {
		off_t at = (off_t)(page_pfn(pid, addr + i * PG) * sizeof(flags));

		ck_assert_int_eq(pread(fd, &flags, sizeof(flags), at), sizeof(flags));
		sum += flags >> 22 & 1; /* KPF_THP */
	}
	close(fd);
	return sum;
}

/* Does the kernel make huge pages at once of memory that is nobody else's? */
static long fn_collapses(const long a[6])
{
	size_t len = (size_t)NR_HUGE * HUGE_PAGES * (size_t)PG;
	long at = map_aligned(1, 1, MADV_NORMAL), r;

	(void)a;
	r = syscall(SYS_madvise, at, len, KABI_MADV_COLLAPSE);
	munmap((void *)at, len);
	return !r;
}

/*
 * A program asks for huge pages at once. Where frames stand that would make huge pages of the
 * arena, whose frames could not be given back one by one any more. Seen to fail (unique memory is
 * refused, because it is tracked) when the kernel was asked as it stands.
 */
START_TEST(collapse_spares_the_arena)
{
	const long nr = NR_HUGE * HUGE_PAGES, len = nr * PG;
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *q = puppet_new();
	long a, b, unique;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer_small, 1, 1);
	b = puppet_call(q, fn_offer_small, 1, 1);
	wait_counter(d, "pages_sharing", nr);
	/* What merged may be in pieces afterwards; then the kernel makes no huge pages. */
	puppet_call(p, fn_madvise, a, len, KABI_MADV_COLLAPSE);
	ck_assert(geteuid() || !nr_in_huge(q->pid, b, nr));
	ck_assert_int_eq(puppet_pages_on_frames(q, b, nr), nr);
	ck_assert_int_eq(puppet_call(p, fn_check, a, nr, 1, 1), 0);
	puppet_call(p, fn_fill, a, nr, 1, 1);
	wait_full_scans(d, 2, WAIT_MS);
	wait_counter(d, "pages_sharing", nr);
	/* What is unique can have huge pages, though it is tracked. */
	unique = puppet_call(p, fn_offer_small, 100000, 1);
	wait_counter(d, "pages_unshared", nr);
	wait_full_scans(d, 2, WAIT_MS);
	if (!puppet_call(p, fn_collapses)) {
		printf("SKIP: the kernel gives no huge pages\n");
	} else {
		ck_assert_int_eq(puppet_call(p, fn_madvise, unique, len, KABI_MADV_COLLAPSE), 0);
		ck_assert_int_eq(huge_kib(p->pid, unique, unique + len), NR_HUGE * HUGE_KIB);
	}
	ck_assert_int_eq(puppet_call(p, fn_check, unique, nr, 100000, 1), 0);
	puppet_call(q, fn_offer, 1, 100007, 1);
	wait_counter(d, "pages_sharing", nr + 1);
	ck_assert_int_eq(puppet_call(p, fn_check, unique, nr, 100000, 1), 0);
	puppet_end(p);
	puppet_end(q);
	daemon_stop(d);
}
END_TEST

/* ---- memory that a fork has shared ---- */

/* Bytes in use of the whole process, each shared page counted by its share. */
static long pss_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	while (kib < 0 && fgets(line, sizeof(line), f))
		sscanf(line, "Pss: %ld", &kib);
	fclose(f);
	return kib;
}

/*
 * A parent and its worker have the same pages; the worker has copies of its own because it wrote to
 * each (and put the same bytes there again, as a count of references does). Nobody has written to
 * the parent's. Seen to fail (they count as pinned for ever) when pages that are not exclusive were
 * refused.
 */
START_TEST(pages_that_a_fork_shared_merge)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *child;
	long a;

	daemon_hasten(d);
	a = puppet_call(p, fn_offer, NR, 1, 1);
	wait_full_scans(d, 2, WAIT_MS); /* unique so far, and known */
	child = puppet_fork(p);
	wait_until(ctl_client_u64(d, child->pid, "ksm_rmap_items") >= NR, WAIT_MS,
		   "the child has joined");
	/* As long as both map a page it is one page already. */
	wait_until(ctl_client_u64(d, child->pid, left_out(child, "fork_shared")) >= NR ||
			   ctl_client_u64(d, p->pid, left_out(p, "fork_shared")) >= NR,
		   WAIT_MS, "they count as shared by the fork");
	ck_assert_uint_eq(ctl_client_u64(d, p->pid, left_out(p, "pinned")), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), 0);
	/* Nothing was copied to find that out. */
	for (int i = 0; i < NR; i++)
		ck_assert(!(pagemap_entry(p->pid, a + i * PG) & 1ull << 56));
	puppet_call(child, fn_fill, a, NR, 1, 1);
	wait_counter(d, "pages_sharing", NR);
	ck_assert_uint_eq(ctl_client_u64(d, p->pid, left_out(p, "fork_shared")), 0);
	ck_assert_int_eq(puppet_pages_on_frames(p, a, NR), NR);
	ck_assert_int_eq(puppet_pages_on_frames(child, a, NR), NR);
	ck_assert_int_eq(puppet_call(p, fn_check, a, NR, 1, 1), 0);
	ck_assert_int_eq(puppet_call(child, fn_check, a, NR, 1, 1), 0);
	puppet_end(child);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

/* What is shared by a fork and never written is not asked about for ever, and costs no memory. */
START_TEST(shared_pages_are_left_alone)
{
	struct daemon *d = daemon_start(NULL);
	struct puppet *p = puppet_new(), *child;
	uint64_t tried;
	long pss;

	daemon_hasten(d);
	puppet_call(p, fn_offer, NR, 1, 1);
	wait_full_scans(d, 2, WAIT_MS);
	child = puppet_fork(p);
	wait_until(ctl_client_u64(d, p->pid, left_out(p, "fork_shared")) +
				   ctl_client_u64(d, child->pid, left_out(child, "fork_shared")) >=
			   NR,
		   WAIT_MS, "they count as shared by the fork");
	wait_full_scans(d, 12, WAIT_MS);
	pss = pss_kib(p->pid) + pss_kib(child->pid);
	tried = ctl_get_u64(d, "ksm/orders");
	wait_full_scans(d, 64, WAIT_MS);
	/* 4, 8, 16, 32 passes between two tries, each of some orders in both. */
	ck_assert_uint_le(ctl_get_u64(d, "ksm/orders") - tried, 5 * 2 * (NR / 64 + 2));
	ck_assert_int_le(pss_kib(p->pid) + pss_kib(child->pid), pss + 64);
	puppet_end(child);
	puppet_end(p);
	daemon_stop(d);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kinds");
	TCase *tc = tcase_create("kinds");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 120);
	tcase_add_test(tc, advised_memory_merges);
	tcase_add_test(tc, advice_on_merged_memory);
	tcase_add_test(tc, no_fork_ever_has_it);
	tcase_add_test(tc, memory_with_a_policy_merges);
	tcase_add_test(tc, what_is_there_is_counted);
	tcase_add_test(tc, core_dump_has_merged_memory);
	tcase_add_loop_test(tc, core_filter_holds_for_merged_memory, 0, NR_FILTERS);
#ifdef __SANITIZE_ADDRESS__ /* its shadow, terabytes of it, would be dumped */
	(void)gcore_has_merged_memory;
#else
	tcase_add_test(tc, gcore_has_merged_memory);
#endif
	tcase_add_test(tc, smaps_add_up);
	tcase_add_test(tc, killed_client_is_released);
	tcase_add_test(tc, huge_pages_are_kept);
	tcase_add_test(tc, collapse_spares_the_arena);
	tcase_add_test(tc, pages_that_a_fork_shared_merge);
	tcase_add_test(tc, shared_pages_are_left_alone);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
