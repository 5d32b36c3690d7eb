/* SPDX-License-Identifier: MIT */
/*
 * connect.c - how a connection begins.
 *
 * HELLO hands the daemon this process's memory, WELCOME hands back what merging needs: the device
 * of userfaultfds, the arena, and a sentinel. A daemon that is stopped in the middle of that is
 * left after a while and tried again; one that this process must not obey (trust.h) is told nothing
 * at all; requests of program threads are served meanwhile.
 */
#include "client/connect.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "client/as_domain.h"
#include "client/aside.h"
#include "client/io.h"
#include "client/mailbox.h"
#include "client/maps.h"
#include "client/sysc.h"
#include "client/tell.h"
#include "client/uffd.h"
#include "client/wait.h"
#include "client/dumps.h"
#include "wire/kernel_abi.h"
#include "wire/runtime_dir.h"
#include "wire/trust.h"

#define HANDSHAKE_MS 10000
#define ADMIT_MS 10
#define ADMIT_TRIES 100
/* The kernel's default of vm.max_map_count: Documentation/admin-guide/sysctl/vm.rst. */
#define MAX_MAP_COUNT_DEFAULT 65530u

void connect_find_daemon(struct heritage *h, const char *dir)
{
	char *path = h->sock_path;

	if (path[0] || h->or_root)
		return;
	if (ksm_runtime_path(path, sizeof(h->sock_path), dir, KSM_CLIENT_SOCKET) < 0)
		path[0] = '\0';
	h->or_root = ksm_runtime_or_root(dir);
}

static bool exists(const char *path)
{
	return !sysc3(SYS_faccessat, AT_FDCWD, path, F_OK);
}

bool connect_may_be_there(const struct heritage *h)
{
	return (h->sock_path[0] && exists(h->sock_path)) ||
	       (h->or_root && exists(KSM_ROOT_DIR "/" KSM_CLIENT_SOCKET));
}

static void reopen(int *fd, const char *path)
{
	long r = sysc4(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);

	if (r < 0)
		return;
	kit_close(fd);
	*fd = (int)r;
}

bool connect_open_self(struct kit *k)
{
	reopen(&k->mem, "/proc/self/mem");
	reopen(&k->pagemap, "/proc/self/pagemap");
	reopen(&k->maps, "/proc/self/maps");
	return k->mem >= 0 && k->pagemap >= 0 && k->maps >= 0;
}

/* Returns 0, -EPERM: it is nobody whom this process obeys, or -ENOENT: nobody listens there. */
static int connect_to(struct link *l, const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	long fd = sysc3(SYS_socket, AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool there;

	if (fd < 0)
		return -ENOENT;
	strcpy(sun.sun_path, path);
	link_begin(l, (int)fd);
	there = sysc3(SYS_connect, fd, &sun, sizeof(sun)) == 0;
	if (there && trust_dir(path) && trust_peer((int)fd))
		return 0;
	link_end(l);
	return there ? -EPERM : -ENOENT;
}

bool connect_daemon(struct link *l, const struct heritage *h)
{
	char domain[KSM_LABEL_SIZE];
	int err = -ENOENT;

	if (!h->sock_path[0] && !h->or_root)
		return false;
	as_domain_get(domain);
	if (!ksm_label_field_valid(domain)) {
		atomic_store(&mailbox.refused, EINVAL);
		return false;
	}
	if (h->sock_path[0])
		err = connect_to(l, h->sock_path);
	if (err == -ENOENT && h->or_root)
		err = connect_to(l, KSM_ROOT_DIR "/" KSM_CLIENT_SOCKET);
	if (err)
		atomic_store(&mailbox.refused, err == -EPERM ? EPERM : 0);
	return !err;
}

static uint32_t max_map_count(void)
{
	char buf[32] = "";
	uint32_t v = 0;

	io_slurp("/proc/sys/vm/max_map_count", buf, sizeof(buf));
	for (const char *p = buf; *p >= '0' && *p <= '9'; p++)
		v = v * 10 + (uint32_t)(*p - '0');
	return v ? v : MAX_MAP_COUNT_DEFAULT;
}

/* Returns 0 or -errno. */
static long send_hello(const struct link *l)
{
	struct ksm_msg_hello m = { { KSM_MSG_HELLO, sizeof(m) }, KSM_WIRE_VERSION, 0, 0, 0, "" };
	int fd[3];
	union {
		struct cmsghdr h;
		char space[CMSG_SPACE(sizeof(fd))];
	} ctl = { .h = { CMSG_LEN(sizeof(fd)), SOL_SOCKET, SCM_RIGHTS } };
	struct iovec iov = { &m, sizeof(m) };
	struct msghdr mh = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &ctl, .msg_controllen = sizeof(ctl)
	};
	long r;

	m.nr_vmas = maps_count();
	m.max_map_count = max_map_count();
	as_agent_lock();
	m.flags = as.merge_any ? KSM_INFO_MERGE_ANY : 0;
	memcpy(m.domain, as.domain, sizeof(m.domain));
	as_unlock();
	fd[0] = (int)sysc2(SYS_pidfd_open, sysc0(SYS_getpid), 0);
	fd[1] = l->kit->pagemap;
	fd[2] = l->kit->mem;
	if (fd[0] < 0)
		return fd[0];
	memcpy(CMSG_DATA(&ctl.h), fd, sizeof(fd));
	r = sysc3(SYS_sendmsg, l->sock, &mh, MSG_NOSIGNAL);
	sysc1(SYS_close, fd[0]);
	return r == sizeof(m) ? 0 : r < 0 ? r : -EMSGSIZE;
}

/* Memory that a child does not inherit. */
static uint8_t *own_memory(size_t len)
{
	uint8_t *p = kit_map(len);

	if (p)
		sysc3(SYS_madvise, p, len, MADV_DONTFORK);
	return p;
}

static bool make_buffers(struct kit *k)
{
	if (!k->buf)
		k->buf = own_memory(2 * KIT_ORDER_BYTES);
	if (!k->staging) {
		k->staging = own_memory(KIT_ORDER_BYTES);
		if (k->staging) {
			sysc3(SYS_madvise, k->staging, KIT_ORDER_BYTES, MADV_NOHUGEPAGE);
			sysc3(SYS_mprotect, k->staging, KIT_ORDER_BYTES, PROT_NONE);
		}
	}
	return k->buf && k->staging &&
	       uffd_register(k->uffd_sync, (uintptr_t)k->staging,
			     (uintptr_t)k->staging + KIT_ORDER_BYTES,
			     UFFDIO_REGISTER_MODE_MISSING) == 0;
}

/* Takes the arena's descriptor from f on success; the caller closes the rest. */
static bool take_welcome(struct kit *k, struct heritage *h, const struct ksm_msg_welcome *m,
			 struct link_fds *f)
{
	struct stat st;
	uint64_t file;

	if (f->nr != 3 || m->version != KSM_WIRE_VERSION || uffd_open(k, f->fd[0]) < 0 ||
	    !make_buffers(k) || sysc2(SYS_fstat, f->fd[1], &st) < 0 ||
	    !sentinel_begin(&h->sentinels, f->fd[2]))
		return false;
	kit_close(&k->arena);
	k->arena = f->fd[1];
	f->fd[1] = f->fd[2];
	f->nr = 2;
	file = maps_file_id(major(st.st_dev), minor(st.st_dev), st.st_ino);
	past_begin(&h->past, k->arena_file, file);
	k->arena_file = file;
	k->arena_pages = m->arena_pages;
	aside_look(k);
	dumps_look();
	return true;
}

/* True: it is the daemon's welcome, and taken. A daemon that refuses says why. */
static bool welcomed(struct link *l, struct heritage *h, const union ksm_msg *m, struct link_fds *f)
{
	if (m->hdr.type == KSM_MSG_ERROR)
		atomic_store(&mailbox.refused, (uint32_t)m->error.error);
	return m->hdr.type == KSM_MSG_WELCOME && take_welcome(l->kit, h, &m->welcome, f);
}

bool connect_handshake(struct link *l, struct heritage *h)
{
	struct ksm_msg_ready ready = { { KSM_MSG_READY, sizeof(ready) } };
	uint64_t until = kit_now_ms() + HANDSHAKE_MS;
	union ksm_msg m;
	struct link_fds f;
	long n;
	bool ok;

	n = send_hello(l);
	/* EPERM: it takes descriptors only from those whom it has let in, and is about to (accept.c
	 * of the daemon), or never does. */
	for (int i = 0; n == -EPERM && i < ADMIT_TRIES && link_same_identity(l); i++) {
		wait_for(l, POLLIN, ADMIT_MS);
		n = send_hello(l);
	}
	/* A daemon that refuses this user may have hung up by now; its reason can still be read. */
	if (n && n != -EPIPE && n != -ECONNRESET)
		return false;
	do {
		/* Pokes end the sleep, too. What they announce is declared with everything else. */
		wait_for(l, POLLIN, HANDSHAKE_MS);
		n = link_receive(l, &m, &f);
	} while ((n == -EAGAIN || n == -EINTR) && kit_now_ms() < until && link_same_identity(l) &&
		 !mailbox_ending());
	ok = n > 0 && welcomed(l, h, &m, &f);
	link_close_fds(&f);
	ok = ok && tell_message(l, &ready, sizeof(ready));
	if (ok)
		atomic_store(&mailbox.refused, 0);
	return ok;
}
