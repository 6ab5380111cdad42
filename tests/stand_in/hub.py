"""A small stand-in for the Hugging Face hub, on this machine, that can misbehave on request.

It speaks as much of the hub's API as the real `huggingface_hub` client needs for datasets and
models: repository information at a revision, tree listings, refs, and `resolve` with its headers.
Large files are redirected to a second port, the "cdn", under a signed address that can expire;
JSON and text files are served by the hub itself, as the real one does. Every request is logged
with its range and the bytes that were sent.

    with Hub() as hub:
        commit = hub.add("dataset", "owner/name", {"rows-00000-of-00000.bin": b"..."})
        hub.misbehave("status", at="cdn", status=429, retry_after=1, times=2)
        TokenRows.open("owner/name", endpoint=hub.endpoint)
        assert [r.range for r in hub.log if r.host == "cdn"] == ["bytes=0-4097"]

Faults (`misbehave(kind, at=..., match=..., times=..., after=...)`):

    status        answer `status`, with `retry_after` seconds where given
    ignore_range  answer 200 and the whole file
    wrong_range   answer 206 with another range than was asked for
    short         announce the whole length, send `share` of it and close
    hang          announce the whole length, send `share` of it and wait `seconds`
    cut           close the connection before a single byte
    stall         wait `seconds` before the answer (longer than the client waits)
    latency       wait `seconds`, then answer rightly
    gate          wait until `times` requests have come, then answer them all rightly
    circle        redirect to the same address
    garbage       announce gzip and send something else
    next          name an address that is none as the next page
    rate          send at most `rate` bytes per second over this connection
    flip          turn one bit of the body
    lie           announce and send `share` of the body as if it were all
    expire        answer 403 until the address is asked for anew

`at` is "api", "resolve" or "cdn"; `match` is part of the path; the fault begins after `after`
fitting requests and ends after `times` of them (None: never).
"""

import hashlib
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, unquote, urlparse


@dataclass
class Virtual:
    """A file of any size that is computed where it is read: `read(offset, length) -> bytes`."""

    size: int
    read: Callable[[int, int], bytes]
    sha256: str = "0" * 64
    blob: str = "0" * 40


@dataclass
class Logged:
    """One request: what was asked, and what was sent."""

    host: str
    method: str
    path: str
    range: str | None
    authorized: bool
    status: int = 0
    sent: int = 0


@dataclass
class Fault:
    """One way to misbehave, and how often."""

    kind: str
    at: str
    match: str = ""
    times: int | None = 1
    after: int = 0
    status: int = 500
    retry_after: float | None = None
    share: float = 0.5
    seconds: float = 0.0
    rate: float = 0.0
    gate: threading.Barrier | None = None


@dataclass
class Repository:
    """Commits of one repository: commit -> files, and what its branches point at."""

    commits: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    gated: bool = False


class Hub:
    """Two servers on free ports of this machine: the hub and its cdn."""

    def __init__(self):
        self.log: list[Logged] = []
        self.lock = threading.Lock()
        self.repositories: dict[tuple[str, str], Repository] = {}
        self._faults: list[Fault] = []
        self._signature = 0
        self._expired: set[str] = set()
        self._servers = [self._serve("hub"), self._serve("cdn")]
        self.endpoint, self.cdn = (
            f"http://127.0.0.1:{server.server_port}" for server in self._servers
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def add(self, kind: str, repository: str, files: dict, revision: str = "main") -> str:
        """Commit `files` (name -> bytes, Path or Virtual) to a branch; returns the commit."""
        contents = {name: as_file(content) for name, content in files.items()}
        listing = json.dumps(sorted((n, f.size, f.sha256) for n, f in contents.items()))
        found = self.repositories.setdefault((kind, repository), Repository())
        commit = hashlib.sha1(f"{kind} {repository} {revision} {listing}".encode()).hexdigest()
        found.commits[commit] = contents
        found.branches[revision] = commit
        return commit

    def misbehave(self, kind: str, at: str = "cdn", **settings) -> Fault:
        """Add a fault; `kind` and `settings` as in the module's description."""
        fault = Fault(kind, at, **settings)
        if kind == "gate":
            fault.gate = threading.Barrier(fault.times, timeout=300)
        with self.lock:
            self._faults.append(fault)
        return fault

    def expire(self) -> None:
        """Let every address signed so far expire."""
        with self.lock:
            self._expired.update(str(number) for number in range(self._signature + 1))

    def requests(self, host: str | None = None, method: str | None = None) -> list[Logged]:
        """Logged requests of one host ("api", "resolve", "cdn") and method."""
        with self.lock:
            return [r for r in self.log if host in (None, r.host) and method in (None, r.method)]

    def fault_for(self, host: str, path: str) -> Fault | None:
        """The fault that this request meets, and one time less of it."""
        with self.lock:
            for fault in self._faults:
                if fault.at != host or fault.match not in path or fault.times == 0:
                    continue
                if fault.after > 0:
                    fault.after -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def sign(self) -> str:
        """A new signature."""
        with self.lock:
            self._signature += 1
            return str(self._signature)

    def is_expired(self, signature: str) -> bool:
        """Is an address no longer good?"""
        with self.lock:
            return signature in self._expired

    def _serve(self, name: str) -> ThreadingHTTPServer:
        handler = type("Handler", (_Handler,), {"hub": self, "server_name": name})
        server = _Server(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server


def as_file(content) -> Virtual:
    """Bytes, a path or a virtual file, as something that is read by offset and length."""
    if isinstance(content, Virtual):
        return content
    data = content.read_bytes() if isinstance(content, Path) else bytes(content)
    digest = hashlib.sha256(data).hexdigest()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return Virtual(len(data), lambda offset, length: data[offset : offset + length], digest, blob)


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """Clients that close a connection are no news."""


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    server_name: str
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        path = urlparse(self.path).path
        host = "cdn" if self.server_name == "cdn" else "api" if path[:5] == "/api/" else "resolve"
        self.entry = Logged(
            host, self.command, path, self.headers.get("Range"), "Authorization" in self.headers
        )
        with self.hub.lock:
            self.hub.log.append(self.entry)
        fault = self.hub.fault_for(host, path)
        if fault and fault.kind in ("latency", "stall"):
            time.sleep(fault.seconds)
        if fault and fault.kind == "gate":
            fault.gate.wait()
        if fault and fault.kind == "cut":
            self.close_connection = True
        elif fault and fault.kind == "circle":
            self._send(302, b"", {"Location": self.path})
        elif fault and fault.kind == "garbage":
            self._send(200, b"\x00no gzip", {"Content-Encoding": "gzip"})
        elif fault and fault.kind == "next":
            self._send(200, b"[]", {"Link": '<http://127.0.0.1:x/>; rel="next"'})
        elif fault and fault.kind == "status":
            wait = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
            self._send(fault.status, b'{"error": "as asked"}', wait)
        elif host == "cdn":
            self._file_of_cdn(fault)
        else:
            self._hub(path, fault)

    def _hub(self, path, fault):
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if parts[0] == "api":
            self._api({"datasets": "dataset", "models": "model"}[parts[1]], parts[2:])
        else:
            kind = "dataset" if parts[0] == "datasets" else "model"
            parts = parts[1:] if kind == "dataset" else parts
            self._resolve(kind, "/".join(parts[:2]), parts[3], "/".join(parts[4:]), fault)

    def _api(self, kind, parts):
        name, rest = "/".join(parts[:2]), parts[2:]
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._missing("RepoNotFound", "Repository not found")
        if repository.gated and not self.entry.authorized:
            return self._missing("GatedRepo", "Access to this repository is restricted", 401)
        if rest[:1] == ["refs"]:
            heads = [
                {"name": branch, "ref": f"refs/heads/{branch}", "targetCommit": commit}
                for branch, commit in repository.branches.items()
            ]
            return self._json({"branches": heads, "converts": [], "tags": []})
        commit = self._commit(repository, rest[1] if len(rest) > 1 else "main")
        if commit is None:
            return self._missing("RevisionNotFound", "Invalid rev id")
        files = repository.commits[commit]
        if rest[:1] == ["tree"]:
            return self._json([_tree_entry(name, file) for name, file in sorted(files.items())])
        siblings = [
            {
                "rfilename": path,
                "size": file.size,
                "blobId": file.sha256[:40],
                "lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 130},
            }
            for path, file in sorted(files.items())
        ]
        return self._json({"id": name, "sha": commit, "siblings": siblings, "private": False})

    def _resolve(self, kind, name, revision, path, fault):
        repository = self.hub.repositories.get((kind, name))
        if repository is None:
            return self._missing("RepoNotFound", "Repository not found")
        commit = self._commit(repository, revision)
        if commit is None:
            return self._missing("RevisionNotFound", "Invalid rev id")
        file = repository.commits[commit].get(path)
        if file is None:
            return self._missing("EntryNotFound", "Entry not found")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{file.sha256}"', "Accept-Ranges": "bytes"}
        if path.endswith((".json", ".txt", ".md")):
            return self._file(file, fault, headers)
        address = f"{self.hub.cdn}/{kind}/{name}/{commit}/{quote(path)}"
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": f'"{file.sha256}"'}
        headers["Location"] = f"{address}?Signature={self.hub.sign()}"
        return self._send(302, b"", headers)

    def _file_of_cdn(self, fault):
        url = urlparse(self.path)
        signature = parse_qs(url.query).get("Signature", [""])[0]
        if fault and fault.kind == "expire":
            self.hub.expire()
        if self.hub.is_expired(signature):
            return self._send(403, b"<Error>Request has expired</Error>")
        kind, owner, name, commit, *path = [unquote(p) for p in url.path.strip("/").split("/")]
        repository = self.hub.repositories[kind, f"{owner}/{name}"]
        return self._file(repository.commits[commit]["/".join(path)], fault, {})

    def _file(self, file, fault, headers):
        kind = fault.kind if fault else ""
        asked = self.headers.get("Range")
        if asked and kind != "ignore_range":
            first, last = asked.removeprefix("bytes=").split("-")
            first, last = int(first), min(int(last or file.size - 1), file.size - 1)
            if first >= file.size:
                return self._send(416, b"", {"Content-Range": f"bytes */{file.size}"})
            shift = 2 if kind == "wrong_range" else 0
            headers["Content-Range"] = f"bytes {first + shift}-{last + shift}/{file.size}"
            return self._body(206, file, first, last + 1 - first, headers, fault)
        return self._body(200, file, 0, file.size, headers, fault)

    def _body(self, status, file, first, length, headers, fault):
        kind = fault.kind if fault else ""
        if kind == "lie":
            length = int(length * fault.share)
        stop = first + (int(length * fault.share) if kind in ("short", "hang") else length)
        self._head(status, length, headers)
        length = 1 << 16 if kind == "rate" else 1 << 20
        for at in range(first, stop if self.command == "GET" else first, length):
            block = file.read(at, min(length, stop - at))
            if kind == "rate":
                time.sleep(len(block) / fault.rate)
            if kind == "flip" and at == first:
                block = bytes([block[0] ^ 1]) + block[1:]
            self.entry.sent += len(block)  # before the client can have it, so that tests may look
            try:
                self.wfile.write(block)
            except (BrokenPipeError, ConnectionResetError):
                self.entry.sent -= len(block)
                self.close_connection = True
                return
        if kind == "hang":
            self.wfile.flush()
            time.sleep(fault.seconds)
        self.close_connection = kind in ("short", "hang") or self.close_connection

    def _send(self, status, body, headers=None):
        self._head(status, len(body), headers or {})
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status, length, headers):
        self.entry.status = status
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _json(self, value):
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code, message, status=404):
        body = json.dumps({"error": message}).encode()
        self._send(status, body, {"X-Error-Code": code, "X-Error-Message": message})

    def _commit(self, repository, revision):
        found = repository.branches.get(revision, revision)
        return found if found in repository.commits else None


def _tree_entry(name, file):
    lfs = {"oid": file.sha256, "size": file.size, "pointerSize": 130}
    return {
        "type": "file",
        "path": name,
        "size": file.size,
        "oid": file.blob,
        **({} if name.endswith((".json", ".txt", ".md")) else {"lfs": lfs}),
    }
