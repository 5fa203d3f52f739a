"""A stand-in of the Hugging Face hub on this machine: it takes commits and gives files, as its own client asks."""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any, ClassVar

Files = dict[str, bytes]


class Hub(BaseHTTPRequestHandler):
    """What it holds: the files of each repository; and the requests that came."""

    repositories: ClassVar[dict[str, Files]] = {}
    asked_for: ClassVar[list[str]] = []
    protocol_version = "HTTP/1.1"

    def log_message(self, *words: Any) -> None:
        pass

    def answer(self, content: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def say(self, fields: Any, status: int = 200, **headers: str) -> None:
        self.answer(json.dumps(fields).encode(), status, Content_Type="application/json", **headers)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        path = self.path.removeprefix("/api/")
        if path == "repos/create":
            fields = json.loads(body)
            name = f"{fields['organization']}/{fields['name']}" if fields.get("organization") else fields["name"]
            self.repositories.setdefault(name, {})
            self.say({"url": f"http://{self.headers['Host']}/{name}", "id": name})
        elif "/preupload/" in path:
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            self.say({"files": files})
        elif "/commit/" in path:
            name = path.removeprefix("models/").split("/commit/")[0]
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.repositories[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            sha = self.sha(name)
            url = f"http://{self.headers['Host']}/{name}/commit/{sha}"
            self.say({"commitUrl": url, "commitOid": sha, "success": True, "hookOutput": ""})
        else:
            self.say({"errors": [], "warnings": []})

    def sha(self, name: str) -> str:
        return hashlib.sha1(repr(sorted(self.repositories[name].items())).encode()).hexdigest()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.asked_for.append(path)
        name = next((name for name in self.repositories if f"/{name}" in path), None)
        if name is None:
            self.say({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        elif path.startswith("/api/"):
            listed = [{"type": "file", "path": file, "size": len(x), "oid": "0" * 40}
                      for file, x in self.repositories[name].items()]  # fmt: skip
            about = {"id": name, "sha": self.sha(name), "siblings": [{"rfilename": one["path"]} for one in listed]}
            self.say(listed if "/tree/" in path else about)
        else:
            content = self.repositories[name].get(path.split("/resolve/")[1].partition("/")[2])
            if content is None:
                self.say({"error": "Entry not found"}, 404, X_Error_Code="EntryNotFound")
                return
            etag = f'"{hashlib.sha1(content).hexdigest()}"'
            self.answer(content, ETag=etag, X_Repo_Commit=self.sha(name))

    do_HEAD = do_GET


@contextmanager
def serving() -> Iterator[str]:
    """Its address, while it runs; empty at first."""
    Hub.repositories.clear()
    Hub.asked_for.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
