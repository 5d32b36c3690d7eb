/* SPDX-License-Identifier: MIT */
/*
 * kinds.c - see kinds.h.
 *
 * The names are those of the daemon (engine/engine.h, wire/abi.h), and four of memory of which it
 * knows nothing: `why` finds that in /proc/PID/smaps.
 */
#include "tools/ksmdctl/kinds.h"

#include <stdio.h>
#include <string.h>

#include "tools/ksmdctl/die.h"

#define NOTHING_YET "Wait for two more passes (ksm/full_scans), or ask: ksmdctl merge PID --wait."

const struct kind kinds[] = {
	{ "merged", "merged", "These pages stand on frames that others use, too.", NULL, true },
	{ "alone", "on a frame that no other page uses any more",
	  "The pages were merged, and the others have been written or have gone since.",
	  "Nothing: the frame is there for the next page of the same contents. Until then the page "
	  "saves nothing.",
	  true },
	{ "zero", "zeros, given back",
	  "These pages held zeros, and take no memory until they are written.", NULL, true },
	{ "ordered", "about to be merged", "Their order waits or is under way.", NOTHING_YET,
	  false },
	{ "unique", "unique so far",
	  "No other page of the domain has the same contents, or (for anybody but an operator) one "
	  "has that they may not be merged with yet.",
	  "Nothing is to be gained here, unless programs with the same contents are in another "
	  "domain: then let them ask for one (KSM_DOMAIN, ksm_join()). ksmdctl estimate PID... "
	  "says what that would save.",
	  false },
	{ "few_sharers", "equal to others, of too few programs",
	  "Fewer programs than ksm/min_sharers hold these contents.",
	  "Set ksm/min_sharers lower. That lets a program find out what fewer others hold.",
	  false },
	{ "delayed", "equal to others, waiting for a random time",
	  "ksm/merge_delay_millisecs hides when contents appeared.",
	  "Wait, or set ksm/merge_delay_millisecs lower.", false },
	{ "new", "not compared yet",
	  "The daemon has seen these pages, and has not found them calm or read them since.",
	  NOTHING_YET, false },
	{ "held", "not compared, because memory is not short",
	  "ksm/merge_below_available or ksm/merge_on_pressure has merging wait until it is.",
	  "Nothing: it is merged when memory becomes short. To merge at once, set both to 0.",
	  false },
	{ "debt", "not compared, because of the limit of the debt",
	  "If all that is merged were written at once, so much memory would be needed that "
	  "limit/debt_bytes (or this user's share of it) allows no more.",
	  "Raise limit/debt_bytes; 0 is no limit. What limit/user_share_percent leaves to others "
	  "is theirs.",
	  false },
	{ "volatile", "written too often",
	  "These pages had been written again nearly each time that they were looked at. To merge "
	  "them would cost more than it saves.",
	  "Nothing, as a rule. A longer ksm/sleep_millisecs makes more of them volatile, a shorter "
	  "one fewer.",
	  false },
	{ "cow_broken", "written after they were merged",
	  "These pages are private memory in a mapping of frames, and are merged again once they "
	  "are calm. In a program that does direct I/O or uses io_uring they are not.",
	  "Nothing, or let the program leave out (ksm_exclude(), MADV_UNMERGEABLE) what it "
	  "writes.",
	  false },
	{ "pinned", "pinned",
	  "A device or an io_uring may write to these pages behind the processor's back.",
	  "End the I/O, or unregister the buffers. The pages are tried again, more and more "
	  "seldom.",
	  false },
	{ "fork_shared", "shared with a process of a fork",
	  "Parent and child have these pages in common, so they are not twice there.",
	  "They are tried again when either has written them. After exec or exit of one they are "
	  "the other's alone.",
	  false },
	{ "vma_budget", "would take too many mappings",
	  "Equal pages that lie scattered cost a mapping each, and a process can have "
	  "vm.max_map_count of them, of which merging takes a share.",
	  "Raise vm.max_map_count (sysctl; 1048576 is usual) or ksm/vma_budget_percent.", false },
	{ "fork_budget", "would make its forks too slow",
	  "fork copies mappings one by one, and equal pages that lie scattered cost a mapping "
	  "each. A program that forks often has no more of them than make a fork take twice its "
	  "time.",
	  "Nothing, as a rule: posix_spawn and vfork copy no mappings, and do not count. Or raise "
	  "ksm/fork_cost_percent.",
	  false },
	{ "arena_limit", "no room for frames",
	  "The daemon has reached limit/arena_bytes or its --arena-size, or too many frames are "
	  "retired (ksm/max_retired_frames).",
	  "Raise that limit. ksmdctl status says who holds retired frames up.", false },
	{ "foreign", "on frames of an earlier daemon",
	  "An earlier daemon merged these pages. They are merged again, or become private memory.",
	  NOTHING_YET, false },
	{ "kept", "on frames of an earlier daemon, and no room to give them up",
	  "The program is near a limit of its memory, and private pages take more.",
	  "Raise the limit of its memory cgroup.", false },
	{ "unseen", "not looked at yet",
	  "The memory is offered and there, and the daemon knows nothing of it so far.",
	  NOTHING_YET " ksm/run must be 1, and memory short where merging waits for that "
		      "(ksm/merging_held).",
	  false },
	{ "swapped", "in swap", "What is not in memory is not compared.",
	  "Nothing: it is looked at when the program uses it.", false },
	{ "not_offered", "not offered",
	  "The program has not offered this memory. Where it excluded some, or gave it to a pipe, "
	  "client/PID/left_out says how much.",
	  "Offer it: madvise(MADV_MERGEABLE) under ksm-run, ksm_madvise() with libksm, or ksm-run "
	  "without --advised-only.",
	  false },
	{ "file", "pages of files",
	  "The kernel has one copy of a file's pages for all programs, and merges none of them.",
	  NULL, false },
	{ "mlocked", "locked", "mlock(2) promises the program that pages stay where they are.",
	  "Do not lock the memory.", false },
	{ "wipeonfork", "wiped in a child",
	  "MADV_WIPEONFORK: contents that a child must not inherit, as of random number "
	  "generators.",
	  "Nothing should.", false },
	{ "mempolicy", "under a NUMA policy that the library did not see",
	  "Frames follow no policy of the process, so memory with one is left out.",
	  "Set the policy through ksm-run or not at all.", false },
	{ "pkey", "under a protection key", "Frames could not be given the key at the same moment.",
	  "Nothing should.", false },
	{ "shared", "shared memory",
	  "MAP_SHARED memory and the like: its processes have one copy already, and what one "
	  "writes the others must see.",
	  NULL, false },
	{ "hugetlb", "huge pages of hugetlbfs", "They cannot be cut into pages.",
	  "Use transparent huge pages.", false },
	{ "stack", "stacks", "Stacks change all the time, and the agent must not stand on one.",
	  NULL, false },
	{ "spliced", "given to a pipe",
	  "vmsplice(2): the pipe may refer to the page itself, and must see later stores.",
	  "Offer the memory again (MADV_MERGEABLE) once the pipe has been read.", false },
	{ "excluded", "excluded by the program",
	  "ksm_exclude(), or MADV_DONTDUMP: contents of which no neighbour is to learn. Also what "
	  "code maps that calls the kernel by itself (Go): ksm-run would not see it given back.",
	  "Nothing should.", false },
	{ "userfaultfd", "under a userfaultfd of the program's own",
	  "The kernel allows one for each mapping, and tracking writes takes ours.",
	  "Let the program unregister it.", false },
	{ "prot", "not readable and writable",
	  "Merging takes private memory that the program can read and write.",
	  "mprotect(2), if the program should be able to write there at all.", false },
	{ "sealed", "sealed", "mseal(2): the kernel lets nothing else be mapped there.",
	  "Do not seal the memory, or merge it before.", false },
};
const size_t nr_kinds = sizeof(kinds) / sizeof(kinds[0]);

size_t kind_find(const char *name, size_t len)
{
	size_t i = 0;

	while (i < nr_kinds && (strlen(kinds[i].name) != len || memcmp(kinds[i].name, name, len)))
		i++;
	return i;
}

void print_wrapped(const char *margin, const char *text)
{
	size_t column = 0;

	for (const char *word = text; *word;) {
		size_t len = strcspn(word, " ");

		if (column && column + 1 + len + strlen(margin) > 80) {
			putchar('\n');
			column = 0;
		}
		column += (size_t)printf("%s%.*s", column ? " " : margin, (int)len, word);
		word += len + (word[len] == ' ');
	}
	putchar('\n');
}

static void print_kind(const struct kind *k)
{
	printf("%s: %s\n", k->name, k->what);
	print_wrapped("    ", k->meaning);
	print_wrapped("    What to do: ", k->help ? k->help : "nothing.");
}

void cmd_help(const char *name)
{
	size_t i = name ? kind_find(name, strlen(name)) : 0;

	if (i == nr_kinds)
		die(EXIT_USAGE, "no such reason: %s; see ksmdctl help", name);
	do
		print_kind(&kinds[i]);
	while (!name && ++i < nr_kinds);
}
