# SPDX-License-Identifier: MIT
"""ksm-bench report: tables and a plot of what `ksm-bench kernel --json` wrote."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Optional

import plot
import tables
from results import Refused, Result, load

MAX_BYTES = 16 << 20  # more than any set of results; less than would hurt
BEGIN = b"<!-- results: begin -->\n"
END = b"<!-- results: end -->\n"


class Failure(Exception):
    """Something is wrong with a file, in words for the person at the terminal."""


def read(path: Optional[str]) -> bytes:
    """A whole file; None: standard input."""
    try:
        if path is None:
            data = sys.stdin.buffer.read(MAX_BYTES + 1)
        else:
            with open(path, "rb") as f:
                data = f.read(MAX_BYTES + 1)
    except OSError as e:
        raise Failure(f"{path or 'standard input'}: {e.strerror}") from e
    if len(data) > MAX_BYTES:
        raise Failure(f"{path or 'standard input'}: is too large")
    return data


def load_file(path: Optional[str]) -> list[Result]:
    text = read(path).decode("utf-8", errors="replace")
    try:
        return load(text)
    except Refused as e:
        raise Failure(f"{path or 'standard input'}: {e}") from e


def update(path: str, text: str) -> None:
    """Put `text` in place of what stands between two lines of a document, all of it or nothing."""
    old = read(path)
    begin = old.find(BEGIN)
    end = old.find(END, begin)
    if begin < 0 or end < 0:
        raise Failure(f"{path}: has no lines {BEGIN.decode().strip()} and {END.decode().strip()}")
    new = path + ".new"
    try:
        with open(new, "wb") as f:
            f.write(old[:begin] + BEGIN + b"\n" + text.encode() + old[end:])
        os.replace(new, path)
    except OSError as e:
        if os.path.exists(new):
            os.unlink(new)
        raise Failure(f"{e.filename or path}: {e.strerror}") from e


def write_svg(path: str, results: list[Result]) -> None:
    try:
        with open(path, "w", encoding="ascii") as f:
            f.write(plot.svg(results))
    except OSError as e:
        raise Failure(f"{path}: {e.strerror}") from e


def parse(args: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="ksm-bench report", allow_abbrev=False,
        description="Markdown tables, and a plot, of what --json wrote.")
    parser.add_argument("files", nargs="*", metavar="FILE", help="default: standard input")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--summary", action="store_true",
                      help="only what is wanted and what was seen")
    what.add_argument("--figures", action="store_true",
                      help="only the figures of each workload")
    parser.add_argument("--svg", metavar="FILE", help="draw a plot, too")
    parser.add_argument("--update", metavar="FILE.md",
                        help="put the tables into a document instead of printing them")
    return parser.parse_intermixed_args(args)


def report(args: argparse.Namespace) -> None:
    results = [r for path in args.files or [None] for r in load_file(path)]
    if args.update:
        update(args.update, tables.everything(results))
    elif args.summary:
        sys.stdout.write(tables.summary(results))
    elif args.figures:
        sys.stdout.write("".join(map(tables.figures, results)))
    else:
        sys.stdout.write(tables.everything(results))
    sys.stdout.flush()
    if args.svg:
        write_svg(args.svg, results)


def main(args: list[str]) -> int:
    """The exit status."""
    try:
        report(parse(args))
    except Failure as e:
        print(f"ksm-bench: {e}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python complains about it at its end
        return 1
    return 0
