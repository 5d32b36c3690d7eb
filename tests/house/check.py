#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Check the tree against the plan of the house and the names in its prose.

    check.py [--build DIR] [--report] [--no-selftest] [RULE...]

Prints each finding as file:line: rule: text, and Check's line with one check for each rule and
each self-test, which plants the flaw in a small tree and expects it to be found. --report exits
with 0 whatever was found. Without RULEs all rules are looked at.
"""
import argparse
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import house  # noqa: E402
import names  # noqa: E402
import planted  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--build', default=os.environ.get('KSM_BUILD', 'build'))
    parser.add_argument('--report', action='store_true')
    parser.add_argument('--no-selftest', action='store_true')
    parser.add_argument('rules', nargs='*', metavar='RULE')
    args = parser.parse_args()

    tree = house.Tree(TOP, os.path.join(TOP, args.build))
    plan = house.Plan(tree.text('tests/house/floors.txt'))
    by_rule = house.inspect(tree, plan)
    by_rule.update(names.inspect(tree, tree.text('tests/house/names.txt')))

    checks = failures = 0
    for rule, findings in by_rule.items():
        if args.rules and rule not in args.rules:
            continue
        checks += 1
        failures += bool(findings)
        for f in sorted(findings, key=lambda f: (f.path, f.line)):
            print('%s:%d: %s: %s' % (f.path, f.line, f.rule, f.text))
    for title, error in [] if args.no_selftest else planted.run():
        checks += 1
        failures += bool(error)
        if error:
            print('tests/house/planted.py:1: %s: %s' % (title, error))
    print('%d%%: Checks: %d, Failures: %d, Errors: 0' %
          (100 * (checks - failures) // max(checks, 1), checks, failures))
    return 0 if args.report or not failures else 1


if __name__ == '__main__':
    sys.exit(main())
