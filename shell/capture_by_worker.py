"""``keylift capture`` inside an installed Blender: footage and lifting by the worker, keyframes by Blender itself."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.output_files import written_whole
from ..core.worker_messages import FromWorker, Noted, Progressed
from . import capture
from .arguments import FrameRange, add_detection_options, add_lifting_options
from .capture import Performance
from .reporting import Reporter

if TYPE_CHECKING:
    from ..addon.worker_client import Worker

_TITLES = {"detect": "Looking for people", "lift": "Lifting to three dimensions", "preview": "Filming the preview"}


def run(options: argparse.Namespace, reporter: Reporter, start_worker: Callable[[], Worker]) -> int:
    """Do what ``shell.capture`` does, with everything that Blender lacks the libraries for done by a worker."""
    worker = start_worker()
    try:
        with tempfile.TemporaryDirectory(prefix="keylift-") as folder:
            return capture.run(options, reporter, WorkersHands(options, reporter, worker, Path(folder)))
    finally:
        worker.stop()


class WorkersHands:
    """Footage and lifting in a worker; what it makes travels as files through ``folder``."""

    def __init__(self, options: argparse.Namespace, reporter: Reporter, worker: Worker, folder: Path) -> None:
        self._options, self._reporter, self._worker, self._folder = options, reporter, worker, folder

    def check(self) -> Sequence[Path | None]:
        """The worker looks at footage and lifter when it comes to them."""
        return []

    def find(self) -> Sequence[str]:
        """Keypoint files, one a person."""
        output = self._folder / "x.keypoints.npz"
        options = argv_of(add_detection_options, self._options)
        found: list[str] = self._asked("detect", [str(self._options.video), "-o", str(output), *options])["outputs"]
        return found

    def lift(self, found: str) -> Performance:
        """Lift one keypoint file."""
        from ..core.track_files import read_pose

        keypoints, pose_file = Path(found), self._folder / (Path(found).name.split(".")[0] + ".pose.npz")
        repair = ["--no-repair"] if self._options.no_repair else []
        options = argv_of(add_lifting_options, self._options) + repair
        values = self._asked("lift", [found, "-o", str(pose_file), *options])

        def keep(keypoints_place: Path, pose_place: Path) -> None:
            for file, place in ((keypoints, keypoints_place), (pose_file, pose_place)):
                with written_whole(place) as beside:
                    shutil.copyfile(file, beside)

        def film(place: Path) -> None:
            video = str(self._options.video)
            self._asked("preview", [str(pose_file), "--video", video, "--keypoints", found, "-o", str(place)])

        return Performance(read_pose(pose_file), values["adapted"][0], keep, film)

    def _asked(self, command: str, argv: list[str]) -> dict[str, Any]:
        """The values of one command, its progress shown as if it ran here. Raises KeyliftError when it fails."""
        from ..addon.worker_client import run_to_its_end

        with self._reporter.stage(command, _TITLES[command]) as progress:

            def heard(event: FromWorker) -> bool:
                if isinstance(event, Noted):
                    self._reporter.note(event.text)
                if isinstance(event, Progressed) and event.stage == command:
                    return progress(event.done, event.total)
                return not self._reporter.stop_wanted

            return dict(run_to_its_end(self._worker, [command, *argv], heard))


def argv_of(add_options: Callable[[argparse.ArgumentParser], None], options: argparse.Namespace) -> list[str]:
    """The arguments on a command line that give the options which ``add_options`` declares the values they have."""
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    argv: list[str] = []
    for action in parser._actions:
        value = getattr(options, action.dest, action.default)
        if not action.option_strings or value == action.default:
            continue
        flag = action.option_strings[-1]
        argv.append(flag if action.nargs == 0 else f"{flag}={_written(value)}")
    return argv


def _written(value: Any) -> str:
    if isinstance(value, FrameRange):
        return f"{value.first or 0}-{'' if value.last is None else value.last}"
    return str(value)
