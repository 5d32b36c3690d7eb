/* SPDX-License-Identifier: MIT */
/*
 * test_call_faults.c - each system call that the library makes in a thread of the program fails in
 * turn: in each ksm_*() call, over merged memory, pages that broke copy-on-write, and plain memory.
 *
 * The kernel decides what is right: a twin process makes the same calls on memory that is never
 * merged. After a failed call each page is as before or as the twin's; after a successful one every
 * page is as the twin's. This covers mappings, protection, bytes, and all three in a forked child.
 * Then the daemon's counters must equal pagemap, and MADV_DONTNEED must leave zeros: a frame that
 * the library has forgotten would show through.
 *
 * Seen to fail: all moves (pages were gone, or stood there and were not counted) before ops_remap.c
 * went back until it succeeds; "empty what may not be written" when frames were forgotten that
 * still stood; "protect up to a hole" and "empty what children do not get" (wrong protection,
 * inherited) as the wrappers did not try again.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/harness.h"
#include "tests/lib/mapping.h"
#include "tests/lib/puppet.h"
#include "tests/lib/trace.h"

static const long PG = PUPPET_PAGE;

/* The same addresses in every process, nothing near. */
#define SRC 0x300000100000l
#define TO 0x300000300000l

enum { PAGES = 64, LOOK = 96, MOVED = 80, MERGED = 40, CONTENT = 1000, SALT = 1 << 20 };

/* ---- memory ---- */

static bool is_unique(long i)
{
	return (i >= 14 && i < 18) || (i >= 24 && i < 40) || i >= 60;
}

static bool is_written(long i)
{
	return i == 2 || i == 3 || i == 45;
}

static uint64_t content_of(long i, long salt)
{
	return (uint64_t)(CONTENT + i + (is_unique(i) ? salt : 0));
}

static long map_at(long at, long pages)
{
	void *p = mmap((void *)at, (size_t)(pages * PG), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

	return p == (void *)at ? 0 : -errno;
}

/* (salt, offer): both places, the first with what is to be merged. */
static long fn_set_up(const long a[6])
{
	if (map_at(SRC, PAGES) || map_at(TO, LOOK))
		return -errno;
	for (long i = 0; i < PAGES; i++)
		page_fill((void *)(SRC + i * PG), content_of(i, a[0]));
	for (long i = 0; i < LOOK; i++)
		page_fill((void *)(TO + i * PG), (uint64_t)(500000 + i));
	return a[1] ? ksm_madvise((void *)SRC, PAGES * PUPPET_PAGE, MADV_MERGEABLE) : 0;
}

static long fn_write_some(const long a[6])
{
	(void)a;
	for (long i = 0; i < PAGES; i++)
		if (is_written(i))
			page_fill((void *)(SRC + i * PG), (uint64_t)(700000 + i));
	return 0;
}

static long fn_store_again(const long a[6])
{
	(void)a;
	for (long i = 0; i < PAGES; i++)
		*(volatile long *)(SRC + i * PG) += 0;
	return 0;
}

/* (other place that a call came to, or 0, bytes there) */
static long fn_tear_down(const long a[6])
{
	long bad = ksm_munmap((void *)SRC, LOOK * PUPPET_PAGE) |
		   ksm_munmap((void *)TO, LOOK * PUPPET_PAGE);

	return a[0] ? bad | ksm_munmap((void *)a[0], (size_t)a[1]) : bad;
}

/* ---- what a process sees ---- */

struct page {
	uint8_t mapped, prot;
	uint64_t bytes; /* a hash, 0 of zeros; 1 when it cannot be read */
};
struct view {
	struct page src[LOOK], to[LOOK];
};
/* Of the process, and of a child of it. Shared with the test. */
struct sight {
	struct view self, child;
};
static struct sight *sight, *before, *after;

static uint64_t hash_of(const uint64_t *p)
{
	uint64_t h = 0;

	for (unsigned int i = 0; i < PUPPET_PAGE / 8; i++)
		h = (h ^ p[i]) * 0x9e3779b97f4a7c15ull;
	return h;
}

/* Whether something is mapped there, as mmap_lock has it. */
static bool is_mapped(long at)
{
	unsigned char there;

	return !mincore((void *)at, PUPPET_PAGE, &there);
}

/*
 * True unless a transaction of the agent's got in the way. While it moves a mapping, a reader of
 * /proc/self/maps, which takes no mmap_lock, sees a gap; while it holds a page, reading that page
 * through /proc/self/mem fails with EIO.
 */
static bool look_once(struct page v[LOOK], long at)
{
	/* Where the kernel chose the place, what lies behind may be the agent's. */
	const long nr = at == SRC || at == TO ? LOOK : MOVED;
	FILE *maps = mapping_open(getpid());
	int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
	uint64_t buf[PUPPET_PAGE / 8];
	bool undisturbed = true;
	struct mapping m;

	memset(v, 0, LOOK * sizeof(*v));
	while (mapping_next(maps, &m))
		for (long i = 0; i < nr; i++)
			if ((long)m.start <= at + i * PG && at + i * PG < (long)m.end) {
				v[i].mapped = 1;
				v[i].prot = (uint8_t)((m.prot[0] == 'r') | (m.prot[1] == 'w') << 1);
				v[i].bytes = 1;
				/*
				 * Pages that the program may not read are read, too: reading maps
				 * them.
				 */
				if (pread(mem, buf, sizeof(buf), at + i * PG) == sizeof(buf))
					v[i].bytes = hash_of(buf);
				else
					undisturbed = false;
			}
	for (long i = 0; i < nr; i++)
		if (!v[i].mapped && is_mapped(at + i * PG))
			undisturbed = false;
	close(mem);
	return undisturbed;
}

/* Transactions end; what cannot be read after that is the fault that the test looks for. */
static void look_at(struct page v[LOOK], long at)
{
	uint64_t end = harness_now_ms() + WAIT_MS;

	while (!look_once(v, at) && harness_now_ms() < end)
		harness_nap();
}

/* (where a call came to, or 0 for the usual place) */
static long fn_look(const long a[6])
{
	long to = a[0] ? a[0] : TO;
	pid_t pid;
	int status;

	look_at(sight->self.src, SRC);
	look_at(sight->self.to, to);
	pid = fork();
	if (!pid) {
		look_at(sight->child.src, SRC);
		look_at(sight->child.to, to);
		_exit(0);
	}
	return waitpid(pid, &status, 0) == pid && !status ? 0 : -1;
}

/* (where a call came to): what is mapped is present. */
static long fn_use(const long a[6])
{
	struct page v[LOOK];

	look_at(v, SRC);
	look_at(v, a[0]);
	return 0;
}

/* (addr, pages): those that are not zeros after MADV_DONTNEED. */
static long fn_empty(const long a[6])
{
	struct page was[LOOK], is[LOOK];
	long bad = 0;

	look_at(was, a[0]);
	for (long i = 0; i < a[1]; i++)
		if (was[i].mapped &&
		    ksm_madvise((void *)(a[0] + i * PG), PUPPET_PAGE, MADV_DONTNEED))
			bad++;
	look_at(is, a[0]);
	for (long i = 0; i < a[1]; i++)
		bad += is[i].mapped != was[i].mapped || is[i].prot != was[i].prot ||
		       (was[i].mapped && was[i].bytes != 1 && is[i].bytes);
	return bad;
}

/* ---- the calls ---- */

enum {                /* what is special about them */
       WHOLE = 1,     /* a failure leaves every page as it was */
       UNSHARES = 2,  /* in the end no page stands on a frame, when repeated if it must be */
       PERHAPS = 4,   /* and a success may leave bytes */
       FIRST = 8,     /* the first use of the library, which offers */
       HOLES = 16,    /* a failure may leave the target unmapped */
       TAIL = 32,     /* and what was to be cut off */
       NOWHERE = 64,  /* it is the kernel's choice where to */
       BLOCKED = 128, /* no room behind the memory */
};

enum kind { ADVISE, PROTECT, UNMAP, MAP, REMAP, ANY, FORK, WITHDRAW };

struct op {
	const char *name;
	enum kind kind;
	int from, nr; /* pages of SRC */
	int arg;      /* advice, protection, flags */
	int new_nr;
	int flags;
	struct {
		enum kind kind;
		int from, nr, arg;
	} pre; /* done before, undisturbed; nr 0: nothing */
};

#define MOVE (MREMAP_MAYMOVE | MREMAP_FIXED)
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

static const struct op ops[] = {
	{ .name = "first offer", ADVISE, 0, 64, MADV_MERGEABLE, .flags = FIRST },
	{ .name = "offer a part again", ADVISE, 5, 30, MADV_MERGEABLE },
	{ .name = "withdraw", ADVISE, 0, 64, MADV_UNMERGEABLE, .flags = UNSHARES },
	{ .name = "withdraw what may not be written",
	  ADVISE,
	  0,
	  64,
	  MADV_UNMERGEABLE,
	  .flags = UNSHARES,
	  .pre = { PROTECT, 5, 50, PROT_READ } },
	{ .name = "unmap a part", UNMAP, 10, 37, 0 },
	{ .name = "map over a part", MAP, 10, 37, 0 },
	{ .name = "protect a part", PROTECT, 10, 40, PROT_READ },
	{ .name = "protect up to a hole", PROTECT, 0, 64, PROT_READ, .pre = { UNMAP, 50, 1, 0 } },
	{ .name = "no access", PROTECT, 0, 30, PROT_NONE },
	{ .name = "empty", ADVISE, 3, 50, MADV_DONTNEED },
	{ .name = "empty what may not be written",
	  ADVISE,
	  3,
	  50,
	  MADV_DONTNEED,
	  .pre = { PROTECT, 5, 20, PROT_READ } },
	{ .name = "free", ADVISE, 3, 50, MADV_FREE, .flags = PERHAPS },
	{ .name = "not for children", ADVISE, 1, 50, MADV_DONTFORK },
	{ .name = "for children again",
	  ADVISE,
	  1,
	  50,
	  MADV_DOFORK,
	  .pre = { ADVISE, 1, 55, MADV_DONTFORK } },
	{ .name = "zeros for children", ADVISE, 1, 50, MADV_WIPEONFORK },
	{ .name = "no zeros for children",
	  ADVISE,
	  1,
	  50,
	  MADV_KEEPONFORK,
	  .pre = { ADVISE, 1, 55, MADV_WIPEONFORK } },
	{ .name = "empty what children do not get",
	  ADVISE,
	  0,
	  64,
	  MADV_DONTNEED,
	  .pre = { ADVISE, 1, 50, MADV_DONTFORK } },
	{ .name = "shrink", REMAP, 0, 64, 0, 30, WHOLE | TAIL },
	{ .name = "grow", REMAP, 0, 64, 0, 80, WHOLE },
	{ .name = "grow a part that moves",
	  REMAP,
	  0,
	  64,
	  MREMAP_MAYMOVE,
	  80,
	  WHOLE | NOWHERE | BLOCKED },
	{ .name = "move", REMAP, 0, 64, MOVE, 64, WHOLE | HOLES },
	{ .name = "move a part", REMAP, 4, 50, MOVE, 50, WHOLE | HOLES },
	{ .name = "move and grow", REMAP, 0, 64, MOVE, 90, WHOLE | HOLES },
	{ .name = "move and shrink", REMAP, 0, 64, MOVE, 50, WHOLE | HOLES | TAIL },
	{ .name = "move pages only", REMAP, 0, 64, MOVE | MREMAP_DONTUNMAP, 64, WHOLE | HOLES },
	{ .name = "move pages only that may not be written",
	  REMAP,
	  0,
	  64,
	  MOVE | MREMAP_DONTUNMAP,
	  64,
	  WHOLE | HOLES,
	  { PROTECT, 0, 64, PROT_READ } },
	{ .name = "merge any", ANY, 0, 0, 1 },
	{ .name = "merge any no more", ANY, 0, 0, 0, .flags = UNSHARES, .pre = { ANY, 0, 1, 1 } },
	{ .name = "fork", FORK, 0, 0, 0 },
};
enum { OPS = sizeof(ops) / sizeof(ops[0]) };

static long result(long r)
{
	return r == -1 ? -errno : r;
}

/* With the kernel's calls, or the library's. */
static long perform(const struct op *o, bool plain)
{
	void *at = (void *)(SRC + o->from * PG);
	size_t len = (size_t)(o->nr * PG), new_len = (size_t)(o->new_nr * PG);
	int rw = PROT_READ | PROT_WRITE, anon = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	int advice = plain && o->arg == MADV_FREE ? MADV_DONTNEED : o->arg;
	pid_t pid;

	switch (o->kind) {
	case ADVISE:
		if (plain && (advice == MADV_MERGEABLE || advice == MADV_UNMERGEABLE))
			return 0;
		return result(plain ? madvise(at, len, advice) : ksm_madvise(at, len, advice));
	case PROTECT:
		return result(plain ? mprotect(at, len, o->arg) : ksm_mprotect(at, len, o->arg));
	case UNMAP:
		return result(plain ? munmap(at, len) : ksm_munmap(at, len));
	case MAP:
		return result((long)(plain ? mmap(at, len, rw, anon, -1, 0) :
					     ksm_mmap(at, len, rw, anon, -1, 0)));
	case REMAP:
		return result((long)(plain ? mremap(at, len, new_len, o->arg, (void *)TO) :
					     ksm_mremap(at, len, new_len, o->arg, (void *)TO)));
	case ANY:
		return plain ? 0 : result(ksm_merge_any(o->arg));
	default:
		pid = fork();
		if (!pid)
			_exit(0);
		if (pid > 0)
			waitpid(pid, NULL, 0);
		return result(pid < 0 ? -1 : 0);
	}
}

/* (op, plain) */
static long fn_pre(const long a[6])
{
	const struct op *o = &ops[a[0]];
	struct op pre = {
		.kind = o->pre.kind, .from = o->pre.from, .nr = o->pre.nr, .arg = o->pre.arg
	};

	if ((o->flags & BLOCKED) && map_at(SRC + PAGES * PG, 1))
		return -errno;
	return o->pre.nr ? perform(&pre, a[1]) : 0;
}

/* The test knows by getppid() where the call begins and ends. */
static long fn_perform(const long a[6])
{
	long r;

	syscall(SYS_getppid);
	r = perform(&ops[a[0]], a[1]);
	syscall(SYS_getppid);
	return r;
}

/* ---- one call, of which a part fails ---- */

struct scene {
	struct daemon *d;
	struct puppet *p, *q,
		*twin; /* q has the same pages as p; twin has nothing to do with either */
	const struct op *op;
	long nr;        /* of it */
	long to;        /* where the call came to, if not to TO */
	long twin_says; /* what the kernel's call returns */
	int steps, faults, failed;
};

static int merged(struct puppet *p)
{
	return puppet_pages_on_frames(p, SRC, PAGES);
}

static void set_up(struct scene *s)
{
	bool first = s->op->flags & FIRST;

	if (first) {
		if (s->p)
			puppet_end(s->p);
		s->p = puppet_new();
	}
	ck_assert_int_eq(puppet_call(s->p, fn_set_up, SALT, !first), 0);
	ck_assert_int_eq(puppet_call(s->q, fn_set_up, 2 * SALT, 1), 0);
	if (first)
		return;
	wait_until(merged(s->p) == MERGED && merged(s->q) == MERGED, WAIT_MS, "merged");
	puppet_call(s->p, fn_write_some);
	ck_assert_int_eq(puppet_call(s->p, fn_pre, s->nr, 0), 0);
}

/* What the kernel does with such memory. */
static void ask_twin(struct scene *s)
{
	long r;

	ck_assert_int_eq(puppet_call(s->twin, fn_set_up, SALT, 0), 0);
	if (!(s->op->flags & FIRST))
		puppet_call(s->twin, fn_write_some);
	ck_assert_int_eq(puppet_call(s->twin, fn_pre, s->nr, 1), 0);
	ck_assert_int_eq(puppet_call(s->twin, fn_look, 0), 0);
	*before = *sight;
	r = s->twin_says = puppet_call(s->twin, fn_perform, s->nr, 1);
	ck_assert_int_eq(puppet_call(s->twin, fn_look, s->op->flags & NOWHERE ? r : 0), 0);
	*after = *sight;
}

static bool same(const struct page *a, const struct page *b)
{
	return a->mapped == b->mapped && a->prot == b->prot && a->bytes == b->bytes;
}

/*
 * The library had reserved this place for the moved memory, and the call that unmaps it failed,
 * too.
 */
static bool is_empty(const struct page *p)
{
	return p->mapped && !p->bytes;
}

static void check_pages(struct scene *s, bool failed, const char *what, struct page *is,
			struct page *old, struct page *new)
{
	int flags = s->op->flags;
	bool src = what[0] == 's';
	int nr = !src && flags & NOWHERE ? s->op->new_nr : LOOK; /* behind it: who knows */

	for (int i = 0; i < nr; i++) {
		bool hole = !is[i].mapped;
		bool fine = same(&is[i], &new[i]);

		if (failed ? !(flags & WHOLE) : flags & PERHAPS)
			fine |= same(&is[i], &old[i]);
		else if (failed)
			fine = same(&is[i], &old[i]) ||
			       (!src && flags & HOLES && (hole || is_empty(&is[i]))) ||
			       (src && hole && flags & TAIL && i >= s->op->from + s->op->new_nr);
		ck_assert_msg(
			fine,
			"%s, %s: %s, page %d: mapped %d prot %d bytes %#llx; was %d %d %#llx, "
			"should be %d %d %#llx",
			s->op->name, failed ? "failed" : "done", what, i, is[i].mapped, is[i].prot,
			(unsigned long long)is[i].bytes, old[i].mapped, old[i].prot,
			(unsigned long long)old[i].bytes, new[i].mapped, new[i].prot,
			(unsigned long long)new[i].bytes);
	}
}

static void look_at_source(struct scene *s, bool failed)
{
	ck_assert_int_eq(puppet_call(s->p, fn_look, 0), 0);
	check_pages(s, failed, "src", sight->self.src, before->self.src, after->self.src);
}

static uint64_t on_frames(struct scene *s)
{
	long to = s->to ? s->to : TO;

	puppet_call(s->p, fn_use, to);
	return (uint64_t)pages_on_frames(s->p->pid, SRC, LOOK) +
	       (uint64_t)pages_on_frames(s->p->pid, to, LOOK) + (uint64_t)merged(s->q);
}

static void check_after(struct scene *s, long r)
{
	bool failed = r < 0 && r > -4096;
	bool moved = s->op->flags & NOWHERE && !failed;

	if (!failed && !(s->op->flags & NOWHERE))
		ck_assert_int_eq(r, s->twin_says);
	s->to = moved ? r : 0;
	ck_assert_int_eq(puppet_call(s->p, fn_look, s->to), 0);
	check_pages(s, failed, "src", sight->self.src, before->self.src, after->self.src);
	check_pages(s, failed, "src of a child", sight->child.src, before->child.src,
		    after->child.src);
	if (!(s->op->flags & NOWHERE) || moved) {
		check_pages(s, failed, "to", sight->self.to, before->self.to, after->self.to);
		check_pages(s, failed, "to of a child", sight->child.to, before->child.to,
			    after->child.to);
	}
	if (failed && s->op->flags & (UNSHARES | FIRST))
		ck_assert_int_eq(puppet_call(s->p, fn_perform, s->nr, 0), 0);
	if (s->op->flags & UNSHARES)
		ck_assert_int_eq(pages_on_frames(s->p->pid, SRC, PAGES), 0);
	if (s->op->flags & FIRST) {
		puppet_call(s->p, fn_store_again); /* pages that a fork has shared stay */
		wait_until(merged(s->p) == MERGED, WAIT_MS, "merged after the first offer");
	}
	wait_until(ctl_get_u64(s->d, "ksm/pages_shared") + ctl_get_u64(s->d, "ksm/pages_sharing") ==
			   on_frames(s),
		   WAIT_MS, "counters are what pagemap says");
	ck_assert_int_eq(puppet_call(s->p, fn_empty, SRC, LOOK), 0);
	ck_assert_int_eq(
		puppet_call(s->p, fn_empty, s->to ? s->to : TO, s->to ? s->op->new_nr : LOOK), 0);
	ck_assert_int_eq(puppet_call(s->p, fn_tear_down, s->to, s->op->new_nr * PG), 0);
	ck_assert_int_eq(puppet_call(s->q, fn_tear_down), 0);
}

/* Files of /proc are read in many calls, between which nothing changes. */
static bool is_step(const struct trace *t, int *reads)
{
	return (t->nr != SYS_read && t->nr != SYS_close) || ++*reads <= 4;
}

static void until_begin(struct trace *t)
{
	do {
		if (trace_next(t, WAIT_MS) != TRACE_STOP)
			harness_die("the call does not begin");
	} while (!t->entry || t->nr != SYS_getppid);
}

/* From the nth that can fail on, `run` calls in a row do. False: it does not come to that. */
static bool perform_and_fail(struct scene *s, int n, int err, int run)
{
	const bool verbose = getenv("KSM_TEST_VERBOSE");
	struct trace t;
	int at = 0, reads = 0, left = run;
	long r;

	set_up(s);
	trace_begin(&t, s->p->pid);
	puppet_post(s->p, fn_perform, s->nr, 0);
	until_begin(&t);
	while (left && trace_next(&t, 3000) == TRACE_STOP) {
		if (!t.entry)
			continue;
		if (t.nr == SYS_getppid)
			break;
		if (!is_step(&t, &reads) || !trace_may_fail(&t, err) || ++at < n)
			continue;
		if (verbose)
			printf("%s: at %d, call %ld(%#lx, %#lx, %#lx): %s\n", s->op->name, at, t.nr,
			       (unsigned long)t.a[0], (unsigned long)t.a[1], (unsigned long)t.a[2],
			       strerrorname_np(err));
		fflush(stdout);
		trace_fail(&t, err);
		left--;
	}
	trace_end(&t);
	r = puppet_result(s->p);
	if (verbose)
		printf("%s: %ld\n", s->op->name, r);
	s->faults += run - left;
	s->failed += r < 0 && r > -4096;
	s->steps = at > s->steps ? at : s->steps;
	check_after(s, r);
	return left < run;
}

static void new_scene(struct scene *s, int nr)
{
	memset(s, 0, sizeof(*s));
	sight = mmap(NULL, 3 * sizeof(*sight), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	ck_assert_ptr_ne(sight, MAP_FAILED);
	before = sight + 1;
	after = sight + 2;
	s->op = &ops[nr];
	s->nr = nr;
	s->d = daemon_start(NULL);
	daemon_hasten(s->d);
	s->twin = puppet_new();
	s->p = s->op->flags & FIRST ? NULL : puppet_new();
	s->q = puppet_new();
	ask_twin(s);
}

static void end_scene(struct scene *s)
{
	puppet_end(s->p);
	puppet_end(s->q);
	puppet_end(s->twin);
	wait_counter(s->d, "frames_used", 0);
	daemon_stop(s->d);
}

/*
 * Every step takes minutes (`make faults`, or KSM_TEST_EVERY_STEP); else some, from another one on.
 */
static int stride(void)
{
	return getenv("KSM_TEST_EVERY_STEP") ? 1 : 7;
}

static int first_step(int salt)
{
	const char *env = getenv("KSM_TEST_SEED");
	static unsigned long seed;

	if (!seed) {
		seed = env ? strtoul(env, NULL, 0) : harness_now_ms() % 1000 + 1;
		printf("seed %lu (set KSM_TEST_SEED to repeat)\n", seed);
	}
	return getenv("KSM_TEST_EVERY_STEP") ? 1 : 1 + (int)((seed + (unsigned long)salt) % 7);
}

START_TEST(call_fails_in_a_program_thread)
{
	static const struct {
		int err, run;
	} how[] = { { ENOMEM, 1 }, { ENOMEM, 2 }, { EINTR, 1 },
		    { EAGAIN, 1 }, { EMFILE, 1 }, { ENOMEM, 9 } };
	struct scene s;

	new_scene(&s, _i);
	for (unsigned int h = 0; h < sizeof(how) / sizeof(how[0]); h++)
		for (int n = first_step(_i + (int)h);
		     perform_and_fail(&s, n, how[h].err, how[h].run); n += stride())
			;
	printf("%s: %d steps, %d faults, %d times it failed\n", s.op->name, s.steps, s.faults,
	       s.failed);
	end_scene(&s);
}
END_TEST

/* ---- the limit of mappings ---- */

static char *many;
enum { MANY = 80000 };

/* Take up every mapping that the process may have. */
static long fn_use_up_mappings(const long a[6])
{
	const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;

	(void)a;
	many = mmap(NULL, MANY * PUPPET_PAGE, PROT_NONE, flags, -1, 0);
	for (long i = 1; i < MANY; i += 2)
		if (mprotect(many + i * PG, PUPPET_PAGE, PROT_READ))
			return 0;
	return -1;
}

/* (n): give the nth back. */
static long fn_give_mapping(const long a[6])
{
	return munmap(many + (a[0] + 1) * PG, PUPPET_PAGE);
}

/*
 * The test repeats a move of several mappings, each time with room for one mapping more. So the
 * move fails with ENOMEM at each of its steps. All pages must be at the old place or all at the new
 * one, and the call must return.
 */
START_TEST(mappings_run_out)
{
	struct scene s;
	long r = -ENOMEM;
	int n;

	for (n = 0; ops[n].from != 4 || ops[n].kind != REMAP;)
		n++;
	new_scene(&s, n);
	set_up(&s);
	ck_assert_int_eq(puppet_call(s.p, fn_use_up_mappings), 0);
	for (n = 0; r == -ENOMEM && n < 100; n++) {
		ck_assert_int_eq(puppet_call(s.p, fn_give_mapping, n), 0);
		r = puppet_call(s.p, fn_perform, s.nr, 0);
		look_at_source(&s, r == -ENOMEM);
	}
	printf("moved with %d mappings to spare\n", n);
	check_after(&s, r);
	end_scene(&s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("call_faults");
	TCase *t = tcase_create("program_thread");
	const char *call = getenv("KSM_TEST_CALL"); /* number of the only one */
	SRunner *sr;
	int failed;

	if (!trace_possible() || !pfns_visible())
		return 0;
	tcase_set_timeout(t, 300);
	tcase_add_loop_test(t, call_fails_in_a_program_thread, call ? atoi(call) : 0,
			    call ? atoi(call) + 1 : OPS);
	if (!call)
		tcase_add_test(t, mappings_run_out);
	suite_add_tcase(suite, t);
	sr = srunner_create(suite);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
