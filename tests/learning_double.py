"""A worker that behaves as `keylift adapt` promises to, and learns nothing: quick, and in need of no torch.

Run as a program, it talks to Blender over its standard input and output. KEYLIFT_DOUBLE says how it goes on: as JSON
with better, fails (a message) and exit_code, steps, step_s, deaf (hears no request to stop).
"""

from __future__ import annotations

import json
import os
import struct
import sys
import threading
import time
from pathlib import Path

from keylift.core.output_files import written_whole
from keylift.core.weights import SHIPPED_FOLDER
from keylift.core.worker_messages import (
    PROTOCOL,
    Cancel,
    Failed,
    Finished,
    Progressed,
    Ready,
    Request,
    decode_request,
    encode,
)

REASON = "5.9 % less error on held-out footage"


def behaviour() -> dict:
    return {"better": True, "steps": 20, "step_s": 0.01, **json.loads(os.environ.get("KEYLIFT_DOUBLE", "{}"))}


def write_adapted_weights(path: Path, better: bool, parent: str = "default") -> None:
    """The shipped lifter under another name, with a header that says that it was adapted."""
    content = (SHIPPED_FOLDER / "default.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    verdict = {"better": better, "reason": REASON}
    header["__metadata__"]["adaptation"] = json.dumps({"base": {"name": parent}, "verdict": verdict})
    packed = json.dumps(header).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(packed)) + packed + content[8 + length :])


def written_whole_text(path: Path, text: str) -> None:
    with written_whole(path) as beside:
        beside.write_text(text, encoding="utf-8")


def say(event: object) -> None:
    sys.stdout.buffer.write(encode(event))
    sys.stdout.buffer.flush()


class Double:
    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.unwanted: set[int] = set()
        self.there = threading.Condition()

    def listen(self) -> None:
        for line in sys.stdin.buffer:
            message = decode_request(line)
            with self.there:
                if isinstance(message, Cancel):
                    self.unwanted.add(message.job)
                else:
                    self.requests.append(message)
                self.there.notify()
        os._exit(0)

    def serve(self) -> None:
        threading.Thread(target=self.listen, daemon=True).start()
        say(Ready(PROTOCOL, "double", "3"))
        while True:
            with self.there:
                self.there.wait_for(lambda: self.requests)
                request = self.requests.pop(0)
            self.adapt(request)

    def adapt(self, request: Request) -> None:
        how, job = behaviour(), request.job
        options = dict(word[2:].partition("=")[::2] for word in request.argv if word.startswith("--"))
        footage = [word for word in request.argv[1:] if not word.startswith("--")]
        run = Path(options["run"])
        if "resume" not in options:
            run.mkdir(parents=True, exist_ok=True)
            said = {"name": options["name"], "base": options["base"]}
            (run / "request.json").write_text(json.dumps(said), encoding="utf-8")
            (run / "asked.json").write_text(json.dumps(request.argv), encoding="utf-8")
            for film in footage:
                say(Progressed(job, "detect", f"Looking for people in {Path(film).name}", 0, None))
                say(Progressed(job, "detect", f"Looking for people in {Path(film).name}", 10, 10))
        if "fails" in how:
            say(Failed(job, how["fails"], "KeyliftError", how.get("exit_code", 1)))
            return
        name = json.loads((run / "request.json").read_text(encoding="utf-8"))["name"]
        settings = f"name = {json.dumps(name)}\n\n[loop]\nsteps = {how['steps']}\n"
        (run / "adapt.toml").write_text(settings, encoding="utf-8")
        log_file = run / "log.json"
        log = json.loads(log_file.read_text(encoding="utf-8")) if log_file.is_file() else []
        for step in range(len(log), how["steps"] + 1):
            # As the real one: a step is brought to its end, and what was learnt is kept, before it stops.
            time.sleep(how["step_s"] if step else 0)
            log.append({"step": step, "seconds": step, "loss": 1.0, "held_out_mm": 40 * 0.98**step})
            written_whole_text(log_file, json.dumps(log))
            say(Progressed(job, "learn", "Learning", step, how["steps"]))
            if job in self.unwanted and not how.get("deaf"):
                say(Failed(job, "Stopped on request.", "Cancelled", 130))
                return
        weights = Path(os.environ["KEYLIFT_WEIGHTS"]) / f"{name}.safetensors"
        write_adapted_weights(weights, how["better"])
        (run / "report.html").write_text("<p>better</p>", encoding="utf-8")
        values = {
            "name": name,
            "verdict": "better" if how["better"] else "not better",
            "reason": REASON if how["better"] else "1.2 % more error on held-out footage",
            "weights": str(weights),
            "report": str(run / "report.html"),
            "run": str(run),
            "figures": {},
            "skipped": [{"footage": "/films/empty.mp4", "why": "nobody is seen in it"}],
        }
        (run / "result.json").write_text(json.dumps(values), encoding="utf-8")
        say(Finished(job, values))


if __name__ == "__main__":
    Double().serve()
