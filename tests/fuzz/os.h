/* SPDX-License-Identifier: MIT */
/*
 * os.h - a kernel in memory, as much of it as the daemon uses.
 *
 * A fuzzer needs thousands of runs a second, each from the same beginning, and faults at will. So
 * the build renames the system calls of the daemon's objects (os.syms) to the functions of os.c:
 * sockets with messages and descriptors in flight, epoll, memfds, locks on open file descriptions,
 * PAGEMAP_SCAN, and a clock that the fuzzer moves. Reference counts follow the kernel's, because
 * the daemon builds on them (a sentinel's lock).
 *
 * A run ends when the daemon closes a bad descriptor, or writes or frees a frame that a process
 * maps.
 */
#ifndef FUZZ_OS_H
#define FUZZ_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define OS_FD_BASE 1000000
#define OS_PAGE 4096ull

#define os_must(cond, ...)                                                                         \
	do {                                                                                       \
		if (!(cond))                                                                       \
			os_fail(__FILE__, __LINE__, #cond, "" __VA_ARGS__);                        \
	} while (0)
_Noreturn void os_fail(const char *file, int line, const char *cond, const char *fmt, ...);

/* ---- processes ---- */

enum page_how { PAGE_NONE, PAGE_ANON, PAGE_FILE, PAGE_ZERO };
struct page {
	uint64_t tag;           /* what the process must read here: 512 times this word */
	struct os_inode *arena; /* PAGE_FILE, or cow: the mapping it lies in */
	uint32_t frame;
	uint8_t how;
	bool written, cow, pinned, offered, tracked;
};
#define PROC_PAGES 160u /* two blocks and two halves */
struct proc {
	pid_t pid;
	uid_t uid;
	bool alive;
	bool liar; /* it may read anything in its own memory */
	uint64_t base;
	struct page page[PROC_PAGES];
};

/* ---- files ---- */

enum os_kind {
	OS_EPOLL,
	OS_EVENT,
	OS_LISTEN,
	OS_SOCK,
	OS_MEMFD,
	OS_PIDFD,
	OS_PAGEMAP,
	OS_MEM,
	OS_PLAIN, /* a regular file, or /dev/null */
	OS_TEXT
};

struct os_inode {
	bool arena;
	uint32_t serial;
	unsigned int nr_shared; /* open file descriptions with LOCK_SH */
	struct os_file *exclusive;
	unsigned int refs;
};

#define MSG_FILES 4
struct os_msg {
	struct os_msg *next;
	struct os_file *file[MSG_FILES];
	int nr_files;
	size_t len;
	char data[];
};
struct os_queue {
	struct os_msg *first, **last;
	unsigned int nr;
	size_t bytes;
};

/* One connection; the peer (the fuzzer) holds a reference of its own. */
struct os_sock {
	struct os_queue in, out; /* as the daemon sees it */
	bool stream;
	bool peer_closed, shut; /* shut: by the daemon */
	unsigned int room;      /* messages (streams: KiB) that fit into `out` */
	pid_t pid;
	uid_t uid;
	gid_t group; /* the only supplementary one */
	int refs;
};

struct os_file {
	enum os_kind kind;
	int refs;
	bool lock_sh;
	struct os_inode *inode;
	struct os_sock *sock;
	struct proc *proc;
	uint64_t count; /* OS_EVENT */
	char text[128]; /* OS_TEXT: contents; OS_PLAIN: path */
	size_t pos;
	struct os_queue_sock {
		struct os_sock *v[64];
		int nr;
	} pending;              /* OS_LISTEN */
	struct os_watch *watch; /* OS_EPOLL */
};

void os_reset(void); /* nothing is open any more; the clock starts at one second */
unsigned int os_nr_open(void);
/* Run the callbacks given to call_rcu(): between any two calls into the daemon. */
void os_run_rcu(void);
void os_advance_ms(uint64_t ms);
uint64_t os_now_ms(void);
/* Calls that ask for a resource or memory fail from the nth on (1: the next), `times` of them. */
void os_fault(unsigned int nth, unsigned int times);
/* Did the nth call come, since os_reset()? */
bool os_fault_came(void);
/* While faults are held no call fails or counts. Returns the earlier setting. */
bool os_fault_hold(bool hold);

struct os_file *os_file_new(enum os_kind kind);
struct os_file *os_file_get(struct os_file *f);
void os_file_put(struct os_file *f);
int os_fd_new(struct os_file *f); /* takes the reference */
struct os_file *os_file_of(int fd);

struct proc *os_proc_new(uid_t uid);
struct proc *os_proc_find(pid_t pid);
struct proc **os_procs(unsigned int *nr);

/* Frames. A hole reads as 0. */
uint64_t os_frame_tag(const struct os_inode *arena, uint32_t frame, bool *hole);

/* The fuzzer's side of a connection. */
struct os_sock *os_connect(struct os_file *listener, pid_t pid, uid_t uid, bool stream);
void os_sock_put(struct os_sock *s); /* closes the peer's side */
void os_peer_send(struct os_sock *s, const void *data, size_t len, struct os_file *const *files,
		  int nr_files); /* references are passed on */
struct os_msg *os_peer_recv(struct os_sock *s);
void os_msg_free(struct os_msg *m);

#endif
