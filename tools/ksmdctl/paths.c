/* SPDX-License-Identifier: MIT */
/* paths.c - see paths.h. */
#include "tools/ksmdctl/paths.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/json.h"

void cmd_get(struct talk *c, const char *path, bool json)
{
	char *body = ctl_ask(c, "get %s", path);

	if (json) {
		body[strcspn(body, "\n")] = '\0';
		putchar('{');
		json_member(path, body);
		puts("}");
	} else {
		fputs(body, stdout);
	}
	free(body);
}

void cmd_set(struct talk *c, const char *path, const char *text)
{
	free(ctl_ask(c, "set %s %s", path, text));
}

/* "0644 run" as {"name": "run", "mode": "0644"}; the mode is a string, since JSON has no octal. */
static void json_mode(char *line)
{
	char *name = strchr(line, ' ');

	if (!name)
		return;
	*name++ = '\0';
	fputs("{\"name\": ", stdout);
	json_string(name);
	fputs(", \"mode\": ", stdout);
	json_string(line);
	putchar('}');
}

static void json_list(char *body, bool modes)
{
	const char *separator = "";
	char *save = NULL;

	putchar('[');
	for (char *n = strtok_r(body, "\n", &save); n; n = strtok_r(NULL, "\n", &save)) {
		fputs(separator, stdout);
		if (modes)
			json_mode(n);
		else
			json_string(n);
		separator = ", ";
	}
	puts("]");
}

void cmd_ls(struct talk *c, const char *path, bool modes, bool json)
{
	char *body = ctl_ask(c, "ls%s%s%s", modes ? " -l" : "", path ? " " : "", path ? path : "");

	if (json)
		json_list(body, modes);
	else
		fputs(body, stdout);
	free(body);
}
