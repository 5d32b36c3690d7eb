/* SPDX-License-Identifier: MIT */
/* json.h - JSON on standard output. */
#ifndef KSMDCTL_JSON_H
#define KSMDCTL_JSON_H

void json_string(const char *s);
/* A number as a number, anything else as a string. */
void json_value(const char *s);
/* "name": value */
void json_member(const char *name, const char *value);

#endif
