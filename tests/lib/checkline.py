# SPDX-License-Identifier: MIT
"""Run the unittest tests of a file, and say the result as tests/run.sh reads it.

That is the last line of Check, "100%: Checks: 12, Failures: 0, Errors: 0", and a line
"SKIP: reason" for each test that was skipped.
"""

import sys
import unittest


def main():
    result = unittest.main(exit=False, argv=[sys.argv[0], "-v", *sys.argv[1:]]).result
    for _, reason in result.skipped:
        print("SKIP:", reason)
    checks = result.testsRun
    # Of a test with several subtests each may fail.
    failed = {test.id().split(" ")[0] for test, _ in result.failures}
    errors = {test.id().split(" ")[0] for test, _ in result.errors} - failed
    passed = checks - len(failed) - len(errors)
    print("%d%%: Checks: %d, Failures: %d, Errors: %d" %
          (100 * passed // max(checks, 1), checks, len(failed), len(errors)))
    sys.exit(0 if result.wasSuccessful() and checks else 1)
