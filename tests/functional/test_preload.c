/* SPDX-License-Identifier: MIT */
/*
 * test_preload.c - ksm-run, seen from inside a program that knows nothing of it.
 *
 * The test starts itself again under ksm-run with "--inside NAME". The function of that name (see
 * `insides`) is plain C that a program might have: it checks what it sees with EXPECT(), which ends
 * the process with status 1. The suite looks at exit states, and from outside through the daemon.
 */
#include <check.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/sysc.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"
#include "wire/kernel_abi.h"

#define PG PUPPET_PAGE
#define MIB (1ul << 20)
/* No test takes a second on an idle machine. */
#define TIMEOUT_S 60
/* For --inside work: how long to stress, and with how many threads. */
#define STRESS_S 6
#define STRESS_THREADS 3

/* ---- inside ---- */

#define EXPECT(cond)                                                                               \
	do {                                                                                       \
		if (!(cond)) {                                                                     \
			fprintf(stderr, "%s:%d: not so: %s (errno %d)\n", __FILE__, __LINE__,      \
				#cond, errno);                                                     \
			_exit(1);                                                                  \
		}                                                                                  \
	} while (0)

static char self[4096]; /* path of this program */

static void *map(size_t len)
{
	void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	EXPECT(p != MAP_FAILED);
	return p;
}

/* Content of page i of the memory to merge: no two pages are equal. */
static void fill(unsigned char *p, size_t len, unsigned int seed)
{
	for (size_t i = 0; i < len; i += PG) {
		memset(p + i, (int)(seed + i / PG) & 0xff, PG);
		memcpy(p + i, &i, sizeof(i));
		memcpy(p + i + 8, &seed, sizeof(seed));
	}
}

static bool is_filled(const unsigned char *p, size_t len, unsigned int seed)
{
	unsigned char *want = malloc(len);
	bool same;

	EXPECT(want);
	fill(want, len, seed);
	same = !memcmp(p, want, len);
	free(want);
	return same;
}

static void wait_child(pid_t pid)
{
	int status;

	EXPECT(pid > 0);
	EXPECT(waitpid(pid, &status, 0) == pid);
	EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* Started by exec_keeps_settings with an environment of its own. */
static int inside_look_at_environment(void)
{
	const char *preload = getenv("LD_PRELOAD");
	const char *other = getenv("WANT_OTHER_PRELOAD");
	int merge_any = prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0);

	EXPECT(preload && strstr(preload, "libksm-preload.so"));
	EXPECT(getenv("KSM_RUN_MODE") && getenv("KSM_RUN_MALLOC") && getenv("KSMD_RUNTIME_DIR"));
	EXPECT(merge_any == (getenv("WANT_MERGE_ANY") != NULL));
	EXPECT(!other || strstr(preload, other));
	return 0;
}

static char *look[] = { self, "--inside", "look_at_environment", NULL };
static char *no_env[] = { NULL };

/* Carry out an exec call in a child, by fork or vfork; it must end with 0. */
#define EXEC_IN_CHILD(how, call)                                                                   \
	do {                                                                                       \
		pid_t pid_ = how();                                                                \
		if (pid_ == 0) {                                                                   \
			call;                                                                      \
			_exit(99);                                                                 \
		}                                                                                  \
		wait_child(pid_);                                                                  \
	} while (0)

/* PR_SET_MEMORY_MERGE goes on to what the C library starts from within. */
static int inside_merge_any_by_system(void)
{
	char command[5000];
	FILE *f;

	snprintf(command, sizeof(command), "WANT_MERGE_ANY=1 %s --inside look_at_environment",
		 self);
	EXPECT(!prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
	EXPECT(system(command) == 0); /* NOLINT(cert-env33-c) */
	f = popen(command, "r");      /* NOLINT(cert-env33-c) */
	EXPECT(f && pclose(f) == 0);
	EXPECT(!prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0));
	EXPECT(system(strchr(command, ' ') + 1) == 0); /* NOLINT(cert-env33-c) */
	return 0;
}

/* Started by merge_any_of_the_kernel, which has set the kernel's own flag before. */
static int inside_kernel_flag_is_taken_over(void)
{
	EXPECT(prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 1);
	EXPECT(sysc5(SYS_prctl, PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 0);
	return 0;
}

/* Pages of the range that are a file's: frames. */
static size_t on_frames(const unsigned char *p, size_t len)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t nr = 0;

	for (size_t i = 0; i < len / PG; i++) {
		uint64_t entry;

		EXPECT(pread(fd, &entry, sizeof(entry), (off_t)(((uintptr_t)p / PG + i) * 8)) == 8);
		nr += (entry & (KABI_PM_PRESENT | KABI_PM_FILE)) ==
		      (KABI_PM_PRESENT | KABI_PM_FILE);
	}
	close(fd);
	return nr;
}

/* A program's own userfaultfd on merged memory. Seen to fail with EBUSY. */
static int inside_own_userfaultfd(void)
{
	struct uffdio_api api = { .api = UFFD_API };
	int u = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	unsigned char *p = map(MIB);
	struct uffdio_register r = { .range = { (uintptr_t)p, MIB },
				     .mode = UFFDIO_REGISTER_MODE_MISSING };

	if (u < 0 || ioctl(u, UFFDIO_API, &api)) {
		printf("SKIP: no userfaultfd\n");
		return 0;
	}
	fill(p, MIB / 2, 7);
	memcpy(p + MIB / 2, p, MIB / 2);
	EXPECT(!madvise(p, MIB, MADV_MERGEABLE));
	for (int i = 0; i < 2; i++) {
		wait_until(on_frames(p, MIB) == MIB / PG, WAIT_MS, "it is merged");
		EXPECT(!ioctl(u, UFFDIO_REGISTER, &r));
		EXPECT(on_frames(p, MIB) == 0);
		EXPECT(is_filled(p, MIB / 2, 7) && is_filled(p + MIB / 2, MIB / 2, 7));
		EXPECT(!syscall(SYS_ioctl, u, UFFDIO_UNREGISTER, &r.range));
	}
	wait_until(on_frames(p, MIB) == MIB / PG, WAIT_MS, "it is merged again");
	EXPECT(is_filled(p, MIB / 2, 7) && is_filled(p + MIB / 2, MIB / 2, 7));
	close(u);
	return 0;
}

static int inside_exec_keeps_settings(void)
{
	char *other[] = { "LD_PRELOAD=libm.so.6", "WANT_OTHER_PRELOAD=libm.so.6", NULL };
	int fd = open(self, O_RDONLY | O_CLOEXEC);
	pid_t pid;

	EXEC_IN_CHILD(fork, execve(self, look, no_env));
	EXEC_IN_CHILD(vfork, execve(self, look, no_env));
	EXEC_IN_CHILD(fork, execve(self, look, other));
	EXEC_IN_CHILD(fork, execvpe(self, look, no_env));
	EXEC_IN_CHILD(fork, execle(self, self, look[1], look[2], (char *)NULL, no_env));
	EXEC_IN_CHILD(fork, fexecve(fd, look, no_env));
	EXEC_IN_CHILD(fork, execveat(AT_FDCWD, self, look, no_env, 0));
	EXEC_IN_CHILD(fork, syscall(SYS_execve, self, look, no_env));
	EXEC_IN_CHILD(fork, clearenv(); execv(self, look));
	EXEC_IN_CHILD(fork, clearenv(); execvp(self, look));
	EXEC_IN_CHILD(fork, clearenv(); execl(self, self, look[1], look[2], (char *)NULL));
	EXEC_IN_CHILD(fork, clearenv(); execlp(self, self, look[1], look[2], (char *)NULL));
	EXPECT(!posix_spawn(&pid, self, NULL, NULL, look, no_env));
	wait_child(pid);
	EXPECT(!posix_spawnp(&pid, self, NULL, NULL, look, no_env));
	wait_child(pid);
	return 0;
}

static int inside_merge_any_over_exec(void)
{
	char *want[] = { "WANT_MERGE_ANY=1", NULL };

	EXPECT(prctl(PR_SET_MEMORY_MERGE, 1, 1, 0, 0) == -1 && errno == EINVAL);
	EXPECT(prctl(PR_GET_MEMORY_MERGE, 0, 0, 0, 0) == 0);
	EXPECT(prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0) == 0);
	EXEC_IN_CHILD(fork, execve(self, look, want));
	EXPECT(prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0) == 0);
	EXEC_IN_CHILD(fork, execve(self, look, no_env));
	return 0;
}

static unsigned char *shared_view; /* what the copies below look at */

static int child_looks(void *arg)
{
	unsigned char *p = map(MIB);

	(void)arg;
	if (!is_filled(shared_view, MIB, 1))
		return 1;
	fill(shared_view, MIB, 2);
	fill(p, MIB, 3);
	return !is_filled(shared_view, MIB, 2) || !is_filled(p, MIB, 3) || munmap(p, MIB);
}

#define COPY_AND_LOOK(call)                                                                        \
	do {                                                                                       \
		pid_t pid_ = (pid_t)(call);                                                        \
		if (pid_ == 0)                                                                     \
			_exit(child_looks(NULL));                                                  \
		wait_child(pid_);                                                                  \
		EXPECT(is_filled(shared_view, MIB, 1));                                            \
	} while (0)

static int inside_copies(void)
{
	struct clone_args args = { .exit_signal = SIGCHLD };
	char *stack = (char *)map(256 * 1024) + 256 * 1024;

	shared_view = map(MIB);
	fill(shared_view, MIB, 1);
	for (int i = 0; i < 20; i++) {
		COPY_AND_LOOK(fork());
		COPY_AND_LOOK(_Fork());
		COPY_AND_LOOK(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
		COPY_AND_LOOK(syscall(SYS_clone3, &args, sizeof(args)));
		wait_child(clone(child_looks, stack, SIGCHLD, NULL));
		EXPECT(is_filled(shared_view, MIB, 1));
	}
	return 0;
}

static int release[2]; /* a pipe: a byte lets the child below end */

static int wait_for_release(void *arg)
{
	char c;

	(void)arg;
	return read(release[0], &c, 1) == 1 ? child_looks(NULL) : 1;
}

static void *use_memory_and_release(void *arg)
{
	/* Long enough for the other thread to be in its call. */
	for (int i = 0; i < 2000; i++)
		munmap(map(MIB), MIB);
	EXPECT(write(release[1], "x", 1) == 1);
	return arg;
}

/*
 * While one thread waits for a child that has its own address space, the other threads go on. The
 * child ends only when one of them has mapped and unmapped memory. Seen to hang when the library's
 * lock was held until the child had gone.
 */
static int inside_copy_and_wait(void)
{
	const int flags = CLONE_VFORK | SIGCHLD;
	struct clone_args args = { .flags = CLONE_VFORK, .exit_signal = SIGCHLD };
	char *stack = (char *)map(256 * 1024) + 256 * 1024;

	EXPECT(!pipe2(release, O_CLOEXEC));
	shared_view = map(MIB);
	fill(shared_view, MIB, 1);
	for (int i = 0; i < 30; i++) {
		pthread_t t[2];
		pid_t pid = 0;

		for (int k = 0; k < 1 + i % 2; k++)
			EXPECT(!pthread_create(&t[k], NULL, use_memory_and_release, NULL));
		if (i % 3 == 0)
			pid = clone(wait_for_release, stack, flags, NULL);
		else if (i % 3 == 1)
			pid = (pid_t)syscall(SYS_clone, flags, 0, 0, 0, 0);
		else
			pid = (pid_t)syscall(SYS_clone3, &args, sizeof(args));
		if (pid == 0)
			_exit(wait_for_release(NULL));
		wait_child(pid);
		for (int k = 0; k < 1 + i % 2; k++)
			EXPECT(!pthread_join(t[k], NULL));
		if (i % 2)
			EXPECT(read(release[0], stack - 1, 1) == 1);
		EXPECT(is_filled(shared_view, MIB, 1));
	}
	return 0;
}

/* Small blocks lie between the start of the heap and the break, and nothing of it is given back. */
static int inside_heap(void)
{
	enum { NR = 1024 };
	const size_t len = MIB / 16;
	char *start = sbrk(0), *end, *big;
	static char *block[NR];

	for (int i = 0; i < NR; i++)
		memset(block[i] = malloc(len), i, len);
	end = sbrk(0);
	for (int i = 0; i < NR; i++) {
		EXPECT(block[i] < end);
		free(block[i]);
	}
	EXPECT(end - start >= (long)((NR - 32) * len) && malloc_trim(0) == 0 && sbrk(0) == end);
	/* The program may move the break, too, and malloc copes with that. */
	EXPECT(sbrk(MIB) == end && (char *)sbrk(0) == end + MIB);
	memset(end, 2, MIB);
	EXPECT(mallopt(M_MMAP_MAX, 0) == 1);
	big = malloc(100 * MIB);
	memset(big, 3, 100 * MIB);
	EXPECT(mallinfo2().hblks == 0 && big < (char *)sbrk(0));
	for (size_t i = 0; i < MIB; i++)
		EXPECT(end[i] == 2);
	return 0;
}

static bool is_there(uintptr_t p)
{
	return !sysc3(SYS_msync, p & ~(PG - 1), PG, MS_ASYNC);
}

/* Large blocks are mapped, at the same place in a page, and given back when they are freed. */
static int inside_large_blocks(void)
{
	const size_t len = 64 * MIB; /* more than the threshold can become */
	unsigned char *p = calloc(len, 1), *q = malloc(len);
	uintptr_t at = (uintptr_t)q;
	volatile size_t all = SIZE_MAX; /* the compiler is not to know */
	void *aligned;

	for (size_t i = 0; i < len; i += PG)
		EXPECT(!p[i]);
	EXPECT((uintptr_t)p % PG == 16 && (uintptr_t)q % PG == 16);
	EXPECT(malloc_usable_size(p) >= len && mallinfo2().hblks == 2);
	EXPECT(mallinfo2().hblkhd == 2 * (len + PG));
	errno = 77;
	free(q);
	EXPECT(errno == 77 && !is_there(at));
	EXPECT(mallinfo2().hblks == 1);
	/* It grows, shrinks, and comes out of the heap and goes. */
	fill(p, len, 3);
	EXPECT((p = realloc(p, 2 * len)) && is_filled(p, len, 3));
	EXPECT((p = realloc(p, MIB)) && is_filled(p, MIB, 3) && malloc_usable_size(p) < len);
	at = (uintptr_t)p;
	EXPECT(!realloc(p, 0) && !is_there(at) && mallinfo2().hblks == 0);
	fill(p = malloc(PG), PG, 4);
	EXPECT((p = realloc(p, len)) && is_filled(p, PG, 4) && mallinfo2().hblks == 1);
	at = (uintptr_t)p;
	free(p);
	EXPECT(!is_there(at));
	/* What is impossible fails as ever. */
	errno = 0;
	EXPECT(!malloc(all) && errno == ENOMEM && !calloc(all / 2, 3));
	EXPECT(!posix_memalign(&aligned, 4 * PG, len) && (aligned = realloc(aligned, 2 * len)));
	free(aligned);
	/* A block of a size that was freed before is taken from the heap. */
	fill(p = malloc(4 * MIB), 4 * MIB, 5);
	EXPECT(mallinfo2().hblks == 1 && is_filled(p, 4 * MIB, 5));
	free(p);
	fill(p = malloc(4 * MIB), 4 * MIB, 6);
	EXPECT(is_filled(p, 4 * MIB, 6));
	EXPECT(p < (unsigned char *)sbrk(0) && mallinfo2().hblks == 0);
	free(p);
	EXPECT(mallopt(M_MMAP_THRESHOLD, (int)MIB) == 1);
	fill(p = malloc(16 * MIB), 16 * MIB, 7);
	EXPECT(mallinfo2().hblks == 1 && is_filled(p, 16 * MIB, 7));
	free(p);
	return 0;
}

static int inside_native_heap(void)
{
	char *p = malloc(8 * MIB);

	EXPECT(mallinfo2().hblks == 1);
	/* No error and no effect: otherwise free() would unmap memory that the agent uses. */
	EXPECT(!madvise((void *)((uintptr_t)p & ~(PG - 1)), 4 * MIB, MADV_MERGEABLE));
	EXPECT((unsigned int)malloc_trim(0) <= 1);
	free(p);
	return 0;
}

/* What is written after vmsplice(2) is what the reader of the pipe sees. */
static void give_to_pipe(void)
{
	unsigned char *p = map(MIB), got[16];
	struct iovec iov = { p + 100, 8 };
	int fd[2];

	fill(p, MIB, 1);
	EXPECT(!pipe2(fd, O_CLOEXEC));
	EXPECT(vmsplice(fd[1], &iov, 1, 0) == 8);
	EXPECT(syscall(SYS_vmsplice, fd[1], &iov, 1, 0) == 8);
	p[101] = 0xff;
	EXPECT(read(fd[0], got, 16) == 16 && got[1] == 0xff && got[9] == 0xff);
	EXPECT(vmsplice(fd[1], (struct iovec *)8, 1, 0) == -1 && errno == EFAULT);
	EXPECT(vmsplice(-1, &iov, 1, 0) == -1 && errno == EBADF);
	EXPECT(write(fd[1], "ab", 2) == 2);
	EXPECT(vmsplice(fd[0], &iov, 1, 0) == 2 && p[100] == 'a');
	close(fd[0]);
	close(fd[1]);
	munmap(p, MIB);
}

/* Calls with special memory: they work, and the memory is as it should be. */
static int inside_calls(void)
{
	unsigned char *p = map(MIB), *q;
	int key, id;

	fill(p, MIB, 1);
	EXPECT(!mlock(p + 100, 5000) && !munlock(p + 100, 5000));
	EXPECT(mlock((void *)PG, PG) == -1 && errno == ENOMEM);
	EXPECT(!mlockall(MCL_CURRENT | MCL_FUTURE) && !munlockall());
	EXPECT(mlockall(0) == -1 && errno == EINVAL);
	EXPECT(!posix_madvise(p, MIB, POSIX_MADV_DONTNEED) && is_filled(p, MIB, 1));
	EXPECT(posix_madvise(p + 1, MIB, POSIX_MADV_NORMAL) == EINVAL);
	EXPECT(!madvise(p + MIB / 2, MIB / 2, MADV_DONTNEED) && p[MIB / 2] == 0);
	key = pkey_alloc(0, 0);
	if (key > 0) {
		EXPECT(!pkey_mprotect(p, MIB, PROT_READ, key));
		EXPECT(!pkey_mprotect(p, MIB, PROT_READ | PROT_WRITE, 0));
	}
	EXPECT(!pkey_mprotect(p, MIB, PROT_READ | PROT_WRITE, -1));
	EXPECT(is_filled(p, MIB / 2, 1));
	q = mremap(p, MIB, 2 * MIB, MREMAP_MAYMOVE);
	EXPECT(q != MAP_FAILED && is_filled(q, MIB / 2, 1));
	id = shmget(IPC_PRIVATE, MIB, IPC_CREAT | 0600);
	EXPECT(id >= 0 && shmat(id, q, SHM_REMAP) == q && !shmctl(id, IPC_RMID, NULL));
	EXPECT(q[0] == 0 && q[MIB - 1] == 0 && !shmdt(q));
	EXPECT(!syscall(SYS_munmap, q + MIB, MIB));
	EXPECT(syscall(SYS_close, -1) == -1 && errno == EBADF);
	EXPECT(syscall(SYS_getppid) == getppid());
	EXPECT(mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
	       errno == EINVAL);
	give_to_pipe();
	return 0;
}

/*
 * The kernel refuses bad pointers. Each of these calls ended the process with SIGSEGV when the
 * interposer dereferenced its argument (clone: when it did not).
 */
static int inside_bad_pointers(void)
{
	unsigned char *p = map(2 * PG);
	struct iovec *edge = (struct iovec *)(p + PG) - 1;
	char *const *volatile bad_env = (char *const *)8; /* volatile: gcc sees through it */
	char *bad_entry[] = { "A=B", (char *)8, NULL };
	char *unended = (char *)p + PG - 2, *runs_out[] = { unended, NULL };
	char *argv[] = { "true", NULL };
	posix_spawnattr_t *attr = NULL;
	int pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	pid_t pid;

	EXPECT(!munmap(p + PG, PG));
	*edge = (struct iovec){ p, PG };
	EXPECT(process_madvise(pidfd, (struct iovec *)8, 1, MADV_DONTNEED, 0) == -1);
	EXPECT(errno == EFAULT);
	p[0] = 1;
	EXPECT(process_madvise(pidfd, edge, 2, MADV_DONTNEED, 0) == -1 && errno == EFAULT);
	EXPECT(p[0] == 1);
	EXPECT(syscall(SYS_process_madvise, pidfd, 8, 1, MADV_DONTNEED, 0) == -1);
	EXPECT(errno == EFAULT);
	EXPECT(syscall(SYS_clone3, 8, sizeof(struct clone_args)) == -1 && errno == EFAULT);
	EXPECT(clone(NULL, p, SIGCHLD, NULL) == -1 && errno == EINVAL);
	EXPECT(clone(child_looks, NULL, SIGCHLD, NULL) == -1 && errno == EINVAL);
	memset(unended, 'x', 2);
	EXPECT(execve("/bin/true", argv, bad_env) == -1 && errno == EFAULT);
	EXPECT(execve("/bin/true", argv, bad_entry) == -1 && errno == EFAULT);
	EXPECT(execve("/bin/true", argv, runs_out) == -1 && errno == EFAULT);
	EXPECT(execvpe("true", argv, bad_entry) == -1 && errno == EFAULT);
	EXPECT(execveat(AT_FDCWD, "/bin/true", argv, bad_env, 0) == -1 && errno == EFAULT);
	EXPECT(syscall(SYS_execve, "/bin/true", argv, bad_entry) == -1 && errno == EFAULT);
	EXPECT(posix_spawn(&pid, "/bin/true", NULL, attr, argv, bad_entry) == EFAULT);
	EXPECT(posix_spawnp(&pid, "true", NULL, attr, argv, bad_env) == EFAULT);
	return 0;
}

/*
 * When the kernel refuses an environment for its size, the program goes on. Seen to fail (a signal)
 * when the interposer copied an environment of any size to the stack first.
 */
static int inside_too_large(void)
{
	const size_t nr = 4ul << 20;
	char **env = map((nr + 1) * sizeof(*env));
	char *argv[] = { "true", NULL };
	pid_t pid;

	for (size_t i = 0; i < nr; i++)
		env[i] = "A=B";
	EXPECT(execve("/bin/true", argv, env) == -1 && errno == E2BIG);
	EXPECT(execvpe("true", argv, env) == -1 && errno == E2BIG);
	EXPECT(posix_spawn(&pid, "/bin/true", NULL, NULL, argv, env) == E2BIG);
	return 0;
}

/*
 * Hold equal memory: a line on standard output says that it is ready. When a byte comes in, its
 * contents must be unchanged.
 */
static int hold(unsigned char *p, size_t len)
{
	char c;

	fill(p, len, 1);
	EXPECT(write(STDOUT_FILENO, "ready\n", 6) == 6);
	EXPECT(read(STDIN_FILENO, &c, 1) >= 0);
	EXPECT(is_filled(p, len, 1));
	fill(p, len, 2);
	EXPECT(is_filled(p, len, 2));
	return 0;
}

static int inside_hold_mapping(void)
{
	return hold(map(4 * MIB), 4 * MIB);
}

static int inside_hold_heap(void)
{
	return hold(malloc(4 * MIB), 4 * MIB);
}

/* All that the program ever asks for, and it asks for nothing while it works. */
static int inside_hold_aligned(void)
{
	return hold(aligned_alloc(PG, 4 * MIB), 4 * MIB);
}

static int inside_hold_memalign(void)
{
	return hold(memalign(PG, 4 * MIB), 4 * MIB);
}

static int inside_hold_posix_memalign(void)
{
	void *p;

	EXPECT(!posix_memalign(&p, PG, 4 * MIB));
	return hold(p, 4 * MIB);
}

/* What stands before a large block in the heap differs, and where it begins in a page does not. */
static int inside_hold_large_block(void)
{
	unsigned char *before = malloc(16 + (size_t)getpid() % 200 * 16);
	int r;

	*(volatile unsigned char *)before = 1;
	r = hold(malloc(4 * MIB), 4 * MIB);
	free(before);
	return r;
}

static long nr_threads(void)
{
	struct stat st;

	EXPECT(!stat("/proc/self/task", &st));
	return (long)st.st_nlink - 2;
}

/* Some programs look, and end if they have more threads than they know of. */
static int inside_one_thread(void)
{
	EXPECT(nr_threads() == 1);
	usleep(100000);
	EXPECT(nr_threads() == 1);
	return 0;
}

/* A program that uses little memory has no thread more than it knows of, daemon or not. */
static int inside_little_memory(void)
{
	unsigned char *p = malloc(100 << 10), *q = map(100 << 10);

	fill(p, 100 << 10, 1);
	fill(q, 100 << 10, 1);
	for (int i = 0; i < 20; i++) {
		EXPECT(nr_threads() == 1);
		usleep(10000);
		free(malloc(100));
	}
	free(p);
	return 0;
}

/* Where there is no daemon it stays at that. */
static int inside_no_agent(void)
{
	unsigned char *p = malloc(4 * MIB), *q = map(4 * MIB);
	pid_t pid;

	fill(p, 4 * MIB, 1);
	fill(q, 4 * MIB, 1);
	free(p);
	EXPECT(nr_threads() == 1);
	pid = fork();
	if (!pid)
		_exit(nr_threads() == 1 ? 0 : 1);
	wait_child(pid);
	EXPECT(nr_threads() == 1);
	return 0;
}

/* QEMU's way: some of its heap is older than its first wish for merging, and most is younger. */
static int inside_hold_heap_and_ask(void)
{
	static unsigned char *small[32];
	const size_t len = MIB / 16;
	int r;

	for (unsigned int i = 0; i < 32; i++)
		fill(small[i] = malloc(len), len, 10 + i);
	EXPECT(!madvise(map(PG), PG, MADV_MERGEABLE));
	r = hold(malloc(4 * MIB), 4 * MIB);
	for (unsigned int i = 0; i < 32; i++)
		EXPECT(is_filled(small[i], len, 10 + i));
	return r;
}

/* ... and without a wish it has the C library's malloc. */
static int inside_hold_native_heap(void)
{
	unsigned char *p = malloc(4 * MIB);

	EXPECT(mallinfo2().hblks == 1);
	return hold(p, 4 * MIB);
}

static int inside_hold_asked_for(void)
{
	unsigned char *p = map(4 * MIB);

	EXPECT(!madvise(p, 4 * MIB, MADV_MERGEABLE));
	return hold(p, 4 * MIB);
}

/*
 * Lock all memory while the agent works, first through the interposers and then past them, and
 * unlock it again. The calls must return, and no byte may change.
 */
static int inside_hold_and_lock(void)
{
	const size_t len = 4 * MIB;
	unsigned char *p = map(len), *q = map(len);
	char c;

	fill(p, len, 1);
	EXPECT(write(STDOUT_FILENO, "ready\n", 6) == 6);
	EXPECT(read(STDIN_FILENO, &c, 1) == 1);
	for (int i = 0; i < 20; i++) {
		if (i % 2)
			EXPECT(!mlockall(MCL_CURRENT));
		else
			EXPECT(!sysc1(SYS_mlockall, MCL_CURRENT));
		EXPECT(is_filled(p, len, 1));
		fill(q, len, (unsigned int)i);
		EXPECT(!munlockall());
		EXPECT(is_filled(q, len, (unsigned int)i));
		usleep(10000);
	}
	return hold(p, len);
}

/* ---- inside: filters of system calls ---- */

#if defined(__x86_64__)
#define OWN_ARCH AUDIT_ARCH_X86_64
#else
#define OWN_ARCH AUDIT_ARCH_AARCH64
#endif
enum { FILTER_MAX = 64 };

/*
 * A filter for the calling thread or (SECCOMP_FILTER_FLAG_TSYNC) for all: of these calls it says
 * `listed`, and of all others `others`.
 */
static void install(const int nrs[], size_t n, uint32_t listed, uint32_t others, unsigned int flags)
{
	struct sock_filter f[FILTER_MAX] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OWN_ARCH, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	struct sock_fprog prog = { (unsigned short)(n + 6), f };

	for (size_t i = 0; i < n; i++)
		f[4 + i] = (struct sock_filter)BPF_JUMP(
			BPF_JMP | BPF_JEQ | BPF_K, (unsigned int)nrs[i], (unsigned char)(n - i), 0);
	f[4 + n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, others);
	f[5 + n] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, listed);
	if (flags)
		EXPECT(!syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog));
	else
		EXPECT(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0));
}

/* What the program calls from here on, and nothing else: any other call kills it. */
static void allow_own_calls(unsigned int flags)
{
	static const int own[] = { SYS_mmap, SYS_munmap, SYS_mremap, SYS_mprotect,  SYS_madvise,
				   SYS_brk,  SYS_write,  SYS_read,   SYS_exit_group };

	install(own, sizeof(own) / sizeof(own[0]), SECCOMP_RET_ALLOW, SECCOMP_RET_KILL_PROCESS,
		flags);
}

static void make_own_calls(void)
{
	const size_t len = 2 * MIB;
	unsigned char *p = map(len), *small[64], *big = malloc(len);

	fill(p, len, 1);
	EXPECT(!madvise(p, len / 2, MADV_DONTNEED) && !p[0]);
	EXPECT(!mprotect(p, len, PROT_READ) && !mprotect(p, len, PROT_READ | PROT_WRITE));
	p = mremap(p, len, 2 * len, MREMAP_MAYMOVE);
	EXPECT(p != MAP_FAILED);
	fill(p, 2 * len, 2);
	EXPECT(is_filled(p, 2 * len, 2) && !munmap(p, 2 * len));
	fill(big, len, 3);
	big = realloc(big, 2 * len);
	EXPECT(is_filled(big, len, 3));
	free(big);
	for (unsigned int i = 0; i < 64; i++)
		fill(small[i] = malloc(MIB / 16), MIB / 16, i);
	for (unsigned int i = 0; i < 64; i++) {
		EXPECT(is_filled(small[i], MIB / 16, i));
		free(small[i]);
	}
}

/*
 * Threads that use malloc at the same time, for blocks that it locks an arena for. Without us each
 * has an arena of its own, and none ever waits.
 */
static void meet_in_malloc(void)
{
	for (int i = 0; i < 50000; i++) {
		unsigned char *p = malloc(5000), *q = calloc(1, 6000);

		EXPECT(p && q);
		q[0] = 1;
		q = realloc(q, 7000);
		EXPECT(q && q[0] == 1);
		free(p);
		free(q);
	}
}

/* Once before there is a filter, as malloc calls more for a thread that is new to it. */
static void *make_own_calls_twice(void *turn)
{
	for (int i = 1; i <= 3; i += 2) {
		make_own_calls();
		if (i == 3)
			meet_in_malloc();
		atomic_store((_Atomic int *)turn, i);
		while (atomic_load((_Atomic int *)turn) == i)
			;
	}
	return NULL;
}

/*
 * Ordinary users need this. It restarts the agent, so it comes first: frames that stand in the way
 * are given back by an agent that serves.
 */
static void allow_filters(void)
{
	EXPECT(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

static int inside_own_filter(void)
{
	unsigned char *p = map(4 * MIB);

	allow_filters();
	fill(p, 4 * MIB, (unsigned int)getpid());
	allow_own_calls(0);
	make_own_calls();
	return hold(p, 4 * MIB);
}

/* The other thread is there before. */
static int inside_filter_for_all(void)
{
	unsigned char *p = map(4 * MIB);
	static _Atomic int turn;
	pthread_t t;

	allow_filters();
	fill(p, 4 * MIB, (unsigned int)getpid());
	EXPECT(!pthread_create(&t, NULL, make_own_calls_twice, &turn));
	while (atomic_load(&turn) != 1)
		;
	allow_own_calls(SECCOMP_FILTER_FLAG_TSYNC);
	atomic_store(&turn, 2);
	make_own_calls();
	meet_in_malloc();
	while (atomic_load(&turn) != 3)
		;
	return hold(p, 4 * MIB);
}

/* ... once memory is merged. */
static int inside_late_filter(void)
{
	unsigned char *p = map(4 * MIB);
	char c;

	allow_filters();
	fill(p, 4 * MIB, 1);
	EXPECT(write(STDOUT_FILENO, "ready\n", 6) == 6 && read(STDIN_FILENO, &c, 1) == 1);
	allow_own_calls(SECCOMP_FILTER_FLAG_TSYNC);
	EXPECT(is_filled(p, 4 * MIB, 1));
	EXPECT(!madvise(p, MIB, MADV_DONTNEED) && !p[0] && !p[MIB - 1]);
	make_own_calls();
	return hold(p, 4 * MIB);
}

/* A new program lives under the filter, too, and the agent could not. */
static int inside_filter_and_exec(void)
{
	static const int ours[] = { SYS_socket, SYS_connect, SYS_signalfd4, SYS_close_range };
	char *argv[] = { "sh", "-c", "test -z \"$LD_PRELOAD\"", NULL };

	allow_filters();
	install(ours, sizeof(ours) / sizeof(ours[0]), SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW,
		0);
	execvp("sh", argv);
	return 97;
}

/* Most filters forbid what nobody needs. QEMU has such a one. */
static int inside_mild_filter(void)
{
	static const int none[] = { SYS_reboot, SYS_swapon, SYS_kexec_load, SYS_setuid };

	allow_filters();
	install(none, sizeof(none) / sizeof(none[0]), SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_ALLOW,
		SECCOMP_FILTER_FLAG_TSYNC);
	return hold(map(4 * MIB), 4 * MIB);
}

/* ---- inside: a busy program ---- */

struct block {
	unsigned char *p;
	size_t len;
	bool mapped;
	unsigned int seed;
};
#define NR_BLOCKS 16

static volatile bool stop;

static void check_block(const struct block *b)
{
	EXPECT(is_filled(b->p, b->len, b->seed));
}

static void new_block(struct block *b, unsigned int *rnd)
{
	b->mapped = rand_r(rnd) % 2;
	b->len = (1 + (size_t)rand_r(rnd) % 200) * PG;
	b->seed = (unsigned int)rand_r(rnd) % 3;
	b->p = b->mapped ? map(b->len) : malloc(b->len);
	EXPECT(b->p);
	fill(b->p, b->len, b->seed);
}

static void drop_block(struct block *b)
{
	check_block(b);
	if (b->mapped)
		EXPECT(!munmap(b->p, b->len));
	else
		free(b->p);
}

static void resize_block(struct block *b, unsigned int *rnd)
{
	size_t len = (1 + (size_t)rand_r(rnd) % 200) * PG, both = len < b->len ? len : b->len;

	b->p = b->mapped ? mremap(b->p, b->len, len, MREMAP_MAYMOVE) : realloc(b->p, len);
	EXPECT(b->p && b->p != MAP_FAILED);
	b->len = both;
	check_block(b);
	b->len = len;
	fill(b->p, b->len, b->seed);
}

static void advise_block(struct block *b)
{
	if (!b->mapped)
		return;
	EXPECT(!mprotect(b->p, b->len, PROT_READ));
	check_block(b);
	EXPECT(!mprotect(b->p, b->len, PROT_READ | PROT_WRITE));
	EXPECT(!madvise(b->p, b->len, MADV_DONTNEED));
	for (size_t i = 0; i < b->len; i += 64)
		EXPECT(b->p[i] == 0);
	fill(b->p, b->len, b->seed);
}

/* The kernel writes into memory that may be merged or about to be. */
static void read_into_block(struct block *b)
{
	size_t len = b->len < 60000 ? b->len : 60000, got = 0;
	int fd[2];

	EXPECT(!pipe2(fd, O_CLOEXEC));
	EXPECT(write(fd[1], b->p, len) == (ssize_t)len);
	memset(b->p, 0xee, len);
	while (got < len) {
		ssize_t n = read(fd[0], b->p + got, len - got);

		EXPECT(n > 0);
		got += (size_t)n;
	}
	close(fd[0]);
	close(fd[1]);
}

static void fork_with_blocks(struct block *b, unsigned int *rnd)
{
	pid_t pid = rand_r(rnd) % 2 ? fork() : (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);

	if (pid == 0) {
		alarm(TIMEOUT_S);
		for (int i = 0; i < NR_BLOCKS; i++) {
			/* No malloc: after a raw clone its locks may be held by nobody. */
			size_t sum = 0;

			for (size_t k = 0; k < b[i].len; k += PG)
				sum += memcmp(b[i].p + k, &k, sizeof(k)) != 0;
			if (sum)
				_exit(1);
			memset(b[i].p, 0xaa, b[i].len);
		}
		_exit(0);
	}
	wait_child(pid);
}

static void *be_busy(void *arg)
{
	unsigned int rnd = (unsigned int)(uintptr_t)arg;
	struct block b[NR_BLOCKS];

	for (int i = 0; i < NR_BLOCKS; i++)
		new_block(&b[i], &rnd);
	while (!stop) {
		struct block *x = &b[rand_r(&rnd) % NR_BLOCKS];

		check_block(x);
		switch (rand_r(&rnd) % 64) {
		case 0 ... 9:
			drop_block(x);
			new_block(x, &rnd);
			break;
		case 10 ... 19:
			resize_block(x, &rnd);
			break;
		case 20 ... 29:
			advise_block(x);
			break;
		case 30 ... 39:
			read_into_block(x);
			break;
		case 40:
			fork_with_blocks(b, &rnd);
			break;
		case 41 ... 50:
			usleep(2000);
			break;
		default:
			fill(x->p, x->len, x->seed);
		}
	}
	for (int i = 0; i < NR_BLOCKS; i++)
		drop_block(&b[i]);
	return NULL;
}

/* Until the test has seen what it waits for, and for STRESS_S at least. */
/* KiB of the line of /proc/self/status that begins so. */
static long status_kib(const char *name)
{
	char line[256];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "re");

	EXPECT(f);
	while (kib < 0 && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)))
			kib = atol(line + strlen(name));
	fclose(f);
	return kib;
}

/*
 * Kernels that name memory refuse a file's. Few are built to name any, so a filter answers in the
 * kernel's place: EBADF for what begins on frames or in a file, and success for all else.
 */
static int inside_name_memory(void)
{
	const size_t len = 2 * MIB;
	unsigned char *p = map(2 * len), *file;
	const uintptr_t start = (uintptr_t)p;
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 6),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KABI_PR_SET_VMA, 0, 4),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(start + len), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EBADF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };

	for (size_t i = 0; i < 2 * len / PG; i++) /* pairs, and then pages without an equal */
		*(size_t *)(p + i * PG) = i < len / PG ? 1 + i / 2 : i + len;
	while (on_frames(p, len) < len / PG)
		usleep(1000);
	EXPECT(!on_frames(p + len, len));
	file = mmap(NULL, PG, PROT_READ, MAP_PRIVATE, open("/proc/self/exe", O_RDONLY), 0);
	EXPECT(file != MAP_FAILED);
	EXPECT(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0));
	EXPECT(!prctl(KABI_PR_SET_VMA, KABI_PR_SET_VMA_ANON_NAME, p, 2 * len, "mine"));
	EXPECT(!prctl(KABI_PR_SET_VMA, KABI_PR_SET_VMA_ANON_NAME, p, len, "mine"));
	EXPECT(prctl(KABI_PR_SET_VMA, KABI_PR_SET_VMA_ANON_NAME, file, PG, "file") == -1);
	EXPECT(errno == EBADF);
	return 0;
}

/*
 * A kernel that names memory. This one answers for it: a filter hands the calls of all threads to a
 * thread, which refuses what begins on frames and keeps account of the rest.
 */
static struct {
	int listener;
	_Atomic size_t by_program, by_agent; /* bytes that got the name "mine" */
} naming;

static void *answer_naming(void *arg)
{
	(void)arg;
	for (;;) {
		struct seccomp_notif call = { 0 };
		struct seccomp_notif_resp answer = { 0 };
		const unsigned char *start;

		if (sysc3(SYS_ioctl, naming.listener, SECCOMP_IOCTL_NOTIF_RECV, &call))
			continue;
		start = (const unsigned char *)call.data.args[2];
		answer.id = call.id;
		if (on_frames(start, PG))
			answer.error = -EBADF;
		else if (strcmp((const char *)call.data.args[4], "mine") != 0)
			answer.error = -EINVAL;
		else if (call.pid == (uint32_t)getpid())
			naming.by_program += call.data.args[3];
		else
			naming.by_agent += call.data.args[3];
		sysc3(SYS_ioctl, naming.listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	return NULL;
}

/* Past the library, which takes its hands from memory's names where a filter may forbid that. */
static void begin_naming(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prctl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, KABI_PR_SET_VMA, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };
	pthread_t thread;

	EXPECT(!sysc5(SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	naming.listener = (int)sysc3(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC |
					     SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
				     &prog);
	EXPECT(naming.listener >= 0);
	EXPECT(!pthread_create(&thread, NULL, answer_naming, NULL));
}

/* Memory that is given back has its name again, also where it was moved meanwhile. */
static int inside_named(void)
{
	const size_t len = 2 * MIB, few = 4 * PG;
	unsigned char *p = map(2 * len), *to = map(len);
	char c;

	for (size_t i = 0; i < 2 * len / PG; i++) /* pairs, and then pages without an equal */
		*(size_t *)(p + i * PG) = i < len / PG ? 1 + i / 2 : i + len;
	while (on_frames(p, len) < len / PG)
		usleep(1000);
	begin_naming();
	EXPECT(!prctl(KABI_PR_SET_VMA, KABI_PR_SET_VMA_ANON_NAME, p, 2 * len, "mine"));
	EXPECT(naming.by_program == len && !naming.by_agent);
	EXPECT(mremap(p, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to) == to);
	EXPECT(write(STDOUT_FILENO, "ready\n", 6) == 6);
	EXPECT(read(STDIN_FILENO, &c, 1) == 1);
	/* A few pages are broken in place, and the agent makes a mapping of their own later. */
	EXPECT(!madvise(to, few, MADV_UNMERGEABLE));
	while (naming.by_agent < few)
		usleep(1000);
	EXPECT(!madvise(to, len, MADV_UNMERGEABLE));
	EXPECT(!on_frames(to, len));
	EXPECT(naming.by_agent == len);
	for (size_t i = 0; i < len / PG; i++)
		EXPECT(*(size_t *)(to + i * PG) == 1 + i / 2);
	EXPECT(write(STDOUT_FILENO, "ready\n", 6) == 6);
	EXPECT(read(STDIN_FILENO, &c, 1) == 1);
	return 0;
}

#define LIMIT_ENV "KSM_TEST_MEMLOCK_KIB"

/*
 * Without a limit in the environment: say how much that is. With it: lock all, as somebody whom the
 * limit holds for. It fits, and a megabyte less does not.
 */
static int inside_lock_all(void)
{
	const char *kib = getenv(LIMIT_ENV);
	unsigned char *p = map(MIB), *q = map(MIB);
	struct rlimit l;

	fill(p, MIB, 1);
	fill(q, MIB, 2);
	usleep(200000); /* longer than an agent takes to make its buffers, if there is one */
	if (!kib) {
		printf("%ld\n", status_kib("VmSize:"));
		return 0;
	}
	l.rlim_max = (rlim_t)atol(kib) << 10;
	l.rlim_cur = l.rlim_max - MIB;
	EXPECT(!setrlimit(RLIMIT_MEMLOCK, &l));
	EXPECT(geteuid() || !setresuid(65534, 65534, 65534));
	EXPECT(mlockall(MCL_CURRENT) == -1 && errno == ENOMEM);
	EXPECT(!madvise(p, PG, MADV_NOHUGEPAGE) && !madvise(p, PG, MADV_DONTNEED));
	l.rlim_cur = l.rlim_max;
	EXPECT(!setrlimit(RLIMIT_MEMLOCK, &l));
	EXPECT(!mlockall(MCL_CURRENT));
	EXPECT(madvise(p, PG, MADV_DONTNEED) == -1 && errno == EINVAL); /* locked */
	EXPECT(is_filled(q, MIB, 2));
	EXPECT(status_kib("VmLck:") <= atol(kib));
	EXPECT(!munlockall());
	EXPECT(!madvise(p, PG, MADV_DONTNEED));
	EXPECT(!mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT(madvise(p, PG, MADV_DONTNEED) == -1 && errno == EINVAL);
	EXPECT(madvise(map(PG), PG, MADV_DONTNEED) == -1 && errno == EINVAL);
	return 0;
}

static int inside_busy(void)
{
	pthread_t thread[STRESS_THREADS];
	/* Calm and the same in all three, so that something merges however slow they are. */
	unsigned char *calm = malloc(MIB);
	char c;

	EXPECT(calm);
	fill(calm, MIB, 1);
	for (uintptr_t i = 0; i < STRESS_THREADS; i++)
		EXPECT(!pthread_create(&thread[i], NULL, be_busy, (void *)(i + 1)));
	sleep(STRESS_S);
	EXPECT(!read(STDIN_FILENO, &c, 1));
	stop = true;
	for (int i = 0; i < STRESS_THREADS; i++)
		EXPECT(!pthread_join(thread[i], NULL));
	EXPECT(is_filled(calm, MIB, 1));
	free(calm);
	return 0;
}

#define INSIDE(name)                                                                               \
	{                                                                                          \
#name, inside_##name                                                               \
	}
static const struct {
	const char *name;
	int (*fn)(void);
} insides[] = {
	INSIDE(look_at_environment),
	INSIDE(exec_keeps_settings),
	INSIDE(merge_any_over_exec),
	INSIDE(merge_any_by_system),
	INSIDE(own_userfaultfd),
	INSIDE(kernel_flag_is_taken_over),
	INSIDE(copies),
	INSIDE(copy_and_wait),
	INSIDE(heap),
	INSIDE(native_heap),
	INSIDE(large_blocks),
	INSIDE(calls),
	INSIDE(bad_pointers),
	INSIDE(hold_mapping),
	INSIDE(too_large),
	INSIDE(hold_heap),
	INSIDE(hold_asked_for),
	INSIDE(hold_large_block),
	INSIDE(hold_aligned),
	INSIDE(hold_memalign),
	INSIDE(hold_posix_memalign),
	INSIDE(hold_heap_and_ask),
	INSIDE(hold_native_heap),
	INSIDE(one_thread),
	INSIDE(little_memory),
	INSIDE(no_agent),
	INSIDE(own_filter),
	INSIDE(filter_for_all),
	INSIDE(late_filter),
	INSIDE(filter_and_exec),
	INSIDE(mild_filter),
	INSIDE(hold_and_lock),
	INSIDE(lock_all),
	INSIDE(name_memory),
	INSIDE(named),
	INSIDE(busy),
};

static int inside(const char *name)
{
	alarm(TIMEOUT_S);
	for (size_t i = 0; i < sizeof(insides) / sizeof(insides[0]); i++)
		if (!strcmp(insides[i].name, name))
			return insides[i].fn();
	return 99;
}

/* ---- outside ---- */

struct program {
	pid_t pid;
	int in, out;
};

/* ksm-run [options] -- argv, with pipes. Dies with the test. */
static struct program run(const char *const options[], const char *const argv[])
{
	const char *v[16] = { build_path("ksm-run") };
	struct program p;
	int in[2], out[2], n = 1;

	ck_assert(!pipe2(in, O_CLOEXEC) && !pipe2(out, O_CLOEXEC));
	for (int i = 0; options && options[i]; i++)
		v[n++] = options[i];
	v[n++] = "--";
	for (int i = 0; argv[i]; i++)
		v[n++] = argv[i];
	v[n] = NULL;
	p.pid = fork();
	ck_assert_int_ge(p.pid, 0);
	if (p.pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		execv(v[0], (char *const *)v);
		_exit(98);
	}
	close(in[0]);
	close(out[1]);
	p.in = in[1];
	p.out = out[0];
	return p;
}

static struct program run_inside(const char *const options[], const char *name)
{
	const char *const argv[] = { self, "--inside", name, NULL };

	return run(options, argv);
}

/* The same for a program that has QEMU's name; the link is in `dir`. */
static struct program run_inside_as_qemu(const char *const options[], const char *name,
					 const char *dir)
{
	char path[4200];
	const char *const argv[] = { path, "--inside", name, NULL };

	snprintf(path, sizeof(path), "%s/qemu-system-test", dir);
	ck_assert(!symlink(self, path) || errno == EEXIST);
	return run(options, argv);
}

static int end(struct program *p)
{
	int status;

	close(p->in);
	ck_assert_int_eq(waitpid(p->pid, &status, 0), p->pid);
	close(p->out);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int run_to_end(const char *const options[], const char *name)
{
	struct program p = run_inside(options, name);

	return end(&p);
}

static void wait_ready(const struct program *p)
{
	char line[6];

	ck_assert_int_eq(read(p->out, line, sizeof(line)), sizeof(line));
}

static const char *const native[] = { "--malloc=native", NULL };
static const char *const asked[] = { "--madvise-only", NULL };
static const char *const fixed[] = { "--fixed-layout", NULL };

/* Without a daemon a program behaves as it does without ksm-run. */
START_TEST(without_daemon)
{
	static const struct {
		const char *const *options;
		const char *name;
	} runs[] = {
		{ NULL, "exec_keeps_settings" },
		{ NULL, "merge_any_over_exec" },
		{ NULL, "copies" },
		{ NULL, "heap" },
		{ NULL, "calls" },
		{ native, "calls" },
		{ asked, "calls" },
		{ native, "native_heap" },
		{ fixed, "copies" },
		{ asked, "exec_keeps_settings" },
		{ NULL, "bad_pointers" },
		{ NULL, "too_large" },
		{ NULL, "copy_and_wait" },
		{ NULL, "large_blocks" },
		{ NULL, "filter_and_exec" },
		{ NULL, "one_thread" },
		{ NULL, "no_agent" },
		{ native, "large_blocks" },
		{ asked, "large_blocks" },
	};

	setenv("KSMD_RUNTIME_DIR", "/nonexistent", 1);
	ck_assert_int_eq(run_to_end(runs[_i].options, runs[_i].name), 0);
}
END_TEST
#define NR_WITHOUT_DAEMON 19

START_TEST(with_daemon)
{
	static const char *const names[] = { "exec_keeps_settings",
					     "merge_any_over_exec",
					     "copies",
					     "heap",
					     "calls",
					     "copy_and_wait",
					     "merge_any_by_system",
					     "own_userfaultfd",
					     "large_blocks",
					     "filter_and_exec",
					     "little_memory",
					     "name_memory" };
	struct daemon *d = daemon_start(NULL);

	daemon_hasten(d);
	ck_assert_int_eq(run_to_end(NULL, names[_i]), 0);
	daemon_stop(d);
}
END_TEST
#define NR_WITH_DAEMON 12

/* Names are missing where frames stand, and nowhere else. */
START_TEST(names_come_back)
{
	struct daemon *d = daemon_start(NULL);
	struct program p;

	daemon_hasten(d);
	p = run_inside(NULL, "named");
	wait_ready(&p);
	wait_until(ctl_client_u64(d, p.pid, "pages_nameless") == 2 * MIB / PG, WAIT_MS, "counted");
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_nameless"), 2 * MIB / PG);
	ck_assert_int_eq(write(p.in, "x", 1), 1);
	wait_ready(&p);
	wait_until(!ctl_get_u64(d, "ksm/pages_nameless"), WAIT_MS, "all have their names");
	ck_assert_int_eq(write(p.in, "x", 1), 1);
	ck_assert_int_eq(end(&p), 0);
	daemon_stop(d);
}
END_TEST

/*
 * A limit on locked memory that fits the program without us, and 64 KiB. Seen to fail when the
 * kernel was asked once, which counts what the library has mapped.
 */
START_TEST(lock_all_under_a_limit)
{
	struct daemon *d = daemon_start(NULL);
	char command[4200], kib[32];
	FILE *f;

	snprintf(command, sizeof(command), "%s --inside lock_all", self);
	f = popen(command, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(kib, sizeof(kib), f));
	ck_assert_int_eq(pclose(f), 0);
	snprintf(kib, sizeof(kib), "%ld", atol(kib) + 64);
	setenv(LIMIT_ENV, kib, 1);
	ck_assert_int_eq(run_to_end(NULL, "lock_all"), 0);
	daemon_stop(d);
}
END_TEST

/* As a service manager does: the kernel is told before the program starts. */
START_TEST(merge_any_of_the_kernel)
{
	if (sysc5(SYS_prctl, PR_SET_MEMORY_MERGE, 1, 0, 0, 0)) {
		printf("SKIP: this kernel has no PR_SET_MEMORY_MERGE\n");
		return;
	}
	setenv("KSMD_RUNTIME_DIR", "/nonexistent", 1);
	ck_assert_int_eq(run_to_end(NULL, "kernel_flag_is_taken_over"), 0);
	ck_assert_int_eq(sysc5(SYS_prctl, PR_SET_MEMORY_MERGE, 0, 0, 0, 0), 0);
}
END_TEST

/* Two programs with the same contents in mappings, in malloc, or in memory they ask for. */
START_TEST(merges)
{
	static const struct {
		const char *const *options;
		const char *name;
		bool merges;
	} runs[] = {
		{ NULL, "hold_mapping", true },     { NULL, "hold_heap", true },
		{ NULL, "hold_asked_for", true },   { asked, "hold_mapping", false },
		{ asked, "hold_heap", false },      { asked, "hold_asked_for", true },
		{ native, "hold_mapping", true },   { native, "hold_heap", false },
		{ native, "hold_asked_for", true }, { NULL, "hold_large_block", true },
		{ NULL, "mild_filter", true },      { NULL, "hold_aligned", true },
		{ NULL, "hold_memalign", true },    { NULL, "hold_posix_memalign", true },
	};
	/* All but the pages at the ends of the range, which malloc's own data share. */
	const uint64_t pages = 4 * MIB / PG - 2;
	struct daemon *d = daemon_start(NULL);
	struct program p[2];

	daemon_hasten(d);
	for (int i = 0; i < 2; i++)
		p[i] = run_inside(runs[_i].options, runs[_i].name);
	for (int i = 0; i < 2; i++)
		wait_ready(&p[i]);
	if (runs[_i].merges) {
		wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= pages, WAIT_MS, "merged");
	} else {
		/* Longer than the agent takes to look at the heap for the first time. */
		for (int i = 0; i < 10; i++)
			usleep(50000);
		ck_assert_uint_lt(ctl_get_u64(d, "ksm/pages_sharing"), pages / 2);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(write(p[i].in, "x", 1), 1);
		ck_assert_int_eq(end(&p[i]), 0);
	}
	daemon_stop(d);
}
END_TEST
#define NR_MERGES 14

/* The heap of a program that says itself what may be merged follows its word. */
START_TEST(heap_when_asked)
{
	static const struct {
		const char *const *options;
		const char *name;
		bool merges;
	} runs[] = {
		{ NULL, "hold_heap_and_ask", true },
		{ NULL, "hold_native_heap", false },
		{ asked, "hold_native_heap", false },
	};
	/* What it had before it asked lies between other things. */
	const uint64_t pages = 4 * MIB / PG - 2 + 2 * MIB / PG * 7 / 8;
	struct daemon *d = daemon_start(NULL);
	struct program p[2];

	daemon_hasten(d);
	for (int i = 0; i < 2; i++)
		p[i] = run_inside_as_qemu(runs[_i].options, runs[_i].name, d->dir);
	for (int i = 0; i < 2; i++)
		wait_ready(&p[i]);
	if (runs[_i].merges) {
		wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= pages, WAIT_MS, "merged");
	} else {
		for (int i = 0; i < 10; i++)
			usleep(50000);
		ck_assert_uint_eq(ctl_get_u64(d, "ksm/pages_sharing"), 0);
	}
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(write(p[i].in, "x", 1), 1);
		ck_assert_int_eq(end(&p[i]), 0);
	}
	daemon_stop(d);
}
END_TEST
#define NR_HEAP_WHEN_ASKED 3

/*
 * Programs whose filter allows exactly what they call live on: interposers no longer block signals,
 * and no agent serves, whose calls the filter would answer with SIGSYS.
 */
START_TEST(filters_that_kill)
{
	static const char *const names[] = { "own_filter", "filter_for_all", "late_filter" };
	struct daemon *d = daemon_start(NULL);
	struct program p[2];
	bool late = _i == 2;

	daemon_hasten(d);
	for (int i = 0; i < 2; i++)
		p[i] = run_inside(NULL, names[_i]);
	if (late) {
		wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= 4 * MIB / PG - 2, WAIT_MS,
			   "merged");
		for (int i = 0; i < 2; i++) {
			wait_ready(&p[i]);
			ck_assert_int_eq(write(p[i].in, "x", 1), 1);
		}
	}
	for (int i = 0; i < 2; i++) {
		wait_ready(&p[i]);
		ck_assert_int_eq(write(p[i].in, "x", 1), 1);
		ck_assert_int_eq(end(&p[i]), 0);
	}
	daemon_stop(d);
}
END_TEST
#define NR_FILTERS 3

START_TEST(everything_locked)
{
	struct daemon *d = daemon_start(NULL);
	struct program p[2];

	daemon_hasten(d);
	for (int i = 0; i < 2; i++) {
		p[i] = run_inside(NULL, "hold_and_lock");
		wait_ready(&p[i]);
	}
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= 4 * MIB / PG, WAIT_MS, "merged");
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(write(p[i].in, "x", 1), 1);
	for (int i = 0; i < 2; i++)
		wait_ready(&p[i]);
	wait_until(ctl_get_u64(d, "ksm/pages_sharing") >= 4 * MIB / PG, WAIT_MS, "merged again");
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(write(p[i].in, "x", 1), 1);
		ck_assert_int_eq(end(&p[i]), 0);
	}
	daemon_stop(d);
}
END_TEST

/* Three busy programs while the daemon merges; with the C library's malloc and with another. */
START_TEST(busy_programs)
{
	static const char *const jemalloc = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
	struct daemon *d;
	struct program p[3];

	if (_i == 1 && access(jemalloc, R_OK)) {
		printf("SKIP: %s is not installed\n", jemalloc);
		return;
	}
	if (_i == 1)
		setenv("LD_PRELOAD", jemalloc, 1);
	d = daemon_start(NULL);
	daemon_hasten(d);
	for (int i = 0; i < 3; i++)
		p[i] = run_inside(NULL, "busy");
	wait_until(ctl_get_u64(d, "ksm/pages_merged") > 0, WAIT_MS, "something was merged");
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(end(&p[i]), 0);
	wait_until(ctl_get_u64(d, "ksm/pages_shared") == 0, WAIT_MS, "all is given back");
	daemon_stop(d);
}
END_TEST

static int status_of(const char *const options[], const char *command)
{
	const char *const argv[] = { command, NULL };
	struct program p = run(options, argv);

	return end(&p);
}

START_TEST(exit_states)
{
	static const char *const bad_option[] = { "--no-such-option", NULL };
	static const char *const bad_malloc[] = { "--malloc=other", NULL };
	static const char *const bad_preload[] = { "--preload", "/nonexistent.so", NULL };
	static const char *const help[] = { "--help", NULL };

	ck_assert_int_eq(status_of(NULL, "true"), 0);
	ck_assert_int_eq(status_of(NULL, "false"), 1);
	ck_assert_int_eq(status_of(NULL, "/nonexistent"), 127);
	ck_assert_int_eq(status_of(NULL, "no-such-program-anywhere"), 127);
	ck_assert_int_eq(status_of(NULL, "/etc/passwd"), 126);
	ck_assert_int_eq(status_of(bad_option, "true"), 125);
	ck_assert_int_eq(status_of(bad_malloc, "true"), 125);
	ck_assert_int_eq(status_of(bad_preload, "true"), 125);
	ck_assert_int_eq(status_of(help, "false"), 0);
}
END_TEST

/* A program that the loader cannot preload into still runs, and ksm-run says so. */
START_TEST(says_when_static)
{
	char text[512] = "";
	int err[2], keep = dup(STDERR_FILENO);
	ssize_t n;

	/* Debian links it statically, to be able to mend a broken loader cache. */
	if (access("/sbin/ldconfig", X_OK)) {
		printf("SKIP: there is no /sbin/ldconfig\n");
		return;
	}
	ck_assert(!pipe2(err, O_CLOEXEC));
	dup2(err[1], STDERR_FILENO);
	status_of(NULL, "/sbin/ldconfig.no-such");
	ck_assert_int_eq(
		end(&(struct program[]){ run(
			NULL, (const char *const[]){ "/sbin/ldconfig", "--version", NULL }) }[0]),
		0);
	dup2(keep, STDERR_FILENO);
	close(err[1]);
	n = read(err[0], text, sizeof(text) - 1);
	ck_assert_int_gt(n, 0);
	ck_assert_ptr_nonnull(strstr(text, "ldconfig.no-such: No such file"));
	ck_assert_ptr_nonnull(strstr(text, "/sbin/ldconfig: it is statically linked"));
}
END_TEST

/* Run a command of the shell with the name of a directory. */
static int shell(const char *format, const char *dir)
{
	char command[2048];
	int n = snprintf(command, sizeof(command), format, dir, dir, dir, dir);

	ck_assert_int_lt(n, sizeof(command));
	return system(command); /* NOLINT(cert-env33-c) */
}

/* A program that exits with 0 if it was not given the object. */
static const char make_source[] = "cat > %s/a.c <<'END'\n"
				  "#include <stdlib.h>\n"
				  "#include <string.h>\n"
				  "int main(void)\n"
				  "{\n"
				  "	const char *list = getenv(\"LD_PRELOAD\");\n"
				  "	return list && strstr(list, \"libksm-preload.so\");\n"
				  "}\n"
				  "END\n";

static const char *const make_program[] = {
	/* The loader is another file than this program's. */
	"l=$(LC_ALL=C readelf -l /bin/sh | sed -n 's/.*interpreter: \\(.*\\)]/\\1/p') && "
	"cp -L $l %s/ld.so && "
	"cc -o %s/a %s/a.c -Wl,--dynamic-linker=%s/ld.so",
	"cc -fsanitize=address -o %s/a %s/a.c", /* the shared runtime, as gcc has it */
};

/* Programs that would not start with the object start without it, whoever starts them. */
START_TEST(starts_uncovered)
{
	char dir[] = "/tmp/ksm-test.XXXXXX", program[64], script[64];

	setenv("KSMD_RUNTIME_DIR", "/nonexistent", 1);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(program, sizeof(program), "%s/a", dir);
	snprintf(script, sizeof(script), "%s/script", dir);
	if (shell(make_source, dir) || shell(make_program[_i], dir)) {
		printf("SKIP: this program cannot be made here\n");
	} else {
		const char *const direct[] = { program, NULL };
		const char *const child[] = { "sh", "-c", "\"$0\"; exit $?", program, NULL };
		const char *const environment[] = { "env", "-i", program, NULL };
		const char *const scripts[] = { "sh", "-c", "\"$0\"; exit $?", script, NULL };
		const char *const covered[] = { "sh", "-c", "exec sh -c 'test \"$LD_PRELOAD\"'",
						NULL };
		const char *const *const runs[] = { direct, child, environment, scripts, covered };

		ck_assert_int_eq(shell("printf '#!%s/a\\n' > %s/script; chmod +x %s/script", dir),
				 0);
		for (size_t i = 0; i < sizeof(runs) / sizeof(runs[0]); i++) {
			struct program p = run(NULL, runs[i]);

			ck_assert_int_eq(end(&p), 0);
		}
	}
	ck_assert_int_eq(shell("rm -r %s", dir), 0);
}
END_TEST

/* KSM_RUN_MODE=off keeps a program out of everything. */
START_TEST(off)
{
	static const char *const argv[] = { "env",      "KSM_RUN_MODE=off", self,
					    "--inside", "hold_mapping",     NULL };
	struct daemon *d = daemon_start(NULL);
	struct program p = run(NULL, argv);

	daemon_hasten(d);
	wait_ready(&p);
	usleep(300000); /* ten times the agent's delay at the start */
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients"), 0);
	ck_assert_int_eq(write(p.in, "x", 1), 1);
	ck_assert_int_eq(end(&p), 0);
	daemon_stop(d);
}
END_TEST

int main(int argc, char **argv)
{
	Suite *s = suite_create("preload");
	TCase *t = tcase_create("preload");
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	SRunner *sr;
	int failed;

	if (n < 0)
		return 1;
	if (argc == 3 && !strcmp(argv[1], "--inside"))
		return inside(argv[2]);
	if (access(build_path("libksm-preload.so"), R_OK)) {
		printf("SKIP: this build has no libksm-preload.so (a sanitizer's)\n");
		return 0;
	}
	tcase_set_timeout(t, 2 * TIMEOUT_S);
	suite_add_tcase(s, t);
	tcase_add_loop_test(t, without_daemon, 0, NR_WITHOUT_DAEMON);
	tcase_add_loop_test(t, with_daemon, 0, NR_WITH_DAEMON);
	tcase_add_test(t, names_come_back);
	tcase_add_test(t, lock_all_under_a_limit);
	tcase_add_test(t, merge_any_of_the_kernel);
	tcase_add_loop_test(t, merges, 0, NR_MERGES);
	tcase_add_loop_test(t, heap_when_asked, 0, NR_HEAP_WHEN_ASKED);
	tcase_add_loop_test(t, filters_that_kill, 0, NR_FILTERS);
	tcase_add_test(t, everything_locked);
	tcase_add_loop_test(t, busy_programs, 0, 2);
	tcase_add_test(t, exit_states);
	tcase_add_test(t, says_when_static);
	tcase_add_loop_test(t, starts_uncovered, 0, 2);
	tcase_add_test(t, off);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? 1 : 0;
}
