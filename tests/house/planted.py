# SPDX-License-Identifier: MIT
"""Self-tests: each plants one flaw in a small, clean tree and expects its rule to find it."""
import os
import subprocess
import tempfile

import house
import names

SPDX = '/* SPDX-License-Identifier: MIT */\n'

# Two folders: `low` with two rooms on two floors, and `high`, which uses it.
CLEAN = {
    'src/low/ground.h': '#ifndef GROUND_H\n#define GROUND_H\n\nint ground_level(void);\n\n#endif\n',
    'src/low/ground.c': '/* ground.c - the lowest. */\n#include "low/ground.h"\n\n'
                        'int ground_level(void)\n{\n\treturn 0;\n}\n',
    'src/low/upper.h': 'int upper_level(int (*fn)(int));\n',
    'src/low/upper.c': '#include "low/upper.h"\n#include "low/ground.h"\n\n'
                       '/* As high as ground_level() says, and fn() more. */\n'
                       'int upper_level(int (*fn)(int))\n{\n\treturn fn(ground_level());\n}\n',
    'src/high/roof.c': '#include "low/upper.h"\n\nint roof(void);\n\n'
                       'static int twice(int n)\n{\n\treturn 2 * n;\n}\n\n'
                       'int roof(void)\n{\n\treturn upper_level(twice);\n}\n',
    'docs/design.md': '# A house\n\nSee `src/low/ground.c`, `upper_level()` and `make all`.\n\n'
                      '### Floors\n\n| low | `ground`; `upper` |\n| high | `roof` |\n',
    'Makefile': '# SPDX-License-Identifier: MIT\n.PHONY: all\nall:\n',
}
FLOORS = """
folder low src/low
stateless
no-call getpid
no-header time.h
floor ground: ground
floor upper: upper
callback src/low/upper.h fn: the caller adds to the level
folder high src/high
uses low
apart roofs: roof
"""


OBJECTS = {}


def compile_once(top, path, key):
    """Compile top/path, or take the object of an earlier tree whose file and headers were equal."""
    target = os.path.join(top, 'build', 'obj', path[:-2] + '.o')
    if key not in OBJECTS:
        subprocess.run([os.environ.get('CC', 'cc'), '-w', '-D_GNU_SOURCE', '-I',
                        os.path.join(top, 'src'), '-c', os.path.join(top, path), '-o', target],
                       check=True)
        with open(target, 'rb') as f:
            OBJECTS[key] = f.read()
    with open(target, 'wb') as f:
        f.write(OBJECTS[key])


def findings(files, floors=FLOORS, listed=''):
    """{rule: findings} of a tree of these files, really compiled."""
    with tempfile.TemporaryDirectory(prefix='house-') as top:
        build = os.path.join(top, 'build')
        for path, text in files.items():
            full = os.path.join(top, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, 'w', encoding='utf-8') as f:
                f.write(SPDX + text if path.endswith(('.c', '.h')) else text)
            if path.endswith('.c'):
                o = os.path.join(build, 'obj', path[:-2] + '.o')
                os.makedirs(os.path.dirname(o), exist_ok=True)
        headers = tuple(sorted(f for f in files.items() if f[0].endswith('.h')))
        for path in files:
            if path.endswith('.c'):
                compile_once(top, path, (path, files[path], headers))
        tree = house.Tree(top, build)
        found = house.inspect(tree, house.Plan(floors))
        found.update(names.inspect(tree, listed))
        return {rule: f for rule, f in found.items() if f}


def planted(rule, files, floors=FLOORS, where=None, listed=''):
    """What is wrong when `files`, put over the clean tree, do not break `rule` and no other."""
    found = findings({**CLEAN, **files}, floors, listed)
    if rule not in found:
        return 'not found'
    if where and all(f.path != where for f in found[rule]):
        return 'found elsewhere: %s' % found[rule][0].path
    return None


def changed(path, old, new):
    assert old in CLEAN[path]
    return {path: CLEAN[path].replace(old, new)}


def appended(path, text):
    return {path: CLEAN[path] + text}


LOW, UPPER, ROOF = 'src/low/ground.c', 'src/low/upper.c', 'src/high/roof.c'

# (what is planted, its rule, files, other arguments)
FLAWS = [
    ('circle of includes', 'circle', appended('src/low/ground.h', '#include "low/upper.h"\n'), {}),
    ('circle of symbols', 'circle', changed(
        LOW, 'return 0', 'extern int upper_level(void *);\n\treturn upper_level(0)'), {}),
    ('circle of symbols in tests', 'circle', {
        'tests/unit/a.c': 'int b(void);\nint a(void)\n{\n\treturn b();\n}\n',
        'tests/unit/b.c': 'int a(void);\nint b(void)\n{\n\treturn a();\n}\n'},
     {'floors': FLOORS + 'loose unit tests/unit\n'}),
    ('arrow up between floors', 'floor', appended(LOW, '#include "low/upper.h"\n'),
     {'where': LOW}),
    ('symbol of a higher folder', 'floor', changed(
        UPPER, 'return fn', 'extern int roof(void);\n\treturn roof() + fn'), {'where': UPPER}),
    ('header of a higher folder', 'floor', {
        'src/high/roof.h': 'int roof(void);\n', **appended(UPPER, '#include "high/roof.h"\n')},
     {'where': UPPER}),
    ('rooms apart use each other', 'floor', {
        'src/high/wall.h': 'int wall(void);\n',
        'src/high/wall.c': '#include "high/wall.h"\nint wall(void)\n{\n\treturn 1;\n}\n',
        **appended('docs/design.md', '| high | `wall` |\n'),
        **appended(ROOF, '#include "high/wall.h"\n')},
     {'floors': FLOORS.replace('roofs: roof', 'roofs: roof wall'), 'where': ROOF}),
    ('a folder that uses a higher one', 'plan', {},
     {'floors': FLOORS.replace('stateless', 'uses high')}),
    ('a callback without a reason', 'plan', {},
     {'floors': FLOORS.replace(': the caller adds to the level', ':')}),
    ('a file that is not placed', 'placed', {'src/low/attic.c': 'int attic;\n'},
     {'where': 'src/low/attic.c'}),
    ('a place without a file', 'placed', {}, {'floors': FLOORS + 'floor spire: spire\n'}),
    ('a room that the design leaves out', 'design', changed('docs/design.md', '`roof`', 'none'),
     {'where': 'docs/design.md'}),
    ('a call that is forbidden', 'purity', changed(
        LOW, 'return 0', 'extern int getpid(void);\n\treturn getpid()'), {'where': LOW}),
    ('a header that is forbidden', 'purity', appended(LOW, '#include <time.h>\n'),
     {'where': LOW}),
    ('state at file scope', 'purity', appended(
        LOW, 'static int count;\nint ground_next(void);\n'
             'int ground_next(void)\n{\n\treturn ++count;\n}\n'), {'where': LOW}),
    ("another file's function", 'header', appended('src/low/ground.h', 'int upper_level();\n'),
     {'where': 'src/low/ground.h'}),
    ('a function that nobody defines', 'header', appended(
        'src/low/ground.h', 'int cellar(void);\n'), {'where': 'src/low/ground.h'}),
    ('a function in a header of types', 'header', {},
     {'floors': FLOORS + 'types src/low/ground.h\n', 'where': 'src/low/ground.h'}),
    ('a callback that is not listed', 'callback', appended(
        'src/low/ground.h', 'struct ops {\n\tvoid (*call)(void);\n};\n'),
     {'where': 'src/low/ground.h'}),
    ('a listed callback that is gone', 'callback', {},
     {'floors': FLOORS + 'callback src/low/upper.h ring: nobody rings\n'}),
    ('a long file', 'length', appended(LOW, '\n' * house.LENGTH), {'where': LOW}),
    ('a long function', 'function', changed(LOW, 'return 0', ';\n' * house.FUNCTION + 'return 0'),
     {'where': LOW}),
    ('a long line of a comment', 'width', appended(LOW, '/*\t%s */\n' % ('x' * 94)),
     {'where': LOW}),
    ('a long line of a document', 'width', appended('docs/design.md', 'word ' * 21 + '\n'),
     {'where': 'docs/design.md'}),
    ('another SPDX line', 'spdx', {'tests/run.sh': '#!/bin/sh\n'}, {'where': 'tests/run.sh'}),
    ('_GNU_SOURCE in a file', 'gnu-source', appended(LOW, '#define _GNU_SOURCE\n'),
     {'where': LOW}),
    ('a function that is gone', 'name', appended(LOW, '/* See basement_level(). */\n'),
     {'where': LOW}),
    ('a function that has moved', 'name', appended(LOW, '/* See ground_level() in roof.c. */\n'),
     {'where': LOW}),
    ('a field that is gone', 'name', appended(LOW, '/* Keeps nr_of_steps in step. */\n'),
     {'where': LOW}),
    ('a document that is gone', 'name', appended(LOW, '/* See SEMANTICS. */\n'), {'where': LOW}),
    ('a file that is gone', 'name', appended('docs/design.md', 'In `cellar.c`.\n'),
     {'where': 'docs/design.md'}),
    ('a make target that is gone', 'name', appended('docs/design.md', 'Say `make cellar`.\n'),
     {'where': 'docs/design.md'}),
    ('the head names another file', 'name', changed(LOW, 'ground.c - ', 'upper.c - '),
     {'where': LOW}),
    ('a listed name that nobody mentions', 'name', {}, {'listed': 'ghost\n'}),
]


def run():
    """Yield (title, what is wrong or None) for each self-test."""
    found = findings(CLEAN)
    yield 'a clean tree', ', '.join('%s: %s' % (r, f[0].text) for r, f in found.items()) or None
    for title, rule, files, others in FLAWS:
        yield 'planted %s' % title, planted(rule, files, **others)
