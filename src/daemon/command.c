/* SPDX-License-Identifier: MIT */
/* command.c - see command.h. */
#include "daemon/command.h"

#include <assert.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "daemon/attr.h"

#define COMMANDS                                                                                   \
	"commands are: get PATH, set PATH VALUE, ls [-l] [PATH], dump PATH, do PATH [ARGUMENT]..."

/* ---- answers ---- */

void command_error(struct text *answer, int error, const char *why)
{
	const char *name = strerrorname_np(error);

	text_printf(answer, "error %s %s\n", name ? name : "EIO", why);
}

void command_finished(struct text *answer, int err, const char *why)
{
	if (err)
		command_error(answer, -err, why);
	else
		text_printf(answer, "ok 0\n");
}

static const char *explain(int error)
{
	switch (error) {
	case ENOENT:
		return "there is no such path";
	case EISDIR:
		return "that is a directory: use ls";
	case ENOTDIR:
		return "that is not a directory: use get";
	case EBUSY:
		return "not while pages are shared: set ksm/run to 2 first";
	case ENXIO:
		return "there is no such node with memory";
	case ENODEV:
		return "that node has no memory now, or is offline";
	case EPERM:
		return "the daemon's cpuset keeps it from that node";
	case ELOOP:
		return "that is the same node";
	case EHOSTDOWN:
		return "that node is to be empty: set its drain to 0 first";
	case EINPROGRESS:
		return "that is under way";
	case EALREADY:
		return "that is under way already";
	case EADDRINUSE:
		return "part of it is out of use or isolated already";
	case EINVAL: /* only a set says so */
		return "not a valid value, see get help/PATH";
	default:
		return strerror(error);
	}
}

#define OPERATORS "root, the daemon's user and members of --admin-group"

/* Answer with err, or with the body. Frees the body. */
static void answer_body(struct text *answer, int err, struct text *body)
{
	if (err) {
		command_error(answer, -err, explain(-err));
	} else {
		text_printf(answer, "ok %zu\n", body->len);
		text_add(answer, body->data, body->len);
	}
	text_free(body);
}

/* The same for what was read. */
static void answer_read(struct text *answer, int err, struct text *body)
{
	if (err == -EACCES) {
		command_error(answer, EACCES, "that is for " OPERATORS " to read");
		text_free(body);
	} else {
		answer_body(answer, err, body);
	}
}

/* ---- commands; each is given what stands after its name, NULL where nothing does ---- */

/* The commands that read one path. */
static int read_path(int (*read)(const struct attr_tree *t, const struct attr_viewer *v,
				 const char *path, struct text *out),
		     const struct attr_tree *t, const struct attr_viewer *v, const char *args,
		     struct text *answer)
{
	struct text body = { 0 };
	int err;

	if (!args || strchr(args, ' ')) {
		command_error(answer, EINVAL, COMMANDS);
		return 0;
	}
	err = read(t, v, args, &body);
	answer_read(answer, err, &body);
	return 0;
}

static int get(const struct attr_tree *t, const struct attr_viewer *v, char *args,
	       struct text *answer)
{
	return read_path(attr_get, t, v, args, answer);
}

static int dump(const struct attr_tree *t, const struct attr_viewer *v, char *args,
		struct text *answer)
{
	return read_path(attr_dump, t, v, args, answer);
}

static int set(const struct attr_tree *t, const struct attr_viewer *v, char *args,
	       struct text *answer)
{
	char *value = args ? strchr(args, ' ') : NULL;
	struct text none = { 0 };
	const char *why;
	int ret;

	if (!value) {
		command_error(answer, EINVAL, COMMANDS);
		return 0;
	}
	*value++ = '\0';
	if (!v->is_operator) { /* before anything is said about the path */
		command_error(answer, EACCES, "only " OPERATORS " may set");
		return 0;
	}
	if (v->uid && v->uid != geteuid() && attr_is_for_root(t, args)) {
		command_error(answer, EACCES, "only root may set it");
		return 0;
	}
	ret = attr_set(t, args, value);
	if (ret > 0)
		return ret;
	why = ret == -EINVAL ? attr_refused(t, args, value) : NULL;
	if (ret == -EACCES)
		command_error(answer, EACCES, "that cannot be set");
	else if (why)
		command_error(answer, EINVAL, why);
	else
		answer_body(answer, ret, &none);
	return 0;
}

static int ls(const struct attr_tree *t, const struct attr_viewer *v, char *args,
	      struct text *answer)
{
	const char *path = args ? args : "";
	bool modes = !strcmp(path, "-l") || !strncmp(path, "-l ", 3);
	struct text body = { 0 };
	int err;

	if (modes)
		path += path[2] ? 3 : 2;
	if (strchr(path, ' ')) {
		command_error(answer, EINVAL, COMMANDS);
		return 0;
	}
	err = attr_ls(t, v, path, modes, &body);
	answer_read(answer, err, &body);
	return 0;
}

static int act(const struct attr_tree *t, const struct attr_viewer *v, char *args,
	       struct text *answer)
{
	char *rest = args ? strchr(args, ' ') : NULL;
	struct text body = { 0 }, why = { 0 };
	int err;

	if (!args) {
		command_error(answer, EINVAL, COMMANDS);
		return 0;
	}
	if (rest)
		*rest++ = '\0';
	err = attr_do(t, v, args, rest ? rest : "", &body, &why);
	if (err && why.len) {
		text_add(&why, "", 1);
		command_error(answer, -err, why.failed ? strerror(ENOMEM) : why.data);
		text_free(&body);
	} else {
		answer_body(answer, err, &body);
	}
	text_free(&why);
	return 0;
}

static const struct command {
	const char *name;
	int (*run)(const struct attr_tree *t, const struct attr_viewer *v, char *args,
		   struct text *answer);
} commands[] = {
	{ "get", get }, { "set", set }, { "ls", ls }, { "dump", dump }, { "do", act },
};

static bool has_control_chars(const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)s[i] < ' ' || s[i] == 0x7f)
			return true;
	return false;
}

int command_run(const struct attr_tree *t, const struct attr_viewer *v, const char *line,
		size_t len, struct text *answer)
{
	char buf[COMMAND_MAX + 1], *args;

	assert(len <= COMMAND_MAX);
	if (has_control_chars(line, len)) {
		command_error(answer, EINVAL, "control characters in the line");
		return 0;
	}
	memcpy(buf, line, len);
	buf[len] = '\0';
	args = strchr(buf, ' ');
	if (args)
		*args++ = '\0';
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(commands[i].name, buf))
			return commands[i].run(t, v, args, answer);
	command_error(answer, EINVAL, COMMANDS);
	return 0;
}
