/* SPDX-License-Identifier: MIT */
/*
 * bench.h - the nouns of ksm-bench and who owns what.
 *
 *   bench_kernel.c   the kernel's KSM as a side: knobs saved, set, restored, come what may
 *   bench_daemon.c   ksmd-user as a side: a private daemon in a temporary directory
 *   bench_worker.c   a process whose memory is merged; ksm-bench itself, re-executed
 *   bench_fleet.c    the parent's view of its workers
 *   bench_measure.c  one round on one side
 *   bench_stats.c    medians, histograms
 *   bench_json.c     a reader for what --json writes
 *   bench_report.c   tables and plots
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

/* ---- workloads ---- */

struct workload {
	const char *name;
	const char *what;      /* one line for --help and the report */
	unsigned int size_mib; /* per process, default */
	unsigned int processes;
	bool huge;  /* memory in transparent huge pages */
	bool dirty; /* pages are rewritten between passes */
	bool zero;  /* use_zero_pages is on, on both sides */
};
extern const struct workload workloads[];
const struct workload *workload_find(const char *name);
/*
 * What page `page` of process `proc` holds at first: 0 is zeros, any other number is a page that
 * is different from the page of any other number.
 */
uint64_t workload_content(const struct workload *w, uint32_t proc, uint64_t page,
			  uint64_t nr_pages);
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
	M_VMAS,             /* mappings of all clients, more than before */
	M_COW_NS,           /* median write to a merged page */
	M_DIRTY_NS,         /* mean rewrite of a page between passes */
	M_LOAD_P999_US,
	M_LOAD_MAX_US,
	M_STORE_P999_US,
	M_STORE_MAX_US,
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
	int smart_scan; /* 0, 1, or -1: as the kernel has it */
	bool side[SIDE_NR];
	bool json;
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

int kernel_start(struct side *s);
void kernel_stop(struct side *s);
int kernel_get(const char *name, uint64_t *value);
int kernel_set(const char *name, const char *value);
/* Keep every knob, and fork a watchdog that puts them back if this process dies. */
int kernel_knobs_save(void);
void kernel_knobs_restore(void);
const char *kernel_knob_saved(const char *name);

int daemon_start(struct side *s);
void daemon_stop(struct side *s);
int daemon_get(struct side *s, const char *path, char *buf, size_t size);
int daemon_set(struct side *s, const char *path, const char *value);

/* ---- workers ---- */

enum worker_op {
	WOP_SETUP = 1, /* map and fill */
	WOP_REGISTER,  /* v[0] CPU ns of the call, v[1] wall ns until served */
	WOP_PROBE,     /* arg 1: start a prober; 0: stop it; 2: forget what it has seen */
	WOP_DIRTY,     /* arg: salt; v[0] pages, v[1] ns */
	WOP_COW,       /* arg: writes at most; v[0] writes done; histogram */
	WOP_TOUCH,     /* load from every page */
	WOP_VERIFY,    /* v[0] pages with wrong bytes, v[1] first such page */
};
struct worker_cmd {
	uint32_t op, arg;
	uint32_t side, workload, proc, reserved;
	uint64_t nr_pages;
};
struct worker_reply {
	uint32_t op;
	int32_t error; /* 0 or positive errno */
	uint64_t v[2];
	pid_t tid[2];        /* threads that are the program's own: main, prober (or 0) */
	struct hist hist[2]; /* loads, stores */
};
int worker_main(int fd);

struct fleet_worker {
	pid_t pid;
	int fd;
	pid_t own_tid[2];
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
/* CPU time of all threads that are not the program's own, ns. */
int fleet_agents_cpu_ns(struct fleet *f, uint64_t *ns);
struct fleet_memory {
	uint64_t pss, vmas, pte; /* bytes, number, bytes */
};
int fleet_memory(struct fleet *f, struct fleet_memory *m);

/* ---- rounds and reports ---- */

/* One round on one side; fills value[], NAN where there is nothing to say. */
int measure_round(const struct bench_config *cfg, int side, double value[M_NR],
		  char knobs_text[KNOBS_TEXT]);

struct machine {
	char cpu[128], kernel[128];
	int cpus;
	uint64_t memory_mib;
};
struct bench_result {
	struct machine machine;
	char workload[32];
	unsigned int size_mib, processes, rounds;
	char knobs[SIDE_NR][KNOBS_TEXT];
	struct series series[SIDE_NR][M_NR];
};
void machine_read(struct machine *m);
void report_json(FILE *f, const struct bench_result *r);
void report_markdown(FILE *f, const struct bench_result *r);
int report_svg(const char *path, const struct bench_result *r, int nr);
int report_main(int argc, char **argv);

/* ---- reading JSON ---- */

struct json;                                /* a value; children hang off it */
struct json *json_parse(const char **text); /* NULL: no (further) valid document */
void json_free(struct json *j);
const struct json *json_get(const struct json *object, const char *key); /* NULL: none */
const struct json *json_at(const struct json *array, int i);
double json_number(const struct json *j);      /* NAN when it is none */
const char *json_string(const struct json *j); /* "" when it is none */

/* ---- small things ---- */

extern volatile sig_atomic_t bench_stop; /* the signal that asked us to stop, or 0 */
uint64_t now_ns(void);
/* Sleep, unless asked to stop: then -EINTR. */
int bench_sleep_ms(unsigned int ms);
void complain(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Whole file as text, NUL-terminated. Returns its length or a negative errno. */
ssize_t file_read(const char *path, char *buf, size_t size);
int file_write(const char *path, const char *text);

#endif
