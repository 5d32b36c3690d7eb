# SPDX-License-Identifier: MIT
"""Medians of rounds, and how a number is written.

A value that could not be measured is NaN, which every summary leaves out.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Sequence


class Summary(NamedTuple):
    """Of the values of several rounds; all NaN when there are none."""

    median: float
    min: float
    max: float
    nr: int


NOTHING = Summary(math.nan, math.nan, math.nan, 0)


def summary(values: Sequence[float]) -> Summary:
    """The summary of those values that were measured."""
    v = sorted(x for x in values if not math.isnan(x))
    if not v:
        return NOTHING
    return Summary((v[(len(v) - 1) // 2] + v[len(v) // 2]) / 2, v[0], v[-1], len(v))


def quotient(above: float, below: float) -> float:
    """above / below; NaN where that says nothing because `below` is not above 0."""
    return above / below if below > 0 else math.nan


def gain(kernel: Sequence[float], user: Sequence[float], less_is_better: bool) -> Summary:
    """How many times better the values of ksmd-user are than those of the kernel.

    The median is that of the two medians. Least and most come from the rounds, because in each
    round the two sides ran one after the other. NOTHING where a side has no values, or is 0.
    """
    if not less_is_better:
        kernel, user = user, kernel
    each = summary([quotient(k, u) for k, u in zip(kernel, user)])
    median = quotient(summary(kernel).median, summary(user).median)
    if not each.nr or not math.isfinite(median):
        return NOTHING
    return each._replace(median=median)


def figure(v: float) -> str:
    """Three figures, without an exponent where that is short."""
    return "%.0f" % v if 1000 <= v < 1e9 else "%.3g" % v
