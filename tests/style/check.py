#!/usr/bin/env python3
"""Rules of the house that a program can judge.

usage: check.py RULE SOURCE_DIR BUILD_DIR        RULE is the name of one of the functions in RULES

A rule yields findings, "FILE:LINE: what is wrong and what to do"; none is a pass. Files are those that git knows, or all of
them where there is no git (a release tarball).
"""
import json
import os
import re
import shutil
import subprocess
import sys

MAX_LINES = 1000
NOT_DAEMONS = {"client", "common", "proto", "tests", "bench", "tools", "docs", "packaging"}
SKIP = 77

FORBIDDEN_CALLS = {
    "strcpy": "snprintf, or memcpy with a checked length", "strcat": "snprintf", "sprintf": "snprintf",
    "vsprintf": "vsnprintf", "gets": "getline", "strtok": "strtok_r, or a parser that keeps the text",
    "atoi": "strtol and its end", "atol": "strtol and its end", "atof": "strtod and its end",
    "system": "posix_spawn with an argument list", "popen": "posix_spawn and a pipe", "alloca": "malloc, or a bounded array",
    "tmpnam": "mkstemp", "mktemp": "mkstemp", "rand": "common/rng.h", "srand": "common/rng.h",
}
# What a protocol core may take from outside: memory, pure functions of strings and numbers, hashes, assertions.
PURE_SYMBOLS = re.compile(r"""
    mem(cpy|move|set|cmp|chr|mem)|explicit_bzero
    |str(len|nlen|cmp|ncmp|chr|rchr|str|spn|cspn|ncpy)|stpcpy|stpncpy|strto(l|ul|ll|ull|d)
    |malloc|calloc|realloc|reallocarray|free|strdup|strndup|qsort|bsearch
    |v?snprintf|__errno_location
    |f(min|max|abs|loor|mod)f?|ceil|round|l?lround|sqrt|exp|expm1|log|log1p|log2|pow|erfc?|hypot
    |crypto_(generichash|shorthash|hash)\w*|sodium_(memcmp|memzero|compare|increment|is_zero)
    |__(assert_fail|stack_chk_fail|popcountdi2|clzdi2|ctzdi2)|abort|_GLOBAL_OFFSET_TABLE_
    |__\w+_chk|__(asan|ubsan|tsan|gcov|sanitizer|llvm)_\w+
    |msg_\w+
""", re.VERBOSE)


def listing(source):
    """All files of the tree, relative to it."""
    if os.path.exists(os.path.join(source, ".git")) and shutil.which("git"):
        text = subprocess.run(["git", "-c", f"safe.directory={source}", "-C", source, "ls-files", "--cached", "--others", "--exclude-standard"],
                              check=True, capture_output=True, text=True).stdout
        return [name for name in text.splitlines() if os.path.isfile(os.path.join(source, name))]
    found = []
    for directory, folders, names in os.walk(source):
        folders[:] = [f for f in folders if f != "prefix" and not f.startswith(("build", "."))]
        found += [os.path.relpath(os.path.join(directory, name), source) for name in names]
    return found


def c_files(source):
    return [name for name in listing(source) if name.endswith((".c", ".h"))]


def read(source, name):
    with open(os.path.join(source, name), encoding="utf-8", errors="replace") as file:
        return file.read()


def without_comments(text):
    """Blanks comments and the insides of strings, and keeps the line numbers."""
    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])*'"
    return re.sub(pattern, lambda match: re.sub(r"[^\n]", " ", match[0]), text, flags=re.DOTALL)


def includes(source, _):
    """A daemon includes itself, common/ and proto/; common/ includes no daemon."""
    for name in c_files(source):
        folder = name.split("/")[0]
        allowed = {"common", "proto"} | (set() if folder in NOT_DAEMONS else {folder})
        if folder in ("tests", "bench"):
            continue
        for number, line in enumerate(read(source, name).splitlines(), start=1):
            match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
            if not match:
                continue
            if "/" not in match[1]:
                yield f'{name}:{number}: "{match[1]}": write it from the root of the tree, "{folder}/{match[1]}"'
            elif match[1].split("/")[0] not in allowed:
                yield f'{name}:{number}: {folder} must not include "{match[1]}"; what two daemons need goes to common/ or proto/'


def calls(source, _):
    """No call that cannot be bounded or checked."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(FORBIDDEN_CALLS) + r")\s*\(")
    for name in c_files(source):
        for number, line in enumerate(without_comments(read(source, name)).splitlines(), start=1):
            for match in pattern.finditer(line):
                yield f"{name}:{number}: {match[1]}: use {FORBIDDEN_CALLS[match[1]]}"


def words(source, _):
    """Nothing of the machine that it was written on: paths, package hosts."""
    pattern = re.compile(r"(?<![\w.-])/wo" + r"rk/|/root/\.|/home/\w|\bde" + r"b\.debian\.|\bpackages\.\w+\.(com|org)"
                         r"|\bregistry\.\w+|\bpy" + r"pi\.org|co-author" + r"ed-by", re.IGNORECASE)
    for name in listing(source):
        for number, line in enumerate(read(source, name).splitlines(), start=1):
            match = pattern.search(line)
            if match:
                yield f"{name}:{number}: {match[0]}: names a machine or a host; take it from the environment at run time"


def length(source, _):
    """No file that nobody can read in one sitting."""
    for name in c_files(source) + [name for name in listing(source) if name.endswith((".py", ".sh"))]:
        lines = read(source, name).count("\n")
        if lines > MAX_LINES:
            yield f"{name}:{lines}: more than {MAX_LINES} lines; split it by what its parts know"


def changed(source):
    """C files that differ from main; on main itself, or without git, all of them."""
    def git(*command):
        return subprocess.run(["git", "-c", f"safe.directory={source}", "-C", source, *command], check=False, capture_output=True, text=True)
    base = git("merge-base", "HEAD", "main") if shutil.which("git") else None
    if not base or base.returncode != 0 or git("rev-parse", "HEAD").stdout == base.stdout:
        return c_files(source)
    names = set(git("diff", "--name-only", base.stdout.strip()).stdout.splitlines())
    return [name for name in c_files(source) if name in names]


def formatting(source, _):
    """clang-format decides."""
    if not shutil.which("clang-format"):
        sys.exit(SKIP)
    names = changed(source)
    if not names:
        return
    done = subprocess.run(["clang-format", "--dry-run", *names], cwd=source, check=True, capture_output=True, text=True)
    for name in sorted(set(re.findall(r"^([^\s:]+):\d+:\d+: warning: code should be clang-formatted", done.stderr, re.MULTILINE))):
        yield f"{name}:1: not as clang-format would have it: make format"


def nm(option, archive):
    text = subprocess.run(["nm", option, archive], check=True, capture_output=True, text=True).stdout
    return {line.split()[-1] for line in text.splitlines() if line.strip() and not line.endswith(":")}


def symbols(_, build):
    """A core is a function of state and event: its library asks for no clock, file, socket, environment or chance."""
    archives = []
    for directory, folders, names in os.walk(build):
        folders[:] = [folder for folder in folders if not folder.endswith(".p")]
        archives += [os.path.join(directory, name) for name in names if re.fullmatch(r"lib(base|.*-core)\.a", name)]
    base = [archive for archive in archives if archive.endswith("libbase.a")]
    given = set().union(*(nm("--defined-only", archive) for archive in base))
    for archive in archives:
        for symbol in sorted(nm("--undefined-only", archive) - nm("--defined-only", archive) - given):
            if not PURE_SYMBOLS.fullmatch(symbol):
                yield f"{os.path.relpath(archive, build)}:1: needs {symbol}; a core gets it in an event or asks for it in an action"


def pages(source, build):
    """Every program that is installed has a manual page beside it."""
    text = subprocess.run(["meson", "introspect", "--targets", build], check=True, capture_output=True, text=True).stdout
    for target in json.loads(text):
        if target["type"] != "executable" or not target["installed"]:
            continue
        folder = os.path.dirname(target["defined_in"])
        if not any(os.path.exists(os.path.join(folder, f"{target['name']}.{section}")) for section in (1, 8)):
            yield f"{os.path.relpath(folder, source)}/{target['name']}.8:1: no manual page for an installed program"


def examples(source, _):
    """The page shows what the tests run: a block of Python in README.md is a file of docs/examples, byte for byte."""
    text = read(source, "README.md")
    files = {name: read(source, name) for name in listing(source) if re.fullmatch(r"docs/examples/[^/]*\.py", name)}
    shown = set()
    for block in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        names = [name for name, content in files.items() if content == block[1]]
        shown.update(names)
        if not names:
            yield f"README.md:{text.count(chr(10), 0, block.start()) + 1}: no file of docs/examples reads like this block"
    for name in sorted(set(files) - shown):
        yield f"{name}:1: README.md does not show it as it is"


RULES = (includes, calls, words, length, formatting, symbols, pages, examples)


def main():
    rules = {rule.__name__: rule for rule in RULES}
    if len(sys.argv) != 4 or sys.argv[1] not in rules:
        print(__doc__ + "\nrules: " + " ".join(rules), file=sys.stderr)
        return 2
    findings = list(rules[sys.argv[1]](os.path.realpath(sys.argv[2]), os.path.realpath(sys.argv[3])))
    print("\n".join(findings))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
