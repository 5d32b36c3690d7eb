/* SPDX-License-Identifier: MIT */
/*
 * track.c - see track.h.
 *
 * Two steps. The first PAGEMAP_SCAN finds written pages and protects them again in the same walk,
 * so no write between the two is missed. It asks for as little as possible, because most pages it
 * walks over are clean, and whether a page is a file's makes the kernel touch its struct page. The
 * second scan looks only at what the first returned and says what kind of page is there now. A page
 * that changed its kind in between was written or unmapped after it was protected: a later scan
 * shows it again, and the client compares before anything is merged. Where the second scan fails,
 * what the first returned is reported all the same, as of unknown kind: no scan would show it
 * again.
 *
 * PRESENT leaves out holes and swapped pages. WPALLOWED leaves out mappings where tracking is not
 * set up (yet): the kernel calls all their pages written, every time. (With PM_SCAN_WP_MATCHING it
 * skips these by itself.) A dense range is walked for WRITTEN alone, at half the cost per page.
 *
 * Of memory that is new all pages are to be protected and described. There one walk does both, and
 * tells by what it leaves whether there is anything else. It looks at each struct page, which is
 * why it is not for memory that may be calm.
 *
 * A range may be terabytes long. The kernel holds the client's mmap_lock for all of a call, and
 * passes over 512 GiB without page tables as fast as over a page. So calls for more than 128 MiB
 * begin with 2 MiB, which may be all new memory, and grow as long as they are quick: what bounds
 * them is time, not addresses. The time is the
 * thread's own, less that of a call that looks at nothing: where each call is slow (the daemon is
 * traced, its machine emulated or busy) shorter calls hold the lock no shorter, and 16 TiB in calls
 * for 128 MiB each would take minutes.
 *
 * Huge pages of private memory are not protected: the first write to one would have the kernel map
 * its pages singly, to note which of them it was. They are reported whenever they are met, as what
 * they are, and the engine finds out by their contents what was written (engine/huge.c). Huge pages
 * of the arena are protected, each as one where the walk takes all of it. The kernel splits it
 * where the walk ends within. So no number of pages ends a walk. It ends after VEC_LEN runs, of
 * which a huge page is at most one, or where the caller says, who keeps to the bounds of huge
 * pages.
 */
#include "daemon/track.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/span.h"
#include "wire/kernel_abi.h"
#include "wire/wire.h"

#define VEC_LEN 256 /* regions per call: as many as a caller has room for ranges; 6 KiB of stack */
#define CLEAN_PAGES 32768 /* pages per call of track_clean(): who takes them in holds a lock */
#define HUGE_BYTES (512 * (uint64_t)KSM_PAGE_SIZE) /* of a huge page */
#define STEP_BYTES (128ull << 20)                  /* of address space: what one call may be for */
#define STEP_GROWS 8u
#define QUICK_NS 20000u  /* a call that took less is followed by a longer one, */
#define SLOW_NS 100000u  /* one that took more by a shorter one */
#define LOOK_NS 1000000u /* for all calls of one look */
/* After so many written pages the caller gets them: he has to read each, a millisecond in all. */
#define FOUND_BYTES (512 * (uint64_t)KSM_PAGE_SIZE)
#define TRACKED (KABI_PAGE_IS_WPALLOWED | KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_WRITTEN)
/* Runs closer together than this are classified by one call: walking over a clean page costs about
 * a hundredth of a system call. */
#define GAP_BYTES (64 * (uint64_t)KSM_PAGE_SIZE)

/* Bounded output under construction. */
struct out {
	struct track_range *v;
	int nr, max;
	bool full;
};

/* How far the calls of one look reach. Times are CPU times of the thread, in ns. */
struct pace {
	uint64_t step;
	bool timed;
	uint64_t call_ns;  /* when the last call had returned */
	uint64_t base_ns;  /* what a call takes that looks at nothing */
	uint64_t spent_ns; /* by all calls, beyond that */
};

static int scan(int pagemap, struct kabi_pm_scan_arg *arg)
{
	int n;

	arg->size = sizeof(*arg);
	do
		n = ioctl(pagemap, KABI_PAGEMAP_SCAN, arg);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static struct pace pace_begin(int pagemap, uint64_t start, uint64_t end)
{
	struct kabi_pm_scan_arg nothing = {
		.start = start,
		.end = start,
		.category_mask = TRACKED,
		.return_mask = KABI_PAGE_IS_WRITTEN,
	};
	/* What one call does needs no clock. */
	struct pace p = { .step = STEP_BYTES };
	uint64_t begun;

	if (end - start > STEP_BYTES) {
		p.step = HUGE_BYTES;
		p.timed = true;
		begun = clock_thread_cpu_ns();
		scan(pagemap, &nothing);
		p.call_ns = clock_thread_cpu_ns();
		p.base_ns = p.call_ns - begun;
	}
	return p;
}

static uint64_t pace_end(const struct pace *p, uint64_t start, uint64_t end)
{
	return end - start > p->step ? (start + p->step) / HUGE_BYTES * HUGE_BYTES : end;
}

/* After a call. False: the look has taken long enough. */
static bool pace_next(struct pace *p)
{
	uint64_t now = clock_thread_cpu_ns(), took = now - p->call_ns;

	p->call_ns = now;
	took -= u64_min(took, p->base_ns);
	p->spent_ns += took;
	if (took < QUICK_NS)
		p->step *= STEP_GROWS;
	else if (took > SLOW_NS)
		p->step = u64_min(p->step, u64_max(p->step / STEP_GROWS, STEP_BYTES));
	return p->spent_ns < LOOK_NS;
}

static enum track_kind kind_of(uint64_t categories)
{
	if (categories & KABI_PAGE_IS_PFNZERO)
		return TRACK_ZERO;
	return categories & KABI_PAGE_IS_FILE ? TRACK_FILE : TRACK_ANON;
}

/* Without room for it nothing is emitted any more. */
static void emit(struct out *o, uint64_t start, uint64_t end, enum track_kind kind)
{
	if (!o->full && o->nr && o->v[o->nr - 1].at.end == start && o->v[o->nr - 1].kind == kind)
		o->v[o->nr - 1].at.end = end;
	else if (o->nr < o->max && !o->full)
		o->v[o->nr++] = (struct track_range){ { start, end }, kind };
	else
		o->full = true;
}

/*
 * Emit the part of [r->start, r->end) that is in runs, with the kind of r. *i: the first run that
 * may still reach r; both lists ascend.
 */
static void intersect(struct out *o, const struct kabi_page_region *r,
		      const struct kabi_page_region *runs, int nr, int *i)
{
	while (*i < nr && runs[*i].end <= r->start)
		(*i)++;
	for (int k = *i; k < nr && runs[k].start < r->end; k++) {
		struct span s = span_clip((struct span){ runs[k].start, runs[k].end },
					  (struct span){ r->start, r->end });

		emit(o, s.start, s.end, kind_of(r->categories));
	}
}

/* Say what is at runs[0..nr), which lie close together. */
static int classify(int pagemap, const struct kabi_page_region *runs, int nr, struct out *o)
{
	struct kabi_page_region vec[VEC_LEN];
	struct kabi_pm_scan_arg arg = {
		.start = runs[0].start,
		.end = runs[nr - 1].end,
		.vec = (uintptr_t)vec,
		.vec_len = VEC_LEN,
		.category_mask = KABI_PAGE_IS_PRESENT,
		.return_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_FILE | KABI_PAGE_IS_PFNZERO,
	};
	int i = 0;

	while (arg.start < arg.end) {
		int n = scan(pagemap, &arg);

		if (n < 0)
			return n;
		for (int k = 0; k < n; k++)
			intersect(o, &vec[k], runs, nr, &i);
		if (arg.walk_end <= arg.start)
			break;
		arg.start = arg.walk_end;
	}
	return 0;
}

static int classify_all(int pagemap, const struct kabi_page_region *runs, int nr, struct out *o)
{
	int first = 0, err = 0;

	for (int i = 1; i <= nr && !err; i++) {
		if (i < nr && runs[i].start - runs[i - 1].end < GAP_BYTES)
			continue;
		err = classify(pagemap, runs + first, i - first, o);
		first = i;
	}
	return err;
}

/* Protected, so they must be reported; there is room for them. */
static void emit_unknown(struct out *o, const struct kabi_page_region *runs, int nr)
{
	for (int i = 0; i < nr; i++)
		emit(o, runs[i].start, runs[i].end, TRACK_UNKNOWN);
}

/*
 * What was written in [*start, end), armed again; *start moves to where to go on. `how` is the mask
 * of a scan: what it wants of a page; `not`: which of that the page must not be. Adds the bytes to
 * *found. Returns 0 or -errno, and then nothing was armed.
 */
static int arm(int pagemap, uint64_t *start, uint64_t end, uint64_t how, uint64_t not,
	       struct out *o, uint64_t *found)
{
	struct kabi_page_region runs[VEC_LEN];
	/* What is protected must be reported: take no more runs than there is room for. */
	struct kabi_pm_scan_arg arg = {
		.flags = KABI_PM_SCAN_WP_MATCHING,
		.start = *start,
		.end = end,
		.vec = (uintptr_t)runs,
		.vec_len = (uint64_t)(o->max - o->nr < VEC_LEN ? o->max - o->nr : VEC_LEN),
		.category_inverted = not,
		.category_mask = how,
		.return_mask = KABI_PAGE_IS_WRITTEN,
	};
	int n = scan(pagemap, &arg), known = o->nr, err;

	if (n < 0)
		return n;
	err = n ? classify_all(pagemap, runs, n, o) : 0;
	if (err == -ESRCH)
		return err;
	if (err || o->full) {
		/* Pages of a run may be of more kinds than there is room for. */
		o->full = false;
		o->nr = known;
		emit_unknown(o, runs, n);
	}
	for (int i = 0; i < n; i++)
		*found += runs[i].end - runs[i].start;
	*start = arg.walk_end > *start ? arg.walk_end : end;
	return 0;
}

/* Huge pages at *start: of a file, and then armed; or private memory, and left as they are. */
static int take_huge(int pagemap, uint64_t *start, uint64_t end, struct out *o, uint64_t *found)
{
	struct kabi_page_region is;
	struct kabi_pm_scan_arg arg = {
		.start = *start,
		.end = end,
		.vec = (uintptr_t)&is,
		.vec_len = 1,
		.category_mask = KABI_PAGE_IS_HUGE | KABI_PAGE_IS_PRESENT,
		.return_mask = KABI_PAGE_IS_FILE | KABI_PAGE_IS_PFNZERO,
	};
	int n = scan(pagemap, &arg);

	if (n < 0)
		return n;
	if (!n) { /* split, or gone: the next look will show what is there */
		*start = end;
		return 0;
	}
	if (is.categories & KABI_PAGE_IS_FILE) {
		*start = is.start;
		return arm(pagemap, start, is.end, TRACKED, 0, o, found);
	}
	emit(o, is.start, is.end, is.categories & KABI_PAGE_IS_PFNZERO ? TRACK_ZERO : TRACK_HUGE);
	*start = is.end;
	return 0;
}

/*
 * As arm(), of a range that may have huge pages. Looks first, which costs little where nothing was
 * written, and then arms what lies between them.
 */
static int arm_around(int pagemap, uint64_t *start, uint64_t end, struct out *o, uint64_t *found)
{
	struct kabi_page_region runs[VEC_LEN];
	struct kabi_pm_scan_arg arg = {
		.start = *start,
		.end = end,
		.vec = (uintptr_t)runs,
		.vec_len = VEC_LEN,
		.category_mask = TRACKED,
		.return_mask = KABI_PAGE_IS_WRITTEN | KABI_PAGE_IS_HUGE,
	};
	int n = scan(pagemap, &arg), err = 0, last;

	if (n < 0)
		return n;
	for (int i = 0; i < n && !err && o->nr < o->max; i = last + 1) {
		bool huge = runs[i].categories & KABI_PAGE_IS_HUGE;

		for (last = i; !huge && last + 1 < n; last++)
			if (runs[last + 1].categories & KABI_PAGE_IS_HUGE)
				break;
		*start = runs[i].start;
		while (*start < runs[last].end && !err && o->nr < o->max)
			err = huge ? take_huge(pagemap, start, runs[last].end, o, found) :
				     arm(pagemap, start, runs[last].end,
					 TRACKED | KABI_PAGE_IS_HUGE, KABI_PAGE_IS_HUGE, o, found);
	}
	if (!err && o->nr < o->max)
		*start = arg.walk_end > *start ? arg.walk_end : end;
	return err;
}

/* Ranges in order of their addresses again. Most are. */
static void sort(struct track_range *v, int nr)
{
	for (int i = 1; i < nr; i++)
		for (int k = i; k > 0 && v[k].at.start < v[k - 1].at.start; k--) {
			struct track_range r = v[k];

			v[k] = v[k - 1];
			v[k - 1] = r;
		}
}

/*
 * As arm_around(), of a range no longer than a huge page that is probably new. Where pages are left
 * after the first walk they are missing, of a huge page, or known already; or the program has
 * written to them since, and they are reported twice.
 */
static int arm_new(int pagemap, uint64_t *start, uint64_t end, struct out *o, uint64_t *found)
{
	struct kabi_page_region runs[VEC_LEN];
	struct kabi_pm_scan_arg arg = {
		.flags = KABI_PM_SCAN_WP_MATCHING,
		.start = *start,
		.end = end,
		.vec = (uintptr_t)runs,
		.vec_len = (uint64_t)(o->max - o->nr < VEC_LEN ? o->max - o->nr : VEC_LEN),
		.category_inverted = KABI_PAGE_IS_HUGE,
		.category_mask = TRACKED | KABI_PAGE_IS_HUGE,
		.return_mask = KABI_PAGE_IS_FILE | KABI_PAGE_IS_PFNZERO,
	};
	int n = scan(pagemap, &arg), err = 0, first = o->nr;
	uint64_t armed = 0;

	if (n < 0)
		return n;
	for (int i = 0; i < n; i++) {
		emit(o, runs[i].start, runs[i].end, kind_of(runs[i].categories));
		armed += runs[i].end - runs[i].start;
	}
	*found += armed;
	end = arg.walk_end > *start ? arg.walk_end : end;
	if (armed == end - *start)
		*start = end;
	while (*start < end && !err && o->nr < o->max)
		err = arm_around(pagemap, start, end, o, found);
	sort(o->v + first, o->nr - first);
	return err;
}

/* One call, or a few for what it finds; as arm(). */
static int arm_part(int pagemap, uint64_t *start, uint64_t end, enum track_how how, struct out *o,
		    uint64_t *found)
{
	if (how == TRACK_DENSE) /* exactly this mask takes the kernel's fast walk */
		return arm(pagemap, start, end, KABI_PAGE_IS_WRITTEN, 0, o, found);
	if (how == TRACK_NEW && end - *start <= HUGE_BYTES)
		return arm_new(pagemap, start, end, o, found);
	return arm_around(pagemap, start, end, o, found);
}

int track_written(int pagemap, uint64_t start, uint64_t end, enum track_how how,
		  struct track_range *v, int max, uint64_t *walk_end)
{
	struct pace pace = pace_begin(pagemap, start, end);
	struct out o = { .v = v, .max = max };
	uint64_t found = 0;

	*walk_end = start;
	while (start < end) {
		uint64_t part = pace_end(&pace, start, end);
		int err = arm_part(pagemap, &start, part, how, &o, &found);

		if (err)
			return o.nr && err != -ESRCH ? o.nr : err;
		*walk_end = start;
		/* Ranges are few where runs are long: go on while there is room worth a call. */
		if (o.nr > max / 2 || found >= FOUND_BYTES)
			break;
		if (start < end && pace.timed && !pace_next(&pace))
			break;
	}
	return o.nr;
}

int track_peek(int pagemap, uint64_t start, uint64_t end, struct track_range *v, int max,
	       uint64_t *walk_end)
{
	struct kabi_page_region runs[VEC_LEN];
	struct out o = { .v = v, .max = max };
	struct kabi_pm_scan_arg arg = {
		.start = start,
		.end = end,
		.vec = (uintptr_t)runs,
		.vec_len = VEC_LEN,
		.category_mask = TRACKED,
		.return_mask = KABI_PAGE_IS_WRITTEN,
	};
	int n = scan(pagemap, &arg), err = n > 0 ? classify_all(pagemap, runs, n, &o) : 0;

	*walk_end = n < 0 ? start : arg.walk_end;
	if (o.nr == max) /* there may be no room for all of them */
		*walk_end = v[max - 1].at.end;
	return n < 0 ? n : err ? err : o.nr;
}

int track_look(int pagemap, uint64_t start, uint64_t end, struct track_range *v, int max)
{
	struct kabi_page_region all = { .start = start, .end = end };
	struct out o = { .v = v, .max = max };
	int err = classify(pagemap, &all, 1, &o);

	return err ? err : o.nr;
}

int track_clean(int pagemap, uint64_t start, uint64_t end, struct track_range *v, int max,
		uint64_t *walk_end)
{
	struct pace pace = pace_begin(pagemap, start, end);
	struct kabi_page_region vec[VEC_LEN];
	struct out o = { .v = v, .max = max };
	struct kabi_pm_scan_arg arg = {
		.vec = (uintptr_t)vec,
		.vec_len = (uint64_t)(max < VEC_LEN ? max : VEC_LEN),
		.max_pages = CLEAN_PAGES,
		.category_inverted = KABI_PAGE_IS_WRITTEN,
		.category_mask = TRACKED,
		.return_mask = KABI_PAGE_IS_FILE | KABI_PAGE_IS_PFNZERO,
	};
	int n;

	*walk_end = start;
	do {
		arg.start = *walk_end;
		arg.end = pace_end(&pace, arg.start, end);
		n = scan(pagemap, &arg);
		*walk_end = n < 0 ? end : arg.walk_end;
	} while (!n && *walk_end > arg.start && *walk_end < end && pace_next(&pace));
	for (int i = 0; i < n; i++)
		emit(&o, vec[i].start, vec[i].end, kind_of(vec[i].categories));
	return n < 0 ? n : o.nr;
}

uint64_t track_private_pages(int pagemap, uint64_t addr, uint64_t claimed)
{
	struct kabi_page_region vec[KSM_ORDER_PAGES];
	struct kabi_pm_scan_arg arg = {
		.start = addr,
		.end = addr + KSM_ORDER_PAGES * (uint64_t)KSM_PAGE_SIZE,
		.vec = (uintptr_t)vec,
		.vec_len = KSM_ORDER_PAGES,
		/* Present, not a file's, not the zero page, and not written. */
		.category_inverted = KABI_PAGE_IS_FILE | KABI_PAGE_IS_PFNZERO |
				     KABI_PAGE_IS_WRITTEN,
		.category_mask = KABI_PAGE_IS_PRESENT | KABI_PAGE_IS_FILE | KABI_PAGE_IS_PFNZERO |
				 KABI_PAGE_IS_WRITTEN,
		.return_mask = KABI_PAGE_IS_PRESENT,
	};
	int n = scan(pagemap, &arg);
	uint64_t mask = 0;

	for (int i = 0; i < n; i++)
		for (uint64_t a = vec[i].start; a < vec[i].end; a += KSM_PAGE_SIZE)
			mask |= 1ull << ((a - addr) >> KSM_PAGE_SHIFT);
	return mask & claimed;
}

ssize_t track_read(int mem, uint64_t addr, void *buf, size_t len)
{
	ssize_t n;

	do
		n = pread(mem, buf, len, (off_t)addr);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}
