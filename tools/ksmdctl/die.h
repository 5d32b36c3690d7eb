/* SPDX-License-Identifier: MIT */
/* die.h - how this program ends. */
#ifndef KSMDCTL_DIE_H
#define KSMDCTL_DIE_H

enum exit_code {
	EXIT_OK,
	EXIT_REFUSED, /* the daemon answered with an error */
	EXIT_USAGE,
	EXIT_NO_DAEMON, /* nobody answers */
};

/* Say why on standard error, after what is on standard output, and exit. */
void die(enum exit_code code, const char *fmt, ...) __attribute__((format(printf, 2, 3), noreturn));

#endif
