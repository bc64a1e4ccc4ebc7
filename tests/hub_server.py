"""A Hub on loopback, in memory: enough of its protocol for pushing models and Spaces and loading them again.

What the client sends and expects was read off `huggingface_hub` 2.4; files are stored without Xet, which a test
cannot offer. The fixture `loopback_hub` points `huggingface_hub` and `transformers` of this process to it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest

TOKEN = "hf_test"
USER = "someone"
LFS_FROM_BYTES = 1_000
MAX_BODY_BYTES = 64 * 2**20
IDLE_SECONDS = 10.0


@dataclass
class Repo:
    """A repository: its commits, oldest first, each with all files by path."""

    private: bool
    commits: list[tuple[str, dict[str, bytes]]] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1][0]

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[-1][1]

    def at(self, revision: str) -> dict[str, bytes] | None:
        """Return the files of a commit or of `main`, or None if there is no such revision."""
        return self.files if revision == "main" else dict(self.commits).get(revision)

    def commit(self, files: dict[str, bytes]) -> None:
        seed = f"{len(self.commits)} {sorted((path, _sha256(content)) for path, content in files.items())}"
        self.commits.append((hashlib.sha1(seed.encode()).hexdigest(), files))


@dataclass
class Failure:
    """Requests whose `METHOD /path` matches are answered with `status`, or cut in their middle if it is None."""

    pattern: re.Pattern[str]
    status: int | None
    times: int
    body: bytes


class LoopbackHub(ThreadingHTTPServer):
    """The server. `repos` and `requests` (`METHOD /path`, in their order) are there to be looked at by tests.

    Models are found as `ORG/NAME`, Spaces as `spaces/ORG/NAME`, datasets as `datasets/ORG/NAME`.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.lock = threading.RLock()
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.sent_bytes = 0
        self.failures: list[Failure] = []

    def fail(self, pattern: str, status: int | None, times: int = 1, body: bytes = b"") -> None:
        """Let the next `times` requests that match fail: with a status, or with a cut connection if it is None."""
        self.failures.append(Failure(re.compile(pattern), status, times, body))

    def next_failure(self, request: str) -> Failure | None:
        with self.lock:
            for failure in self.failures:
                if failure.times > 0 and failure.pattern.search(request):
                    failure.times -= 1
                    return failure
        return None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away; tests look at what the client sees."""


@dataclass
class _Answer:
    """What a request is answered with: bytes as they are, all else as JSON."""

    status: int
    content: Any = None
    headers: dict[str, str] = field(default_factory=dict)


class _Refusal(Exception):
    """Ends a request with an error, whose code tells the client which of its exceptions to raise."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        self.answer = _Answer(status, {"error": message}, {"X-Error-Message": message, **headers})
        if code:
            self.answer.headers["X-Error-Code"] = code


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_SECONDS
    wbufsize = -1  # headers and body leave together
    server: LoopbackHub
    body: bytes

    def do_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = f"{self.command} {path}"
        with self.server.lock:
            self.server.requests.append(request)
        length = int(self.headers.get("Content-Length", 0))
        failure = self.server.next_failure(request)
        if failure is not None and failure.status is None:
            self.rfile.read(length // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if length > MAX_BODY_BYTES:
            raise ValueError(f"a test sends {length} bytes")
        self.body = self.rfile.read(length)
        if failure is not None:
            self._send(_Answer(failure.status or 0, failure.body))
            return
        try:
            with self.server.lock:
                answer = self._route(path)
        except _Refusal as refusal:
            answer = refusal.answer
        self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_any

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the test's output clean."""

    def _send(self, answer: _Answer) -> None:
        content = answer.content if isinstance(answer.content, bytes) else json.dumps(answer.content).encode()
        self.send_response(answer.status)
        for name, value in {"Content-Length": str(len(content)), **answer.headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.server.sent_bytes += len(content)
            self.wfile.write(content)

    def _route(self, path: str) -> _Answer:
        path = path.replace("/api/spaces/", "/api/models/spaces/").replace("/api/datasets/", "/api/models/datasets/")
        for method, pattern, action in _ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                return action(self, **match.groupdict())
        return _Answer(404, {"error": f"this test server has no {self.command} {path}"})

    # Who may do what

    def _authorized(self) -> bool:
        """Return whether the client has shown the token; a wrong one is refused whatever it was for."""
        sent = self.headers.get("Authorization")
        if sent not in (None, f"Bearer {TOKEN}"):
            raise _Refusal(401, "", "Invalid credentials in Authorization header")
        return sent is not None

    def _repo(self, repo_id: str, write: bool = False) -> Repo:
        authorized = self._authorized()
        repo = self.server.repos.get(repo_id)
        if repo is None or (repo.private and not authorized):
            raise _Refusal(404 if authorized else 401, "RepoNotFound", "Repository not found")
        if write and not authorized:
            raise _Refusal(401, "", "Invalid username or password.")
        return repo

    def _files(self, repo: Repo, revision: str) -> dict[str, bytes]:
        files = repo.at(revision)
        if files is None:
            raise _Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return files

    # Repositories

    def create(self) -> _Answer:
        if not self._authorized():
            raise _Refusal(401, "", "Invalid username or password.")
        wanted = json.loads(self.body)
        repo_id = f"{wanted.get('organization') or USER}/{wanted['name']}"
        if wanted.get("type") == "space":
            if "sdk" not in wanted:
                raise _Refusal(400, "", "a Space needs an SDK")
            repo_id = f"spaces/{repo_id}"
        if wanted.get("type") == "dataset":
            repo_id = f"datasets/{repo_id}"
        answer = {"url": f"{self.server.url}/{repo_id}", "id": repo_id}
        if repo_id in self.server.repos:
            return _Answer(409, answer | {"error": "You already created this repo"})
        repo = Repo(private=wanted.get("visibility") == "private" or bool(wanted.get("private")))
        repo.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
        self.server.repos[repo_id] = repo
        return _Answer(200, answer)

    def info(self, repo: str, revision: str = "main") -> _Answer:
        found = self._repo(repo)
        files = self._files(found, revision)
        sha = found.head if revision == "main" else revision
        siblings = [{"rfilename": path} for path in sorted(files)]
        name = repo.removeprefix("spaces/").removeprefix("datasets/")
        return _Answer(200, {"id": name, "sha": sha, "private": found.private, "siblings": siblings})

    def tree(self, repo: str, revision: str, folder: str = "") -> _Answer:
        files = self._files(self._repo(repo), revision)
        inside = {path: content for path, content in files.items() if path.startswith(folder)}
        if folder and not inside:
            raise _Refusal(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        entries = {path: {"type": "file", "path": path, **_description(content)} for path, content in inside.items()}
        if parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() == "false":
            depth = len(Path(folder).parts) + 1
            below = {"/".join(Path(path).parts[:depth]) for path in inside}
            folders = {path: {"type": "directory", "path": path, "oid": ""} for path in below - entries.keys()}
            entries = folders | {path: entries[path] for path in below & entries.keys()}
        return _Answer(200, list(entries.values()))

    def paths_info(self, repo: str, revision: str) -> _Answer:
        wanted = json.loads(self.body)["paths"]
        files = self._files(self._repo(repo), revision)
        entries = [{"type": "file", "path": path, **_description(files[path])} for path in wanted if path in files]
        return _Answer(200, entries)

    def whoami(self) -> _Answer:
        if not self._authorized():
            raise _Refusal(401, "", "Invalid username or password.")
        return _Answer(200, {"type": "user", "name": USER, "orgs": [], "auth": {"type": "access_token"}})

    def validate_yaml(self) -> _Answer:
        return _Answer(200, {"errors": [], "warnings": []})

    # Uploads

    def preupload(self, repo: str, revision: str) -> _Answer:
        stored = self._files(self._repo(repo, write=True), revision)
        modes = []
        for file in json.loads(self.body)["files"]:
            mode = "lfs" if file["path"].endswith(".safetensors") or file["size"] >= LFS_FROM_BYTES else "regular"
            known = stored.get(file["path"])
            oid = None if known is None else (_sha256(known) if mode == "lfs" else _git_oid(known))
            modes.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return _Answer(200, {"files": modes})

    def lfs_batch(self, repo: str) -> _Answer:
        self._repo(repo, write=True)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            upload = {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}", "header": {}}}
            objects.append(wanted if wanted["oid"] in self.server.blobs else wanted | {"actions": upload})
        return _Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str) -> _Answer:
        if _sha256(self.body) != oid:
            return _Answer(400, {"error": "the content is not what was announced"})
        self.server.blobs[oid] = self.body
        return _Answer(200)

    def commit(self, repo: str, revision: str) -> _Answer:
        stored = self._repo(repo, write=True)
        files = dict(self._files(stored, revision))
        for line in self.body.decode().splitlines():
            operation = json.loads(line)
            value = operation["value"]
            match operation["key"]:
                case "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                case "lfsFile":
                    files[value["path"]] = self.server.blobs[value["oid"]]
                case "deletedFile":
                    del files[value["path"]]
        stored.commit(files)
        url = f"{self.server.url}/{repo}/commit/{stored.head}"
        return _Answer(200, {"success": True, "commitOid": stored.head, "commitUrl": url, "pullRequestUrl": None})

    # Downloads

    def resolve(self, repo: str, revision: str, path: str) -> _Answer:
        stored = self._repo(repo)
        content = self._files(stored, revision).get(path)
        sha = stored.head if revision == "main" else revision
        if content is None:
            raise _Refusal(404, "EntryNotFound", "Entry not found", **{"X-Repo-Commit": sha})
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_git_oid(content)}"', "Accept-Ranges": "bytes"}
        if len(content) >= LFS_FROM_BYTES:
            headers |= {"X-Linked-ETag": f'"{_sha256(content)}"', "X-Linked-Size": str(len(content))}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return _Answer(206, content[start : end + 1], headers)
        return _Answer(200, content, headers)


_REPO = r"(?P<repo>(?:spaces/|datasets/)?[\w.-]+/[\w.-]+)"
_ROUTES: tuple[tuple[str, str, Callable[..., _Answer]], ...] = (
    ("POST", "/api/repos/create", _Handler.create),
    ("GET", "/api/whoami-v2", _Handler.whoami),
    ("POST", "/api/validate-yaml", _Handler.validate_yaml),
    ("GET", rf"/api/models/{_REPO}", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/revision/(?P<revision>[^/]+)", _Handler.info),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)", _Handler.tree),
    ("GET", rf"/api/models/{_REPO}/tree/(?P<revision>[^/]+)/(?P<folder>.+)", _Handler.tree),
    ("POST", rf"/api/models/{_REPO}/paths-info/(?P<revision>[^/]+)", _Handler.paths_info),
    ("POST", rf"/api/models/{_REPO}/preupload/(?P<revision>[^/]+)", _Handler.preupload),
    ("POST", rf"/api/models/{_REPO}/commit/(?P<revision>[^/]+)", _Handler.commit),
    ("POST", rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", "/lfs/(?P<oid>[0-9a-f]+)", _Handler.lfs_put),
    ("GET", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
    ("HEAD", rf"/{_REPO}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", _Handler.resolve),
)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _description(content: bytes) -> dict[str, Any]:
    described: dict[str, Any] = {"oid": _git_oid(content), "size": len(content)}
    if len(content) >= LFS_FROM_BYTES:
        described["lfs"] = {"oid": _sha256(content), "size": len(content), "pointerSize": 134}
    return described


@pytest.fixture
def loopback_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A fresh Hub that this process talks to, logged in as `someone`, with an empty cache of its own."""
    server = LoopbackHub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    # The library reads its settings at import; these are the places from which it takes them later.
    constants = "huggingface_hub.constants"
    monkeypatch.setattr(f"{constants}.ENDPOINT", server.url)
    monkeypatch.setattr(
        f"{constants}.HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(f"{constants}.HF_HUB_CACHE", str(tmp_path / "hub_cache"))
    monkeypatch.setattr(f"{constants}.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(f"{constants}.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", server.url)
    monkeypatch.setattr("transformers.utils.hub._hf_api", None)
    monkeypatch.setattr("datasets.config.HF_ENDPOINT", server.url)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", False)
    # It waits for seconds between its own attempts.
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    yield server
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
    thread.join(timeout=IDLE_SECONDS)
