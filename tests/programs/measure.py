# SPDX-License-Identifier: MIT
"""What programs use: as they are, beside the kernel's KSM, and under ksm-run.

Prints the rows of the table in docs/programs.md. Only as root, and best where nobody else uses the
kernel's KSM: its knobs are set, and put back.

	tests/programs/measure.py [NAME...]
"""

import contextlib
import fcntl
import sys
import time

import programs
import tier

LOCK = "/run/lock/ksm-bench.lock"  # of whoever uses the kernel's KSM on this machine
KNOBS = {"run": "1", "pages_to_scan": "20000", "sleep_millisecs": "10"}
CALM = 3  # seconds without a change of a hundredth
PASSES = 6  # and so many passes


@contextlib.contextmanager
def kernel():
    """The kernel's KSM, for us alone."""
    with open(LOCK, "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        was = {name: (tier.KERNEL / name).read_text() for name in KNOBS}
        try:
            for name, value in KNOBS.items():
                (tier.KERNEL / name).write_text(value)
            yield
        finally:
            (tier.KERNEL / "run").write_text("2")
            for name, value in was.items():
                (tier.KERNEL / name).write_text(value)


def passes(r):
    if r.way == "kernel":
        return int((tier.KERNEL / "full_scans").read_text())
    return r.daemon.get("ksm/full_scans") if r.daemon else PASSES


def at_rest(r):
    """MiB, once they change no more; some programs never rest."""
    begun, calm, last = passes(r) if r.way != "native" else 0, time.monotonic(), 0
    end = calm + 40
    while time.monotonic() < end:
        time.sleep(0.5)
        now = r.memory()
        if abs(now - last) > last / 100:
            calm, last = time.monotonic(), now
        begins = r.way == "kernel" and not int((tier.KERNEL / "pages_sharing").read_text())
        if time.monotonic() > calm + CALM and passes(r) >= begun + PASSES and not begins:
            break
    return r.memory() / tier.MIB


def left_out(r):
    reasons = {}
    for client in r.daemon.ctl("ls", "client").stdout.split():
        for reason in r.daemon.ctl("ls", f"client/{client}left_out").stdout.split():
            pages = r.daemon.get(f"client/{client}left_out/{reason}")
            reasons[reason] = reasons.get(reason, 0) + pages
    most = sorted(((n, why) for why, n in reasons.items() if n > 99), reverse=True)
    return ", ".join(f"{why} {n * 4096 / tier.MIB:.1f}" for n, why in most[:3])


def measure(kind, way):
    r = tier.Run(way, options=kind.options)
    try:
        program = kind(r)
        program.start()
        used = at_rest(r)
        why = left_out(r) if r.daemon else ""
        program.check()
        return used, why
    finally:
        r.end()


def main():
    for kind in programs.asked_for(sys.argv[1:]):
        native = measure(kind, "native")[0]
        with kernel():
            theirs = measure(kind, "kernel")[0]
        ours, why = measure(kind, "ours")
        options = " ".join(f"`{o}`" for o in kind.options)
        print(f"| {kind.name} | {options} | {native:.1f} | {theirs:.1f} | {ours:.1f} | {why} |",
              flush=True)


if __name__ == "__main__":
    main()
