/* SPDX-License-Identifier: MIT */
/* status_json.c - see status_json.h. */
#include "tools/ksmdctl/status_json.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/clients.h"
#include "tools/ksmdctl/json.h"
#include "tools/ksmdctl/sample.h"

/* Every reason, also those that do not apply; none where we may not see them. */
static void json_left_out(struct talk *c, const char *dir)
{
	int64_t pages[KSM_LEFT_NR];
	bool known = left_out_pages(c, dir, pages);

	putchar('{');
	for (int i = 0; known && i < KSM_LEFT_NR; i++)
		printf("%s\"%s\": %" PRId64, i ? ", " : "", left_out_name(i), pages[i]);
	putchar('}');
}

/* The values of a directory, as members of an object; subdirectories are left out. */
static void json_members(struct talk *c, const char *dir)
{
	char command[256], err[512], *body, *save = NULL;
	const char *separator = "";

	snprintf(command, sizeof(command), "ls %s", dir);
	body = ctl_try(c, command, err, sizeof(err));
	if (!body)
		return;
	for (char *n = strtok_r(body, "\n", &save); n; n = strtok_r(NULL, "\n", &save)) {
		char *v = strchr(n, '/') ? NULL : ctl_value(c, dir, n);

		if (!v)
			continue;
		fputs(separator, stdout);
		json_member(n, v);
		separator = ", ";
		free(v);
	}
	free(body);
}

static void json_client(struct talk *c, const char *dir, bool first)
{
	printf("%s\n    {\"pid\": %s, ", first ? "" : ",", strchr(dir, '/') + 1);
	json_members(c, dir);
	fputs(", \"left_out\": ", stdout);
	json_left_out(c, dir);
	putchar('}');
}

static void json_rates(const struct rates *r)
{
	fputs("\n  \"rates\": {", stdout);
	if (r)
		printf("\"pages_scanned_per_s\": %.1f, \"pages_merged_per_s\": %.1f, "
		       "\"scan_cpu_percent\": %.2f",
		       r->scanned, r->merged, r->cpu_percent);
	fputs("},", stdout);
}

void json_status(struct talk *c, const struct rates *r)
{
	fputs("{\n  \"daemon\": {", stdout);
	json_members(c, "daemon");
	fputs("},\n  \"ksm\": {", stdout);
	json_members(c, "ksm");
	fputs("},", stdout);
	json_rates(r);
	fputs("\n  \"left_out\": ", stdout);
	json_left_out(c, "ksm");
	fputs(",\n  \"clients\": [", stdout);
	each_client(c, json_client, INT32_MAX);
	puts("]\n}");
}
