/* SPDX-License-Identifier: MIT */
/*
 * domain_key.h - which clients belong together: the key of a domain.
 *
 * Whoever is in a domain can read every frame of it. So a key says as much as the daemon knows, and
 * who is not known well enough is alone: a process whose namespaces cannot be seen, and one of the
 * overflow user.
 */
#ifndef KSMD_DOMAIN_KEY_H
#define KSMD_DOMAIN_KEY_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/identity.h"
#include "wire/label.h"

/* For clients that ask for no named domain. */
enum domain_mode {
	DOMAIN_UID,       /* one per user, and in other namespaces per user and namespaces */
	DOMAIN_PROCESS,   /* one per client: merges only within a process */
	DOMAIN_SHARED,    /* one for all: the operator trusts all clients with each other */
	DOMAIN_CGROUP,    /* as DOMAIN_UID, and per cgroup */
	DOMAIN_NAMESPACE, /* one per container; as DOMAIN_UID in the daemon's own namespaces */
};

enum domain_kind {
	KIND_USER, /* uid, ns_id and text (the cgroup, or empty) */
	KIND_ALONE,
	KIND_ALL,
	KIND_CONTAINER, /* ns_id */
	KIND_NAMED,     /* text */
};

/* What a kind does not use is zero, so two keys are equal when all fields are. */
struct domain_key {
	enum domain_kind kind;
	uint32_t number;       /* KIND_USER: uid; KIND_ALONE: number of the client */
	uint64_t ns_id[NS_NR]; /* zeros: the daemon's own */
	char text[IDENTITY_CGROUP_SIZE];
};

#define DOMAIN_KEY_TEXT (IDENTITY_CGROUP_SIZE + 96u)

const char *domain_mode_name(enum domain_mode mode);
/* Returns false when there is no such mode. */
bool domain_mode_parse(const char *name, enum domain_mode *mode);
/* Does the mode ask who a client is beyond its user? */
static inline bool domain_mode_looks(enum domain_mode mode)
{
	return mode != DOMAIN_PROCESS && mode != DOMAIN_SHARED;
}

/* The key of a client that asks for no named domain. `id` is not looked at in vain. */
void domain_key_of(struct domain_key *key, enum domain_mode mode, const struct identity *id,
		   uint32_t client_id);
/* The key of a named domain; whoever may join it. */
void domain_key_named(struct domain_key *key, const char *label);
bool domain_key_equal(const struct domain_key *a, const struct domain_key *b);
/* "user 1000", "named web" ...; what is not printable becomes '?'. */
void domain_key_text(const struct domain_key *key, char text[DOMAIN_KEY_TEXT]);
/* Does the domain serve those whom the operator named, so that no user pays for it? */
static inline bool domain_key_is_ours(const struct domain_key *key)
{
	return key->kind == KIND_ALL || key->kind == KIND_NAMED;
}

#endif
