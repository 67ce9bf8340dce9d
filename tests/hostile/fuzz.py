"""Breaks sound files for as long as wanted and has them read: a program, not a test.

    python tests/hostile/fuzz.py TARGET --seconds N --corpus DIR [--seed S]

TARGET is a kind of file (``list`` shows them) or ``all``. With atheris installed (``pip install atheris``; Linux and
macOS) libFuzzer chooses what to break next by the lines of Keylift that it reaches; without it, and with ``--plain``,
files are broken at random from the seed. Both break inside of archives and headers too, see ``hostile_mutations``.

Whatever is raised that is no KeyliftError, takes longer than ``hostile_samples.MOST_SECONDS`` or more memory than
``--memory-mb`` is written to DIR as ``TARGET-<hash>``, and told.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib.util
import os
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hostile_mutations import mutated
from hostile_samples import KINDS, MOST_SECONDS, outcome, samples_of

_RUNNING = "running"


class Hunt:
    """One kind of file under attack."""

    def __init__(self, name: str, corpus: Path) -> None:
        self.name, self.corpus = name, corpus
        self.tries, self.read, self.slowest_s = 0, 0, 0.0
        self._told: set[str] = set()
        corpus.mkdir(parents=True, exist_ok=True)

    def attack(self, content: bytes) -> None:
        """Have ``content`` read; keep and tell what should not be."""
        self.tries += 1
        # Should the reader take Python down with it, this is what it read.
        running = self.corpus / f"{self.name}-{_RUNNING}"
        running.write_bytes(content)
        began = time.process_time()
        try:
            self.read += outcome(KINDS[self.name], content) is None
        except Exception as problem:
            where = traceback.extract_tb(problem.__traceback__)[-1]
            own = [frame for frame in traceback.extract_tb(problem.__traceback__) if "keylift" in frame.filename]
            last = own[-1] if own else where
            self._keep(
                content, f"{type(problem).__name__} at {Path(last.filename).name}:{last.lineno}: {problem}"[:300]
            )
        seconds = time.process_time() - began
        self.slowest_s = max(self.slowest_s, seconds)
        if seconds > MOST_SECONDS:
            self._keep(content, f"{seconds:.1f} s")
        running.unlink()

    def _keep(self, content: bytes, what: str) -> None:
        key = what.split(": ")[0] if " at " in what else "slow"
        if key in self._told:
            return
        self._told.add(key)
        file = self.corpus / f"{self.name}-{hashlib.sha256(content).hexdigest()[:12]}"
        file.write_bytes(content)
        print(f"FOUND {self.name}: {what} ({file.name}, {len(content)} bytes)", flush=True)

    def summary(self, seconds: float) -> str:
        """What came of it."""
        return (
            f"{self.name}: {self.tries} files in {seconds:.0f} s, {self.read} of them read, the slowest took "
            f"{self.slowest_s:.2f} s, {len(self._told)} findings"
        )


def plain(hunt: Hunt, seconds: float, seed: int) -> None:
    """Break files at random; what is sound stays sound, as only the broken are broken further."""
    random, began = Random(f"{hunt.name} {seed}"), time.monotonic()
    samples = samples_of(hunt.name)
    while time.monotonic() - began < seconds:
        hunt.attack(mutated(random.choice(samples), random, times=4))


def guided(hunt: Hunt, seconds: float, seed: int) -> None:
    """Let atheris choose. Ends the process."""
    import atheris

    inputs = hunt.corpus / f"{hunt.name}.inputs"
    inputs.mkdir(exist_ok=True)
    for number, content in enumerate(samples_of(hunt.name)):
        (inputs / f"sample-{number}").write_bytes(content)

    def mutate(content: bytes, _most: int, chosen: int) -> bytes:
        random = Random(chosen)
        # libFuzzer's own ways know which bytes were compared with what.
        return mutated(content, random) if random.random() < 0.7 else atheris.Mutate(content, max(_most, 1))

    began = time.monotonic()

    def one(content: bytes) -> None:
        hunt.attack(content)
        if time.monotonic() - began > seconds:
            print(hunt.summary(time.monotonic() - began), flush=True)
            sys.stdout.flush()
            os._exit(0)

    arguments = [sys.argv[0], str(inputs), f"-seed={seed or 1}", "-timeout=60", "-rss_limit_mb=0", "-max_len=65536"]
    arguments += ["-print_final_stats=0", "-verbosity=0"]
    atheris.Setup(arguments, one, custom_mutator=mutate)
    atheris.Fuzz()


def _limit_memory(most_mb: int) -> None:
    try:
        import resource
    except ImportError:
        # Windows has none.
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() if os.name == "posix" else 0
    resource.setrlimit(resource.RLIMIT_AS, (used + (most_mb << 20), resource.RLIM_INFINITY))


def _instrumented(name: str) -> None:
    """Import what reads this kind of file, so that atheris sees its lines."""
    import atheris

    with (
        warnings.catch_warnings(),
        atheris.instrument_imports(include=["keylift", "tomllib"], enable_loader_override=False),
    ):
        warnings.simplefilter("ignore")
        for content in samples_of(name):
            outcome(KINDS[name], content)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", help="a kind of file, all, or list")
    parser.add_argument("--seconds", type=float, default=60, help="for each kind")
    parser.add_argument("--corpus", type=Path, default=Path("hostile-corpus"), help="where findings go")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plain", action="store_true", help="random, even where atheris is installed")
    parser.add_argument("--memory-mb", type=int, default=2048, help="what reading may take (Linux)")
    options: Any = parser.parse_args(argv)
    if options.target == "list":
        print("\n".join(KINDS))
        return 0
    if options.target == "all":
        return _each_by_itself(options)
    if options.target not in KINDS:
        parser.error(f"there is no kind '{options.target}'; 'list' shows all")
    by_atheris = importlib.util.find_spec("atheris") is not None and not options.plain
    if by_atheris:
        _instrumented(options.target)
    hunt = Hunt(options.target, options.corpus)
    for content in samples_of(options.target):
        hunt.attack(content)
    gc.collect()
    _limit_memory(options.memory_mb)
    print(f"{options.target}: {'atheris' if by_atheris else 'random breaking'}, seed {options.seed}", flush=True)
    if by_atheris:
        guided(hunt, options.seconds, options.seed)
    began = time.monotonic()
    plain(hunt, options.seconds, options.seed)
    print(hunt.summary(time.monotonic() - began))
    return 0


def _each_by_itself(options: Any) -> int:
    """A process for each kind: one that takes Python down with it ends none but its own."""
    import subprocess

    broken = 0
    for name in KINDS:
        command = [sys.executable, __file__, name, "--seconds", str(options.seconds), "--corpus", str(options.corpus)]
        command += ["--seed", str(options.seed), "--memory-mb", str(options.memory_mb)]
        code = subprocess.run(command + ["--plain"] * options.plain).returncode
        if code:
            broken += 1
            print(f"FOUND {name}: the process ended with {code}; it read {name}-{_RUNNING}", flush=True)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
