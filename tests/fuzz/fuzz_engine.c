/* SPDX-License-Identifier: MIT */
/*
 * fuzz_engine.c - the engine alone: the steps of tests/unit/model.c, chosen by a fuzzer's bytes.
 *
 * After every step the checks of the random test follow: the engine's invariants, every page's
 * content, and at the end, when all orders are answered, the counters.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <urcu.h>

#include "os.h"
#include "unit/model.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* In place of Check's, which tell a parent process and jump. */
void _ck_assert_failed(const char *file, int line, const char *expr, const char *msg, ...)
{
	va_list ap;

	fprintf(stderr, "%s:%d: %s ", file, line, expr);
	va_start(ap, msg);
	if (msg)
		vfprintf(stderr, msg, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

void _mark_point(const char *file, int line)
{
	(void)file;
	(void)line;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	rcu_register_thread();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t rng = 0, how;
	struct fake *w;

	os_reset();
	fake_script(data, size);
	how = fake_rand(&rng);
	w = fake_new(1 + how % 2, 4096, how % 3 ? 0 : 60);
	fake_set(w, KNOB_MAX_PAGE_SHARING, 2 + (uint32_t)(how / 6 % 9));
	fake_client(w, MODEL_BASE, MODEL_PAGES);
	fake_client(w, MODEL_BASE + 0x40000000, MODEL_PAGES);
	while (fake_script_left()) {
		model_step(w, &rng);
		fake_check(w);
		os_run_rcu();
	}
	model_quiet(w);
	fake_free(w);
	os_run_rcu();
	return 0;
}
