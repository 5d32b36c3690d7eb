/* SPDX-License-Identifier: MIT */
/*
 * fake_client.h - a client that speaks the wire protocol itself, without the library.
 *
 * A test says through it what the library never would. Functions that expect something fail the
 * test when it does not come within WAIT_MS.
 */
#ifndef KSM_TEST_FAKE_CLIENT_H
#define KSM_TEST_FAKE_CLIENT_H

#include <stdint.h>
#include <sys/types.h>

#include "tests/lib/harness.h"
#include "wire/wire.h"

#define NR_FDS 3
#define END KSM_ADDR_END

struct fake {
	uint64_t seq;
	struct ksm_msg_welcome welcome;
	int sock;
	int fds[NR_FDS]; /* from WELCOME */
};

int raw_connect(struct daemon *d);
ssize_t send_fds(int sock, const void *msg, size_t len, const int *fds, int nr);
void send_msg(int sock, void *msg, uint32_t type);
/* Next message and descriptors (fds may be NULL). Returns its length; 0 at the end. */
ssize_t recv_msg(int sock, union ksm_msg *msg, int *fds);
/* The daemon must say that it ends the connection, and why; and end it. */
void expect_error(int sock, int error);
void expect_end(int sock);
/* The three descriptors that go with a HELLO, of this process. */
void own_fds(int fds[NR_FDS]);
void close_fds(const int fds[NR_FDS]);
struct ksm_msg_hello hello(void);
/* Connect and be welcomed; the second says READY as well. fake_close() ends either. */
void fake_hello(struct daemon *d, struct fake *f);
void fake_ready(struct daemon *d, struct fake *f);
void fake_close(struct fake *f);
void send_range(struct fake *f, uint32_t type, uint64_t start, uint64_t end);
/* The client is served: it asks and is answered. */
void expect_served(struct fake *f);
/* Nothing is left of those who were here. */
void expect_clean(struct daemon *d, int nr_fds);

#endif
