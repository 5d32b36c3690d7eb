/* SPDX-License-Identifier: MIT */
/*
 * test_trust.c - who may be a client, who sees what, and whom a client obeys.
 *
 * Most tests become other users in a child, so they need root. The users and groups have no
 * entries in /etc.
 */
#include <check.h>
#include <errno.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/fake_client.h"
#include "tests/lib/harness.h"
#include "tests/lib/peer.h"

#define STRANGER 47001u
#define GROUP 47011u
#define GROUP_TEXT "47011"

static bool not_root(void)
{
	if (geteuid() == 0)
		return false;
	puts("SKIP: needs root to become another user");
	return true;
}

/* ---- users without privileges ---- */

struct user {
	uid_t uid;
	gid_t gid;
	size_t nr_groups; /* supplementary; the last is `last`, those before it are of no use */
	gid_t last;
};

static void become(const struct user *u)
{
	gid_t groups[200];

	for (size_t i = 0; i < u->nr_groups; i++)
		groups[i] = 48000u + (gid_t)i;
	if (u->nr_groups)
		groups[u->nr_groups - 1] = u->last;
	if (setgroups(u->nr_groups, groups) || setgid(u->gid) || setuid(u->uid))
		harness_die("cannot become user %u: %s", u->uid, strerror(errno));
}

/* Run fn(d) as this user in a child; the test fails if the child does. */
static void as_user(const struct user *u, void (*fn)(struct daemon *d), struct daemon *d)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		become(u);
		fn(d);
		fflush(NULL);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(status == 0, "as user %u: status %#x", u->uid, (unsigned int)status);
}

static const struct user stranger = { STRANGER, STRANGER, 0, 0 };

/* ---- who may be a client ---- */

static void expect_refusal(struct daemon *d)
{
	int sock = raw_connect(d);

	expect_error(sock, EACCES);
	close(sock);
}

static void expect_welcome(struct daemon *d)
{
	int sock = raw_connect(d);
	struct ksm_msg_hello msg = { 0 };

	/* A user that is let in is told what is wrong with this. */
	send_msg(sock, &msg, KSM_MSG_HELLO);
	expect_error(sock, EPROTONOSUPPORT);
	close(sock);
}

/* Seen to fail (the stranger is answered as a client) without the question in admit(). */
START_TEST(strangers_get_no_userfaultfd)
{
	static const char *const args[] = { "--allow-group", GROUP_TEXT, NULL };
	static const struct user many = { STRANGER, STRANGER, 150, STRANGER };
	struct daemon *d;
	int nr_fds;

	if (not_root())
		return;
	d = daemon_start(_i ? args : NULL);
	nr_fds = harness_nr_fds(d->pid);
	as_user(&stranger, expect_refusal, d);
	as_user(&many, expect_refusal, d);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_refused"), 2);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/protocol_errors"), 0);
	expect_welcome(d);
	expect_clean(d, nr_fds);
	daemon_stop(d);
}
END_TEST

static const struct user members[] = {
	{ STRANGER, GROUP, 0, 0 },
	{ STRANGER, STRANGER, 1, GROUP },
	{ STRANGER, STRANGER, 150, GROUP }, /* more than the daemon looks at in one go */
};

/* Seen to fail for each member when peer_may() leaves out its kind of group. */
START_TEST(members_are_let_in)
{
	static const char *const args[] = { "--allow-group", "root", "--allow-group", GROUP_TEXT,
					    NULL };
	struct daemon *d;

	if (not_root())
		return;
	d = daemon_start(args);
	as_user(&members[_i], expect_welcome, d);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_refused"), 0);
	daemon_stop(d);
}
END_TEST

START_TEST(all_are_let_in)
{
	static const char *const args[] = { "--allow-group", "all", NULL };
	struct daemon *d;

	if (not_root())
		return;
	d = daemon_start(args);
	as_user(&stranger, expect_welcome, d);
	daemon_stop(d);
}
END_TEST

static long fn_stat(const long a[6])
{
	struct ksm_stat st = { .size = sizeof(st) };

	(void)a;
	if (ksm_stat(&st))
		return -errno;
	return st.connected ? -EISCONN : (long)st.refused;
}

/* The program goes on without merging, and can ask why. */
START_TEST(refused_program_runs_unmerged)
{
	struct daemon *d;
	struct peer *p;
	long mem;

	if (not_root())
		return;
	d = daemon_start(NULL);
	p = peer_new_uid(STRANGER);
	mem = peer_call(p, fn_offer, 64, 1, 0);
	ck_assert_int_gt(mem, 0);
	wait_until(peer_call(p, fn_stat) == EACCES, WAIT_MS, "the reason is known");
	ck_assert_int_eq(pages_on_frames(p->pid, mem, 64), 0);
	/* It does not knock all the time. */
	sleep(1);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_refused"), 1);
	peer_end(p);
	daemon_stop(d);
}
END_TEST

static const char *const bad_groups[] = { "", "no-such-group", "65534", "-1", "4294967295", "1x" };

START_TEST(groups_that_are_none)
{
	const char *const args[] = { "--allow-group", bad_groups[_i], NULL };
	char err[1024];

	ck_assert_int_eq(daemon_expect_exit("/nonexistent", args, err, sizeof(err)), 2);
	ck_assert_msg(strstr(err, "--allow-group"), "%s", err);
}
END_TEST

/* ---- whom a client obeys ---- */

/* How a directory of sockets can look, and whether a client of root takes it. */
static const struct place {
	uid_t daemon, owner;
	mode_t mode;
	uid_t link; /* reached through a symbolic link of this user; 0: directly */
	bool trusted;
} places[] = {
	{ 0, 0, 0755, 0, true },         { STRANGER, STRANGER, 0755, 0, false },
	{ 0, STRANGER, 0755, 0, false }, { STRANGER, 0, 0755, 0, false },
	{ 0, 0, 0777, 0, false },        { 0, 0, 0775, 0, false },
	{ 0, 0, 0755, STRANGER, false },
};

/* A listening socket of this user in dir, with what a client would see. */
static int listen_as(uid_t uid, const char *dir, const char *name, int type)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(sun.sun_path, sizeof(sun.sun_path), "%s/%s", dir, name);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sun, sizeof(sun)), 0);
	/* The identity that the kernel shows is that of the moment of listen(2). */
	ck_assert_int_eq(seteuid(uid), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	ck_assert_int_eq(seteuid(0), 0);
	return fd;
}

/* Has anything been said to the daemon by the next who connects? */
static bool spoken_to(int listening, int timeout_ms)
{
	struct pollfd p = { .fd = listening, .events = POLLIN };
	char c;
	int fd;

	ck_assert_int_gt(poll(&p, 1, timeout_ms), 0);
	fd = accept(listening, NULL, NULL);
	ck_assert_int_ge(fd, 0);
	p.fd = fd;
	ck_assert_int_gt(poll(&p, 1, timeout_ms), 0);
	return recv(fd, &c, 1, 0) > 0;
}

static bool ksm_run_warns(void)
{
	char command[5000];

	snprintf(command, sizeof(command), "%s true </dev/null 2>&1 | grep -q 'nothing is offered'",
		 build_path("ksm-run"));
	return system(command) == 0;
}

static int run_ksmdctl(void)
{
	char command[5000];

	snprintf(command, sizeof(command), "%s get daemon/pid </dev/null >/dev/null 2>&1",
		 build_path("ksmdctl"));
	return system(command);
}

/* Seen to fail, each place that is not trusted, without trust_dir() or trust_peer(). */
START_TEST(whom_a_client_obeys)
{
	const struct place *pl = &places[_i];
	char dir[] = "/tmp/ksmd-test.XXXXXX", link[64], path[64];
	const char *at = dir;
	struct peer *p;
	int client, control;

	if (not_root())
		return;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	client = listen_as(pl->daemon, dir, KSM_CLIENT_SOCKET, SOCK_SEQPACKET);
	control = listen_as(pl->daemon, dir, KSM_CONTROL_SOCKET, SOCK_STREAM);
	ck_assert_int_eq(chmod(dir, pl->mode), 0);
	ck_assert_int_eq(chown(dir, pl->owner, pl->owner), 0);
	if (pl->link) {
		snprintf(link, sizeof(link), "%s.link", dir);
		ck_assert_int_eq(symlink(dir, link), 0);
		ck_assert_int_eq(lchown(link, pl->link, pl->link), 0);
		at = link;
	}
	setenv("KSMD_RUNTIME_DIR", at, 1);
	p = peer_new();
	ck_assert_int_gt(peer_call(p, fn_offer, 16, 1, 0), 0);
	ck_assert(spoken_to(client, WAIT_MS) == pl->trusted);
	if (!pl->trusted) {
		wait_until(peer_call(p, fn_stat) == EPERM, WAIT_MS, "the reason is known");
		ck_assert_int_eq(WEXITSTATUS(run_ksmdctl()), 3);
		ck_assert(!spoken_to(control, WAIT_MS));
	}
	/* It goes by the owner of the socket. */
	snprintf(path, sizeof(path), "%s/%s", dir, KSM_CLIENT_SOCKET);
	ck_assert_int_eq(chown(path, pl->daemon, pl->daemon), 0);
	if (access(build_path("libksm-preload.so"), R_OK) == 0)
		ck_assert(ksm_run_warns() == !pl->trusted);
	peer_kill(p);
	close(client);
	close(control);
	if (pl->link)
		unlink(link);
	unlink(path);
	snprintf(path, sizeof(path), "%s/%s", dir, KSM_CONTROL_SOCKET);
	unlink(path);
	rmdir(dir);
}
END_TEST

/* Seen to fail (the daemon starts) without the look at the mode. */
START_TEST(daemon_wants_a_directory_of_its_own)
{
	char dir[] = "/tmp/ksmd-test.XXXXXX", err[1024];

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chmod(dir, _i ? 0777 : 0775), 0);
	ck_assert_int_eq(daemon_expect_exit(dir, NULL, err, sizeof(err)), 1);
	ck_assert_msg(strstr(err, "others can write"), "%s", err);
	rmdir(dir);
}
END_TEST

static Suite *trust_suite(void)
{
	Suite *s = suite_create("trust");
	TCase *tc = tcase_create("trust");

	tcase_set_timeout(tc, 120);
	tcase_add_loop_test(tc, strangers_get_no_userfaultfd, 0, 2);
	tcase_add_loop_test(tc, members_are_let_in, 0, 3);
	tcase_add_test(tc, all_are_let_in);
	tcase_add_test(tc, refused_program_runs_unmerged);
	tcase_add_loop_test(tc, groups_that_are_none, 0, 6);
	tcase_add_loop_test(tc, whom_a_client_obeys, 0, sizeof(places) / sizeof(places[0]));
	tcase_add_loop_test(tc, daemon_wants_a_directory_of_its_own, 0, 2);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(trust_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
