/* SPDX-License-Identifier: MIT */
/*
 * torture.h - what the schedule, the actors and the outside writer share.
 *
 * One `struct ctl` in a memfd is mapped shared by all processes of a run. It holds phases, one seat
 * for each process that takes part, a ring of the last operations of each of its threads, and the
 * first failure. The service could touch none of this memory.
 *
 * A process lives in a seat from birth to death. The maker of a process takes its seat: the
 * schedule, or a parent before it forks. The schedule frees the seat when the process is gone.
 */
#ifndef KSM_TORTURE_H
#define KSM_TORTURE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PG 4096ul
#define SEATS 24     /* processes that can be in the books at once */
#define MAX_LIVE 9   /* of these, alive; more only thins out the work on a small machine */
#define SMALL_LIVE 5 /* the same with --small */
#define THREADS 3    /* per process: enough for stores, system calls and changes at once */
#define RING 192     /* operations remembered per thread */
#define MAIL_PAGES 4
#define HANG_MS 60000 /* nothing here takes a second on an idle machine; this one never is */

/*
 * Kinds of operation. A run of 30 s or more goes on until each of them has happened, except where
 * the machine lacks what it needs. One that never does is a failure of the torture.
 */
/* clang-format off */
#define TORTURE_OPS(X)                                                                            \
	X(STORE_FILL) X(STORE_BYTES) X(STORE_SAME) X(STORE_NEAR) X(STORE_ZERO) X(CHECK)           \
	X(READ_FILE) X(READ_PIPE) X(RECV) X(PREADV) X(WRITE_OUT) X(READ_PROTECTED)                \
	X(SELF_MEM) X(SELF_VM_WRITE) X(OUTSIDE_VM_WRITE) X(OUTSIDE_MEM_WRITE) X(OUTSIDE_READ)     \
	X(VMSPLICE_OUT) X(VMSPLICE_IN) X(DIRECT_READ) X(DIRECT_SECTORS) X(AIO_READ)               \
	X(URING_FIXED) X(URING_DIRECT) X(UNSHARE_FILES) X(FUTEX)                                  \
	X(MAP) X(UNMAP) X(UNMAP_PART) X(FILL_HOLE) X(MAP_OVER)                                    \
	X(MREMAP_GROW) X(MREMAP_SHRINK) X(MREMAP_MOVE) X(MREMAP_PART) X(MREMAP_DONTUNMAP)         \
	X(PROTECT_READ) X(PROTECT_NONE) X(PROTECT_BACK)                                           \
	X(DONTNEED) X(FREE) X(HUGEPAGE) X(NOHUGEPAGE) X(COLLAPSE) X(COLD) X(PAGEOUT)              \
	X(POPULATE_READ) X(POPULATE_WRITE) X(GUARD)                                               \
	X(MLOCK) X(MUNLOCK) X(DONTFORK) X(WIPEONFORK) X(DONTDUMP)                                 \
	X(MERGEABLE) X(UNMERGEABLE) X(MERGE_ANY) X(STAT)                                          \
	X(FORK_CHECK) X(FORK_BUSY) X(FORK_LIVE) X(FORK_DAEMON) X(FORK_USER) X(FORK_EXEC)          \
	X(CLONE_RAW) X(CLONE_RAW_LIVE) X(VFORK_EXEC) X(SPAWN)                                     \
	X(THREAD) X(SIGNAL_STACK) X(COROUTINE) X(HEAP)
/* clang-format on */

enum op {
#define X(n) OP_##n,
	TORTURE_OPS(X)
#undef X
		OP_NR
};
extern const char *const op_names[OP_NR];

/* One operation of a thread. `first`, `nr`: pages of the area at the time. */
struct log_entry {
	uint64_t ns, addr, arg;
	int64_t res;
	uint32_t first, nr;
	uint16_t op;
	uint8_t area, done;
};

/* A request to the outside writer. */
enum mail_state { MAIL_EMPTY, MAIL_ASKED, MAIL_DONE };
enum mail_kind { MAIL_VM_WRITE, MAIL_MEM_WRITE, MAIL_READ };
struct mail {
	_Atomic uint32_t state;
	uint32_t kind;
	int32_t pid, res; /* res: bytes, or -errno */
	uint64_t addr, len;
	uint8_t data[MAIL_PAGES * PG];
};

struct thread_seat {
	_Atomic uint64_t beat; /* grows with every step; a thread whose beat stands still hangs */
	_Atomic uint32_t parked, verified;
	_Atomic int32_t tid;
	_Atomic uint32_t alive;
	uint32_t head; /* of the ring */
	struct log_entry ring[RING];
	uint64_t ops[OP_NR];
	uint64_t checks, checked_bytes, frame_checks, frame_samples;
	struct mail mail;
};

enum seat_state { SEAT_FREE, SEAT_TAKEN, SEAT_LIVE, SEAT_GONE };
struct proc_seat {
	_Atomic uint32_t state;
	_Atomic int32_t pid;
	_Atomic uint32_t killed;  /* by the schedule: its death is no failure */
	_Atomic uint32_t stopped; /* by the schedule */
	uint32_t client;          /* a connection to the daemon is to be expected */
	int32_t parent;           /* seat, -1: the schedule */
	int32_t taker;            /* process that took it for a child to come, and when */
	uint64_t taken_ms;
	uint32_t generation;
	struct thread_seat t[THREADS];
};

enum phase { PHASE_RUN, PHASE_PARK, PHASE_VERIFY, PHASE_STOP };

enum fail_kind { FAIL_NONE, FAIL_BYTES, FAIL_CRASH, FAIL_CALL, FAIL_OTHER };
struct failure {
	uint32_t kind;
	int32_t pid, tid, seat, thread;
	uint64_t addr, aux; /* aux: offset of the first wrong byte; ip of a crash */
	uint32_t op, area, page;
	uint8_t expected[PG], found[PG];
	char text[512];
};

struct ctl {
	uint64_t seed;
	uint32_t plain_percent, is_root;
	uint32_t max_live, small; /* small: little memory for each actor */
	_Atomic uint32_t phase;
	_Atomic uint64_t alive_ms; /* the schedule's clock: actors that see it stand still end */
	_Atomic uint32_t failed;   /* 1: being written, 2: `fail` is complete */
	struct failure fail;
	_Atomic uint32_t mail_bell;
	_Atomic uint32_t lacks[OP_NR]; /* the machine cannot do it: an errno */
	/* Kinds that the schedule waits for: actors give them half of their choices. */
	_Atomic uint32_t nr_wanted, wanted[OP_NR];
	_Atomic uint64_t lived[OP_NR]; /* operations of processes that are gone */
	_Atomic uint64_t lived_checks, lived_bytes, lived_frame_checks, lived_frame_samples;
	char data_path[256]; /* file for O_DIRECT, DATA_PAGES of known content */
	char actor_ksm[256], actor_plain[256], ksm_run[256], ctl_path[64];
	struct proc_seat p[SEATS];
};
#define DATA_PAGES 256u

extern struct ctl *ctl;

static inline uint64_t rnd(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x * 0x2545f4914f6cdd1dull;
}

static inline uint64_t rnd_below(uint64_t *x, uint64_t n)
{
	return (rnd(x) >> 11) % n;
}

static inline bool chance(uint64_t *x, unsigned int percent)
{
	return rnd_below(x, 100) < percent;
}

/* common.c: linked into all programs of the torture; no malloc, no stdio. */
uint64_t now_ms(void);
uint64_t now_ns(void);
void nap_us(uint64_t us);
/*
 * Fill a page with content number `id`. 0 is zeros, a small number is one of a few that every actor
 * uses, and a large one is unlike all others. The high byte picks a variant of a common page that
 * differs in one byte.
 */
void content_fill(void *page, uint64_t id);
/* Map the ctl of descriptor fd. */
bool ctl_map(int fd);
/* Take a free seat for a process to be made. Returns -1 when there is none or enough are alive. */
int seat_take(int parent);
void seat_drop(int seat);
unsigned int seats_live(void);
/* Note the first failure and return true. Returns false when there was one already. */
bool failure_begin(void);
void failure_end(void);

#endif
