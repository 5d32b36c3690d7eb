# SPDX-License-Identifier: MIT
"""Names that comments and documents mention exist.

Looked at are name(), name() in x.c, name_with_underscores, files and folders, make targets, and in
comments CAPITALS, too. A name exists when code says it (outside comments), when a file has it, or
when a system header says it; names of the kernel's inside and of books are listed in names.txt.
A comment that opens a file calls it by its name.
"""
import functools
import os
import re

from house import Finding, line_of

HEADERS = ('/usr/include', '/usr/include/x86_64-linux-gnu', '/usr/include/aarch64-linux-gnu')
HEADER_FOLDERS = ('', 'sys', 'bits', 'linux', 'asm', 'asm-generic', 'urcu', 'urcu/static',
                  'bits/types', 'valgrind', 'netinet', 'arpa', 'linux/netfilter')

WORD = re.compile(r'[A-Za-z_]\w*')


@functools.lru_cache(maxsize=None)
def system_words():
    words = set()
    for top in HEADERS:
        for folder in HEADER_FOLDERS:
            path = os.path.join(top, folder)
            for n in sorted(os.listdir(path)) if os.path.isdir(path) else ():
                if n.endswith('.h'):
                    with open(os.path.join(path, n), encoding='latin-1') as f:
                        words |= set(WORD.findall(f.read()))
    # What the kernel knows as a call has a number.
    return words | {w[5:] for w in words if w.startswith('__NR_')}


class Universe:
    """Everything that a name may mean."""

    def __init__(self, tree, listed):
        self.words, self.files, self.targets = set(), set(), set()
        self.endings, self.beginnings = set(), set()
        for p in tree.paths:
            parts = p.split('/')
            self.files |= {'/'.join(parts[i:]) for i in range(len(parts))}
            self.words.add(os.path.splitext(parts[-1])[0].replace('-', '_'))
            folders = parts[:-1]
            for end in range(1, len(folders) + 1):
                self.files |= {'/'.join(folders[i:end]) for i in range(end)}
            if p.endswith(('.c', '.h')):
                text = re.sub(r'/\*.*?\*/|//[^\n]*', ' ', tree.text(p), flags=re.S)
                self.words |= set(WORD.findall(text))
            elif p.endswith(('.py', '.sh', '.pml', '.syms', '.map', '.mk')) or 'Makefile' in p:
                text = re.sub(r'(?m)^\s*#.*$|/\*.*?\*/', ' ', tree.text(p), flags=re.S) \
                    if p.endswith('.pml') else re.sub(r'(?m)^\s*#.*$', ' ', tree.text(p))
                self.words |= set(WORD.findall(text))
            if p == 'Makefile' or p.endswith('.mk'):
                for m in re.finditer(r'(?m)^([a-z][\w -]*):(?!=)', tree.text(p)):
                    self.targets |= set(m.group(1).split())
                for m in re.finditer(r'(?m)^\.PHONY: ((?:.*\\\n)*.*)', tree.text(p)):
                    self.targets |= set(m.group(1).replace('\\', ' ').split())
        self.listed, self.patterns, self.used = set(), [], set()
        for line in listed.splitlines():
            for w in line.partition('#')[0].split():
                if '*' in w:
                    self.patterns.append(re.compile(re.escape(w).replace(r'\*', r'\w*') + '$'))
                else:
                    self.listed.add(w)
        self.parts = set()
        for w in self.words:
            pieces = w.split('_')
            self.parts |= {'_'.join(pieces[:i]) + '_' for i in range(1, len(pieces))}
            self.parts |= {'_' + '_'.join(pieces[i:]) for i in range(1, len(pieces))}

    def knows(self, word):
        if word in self.words or '_' + word in self.parts or word in self.parts:
            return True
        for p in self.patterns:
            if p.match(word):
                self.used.add(p.pattern)
                return True
        if word in self.listed:
            self.used.add(word)
            return True
        return word in system_words()

    def knows_file(self, path):
        path = path.rstrip('/')
        if path in self.listed:
            self.used.add(path)
        return path in self.files or path in self.listed or \
            (path.endswith('.h') and any(os.path.exists(os.path.join(h, path)) for h in HEADERS))


def prose(tree, path):
    """(text, kind): what people read in a file, in its place."""
    if path.endswith(('.c', '.h', '.pml')):
        return tree.comments(path), 'comment'
    text = tree.text(path)
    if path.endswith('.md') or re.search(r'\.[1-8]$', path):
        return text, 'document'
    if path.endswith(('.sh', '.py', '.mk')) or path in ('Makefile', '.ci/run'):
        return ''.join(line if line.lstrip().startswith('#') else
                       re.sub(r'[^\n]', ' ', line) for line in text.splitlines(True)), 'script'
    return '', None


def rule_names(tree, listed, universe=None):
    u = universe or Universe(tree, listed)
    for path in tree.paths:
        text, kind = prose(tree, path)
        if kind is None or path.startswith('tests/house/'):
            continue
        seen = set()
        m = re.match(r'(?:[^\n]*\n)?(?:/\*\n?)? \*? ?([\w-]+\.[ch]) - ', text)
        if m and m.group(1) != os.path.basename(path):
            yield Finding('name', path, line_of(text, m.start(1)),
                          'the head calls this file %s' % m.group(1))
        for offset, name, where in placed(text):
            files = [p for p in tree.paths if ('/' + p).endswith('/' + where)]
            if files and not any(re.search(r'\b%s\b' % name, tree.code(p)) for p in files):
                yield Finding('name', path, line_of(text, offset), '%s() is not in %s' %
                              (name, where))
        for offset, text_of, what in mentioned(text, kind):
            known = {'file': u.knows_file, 'target': u.targets.__contains__,
                     'word': u.knows}[what](text_of)
            if not known and (text_of, what) not in seen:
                seen.add((text_of, what))
                yield Finding('name', path, line_of(text, offset), '%s does not exist' %
                              ('make ' + text_of if what == 'target' else text_of))
    for word in sorted((u.listed | {p.pattern for p in u.patterns}) - u.used):
        yield Finding('name', 'tests/house/names.txt', 1, '%s is mentioned nowhere' % word)


FILE = re.compile(r'(?<![\w./<~$*{}@-])((?:[\w-]+/)*[\w-]+\.(?:c|h|py|sh|md|pml|mk|map|syms))'
                  r'(?![\w/*]|\.\w)')
FOLDER = re.compile(r'(?<![\w./<~$*{}-])((?:docs|src|tests|tools|numa|include)/[\w./-]*\w/?)')
CALL = re.compile(r'(?<![\w.>$/-])([A-Za-z_]\w*)\(\)')
SNAKE = re.compile(r'(?<![\w./$<{-])(_*[A-Za-z][A-Za-z0-9]*_\w*)(?![\w*./-]*[*/])')
CAPITALS = re.compile(r'(?<![\w./$<-])([A-Z][A-Z0-9]{3,})(?![\w*-]|s\b|\.\w)')
TARGET = re.compile(r'(?:`|\\fB)make ([a-z][a-z-]*)(?=[`\\ ])')


SPACE = r'(?:\s|\n\s*\*)+'
IN_FILE = re.compile(r'\b(\w+)\(\)(?:' + SPACE + r'(?:in|of))?' + SPACE +
                     r'\(?((?:[\w-]+/)*[\w-]+\.[ch])\b')


def placed(text):
    """(offset, function, file) of f() in x.c, f() (x.c) and the like."""
    for m in IN_FILE.finditer(text):
        yield m.start(1), m.group(1), m.group(2)


def mentioned(text, kind):
    for m in FILE.finditer(text):
        yield m.start(1), m.group(1), 'file'
    for m in FOLDER.finditer(text):
        if not FILE.match(m.group(1)):
            yield m.start(1), m.group(1), 'file'
    for m in TARGET.finditer(text):
        yield m.start(1), m.group(1), 'target'
    for m in CALL.finditer(text):
        yield m.start(1), m.group(1), 'word'
    plain = text
    if kind == 'document':
        plain = re.sub(r'\\f[BIRP]|\\-', lambda m: ' ' * len(m.group()), text)
    for m in SNAKE.finditer(plain):
        if kind != 'document' or re.search(r'[a-z]', m.group(1)):
            yield m.start(1), m.group(1), 'word'
    for m in CAPITALS.finditer(plain) if kind == 'comment' else ():
        yield m.start(1), m.group(1), 'word'


def inspect(tree, listed):
    return {'name': list(rule_names(tree, listed))}
