"""A package index on this very computer whose network is cut: in the middle of an answer, by silence, by garbage."""

from __future__ import annotations

import hashlib
import random
import threading
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# What is wrong with which answers; the page of a package tells where its wheels are.
FAULTS = (
    "page cut", "page garbage", "page silent", "page refused", "page of somebody else",
    "wheel cut", "wheel garbage", "wheel silent", "wheel refused", "wheel of another content",
)  # fmt: skip
# A sign-in page, as hotels and airports give in place of everything.
_SIGN_IN = b"<html><body><h1>Welcome to our network</h1><form>Your room number</form></body></html>"


def make_wheel(folder: Path, name: str, needs: str = "", version: str = "1.0") -> Path:
    """A package that pip installs, with one module."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    lines = [
        f"{path},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for path, text in files.items()
    ]
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in (*files.items(), (f"{info}/RECORD", "".join(lines) + f"{info}/RECORD,,\n")):
            archive.writestr(path, text)
    return wheel


class Index:
    """What the index has, and what is wrong with it.

    fault: one of FAULTS, or "" while all is well
    asked: paths that were asked for while something was wrong
    """

    def __init__(self, wheels: Path, seed: int) -> None:
        self.wheels, self.fault, self.url = wheels, "", ""
        self.asked: list[str] = []
        self.chance = random.Random(seed)
        self.closing = threading.Event()

    def page(self, name: str) -> bytes:
        """The page of a package, as PEP 503 has it. Each wheel is told with its hash, as package indices do."""
        found = [path for path in self.wheels.glob("*.whl") if path.name.split("-")[0].replace("_", "-") == name]
        links = [
            f'<a href="/wheels/{path.name}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}">{path.name}</a>'
            for path in found
        ]
        return f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()


@contextmanager
def served(wheels: Path, seed: int = 0) -> Iterator[Index]:
    """An index of the wheels in a folder, at ``url``."""
    index = Index(wheels, seed)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wheel = self.path.startswith("/wheels/")
            content = (
                (wheels / Path(self.path).name).read_bytes()
                if wheel
                else index.page(self.path.strip("/").split("/")[-1])
            )
            kind, _, how = index.fault.partition(" ")
            if kind != ("wheel" if wheel else "page"):
                how = ""
            if how:
                index.asked.append(self.path)
            self._answer(content, how, "application/octet-stream" if wheel else "text/html")

        def _answer(self, content: bytes, how: str, kind: str) -> None:
            if how == "silent":
                index.closing.wait(30)
                return
            if how == "garbage":
                content = index.chance.randbytes(len(content))
            if how == "of somebody else":
                content = _SIGN_IN
            if how == "of another content":
                content = content[:-30] + index.chance.randbytes(30)
            self.send_response(503 if how == "refused" else 200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            # As package indices do: pip keeps what it was given.
            self.send_header("Cache-Control", "max-age=365000000, immutable" if wheel_like(kind) else "max-age=600")
            self.end_headers()
            self.wfile.write(content[: index.chance.randrange(len(content))] if how == "cut" else content)
            self.close_connection = True

        def log_message(self, *said: object) -> None:
            """Nobody needs to know."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    index.url = f"http://127.0.0.1:{server.server_port}/simple"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield index
    finally:
        index.closing.set()
        server.shutdown()
        server.server_close()


def wheel_like(kind: str) -> bool:
    """Whether an answer is a file that never changes."""
    return kind == "application/octet-stream"


def variables(url: str) -> dict[str, str]:
    """What tells pip to ask there and nowhere else, and not to wait for long."""
    return {
        "PIP_INDEX_URL": url,
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_EXTRA_INDEX_URL": "",
        "PIP_FIND_LINKS": "",
        "PIP_NO_INDEX": "",
        "PIP_RETRIES": "1",
        "PIP_DEFAULT_TIMEOUT": "1",
    }
