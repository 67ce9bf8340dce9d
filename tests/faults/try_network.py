"""Cut the network in the middle of a set-up, in every way, and say what came of it.

    python tests/faults/try_network.py --times 5 --log network.jsonl --model-wheel mediapipe-0.10.21-....whl

The worker's environment is made of small packages; the pose model of the real wheel (``pip download --no-deps
mediapipe==0.10.21``), where one is given. After each cut: is nothing there that passes for whole, does the message say
what to do, and does the same go well once the network is back?
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# Not this folder itself, whose modules are named with it.
sys.path[0] = str(Path(__file__).resolve().parents[1]) if __name__ == "__main__" else sys.path[0]

from faults.broken_index import FAULTS, Index, make_wheel, served, variables  # noqa: E402
from keylift.addon.environment_making import EnvironmentSetup  # noqa: E402
from keylift.addon.torch_builds import TorchBuild  # noqa: E402
from keylift.addon.worker_environment import EnvironmentPlan, is_begun, is_complete, python_of, write_stamp  # noqa: E402
from keylift.core.errors import KeyliftError  # noqa: E402
from keylift.core.pose_model import find_pose_model, pose_model  # noqa: E402

ADVICE = ("Retry", "run it again", "Run it again", "Choose", "--detector-model", "another package index")


def begun_environment(folder: Path, requirements: Path) -> EnvironmentPlan:
    """An environment whose first step, which needs no network, is done."""
    plan = EnvironmentPlan(
        folder, Path(sys.executable), TorchBuild("cpu", "Processor only", None, 10**6), None, True, requirements
    )
    if not folder.exists():
        subprocess.run([sys.executable, "-I", "-m", "venv", str(folder)], check=True, capture_output=True)
    write_stamp(folder, {"state": "installing"})
    return plan


def environment_cut(index: Index, fault: str, plan: EnvironmentPlan) -> tuple[str, list[str]]:
    """Make the environment while the network is cut, and again when it is back; what was said, and what was wrong."""
    index.fault = fault
    state = EnvironmentSetup(plan).wait()
    wrong = []
    if state.done or is_complete(plan.folder):
        wrong.append("it passes for whole")
    if not is_begun(plan.folder):
        wrong.append("it is not gone on with")
    said = str(state.problem)
    index.fault = ""
    again = EnvironmentSetup(plan)
    if not again.wait().done or not is_complete(plan.folder):
        wrong.append(f"again: {again.poll().problem} {again.log.read_text(encoding='utf-8')[-600:]}")
    elif subprocess.run([python_of(plan.folder), "-I", "-c", "import one, two"]).returncode:
        wrong.append("it lacks packages")
    subprocess.run([python_of(plan.folder), "-I", "-m", "pip", "uninstall", "-q", "-y", "one", "two"], check=True)
    write_stamp(plan.folder, {"state": "installing"})
    return said, wrong


def model_cut(index: Index, fault: str, cache: Path, whole: bool) -> tuple[str, list[str]]:
    """The same with the pose model; ``whole``: the index has the real wheel."""
    os.environ["KEYLIFT_CACHE"] = str(cache)
    index.fault = fault
    wrong, said = [], ""
    try:
        pose_model("full")
        wrong.append("there is a model")
    except KeyliftError as problem:
        said = str(problem)
    if find_pose_model("full") is not None or [path for path in cache.rglob("*") if path.is_file()]:
        wrong.append("something was left in the cache")
    index.fault = ""
    if whole:
        try:
            pose_model("full").unlink()
        except KeyliftError as problem:
            wrong.append(f"again: {problem}")
    return said, wrong


def main() -> int:
    """Try every fault so many times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--model-wheel", type=Path, help="the wheel that the pose model is made of")
    options = parser.parse_args()
    any_wrong = False
    with tempfile.TemporaryDirectory(prefix="network-") as scratch_name:
        scratch = Path(scratch_name)
        wheels = scratch / "wheels"
        wheels.mkdir()
        make_wheel(wheels, "one")
        make_wheel(wheels, "two", "Requires-Dist: one\n")
        model = options.model_wheel or make_wheel(wheels, "mediapipe", version="0.10.21")
        if not (wheels / model.name).exists():
            (wheels / model.name).symlink_to(model.resolve())
        requirements = scratch / "requirements.txt"
        requirements.write_text("two==1.0\n", encoding="utf-8")
        with served(wheels, options.seed) as index:
            os.environ |= variables(index.url) | {"PIP_CACHE_DIR": str(scratch / "pip")}
            plan = begun_environment(scratch / "base" / "worker", requirements)
            for _ in range(options.times):
                for fault in FAULTS:
                    for what in ("environment", "model"):
                        index.asked.clear()
                        said, wrong = (
                            environment_cut(index, fault, plan)
                            if what == "environment"
                            else model_cut(index, fault, scratch / "cache", options.model_wheel is not None)
                        )
                        if not any(words in said for words in ADVICE):
                            wrong.append("it does not say what to do")
                        if not index.asked:
                            wrong.append("the fault was never met")
                        any_wrong = any_wrong or bool(wrong)
                        line = json.dumps({"what": what, "fault": fault, "said": said, "wrong": wrong})
                        print(line, flush=True)
                        if options.log is not None:
                            with options.log.open("a", encoding="utf-8") as log:
                                log.write(line + "\n")
    return int(any_wrong)


if __name__ == "__main__":
    sys.exit(main())
