"""What a file is, whatever its name says: one place that knows these shapes, for every reader.

A download that failed leaves a pointer, an error page, zeros or half a file under the name of the
weights. A reader asks here before it parses, so that its error says what is there instead.
"""

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from os.path import lexists
from pathlib import Path
from typing import Final

from gptj.errors import CheckpointError, GPTJError, brief

HEAD_BYTES: Final = 1024
"""Bytes that show what a file is."""

TO_UTF8: Final = "Save it as UTF-8, for example with iconv -f UTF-16 -t UTF-8."

LLAMA_MAGIC: Final = (b"fmgg", b"tjgg")
LLAMA: Final = "Such files hold LLaMA models. Get the weights of a GPT-J in a form of the list."

MAGIC: Final = (
    (b"\x1f\x8b\x08", 0, "a file packed by gzip", "Unpack it first, for example with gunzip."),
    (b"BZh", 0, "a file packed by bzip2", "Unpack it first, for example with bunzip2."),
    (b"\xfd7zXZ\0", 0, "a file packed by xz", "Unpack it first, for example with unxz."),
    (b"\x28\xb5\x2f\xfd", 0, "a file packed by zstd", "Unpack it first, for example with unzstd."),
    (b"7z\xbc\xaf\x27\x1c", 0, "a 7z archive", "Unpack it first, and give the folder."),
    (b"Rar!", 0, "a RAR archive", "Unpack it first, and give the folder."),
    (b"ustar", 257, "a tar archive", "Unpack it first, for example with tar -xf."),
    (b"GGUF", 0, "a GGUF file of llama.cpp", "Get the weights in another form of the list."),
    (b"lmgg", 0, "a ggml file", "Name it ggml-model.bin."),
    *((magic, 0, f"a {magic[::-1].decode()} file of llama.cpp", LLAMA) for magic in LLAMA_MAGIC),
    (b"\x89HDF\r\n\x1a\n", 0, "an HDF5 file", "Name it tf_model.h5."),
    (b"PK\3\4", 0, "a zip file", "Unpack it first, for example with unzip, and give the folder."),
    (b"PK\5\6", 0, "an empty zip file", ""),
    (b"\x93NUMPY", 0, "one array of NumPy", ""),
    *((bytes([0x80, version]), 0, "a pickle of Python", "") for version in (2, 3, 4, 5)),
    *((mark, 0, "text in UTF-16", TO_UTF8) for mark in (b"\xff\xfe", b"\xfe\xff")),
    (b"%PDF", 0, "a PDF document", ""),
)
"""First bytes, their place, what the file is, and what to do."""

UNFINISHED: Final = (".incomplete", ".aria2", ".part", ".crdownload", ".partial", ".tmp", ".!qB")
"""What programs add to the name of a file that they are still downloading."""

STATES: Final = (".aria2", ".st")
"""What programs add to a file's name for the state of its download, which they put beside it."""

NOT_ENDED: Final = "a download that has not ended"

PLAIN_ERRORS: Final = (
    "entry not found",
    "repository not found",
    "not found",
    "invalid username or password",
    "access to ",
    "unauthorized",
    "forbidden",
    "access denied",
    "error",
    "internal server error",
    "bad gateway",
)
"""How the answer of a hub begins that has no file."""

_LFS: Final = re.compile(rb"version https://(?:git-lfs|hawser)\S*\s.*?size (\d{1,18})", re.DOTALL)
_SNAPSHOT: Final = re.compile(r"models--([^/\\]+?)--([^/\\]+)[/\\]snapshots[/\\]")


def is_unfinished(name: str) -> bool:
    """Return whether a file's name is that of a download that has not ended."""
    return name.endswith(UNFINISHED)


@contextmanager
def naming_downloads(path: Path) -> Iterator[None]:
    """Say in a reader's error that the file is a download that has not ended, if it is one.

    Raises:
        CheckpointError: as the body does, with that before it.
    """
    try:
        yield
    except CheckpointError as error:
        if not _is_downloading(path) or NOT_ENDED in str(error):
            raise
        raise CheckpointError(f"{path} is {NOT_ENDED}: {error}") from error


def how_to_fetch(path: Path) -> str:
    """Return the sentence with the command that fetches the real file."""
    found = _SNAPSHOT.search(str(path))
    repository = f"{found[1]}/{found[2]}" if found else "REPOSITORY"
    return f"Fetch it again: hf download {repository} {path.name} --local-dir {path.parent}"


def require_file(path: Path, error: type[GPTJError] = CheckpointError) -> None:
    """Refuse what has a file's name and is none; where there is nothing, the caller knows why.

    Raises:
        GPTJError: of that class, for a folder, a broken link or a device.
    """
    if not lexists(path) or path.is_file():
        return
    kind, advice = "a device or a pipe", "Put a file there."
    if path.is_dir():
        kind, advice = "a folder", "Put the file itself there."
    elif path.is_symlink():
        kind, advice = f"a broken link to {brief(str(path.readlink()))}", how_to_fetch(path)
    raise error(f"{path} is no file, but {kind}. {advice}")


def foreign_kind(path: Path) -> str | None:
    """Return what a file is instead of data, its size, and what to do; None if nothing is known.

    It looks at the first bytes only, so a reader rules out its own form before it asks.

    Raises:
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    about = _kind(path, head)
    if about is None:
        return None
    kind, advice = about
    return f"it is {kind}, of {size} bytes. {advice or how_to_fetch(path)}"


def _kind(path: Path, head: bytes) -> tuple[str, str] | None:
    """Return what the first bytes show, and advice where fetching again is not all."""
    if _is_downloading(path):
        return NOT_ENDED, ""
    if not head.strip():
        return ("blank" if head else "empty"), ""
    if pointer := _LFS.match(head):
        pull = f"Fetch it: git -C {path.parent} lfs pull --include {path.name}"
        return f"a Git LFS pointer to {int(pointer[1])} bytes that are not here", pull
    if head.startswith((b"/annex/objects/", b"../.git/annex", b".git/annex")):
        return "a git-annex pointer", f"Fetch it: git -C {path.parent} annex get {path.name}"
    if head[8:9] == b"{" and head[5:8] == b"\0\0\0" and b'"' in head[9:12]:
        return "a safetensors file", "Name it model.safetensors."
    if not head.strip(b"\0"):
        return "full of zeros, like a download that has not ended", ""
    return binary_kind(head) or _text_kind(head)


def binary_kind(head: bytes) -> tuple[str, str] | None:
    """Return what the first bytes show that are no text in UTF-8, and advice; None if nothing."""
    for magic, place, kind, advice in MAGIC:
        if head.startswith(magic, place):
            return kind, advice
    halves = head[0::2], head[1::2]
    if len(head) > 1 and sorted(any(half) for half in halves) == [False, True]:
        return "text in UTF-16", TO_UTF8  # without its mark: every other byte is zero
    return None


def _is_downloading(path: Path) -> bool:
    """Return whether a file's name, or a file beside it, says that it lacks some."""
    beside = (path.with_name(f"{path.name}{suffix}") for suffix in STATES)
    return is_unfinished(path.name) or any(state.exists() for state in beside)


def _text_kind(head: bytes) -> tuple[str, str] | None:
    """Return what a text is that stands where data should."""
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    start = text[:200].lower()
    if start.startswith(("<!doctype html", "<html", "<head", "<?xml", "<!--", "<script")):
        title = re.search(r"<title[^>]*>\s*([^<]{1,80})", text, re.IGNORECASE)
        about = f" with the title {brief(html.unescape(title[1]).strip())}" if title else ""
        return f"an HTML or XML page{about}", ""
    if re.match(r'\{\s*"(error|message|detail|code|status)', start):
        return f"the error message of a server ({brief(text[:100].strip())})", ""
    if "\0" not in text and start.startswith(PLAIN_ERRORS):
        return f"the error message of a server ({brief(text[:100].strip())})", ""
    return None
