/* SPDX-License-Identifier: MIT */
/*
 * bench.h - the nouns of ksm-bench and who owns what.
 *
 *   bench_kernel.c   the kernel's KSM as a side: knobs saved, set, restored, come what may
 *   bench_daemon.c   ksmd-user as a side: a private daemon in a temporary directory
 *   bench_worker.c   a process whose memory is merged; ksm-bench itself, re-executed
 *   bench_prober.c   a thread of such a process that feels stalls
 *   bench_real.c     real programs in place of such processes
 *   bench_fleet.c    the parent's view of its workers
 *   bench_measure.c  one round on one side
 *   bench_growth.c   what a page costs as memory and processes grow
 *   bench_stats.c    medians, histograms, what is measured
 *   bench_json.c     a reader for what --json writes
 *   bench_load.c     results from JSON
 *   bench_targets.c  what is wanted, and whether it is reached
 *   bench_costs.c    what the steps of a merge cost on this machine
 *   bench_report.c   JSON and tables
 *   bench_svg.c      the plot
 *   ksm-bench.c      command line, rounds, the lock
 *
 * Both sides run through the same code with the same workers; struct side is all that differs.
 * Functions return 0 or a negative errno and have then said on stderr what went wrong; -EINTR
 * means that the operator asked to stop and says nothing.
 */
#ifndef KSM_BENCH_H
#define KSM_BENCH_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define BENCH_PAGE 4096u
/*
 * Unthrottled, with sleep_millisecs = 0, on both sides: large enough that the loop around a batch costs
 * nothing, small enough that `run` = 0, which in the kernel waits for the end of a batch, takes effect
 * within a tenth of a second.
 */
#define BENCH_PAGES_TO_SCAN "10000"
#define BENCH_MAX_PROCESSES 1000
#define BENCH_MAX_ROUNDS 100
/* A round that takes longer to merge than this has not ended. The slowest that does takes a tenth. */
#define BENCH_LIMIT_S 60
/* Of one CPU: what others may use before it is worth a word. Polling takes some. */
#define BENCH_BUSY_PCT 15
/* Notes on one workload, and their length. */
#define BENCH_MAX_NOTES 8
#define BENCH_NOTE 240

/* ---- workloads ---- */

struct workload {
	const char *name;
	const char *what;      /* one line for --help and the report */
	unsigned int size_mib; /* per process, default */
	unsigned int processes;
	bool huge;   /* memory in transparent huge pages */
	bool dirty;  /* pages are rewritten between passes */
	bool zero;   /* use_zero_pages is on, on both sides */
	bool real;   /* programs of this machine; size_mib is their data */
	bool growth; /* bench_growth.c */
};
extern const struct workload workloads[];
const struct workload *workload_find(const char *name);
/*
 * What page `page` of process `proc` holds at first: 0 is zeros, any other number is a page that
 * is different from the page of any other number.
 */
uint64_t workload_content(const struct workload *w, uint32_t proc, uint64_t page,
			  uint64_t nr_pages);
/* Bytes that the workload occupies at its largest. */
uint64_t workload_bytes(const struct workload *w, unsigned int processes, unsigned int size_mib);
/* Pages that pages_sharing + ksm_zero_pages must come to, of `processes` times nr_pages. */
uint64_t workload_expected(const struct workload *w, uint32_t processes, uint64_t nr_pages);

/* ---- histogram of nanoseconds, about 6 % wide buckets ---- */

#define HIST_BUCKETS 1024
struct hist {
	uint64_t nr, max, bucket[HIST_BUCKETS];
};
void hist_add(struct hist *h, uint64_t ns);
void hist_merge(struct hist *to, const struct hist *from);
double hist_quantile(const struct hist *h, double q);
/* The same of what `h` has beyond `control`; 0 when it has nothing. */
double hist_quantile_beyond(const struct hist *h, const struct hist *control, double q);

/* ---- metrics: one value per round and side ---- */

enum metric {
	M_MERGE_S,     /* run = 1 to the last merge (first two passes when nothing can merge) */
	M_CPU_S,       /* all CPU spent on merging in that time */
	M_REGISTER_MS, /* slowest client: madvise call and until it is served */
	M_MERGED_PCT,  /* of what could be merged */
	M_REST_CPU_MS, /* CPU of one pass over calm memory (dirty: over memory 1 % of which changed) */
	M_SAVED_MIB,        /* sum of client PSS, before less after */
	M_SAVED_NET_MIB,    /* less daemon, VMAs, page tables, kernel metadata */
	M_SAVED_SYSTEM_MIB, /* memory in use on the machine, before less after */
	M_VMAS,             /* mappings of a client, more than before it registered */
	M_REGION_VMAS,      /* of these, in the memory that is merged */
	M_PAGE_BYTES,       /* metadata of a tracked page that is not merged */
	M_COW_NS,           /* median write to a merged page */
	M_DIRTY_NS,         /* mean rewrite of a page between passes */
	M_LOAD_P999_US,     /* as felt by a client's thread while merging goes on */
	M_LOAD_MAX_US,
	M_LOAD_CONTROL_US, /* 99.9 % of touches of memory that nobody merges, by the same thread */
	M_LOAD_BEYOND_US,  /* 99.9 % of what cannot be explained by the control */
	M_STORE_P999_US,
	M_STORE_MAX_US,
	M_STORE_CONTROL_US,
	M_STORE_BEYOND_US,
	M_CONTROL_MAX_US, /* worst touch of the control, load or store */
	M_PROBES,         /* stores that were timed; there are PROBE_LOADS times as many loads */
	M_PROBE_GAP_MS,   /* longest time without one */
	M_OTHERS_PCT,     /* of one CPU, that was used by anything else while merging */
	M_PAGE_CPU_US,    /* bench_growth.c: first size, and the same, larger; first number ... */
	M_PAGE_WALL_US,
	M_SIZE_CPU_US,
	M_SIZE_WALL_US,
	M_FEW_CPU_US,
	M_FEW_WALL_US,
	M_MANY_CPU_US,
	M_MANY_WALL_US,
	M_GROW_SIZE_CPU, /* ... and quotients */
	M_GROW_SIZE_WALL,
	M_GROW_MANY_CPU,
	M_GROW_MANY_WALL,
	M_NR
};
struct metric_info {
	const char *key, *label, *unit;
	int better; /* -1: less is better, 1: more is better, 0: neither */
};
extern const struct metric_info metric_info[M_NR];

struct series { /* NAN: could not be measured in this round */
	double v[BENCH_MAX_ROUNDS];
	int nr;
};
struct summary {
	double median, min, max;
	int nr; /* 0: no values */
};
struct summary series_summary(const struct series *s);

/* ---- sides ---- */

enum { SIDE_KERNEL, SIDE_USER, SIDE_NR };
extern const char *const side_name[SIDE_NR];

struct bench_config {
	const struct workload *workload;
	unsigned int size_mib, processes, rounds;
	int smart_scan;       /* 0, 1, or -1: as the kernel has it */
	unsigned int limit_s; /* for merging to end */
	bool side[SIDE_NR];
	bool json;
	bool merge_only; /* end when all is merged */
};

#define KNOBS_TEXT 1024
struct side {
	int id;
	const struct bench_config *cfg;
	pid_t pid;                   /* ksmd, or the daemon */
	char dir[108];               /* user: runtime directory */
	int control;                 /* user: connection to control.sock */
	char knobs_text[KNOBS_TEXT]; /* "name=value name=value", in force during the round */
};
/* Make ready with run = 0, nothing merged, unthrottled. stop() undoes it and may be called twice. */
int side_start(struct side *s, int id, const struct bench_config *cfg);
void side_stop(struct side *s);
int side_get(struct side *s, const char *name, uint64_t *value);
int side_set(struct side *s, const char *name, const char *value);
/* CPU time of ksmd or the daemon so far, ns. */
int side_cpu_ns(struct side *s, uint64_t *ns);
/* Bytes of memory that merging itself occupies outside the clients' own accounts. */
int side_metadata(struct side *s, uint64_t *bytes);
/* The same without what the daemon maps of files: program text, frames. */
int side_metadata_anon(struct side *s, uint64_t *bytes);

int kernel_start(struct side *s);
void kernel_stop(struct side *s);
int kernel_get(const char *name, uint64_t *value);
int kernel_set(const char *name, const char *value);
/*
 * Keep every knob, here and in a file, and fork a watchdog that puts them back if this process dies.
 * Only with the lock.
 */
int kernel_knobs_save(void);
void kernel_knobs_restore(void);
/* Put back what a run left that was killed together with its watchdog. 0 also when there is none. */
int kernel_knobs_recover(void);
const char *kernel_knob_saved(const char *name);

int user_start(struct side *s);
void user_stop(struct side *s);
int user_get(struct side *s, const char *path, char *buf, size_t size);
int user_set(struct side *s, const char *path, const char *value);

/* ---- workers ---- */

enum worker_op {
	WOP_SETUP = 1, /* map and fill; v[0] first address, v[1] the one behind */
	WOP_REGISTER,  /* v[0] CPU ns of the call, v[1] wall ns until served */
	WOP_PROBE,  /* enum probe_op, period in us << 8; v[0] bursts, v[1] longest ns without one */
	WOP_DIRTY,  /* arg: salt; v[0] pages, v[1] ns */
	WOP_COW,    /* arg: writes at most; v[0] writes done, v[1] median ns */
	WOP_TOUCH,  /* load from every page */
	WOP_VERIFY, /* v[0] pages with wrong bytes, v[1] first such page */
};
enum probe_op { PROBE_STOP, PROBE_START, PROBE_FORGET };
/* What a prober times: memory that is merged, and control memory that is not. */
enum probe { PROBE_LOAD, PROBE_STORE, PROBE_CONTROL_LOAD, PROBE_CONTROL_STORE, PROBE_NR };
struct worker_cmd {
	uint32_t op, arg;
	uint32_t side, workload, proc, reserved;
	uint64_t nr_pages;
};
struct worker_reply {
	uint32_t op;
	int32_t error; /* 0 or positive errno */
	uint64_t v[2];
	pid_t tid[2]; /* threads that are the program's own: main, prober (or 0) */
	struct hist hist[PROBE_NR];
};
int worker_main(int fd);

struct prober;
/*
 * Memory of nr_pages; a burst every `period` ns; `seed` makes the probers of several processes differ.
 * Returns errno.
 */
int prober_start(struct prober **p, unsigned char *mem, uint64_t nr_pages, uint32_t period,
		 uint32_t seed);
void prober_forget(struct prober *p);
/* What it has seen, into hist and v; p may be NULL. */
void prober_stop(struct prober **p, struct worker_reply *r);
pid_t prober_tid(struct prober *p);

struct fleet_worker {
	pid_t pid;
	int fd; /* to command it by; of a real program: to talk to it as its users do */
	pid_t own_tid[2];
	uint64_t start, end; /* addresses of the memory that is merged; 0: not known */
	int program;         /* real program, from 1; 0: a worker */
};
struct fleet {
	struct fleet_worker w[BENCH_MAX_PROCESSES];
	int nr;
};
int fleet_start(struct fleet *f, struct side *s, uint64_t nr_pages);
void fleet_stop(struct fleet *f);
/* The same command to all; fn (may be NULL) sees each reply. */
int fleet_command(struct fleet *f, uint32_t op, uint32_t arg,
		  void (*fn)(void *arg, const struct worker_reply *r), void *fn_arg);
/* The same to worker `i` alone. */
int fleet_command_one(struct fleet *f, int i, uint32_t op, uint32_t arg, struct worker_reply *r);
/* CPU time of all threads that are not the program's own (in real programs: of agents), ns. */
int fleet_agents_cpu_ns(struct fleet *f, uint64_t *ns);
struct fleet_memory {
	uint64_t pss, vmas, pte; /* bytes, number, bytes */
	uint64_t region_vmas;    /* in memory that is merged, where it is known */
};
int fleet_memory(struct fleet *f, struct fleet_memory *m);

/* ---- rounds and reports ---- */

struct round {
	double value[M_NR]; /* NAN where there is nothing to say */
	char knobs[KNOBS_TEXT];
	char note[BENCH_NOTE]; /* why something is missing; "" */
	bool incomplete;       /* something did not come to its end */
};
/*
 * One round on one side. What was measured before an error stands in `out`, with a note; -ETIME: only
 * because something did not end in time.
 */
int measure_round(const struct bench_config *cfg, int side, struct round *out);
/* Only time and CPU until all is merged. */
int measure_cost(const struct bench_config *cfg, int side, struct round *out);
int growth_round(const struct bench_config *cfg, int side, struct round *out);
/* On stderr and in the round, once. */
void round_note(struct round *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- real programs ---- */

/* Why they cannot run here, or NULL. */
const char *real_missing(const struct bench_config *cfg);
/* Start, and fill with the same data each. */
int real_start(struct fleet *f, struct side *s, unsigned int size_mib);
/* Ask each for all of its data. Returns -EILSEQ when one answers something else. */
int real_verify(struct fleet *f, unsigned int size_mib);

struct machine {
	char cpu[128], kernel[128];
	int cpus;
	uint64_t memory_mib;
};
struct bench_result {
	struct machine machine;
	char workload[32];
	unsigned int size_mib, processes, rounds;
	char date[32];
	char knobs[SIDE_NR][KNOBS_TEXT];
	char note[BENCH_MAX_NOTES][BENCH_NOTE];
	int nr_notes;
	bool incomplete[SIDE_NR]; /* a round of this side did not come to its end */
	char skipped[BENCH_NOTE]; /* why nothing was measured; "" */
	struct series series[SIDE_NR][M_NR];
};
void machine_read(struct machine *m);
void result_note(struct bench_result *r, const char *text);
/*
 * How many times better ksmd-user is than the kernel: of medians, and least and most of the rounds, in
 * which the two ran one after the other. nr 0: not known.
 */
struct summary result_gain(const struct bench_result *r, enum metric m);
void report_json(FILE *f, const struct bench_result *r);
/* What is wanted against what was seen, a line each; then one result in full. */
void report_summary(FILE *f, const struct bench_result *r, int nr);
void report_markdown(FILE *f, const struct bench_result *r);
int report_svg(const char *path, const struct bench_result *r, int nr);
int report_main(int argc, char **argv);
/* "clones", or "clones 2 x 64 MiB" where another of the results has the same name. */
void result_label(const struct bench_result *all, int nr, int i, char *buf, size_t size);

/* All documents of a text, appended to results. Returns 0 or -EINVAL with *why, or -ENOMEM. */
int load_results(const char *text, size_t len, struct bench_result **results, int *nr,
		 const char **why);

/* ---- targets ---- */

struct target {
	const char *workload; /* NULL: every workload in which it was measured */
	enum metric metric;
	enum { TIMES_BETTER, AT_MOST } kind; /* than the kernel; in the metric's unit */
	double wanted;
};
extern const struct target targets[];
extern const int nr_targets;
struct verdict {
	struct summary seen; /* nr 0: nothing */
	enum { VERDICT_UNKNOWN, VERDICT_NO, VERDICT_YES } holds;
	char why[96]; /* beside the numbers; "" */
};
bool target_concerns(const struct target *t, const struct bench_result *r);
struct verdict target_check(const struct target *t, const struct bench_result *r);
/* What is wanted of this metric in this workload, or NULL. */
const struct target *target_find(const struct bench_result *r, enum metric m);

/* ---- reading JSON ---- */

struct json;                                /* a value; children hang off it */
struct json *json_parse(const char **text); /* NULL: no (further) valid document */
void json_free(struct json *j);
const struct json *json_get(const struct json *object, const char *key); /* NULL: none */
const struct json *json_at(const struct json *array, int i);
bool json_true(const struct json *j);
double json_number(const struct json *j);      /* NAN when it is none */
const char *json_string(const struct json *j); /* "" when it is none */

/* ---- small things ---- */

/* A program of the project: $env, or `name` beside this one. */
int sibling_path(const char *env, const char *name, char *path, size_t size);
/*
 * Where the kernel's knobs, the lock and the file of saved knobs are: the machine's own, or below
 * $KSM_BENCH_DIR, so that tests need not touch the machine's.
 */
const char *bench_place(const char *machine, const char *name, char *path, size_t size);
/* Time that all CPUs were busy, or taken by the machine's host, s. NAN: not known. */
double machine_busy(void);
/* Free memory, caches included, bytes. */
uint64_t memory_available(void);
extern volatile sig_atomic_t bench_stop; /* the signal that asked us to stop, or 0 */
uint64_t now_ns(void);
/* Sleep, unless asked to stop: then -EINTR. */
int bench_sleep_ms(unsigned int ms);
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Three figures, without an exponent where that is short. */
const char *figure(double v, char buf[32]);
/* Whole file as text, NUL-terminated. Returns its length or a negative errno. */
ssize_t file_read(const char *path, char *buf, size_t size);
int file_write(const char *path, const char *text);

/* ---- bench_costs.c ---- */

/* A Markdown table on standard output. 0 or a negative errno, which has been said. */
int costs_print(void);

#endif
