/* SPDX-License-Identifier: MIT */
/*
 * test_trust.c - who may be a client, who sees what, and whom a client obeys.
 *
 * Most tests become other users in a child, so they need root.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/fake_client.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"
#include "tests/lib/user.h"

#define STRANGER 47001u
#define GROUP 47011u
#define GROUP_TEXT "47011"

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
	struct puppet *p;
	long mem;

	if (not_root())
		return;
	d = daemon_start(NULL);
	p = puppet_new_uid(STRANGER);
	mem = puppet_call(p, fn_offer, 64, 1, 0);
	ck_assert_int_gt(mem, 0);
	wait_until(puppet_call(p, fn_stat) == EACCES, WAIT_MS, "the reason is known");
	ck_assert_int_eq(pages_on_frames(p->pid, mem, 64), 0);
	/* It does not knock all the time. */
	sleep(1);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_refused"), 1);
	puppet_end(p);
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

/*
 * How the way to a directory of sockets can look, and whether a client of root takes it. The way is
 * /tmp/ksmd-test.X/mid/dir, of which /tmp is everybody's and sticky. The links lie beside what they
 * stand for.
 */
static const struct place {
	uid_t daemon;
	struct {
		uid_t owner;
		mode_t mode;
		uid_t link; /* reached through a symbolic link of this user */
		bool linked;
	} mid, dir;
	bool trusted;
} places[] = {
	{ 0, { 0, 0755, 0, false }, { 0, 0755, 0, false }, true },
	{ STRANGER, { 0, 0755, 0, false }, { STRANGER, 0755, 0, false }, false },
	{ 0, { 0, 0755, 0, false }, { STRANGER, 0755, 0, false }, false },
	{ STRANGER, { 0, 0755, 0, false }, { 0, 0755, 0, false }, false },
	{ 0, { 0, 0755, 0, false }, { 0, 0777, 0, false }, false },
	{ 0, { 0, 0755, 0, false }, { 0, 0775, 0, false }, false },
	{ 0, { 0, 0755, 0, false }, { 0, 01777, 0, false }, false },
	{ 0, { 0, 0755, 0, false }, { 0, 0755, STRANGER, true }, false },
	{ 0, { 0, 0755, 0, false }, { 0, 0755, 0, true }, true },
	/* The same one directory higher. */
	{ 0, { STRANGER, 0755, 0, false }, { 0, 0755, 0, false }, false },
	{ 0, { 0, 0777, 0, false }, { 0, 0755, 0, false }, false },
	{ 0, { 0, 0775, 0, false }, { 0, 0755, 0, false }, false },
	{ 0, { 0, 01777, 0, false }, { 0, 0755, 0, false }, true },
	{ 0, { STRANGER, 01777, 0, false }, { 0, 0755, 0, false }, false },
	{ 0, { 0, 01777, 0, false }, { 0, 0755, STRANGER, true }, false },
	{ 0, { 0, 0755, STRANGER, true }, { 0, 0755, 0, false }, false },
	{ 0, { 0, 0755, 0, true }, { 0, 0755, 0, false }, true },
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

/* Make `path`, or a link to it: what the way goes through instead is left in `path`. */
static void make_step(char *path, size_t size, uid_t link_owner, bool linked)
{
	char real[96];

	if (linked) {
		snprintf(real, sizeof(real), "%s.real", path);
		ck_assert_int_eq(mkdir(real, 0755), 0);
		/* Its name alone: the target is relative. */
		ck_assert_int_eq(symlink(strrchr(real, '/') + 1, path), 0);
		ck_assert_int_eq(lchown(path, link_owner, link_owner), 0);
	} else {
		ck_assert_int_eq(mkdir(path, 0755), 0);
	}
	ck_assert_uint_lt(strlen(path), size);
}

static void set_step(const char *path, uid_t owner, mode_t mode)
{
	ck_assert_int_eq(chmod(path, mode), 0);
	ck_assert_int_eq(chown(path, owner, owner), 0);
	ck_assert_int_eq(chmod(path, mode), 0); /* chown() takes bits away */
}

static void remove_all(const char *dir)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -r %s", dir);
	ck_assert_int_eq(system(command), 0); /* NOLINT(cert-env33-c) */
}

/*
 * Seen to fail, each place that is not trusted, without trust_dir() or trust_peer(), and with a
 * trust_dir() that looks at the last directory alone.
 */
START_TEST(whom_a_client_obeys)
{
	const struct place *pl = &places[_i];
	char top[] = "/tmp/ksmd-test.XXXXXX", mid[64], dir[80], path[128];
	struct puppet *p;
	int client, control;

	if (not_root())
		return;
	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(mid, sizeof(mid), "%s/mid", top);
	make_step(mid, sizeof(mid), pl->mid.link, pl->mid.linked);
	snprintf(dir, sizeof(dir), "%s/dir", mid);
	make_step(dir, sizeof(dir), pl->dir.link, pl->dir.linked);
	client = listen_as(pl->daemon, dir, KSM_CLIENT_SOCKET, SOCK_SEQPACKET);
	control = listen_as(pl->daemon, dir, KSM_CONTROL_SOCKET, SOCK_STREAM);
	set_step(dir, pl->dir.owner, pl->dir.mode);
	set_step(mid, pl->mid.owner, pl->mid.mode);
	setenv("KSMD_RUNTIME_DIR", dir, 1);
	p = puppet_new();
	ck_assert_int_gt(puppet_call(p, fn_offer, 16, 1, 0), 0);
	ck_assert(spoken_to(client, WAIT_MS) == pl->trusted);
	if (!pl->trusted) {
		wait_until(puppet_call(p, fn_stat) == EPERM, WAIT_MS, "the reason is known");
		ck_assert_int_eq(WEXITSTATUS(run_ksmdctl()), 3);
		ck_assert(!spoken_to(control, WAIT_MS));
	}
	/* It goes by the owner of the socket. */
	snprintf(path, sizeof(path), "%s/%s", dir, KSM_CLIENT_SOCKET);
	ck_assert_int_eq(chown(path, pl->daemon, pl->daemon), 0);
	if (access(build_path("libksm-preload.so"), R_OK) == 0)
		ck_assert(ksm_run_warns() == !pl->trusted);
	puppet_kill(p);
	close(client);
	close(control);
	remove_all(top);
}
END_TEST

static const struct {
	const char *dir; /* as seen from mid/ */
	bool trusted;
} spellings[] = {
	{ "dir", true },
	{ "./dir//", true },
	{ "../mid/dir/.", true },
	{ "dir/../../mid/dir", true },
	{ "../open/../mid/dir", false },
	{ "../open/link", false },
	{ "../loop", false },
};

/* The kernel's way is looked at, however the directory is spelt. */
START_TEST(ways_to_a_directory)
{
	char top[] = "/tmp/ksmd-test.XXXXXX", path[64];
	int client, was = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
	struct puppet *p;

	if (not_root())
		return;
	ck_assert_ptr_nonnull(mkdtemp(top));
	ck_assert_int_eq(chdir(top), 0);
	ck_assert(!mkdir("mid", 0755) && !mkdir("mid/dir", 0755) && !mkdir("open", 0755));
	ck_assert_int_eq(chmod("open", 0777), 0);
	ck_assert(!symlink("../mid/dir", "open/link") && !symlink("loop", "loop"));
	snprintf(path, sizeof(path), "%s/mid/dir", top);
	client = listen_as(0, path, KSM_CLIENT_SOCKET, SOCK_SEQPACKET);
	ck_assert_int_eq(chdir("mid"), 0);
	setenv("KSMD_RUNTIME_DIR", spellings[_i].dir, 1);
	p = puppet_new();
	puppet_call(p, fn_offer, 16, 1, 0);
	if (!strcmp(spellings[_i].dir, "../loop")) /* leads nowhere */
		ck_assert_int_eq(puppet_call(p, fn_stat), 0);
	else
		ck_assert(spoken_to(client, WAIT_MS) == spellings[_i].trusted);
	puppet_kill(p);
	close(client);
	ck_assert_int_eq(fchdir(was), 0);
	close(was);
	remove_all(top);
}
END_TEST

/* In a mount namespace of its own, /dev/userfaultfd is everybody's. False: not on this machine. */
static bool open_device(const char *dir)
{
	char on[80], node[96];
	struct stat st;

	snprintf(on, sizeof(on), "%s/device", dir);
	snprintf(node, sizeof(node), "%s/node", on);
	return !stat("/dev/userfaultfd", &st) && !unshare(CLONE_NEWNS) &&
	       !mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) && !mkdir(on, 0755) &&
	       !mount("device", on, "tmpfs", 0, "mode=755") &&
	       !mknod(node, S_IFCHR | 0666, st.st_rdev) && !chmod(node, 0666) &&
	       !mount(node, "/dev/userfaultfd", NULL, MS_BIND, NULL);
}

/* A daemon of the stranger, as long as the process lives that this returns; 0: cannot be had. */
static pid_t strangers_daemon(const char *dir)
{
	static const char *const args[] = { "--allow-group", "all", NULL };
	pid_t pid = fork();
	int status;

	if (!pid) {
		if (!open_device(dir))
			_exit(1);
		become(&stranger);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		daemon_start_in(dir, args);
		raise(SIGSTOP);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	return WIFSTOPPED(status) ? pid : 0;
}

/* Its own user's processes obey it, those of root and of others do not, wherever it is. */
START_TEST(daemon_of_another_user)
{
	static const uid_t uids[] = { 0, STRANGER, STRANGER + 1 };
	char dir[] = "/tmp/ksmd-test.XXXXXX", path[64];
	struct puppet *p[3];
	long mem[3];
	pid_t pid;

	if (not_root())
		return;
	ck_assert_ptr_nonnull(mkdtemp(dir));
	set_step(dir, STRANGER, 0755);
	pid = strangers_daemon(dir);
	if (!pid) {
		puts("SKIP: no device for a daemon of another user");
		remove_all(dir);
		return;
	}
	setenv("KSMD_RUNTIME_DIR", dir, 1);
	snprintf(path, sizeof(path), "%s/%s", dir, KSM_CLIENT_SOCKET);
	ck_assert_int_eq(chmod(path, 0666), 0); /* so that anybody can fall for it */
	for (int i = 0; i < 3; i++) {
		p[i] = puppet_new_uid(uids[i]);
		mem[i] = puppet_call(p[i], fn_offer, 64, 1, 0);
		ck_assert_int_gt(mem[i], 0);
	}
	wait_until(pages_on_frames(p[1]->pid, mem[1], 64), WAIT_MS, "its own user's pages merge");
	for (int i = 0; i < 3; i += 2) {
		wait_until(puppet_call(p[i], fn_stat) == EPERM, WAIT_MS, "the reason is known");
		ck_assert_int_eq(pages_on_frames(p[i]->pid, mem[i], 64), 0);
	}
	for (int i = 0; i < 3; i++)
		puppet_kill(p[i]);
	kill(pid, SIGKILL); /* and with it the daemon */
	waitpid(pid, NULL, 0);
	remove_all(dir);
}
END_TEST

/* Seen to fail (silence) without warn_of_way(). */
START_TEST(daemon_warns_of_its_way)
{
	char top[] = "/tmp/ksmd-test.XXXXXX", dir[64], command[5200], out[1024];
	FILE *f;

	ck_assert_ptr_nonnull(mkdtemp(top));
	snprintf(dir, sizeof(dir), "%s/dir", top);
	ck_assert_int_eq(mkdir(dir, 0755), 0);
	ck_assert_int_eq(chmod(top, 0777), 0);
	snprintf(command, sizeof(command), "timeout -s TERM 2 %s --runtime-dir %s 2>&1",
		 build_path("ksmd-user"), dir);
	f = popen(command, "r"); /* NOLINT(cert-env33-c) */
	ck_assert_ptr_nonnull(f);
	out[fread(out, 1, sizeof(out) - 1, f)] = '\0';
	pclose(f);
	ck_assert_msg(strstr(out, "clients will not trust it"), "%s", out);
	remove_all(top);
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
	tcase_add_loop_test(tc, ways_to_a_directory, 0, sizeof(spellings) / sizeof(spellings[0]));
	tcase_add_test(tc, daemon_of_another_user);
	tcase_add_test(tc, daemon_warns_of_its_way);
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
