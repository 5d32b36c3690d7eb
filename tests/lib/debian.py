# SPDX-License-Identifier: MIT
"""Packages from Debian's archive, fetched and unpacked for a test, not installed.

A machine may have no archive, no network or no room: Missing says why, and the test is skipped.
"""

import os
import pathlib
import shutil
import subprocess
import tempfile

ROOM = 2 << 30     # bytes free that the largest package wants for a while
FETCH_LIMIT = 120  # seconds


class Missing(Exception):
    """Why it cannot be had."""


def run(command, limit, **kw):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=limit, check=False, **kw)
    except FileNotFoundError as e:
        raise Missing(f"{command[0]} is not there") from e
    except subprocess.TimeoutExpired as e:
        raise Missing(f"{command[0]} took longer than {limit} s") from e
    if done.returncode:
        last = (done.stdout.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise Missing(f"{command[0]}: {last}")


def fetch(package, at):
    """Put the package's archive into the directory `at`."""
    run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package], FETCH_LIMIT,
        cwd=at)


def kept(directory, make):
    """make(at), in a directory that becomes `directory` when that has succeeded; once."""
    directory = pathlib.Path(directory)
    if directory.exists():
        return directory
    if shutil.disk_usage(directory.parent).free < ROOM:
        raise Missing("there is too little room on the disk")
    at = pathlib.Path(tempfile.mkdtemp(prefix=directory.name + ".", dir=directory.parent))
    try:
        os.chmod(at, 0o755)
        make(at)
        for deb in at.glob("*.deb"):
            deb.unlink()
        at.rename(directory)
    finally:
        shutil.rmtree(at, True)
    return directory
