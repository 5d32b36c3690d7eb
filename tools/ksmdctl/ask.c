/* SPDX-License-Identifier: MIT */
/* ask.c - see ask.h. The protocol is that of src/daemon/control.h. */
#include "tools/ksmdctl/ask.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "tools/ksmdctl/die.h"
#include "wire/runtime_dir.h"
#include "wire/trust.h"
#include "wire/wire.h"

void ctl_open(struct ctl *c, const char *dir)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };

	c->in_pos = c->in_len = 0;
	if (ksm_runtime_path(sun.sun_path, sizeof(sun.sun_path), dir, KSM_CONTROL_SOCKET))
		die(EXIT_NO_DAEMON, "no runtime directory: give --runtime-dir");
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&sun, sizeof(sun)))
		die(EXIT_NO_DAEMON, "no daemon at %s: %s", sun.sun_path, strerror(errno));
	if (!trust_dir(sun.sun_path) || !trust_peer(c->fd))
		die(EXIT_NO_DAEMON,
		    "the daemon at %s, or its directory, belongs to another user than root and "
		    "yourself, or others can write there",
		    sun.sun_path);
}

void ctl_close(struct ctl *c)
{
	close(c->fd);
}

static char next_byte(struct ctl *c)
{
	if (c->in_pos == c->in_len) {
		ssize_t n;

		do
			n = read(c->fd, c->in, sizeof(c->in));
		while (n < 0 && errno == EINTR);
		if (n <= 0)
			die(EXIT_NO_DAEMON, "the daemon ended the connection");
		c->in_pos = 0;
		c->in_len = (size_t)n;
	}
	return c->in[c->in_pos++];
}

char *ctl_try(struct ctl *c, const char *command, char *err, size_t size)
{
	size_t len = strlen(command), n = 0;
	char head[512], *body;

	if (send(c->fd, command, len, MSG_NOSIGNAL) != (ssize_t)len ||
	    send(c->fd, "\n", 1, MSG_NOSIGNAL) != 1)
		die(EXIT_NO_DAEMON, "the daemon ended the connection");
	while (n < sizeof(head) - 1 && (head[n] = next_byte(c)) != '\n')
		n++;
	head[n] = '\0';
	if (strncmp(head, "ok ", 3)) {
		snprintf(err, size, "%s", !strncmp(head, "error ", 6) ? head + 6 : head);
		return NULL;
	}
	len = strtoul(head + 3, NULL, 10);
	body = malloc(len + 1);
	if (!body)
		die(EXIT_REFUSED, "out of memory");
	for (n = 0; n < len; n++)
		body[n] = next_byte(c);
	body[len] = '\0';
	return body;
}

/* End with the daemon's refusal: "EBUSY not while ..." is shown as "EBUSY: not while ...". */
__attribute__((noreturn)) static void refused(char *err)
{
	char *space = strchr(err, ' ');

	if (space)
		*space = '\0';
	die(EXIT_REFUSED, "%s: %s", err, space ? space + 1 : "");
}

char *ctl_ask(struct ctl *c, const char *fmt, ...)
{
	char command[8192], err[512], *body;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= sizeof(command) || strchr(command, '\n'))
		die(EXIT_USAGE, "argument too long, or with a line break");
	body = ctl_try(c, command, err, sizeof(err));
	if (!body)
		refused(err);
	return body;
}

char *ctl_value(struct ctl *c, const char *dir, const char *name)
{
	char command[512], err[512], *body;

	snprintf(command, sizeof(command), "get %s/%s", dir, name);
	body = ctl_try(c, command, err, sizeof(err));
	if (body)
		body[strcspn(body, "\n")] = '\0';
	return body;
}

int64_t ctl_number(struct ctl *c, const char *dir, const char *name)
{
	char *v = ctl_value(c, dir, name);
	int64_t n = v ? strtoll(v, NULL, 10) : 0;

	free(v);
	return n;
}
