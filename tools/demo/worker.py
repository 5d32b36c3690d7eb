#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A worker of the demonstration: an ordinary program that holds one parsed document.

Usage: worker.py FILE. Loads FILE (JSON), says "ready", then answers every line "digest" on its
standard input with the SHA-256 of the document written out again. Ends with its input.
"""

import hashlib
import json
import sys


def digest(document):
    """Hash of the document as text, in a form that does not depend on how it was written."""
    h = hashlib.sha256()
    for path in sorted(document):
        h.update(json.dumps([path, document[path]], sort_keys=True).encode())
    return h.hexdigest()


def main():
    with open(sys.argv[1], encoding="utf-8") as f:
        document = json.load(f)
    print("ready", flush=True)
    for line in sys.stdin:
        print(digest(document) if line.strip() == "digest" else "?", flush=True)


if __name__ == "__main__":
    main()
