#!/usr/bin/env python3
"""Checks every #include of the repository against tools/layers.txt.

A file in src/<room>/ includes its own room, the rooms on its line, standard and POSIX headers, and
the third-party headers that name its room. Its tests, benchmarks and fuzz targets obey the same
line; a test that needs more lives in tests/, which may include anything listed. include/dither/
and examples/ see only standard headers and include/dither/.

usage: tools/check_layers.py [ROOT]      exit status 0 clean, 1 violations, 2 bad layers file
"""

import fnmatch
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

SUFFIXES = {".h", ".cc", ".cu", ".cuh"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>|(\S+))')
ROOM = re.compile(r"[a-z][a-z0-9_]*(/[a-z][a-z0-9_]*)*")

STANDARD = frozenset(
    """
    algorithm any array atomic barrier bit bitset cassert cctype cerrno cfenv cfloat charconv
    chrono cinttypes climits clocale cmath codecvt compare complex concepts condition_variable
    coroutine csetjmp csignal cstdarg cstddef cstdint cstdio cstdlib cstring ctime cuchar cwchar
    cwctype deque exception execution filesystem format forward_list fstream functional future
    initializer_list iomanip ios iosfwd iostream istream iterator latch limits list locale map
    memory memory_resource mutex new numbers numeric optional ostream queue random ranges ratio
    regex scoped_allocator semaphore set shared_mutex source_location span sstream stack stdexcept
    stop_token streambuf string string_view syncstream system_error thread tuple type_traits
    typeindex typeinfo unordered_map unordered_set utility valarray variant vector version
    """.split()
)
POSIX = (
    "dirent.h dlfcn.h fcntl.h poll.h pthread.h sched.h signal.h spawn.h stdlib.h sys/*.h "
    "termios.h unistd.h"
).split()


class LayersError(Exception):
    """The layers file itself is wrong."""


@dataclass
class Layers:
    """The parsed layers file: rooms in their order, and who may include which header."""

    rooms: dict[str, frozenset[str]] = field(default_factory=dict)
    headers: dict[str, frozenset[str]] = field(default_factory=dict)  # pattern -> rooms, or {"*"}

    def room_of(self, path: str) -> str | None:
        """The room that owns a path relative to src/, the longest name winning."""
        owners = [room for room in self.rooms if path.startswith(room + "/")]
        return max(owners, key=len, default=None)


def parse_layers(text: str, name: str = "layers.txt") -> Layers:
    """Reads the layers file; throws LayersError naming the line."""
    layers = Layers()
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].strip()
        if not line:
            continue

        def fail(reason: str) -> None:
            raise LayersError(f"{name}:{number}: {reason}")

        left, colon, right = line.partition(":")
        if not colon:
            fail(f"expected 'room: rooms' or '<header>: rooms', found '{line}'")
        words = right.split()
        if left.startswith("<"):
            for word in words:
                if word != "*" and word not in layers.rooms:
                    fail(f"unknown room '{word}'")
            for pattern in left.split():
                if not (pattern.startswith("<") and pattern.endswith(">")):
                    fail(f"expected '<header>', found '{pattern}'")
                if pattern[1:-1] in layers.headers:
                    fail(f"{pattern} is listed twice")
                layers.headers[pattern[1:-1]] = frozenset(words)
            continue
        room = left.strip()
        if not ROOM.fullmatch(room):
            fail(f"'{room}' is not a room's name")
        if room in layers.rooms:
            fail(f"room '{room}' is listed twice")
        allowed: set[str] = set()
        for word in words:
            above = word.removeprefix("@")
            if above not in layers.rooms:
                fail(f"room '{room}' may include only rooms above it, and '{above}' is not")
            allowed |= layers.rooms[above] if word.startswith("@") else {above}
        layers.rooms[room] = frozenset(allowed)
    return layers


def includes(path: Path):
    """(line number, spelling, is_quoted) of each #include outside of comments."""
    in_comment = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if in_comment:
            _, end, line = line.partition("*/")
            if not end:
                continue
            in_comment = False
        match = INCLUDE.match(line)
        if match:
            quoted, angled, other = match.groups()
            yield number, quoted or angled or other, quoted is not None
        start = line.rfind("/*")
        in_comment = start >= 0 and "*/" not in line[start:] and "//" not in line[:start]


def is_standard(header: str) -> bool:
    return header in STANDARD or any(fnmatch.fnmatch(header, pattern) for pattern in POSIX)


class Checker:
    """Judges the includes of one tree."""

    def __init__(self, root: Path, layers: Layers):
        self.root = root
        self.layers = layers
        self.violations: list[str] = []

    def run(self) -> int:
        """Checks every source file and returns how many there were."""
        count = 0
        for top in ("src", "include", "tests", "examples"):
            for path in sorted((self.root / top).rglob("*")):
                if path.suffix in SUFFIXES and path.is_file():
                    count += 1
                    self.check_file(path)
        return count

    def check_file(self, path: Path) -> None:
        relative = path.relative_to(self.root)
        top = relative.parts[0]
        room = None
        if top == "src":
            room = self.layers.room_of(str(relative.relative_to("src")))
            if room is None:
                self.violations.append(f"{relative}:1: not in a room of tools/layers.txt")
                return
        for number, header, quoted in includes(path):
            if quoted and top == "tests" and (self.root / "tests" / header).is_file():
                continue  # a helper of the tests
            reason = self.judge(top, room, header, quoted)
            if reason:
                self.violations.append(f"{relative}:{number}: {reason}")

    def judge(self, top: str, room: str | None, header: str, quoted: bool) -> str | None:
        """Why this include is wrong, or None."""
        if not quoted and is_standard(header):
            return None
        if top in ("include", "examples"):
            if header.startswith("dither/"):
                return None
            return f"{top}/ may include only standard headers and <dither/...>, not {header}"
        owner = self.layers.room_of(header) if quoted else None
        if owner:
            if not (self.root / "src" / header).is_file():
                return f'no such file: src/{header}'
            if room is None or owner == room or owner in self.layers.rooms[room]:
                return None
            allowed = " ".join(sorted(self.layers.rooms[room])) or "no other room"
            return f"'{room}' may not include '{owner}' (\"{header}\"); it may include {allowed}"
        return self.judge_header(room, header, quoted)

    def judge_header(self, room: str | None, header: str, quoted: bool) -> str | None:
        users = [
            rooms
            for pattern, rooms in self.layers.headers.items()
            if fnmatch.fnmatchcase(header, pattern)
        ]
        if not users:
            if quoted:
                return f'"{header}": write the path from src/, as in "base/error.h"'
            return f"<{header}> is neither standard nor listed in tools/layers.txt"
        allowed = frozenset().union(*users)
        if room is None or "*" in allowed or room in allowed:
            return None
        return f"'{room}' may not include <{header}>: only {' '.join(sorted(allowed))} may"


def main(arguments: list[str]) -> int:
    root = Path(arguments[0] if arguments else Path(__file__).resolve().parent.parent)
    file = root / "tools" / "layers.txt"
    try:
        layers = parse_layers(file.read_text(encoding="utf-8"), "tools/layers.txt")
    except (LayersError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    checker = Checker(root, layers)
    count = checker.run()
    for violation in checker.violations:
        print(violation)
    print(f"check_layers: {count} files, {len(checker.violations)} violations")
    return 1 if checker.violations else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
