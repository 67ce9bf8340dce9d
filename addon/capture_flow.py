"""From footage to a lifted pose, as commands for the worker. Knows nothing of Blender.

What was detected is kept in the cache: asked again for the same file, range and model, it is there at once.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from .. import __version__
from ..core.errors import FootageError
from ..core.output_files import check_writable, written_whole
from ..core.outside_text import json_value, text_within
from .jobs import Command, Flow

CACHE_ADVICE = "Choose another cache folder in the add-on's preferences."
# Of the time that footage takes, nearly all is spent looking for people.
_DETECTING, _LIFTING = 0.85, 0.15
_LISTING = "people.json"
_MAX_LISTING_BYTES = 1 << 20


class FootageChoice(NamedTuple):
    """Which frames of which footage.

    address: as the shell takes it: a file, or a pattern of pictures such as shot_####.png
    files:   what the address stands for: the file, or the first and the last picture
    fps:     rate of a picture sequence; None = the video's own
    first:   first and ...
    last:    ... last frame, counted from 0; None = from the start, to the end
    """

    address: str
    files: tuple[Path, ...]
    fps: float | None = None
    first: int | None = None
    last: int | None = None

    @property
    def name(self) -> str:
        """What to call it."""
        return Path(self.address).name

    def check(self) -> None:
        """Raise FootageError when the footage is not where it was."""
        for file in self.files:
            if not file.is_file():
                raise FootageError(
                    f"The footage '{file.name}' is no longer where it was ('{file.parent}'). Bring it back, or choose "
                    "it again."
                )

    def options(self) -> list[str]:
        """The shell's options for it."""
        options = []
        if self.first is not None or self.last is not None:
            options += ["--frames", f"{self.first or 0}-{'' if self.last is None else self.last}"]
        if self.fps is not None:
            options += ["--fps", f"{self.fps:.6g}"]
        return options


class DetectChoice(NamedTuple):
    """How people are found. model: lite, full, heavy or a file"""

    model: str = "full"
    repair: bool = True

    def options(self) -> list[str]:
        """The shell's options for it."""
        return ["--detector-model", self.model, *([] if self.repair else ["--no-repair"])]


class LiftChoice(NamedTuple):
    """How keypoints become a pose; each as the shell's option of that name. Angles in degrees, lengths in metres.

    notes: what is worth telling of it
    """

    weights: str = "default"
    device: str = "auto"
    camera: Path | None = None
    camera_motion: Path | None = None
    estimate_lens: bool = False
    camera_pitch: float | None = None
    camera_roll: float | None = None
    height: float | None = None
    fit: bool = True
    adapt: bool = False
    repair: bool = True
    notes: tuple[str, ...] = ()

    def options(self) -> list[str]:
        """The shell's options for it."""
        options = ["--weights", self.weights, "--device", self.device]
        for flag in ("estimate_lens", "adapt"):
            if getattr(self, flag):
                options.append("--" + flag.replace("_", "-"))
        for name in ("camera", "camera_motion", "camera_pitch", "camera_roll", "height"):
            value = getattr(self, name)
            if value is not None:
                # With the sign of equality, or a negative angle would pass for an option.
                options.append(f"--{name.replace('_', '-')}={value}")
        options += [] if self.fit else ["--no-fit"]
        options += [] if self.repair else ["--no-repair"]
        return options

    def kept_options(self) -> list[str]:
        """Those that have a say when a pose is lifted anew: the others are the pose's own."""
        return LiftChoice(
            weights=self.weights, device=self.device, camera_motion=self.camera_motion, repair=self.repair
        ).options()


class Detected(NamedTuple):
    """Keypoint files, one a person, largest first."""

    files: tuple[Path, ...]
    notes: tuple[str, ...] = ()


class Lifted(NamedTuple):
    """A pose file, what was lifted, and what was found on the way.

    detected: None when the keypoints were there already
    person:   whose pose it is
    relifted: frames that were lifted anew, of a take that was there before; None = all
    """

    pose: Path
    person: int
    detected: Detected | None = None
    relifted: int | None = None
    values: Mapping[str, Any] = MappingProxyType({})


def detection(footage: FootageChoice, choice: DetectChoice, cache: Path, share: float = 1.0) -> Flow:
    """Find everybody in the footage. Returns ``Detected``."""
    footage.check()
    folder = cache / "keypoints" / fingerprint(footage, choice)
    found = _found_before(folder)
    if found is not None:
        return Detected(found)
    output = folder / "person.keypoints.npz"
    check_writable(output, CACHE_ADVICE)
    values = yield Command(
        ("detect", footage.address, "-o", str(output), "--person", "all", *footage.options(), *choice.options()),
        share,
        "detect",
    )
    files = tuple(Path(name) for name in values["outputs"])
    with written_whole(folder / _LISTING, CACHE_ADVICE) as beside:
        beside.write_text(json.dumps([file.name for file in files]), encoding="utf-8")
    return Detected(files)


def lifting(keypoints: Path, choice: LiftChoice, cache: Path, person: int, share: float = 1.0) -> Flow:
    """Lift one person's keypoints. Returns ``Lifted``."""
    output = new_pose_file(cache)
    check_writable(output, CACHE_ADVICE)
    values = yield Command(("lift", str(keypoints), "-o", str(output), *choice.options()), share, "lift")
    return Lifted(output, person, values=dict(values))


def relifting(keypoints: Path, previous: Path, choice: LiftChoice, cache: Path, person: int) -> Flow:
    """Lift anew what was corrected since ``previous``. Returns ``Lifted``."""
    output = new_pose_file(cache)
    check_writable(output, CACHE_ADVICE)
    values = yield Command(
        ("lift", str(keypoints), "-o", str(output), "--update", str(previous), *choice.kept_options()), 1.0, "lift"
    )
    return Lifted(output, person, relifted=_relifted(values), values=dict(values))


def capture(footage: FootageChoice, detect: DetectChoice, lift: LiftChoice, cache: Path, person: int) -> Flow:
    """From footage to one person's pose. Returns ``Lifted``."""
    detected: Detected = yield from detection(footage, detect, cache, _DETECTING)
    keypoints = _of_person(detected.files, person, footage)
    lifted: Lifted = yield from lifting(keypoints, lift, cache, person, _LIFTING)
    return Lifted(lifted.pose, person, detected, values=lifted.values)


def new_pose_file(cache: Path) -> Path:
    """Where the next pose goes."""
    return cache / "poses" / f"{uuid.uuid4().hex}.pose.npz"


def new_keypoints_file(cache: Path) -> Path:
    """Where keypoints with corrections go on their way to the lifter."""
    return cache / "poses" / f"{uuid.uuid4().hex}.keypoints.npz"


def _relifted(values: Any) -> int | None:
    updated = values.get("updated") if isinstance(values, dict) else None
    return len(updated) if isinstance(updated, list) else None


def _of_person(files: Sequence[Path], person: int, footage: FootageChoice) -> Path:
    if person > len(files):
        who = "only 1 person was" if len(files) == 1 else f"only {len(files)} people were"
        raise FootageError(f"In '{footage.name}' {who} found, so there is no person {person}. Choose another.")
    return files[person - 1]


def fingerprint(footage: FootageChoice, choice: DetectChoice) -> str:
    """The same for the same pictures looked at in the same way; hours of footage are not read through for it."""
    stats = [file.stat() for file in footage.files]
    seen = [
        __version__,
        str(Path(footage.address).resolve()),
        [(file.name, stat.st_size, stat.st_mtime_ns) for file, stat in zip(footage.files, stats, strict=True)],
        footage.fps,
        footage.first,
        footage.last,
        choice._asdict(),
    ]
    return hashlib.sha256(json.dumps(seen).encode()).hexdigest()[:24]


def _found_before(folder: Path) -> tuple[Path, ...] | None:
    try:
        names = json_value(text_within(folder / _LISTING, _MAX_LISTING_BYTES))
        files = tuple(folder / Path(name).name for name in names)
        return files if files and all(file.is_file() for file in files) else None
    except (OSError, ValueError, TypeError):
        return None
