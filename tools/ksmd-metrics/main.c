/* SPDX-License-Identifier: MIT */
/*
 * main.c - ksmd-metrics: the daemon's totals over HTTP, for a scrape on this machine.
 *
 * HTTP does not say who asks. So this serves sums over all users only, never what tells of one
 * client, user or domain, and on loopback addresses only. It is a client of the control socket
 * like any other: `ksmdctl metrics totals` asks the daemon, once a second at most, however many
 * ask here. A request for another host's name is refused: a page of the web whose name suddenly
 * leads to this address would read the answer through somebody's browser.
 *
 * libmicrohttpd has one thread for all connections, of which there are few; one that is silent, or
 * does not read, ends after some seconds. A daemon that does not answer costs its children's time.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <microhttpd.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/text.h"

enum { EXIT_NO_LISTEN = 1, EXIT_USAGE = 2 };

#define CONNECTIONS_MAX 16u
#define CONNECTION_SECONDS 5u
#define CONNECTION_BYTES (16u << 10) /* of a request; more is refused */
#define FRESH_MS 1000u               /* an answer is good for so long */
#define ASK_MS 5000                  /* ksmdctl's time */
#define TEXT_MAX (4u << 20)          /* 64 nodes have 200 KiB */
#define TYPE_METRICS "application/openmetrics-text; version=1.0.0; charset=utf-8"

/* Belongs to libmicrohttpd's thread once that runs. */
struct server {
	char ksmdctl[PATH_MAX];
	const char *runtime_dir; /* NULL: where it usually is */
	struct text metrics;
	uint64_t asked_ms; /* 0: never */
};

static const char usage_text[] =
	"usage: ksmd-metrics [OPTION]...\n"
	"\n"
	"Serve the totals of a running ksmd-user at http://127.0.0.1:9718/metrics, in the form of\n"
	"OpenMetrics (Prometheus). What tells of one client, user or domain is not served; for\n"
	"that, see ksmdctl metrics.\n"
	"\n"
	"  --listen ADDRESS:PORT  another loopback address or port, as [::1]:9718\n"
	"  --runtime-dir DIR      where the daemon is [as ksmdctl]\n"
	"  --help, --version\n"
	"\n"
	"Runs in the foreground; SIGTERM or SIGINT ends it. Exit code: 0 ended, 1 cannot listen,\n"
	"2 wrong usage.\n";

/* ---- asking ---- */

/* Read all that the child says until `until_ms`. False: it takes too long, or says too much. */
static bool read_all(int fd, uint64_t until_ms, struct text *out)
{
	char buf[16384];
	struct pollfd p = { .fd = fd, .events = POLLIN };
	ssize_t n = 1;

	while (n > 0 && out->len <= TEXT_MAX && !out->failed) {
		uint64_t now = clock_ms();

		if (now >= until_ms || poll(&p, 1, (int)(until_ms - now)) <= 0)
			return false;
		n = read(fd, buf, sizeof(buf));
		if (n > 0)
			text_add(out, buf, (size_t)n);
	}
	return n == 0 && !out->failed;
}

static bool ask(struct server *s)
{
	char *argv[] = { s->ksmdctl, "metrics", "totals", NULL, NULL, NULL };
	posix_spawn_file_actions_t actions;
	int fd[2], status = -1;
	bool ok = false;
	pid_t pid;

	if (s->runtime_dir) {
		argv[3] = "--runtime-dir";
		argv[4] = (char *)s->runtime_dir;
	}
	if (pipe2(fd, O_CLOEXEC))
		return false;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fd[1], STDOUT_FILENO);
	if (!posix_spawn(&pid, s->ksmdctl, &actions, NULL, argv, environ)) {
		close(fd[1]);
		fd[1] = -1;
		ok = read_all(fd[0], clock_ms() + ASK_MS, &s->metrics);
		if (!ok)
			kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	posix_spawn_file_actions_destroy(&actions);
	close(fd[0]);
	if (fd[1] >= 0)
		close(fd[1]);
	return ok && status == 0;
}

/* A failure holds as long as a success, so that a flood of requests is no flood of children. */
static void refresh(struct server *s)
{
	uint64_t now = clock_ms();

	if (s->asked_ms && now - s->asked_ms < FRESH_MS)
		return;
	text_free(&s->metrics);
	s->metrics = (struct text){ 0 };
	if (!ask(s)) {
		text_free(&s->metrics);
		s->metrics = (struct text){ 0 };
	}
	s->asked_ms = clock_ms();
}

/* ---- answering ---- */

static enum MHD_Result answer(struct MHD_Connection *c, unsigned int status, const char *type,
			      const char *data, size_t len)
{
	struct MHD_Response *r =
		MHD_create_response_from_buffer(len, (void *)data, MHD_RESPMEM_MUST_COPY);
	enum MHD_Result done;

	if (!r)
		return MHD_NO;
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	MHD_add_response_header(r, MHD_HTTP_HEADER_CONNECTION, "close");
	done = MHD_queue_response(c, status, r);
	MHD_destroy_response(r);
	return done;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned int status, const char *why)
{
	return answer(c, status, "text/plain", why, strlen(why));
}

static bool is_loopback(const struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)sa)->sin_addr.s_addr) >> 24 == 127;
	return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)sa)->sin6_addr);
}

/* Does a Host header name this machine's loopback? */
static bool names_loopback(const char *host)
{
	char name[64];
	size_t len = host[0] == '[' ? strcspn(host, "]") : strcspn(host, ":");
	struct in_addr v4;

	snprintf(name, sizeof(name), "%.*s", (int)len, host);
	return !strcasecmp(name, "localhost") || !strcmp(name, "[::1") ||
	       (inet_pton(AF_INET, name, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127);
}

static enum MHD_Result handle(void *arg, struct MHD_Connection *c, const char *url,
			      const char *method, const char *version, const char *data,
			      size_t *data_len, void **state)
{
	struct server *s = arg;
	const char *host = MHD_lookup_connection_value(c, MHD_HEADER_KIND, MHD_HTTP_HEADER_HOST);

	(void)version;
	(void)data;
	(void)state;
	if (*data_len)
		return MHD_NO; /* a body, of which there is no need */
	if (!host || !names_loopback(host))
		return refuse(c, MHD_HTTP_FORBIDDEN, "this is served to loopback names only\n");
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return refuse(c, MHD_HTTP_METHOD_NOT_ALLOWED, "GET or HEAD\n");
	if (strcmp(url, "/metrics") != 0)
		return refuse(c, MHD_HTTP_NOT_FOUND, "see /metrics\n");
	refresh(s);
	if (!s->metrics.len)
		return refuse(c, MHD_HTTP_SERVICE_UNAVAILABLE, "the daemon does not answer\n");
	return answer(c, MHD_HTTP_OK, TYPE_METRICS, s->metrics.data, s->metrics.len);
}

/* ---- start ---- */

__attribute__((noreturn)) static void bad_usage(const char *what)
{
	fprintf(stderr, "ksmd-metrics: %s; see ksmd-metrics --help\n", what);
	exit(EXIT_USAGE);
}

/* "127.0.0.1:9718" or "[::1]:9718". Ends the program where it is neither, or no loopback. */
static void parse_address(const char *s, struct sockaddr_storage *sa)
{
	struct sockaddr_in *v4 = (void *)sa;
	struct sockaddr_in6 *v6 = (void *)sa;
	const char *colon = strrchr(s, ':');
	char host[64], *end;
	unsigned long port = colon ? strtoul(colon + 1, &end, 10) : 0;

	if (!colon || colon[1] < '0' || colon[1] > '9' || *end || !port || port > 65535)
		bad_usage("--listen takes ADDRESS:PORT");
	snprintf(host, sizeof(host), "%.*s", (int)(colon - s), s);
	*sa = (struct sockaddr_storage){ 0 };
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = '\0';
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons((uint16_t)port);
		if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
			bad_usage("--listen takes a numeric address");
	} else {
		v4->sin_family = AF_INET;
		v4->sin_port = htons((uint16_t)port);
		if (inet_pton(AF_INET, host, &v4->sin_addr) != 1)
			bad_usage("--listen takes a numeric address");
	}
	if (!is_loopback((struct sockaddr *)sa))
		bad_usage("--listen takes a loopback address: whoever connects reads the totals");
}

/* ksmdctl stands beside this program. */
static void find_ksmdctl(char path[static PATH_MAX])
{
	static const char name[] = "ksmdctl";
	ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof(name));

	path[n > 0 ? n : 0] = '\0';
	strcpy(n > 0 ? strrchr(path, '/') + 1 : path, name);
}

static const char *parse(int argc, char **argv, struct server *s)
{
	static const struct option opts[] = {
		{ "listen", required_argument, NULL, 'l' },
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	const char *listen = "127.0.0.1:9718";
	int c;

	while ((c = getopt_long(argc, argv, "", opts, NULL)) != -1) {
		if (c == 'l') {
			listen = optarg;
		} else if (c == 'r') {
			s->runtime_dir = optarg;
		} else if (c == 'h') {
			fputs(usage_text, stdout);
			exit(EXIT_SUCCESS);
		} else if (c == 'v') {
			puts("ksmd-metrics " KSMD_VERSION);
			exit(EXIT_SUCCESS);
		} else {
			exit(EXIT_USAGE);
		}
	}
	if (optind < argc)
		bad_usage("too many arguments");
	return listen;
}

int main(int argc, char **argv)
{
	struct server s = { .runtime_dir = NULL };
	struct sockaddr_storage sa;
	struct MHD_Daemon *d;
	sigset_t ends;
	int sig;

	parse_address(parse(argc, argv, &s), &sa);
	find_ksmdctl(s.ksmdctl);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, NULL);
	d = MHD_start_daemon(
		MHD_USE_AUTO_INTERNAL_THREAD | (sa.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0), 0,
		NULL, NULL, handle, &s, MHD_OPTION_SOCK_ADDR, &sa, MHD_OPTION_CONNECTION_LIMIT,
		CONNECTIONS_MAX, MHD_OPTION_CONNECTION_TIMEOUT, CONNECTION_SECONDS,
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_END);
	if (!d) {
		fprintf(stderr, "ksmd-metrics: cannot listen: %s\n", strerror(errno));
		return EXIT_NO_LISTEN;
	}
	sigwait(&ends, &sig);
	MHD_stop_daemon(d);
	text_free(&s.metrics);
	return EXIT_SUCCESS;
}
