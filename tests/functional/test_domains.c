/* SPDX-License-Identifier: MIT */
/*
 * test_domains.c - who shares with whom: users, namespaces, cgroups, and the operator's names.
 *
 * Whoever is in a domain can read its frames, so each test looks from outside (the kernel's frame
 * numbers) at who has which. Contents are equal everywhere: whatever is not shared is kept apart.
 * All of it needs root, to become other users and to make namespaces.
 */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ksm.h"
#include "tests/lib/fake_client.h"
#include "tests/lib/harness.h"
#include "tests/lib/puppet.h"

#define NR 64
#define USER 47101u
#define OTHER 47102u
#define CONTAINER (CLONE_NEWPID | CLONE_NEWNS)
#define UNPRIVILEGED_CONTAINER (CONTAINER | CLONE_NEWUSER)
#define CGROUPS "/sys/fs/cgroup"

static bool skipped(void)
{
	if (geteuid()) {
		puts("SKIP: needs root to become other users and make namespaces");
		return true;
	}
	return !pfns_visible();
}

/* ---- a daemon with the operator's file ---- */

static char file_dir[64], file_path[96];

static void write_file(const char *text)
{
	FILE *f = fopen(file_path, "we");

	ck_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

/* `text`: the file of named domains; NULL: there is none. */
static struct daemon *start(const char *mode, const char *text)
{
	const char *const args[] = { "--domain", mode, "--allow-group", "all", "--domains-file",
				     file_path,  NULL };
	struct daemon *d;

	strcpy(file_dir, "/tmp/ksmd-test.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(file_dir));
	snprintf(file_path, sizeof(file_path), "%s/domains", file_dir);
	if (text)
		write_file(text);
	d = daemon_start(args);
	daemon_hasten(d);
	return d;
}

static void stop(struct daemon *d)
{
	daemon_stop(d);
	unlink(file_path);
	rmdir(file_dir);
}

/* ---- members ---- */

static long fn_join(const long a[6])
{
	char name[2 * sizeof(long) * 6 + 1];

	/* The words of the call are the text. */
	memcpy(name, a, 6 * sizeof(long));
	name[6 * sizeof(long)] = '\0';
	return ksm_join(name) ? -errno : 0;
}

static long join(struct puppet *p, const char *name)
{
	long a[6] = { 0 };

	strncpy((char *)a, name, sizeof(a) - 1);
	return puppet_call_(p, fn_join, a);
}

static long fn_refused(const long a[6])
{
	struct ksm_stat st = { .size = sizeof(st) };

	(void)a;
	if (ksm_stat(&st))
		return -errno;
	return st.connected ? -EISCONN : (long)st.refused;
}

struct member {
	struct puppet *p;
	long mem;
};

/* Offers what every member offers. NULL: asks for nothing. */
static struct member member(struct puppet *p, const char *domain)
{
	struct member m = { .p = p };

	if (domain)
		ck_assert_int_eq(join(p, domain), 0);
	m.mem = puppet_call(p, fn_offer, NR, 1, 1);
	ck_assert_int_gt(m.mem, 0);
	return m;
}

static void name_of(struct daemon *d, struct member m, char *name, size_t size)
{
	char path[64];

	wait_until(ctl_client_u64(d, m.p->pid, "domain") > 0, WAIT_MS, "it is a client");
	snprintf(path, sizeof(path), "domain/%u/name",
		 (unsigned int)ctl_client_u64(d, m.p->pid, "domain"));
	ck_assert_int_gt(ctl_get(d, path, name, size), 0);
}

static void expect_name(struct daemon *d, struct member m, const char *want)
{
	char name[700];

	name_of(d, m, name, sizeof(name));
	ck_assert_str_eq(name, want);
}

static void expect_shared(struct member a, struct member b)
{
	wait_until(pages_sharing_frames(a.p, a.mem, b.p, b.mem, NR) == NR, WAIT_MS, "merged");
}

/* None of them shares with another, after the daemon has looked at all for some passes. */
static void expect_apart(struct daemon *d, const struct member *m, int nr)
{
	for (int i = 0; i < nr; i++)
		wait_until(puppet_call(m[i].p, fn_connected) == 1, WAIT_MS, "it is served");
	wait_full_scans(d, 4, WAIT_MS);
	for (int i = 0; i < nr; i++)
		for (int k = 0; k < i; k++)
			ck_assert_int_eq(
				pages_sharing_frames(m[i].p, m[i].mem, m[k].p, m[k].mem, NR), 0);
	for (int i = 0; i < nr; i++)
		ck_assert_int_eq(puppet_call(m[i].p, fn_check, m[i].mem, NR, 1, 1), 0);
}

static void end_all(const struct member *m, int nr)
{
	for (int i = 0; i < nr; i++)
		puppet_kill(m[i].p);
}

/* ---- namespaces ---- */

/*
 * Seen to fail (all on the same frames) with the user alone as the key. Each container has root,
 * who is user 0 outside, too.
 */
START_TEST(containers_are_apart)
{
	struct daemon *d;
	struct member m[6];

	if (skipped())
		return;
	d = start("uid", NULL);
	m[0] = member(puppet_new(), NULL);
	m[1] = member(puppet_new_in(CONTAINER, 0), NULL);
	m[2] = member(puppet_new_in(CONTAINER, 0), NULL);
	m[3] = member(puppet_new_in(UNPRIVILEGED_CONTAINER, 0), NULL);
	m[4] = member(puppet_new_in(CLONE_NEWUSER, 0), NULL);
	m[5] = member(puppet_new(), NULL);
	expect_shared(m[0], m[5]);
	expect_apart(d, m, 5);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_alone"), 0);
	expect_name(d, m[0], "user 0");
	end_all(m, 6);
	stop(d);
}
END_TEST

/* A process and its children are in one container, and share. */
START_TEST(one_container_is_one)
{
	struct puppet *p, *child;
	struct daemon *d;
	struct member m[2];

	if (skipped())
		return;
	d = start(_i ? "namespace" : "uid", NULL);
	p = puppet_new_in(CONTAINER, 0);
	child = puppet_fork(p); /* now: pages that a fork shares are not merged */
	m[0] = member(p, NULL);
	m[1] = member(child, NULL);
	expect_shared(m[0], m[1]);
	puppet_kill(child);
	puppet_kill(p);
	stop(d);
}
END_TEST

static long fn_become(const long a[6])
{
	if (setgid((gid_t)a[0]) || setuid((uid_t)a[0]))
		return -errno;
	/* As after an execve(): otherwise /proc/self belongs to root. */
	return prctl(PR_SET_DUMPABLE, 1) ? -errno : 0;
}

/* --domain namespace: a container is one whatever its users; outside users count. */
START_TEST(users_of_a_container)
{
	struct daemon *d;
	struct member m[5];
	char name[2][700];
	struct puppet *p, *child;

	if (skipped())
		return;
	d = start("namespace", NULL);
	m[0] = member(puppet_new(), NULL);
	m[1] = member(puppet_new_uid(USER), NULL);
	p = puppet_new_in(CONTAINER, 0);
	child = puppet_fork(p);
	m[2] = member(p, NULL);
	m[3] = member(puppet_new_in(CONTAINER, 0), NULL);
	ck_assert_int_eq(puppet_call(child, fn_become, USER), 0);
	m[4] = member(child, NULL);
	expect_shared(m[2], m[4]);
	expect_apart(d, m, 4);
	name_of(d, m[2], name[0], sizeof(name[0]));
	name_of(d, m[4], name[1], sizeof(name[1]));
	ck_assert_str_eq(name[0], name[1]);
	ck_assert_int_eq(strncmp(name[0], "container user:[", 16), 0);
	expect_name(d, m[1], "user 47101");
	puppet_kill(child);
	end_all(m, 4);
	stop(d);
}
END_TEST

/*
 * A namespace's number goes to the next when it ends. A domain keeps it, so that no other container
 * comes into a domain whose frames are not gone yet. Seen to fail without keep_namespaces().
 */
START_TEST(numbers_of_namespaces_are_not_used_again)
{
	struct daemon *d;
	uint64_t id = 0;

	if (skipped())
		return;
	d = start("namespace", NULL);
	for (int i = 0; i < 20; i++) {
		struct puppet *p = puppet_new_in(CONTAINER, 0);
		struct member m = member(p, NULL);
		uint64_t was = id;

		wait_until((id = ctl_client_u64(d, p->pid, "domain")) > 0, WAIT_MS, "a client");
		ck_assert_uint_gt(id, was);
		wait_until(puppet_call(p, fn_connected) == 1, WAIT_MS, "it is served");
		(void)m;
		puppet_kill(p);
	}
	stop(d);
}
END_TEST

/* Seen to fail without identity_is_somebody(): user 65534 may be anybody whom nothing maps. */
START_TEST(nobody_is_alone)
{
	static const char *const modes[] = { "uid", "cgroup", "namespace" };
	struct daemon *d;
	struct member m[3];

	if (skipped())
		return;
	d = start(modes[_i], "any user:*\n");
	m[0] = member(puppet_new_uid(65534), NULL);
	m[1] = member(puppet_new_uid(65534), NULL);
	m[2] = member(puppet_new_uid(65534), "any");
	wait_until(puppet_call(m[2].p, fn_refused) == EDOM, WAIT_MS, "nobody is no user");
	puppet_kill(m[2].p);
	expect_apart(d, m, 2);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_alone"), 2);
	end_all(m, 2);
	stop(d);
}
END_TEST

/* ---- cgroups ---- */

static const char *const cgroup_roots[] = { CGROUPS, CGROUPS "/unified" };

/* The path of a new cgroup in the file system, or false. */
static bool make_cgroup(const char *name, char *path, size_t size)
{
	struct stat st;

	for (int i = 0; i < 2; i++) {
		snprintf(path, size, "%s/cgroup.controllers", cgroup_roots[i]);
		if (stat(path, &st))
			continue;
		snprintf(path, size, "%s/%s.%d", cgroup_roots[i], name, (int)getpid());
		if (!mkdir(path, 0755))
			return true;
	}
	puts("SKIP: no cgroup of version 2 that a test may make groups in");
	return false;
}

static struct puppet *enter_cgroup(struct puppet *p, const char *path)
{
	char procs[300];
	FILE *f;

	snprintf(procs, sizeof(procs), "%s/cgroup.procs", path);
	f = fopen(procs, "we");
	ck_assert(f && fprintf(f, "%d\n", (int)p->pid) > 0 && !fclose(f));
	return p;
}

static void remove_cgroup(const char *path)
{
	/* Its processes are dead, and the kernel may not have taken them out yet. */
	wait_until(!rmdir(path) || errno != EBUSY, WAIT_MS, "an empty cgroup");
}

/* By the mode, and by a name that holds for all in a cgroup. */
START_TEST(cgroups)
{
	char one[256], two[256], rule[400];
	struct member m[6];
	struct daemon *d;

	if (skipped() || !make_cgroup("ksmd-test-one", one, sizeof(one)) ||
	    !make_cgroup("ksmd-test-two", two, sizeof(two)))
		return;
	snprintf(rule, sizeof(rule), "named cgroup:/ksmd-test-*%d\nnamed cgroup:/else user:*\n",
		 (int)getpid());
	d = start("cgroup", rule);
	m[0] = member(enter_cgroup(puppet_new(), one), NULL);
	m[1] = member(enter_cgroup(puppet_new(), two), NULL);
	m[2] = member(enter_cgroup(puppet_new_uid(USER), one), NULL);
	m[3] = member(enter_cgroup(puppet_new_uid(USER), two), "named");
	m[4] = member(enter_cgroup(puppet_new_in(CONTAINER, 0), one), "named");
	m[5] = member(enter_cgroup(puppet_new(), one), NULL);
	expect_shared(m[0], m[5]);
	expect_shared(m[3], m[4]);
	expect_apart(d, m, 4);
	puppet_kill(m[5].p);
	m[5] = member(puppet_new(), "named");
	wait_until(puppet_call(m[5].p, fn_refused) == EDOM, WAIT_MS, "not in that cgroup");
	end_all(m, 6);
	remove_cgroup(one);
	remove_cgroup(two);
	stop(d);
}
END_TEST

/* ---- named domains ---- */

/* Seen to fail (all share) with one key for all names in domain_key_named(). */
START_TEST(names_join_and_part)
{
	struct member m[5];
	struct daemon *d;

	if (skipped())
		return;
	d = start(_i ? "process" : "uid", "# two teams\n"
					  "red  user:47101\n"
					  "red  user:0\t# root, too\n"
					  "blue group:0 user:*\n");
	m[0] = member(puppet_new(), "red");
	m[1] = member(puppet_new(), "blue");
	m[2] = member(puppet_new(), NULL);
	m[3] = member(puppet_new_uid(USER), "red");
	m[4] = member(puppet_new(), "blue");
	expect_shared(m[0], m[3]);
	expect_shared(m[1], m[4]);
	expect_apart(d, m, 3);
	expect_name(d, m[0], "named red");
	expect_name(d, m[3], "named red");
	expect_name(d, m[4], "named blue");
	/* No user pays for what the operator made. */
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/domains_refused"), 0);
	end_all(m, 5);
	stop(d);
}
END_TEST

static const struct refusal {
	const char *rules;
	uid_t uid;
	int namespaces;
} refusals[] = {
	{ NULL, 0, 0 },
	{ "", 0, 0 },
	{ "other user:0\n", 0, 0 },
	{ "red user:0\n", USER, 0 },
	{ "red user:0\n", 0, CONTAINER },
	{ "red user:0\n", 0, CLONE_NEWUSER },
	{ "red user:*\n", 0, UNPRIVILEGED_CONTAINER },
	{ "red group:0\n", USER, 0 },
	{ "red user:0 group:47101\n", 0, 0 },
	{ "red user:0 cgroup:/no/such/group\n", 0, 0 },
	{ "red\n", 0, 0 },
	{ "red user:65534 user:0\n", 0, 0 },
	{ "red user:0 any:thing\n", 0, 0 },
	{ "red, user:0\n", 0, 0 },
};

/* Seen to fail (merged) for each when labels_allow() says yes, or holds() lacks a condition. */
START_TEST(refused_program_runs_unmerged)
{
	const struct refusal *r = &refusals[_i];
	struct member m[2];
	struct daemon *d;

	if (skipped())
		return;
	d = start("uid", r->rules);
	for (int i = 0; i < 2; i++)
		m[i] = member(r->namespaces ? puppet_new_in(r->namespaces, r->uid) :
					      puppet_new_uid(r->uid),
			      "red");
	for (int i = 0; i < 2; i++)
		wait_until(puppet_call(m[i].p, fn_refused) == EDOM, WAIT_MS, "the reason is known");
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/domains_refused"), 2);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/protocol_errors"), 0);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients"), 0);
	ck_assert_int_eq(puppet_pages_on_frames(m[0].p, m[0].mem, NR), 0);
	/* It is served as soon as it asks for no name. */
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(join(m[i].p, ""), 0);
	for (int i = 0; i < 2; i++)
		wait_until(puppet_call(m[i].p, fn_connected) == 1, WAIT_MS, "it is served");
	if (!r->namespaces)
		expect_shared(m[0], m[1]);
	end_all(m, 2);
	stop(d);
}
END_TEST

static const struct owner {
	mode_t file, dir;
	uid_t uid, dir_uid;
	bool trusted;
} owners[] = {
	{ 0644, 0755, 0, 0, true },     { 0400, 0700, 0, 0, true },     { 0664, 0755, 0, 0, false },
	{ 0646, 0755, 0, 0, false },    { 0644, 0755, USER, 0, false }, { 0644, 0777, 0, 0, false },
	{ 0644, 0755, 0, USER, false },
};

/* Seen to fail (joined), each that is not trusted, without trusted() or trust_dir(). */
START_TEST(file_that_others_can_write)
{
	const struct owner *o = &owners[_i];
	struct member m;
	struct daemon *d;

	if (skipped())
		return;
	d = start("uid", "red user:0\n");
	ck_assert_int_eq(chmod(file_path, o->file) || chmod(file_dir, o->dir), 0);
	ck_assert_int_eq(chown(file_path, o->uid, 0) || chown(file_dir, o->dir_uid, 0), 0);
	m = member(puppet_new(), "red");
	if (o->trusted)
		expect_name(d, m, "named red");
	else
		wait_until(puppet_call(m.p, fn_refused) == EDOM, WAIT_MS, "refused");
	puppet_kill(m.p);
	/* Put right, it is read again. */
	ck_assert_int_eq(chown(file_path, 0, 0) || chown(file_dir, 0, 0), 0);
	ck_assert_int_eq(chmod(file_path, 0600) || chmod(file_dir, 0700), 0);
	m = member(puppet_new(), "red");
	expect_name(d, m, "named red");
	puppet_kill(m.p);
	/* So it is when it changes, or goes. */
	write_file("blue user:0\n");
	m = member(puppet_new(), "red");
	wait_until(puppet_call(m.p, fn_refused) == EDOM, WAIT_MS, "refused");
	puppet_kill(m.p);
	m = member(puppet_new(), "blue");
	expect_name(d, m, "named blue");
	puppet_kill(m.p);
	ck_assert_int_eq(unlink(file_path), 0);
	m = member(puppet_new(), "blue");
	wait_until(puppet_call(m.p, fn_refused) == EDOM, WAIT_MS, "refused");
	puppet_kill(m.p);
	stop(d);
}
END_TEST

/* Seen to fail (joined) without the look at the length in load(). */
START_TEST(file_that_holds_a_nul)
{
	static const char text[] = "red user:0\n\0blue user:0\n";
	struct member m;
	struct daemon *d;
	FILE *f;

	if (skipped())
		return;
	d = start("uid", NULL);
	f = fopen(file_path, "we");
	ck_assert(f && fwrite(text, sizeof(text) - 1, 1, f) == 1 && !fclose(f));
	m = member(puppet_new(), "red");
	wait_until(puppet_call(m.p, fn_refused) == EDOM, WAIT_MS, "refused");
	puppet_kill(m.p);
	write_file("red user:0\n");
	m = member(puppet_new(), "red");
	expect_name(d, m, "named red");
	puppet_kill(m.p);
	stop(d);
}
END_TEST

/* Seen to fail without the look at domain_nr in link_same_identity(). */
START_TEST(a_process_that_joins_another)
{
	struct member m[4];
	struct daemon *d;

	if (skipped())
		return;
	d = start("uid", "red user:0\nblue user:0\n");
	m[0] = member(puppet_new(), "red");
	m[1] = member(puppet_new(), "red");
	m[2] = member(puppet_new(), "blue");
	expect_shared(m[0], m[1]);
	ck_assert_int_eq(join(m[0].p, "blue"), 0);
	ck_assert_int_eq(pages_sharing_frames(m[0].p, m[0].mem, m[1].p, m[1].mem, NR), 0);
	ck_assert_int_eq(puppet_call(m[0].p, fn_check, m[0].mem, NR, 1, 1), 0);
	expect_shared(m[0], m[2]);
	expect_name(d, m[0], "named blue");
	ck_assert_int_eq(pages_sharing_frames(m[0].p, m[0].mem, m[1].p, m[1].mem, NR), 0);
	/* Nothing waits for it in the domain that it left. */
	puppet_kill(m[1].p);
	wait_until(ctl_get_u64(d, "ksm/frames_used") == NR, WAIT_MS, "red is gone");
	/* The same name again is nothing new; a name that is none changes nothing. */
	ck_assert_int_eq(join(m[0].p, "blue"), 0);
	ck_assert_int_eq(join(m[0].p, "no name"), -EINVAL);
	ck_assert_int_eq(pages_sharing_frames(m[0].p, m[0].mem, m[2].p, m[2].mem, NR), NR);
	/* Into one that it may not join: unmerged. */
	ck_assert_int_eq(join(m[0].p, "green"), 0);
	wait_until(puppet_call(m[0].p, fn_refused) == EDOM, WAIT_MS, "refused");
	ck_assert_int_eq(puppet_pages_on_frames(m[0].p, m[0].mem, NR), 0);
	puppet_kill(m[0].p);
	puppet_kill(m[2].p);
	stop(d);
}
END_TEST

/* Forked children are in their parent's domain. */
START_TEST(fork_keeps_the_domain)
{
	struct member m[3];
	struct daemon *d;

	if (skipped())
		return;
	d = start("uid", "red user:0\n");
	m[0] = member(puppet_new(), "red");
	m[1] = member(puppet_new(), NULL);
	m[2] = (struct member){ puppet_fork(m[0].p), m[0].mem };
	/* Written, so that it is merged anew. */
	puppet_call(m[2].p, fn_fill, m[2].mem, NR, 7, 1);
	puppet_call(m[0].p, fn_fill, m[0].mem, NR, 7, 1);
	puppet_call(m[1].p, fn_fill, m[1].mem, NR, 7, 1);
	expect_shared(m[0], m[2]);
	expect_name(d, m[2], "named red");
	ck_assert_int_eq(pages_sharing_frames(m[1].p, m[1].mem, m[2].p, m[2].mem, NR), 0);
	end_all(m, 3);
	stop(d);
}
END_TEST

/* ---- ksm-run ---- */

/* Run a command that becomes a client for long, and look at the domain of `pid` or its child. */
static pid_t run(const char *const argv[], int *err)
{
	int out[2];
	pid_t pid;

	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	pid = fork();
	if (pid == 0) {
		dup2(out[1], 2);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(out[1]);
	*err = out[0];
	return pid;
}

/* A program that has some memory becomes a client. */
#define WORK "$x = 1 x 4000000; sleep 100"

static const struct command {
	const char *argv[12];
	const char *want;
} commands[] = {
	{ { "--domain", "red", "perl", "-e", WORK }, "named red" },
	{ { "--domain", "red", "env", "-i", "/usr/bin/perl", "-e", WORK }, "named red" },
	{ { "--domain", "red", "sh", "-c", "exec env -u KSM_DOMAIN perl -e '" WORK "'" },
	  "named red" },
	{ { "--domain", "red", "env", "KSM_DOMAIN=blue", "perl", "-e", WORK }, "named blue" },
	{ { "--domain", "red", "env", "KSM_DOMAIN=", "perl", "-e", WORK }, "user 0" },
	{ { "perl", "-e", WORK }, "user 0" },
};

/* Seen to fail (user 0) without the label in env_build(). */
START_TEST(exec_keeps_the_domain)
{
	const struct command *c = &commands[_i];
	const char *argv[14];
	char run_path[4096];
	struct daemon *d;
	struct puppet p;
	int err;

	if (skipped())
		return;
	d = start("uid", "red user:0\nblue user:0\n");
	snprintf(run_path, sizeof(run_path), "%s", build_path("ksm-run"));
	argv[0] = run_path;
	memcpy(argv + 1, c->argv, sizeof(c->argv));
	argv[13] = NULL;
	p.pid = run(argv, &err);
	wait_until(ctl_client_u64(d, p.pid, "connected_seconds") > 0, WAIT_MS, "the last program");
	expect_name(d, (struct member){ &p, 0 }, c->want);
	kill(p.pid, SIGKILL);
	waitpid(p.pid, NULL, 0);
	close(err);
	stop(d);
}
END_TEST

static const struct said {
	const char *option, *text;
	int status;
} says[] = {
	{ "--domain=red", NULL, 0 },
	{ "--domain=green", "may not join the domain green", 0 },
	{ "--domain=no name", "--domain must be", 125 },
};

/* A refused program runs, and its user is told. */
START_TEST(ksm_run_says_so)
{
	const struct said *s = &says[_i];
	char run_path[4096], text[1024] = "";
	const char *argv[] = { run_path, s->option, "true", NULL };
	struct daemon *d;
	int err, status;
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	if (skipped())
		return;
	d = start("uid", "red user:0\n");
	snprintf(run_path, sizeof(run_path), "%s", build_path("ksm-run"));
	pid = run(argv, &err);
	while ((n = read(err, text + len, sizeof(text) - 1 - len)) > 0)
		len += (size_t)n;
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), s->status);
	ck_assert_msg(s->text ? strstr(text, s->text) != NULL : !*text, "%s", text);
	close(err);
	stop(d);
}
END_TEST

/* The environment alone asks, too; a name that is none is no wish for the default. */
START_TEST(the_environment_asks)
{
	struct member m;
	struct daemon *d;

	if (skipped())
		return;
	d = start("uid", "red user:0\n");
	setenv("KSM_DOMAIN", _i ? "no name" : "red", 1);
	m = member(puppet_new(), NULL);
	if (_i)
		wait_until(puppet_call(m.p, fn_refused) == EINVAL, WAIT_MS, "refused");
	else
		expect_name(d, m, "named red");
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/protocol_errors"), 0);
	puppet_kill(m.p);
	stop(d);
}
END_TEST

/* ---- clients that lie ---- */

static void say(struct daemon *d, struct fake *f, const char *label, size_t len)
{
	struct ksm_msg_hello msg = hello();
	int fds[NR_FDS];

	memcpy(msg.domain, label, len);
	f->seq = 0;
	f->sock = raw_connect(d);
	own_fds(fds);
	ck_assert_int_gt(send_fds(f->sock, &msg, sizeof(msg), fds, NR_FDS), 0);
	close_fds(fds);
}

static void welcomed(struct fake *f)
{
	union ksm_msg reply;

	ck_assert_int_eq(recv_msg(f->sock, &reply, f->fds), sizeof(reply.welcome));
	ck_assert_int_eq(reply.hdr.type, KSM_MSG_WELCOME);
	f->welcome = reply.welcome;
}

static const struct field {
	const char *bytes;
	size_t len;
} fields[] = {
	{ "red\0x", 5 },
	{ "\0red", 4 },
	{ "re d", 4 },
	{ "-red", 4 },
	{ "../red", 6 },
	{ "r\377d", 3 },
	{ "abcdefghijklmnopqrstuvwxyz012345", 32 },
};

START_TEST(fields_that_are_no_label)
{
	struct daemon *d;
	struct fake f;

	if (skipped())
		return;
	d = start("uid", "red user:0\n");
	say(d, &f, fields[_i].bytes, fields[_i].len);
	expect_error(f.sock, EINVAL);
	close(f.sock);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/protocol_errors"), 1);
	stop(d);
}
END_TEST

/* Seen to fail (welcomed) without clients_elsewhere(). */
START_TEST(one_process_in_two_domains)
{
	struct daemon *d;
	struct fake a, b, c;
	int nr_fds;

	if (skipped())
		return;
	d = start("uid", "red user:0\nblue user:0\n");
	nr_fds = harness_nr_fds(d->pid);
	say(d, &a, "red", 3);
	welcomed(&a);
	say(d, &b, "blue", 4);
	expect_error(b.sock, EBUSY);
	close(b.sock);
	say(d, &b, "", 0);
	expect_error(b.sock, EBUSY);
	close(b.sock);
	/* In the same it may be twice. */
	say(d, &c, "red", 3);
	welcomed(&c);
	ck_assert_uint_eq(a.welcome.arena_id, c.welcome.arena_id);
	fake_close(&c);
	fake_close(&a);
	wait_until(ctl_get_u64(d, "ksm/clients") == 0, WAIT_MS, "it has left");
	say(d, &b, "blue", 4);
	welcomed(&b);
	ck_assert_uint_ne(a.welcome.arena_id, b.welcome.arena_id);
	fake_close(&b);
	expect_clean(d, nr_fds);
	stop(d);
}
END_TEST

/* A connection whose maker, of this user, has ended; its number *pid is free. */
static int connection_of_the_dead(struct daemon *d, uid_t uid, pid_t *pid)
{
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(sizeof(int))];
	} control;
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr mh = { .msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = &control,
			     .msg_controllen = sizeof(control) };
	int sv[2], sock;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv), 0);
	*pid = fork();
	if (*pid == 0) {
		if (setgid(uid) || setuid(uid))
			_exit(1);
		sock = raw_connect(d);
		_exit(send_fds(sv[1], "x", 1, &sock, 1) == 1 ? 0 : 1);
	}
	ck_assert_int_eq(recvmsg(sv[0], &mh, MSG_CMSG_CLOEXEC), 1);
	memcpy(&sock, CMSG_DATA(&control.hdr), sizeof(sock));
	ck_assert_int_eq(waitpid(*pid, NULL, 0), *pid);
	close(sv[0]);
	close(sv[1]);
	return sock;
}

/*
 * A connection is its maker's. Whoever gets it from a process that ended does not get the domain of
 * that process, though it sends descriptors of its own.
 */
START_TEST(a_connection_that_was_passed_on)
{
	struct ksm_msg_hello msg = hello();
	int fds[NR_FDS], sock;
	struct daemon *d;
	pid_t pid;

	if (skipped())
		return;
	d = start("uid", "red user:0\n");
	memcpy(msg.domain, "red", 3);
	sock = connection_of_the_dead(d, 0, &pid);
	own_fds(fds);
	ck_assert_int_gt(send_fds(sock, &msg, sizeof(msg), fds, NR_FDS), 0);
	expect_error(sock, EBADF);
	close_fds(fds);
	close(sock);
	stop(d);
}
END_TEST

/* ---- the witness ---- */

/* What the daemon says goes to a file in memory, which is the caller's. */
static struct daemon *start_heard(const char *mode, const char *text, int *log)
{
	int keep = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	struct daemon *d;

	*log = memfd_create("log", MFD_CLOEXEC);
	ck_assert(keep >= 0 && *log >= 0 && dup2(*log, STDERR_FILENO) == STDERR_FILENO);
	d = start(mode, text);
	ck_assert_int_eq(dup2(keep, STDERR_FILENO), STDERR_FILENO);
	close(keep);
	return d;
}

static int times_said(int log, const char *what)
{
	static char text[65536];
	ssize_t n = pread(log, text, sizeof(text) - 1, 0);
	int nr = 0;

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	for (const char *at = text; (at = strstr(at, what)); at++)
		nr++;
	return nr;
}

/* The daemon's only child. */
static pid_t witness_of(const struct daemon *d)
{
	char path[64];
	int pid, more;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)d->pid, (int)d->pid);
	f = fopen(path, "re");
	ck_assert_ptr_nonnull(f);
	ck_assert_int_eq(fscanf(f, "%d %d", &pid, &more), 1);
	fclose(f);
	return pid;
}

/* Two processes of one new container. */
static void container(struct member m[2])
{
	struct puppet *p = puppet_new_in(CONTAINER, 0), *child = puppet_fork(p);

	m[0] = member(p, NULL);
	m[1] = member(child, NULL);
}

/* A process joins and ends. */
static bool joined_once(void)
{
	struct puppet *p = puppet_new();

	member(p, NULL);
	wait_until(puppet_call(p, fn_connected) == 1, WAIT_MS, "it is served");
	puppet_kill(p);
	return true;
}

/*
 * Without the witness everybody still joins: those in the daemon's own namespaces as before, others
 * each for itself, because nobody can tell who belongs together. Nothing changes for those who have
 * joined. A witness that is only slow is one again when it has answered.
 *
 * Seen to fail (no answer) without SO_RCVTIMEO; (said again, each join waits) without `late`.
 */
START_TEST(witness_that_does_not_answer)
{
	const int how = _i ? SIGSTOP : SIGKILL;
	const char *said = _i ? "does not answer in time" : "is gone";
	struct member m[8], apart[4];
	struct daemon *d;
	uint64_t begin;
	pid_t witness;
	int log;

	if (skipped())
		return;
	d = start_heard("uid", NULL, &log);
	witness = witness_of(d);
	m[0] = member(puppet_new(), NULL);
	container(&m[1]);
	expect_shared(m[1], m[2]);
	ck_assert_int_eq(kill(witness, how), 0);
	begin = harness_now_ms();
	m[3] = member(puppet_new(), NULL);
	wait_until(puppet_call(m[3].p, fn_connected) == 1, WAIT_MS, "it is served");
	/* Two seconds are promised. */
	ck_assert_uint_lt(harness_now_ms() - begin, 20000);
	expect_shared(m[0], m[3]);
	container(&m[4]);
	memcpy(apart, (struct member[]){ m[0], m[1], m[4], m[5] }, sizeof(apart));
	expect_apart(d, apart, 4);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients_alone"), 2);
	expect_shared(m[1], m[2]);
	ck_assert_int_eq(times_said(log, said), 1);
	if (_i) {
		ck_assert_int_eq(kill(witness, SIGCONT), 0);
		/* A look of the daemon's shows that; a container's need not be one. */
		wait_until(joined_once() && times_said(log, "answers again"), WAIT_MS,
			   "it has answered");
		container(&m[6]);
		expect_shared(m[6], m[7]);
		ck_assert_int_eq(times_said(log, said), 1);
		end_all(&m[6], 2);
	}
	end_all(m, 6);
	stop(d);
}
END_TEST

/* As fork(2), but the child's number is this. */
static pid_t fork_as(pid_t pid)
{
	struct clone_args args = { .exit_signal = SIGCHLD,
				   .set_tid = (uintptr_t)&pid,
				   .set_tid_size = 1 };

	return (pid_t)syscall(SYS_clone3, &args, sizeof(args));
}

/* In the process: say HELLO on a connection that another made. Exits with 0 if refused as dead. */
static void say_on(int sock, const char *label)
{
	struct ksm_msg_hello msg = hello();
	union ksm_msg reply;
	int fds[NR_FDS];

	strcpy(msg.domain, label);
	own_fds(fds);
	if (send_fds(sock, &msg, sizeof(msg), fds, NR_FDS) < 0 || recv_msg(sock, &reply, NULL) <= 0)
		_exit(2);
	_exit(reply.hdr.type == KSM_MSG_ERROR && reply.error.error == ESRCH ? 0 : 1);
}

static const struct reuse {
	const char *mode, *label;
	bool blind; /* the witness is gone */
} reuses[] = {
	{ "uid", "", false },       { "uid", "red", false }, { "cgroup", "", false },
	{ "namespace", "", false }, { "uid", "", true },     { "uid", "red", true },
};

/*
 * The number of a process that connected is another's when HELLO comes, with true descriptors of
 * that other. The first was of user 47101, who may join; the second is not. Seen to fail (welcomed)
 * with a pidfd of cred.pid in the place of SO_PEERPIDFD in identity_look().
 */
START_TEST(a_number_that_is_used_again)
{
	const struct reuse *r = &reuses[_i];
	int sock, status, log;
	struct daemon *d;
	pid_t pid, heir;

	if (skipped())
		return;
	d = start_heard(r->mode, "red user:47101\n", &log);
	if (r->blind)
		ck_assert_int_eq(kill(witness_of(d), SIGKILL), 0);
	do { /* until nobody else takes the number first */
		sock = connection_of_the_dead(d, USER, &pid);
		heir = fork_as(pid);
		if (heir == 0)
			say_on(sock, r->label);
		close(sock);
	} while (heir < 0 && errno == EEXIST);
	ck_assert_int_eq(heir, pid);
	ck_assert_int_eq(waitpid(heir, &status, 0), heir);
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	ck_assert_uint_eq(ctl_get_u64(d, "ksm/clients"), 0);
	stop(d);
}
END_TEST

static const char *const bad_files[] = { "", "domains", "./domains" };

START_TEST(files_that_are_none)
{
	const char *const args[] = { "--domains-file", bad_files[_i], NULL };
	char err[1024];

	ck_assert_int_eq(daemon_expect_exit("/nonexistent", args, err, sizeof(err)), 2);
	ck_assert_msg(strstr(err, "--domains-file"), "%s", err);
}
END_TEST

#define LOOP(tc, test, table)                                                                      \
	tcase_add_loop_test(tc, test, 0, (int)(sizeof(table) / sizeof((table)[0])))

static Suite *domains_suite(void)
{
	Suite *s = suite_create("domains");
	TCase *tc = tcase_create("domains");

	tcase_set_timeout(tc, 240);
	tcase_add_test(tc, containers_are_apart);
	tcase_add_loop_test(tc, one_container_is_one, 0, 2);
	tcase_add_test(tc, users_of_a_container);
	tcase_add_test(tc, numbers_of_namespaces_are_not_used_again);
	tcase_add_loop_test(tc, nobody_is_alone, 0, 3);
	tcase_add_test(tc, cgroups);
	tcase_add_loop_test(tc, names_join_and_part, 0, 2);
	LOOP(tc, refused_program_runs_unmerged, refusals);
	LOOP(tc, file_that_others_can_write, owners);
	tcase_add_test(tc, file_that_holds_a_nul);
	tcase_add_test(tc, a_process_that_joins_another);
	tcase_add_test(tc, fork_keeps_the_domain);
	if (!SANITIZED) {
		LOOP(tc, exec_keeps_the_domain, commands);
		LOOP(tc, ksm_run_says_so, says);
	}
	tcase_add_loop_test(tc, the_environment_asks, 0, 2);
	LOOP(tc, fields_that_are_no_label, fields);
	tcase_add_test(tc, one_process_in_two_domains);
	tcase_add_test(tc, a_connection_that_was_passed_on);
	tcase_add_loop_test(tc, witness_that_does_not_answer, 0, 2);
	LOOP(tc, a_number_that_is_used_again, reuses);
	LOOP(tc, files_that_are_none, bad_files);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(domains_suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
