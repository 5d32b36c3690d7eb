/* SPDX-License-Identifier: MIT */
/* domain_key.c - see domain_key.h. */
#include "daemon/domain_key.h"

#include <stdio.h>
#include <string.h>

static const char *const mode_name[] = {
	[DOMAIN_UID] = "uid",       [DOMAIN_PROCESS] = "process",     [DOMAIN_SHARED] = "shared",
	[DOMAIN_CGROUP] = "cgroup", [DOMAIN_NAMESPACE] = "namespace",
};

const char *domain_mode_name(enum domain_mode mode)
{
	return mode_name[mode];
}

bool domain_mode_parse(const char *name, enum domain_mode *mode)
{
	for (unsigned int i = 0; i < sizeof(mode_name) / sizeof(mode_name[0]); i++) {
		if (!strcmp(name, mode_name[i])) {
			*mode = (enum domain_mode)i;
			return true;
		}
	}
	return false;
}

static void alone(struct domain_key *key, uint32_t client_id)
{
	*key = (struct domain_key){ .kind = KIND_ALONE, .number = client_id };
}

static void add_namespaces(struct domain_key *key, const struct identity *id)
{
	if (id->known == NS_OTHER)
		memcpy(key->ns_id, id->ns_id, sizeof(key->ns_id));
}

void domain_key_of(struct domain_key *key, enum domain_mode mode, const struct identity *id,
		   uint32_t client_id)
{
	memset(key, 0, sizeof(*key));
	if (mode == DOMAIN_SHARED) {
		key->kind = KIND_ALL;
		return;
	}
	if (mode == DOMAIN_PROCESS || id->known == NS_UNSEEN) {
		alone(key, client_id);
		return;
	}
	add_namespaces(key, id);
	if (mode == DOMAIN_NAMESPACE && id->known == NS_OTHER) {
		key->kind = KIND_CONTAINER;
		return;
	}
	key->kind = KIND_USER;
	key->number = id->cred.uid;
	if (!identity_is_somebody(id) || (mode == DOMAIN_CGROUP && identity_cgroup(id, key->text)))
		alone(key, client_id);
}

void domain_key_named(struct domain_key *key, const char *label)
{
	memset(key, 0, sizeof(*key));
	key->kind = KIND_NAMED;
	snprintf(key->text, sizeof(key->text), "%s", label);
}

bool domain_key_equal(const struct domain_key *a, const struct domain_key *b)
{
	return a->kind == b->kind && a->number == b->number &&
	       !memcmp(a->ns_id, b->ns_id, sizeof(a->ns_id)) && !strcmp(a->text, b->text);
}

void domain_key_text(const struct domain_key *key, char text[DOMAIN_KEY_TEXT])
{
	char ns[64] = "";

	if (key->ns_id[NS_USER])
		snprintf(ns, sizeof(ns), " user:[%llu] pid:[%llu]",
			 (unsigned long long)key->ns_id[NS_USER],
			 (unsigned long long)key->ns_id[NS_PID]);
	switch (key->kind) {
	case KIND_USER:
		snprintf(text, DOMAIN_KEY_TEXT, "user %u%s%s%s", key->number, ns,
			 key->text[0] ? " cgroup " : "", key->text);
		break;
	case KIND_ALONE:
		snprintf(text, DOMAIN_KEY_TEXT, "client %u", key->number);
		break;
	case KIND_ALL:
		snprintf(text, DOMAIN_KEY_TEXT, "all");
		break;
	case KIND_CONTAINER:
		snprintf(text, DOMAIN_KEY_TEXT, "container%s", ns);
		break;
	case KIND_NAMED:
		snprintf(text, DOMAIN_KEY_TEXT, "named %s", key->text);
		break;
	}
	for (char *c = text; *c; c++)
		if (*c < ' ' || *c > '~')
			*c = '?';
}
