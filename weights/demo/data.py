"""The demo model's text: the code of Python's standard library, split into training and held-out.

It consists of the ``.py`` files of the running Python, except for tests, which some systems do not
install, and the tables of `encodings` and `pydoc_data`, which are data rather than code.

Files are held out by families, so that training sees no near-copy of a held-out file: a family is a
top-level module or package, joined with every other that shares a fifth of some file's lines.
Sorted by a hash of their names, families up to `LARGEST` are held out until they make up `HELD_OUT`
of all bytes.
"""

import hashlib
import json
import platform
import sysconfig
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gptj import GPTJTokenizer

HELD_OUT: Final = 0.04
"""Share of the bytes that are held out."""

LARGEST: Final = 100_000
"""Bytes of the largest family that may be held out, so that none dominates the result."""

LEFT_OUT: Final = frozenset(
    "test tests idle_test __pycache__ site-packages dist-packages encodings pydoc_data".split()
)

COPIED: Final = 0.2
"""Least share of a file's lines in another file that makes the two near-copies."""

BOILERPLATE: Final = 8
"""A line in more files than this, such as one of a licence, does not count as copied."""

_FEWEST: Final = 5
"""Least number of shared lines of near-copies, however short the file."""

_TELLING: Final = 20
"""Least length in characters of a line that counts when shared."""


@dataclass(frozen=True)
class Source:
    """One file: its path below the standard library, size, hash and side of the split."""

    path: str
    size: int  # bytes
    sha256: str
    held_out: bool


def read_library() -> dict[str, bytes]:
    """Return the files of the running Python's standard library by relative path, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path.relative_to(root) for path in root.rglob("*.py")]
    return {
        path.as_posix(): (root / path).read_bytes()
        for path in sorted(paths)
        if not LEFT_OUT & set(path.parts) and _is_code(root / path)
    }


def split(files: dict[str, bytes]) -> list[Source]:
    """Return every file, marked as held out or for training."""
    family = families(files)
    sizes: Counter[str] = Counter()
    for path, content in files.items():
        sizes[family[path]] += len(content)
    held_out, taken, wanted = set(), 0, HELD_OUT * sizes.total()
    for name in sorted(sizes, key=_hash):
        if taken < wanted and sizes[name] <= LARGEST:
            held_out.add(name)
            taken += sizes[name]
    return [
        Source(path, len(content), hashlib.sha256(content).hexdigest(), family[path] in held_out)
        for path, content in files.items()
    ]


def families(files: dict[str, bytes]) -> dict[str, str]:
    """Return every file's family, named after its first member."""
    parent = {_top_level(path): _top_level(path) for path in files}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for one, other in _near_copies(files):
        first, second = sorted((root(_top_level(one)), root(_top_level(other))))
        parent[second] = first
    return {path: root(_top_level(path)) for path in files}


def write_manifest(sources: Iterable[Source], path: Path) -> None:
    """Write the version of Python and the files of the data."""
    content = {"python": platform.python_version(), "files": [asdict(s) for s in sources]}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def read_manifest(path: Path) -> tuple[str, list[Source]]:
    """Return the Python version and the files of a manifest."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["python"], [Source(**entry) for entry in content["files"]]


def token_stream(texts: Iterable[bytes], tokenizer: GPTJTokenizer) -> npt.NDArray[np.int64]:
    """Return all texts as one sequence of ids, each after an end-of-text token."""
    rows = []
    for text in texts:
        rows.append([tokenizer.eos_token_id])
        rows.append(tokenizer(text.decode())["input_ids"])
    return np.concatenate([np.asarray(row, np.int64) for row in rows])


def shared_lines(texts: Iterable[bytes], others: Iterable[bytes]) -> float:
    """Return the share of the distinct long lines of some texts that others contain too."""
    own, theirs = (set().union(*map(_telling_lines, side)) for side in (texts, others))
    return len(own & theirs) / len(own)


def _is_code(path: Path) -> bool:
    if path.name.startswith("_sysconfigdata"):  # written by the build, different on every machine
        return False
    try:
        return bool(path.read_bytes().decode())
    except UnicodeDecodeError:
        return False


def _top_level(path: str) -> str:
    """Return the module or package; an accelerated module goes with its Python twin (`_pyio`)."""
    name = path.partition("/")[0].removesuffix(".py")
    return name.removeprefix("_py").lstrip("_")


def _near_copies(files: dict[str, bytes]) -> list[tuple[str, str]]:
    lines = {path: _telling_lines(content) for path, content in files.items()}
    holders = defaultdict(list)
    for path, own in lines.items():
        for line in own:
            holders[line].append(path)
    shared: Counter[tuple[str, str]] = Counter()
    for paths in holders.values():
        if len(paths) > BOILERPLATE:
            continue
        shared.update((one, other) for i, one in enumerate(paths) for other in paths[i + 1 :])
    return [
        (one, other)
        for (one, other), count in shared.items()
        if count >= max(_FEWEST, COPIED * min(len(lines[one]), len(lines[other])))
    ]


def _telling_lines(content: bytes) -> set[bytes]:
    stripped = (line.strip() for line in content.splitlines())
    return {line for line in stripped if len(line) >= _TELLING}


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
