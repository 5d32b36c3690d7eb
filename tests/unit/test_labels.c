/* SPDX-License-Identifier: MIT */
/* test_labels.c - the operator's file of named domains: what its lines mean. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "daemon/labels.h"
#include "suites.h"

/* Somebody in the daemon's own namespaces; no rule here asks for a cgroup or a group. */
static bool may(struct labels *l, const char *label, uid_t uid, enum ns_known known)
{
	const struct ucred cred = { .pid = 1, .uid = uid, .gid = 1 };
	struct identity id = identity_unknown(&cred);

	id.known = known;
	return labels_allow(l, label, &id, -1);
}

static unsigned int parse(struct labels *l, const char *text)
{
	char copy[4096];
	const char *why = NULL;
	unsigned int line;

	snprintf(copy, sizeof(copy), "%s", text);
	line = labels_parse(l, copy, &why);
	ck_assert(!line == !why);
	return line;
}

START_TEST(conditions)
{
	struct labels l = { 0 };

	ck_assert_uint_eq(parse(&l, "# all of this\n\n"
				    "red user:7 # and no one else\n"
				    " \tred\tuser:root\r\n"
				    "blue user:*"),
			  0);
	ck_assert_uint_eq(l.nr, 3);
	ck_assert(may(&l, "red", 7, NS_OWN));
	ck_assert(may(&l, "red", 0, NS_OWN));
	ck_assert(!may(&l, "red", 8, NS_OWN));
	ck_assert(!may(&l, "red", 7, NS_OTHER));
	ck_assert(!may(&l, "red", 7, NS_UNSEEN));
	ck_assert(may(&l, "blue", 8, NS_OWN));
	ck_assert(!may(&l, "blue", OVERFLOW_UID, NS_OWN));
	ck_assert(!may(&l, "re", 7, NS_OWN));
	ck_assert(!may(&l, "", 7, NS_OWN));
	/* Another text takes the place of all that. */
	ck_assert_uint_eq(parse(&l, ""), 0);
	ck_assert(!may(&l, "red", 7, NS_OWN));
	labels_drop(&l);
}
END_TEST

static const char *const wrong[] = {
	"red",
	"red user:",
	"red user:no-such-user-here",
	"red user:-1",
	"red user:4294967295",
	"red user:7x",
	"red user:65534",
	"red group:65534",
	"red user:7 user:7",
	"red user:* user:7",
	"red group:0 group:0",
	"red cgroup:/a cgroup:/a",
	"red cgroup:",
	"red cgroup:/",
	"red cgroup:///",
	"red cgroup:a",
	"red 7",
	"red: user:7",
	"-red user:7",
	"abcdefghijklmnopqrstuvwxyz012345 user:7",
};

/* Such a line allows nothing, and the lines around it what they say. */
START_TEST(lines_without_sense)
{
	struct labels l = { 0 };
	char text[256];

	snprintf(text, sizeof(text), "blue user:1\n%s\nblue user:2\n", wrong[_i]);
	ck_assert_uint_eq(parse(&l, text), 2);
	ck_assert_uint_eq(l.nr, 2);
	ck_assert(!may(&l, "red", 7, NS_OWN));
	ck_assert(may(&l, "blue", 1, NS_OWN) && may(&l, "blue", 2, NS_OWN));
	labels_drop(&l);
}
END_TEST

/* Rules beyond the most that are kept allow nothing, and the operator is told of the first. */
START_TEST(too_many)
{
	static const char line[] = "red user:1\n";
	static char text[LABELS_FILE_MAX];
	const char *why = NULL;
	struct labels l = { 0 };
	size_t len = 0;

	for (unsigned int i = 0; i < LABEL_RULES_MAX; i++, len += sizeof(line) - 1)
		strcpy(text + len, line);
	strcpy(text + len, "red user:2\nred user:3");
	ck_assert_uint_eq(labels_parse(&l, text, &why), LABEL_RULES_MAX + 1);
	ck_assert_ptr_nonnull(why);
	ck_assert_uint_eq(l.nr, LABEL_RULES_MAX);
	ck_assert(may(&l, "red", 1, NS_OWN) && !may(&l, "red", 2, NS_OWN));
	labels_drop(&l);
}
END_TEST

static const struct match {
	const char *pattern, *path;
	bool matches;
} matches[] = {
	{ "/a", "/a", true },
	{ "/a", "/a/b/c", true },
	{ "/a", "/ab", false },
	{ "/a", "/", false },
	{ "/a", "", false },
	{ "/a/b", "/a", false },
	{ "/a*", "/a", true },
	{ "/a*", "/abc/d", true },
	{ "/*", "/abc/d", true },
	{ "/*", "/", true },
	{ "/*/d", "/abc/d", true },
	{ "/*/d", "/abc/x/d", false },
	{ "/a*c", "/abcbc/d", true },
	{ "/a*c", "/abcb", false },
	{ "/a*b*c", "/axbxbxc", true },
	{ "/a*b/x", "/abb/x", true },
	{ "/a*b/x", "/abb/y", false },
	{ "/a*b/*c", "/ab/bc/b", true },
	{ "/*b", "/a/b", false },
	{ "/a*", "/b/a", false },
	{ "/**", "/a", true },
};

START_TEST(cgroup_patterns)
{
	const struct match *m = &matches[_i];

	ck_assert_msg(labels_cgroup_matches(m->pattern, m->path) == m->matches, "%s %s", m->pattern,
		      m->path);
}
END_TEST

Suite *suite_labels(void)
{
	Suite *s = suite_create("labels");
	TCase *tc = tcase_create("labels");

	tcase_add_test(tc, conditions);
	tcase_add_loop_test(tc, lines_without_sense, 0, sizeof(wrong) / sizeof(wrong[0]));
	tcase_add_loop_test(tc, cgroup_patterns, 0, sizeof(matches) / sizeof(matches[0]));
	tcase_add_test(tc, too_many);
	suite_add_tcase(s, tc);
	return s;
}
