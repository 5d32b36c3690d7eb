/* SPDX-License-Identifier: MIT */
/* ask.c - see ask.h. */
#include "tools/ksmdctl/ask.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/die.h"
#include "wire/runtime_dir.h"
#include "wire/wire.h"

/* Returns 0 or -errno. */
static int try_at(struct talk *c, const char *path)
{
	int err = talk_socket(c, path);

	if (!err)
		err = talk_connect(c);
	if (err)
		talk_close(c);
	return err;
}

void ctl_open(struct talk *c, const char *dir)
{
	static const char root[] = KSM_ROOT_DIR "/" KSM_CONTROL_SOCKET;
	char path[sizeof(c->sun.sun_path)] = "";
	bool or_root = ksm_runtime_or_root(dir);
	int err = -ENOENT, root_err;

	if (!ksm_runtime_path(path, sizeof(path), dir, KSM_CONTROL_SOCKET))
		err = try_at(c, path);
	else if (!or_root)
		die(EXIT_NO_DAEMON, "no runtime directory: give --runtime-dir");
	if (err && or_root) {
		root_err = try_at(c, root);
		if (root_err && *path)
			die(EXIT_NO_DAEMON, "no daemon at %s: %s, nor at %s: %s", path,
			    strerror(-err), root, strerror(-root_err));
		err = root_err;
		strcpy(path, root);
	}
	if (err)
		die(EXIT_NO_DAEMON, "no daemon at %s: %s", path, strerror(-err));
	if (!talk_trusted(c))
		die(EXIT_NO_DAEMON,
		    "the daemon at %s, or its directory, belongs to another user than root and "
		    "yourself, or others can write there",
		    path);
}

/* Nobody answers: the end of the program. */
__attribute__((noreturn)) static void lost(int err)
{
	if (err == -ENOMEM)
		die(EXIT_REFUSED, "out of memory");
	die(EXIT_NO_DAEMON,
	    err == -ETIMEDOUT ? "the daemon does not answer" : "the daemon ended the connection");
}

char *ctl_try(struct talk *c, const char *command, char *err, size_t size)
{
	struct text body = { 0 }, why = { 0 };
	int ret = talk_say(c, command, &body, &why);

	text_add(&body, "", 1);
	text_add(&why, "", 1);
	if (body.failed || why.failed)
		lost(-ENOMEM);
	if (ret && why.len == 1)
		lost(ret);
	if (ret) {
		snprintf(err, size, "%s", why.data);
		text_free(&body);
	}
	text_free(&why);
	return body.data;
}

/* End with the daemon's refusal: "EBUSY not while ..." is shown as "EBUSY: not while ...". */
__attribute__((noreturn)) static void refused(char *err)
{
	char *space = strchr(err, ' ');

	if (space)
		*space = '\0';
	die(EXIT_REFUSED, "%s: %s", err, space ? space + 1 : "");
}

char *ctl_ask(struct talk *c, const char *fmt, ...)
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

char *ctl_value(struct talk *c, const char *dir, const char *name)
{
	char command[512], err[512], *body;

	snprintf(command, sizeof(command), "get %s/%s", dir, name);
	body = ctl_try(c, command, err, sizeof(err));
	if (body)
		body[strcspn(body, "\n")] = '\0';
	return body;
}

int64_t ctl_number(struct talk *c, const char *dir, const char *name)
{
	char *v = ctl_value(c, dir, name);
	int64_t n = v ? strtoll(v, NULL, 10) : 0;

	free(v);
	return n;
}
