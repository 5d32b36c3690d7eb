/* SPDX-License-Identifier: MIT */
/* test_attr.c - the registry of attributes, with owners made for the purpose. */
#include <errno.h>
#include <string.h>

#include "daemon/attr.h"
#include "suites.h"

/* ---- an owner with one subject, an owner with those of even numbers ---- */

static const char *const colours[] = { "red", "green" };

struct house {
	uint64_t doors;
	int64_t below;
	char name[8];
	uint64_t windows[2];
	int looks, pending;
};

static int gather_house(void *owner, uint64_t subject, void *values)
{
	struct house *h = owner;

	ck_assert_uint_eq(subject, 0);
	h->looks++;
	memcpy(values, h, sizeof(*h));
	return 0;
}

static int store_doors(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	struct house *h = owner;

	ck_assert_uint_eq(subject, 0);
	ck_assert_str_eq(a->name, "doors");
	if (*value < '0' || *value > '9')
		return -EINVAL;
	h->doors = strtoull(value, NULL, 10);
	h->pending = h->doors == 7;
	return h->pending ? ATTR_PENDING : 0;
}

static const char *refused_doors(void *owner, uint64_t subject, const char *value)
{
	ck_assert_ptr_nonnull(owner);
	ck_assert_uint_eq(subject, 0);
	return *value == 'm' ? "too many" : NULL;
}

static int finish_house(void *owner, struct text *why)
{
	struct house *h = owner;

	if (!h->pending || h->pending++ < 3)
		return ATTR_PENDING;
	h->pending = 0;
	text_printf(why, "locked");
	return -EBUSY;
}

static const struct attr house_attrs[] = {
	{ .name = "doors",
	  .help = "how many",
	  .show = attr_show_u64,
	  .store = store_doors,
	  .refused = refused_doors },
	ATTR_FIELD(struct house, below, "below", "metres"),
	ATTR_FIELD_ALL(struct house, name, "name", "its name"),
	ATTR_NUMBERS(struct house, windows, "windows", colours, "windows by colour"),
};
static const struct attr_group house_group = {
	.name = "house",
	ATTR_TABLE(house_attrs),
	.size = sizeof(struct house),
	.gather = gather_house,
	.finish = finish_house,
};

static int gather_roof(void *owner, uint64_t subject, void *values)
{
	(void)subject;
	*(uint64_t *)values = *(uint64_t *)owner;
	return 0;
}

static const struct attr roof_attrs[] = {
	{ .name = "tiles", .help = "as it says", .show = attr_show_u64 },
};
static const struct attr_group roof_group = {
	.name = "house", /* the same directory, another owner */
	ATTR_TABLE(roof_attrs),
	.size = sizeof(uint64_t),
	.gather = gather_roof,
};

static int gather_even(void *owner, uint64_t subject, void *values)
{
	if (subject % 2 || subject > *(uint64_t *)owner)
		return -ENOENT;
	*(uint64_t *)values = subject / 2;
	return 0;
}

static void list_even(void *owner, struct attr_list *l)
{
	for (uint64_t i = 0; i <= *(uint64_t *)owner; i += 2)
		attr_list_subject(l, i);
}

/* Each of four users owns a quarter of the numbers. */
static bool owned_even(void *owner, uint64_t subject, uid_t uid)
{
	(void)owner;
	return subject / 2 % 4 == uid;
}

static const struct attr even_attrs[] = {
	{ .name = "half", .help = "half of it", .show = attr_show_u64 },
};
static const struct attr_group even_group = {
	.name = "even",
	ATTR_TABLE(even_attrs),
	.size = sizeof(uint64_t),
	.gather = gather_even,
	.list = list_even,
	.owned = owned_even,
};
static const struct attr open_attrs[] = {
	{ .name = "half", .help = "half of it", .show = attr_show_u64 },
	{ .name = "known", .help = "half of it", .show = attr_show_u64, .all = true },
};
static const struct attr_group open_group = {
	.name = "open",
	ATTR_TABLE(open_attrs),
	.size = sizeof(uint64_t),
	.gather = gather_even,
	.list = list_even,
	.open = true,
};
/* Nobody has thought about who may see it. */
static const struct attr_group plain_group = {
	.name = "plain",
	ATTR_TABLE(even_attrs),
	.size = sizeof(uint64_t),
	.gather = gather_even,
	.list = list_even,
};

/* In each even number two rooms. */
static int gather_room(void *owner, uint64_t subject, void *values)
{
	uint64_t outer = ATTR_OUTER(subject), inner = ATTR_INNER(subject);

	if (outer % 2 || outer > *(uint64_t *)owner || inner > 1)
		return -ENOENT;
	*(uint64_t *)values = 10 * outer + inner;
	return 0;
}

static void list_rooms(void *owner, struct attr_list *l)
{
	(void)owner;
	for (uint64_t i = 0; i < 2; i++)
		attr_list_subject(l, i);
}

static uint64_t room_stored;

static int store_room(void *owner, uint64_t subject, const struct attr *a, const char *value)
{
	(void)owner;
	(void)a;
	(void)value;
	room_stored = subject;
	return 0;
}

static int call_room(void *owner, uint64_t subject, const struct attr_viewer *v, const char *args,
		     struct text *out, struct text *why)
{
	(void)owner;
	(void)v;
	(void)args;
	(void)why;
	text_printf(out, "%x %x\n", ATTR_OUTER(subject), ATTR_INNER(subject));
	return 0;
}

static const struct attr room_attrs[] = {
	{ .name = "size", .help = "both", .show = attr_show_u64, .store = store_room },
};
static const struct attr_action room_actions[] = {
	{ .name = "clean", .help = "cleans it", .call = call_room },
};
static const struct attr_group room_group = {
	.name = "even/room",
	ATTR_TABLE(room_attrs),
	ATTR_ACTIONS(room_actions),
	.size = sizeof(uint64_t),
	.gather = gather_room,
	.list = list_rooms,
};

static const struct attr_viewer sees_all = { 1, true }, user_1 = { 1, false };
static const struct attr_viewer *viewer;
static struct attr_tree tree;
static struct house house;
static uint64_t tiles, most;

static void setup(void)
{
	tree = (struct attr_tree){ 0 };
	viewer = &sees_all;
	house = (struct house){ 2, -3, "owl", { 4, 5 }, 0, 0 };
	tiles = 1000;
	most = 4;
	attr_register(&tree, &house_group, &house);
	attr_register(&tree, &even_group, &most);
	attr_register(&tree, &roof_group, &tiles);
}

/* ---- what is asked ---- */

static void expect(int ret, struct text *t, int want, const char *text)
{
	ck_assert_int_eq(ret, want);
	ck_assert_uint_eq(t->len, strlen(text));
	if (t->len)
		ck_assert_msg(!memcmp(t->data, text, t->len), "%.*s", (int)t->len, t->data);
	text_free(t);
}

static void expect_get(const char *path, int want, const char *text)
{
	struct text t = { 0 };
	int ret = attr_get(&tree, viewer, path, &t);

	expect(ret, &t, want, text);
}

static void expect_ls(const char *path, bool modes, int want, const char *text)
{
	struct text t = { 0 };
	int ret = attr_ls(&tree, viewer, path, modes, &t);

	expect(ret, &t, want, text);
}

static void expect_dump(const char *path, int want, const char *text)
{
	struct text t = { 0 };
	int ret = attr_dump(&tree, viewer, path, &t);

	expect(ret, &t, want, text);
}

START_TEST(values_are_shown_by_their_type)
{
	expect_get("house/doors", 0, "2\n");
	expect_get("house/below", 0, "-3\n");
	expect_get("house/name", 0, "owl\n");
	expect_get("house/windows/green", 0, "5\n");
	expect_get("house/tiles", 0, "1000\n");
	expect_get("house/tiles/", 0, "1000\n");
	expect_get("even/4/half", 0, "2\n");
	expect_get("help/house/name", 0, "its name\n");
	expect_get("help/house/below", 0, "metres [for operators]\n");
	expect_get("help/house/windows/red", 0, "windows by colour: red [for operators]\n");
	expect_get("help/even/half", 0, "half of it [for its user and operators]\n");
}
END_TEST

/* Each owner is asked once, and only if the viewer may read something of it. */
START_TEST(dumps)
{
	static const struct attr_viewer nobody = { 4, false };

	attr_register(&tree, &open_group, &most);
	expect_dump("house", 0,
		    "doors 2\nbelow -3\nname owl\nwindows/red 4\nwindows/green 5\ntiles 1000\n");
	ck_assert_int_eq(house.looks, 1);
	expect_dump("even/4", 0, "half 2\n");
	expect_dump("help/even", 0, "half half of it\n");
	expect_dump("help/house", 0,
		    "doors how many\nbelow metres\nname its name\nwindows windows by colour\n"
		    "tiles as it says\n");
	expect_dump("", -EISDIR, "");
	expect_dump("help", -EISDIR, "");
	expect_dump("even", -EISDIR, "");
	expect_dump("house/doors", -ENOTDIR, "");
	expect_dump("house/windows", -ENOTDIR, "");
	expect_dump("even/3", -ENOENT, "");
	expect_dump("attic", -ENOENT, "");
	viewer = &user_1;
	expect_dump("house", 0, "name owl\n");
	expect_dump("even/2", 0, "half 1\n");
	expect_dump("even/4", -ENOENT, "");
	expect_dump("open/4", 0, "known 2\n");
	viewer = &nobody;
	expect_dump("even/2", -ENOENT, "");
}
END_TEST

START_TEST(what_is_not_there)
{
	static const char *const none[] = {
		"/",
		"attic",
		"house/attic",
		"house//doors",
		"house/doors/knob",
		"house/windows/blue",
		"house/windows/red/1",
		"even/half",
		"even/3",
		"even/3/half",
		"even/6/half",
		"even/+2/half",
		"even/-2/half",
		"even/0x2/half",
		"even/ 2/half",
		"even/18446744073709551616/half",
		"even/2/third",
		"help/even/2/half",
		"help/help",
		"help/attic",
	};

	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		expect_get(none[i], -ENOENT, "");
		expect_ls(none[i], true, -ENOENT, "");
		ck_assert_int_eq(attr_set(&tree, none[i], "1"), -ENOENT);
	}
	/* Only the last path's subject had to be looked at. */
	ck_assert_int_eq(house.looks, 0);
}
END_TEST

START_TEST(directories)
{
	static const char *const dirs[] = {
		"",       "house", "house/",    "house/windows",     "even",
		"even/2", "help",  "help/even", "help/house/windows"
	};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		expect_get(dirs[i], -EISDIR, "");
		ck_assert_int_eq(attr_set(&tree, dirs[i], "1"), -EISDIR);
	}
	expect_ls("", false, 0, "even/\nhouse/\nhelp/\n");
	expect_ls("help", true, 0, "0555 even/\n0555 house/\n");
	expect_ls("house", true, 0,
		  "0644 doors\n0444 below\n0444 name\n0555 windows/\n0444 tiles\n");
	expect_ls("house/windows", false, 0, "red\ngreen\n");
	expect_ls("help/house", true, 0,
		  "0444 doors\n0444 below\n0444 name\n0555 windows/\n0444 tiles\n");
	expect_ls("even", true, 0, "0555 0/\n0555 2/\n0555 4/\n");
	expect_ls("even/2", true, 0, "0444 half\n");
	expect_ls("help/even", false, 0, "half\n");
	expect_ls("house/doors", true, -ENOTDIR, "");
	expect_ls("even/2/half", true, -ENOTDIR, "");
}
END_TEST

START_TEST(stores)
{
	struct text why = { 0 };

	ck_assert_int_eq(attr_set(&tree, "house/doors", "3"), 0);
	expect_get("house/doors", 0, "3\n");
	ck_assert_int_eq(attr_set(&tree, "house/doors", "many"), -EINVAL);
	ck_assert_str_eq(attr_refused(&tree, "house/doors", "many"), "too many");
	ck_assert_ptr_null(attr_refused(&tree, "house/doors", "none"));
	ck_assert_ptr_null(attr_refused(&tree, "house/below", "many"));
	ck_assert_ptr_null(attr_refused(&tree, "house", "many"));
	ck_assert_ptr_null(attr_refused(&tree, "help/house/doors", "none"));
	ck_assert_ptr_null(attr_refused(&tree, "house/none", "many"));
	ck_assert_int_eq(attr_set(&tree, "house/below", "3"), -EACCES);
	ck_assert_int_eq(attr_set(&tree, "house/windows/red", "3"), -EACCES);
	ck_assert_int_eq(attr_set(&tree, "even/2/half", "3"), -EACCES);
	ck_assert_int_eq(attr_set(&tree, "help/house/doors", "3"), -EACCES);
	ck_assert_int_eq(attr_finish(&tree, &why), ATTR_PENDING);
	ck_assert_int_eq(attr_set(&tree, "house/doors", "7"), ATTR_PENDING);
	ck_assert_int_eq(attr_finish(&tree, &why), ATTR_PENDING);
	ck_assert_int_eq(attr_finish(&tree, &why), ATTR_PENDING);
	expect(attr_finish(&tree, &why), &why, -EBUSY, "locked");
	ck_assert_int_eq(attr_finish(&tree, &why), ATTR_PENDING);
}
END_TEST

/* Seen to fail, line by line, with may_know() or may_read() always true. */
START_TEST(others_see_what_is_theirs)
{
	attr_register(&tree, &open_group, &most);
	attr_register(&tree, &plain_group, &most);
	viewer = &user_1;
	expect_ls("house", true, 0, "0444 name\n");
	expect_get("house/name", 0, "owl\n");
	expect_get("house/doors", -EACCES, "");
	expect_get("house/windows/red", -EACCES, "");
	expect_get("house/windows", -EACCES, "");
	expect_ls("house/windows", false, -EACCES, "");
	expect_get("house/tiles", -EACCES, "");
	/* 2 is the user's own, 4 another's, and 6 is not there. */
	expect_ls("even", false, 0, "2/\n");
	expect_ls("even/2", false, 0, "half\n");
	expect_get("even/2/half", 0, "1\n");
	for (const char *const *p = (const char *const[]){ "even/4", "even/6", NULL }; *p; p++) {
		char path[32];

		expect_ls(*p, true, -ENOENT, "");
		expect_get(*p, -ENOENT, "");
		snprintf(path, sizeof(path), "%s/half", *p);
		expect_get(path, -ENOENT, "");
		expect_ls(path, false, -ENOENT, "");
	}
	expect_ls("open", false, 0, "0/\n2/\n4/\n");
	expect_ls("open/4", false, 0, "known\n");
	expect_get("open/4/known", 0, "2\n");
	expect_get("open/4/half", -EACCES, "");
	expect_get("open/6/known", -ENOENT, "");
	expect_ls("plain", false, 0, "");
	expect_get("plain/2/half", -ENOENT, "");
	/* What there is to be known is no secret, only what it is. */
	expect_ls("help/house", false, 0, "doors\nbelow\nname\nwindows/\ntiles\n");
	expect_ls("", false, 0, "even/\nhouse/\nopen/\nplain/\nhelp/\n");
}
END_TEST

START_TEST(groups_in_subjects)
{
	static const char *const none[] = {
		"even/6/room",          "even/3/room",
		"even/x/room",          "even/6/room/0",
		"even/2/room/2",        "even/2/room/x",
		"even/2/room/x/size",   "even/2/room/64/size",
		"even/2/room/0/x",      "even/2/room/0/size/x",
		"even/2/room//size",    "even/2//0/size",
		"even/2/roo/0/size",    "even/2/room/4294967296/size",
		"even/room/0/size",     "even/4294967298/room/0/size",
		"even/4294967298/room", "even/2/room/0/room/0/size",
		"house/room",           "room",
		"help/even/2/room",     "help/even/room/0",
	};
	static const char *const dirs[] = { "even/2/room", "even/2/room/", "even/2/room/1",
					    "help/even/room" };
	struct text t = { 0 }, why = { 0 };
	int ret;

	attr_register(&tree, &room_group, &most);
	room_stored = 0;
	expect_get("even/4/room/1/size", 0, "41\n");
	expect_get("help/even/room/size", 0, "both [for operators]\n");
	expect_get("help/even/room/clean", 0, "cleans it [for its user and operators]\n");
	expect_dump("even/2/room/0", 0, "size 20\n");
	expect_dump("even/2", 0, "half 1\n");
	expect_dump("even/2/room", -EISDIR, "");
	expect_dump("even/6/room", -ENOENT, "");
	expect_dump("help/even/room", 0, "size both\n");
	expect_ls("", false, 0, "even/\nhouse/\nhelp/\n");
	expect_ls("help", false, 0, "even/\nhouse/\n");
	expect_ls("even/2", true, 0, "0444 half\n0555 room/\n");
	expect_ls("help/even", false, 0, "half\nroom/\n");
	expect_ls("help/even/room", false, 0, "size\n");
	expect_ls("even/2/room", true, 0, "0555 0/\n0555 1/\n");
	expect_ls("even/2/room/1", true, 0, "0644 size\n");
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		expect_get(dirs[i], -EISDIR, "");
		ck_assert_int_eq(attr_set(&tree, dirs[i], "1"), -EISDIR);
	}
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
		expect_get(none[i], -ENOENT, "");
		expect_ls(none[i], true, -ENOENT, "");
		ck_assert_int_eq(attr_set(&tree, none[i], "1"), -ENOENT);
	}
	ck_assert_uint_eq(room_stored, 0);
	ck_assert_int_eq(attr_set(&tree, "even/4/room/1/size", "1"), 0);
	ck_assert_uint_eq(room_stored, ATTR_NESTED(4, 1));
	ret = attr_do(&tree, viewer, "even/4/room/1/clean", "", &t, &why);
	expect(ret, &t, 0, "4 1\n");
	ck_assert_int_eq(attr_do(&tree, viewer, "even/4/room/clean", "", &t, &why), -ENOENT);
	/* 2 is the user's own, but nothing that is in it. */
	viewer = &user_1;
	expect_ls("even/2", true, 0, "0444 half\n");
	expect_ls("even/2/room", true, -ENOENT, "");
	expect_ls("even/2/room/0", true, -ENOENT, "");
	expect_get("even/2/room", -ENOENT, "");
	expect_get("even/2/room/0/size", -ENOENT, "");
	expect_dump("even/2/room", -ENOENT, "");
	expect_dump("even/2/room/0", -ENOENT, "");
	ck_assert_int_eq(attr_do(&tree, viewer, "even/2/room/1/clean", "", &t, &why), -ENOENT);
}
END_TEST

Suite *suite_attr(void)
{
	Suite *s = suite_create("attr");
	TCase *tc = tcase_create("attr");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, values_are_shown_by_their_type);
	tcase_add_test(tc, dumps);
	tcase_add_test(tc, what_is_not_there);
	tcase_add_test(tc, directories);
	tcase_add_test(tc, stores);
	tcase_add_test(tc, others_see_what_is_theirs);
	tcase_add_test(tc, groups_in_subjects);
	suite_add_tcase(s, tc);
	return s;
}
