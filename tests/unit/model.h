/* SPDX-License-Identifier: MIT */
/*
 * model.h - one random step of everything that can happen to an engine, and the check that the
 * engine's view equals the clients' truth. fake_rand() supplies the randomness, from a seed
 * (test_model.c) or a fuzzer's bytes (tests/fuzz/fuzz_engine.c).
 */
#ifndef MODEL_H
#define MODEL_H

#include "fake.h"

#define MODEL_PAGES 200
#define MODEL_BASE 0x7f00000f0000ull /* not at a block's start */

void model_step(struct fake *w, uint64_t *rng);
/* Answer everything, then compare. */
void model_quiet(struct fake *w);

#endif
