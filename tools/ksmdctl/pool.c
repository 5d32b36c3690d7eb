/* SPDX-License-Identifier: MIT */
/*
 * pool.c - see pool.h.
 *
 * The daemon's attribute domain/D/zone/N/map has two characters for each pageblock: its kind, and
 * how many tenths of it are in use. In the terminal a pageblock is one of them, the more telling
 * one; in the image it is a square whose colour is the kind and whose strength is the use.
 */
#include "tools/ksmdctl/pool.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/ksmdctl/ask.h"
#include "tools/ksmdctl/die.h"

#define SQUARE 10 /* of the image, in pixels */
#define MARGIN 60

static const char legend[] =
	". nothing  0-9 tenths in use  a-j the same, in a window  I isolated  x out of use\n";

/* One character for a pageblock. */
static char terminal_char(char kind, char use)
{
	if (kind == '-')
		return '.';
	if (isupper((unsigned char)kind))
		return 'I';
	if (kind == 'w' && isdigit((unsigned char)use))
		return (char)('a' + (use - '0'));
	return use;
}

static void print_row(const char *first, const char *row)
{
	printf("%8s ", first);
	for (; row[0] && row[1]; row += 2)
		putchar(terminal_char(row[0], row[1]));
	putchar('\n');
}

static const char *colour(char kind)
{
	switch (tolower((unsigned char)kind)) {
	case 'w':
		return "#2b6cb0";
	case 'm':
		return "#2f855a";
	case 'u':
		return "#b7791f";
	case 'r':
		return "#6b46c1";
	default:
		return "#c53030";
	}
}

static void draw_row(FILE *out, const char *first, const char *row, int y)
{
	fprintf(out, "<text x='0' y='%d'>%s</text>\n", y + SQUARE - 2, first);
	for (int x = MARGIN; row[0] && row[1]; row += 2, x += SQUARE) {
		bool used = isdigit((unsigned char)row[1]);

		if (row[0] == '-' || row[0] == ' ')
			continue;
		fprintf(out,
			"<rect x='%d' y='%d' width='%d' height='%d' fill='%s' "
			"fill-opacity='%.1f'%s/>\n",
			x, y, SQUARE - 1, SQUARE - 1, colour(row[0]),
			used ? 0.1 + 0.1 * (row[1] - '0') : 1.0,
			isupper((unsigned char)row[0]) ? " stroke='#c53030'" : "");
	}
}

/* The rows of one zone, drawn into `svg` if that is not NULL; *y grows with each that is drawn. */
static void show_zone(struct talk *c, const char *domain, const char *node, FILE *svg, int *y)
{
	char dir[64], *map, *save = NULL;
	int64_t used, blocks;

	snprintf(dir, sizeof(dir), "domain/%s/zone/%s", domain, node);
	map = ctl_value(c, dir, "map");
	used = ctl_number(c, dir, "used");
	blocks = ctl_number(c, dir, "pageblocks");
	if (map && *map && svg)
		fprintf(svg, "<text x='0' y='%d'>domain %s, node %s</text>\n",
			(*y += 2 * SQUARE) - 2, domain, node);
	else if (map && *map)
		printf("domain %s node %s: %" PRId64 " frames used, %" PRId64 " pageblocks\n",
		       domain, node, used, blocks);
	for (char *w = map ? strtok_r(map, "\n", &save) : NULL; w && *w;) {
		char *colon = strchr(w, ':'), *next;

		if (!colon)
			break;
		*colon = '\0';
		/* A row may hold spaces, beyond the end of the zone: it has 128 characters. */
		next = strlen(colon + 1) > 128 ? colon + 1 + 128 : NULL;
		if (next)
			*next++ = '\0';
		if (svg)
			draw_row(svg, w, colon + 1, *y);
		else
			print_row(w, colon + 1);
		*y += SQUARE;
		w = next;
	}
	free(map);
}

/* Those of a domain, if it has not ended meanwhile and is for the caller to see. */
static void show_domain(struct talk *c, const char *domain, FILE *svg, int *y)
{
	char line[64], err[256], *save = NULL, *zones;

	snprintf(line, sizeof(line), "ls domain/%s/zone", domain);
	zones = ctl_try(c, line, err, sizeof(err));
	for (char *n = zones ? strtok_r(zones, "\n/", &save) : NULL; n;
	     n = strtok_r(NULL, "\n/", &save))
		show_zone(c, domain, n, svg, y);
	free(zones);
}

void cmd_pool(struct talk *c, bool svg)
{
	char *body = ctl_ask(c, "ls domain"), *save = NULL, *image = NULL;
	size_t size = 0;
	FILE *out = svg ? open_memstream(&image, &size) : NULL;
	int y = 0;

	if (svg && !out)
		die(EXIT_REFUSED, "no memory");
	if (!svg)
		fputs(legend, stdout);
	for (char *n = strtok_r(body, "\n/", &save); n; n = strtok_r(NULL, "\n/", &save))
		show_domain(c, n, out, &y);
	if (svg) {
		fclose(out);
		printf("<svg xmlns='http://www.w3.org/2000/svg' width='%d' height='%d' "
		       "font-family='monospace' font-size='9'>\n%s</svg>\n",
		       MARGIN + 64 * SQUARE, y + SQUARE, image);
	}
	free(image);
	free(body);
}
