/* SPDX-License-Identifier: MIT */
/*
 * vault.h - files that clients may map and that only the daemon can write.
 *
 * A vault is a tmpfs of the daemon's own that is attached nowhere. The daemon keeps two
 * descriptors of its root: one through the mount that can be written, one through a read-only
 * clone of that mount. Clients receive descriptors that were opened through the clone. The kernel
 * then refuses chmod, truncation, reopening for writing and shared writable mappings with EROFS,
 * whatever user and capabilities the client has.
 *
 * Nobody can turn the clone writable again, because both mount descriptors are closed: a mount
 * attribute can be changed only through such a descriptor or through a path, and there is none.
 * Nobody can fetch the writable descriptors, because daemon and helper are not dumpable.
 *
 * Where the kernel refuses all ways to such a mount, the vault hands out memfds of mode 0400
 * (vault_is_weak()). These protect frames from other users, but not from a client of the daemon's
 * own user, who may chmod the file and open it again.
 */
#ifndef KSMD_VAULT_H
#define KSMD_VAULT_H

#include <stdbool.h>
#include <stdint.h>

struct vault {
	int write_dir; /* root of the tmpfs; -1: there is none, files are memfds */
	int read_dir;  /* the same root through the read-only clone, or -1 */
};

/* A file of a vault. Both descriptors stay with the daemon. */
enum vault_use {
	VAULT_WRITTEN, /* the daemon writes to it and punches holes */
	VAULT_EMPTY,   /* nobody ever writes to it, the daemon included */
};

struct vault_file {
	int fd;    /* read and write; -1: not open */
	int proto; /* read-only, what vault_file_share() reopens; fd itself in a weak vault */
};

/*
 * Makes a vault whose files hold at most `bytes` together. Call it before the process has threads:
 * it forks a helper, which may have to live in a user namespace of its own. Returns 0, or a
 * negative errno that says why the vault is weak; it can be used in either case.
 */
int vault_open(struct vault *v, uint64_t bytes);
void vault_close(struct vault *v); /* files that are still open stay usable */

static inline bool vault_is_weak(const struct vault *v)
{
	return v->write_dir < 0;
}

/*
 * Makes a sparse file of `size` bytes. `name` is what /proc/PID/maps shows; it need not be unique.
 * One thread at a time. Returns 0 or a negative errno of open(2), ftruncate(2) or fcntl(2).
 */
int vault_file_new(const struct vault *v, const char *name, uint64_t size, enum vault_use use,
		   struct vault_file *f);
/* A new read-only open file description for a client, owned by the caller; or -errno. */
int vault_file_share(const struct vault_file *f);
void vault_file_close(struct vault_file *f);

/* Descriptors that an open file takes. */
static inline unsigned int vault_file_fds(const struct vault_file *f)
{
	return f->proto == f->fd ? 1 : 2;
}

#endif
