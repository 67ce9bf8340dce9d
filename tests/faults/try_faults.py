"""Try every fault on every command, many times, at random moments, and say what was lost.

    python tests/faults/try_faults.py --fault kill --command capture --times 20 --log kills.jsonl
    python tests/faults/try_faults.py --table kills.jsonl

After each try: are the inputs as they were, is everything that lies under its final name whole, does the message say
what to do, does a second run succeed with the very results of an undisturbed one, and is nothing left lying about?
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
# Not this folder itself, whose modules are named with it.
sys.path[0] = str(TESTS) if __name__ == "__main__" else sys.path[0]

from faults.disturbances import DISTURBANCES, Disturbance  # noqa: E402
from faults.undertakings import UNDERTAKINGS, Undertaking  # noqa: E402
from shell_runs import Run, content, keylift  # noqa: E402

# So often a moment is chosen anew when the command was over before it came.
MOST_MISSES = 3


@dataclass
class Try:
    """What came of one try.

    struck: the fault came before the command was over
    wrong:  what should not be; empty is what is hoped for
    """

    fault: str
    command: str
    variant: str
    seed: int
    struck: bool = False
    code: int = 0
    note: str = ""
    message: str = ""
    wrong: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Trial:
    """One command, with what an undisturbed run of it gives."""

    def __init__(self, command: str, scratch: Path) -> None:
        self.scratch = scratch
        self.work: Undertaking = UNDERTAKINGS[command](scratch / "inputs" / command)
        self._undisturbed: dict[str, tuple[dict[str, str], float]] = {}
        self._number = 0

    @property
    def variant(self) -> str:
        return str(getattr(self.work, "variant", ""))

    def undisturbed(self) -> tuple[dict[str, str], float]:
        """Results and seconds."""
        if self.variant not in self._undisturbed:
            place = self._new("undisturbed")
            self.work.ready(place)
            # What loads libraries for all runs to come is not this one's time.
            keylift("--version", cwd=place)
            began = time.monotonic()
            run = self._run(place)
            assert run.code == 0, run.err
            seconds = time.monotonic() - began
            self.work.finish(place)
            self._undisturbed[self.variant] = self.work.results(place), seconds
        return self._undisturbed[self.variant]

    def _new(self, name: str) -> Path:
        self._number += 1
        place = self.scratch / f"{self.work.name} {name} {self._number}"
        place.mkdir()
        return place

    def _run(self, place: Path) -> Run:
        work = self.work
        temporary = self.scratch / "tmp of others"
        temporary.mkdir(exist_ok=True)
        env = {**work.variables(place), "TMPDIR": str(temporary)}
        return keylift(*work.argv(place), cwd=work.inputs, env=env, cold=work.cold, timeout_s=400)

    def disturb(self, fault: type[Disturbance], seed: int) -> Try:
        """One try."""
        chance = random.Random(seed)
        self.work.choose(chance)
        results, seconds = self.undisturbed()
        inputs = content(self.work.inputs)
        disturbance = fault(chance, seconds)
        place, temporary = self._new(fault.name), self._new("tmp")
        found = Try(fault.name, self.work.name, self.variant, seed)
        began = time.monotonic()
        with disturbance.ground(place, self.work):
            self.work.ready(place)
            run, found.struck = disturbance.run(self.work, place, temporary)
            found.code, found.note = run.code, disturbance.note
            if run.code == 0 and not found.struck:
                # The machine was busier when it was looked at, and the moment came too late.
                self._undisturbed[self.variant] = results, min(seconds, time.monotonic() - began)
            found.message = self._message(run)
            disturbance.mend(place)
            self._look(found, disturbance, run, place, temporary, results)
            if found.struck:
                self._run_again(found, place, results)
            if content(self.work.inputs) != inputs:
                found.wrong.append("inputs were changed")
        found.seconds = round(time.monotonic() - began, 1)
        if not found.wrong:
            shutil.rmtree(place)
        shutil.rmtree(temporary)
        return found

    @staticmethod
    def _message(run: Run) -> str:
        told = [line for line in run.err.splitlines() if line.startswith("keylift: ")]
        if told:
            return told[-1]
        # A batch tells of each job as it fails.
        told = [line for line in run.err.splitlines() if ": " in line]
        return told[-1] if told else run.err.strip()[-300:]

    def _look(
        self, found: Try, fault: Disturbance, run: Run, place: Path, temporary: Path, results: dict[str, str]
    ) -> None:
        """At what a disturbed run left."""
        if run.code not in fault.codes:
            found.wrong.append(f"ended with {run.code}: {run.err[-600:]}")
        for word in ("Traceback", "this is a bug"):
            if word in run.err:
                found.wrong.append(f"said '{word}': {run.err[-600:]}")
        if run.code > 0 and fault.words and not any(word in run.err for word in fault.words):
            found.wrong.append(f"said nothing of {fault.words}: {run.err[-600:]}")
        if run.code == 0:
            self._look_at_success(found, place, results)
        else:
            found.wrong += [f"not whole: {name}" for name in self.work.half_written(place, results)]
        if run.code >= 0 and not (fault.leaves_litter and found.struck):
            found.wrong += [f"left {name}" for name in self.work.litter(place)]
            found.wrong += [f"left in the temporary folder: {path.name}" for path in temporary.glob("keylift-*")]

    def _look_at_success(self, found: Try, place: Path, results: dict[str, str]) -> None:
        if self.variant != "preparing" and self.work.results(place) != results:
            found.wrong.append("said it was done, and has other results")

    def _run_again(self, found: Try, place: Path, results: dict[str, str]) -> None:
        run = self._run(place)
        if run.code != 0 and not (found.code == 0 and "already" in run.err):
            found.wrong.append(f"the second run ended with {run.code}: {run.err[-600:]}")
            return
        self.work.finish(place)
        now = self.work.results(place)
        if now != results:
            differing = sorted(name for name in now.keys() | results.keys() if now.get(name) != results.get(name))
            found.wrong.append(f"the second run has other results: {differing}")
        found.wrong += [f"still there after the second run: {name}" for name in self.work.litter(place)]


def table(tries: list[Try]) -> str:
    """What came of all tries, as Markdown."""
    grouped: dict[tuple[str, str], list[Try]] = defaultdict(list)
    for one in tries:
        grouped[one.fault, one.command].append(one)
    lines = ["| fault | command | tried | struck | exit codes when struck | wrong |", "|---|---|---:|---:|---|---:|"]
    for (fault, command), of_one in sorted(grouped.items()):
        struck = [one for one in of_one if one.struck]
        codes = ", ".join(f"{code} ({count}x)" for code, count in sorted(Counter(one.code for one in struck).items()))
        wrong = sum(bool(one.wrong) for one in of_one)
        lines.append(f"| {fault} | {command} | {len(of_one)} | {len(struck)} | {codes} | {wrong} |")
    return "\n".join(lines)


def read_log(path: Path) -> list[Try]:
    """Tries of an earlier run."""
    return [Try(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> int:
    """Try what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fault", action="append", choices=DISTURBANCES, help="without, all of them")
    parser.add_argument("--command", action="append", choices=UNDERTAKINGS, help="without, all of them")
    parser.add_argument("--times", type=int, default=5, help="how often each")
    parser.add_argument("--seed", type=int, default=None, help="of the first try; those after it count up")
    parser.add_argument("--log", type=Path, help="a line of JSON a try is added here")
    parser.add_argument("--table", type=Path, nargs="+", metavar="LOG", help="only tell what earlier logs hold")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after so long")
    options = parser.parse_args()
    if options.table is not None:
        print(table([one for log in options.table for one in read_log(log)]))
        return 0
    seed = time.time_ns() % 10**9 if options.seed is None else options.seed
    until = time.monotonic() + 60 * options.minutes
    tries: list[Try] = []
    with tempfile.TemporaryDirectory(prefix="faults-") as scratch:
        # As tests/conftest.py has it: nothing of the user's has a say.
        os.environ |= {"KEYLIFT_DATA": f"{scratch}/data", "BLENDER_USER_RESOURCES": f"{scratch}/blender"}
        trials = {name: Trial(name, Path(scratch)) for name in options.command or UNDERTAKINGS}
        for number in range(options.times):
            for fault in options.fault or DISTURBANCES:
                for command, trial in trials.items():
                    if (fault == "worker killed" and command != "batch") or time.monotonic() > until:
                        continue
                    for again in range(MOST_MISSES):
                        one = trial.disturb(DISTURBANCES[fault], seed + number + again * 10**6)
                        tries.append(one)
                        print(json.dumps(asdict(one)), flush=True)
                        if options.log is not None:
                            with options.log.open("a", encoding="utf-8") as log:
                                log.write(json.dumps(asdict(one)) + "\n")
                        if one.struck:
                            break
    print(table(tries))
    return int(any(one.wrong for one in tries))


if __name__ == "__main__":
    sys.exit(main())
