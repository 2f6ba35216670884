"""A hub on this machine with the paths that ``huggingface_hub`` asks for, and random models in the real layout."""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np

SHA = "0123456789abcdef0123456789abcdef01234567"
"""The only commit of every repository here."""

SMALL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}
"""The ``model_cfg`` of a model in the real layout that costs nothing."""


@dataclass
class Hub:
    """A running hub: ``root/models/OWNER/NAME`` and ``root/datasets/OWNER/NAME``."""

    root: Path
    url: str = ""
    asked: list[str] = field(default_factory=list)
    """``METHOD path -> status`` of every request."""
    cut: dict[str, int] = field(default_factory=dict)
    """Names of files whose next download breaks off, and after how many bytes."""

    def downloads(self) -> list[str]:
        """Return the files that were sent, without the requests for their headers."""
        sent = (line for line in self.asked if line.startswith("GET") and "/resolve/" in line)
        return [line.rsplit("/", 1)[1].split(" ")[0] for line in sent if line.endswith(("200", "206"))]

    def add_model(self, repo: str, *, seed: int = 0, model_cfg: dict[str, Any] | None = None, name: str = "") -> Path:
        """Write a random model; ``name`` is the file of its weights."""
        import open_clip
        import torch
        from safetensors.torch import save_file

        config = model_cfg or SMALL
        torch.manual_seed(seed)
        weights = open_clip.CLIP(**json.loads(json.dumps(config))).state_dict()
        folder = self.root / "models" / repo
        folder.mkdir(parents=True, exist_ok=True)
        preprocess = {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
        name = name or "open_clip_pytorch_model.bin"
        if name.endswith(".bin"):
            torch.save(weights, folder / name)
        else:
            save_file({key: value.contiguous() for key, value in weights.items()}, folder / name)
        return folder

    def add_bank(self, repo: str, name: str, names: Sequence[Any], vectors_KE: Any) -> Path:
        """Write a label bank as it is published; return its array."""
        folder = self.root / "datasets" / repo / "embeddings"
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", np.ascontiguousarray(np.asarray(vectors_KE, np.float32).T))
        (folder / f"{name}.json").write_text(json.dumps(list(names)))
        return folder / f"{name}.npy"


@contextmanager
def serve_hub(root: Path) -> Iterator[Hub]:
    """Serve a hub on a free port."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = unquote(urlparse(self.path).path).strip("/")
        if found := re.match(r"(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)$", path):
            return self._send_file(*found.groups())
        if found := re.match(r"api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+))?", path):
            return self._describe(found[1], found[2], is_tree=found[3] == "tree")
        return self._reply(404)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        """Create a repository, say how to upload files (all within the commit), and take a commit."""
        path = unquote(urlparse(self.path).path).strip("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        as_json = {"Content-Type": "application/json"}
        if path == "api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            (self.hub.root / f"{asked.get('type', 'model')}s" / repo).mkdir(parents=True, exist_ok=True)
            return self._reply(200, as_json, json.dumps({"url": f"{self.hub.url}/{repo}"}).encode())
        if path == "api/validate-yaml":
            return self._reply(200, as_json, b'{"errors": [], "warnings": []}')
        found = re.match(r"api/(models|datasets)/([^/]+/[^/]+)/(preupload|commit)/main$", path)
        if found is None:
            return self._reply(404)
        if found[3] == "preupload":
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None}
                     for one in json.loads(body)["files"]]  # fmt: skip
            return self._reply(200, as_json, json.dumps({"files": files}).encode())
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                place = self.hub.root / found[1] / found[2] / line["value"]["path"]
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_bytes(base64.b64decode(line["value"]["content"]))
        done = {"commitUrl": f"{self.hub.url}/{found[2]}/commit/{SHA}", "commitOid": SHA, "hookOutput": ""}
        return self._reply(200, as_json, json.dumps(done).encode())

    def _send_file(self, kind: str | None, repo: str, revision: str, name: str) -> None:
        folder = self.hub.root / ("datasets" if kind else "models") / repo
        if not folder.is_dir():
            return self._reply(404, {"X-Error-Code": "RepoNotFound", "X-Error-Message": "Repository not found"})
        if revision not in ("main", SHA):
            return self._reply(404, {"X-Error-Code": "RevisionNotFound", "X-Error-Message": "Invalid rev id"})
        path = folder / name
        if not path.is_file():
            missing = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": SHA}
            return self._reply(404, missing)
        content = path.read_bytes()
        ranged = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(ranged[1]) if ranged else 0
        headers = {"X-Repo-Commit": SHA, "ETag": f'"{hashlib.sha1(content).hexdigest()}"', "Accept-Ranges": "bytes"}
        if ranged:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        cut = None if self.command == "HEAD" else self.hub.cut.pop(path.name, None)
        return self._reply(206 if ranged else 200, headers, content[start:], cut)

    def _describe(self, kind: str, repo: str, *, is_tree: bool) -> None:
        folder = self.hub.root / kind / repo
        if not folder.is_dir():
            return self._reply(404, {"X-Error-Code": "RepoNotFound"})
        files = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
        body: Any = {"id": repo, "modelId": repo, "sha": SHA, "siblings": [{"rfilename": str(path)} for path in files]}
        if is_tree:
            body = [{"type": "file", "oid": "0" * 40, "size": (folder / path).stat().st_size, "path": str(path)}
                    for path in files]  # fmt: skip
        return self._reply(200, {"Content-Type": "application/json"}, json.dumps(body).encode())

    def _reply(
        self, status: int, headers: dict[str, str] | None = None, body: bytes = b"", cut: int | None = None
    ) -> None:
        self.hub.asked.append(f"{self.command} {self.path} -> {status}")
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        self.close_connection = self.close_connection or cut is not None
