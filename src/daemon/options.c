/* SPDX-License-Identifier: MIT */
/* options.c - see options.h. */
#include "daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "daemon/labels.h"
#include "daemon/shortage.h"
#include "wire/abi.h"

#define EXIT_USAGE 2
#define ALLOWED_GROUP "ksm"
#define DOMAINS_FILE_SIZE 100u /* what trust_dir() can look at */
#define FRAMES_PER_MIB (1048576u / KSM_PAGE_SIZE)
#define PAGEBLOCK_BYTES (2u << 20)

static const char usage[] =
	"usage: ksmd-user [OPTION]...\n"
	"Merge identical memory pages of the processes that offer them.\n"
	"\n"
	"  --runtime-dir DIR       sockets are made here [$KSMD_RUNTIME_DIR, else\n"
	"                          /run/ksmd-user for root, else\n"
	"                          $XDG_RUNTIME_DIR/ksmd-user]\n"
	"  --topology auto|emulated:N[,DISTANCES][,moves]\n"
	"                          NUMA nodes of the machine, or N pretended ones\n"
	"                          (1 to 64): ksmd-user(8) [auto]\n"
	"  --domain uid|cgroup|namespace|process|shared\n"
	"                          who may share pages, and read each other's shared\n"
	"                          pages: processes of one user; of one user and cgroup;\n"
	"                          of one container; none with another; or all [uid]\n"
	"  --domains-file FILE     who may join which named domain\n"
	"                          [" LABELS_FILE "]\n"
	"  --arena-limit MiB       most memory for shared pages; 0: no limit\n"
	"                          [half of the machine's memory, or of the memory\n"
	"                          cgroup's limit]\n"
	"  --zone-span MiB         room for numbering the frames of a NUMA node, in each\n"
	"                          domain; 0: four times the arena limit, or where there\n"
	"                          is none the machine's memory [0]\n"
	"  --guard-frames          for debugging: keep a frame empty beside each run of\n"
	"                          frames, so that what maps one too many finds zeros.\n"
	"                          Needs many more mappings\n"
	"  --contig-reserve MiB    a part of each zone, even, from which contiguous ranges\n"
	"                          can be had: see alloc_contig. Shared pages use it, too,\n"
	"                          and are moved out of the way [0]\n"
	"  --pressure FILE         whose programs wait for memory, for the knob\n"
	"                          merge_on_pressure: memory.pressure of a control group\n"
	"                          [" SHORTAGE_PRESSURE_FILE ", of the machine]\n"
	"  --allow-group NAME      who may be a client, besides root and the daemon's own\n"
	"                          user: members of this group, by name or number; or all.\n"
	"                          May be repeated [ksm, where that group exists]\n"
	"  --admin-group NAME      who may set knobs and see what is other users', besides\n"
	"                          root and the daemon's own user: members of this group,\n"
	"                          by name or number. May be repeated [nobody]\n"
	"  --log-level error|warning|info|debug\n"
	"                          [info]\n"
	"  --help, --version\n"
	"\n"
	"Runs in the foreground; SIGTERM or SIGINT ends it. ksmdctl sets its knobs.\n";

/* MiB as a number of bytes. Frame numbers have 31 bits: below 8 TiB. */
static bool parse_limit(const char *s, uint64_t *bytes)
{
	uint64_t mib;

	if (text_number(s, 10, &mib) || mib >= (1ull << 31) / FRAMES_PER_MIB)
		return false;
	*bytes = mib << 20;
	return true;
}

void options_bad_value(const char *option, const char *value)
{
	fprintf(stderr, "ksmd-user: --%s: not a valid value: %s\n", option, value);
	exit(EXIT_USAGE);
}

void options_refuse(const char *option, const char *value, const char *why)
{
	fprintf(stderr, "ksmd-user: --%s: not a valid value: %s: %s\n", option, value, why);
	exit(EXIT_USAGE);
}

uint32_t options_reserve(const struct options *o, uint32_t zone_frames)
{
	uint64_t frames = o->contig_reserve / KSM_PAGE_SIZE;
	char value[24];

	snprintf(value, sizeof(value), "%llu", (unsigned long long)(o->contig_reserve >> 20));
	if (frames >= zone_frames)
		options_refuse("contig-reserve", value, "a zone has no more: see --zone-span");
	return (uint32_t)frames;
}

static void add_group(struct group_set *g, const char *option, const char *name)
{
	if (group_set_add(g, name))
		options_bad_value(option, name);
}

static void parse_size(const char *option, const char *value, uint64_t *bytes)
{
	if (!parse_limit(value, bytes))
		options_bad_value(option, value);
}

static void parse_reserve(struct options *o, const char *value)
{
	parse_size("contig-reserve", value, &o->contig_reserve);
	if (o->contig_reserve % PAGEBLOCK_BYTES)
		options_bad_value("contig-reserve", value);
}

static void parse_option(struct options *o, int c)
{
	switch (c) {
	case 'r':
		o->runtime_dir = optarg;
		break;
	case 't':
		o->topology = optarg; /* the topology itself knows what it can be */
		break;
	case 'd':
		if (!domain_mode_parse(optarg, &o->domain))
			options_bad_value("domain", optarg);
		break;
	case 'f':
		if (*optarg != '/' || strlen(optarg) >= DOMAINS_FILE_SIZE)
			options_bad_value("domains-file", optarg);
		o->domains_file = optarg;
		break;
	case 'a':
		parse_size("arena-limit", optarg, &o->arena_limit);
		break;
	case 's':
		parse_size("zone-span", optarg, &o->zone_span);
		break;
	case 'R':
		parse_reserve(o, optarg);
		break;
	case 'G':
		o->guard_frames = true;
		break;
	case 'p':
		if (*optarg != '/')
			options_bad_value("pressure", optarg);
		o->pressure = optarg;
		break;
	case 'g':
		add_group(&o->allowed, "allow-group", optarg);
		break;
	case 'A':
		/* Everybody's counters tell of everybody's contents: it takes a group. */
		if (!strcmp(optarg, "all"))
			options_bad_value("admin-group", optarg);
		add_group(&o->operators, "admin-group", optarg);
		break;
	case 'l':
		if (!log_set_level(optarg))
			options_bad_value("log-level", optarg);
		break;
	case 'h':
		fputs(usage, stdout);
		exit(0);
	case 'v':
		puts("ksmd-user " KSMD_VERSION);
		exit(0);
	default:
		exit(EXIT_USAGE);
	}
}

void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option longopts[] = {
		{ "runtime-dir", required_argument, NULL, 'r' },
		{ "topology", required_argument, NULL, 't' },
		{ "domain", required_argument, NULL, 'd' },
		{ "domains-file", required_argument, NULL, 'f' },
		{ "arena-limit", required_argument, NULL, 'a' },
		{ "zone-span", required_argument, NULL, 's' },
		{ "contig-reserve", required_argument, NULL, 'R' },
		{ "guard-frames", no_argument, NULL, 'G' },
		{ "pressure", required_argument, NULL, 'p' },
		{ "allow-group", required_argument, NULL, 'g' },
		{ "admin-group", required_argument, NULL, 'A' },
		{ "log-level", required_argument, NULL, 'l' },
		{ "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' },
		{ 0 },
	};
	int c;

	*o = (struct options){ .topology = "auto",
			       .domain = DOMAIN_UID,
			       .domains_file = LABELS_FILE,
			       .pressure = SHORTAGE_PRESSURE_FILE,
			       .arena_limit = ARENA_LIMIT_AUTO };
	while ((c = getopt_long(argc, argv, "", longopts, NULL)) != -1)
		parse_option(o, c);
	if (optind < argc) {
		fprintf(stderr, "ksmd-user: unexpected argument: %s\n", argv[optind]);
		exit(EXIT_USAGE);
	}
	if (!o->allowed.all && !o->allowed.nr)
		group_set_add(&o->allowed, ALLOWED_GROUP); /* where there is one */
}
