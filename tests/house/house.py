# SPDX-License-Identifier: MIT
"""The rules of the house: each reads a Tree and a Plan and yields findings.

A *room* is a pair x.c and x.h, or one of the two alone. An arrow leads from the room that uses to
the room that is used, because of an #include or of a symbol that one object defines and another
needs. floors.txt is the plan: folders, the floors in each, and what each folder may use.
"""
import collections
import os
import re
import subprocess

SKIPPED = ('build', '.git', 'corpus', '__pycache__')
WIDTH = 100
LENGTH = 600
FUNCTION = 60

Finding = collections.namedtuple('Finding', 'rule path line text')
Arrow = collections.namedtuple('Arrow', 'source target path line why file')


def strip_code(text, keep_comments=False):
    """C text with comments (or everything else), strings and characters blanked, lines kept."""
    out = []
    pattern = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.S)
    pos = 0
    for m in pattern.finditer(text):
        between = text[pos:m.start()]
        is_comment = m.group().startswith('/')
        blank = re.sub(r'[^\n]', ' ', m.group())
        if keep_comments:
            out.append(re.sub(r'[^\n]', ' ', between))
            out.append(m.group() if is_comment else blank)
        else:
            out.append(between)
            out.append(blank)
        pos = m.end()
    rest = text[pos:]
    out.append(re.sub(r'[^\n]', ' ', rest) if keep_comments else rest)
    return ''.join(out)


def line_of(text, offset):
    return text.count('\n', 0, offset) + 1


class Tree:
    """Files below `root`, and the symbols of the objects below `build`/obj."""

    def __init__(self, root, build=None):
        self.root = root
        self.build = build
        self.paths = []
        for folder, folders, names in os.walk(root):
            rel = os.path.relpath(folder, root)
            folders[:] = sorted(f for f in folders if f not in SKIPPED and
                                (not f.startswith('.') or f == '.ci'))
            for n in sorted(names):
                self.paths.append(os.path.normpath(os.path.join(rel, n)))
        self.cache = {}
        self.symbols = None

    def text(self, path):
        if path not in self.cache:
            with open(os.path.join(self.root, path), encoding='utf-8', errors='replace') as f:
                self.cache[path] = f.read()
        return self.cache[path]

    def code(self, path):
        key = ('code', path)
        if key not in self.cache:
            self.cache[key] = strip_code(self.text(path))
        return self.cache[key]

    def comments(self, path):
        key = ('comments', path)
        if key not in self.cache:
            self.cache[key] = strip_code(self.text(path), keep_comments=True)
        return self.cache[key]

    def sources(self, *tops):
        return [p for p in self.paths if p.endswith(('.c', '.h')) and
                (not tops or p.startswith(tops))]

    def read_symbols(self):
        """{source: {symbol: section}} with section None for what an object needs from others,
        and {source: {symbol: section}} of objects with internal linkage."""
        if self.symbols is not None:
            return self.symbols
        linked, internal = {}, {}
        objects = {}
        for p in self.sources():
            o = os.path.join(self.build or '', 'obj', p[:-2] + '.o')
            if self.build and p.endswith('.c') and os.path.exists(o):
                objects[o] = p
        out = ''
        if objects:
            out = subprocess.run(['nm', '-A', '-f', 'sysv', *sorted(objects)], check=True,
                                 capture_output=True, text=True).stdout
        for line in out.splitlines():
            cells = [c.strip() for c in line.split('|')]
            if len(cells) != 7 or ':' not in cells[0]:
                continue
            where, name = cells[0].rsplit(':', 1)
            source, kind, section = objects.get(where), cells[2], cells[6]
            if source is None:
                continue
            if kind == 'U' or (kind.upper() == kind and kind != '?') or kind in 'wvu':
                linked.setdefault(source, {})[name] = None if kind in 'Uwv' else section
            if cells[3] in ('OBJECT', 'TLS') and kind != 'U':
                internal.setdefault(source, {})[name] = section
        self.symbols = linked, internal
        return self.symbols


class Folder:
    def __init__(self, name, path, line):
        self.name, self.path, self.line = name, path, line
        self.uses = []
        self.floors = []       # (title, [rooms], apart)
        self.floor_of = {}     # room -> number of its floor
        self.no_call, self.no_header = [], []
        self.stateless = False
        self.loose = False     # only circles are looked for


class Plan:
    """floors.txt, read. Its head explains the words."""

    def __init__(self, text, path='tests/house/floors.txt'):
        self.path = path
        self.folders = []
        self.faces, self.types, self.callbacks, self.allowed = {}, {}, {}, {}
        self.c_library = []
        self.findings = []
        number = 0
        pending = ''
        for raw in text.splitlines():
            number += 1
            if raw.lstrip().startswith('#') or not raw.strip():
                continue
            if raw.startswith('\t\t') and pending:
                pending += ' ' + raw.strip()
                continue
            if pending:
                self.statement(pending, start)
            pending, start = raw.strip(), number
        if pending:
            self.statement(pending, start)

    def bad(self, line, text):
        self.findings.append(Finding('plan', self.path, line, text))

    def statement(self, text, line):
        word, _, rest = text.partition(' ')
        rest = rest.strip()
        head, _, reason = (s.strip() for s in rest.partition(':'))
        here = self.folders[-1] if self.folders else None
        if word == 'folder':
            name, path = rest.split()
            self.folders.append(Folder(name, path, line))
        elif word == 'loose':
            name, path = rest.split()
            self.folders.append(Folder(name, path, line))
            self.folders[-1].loose = True
        elif word == 'uses':
            here.uses = rest.split()
        elif word in ('floor', 'apart'):
            for room in reason.split():
                if room in here.floor_of:
                    self.bad(line, '%s stands on two floors' % room)
                here.floor_of[room] = len(here.floors)
            here.floors.append((head, reason.split(), word == 'apart'))
        elif word == 'stateless':
            here.stateless = True
        elif word == 'no-call':
            here.no_call += rest.split()
        elif word == 'no-header':
            here.no_header += rest.split()
        elif word == 'c-library':
            self.c_library.append(rest)
        elif word in ('face', 'types', 'callback', 'allow'):
            if not reason and word != 'types':
                self.bad(line, '%s %s has no reason' % (word, head))
            table = {'face': self.faces, 'types': self.types, 'callback': self.callbacks,
                     'allow': self.allowed}[word]
            if word == 'callback':
                path, *names = head.split()
                for n in names:
                    table[path, n] = line
            elif word == 'allow':
                table[tuple(head.split(' -> '))] = line
            else:
                table[head] = line
        else:
            self.bad(line, 'unknown word %s' % word)

    def folder_of(self, path):
        best = None
        for f in self.folders:
            inside = path == f.path or path.startswith(f.path + '/')
            if inside and (best is None or len(f.path) > len(best.path)):
                best = f
        return best


def room_of(path):
    return os.path.splitext(path)[0]


def room_name(plan, room):
    """A room as its folder's floors call it, and the folder."""
    folder = plan.folder_of(room + '.c')
    if folder is None:
        return None, None
    if room + '.c' == folder.path:
        return os.path.basename(room), folder
    return os.path.relpath(room, folder.path), folder


# ---- arrows ------------------------------------------------------------------------------------


def resolve_include(tree, path, name):
    here = os.path.dirname(path)
    for base in (here, '', 'src', 'include', 'tests'):
        p = os.path.normpath(os.path.join(base, name))
        if p in tree.path_set:
            return p
    return None


def interposed(tree, plan):
    names = set()
    for path in plan.c_library:
        if path in tree.path_set:
            text = strip_code(tree.text(path)).split('local')[0]
            names |= set(re.findall(r'\b(\w+);', text))
    return names


def arrows(tree, plan):
    tree.path_set = set(tree.paths)
    found = []
    for p in tree.sources():
        for n, line in enumerate(tree.text(p).splitlines(), 1):
            m = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            target = m and resolve_include(tree, p, m.group(1))
            if target and room_of(target) != room_of(p):
                found.append(Arrow(room_of(p), room_of(target), p, n, 'includes %s' % target,
                                   target))
    linked, _ = tree.read_symbols()
    taken = interposed(tree, plan)
    owners = collections.defaultdict(list)
    for source, symbols in linked.items():
        for name, section in symbols.items():
            if section is not None and name not in taken and name != 'main':
                owners[name].append(source)
    for source, symbols in linked.items():
        folder = plan.folder_of(source)
        for name, section in symbols.items():
            if section is not None or name not in owners:
                continue
            # Programs may each have a function of one name: one's own folder first.
            own = [o for o in owners[name] if plan.folder_of(o) is folder]
            for target in own or (owners[name] if len(owners[name]) == 1 else []):
                if room_of(target) != room_of(source):
                    found.append(Arrow(room_of(source), room_of(target), source,
                                       line_of_word(tree, source, name),
                                       'uses %s of %s' % (name, target), target))
    return found


def line_of_word(tree, path, word):
    m = re.search(r'\b%s\b' % re.escape(word), tree.code(path))
    return line_of(tree.code(path), m.start()) if m else 1


def rule_circles(tree, plan, all_arrows):
    """Between rooms; in loose folders between files, where one header may serve several."""
    for folder in plan.folders:
        graph = collections.defaultdict(dict)
        for a in all_arrows:
            if plan.folder_of(a.path) is not folder or plan.folder_of(a.file) is not folder:
                continue
            if folder.loose:
                graph[a.path].setdefault(a.file, a)
            else:
                graph[a.source].setdefault(a.target, a)
        for circle in circles(graph):
            inside = set(circle)
            ways = [graph[s][t] for s in circle for t in graph[s] if t in inside]
            names = ', '.join(sorted(os.path.basename(c) for c in circle))
            first = min(ways, key=lambda a: (a.path, a.line))
            yield Finding('circle', first.path, first.line, 'circle of %s:' % names)
            for a in ways:
                yield Finding('circle', a.path, a.line, a.why)


def circles(graph):
    """Strongly connected sets of more than one room (Tarjan, without recursion)."""
    index, low, stack, on, out = {}, {}, [], set(), []
    nodes = sorted(set(graph) | {t for s in graph.values() for t in s})
    for root in nodes:
        if root in index:
            continue
        work = [(root, iter(sorted(graph.get(root, ()))))]
        index[root] = low[root] = len(index)
        stack.append(root)
        on.add(root)
        while work:
            node, rest = work[-1]
            for t in rest:
                if t not in index:
                    index[t] = low[t] = len(index)
                    stack.append(t)
                    on.add(t)
                    work.append((t, iter(sorted(graph.get(t, ())))))
                    break
                if t in on:
                    low[node] = min(low[node], index[t])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    part = []
                    while True:
                        part.append(stack.pop())
                        on.discard(part[-1])
                        if part[-1] == node:
                            break
                    if len(part) > 1:
                        out.append(sorted(part))
    return out


def rule_floors(tree, plan, all_arrows):
    """Arrows within a folder lead down or along a floor, between folders to what `uses` names."""
    seen = set()
    for a in all_arrows:
        s_name, source = room_name(plan, a.source)
        t_name, target = room_name(plan, a.target)
        if source is None or source.loose or target is None:
            continue
        if (a.source, a.target, a.why) in seen or (a.source, a.target) in plan.allowed:
            continue
        seen.add((a.source, a.target, a.why))
        if source is target:
            s, t = source.floor_of.get(s_name), source.floor_of.get(t_name)
            if s is None or t is None:
                continue
            if t > s:
                yield Finding('floor', a.path, a.line, '%s: up from "%s" to "%s"' %
                              (a.why, source.floors[s][0], source.floors[t][0]))
            elif s == t and source.floors[s][2]:
                yield Finding('floor', a.path, a.line, '%s: rooms of "%s" do not use each other' %
                              (a.why, source.floors[s][0]))
        elif target.name not in source.uses:
            yield Finding('floor', a.path, a.line, '%s: %s may use %s' %
                          (a.why, source.name, ', '.join(source.uses) or 'nothing'))


def rule_folders(tree, plan):
    """Folders use only what stands above them in the list."""
    known = []
    for f in plan.folders:
        for u in f.uses:
            if u not in known and not f.loose:
                yield Finding('plan', plan.path, f.line, '%s uses %s, which is no lower folder' %
                              (f.name, u))
        known.append(f.name)


def rule_design(tree, plan):
    """docs/design.md draws the floors of the product: each room stands in its tables."""
    path = 'docs/design.md'
    drawn = tree.text(path).partition('### Floors')[2].partition('\n## ')[0]
    names = {os.path.splitext(n)[0] for n in re.findall(r'`([\w-]+(?:\.h)?)`', drawn)}
    for f in plan.folders:
        if not f.path.startswith(('src/', 'numa')):
            continue
        for room in f.floor_of:
            if room not in names:
                yield Finding('design', path, line_of(tree.text(path), tree.text(path).find(drawn)),
                              'Floors does not have %s of %s' % (room, f.path))


def rule_placed(tree, plan):
    placed = set()
    for p in tree.sources('src/', 'numa/', 'tools/', 'include/'):
        name, folder = room_name(plan, room_of(p))
        if folder is None or (not folder.loose and name not in folder.floor_of):
            yield Finding('placed', p, 1, 'stands on no floor of tests/house/floors.txt')
        else:
            placed.add((folder.name, name))
    for f in plan.folders:
        for room in f.floor_of:
            if (f.name, room) not in placed:
                yield Finding('placed', plan.path, f.line, '%s: no file %s' % (f.name, room))
    known = set(tree.paths)
    for table in (plan.faces, plan.types):
        for p, line in table.items():
            if p not in known:
                yield Finding('placed', plan.path, line, 'no file %s' % p)


def rule_purity(tree, plan):
    """What a folder must not call or include, and file-scope state that it must not have."""
    linked, internal = tree.read_symbols()
    for folder in plan.folders:
        calls = [re.compile(c.replace('*', r'\w*') + '$') for c in folder.no_call]
        for p in tree.sources(folder.path + '/'):
            if plan.folder_of(p) is not folder:
                continue
            for name, section in linked.get(p, {}).items():
                if section is None and any(c.match(name) for c in calls):
                    yield Finding('purity', p, line_of_word(tree, p, name),
                                  'calls %s(), which %s must not' % (name, folder.name))
            for n, line in enumerate(tree.text(p).splitlines(), 1):
                m = re.match(r'\s*#\s*include\s+[<"]([^>"]+)[>"]', line)
                if m and m.group(1) in folder.no_header:
                    yield Finding('purity', p, n, 'includes %s, which %s must not' %
                                  (m.group(1), folder.name))
            for name, section in internal.get(p, {}).items() if folder.stateless else ():
                if re.match(r'\.(data|bss|tdata|tbss)(?!\.rel\.ro)', section):
                    yield Finding('purity', p, line_of_word(tree, p, name.split('.')[0]),
                                  'state %s at file scope' % name.split('.')[0])


# ---- headers -----------------------------------------------------------------------------------


def prototypes(code):
    """(name, offset) of the functions that a header declares without a body."""
    code = re.sub(r'(?m)^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', lambda m: re.sub(r'[^\n]', ' ', m.group()),
                  code)
    code = re.sub(r'extern\s+"?\s*"?\s*\{', lambda m: ' ' * len(m.group()), code)
    flat, depth = list(code), 0
    for i, c in enumerate(code):
        if c == '{':
            depth += 1
        elif c == '}':
            depth = max(0, depth - 1)
            if depth == 0:
                flat[i] = ';'
            continue
        if depth and c != '\n':
            flat[i] = ' '
    flat = ''.join(flat)
    pos = 0
    for statement in flat.split(';'):
        body = statement.lstrip()
        start = pos + len(statement) - len(body)
        pos += len(statement) + 1
        m = re.match(r'[\w\s*]+?\b(\w+)\s*\(', body)
        if not m or re.match(r'(typedef|static|struct\s+\w*\s*$)', body):
            continue
        if '(*' in body[:m.end() + 1] or code[pos - 1:pos] == '}':
            continue
        words = re.findall(r'\w+', body[:m.end()])
        if len(words) > 1 and m.group(1) not in ('__attribute__', 'GUARD_ATTR'):
            yield m.group(1), start + m.start(1)


def defined_in_tests(tree, name):
    body = re.compile(r'(?m)^\w[^;{}()]*\b%s\([^;{}]*\)\n\{' % re.escape(name))
    return any(body.search(tree.code(p)) for p in tree.sources('tests/') if p.endswith('.c'))


def rule_headers(tree, plan):
    """A header declares only what its own .c file defines."""
    linked, _ = tree.read_symbols()
    owners = collections.defaultdict(set)
    for source, symbols in linked.items():
        for name, section in symbols.items():
            if section is not None:
                owners[name].add(source)
    for p in tree.sources('src/', 'numa/', 'tools/', 'include/'):
        if not p.endswith('.h'):
            continue
        folder = plan.folder_of(p)
        for name, offset in prototypes(tree.code(p)):
            line = line_of(tree.code(p), offset)
            own = {o for o in owners[name] if folder is None or plan.folder_of(o) is folder}
            if p in plan.types:
                yield Finding('header', p, line, '%s(): a header of types declares it' % name)
            elif p in plan.faces:
                if not owners[name] and linked and not defined_in_tests(tree, name):
                    yield Finding('header', p, line, '%s() is defined nowhere' % name)
            elif room_of(p) + '.c' in own:
                continue
            elif own or owners[name]:
                yield Finding('header', p, line, '%s() belongs to %s' %
                              (name, ', '.join(sorted(own or owners[name]))))
            elif linked:
                yield Finding('header', p, line, '%s() is defined nowhere' % name)


def rule_callbacks(tree, plan):
    """Every pointer to a function that a header offers is listed, with its reason."""
    found = set()
    for p in tree.sources('src/', 'numa/'):
        if not p.endswith('.h'):
            continue
        code = tree.code(p)
        for m in re.finditer(r'\(\s*\*\s*(?:const\s+)?(\w+)(?:\[\w*\])?\s*\)\s*\(', code):
            found.add((p, m.group(1)))
            if (p, m.group(1)) not in plan.callbacks:
                yield Finding('callback', p, line_of(code, m.start()),
                              'pointer to a function %s: not in floors.txt' % m.group(1))
    for (p, name), line in plan.callbacks.items():
        if (p, name) not in found:
            yield Finding('callback', plan.path, line, 'no pointer to a function %s in %s' %
                          (name, p))


# ---- files -------------------------------------------------------------------------------------


def is_production(path):
    return path.startswith(('src/', 'numa/', 'tools/', 'include/'))


def rule_length(tree, plan):
    for p in tree.paths:
        if not is_production(p) or not p.endswith(('.c', '.h', '.py')):
            continue
        text = tree.text(p)
        head = re.match(r'(?s).*?\*/.*?\*/', text) if not p.endswith('.py') else \
            re.match(r'(?s).*?"""', text)
        lines = text.count('\n')
        if lines > LENGTH and not (head and 'Length:' in head.group()):
            yield Finding('length', p, 1, '%d lines, and its head has no "Length: reason"' % lines)


def functions(code):
    """(first line, last line) of each function: a body begins and ends with a brace in column 0."""
    lines = code.split('\n')
    start = None
    for n, line in enumerate(lines, 1):
        if line.rstrip() == '{':
            start = n
            while start > 1 and lines[start - 2].strip() and \
                    not lines[start - 2].rstrip().endswith((';', '}')) and \
                    not lines[start - 2].startswith('#'):
                start -= 1
        elif line.startswith('}') and start:
            yield start, n
            start = None


def rule_function(tree, plan):
    for p in tree.sources('src/', 'numa/', 'tools/', 'include/'):
        for first, last in functions(tree.code(p)):
            if last - first + 1 >= FUNCTION:
                yield Finding('function', p, first, 'a function of %d lines' % (last - first + 1))


def is_prose_or_code(path):
    name = os.path.basename(path)
    return name == 'Makefile' or path == '.ci/run' or re.search(
        r'\.([chsS]|py|sh|mk|md|txt|map|pml|syms|[1-8])$', name) is not None


def rule_width(tree, plan):
    for p in tree.paths:
        if not is_prose_or_code(p):
            continue
        for n, line in enumerate(tree.text(p).split('\n'), 1):
            width = len(line.expandtabs(8))
            if width <= WIDTH:
                continue
            if p.endswith('.md') and (line.startswith('|') or
                                      ('://' in line and ' ' not in line.strip())):
                continue
            yield Finding('width', p, n, '%d columns' % width)


def rule_spdx(tree, plan):
    for p in tree.paths:
        lines = tree.text(p).split('\n')[:3] if is_prose_or_code(p) else []
        if p.endswith(('.c', '.h')):
            good = lines[0] == '/* SPDX-License-Identifier: MIT */'
        elif p.endswith(('.py', '.sh', '.mk', 'Makefile')) or p == '.ci/run':
            good = '# SPDX-License-Identifier: MIT' in lines[:2]
        else:
            continue
        if not good:
            yield Finding('spdx', p, 1, 'the line SPDX-License-Identifier: MIT is not in its place')


def rule_gnu_source(tree, plan):
    for p in tree.sources():
        for m in re.finditer(r'(?m)^\s*#\s*define\s+_GNU_SOURCE\b', tree.code(p)):
            yield Finding('gnu-source', p, line_of(tree.code(p), m.end()),
                          '_GNU_SOURCE comes from the Makefile')


RULES = [
    ('circle', rule_circles), ('floor', rule_floors), ('plan', rule_folders),
    ('placed', rule_placed), ('design', rule_design), ('purity', rule_purity),
    ('header', rule_headers), ('callback', rule_callbacks), ('length', rule_length),
    ('function', rule_function), ('width', rule_width), ('spdx', rule_spdx),
    ('gnu-source', rule_gnu_source),
]


def inspect(tree, plan):
    """All findings, by rule."""
    all_arrows = arrows(tree, plan)
    by_rule = {}
    for name, rule in RULES:
        more = (all_arrows,) if rule in (rule_circles, rule_floors) else ()
        by_rule[name] = list(rule(tree, plan, *more))
    by_rule['plan'] += plan.findings
    return by_rule
