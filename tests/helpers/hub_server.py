"""A hub on this machine: as much of the protocol as huggingface_hub speaks when it downloads.

A repository is a mapping of revisions to folders. A hub may keep repositories private or gated, lie
about a file, and break off in the middle of one; and it remembers what it was asked for.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import huggingface_hub
from huggingface_hub import constants, file_download

LFS = (".bin", ".safetensors", ".msgpack", ".h5")
"""Endings of the files that the hub stores aside and knows by their SHA-256."""


SMALL = ["config.json", "generation_config.json", "merges.txt", "tokenizer_config.json"]
BESIDE = ["README.md", ".gitattributes", "optimizer.pt", "onnx/model.onnx", "float16/config.json"]
SHARDS = ["pytorch_model-00001-of-00002-003.bin", "pytorch_model-00002-of-00002-003.bin"]
INDEX = "pytorch_model.bin.index.json"
"""What the repositories of the tests have: files that are needed, others, and weights."""


@dataclass(frozen=True)
class File:
    """A file of a revision."""

    path: Path

    @cached_property
    def content(self) -> bytes:
        return self.path.read_bytes()

    @property
    def etag(self) -> str:
        if self.path.suffix in LFS:
            return hashlib.sha256(self.content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    def lfs(self, key: str) -> dict[str, Any]:
        """Return what the hub tells of a file that is stored aside; `key` is its hash's name."""
        if self.path.suffix not in LFS:
            return {}
        return {"lfs": {key: self.etag, "size": len(self.content), "pointerSize": 134}}


@dataclass(frozen=True)
class Request:
    """A request that was answered; `file` is empty unless a file was asked for."""

    method: str
    path: str
    status: int
    file: str = ""
    range: str | None = None


@dataclass
class Hub:
    """What a server serves, how it misbehaves, and what it was asked for.

    Attributes:
        repositories: repository -> revision -> folder; may be changed while it runs.
        private: repository -> the token that opens it, even to a look.
        gated: repository -> the token that opens its files; what they are, everybody may know.
        cuts: file -> lengths after which its next downloads break off, one download each.
        sizes: file -> a wrong size that is promised.
        swapped: file -> the content that is sent instead.
        broken: a status that every request gets instead of an answer.
        page: what every request gets instead of an answer, as from a proxy that wants a login.
        log: the requests, in order.
        uploads: where new repositories are made, for those who have the token ``"writer"``.
    """

    repositories: Mapping[str, Mapping[str, Path]]
    private: Mapping[str, str] = field(default_factory=dict)
    gated: Mapping[str, str] = field(default_factory=dict)
    cuts: dict[str, list[int]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    swapped: dict[str, bytes] = field(default_factory=dict)
    broken: int = 0
    page: bytes = b""
    log: list[Request] = field(default_factory=list)
    uploads: Path | None = None
    endpoint: str = ""

    @property
    def fetched(self) -> list[str]:
        """The files that were sent, in alphabetic order; one that was resumed comes twice."""
        sent = [entry for entry in self.log if entry.method == "GET" and entry.status < 300]
        return sorted(entry.file for entry in sent if entry.file)

    def environment(self, cache: Path) -> dict[str, str]:
        """Return what leads another process to this hub and nowhere else."""
        here = {"HF_ENDPOINT": self.endpoint, "NO_PROXY": "127.0.0.1"}
        return {**here, "HF_HOME": str(cache), "HF_HUB_OFFLINE": "0", "HF_TOKEN": ""}


def connect(monkeypatch: Any, hub: Hub, cache: Path, *, offline: bool = False) -> None:
    """Lead this process to `hub`; huggingface_hub read its environment when it was imported."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    if hasattr(huggingface_hub, "configure_http_backend"):
        huggingface_hub.configure_http_backend()  # before release 1 a session stays offline
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "token"))
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    for module in (constants, file_download):  # before release 1 it has its own
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    # where releases from 2 on remember which programs may ask
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(cache / "agents"), raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)


@contextmanager
def serve(repositories: Mapping[str, Mapping[str, Path]], **options: Any) -> Iterator[Hub]:
    """Serve `repositories` on a free port until the block ends; options as in `Hub`."""
    hub = Hub(repositories, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def write(folder: Path, names: Iterable[str]) -> Path:
    """Make a repository of small files, each with different content."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{folder.name}: {name}\n" * 100, encoding="utf-8")
    return folder


def write_index(folder: Path, files: Iterable[Any], name: str = INDEX) -> Path:
    """Write an index whose tensors lie in `files`."""
    content = {"weight_map": {f"tensor.{n}": file for n, file in enumerate(files)}}
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return folder


def commit(repository: str, revision: str, folder: Path) -> str:
    """Return the commit of a revision, which changes with its files."""
    digest = hashlib.sha1(f"{repository}@{revision}".encode())
    for name, file in _files(folder).items():
        digest.update(f"{name}\0{file.etag}\0".encode())
    return digest.hexdigest()


def _files(folder: Path) -> dict[str, File]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): File(path) for path in paths}


class Refusal(Exception):
    """An answer that is none: a status, and what the hub says in its headers."""

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.headers = {"X-Error-Code": code, "X-Error-Message": message}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def __init__(self, hub: Hub, *args: Any) -> None:
        self.hub = hub
        super().__init__(*args)

    def log_message(self, *_: Any) -> None:
        """Say nothing; the hub's log has it."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        try:
            if self.hub.broken:
                raise Refusal(self.hub.broken)
            if self.hub.page:
                return self._send(200, {}, self.hub.page)
            self._answer([unquote(part) for part in urlsplit(self.path).path.split("/")[1:]])
        except Refusal as refusal:
            self._send(refusal.status, {k: v for k, v in refusal.headers.items() if v}, b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            if self.hub.uploads is None or self.headers.get("Authorization") != "Bearer writer":
                raise Refusal(401, message="Invalid username or password.")
            self._take([unquote(part) for part in urlsplit(self.path).path.split("/")[2:]], body)
        except Refusal as refusal:
            self._send(refusal.status, {k: v for k, v in refusal.headers.items() if v}, b"")

    def _take(self, parts: list[str], body: bytes) -> None:
        """Make a repository, or take files: all of them inside of the commit."""
        if parts == ["validate-yaml"]:
            self._send_json({"errors": [], "warnings": []})
        elif parts == ["repos", "create"]:
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            is_there = name in self.hub.repositories
            if not is_there:
                self.hub.repositories[name] = {"main": self._new_folder(name, "main")}
            self._send_json({"url": f"{self.hub.endpoint}/{name}"}, 409 if is_there else 200)
        else:
            _, organisation, name, what, *rest = parts
            self._take_into(f"{organisation}/{name}", what, "/".join(rest), body)

    def _take_into(self, repository: str, what: str, revision: str, body: bytes) -> None:
        """Make a branch, say how files are sent, or take them."""
        branches = self.hub.repositories[repository]
        if what == "branch":
            branches[revision] = self._new_folder(repository, revision)
            self._send_json({})
        elif what == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            inside = {"uploadMode": "regular", "shouldIgnore": False}
            self._send_json({"files": [{"path": path, **inside} for path in paths]})
        else:
            entries = [json.loads(line) for line in body.splitlines()]
            files = [entry["value"] for entry in entries if entry["key"] == "file"]
            for file in files:
                content = base64.b64decode(file["content"])
                (branches[revision] / file["path"]).write_bytes(content)
            url = f"{self.hub.endpoint}/{repository}/commit/{'0' * 40}"
            self._send_json({"success": True, "commitOid": "0" * 40, "commitUrl": url})

    def _new_folder(self, repository: str, branch: str) -> Path:
        folder = self.hub.uploads / repository.replace("/", "+") / branch
        folder.mkdir(parents=True)
        return folder

    def _answer(self, parts: list[str]) -> None:
        """Answer by the path: /api/models/org/name/..., or /org/name/resolve/revision/file."""
        is_api = parts[:2] == ["api", "models"]
        parts = parts[2:] if is_api else parts
        count = 1 if parts[0] in self.hub.repositories else 2  # the oldest have no organisation
        repository, rest = "/".join(parts[:count]), parts[count:]
        self._admit(repository, None if is_api else self.hub.gated.get(repository))
        if is_api:
            self._tell(repository, *(rest or ["revision", "main"]))
        else:
            self._send_file(repository, rest[1], "/".join(rest[2:]))

    def _admit(self, repository: str, token: str | None) -> None:
        """Refuse what is not there, or needs another token; `token` is that of a gated file."""
        given = self.headers.get("Authorization")
        private = self.hub.private.get(repository)
        if private and not given:
            raise Refusal(401, "RepoNotFound", "Repository not found")
        if private and given != f"Bearer {private}":
            raise Refusal(401, message="Invalid credentials in Authorization header")
        if repository not in self.hub.repositories:
            raise Refusal(404, "RepoNotFound", "Repository not found")
        if token and given != f"Bearer {token}":
            raise Refusal(403 if given else 401, "GatedRepo", "Access is restricted")

    def _revision(self, repository: str, name: str) -> tuple[str, dict[str, File]]:
        """Return the commit and the files of a branch or of a commit."""
        for branch, folder in self.hub.repositories[repository].items():
            sha = commit(repository, branch, folder)
            if name in (branch, sha):
                return sha, _files(folder)
        raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {name}")

    def _tell(self, repository: str, what: str, revision: str = "main", *_: str) -> None:
        """Answer a question about a repository: its branches, its files, or all of it."""
        if what == "refs":
            names = self.hub.repositories[repository]
            refs = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": "0" * 40} for n in names]
            self._send_json({"branches": refs, "tags": [], "converts": []})
            return
        sha, files = self._revision(repository, revision)
        sized = [(name, file, len(file.content), file.etag) for name, file in files.items()]
        if what == "tree":
            tree = [
                {"type": "file", "path": name, "size": size, "oid": etag, **file.lfs("oid")}
                for name, file, size, etag in sized
            ]
            self._send_json(tree)
            return
        siblings = [
            {"rfilename": name, "size": size, "blobId": etag, **file.lfs("sha256")}
            for name, file, size, etag in sized
        ]
        private = repository in self.hub.private
        self._send_json({"id": repository, "sha": sha, "private": private, "siblings": siblings})

    def _send_json(self, content: Any, status: int = 200) -> None:
        self._send(status, {"Content-Type": "application/json"}, json.dumps(content).encode())

    def _send_file(self, repository: str, revision: str, name: str) -> None:
        sha, files = self._revision(repository, revision)
        if name not in files:
            raise Refusal(404, "EntryNotFound", "Entry not found")
        content = self.hub.swapped.get(name, files[name].content)
        headers = {
            "X-Repo-Commit": sha,
            "ETag": f'"{files[name].etag}"',
            "X-Linked-Etag": f'"{files[name].etag}"',
            "X-Linked-Size": str(self.hub.sizes.get(name, len(content))),
            "Accept-Ranges": "bytes",
        }
        asked = self.headers.get("Range")
        if asked:
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            content = content[start:]
        self._send(206 if asked else 200, headers, content, name)

    def _send(self, status: int, headers: dict[str, str], body: bytes, file: str = "") -> None:
        asked = self.headers.get("Range")
        self.hub.log.append(Request(self.command, self.path, status, file, asked))
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            cuts = self.hub.cuts.get(file)
            self.wfile.write(body[: cuts.pop(0)] if cuts else body)
