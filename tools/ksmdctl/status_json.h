/* SPDX-License-Identifier: MIT */
/* status_json.h - a status as one JSON object; its members are listed in ksmdctl(1). */
#ifndef KSMDCTL_STATUS_JSON_H
#define KSMDCTL_STATUS_JSON_H

struct talk;
struct rates;

/* r: NULL where we may not see them. */
void json_status(struct talk *c, const struct rates *r);

#endif
