"""What is disturbed: a tiny capture, adaptation, training and batch, with inputs, results, and how each goes on.

Each takes seconds and ends with the same bytes every time, so that what a disturbance did can be seen.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from adaptation_samples import make_quick, write_walks
from keylift.core.weights import read_tensors
from shell_runs import Run, clip, content, keylift
from training_runs import WEIGHTS, log_of, write_run

LITTER = ".keylift-"


class Undertaking(ABC):
    """A command that is disturbed and run again.

    inputs: a folder that nobody may change
    cold:   whether its process must load its libraries itself, see ``warm_starts``
    """

    name = ""
    cold = False
    # What the disk needs that it works on, and some more.
    disk_bytes = 16 << 20

    def __init__(self, inputs: Path) -> None:
        self.inputs = inputs
        inputs.mkdir(parents=True)

    def choose(self, chance: random.Random) -> None:
        """Choose what the next try is about, where there are several ways of the same command."""

    def ready(self, place: Path) -> None:
        """Put into ``place``, where results go, what is there before the command begins."""

    def variables(self, place: Path) -> dict[str, str]:
        """Environment variables to run with."""
        return {"OMP_NUM_THREADS": "1", "KEYLIFT_WEIGHTS": str(place / "weights")}

    @abstractmethod
    def argv(self, place: Path) -> list[object]:
        """The command: to begin with, or to go on with what a disturbed run left."""

    def finish(self, place: Path) -> None:
        """What a person does between the command that was disturbed, once it succeeded, and its results."""

    @abstractmethod
    def results(self, place: Path) -> dict[str, str]:
        """What it is for, by name, with a fingerprint that is the same after every undisturbed run."""

    def half_written(self, place: Path, undisturbed: Mapping[str, str]) -> list[str]:
        """Files under their final names that are not what an undisturbed run gives."""
        return [name for name, found in self.results(place).items() if undisturbed.get(name) != found]

    def litter(self, place: Path) -> list[str]:
        """What only a run at work should have."""
        return sorted(path.relative_to(place).as_posix() for path in place.rglob(f"{LITTER}*"))


class Capture(Undertaking):
    """Footage to keyframes: a skeleton's, or a character's with a film."""

    name = "capture"

    def __init__(self, inputs: Path) -> None:
        super().__init__(inputs)
        shutil.copy(clip("cam03.mp4"), inputs)
        self._with_blender = True

    def choose(self, chance: random.Random) -> None:
        self._with_blender = chance.random() < 0.5

    def argv(self, place: Path) -> list[object]:
        what = ["-o", place / "take.glb", "--preview", place / "take.mp4"] if self._with_blender else []
        skeleton = ["--rig", "skeleton"] if not self._with_blender else []
        steps = ["--keep", place / "steps", "-o", place / "take.bvh"]
        return ["capture", self.inputs / "cam03.mp4", "--frames", "0-9", *steps, *what, *skeleton]

    @property
    def variant(self) -> str:
        """Which of its two ways this is."""
        return "blender" if self._with_blender else "skeleton"

    def results(self, place: Path) -> dict[str, str]:
        found = {name: found for name, found in content(place).items() if found and LITTER not in name}
        return {name: _pictures(place / name) if name.endswith(".mp4") else found for name, found in found.items()}


class Adapt(Undertaking):
    """Footage to weights with a verdict: while the set is made, or while it is learnt from."""

    name = "adapt"
    disk_bytes = 400 << 20

    def __init__(self, inputs: Path) -> None:
        super().__init__(inputs)
        write_walks(inputs, (60, 70))
        self._made_ready = inputs.parent / "adapt made ready"
        self._from_the_start = False

    def choose(self, chance: random.Random) -> None:
        self._from_the_start = chance.random() < 0.3

    @property
    def variant(self) -> str:
        """Which part of it this is."""
        return "preparing" if self._from_the_start else "learning"

    @cached_property
    def _prepared(self) -> Path:
        run = keylift(*self._beginning(self._made_ready), cwd=self.inputs, env=self.variables(self._made_ready))
        assert run.code == 0, run.err
        self._make_quick(self._made_ready)
        return self._made_ready

    def _beginning(self, place: Path) -> list[object]:
        run = ["--run", place / "run", "--steps", 6, "--prepare-only"]
        return ["adapt", self.inputs, "--name", "stage", *run]

    @staticmethod
    def _make_quick(place: Path) -> None:
        make_quick(place / "run" / "adapt.toml", ("checkpoint_every_s", "0.05"), ("guard_views", "32"))

    def ready(self, place: Path) -> None:
        if not self._from_the_start:
            shutil.copytree(self._prepared / "run", place / "run")

    def argv(self, place: Path) -> list[object]:
        if self._from_the_start and not (place / "run" / "request.json").is_file():
            return self._beginning(place)
        only = ["--prepare-only"] if self._from_the_start else []
        return ["adapt", "--run", place / "run", "--resume", *only]

    def finish(self, place: Path) -> None:
        if self._from_the_start:
            self._make_quick(place)
            argv = ["adapt", "--run", place / "run", "--resume"]
            run = keylift(*argv, cwd=self.inputs, env=self.variables(place))
            assert run.code == 0, run.err

    def results(self, place: Path) -> dict[str, str]:
        return _weights_below(place)

    def half_written(self, place: Path, undisturbed: Mapping[str, str]) -> list[str]:
        return super().half_written(place, undisturbed) + _unreadable_below(place)


class Train(Undertaking):
    """Motion to weights."""

    name = "train"
    disk_bytes = 24 << 20

    def __init__(self, inputs: Path) -> None:
        super().__init__(inputs)
        self._config = write_run(inputs)

    def argv(self, place: Path) -> list[object]:
        argv = ["train", self._config, "--run", place / "run", "--device", "cpu"]
        return [*argv, "--resume"] if (place / "run").is_dir() else argv

    def results(self, place: Path) -> dict[str, str]:
        found = _weights_below(place)
        if (place / "run" / WEIGHTS).is_file():
            found["log"] = json.dumps(log_of(place / "run"))
        return found

    def half_written(self, place: Path, undisturbed: Mapping[str, str]) -> list[str]:
        return super().half_written(place, undisturbed) + _unreadable_below(place)


class Batch(Undertaking):
    """A folder of takes: two of keypoints, one of footage."""

    name = "batch"
    # A batch starts processes, which a process that was forked should not.
    cold = True
    JOBS = """
[defaults]
formats = [".bvh", ".pose.npz"]
rig = "skeleton"
[[jobs]]
clips = "*.keypoints.npz"
[[jobs]]
clip = "cam03.mp4"
frames = "0-7"
"""

    def __init__(self, inputs: Path) -> None:
        super().__init__(inputs)
        write_walks(inputs, (30, 30))
        shutil.copy(clip("cam03.mp4"), inputs)
        (inputs / "night.toml").write_text(self.JOBS, encoding="utf-8")

    def argv(self, place: Path) -> list[object]:
        return ["batch", self.inputs / "night.toml", "-o", place / "takes", "--workers", 1, "--retries", 0, "--json"]

    def results(self, place: Path) -> dict[str, str]:
        return {
            name: found
            for name, found in content(place).items()
            if name.endswith((".bvh", ".pose.npz")) and "/." not in name
        }

    def half_written(self, place: Path, undisturbed: Mapping[str, str]) -> list[str]:
        return super().half_written(place, undisturbed) + _unreadable_below(place)

    def litter(self, place: Path) -> list[str]:
        work = place / "takes" / ".keylift" / "work"
        return super().litter(place) + [f"work/{path.name}" for path in work.glob("*")]


UNDERTAKINGS: dict[str, type[Undertaking]] = {kind.name: kind for kind in (Capture, Adapt, Train, Batch)}


def summary(run: Run) -> dict[str, object]:
    """The last line that a batch printed."""
    found: dict[str, object] = json.loads(run.out.splitlines()[-1])
    return found


def _pictures(film: Path) -> str:
    """Of what a film shows: the encoder's threads don't always pack it alike."""
    import av

    found = hashlib.sha256()
    try:
        with av.open(str(film)) as container:
            for frame in container.decode(video=0):
                found.update(frame.to_ndarray(format="gray").tobytes())
    except (OSError, ValueError) as problem:
        return f"unreadable: {problem}"
    return found.hexdigest()


def _weights_below(place: Path) -> dict[str, str]:
    """Weights that are under their final names, by the content of their tensors; what can't be read is told as such."""
    files = [*(place / "run").glob("*.safetensors"), *(place / "weights").glob("*.safetensors")]
    return {path.relative_to(place).as_posix(): _tensors(path) for path in files if not path.name.startswith(".")}


def _tensors(path: Path) -> str:
    try:
        tensors = read_tensors(path)
    except Exception as problem:
        return f"unreadable: {problem}"
    found = hashlib.sha256()
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].contiguous().numpy().tobytes())
    return found.hexdigest()


def _unreadable_below(place: Path) -> list[str]:
    """JSON, pages and checkpoints that were cut short."""
    import numpy as np
    from safetensors import safe_open

    wrong = []
    for path in place.rglob("*"):
        name = path.relative_to(place).as_posix()
        if LITTER in name or "/work/" in name or not path.is_file():
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".html":
                assert path.read_text(encoding="utf-8").rstrip().endswith("</html>")
            elif path.suffix == ".safetensors":
                with safe_open(str(path), framework="pt") as file:
                    assert list(file.keys())
            elif path.suffix == ".npz":
                with np.load(path) as arrays:
                    assert [arrays[key].shape for key in arrays]
        except Exception as problem:
            wrong.append(f"{name}: {problem}")
    return wrong
