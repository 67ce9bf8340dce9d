"""``keylift capture`` inside an installed Blender: footage and lifting by the worker, keyframes by Blender itself."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE
from ..core.output_files import written_whole
from ..core.worker_messages import FromWorker, Noted, Progressed
from . import places
from .arguments import FrameRange, add_detection_options, add_lifting_options
from .capture import kept_files
from .detect import numbers, possible_outputs
from .preview import FILM_ENDINGS
from .reporting import Reporter
from .retarget import SCENE_ENDINGS, bake, check_rig

if TYPE_CHECKING:
    from ..addon.worker_client import Worker


def run(options: argparse.Namespace, reporter: Reporter, start_worker: Callable[[], Worker]) -> int:
    """Do what ``shell.capture`` does, with everything that Blender lacks the libraries for done by a worker."""
    from ..core.track_files import read_pose

    check_rig(options, reporter)
    films = [options.preview] if options.preview is not None else []
    kept = kept_files(options)
    inputs = [options.video, options.camera, options.camera_motion, places.rig_file(options.rig), Path(options.map)]
    places.check_outputs(possible_outputs(options.output, options), SCENE_ENDINGS, inputs)
    places.check_outputs(possible_outputs(films, options), FILM_ENDINGS, inputs)
    places.check_outputs(possible_outputs(kept, options), [".npz"], inputs)
    worker = start_worker()
    try:
        with tempfile.TemporaryDirectory(prefix="keylift-") as folder:
            found = _asked(
                worker,
                reporter,
                "detect",
                [str(options.video), "-o", str(Path(folder) / "x.keypoints.npz")]
                + argv_of(add_detection_options, options),
            )
            written: list[Path] = []
            adapted: list[Any] = []
            frames = 0
            for number, name in zip(numbers(len(found["outputs"]), options), found["outputs"], strict=True):
                keypoints, pose_file = Path(name), Path(folder) / f"{number or 1}.pose.npz"
                lifted = _asked(
                    worker,
                    reporter,
                    "lift",
                    [name, "-o", str(pose_file), *argv_of(add_lifting_options, options)]
                    + (["--no-repair"] if options.no_repair else []),
                )
                adapted += lifted["adapted"]
                pose = read_pose(pose_file)
                frames = max(frames, len(pose.time_s))
                for place, file in zip(
                    (places.numbered(path, number) for path in kept), (keypoints, pose_file), strict=False
                ):
                    place.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(file, place)
                    written.append(place)
                outputs = [places.numbered(output, number) for output in options.output]
                bake(pose, outputs, options.video, options, reporter)
                written += outputs
                for film in (places.numbered(film, number) for film in films):
                    _asked(
                        worker,
                        reporter,
                        "preview",
                        [str(pose_file), "--video", str(options.video), "--keypoints", name, "-o", str(film)],
                    )
                    written.append(film)
    finally:
        worker.stop()
    people = len(found["outputs"])
    who = f", {people} people" if people > 1 else ""
    took = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in reporter.seconds.items())
    reporter.result(
        "\n".join([*(str(path) for path in written), f"{frames} frames{who} ({took})"]),
        {
            "outputs": [str(path) for path in written],
            "frames": frames,
            "people": people,
            "adapted": adapted,
            "seconds": {stage: round(seconds, 2) for stage, seconds in reporter.seconds.items()},
        },
    )
    return EXIT_DONE


def _kept(file: Path, place: Path) -> Path:
    with written_whole(place) as beside:
        shutil.copyfile(file, beside)
    return place


def _asked(worker: Worker, reporter: Reporter, command: str, argv: list[str]) -> dict[str, Any]:
    """The values of one command, its progress shown as if it ran here. Raises KeyliftError when it fails."""
    from ..addon.worker_client import run_to_its_end

    titles = {"detect": "Looking for people", "lift": "Lifting to three dimensions", "preview": "Filming the preview"}
    with reporter.stage(command, titles[command]) as progress:

        def heard(event: FromWorker) -> bool:
            if isinstance(event, Noted):
                reporter.note(event.text)
            if isinstance(event, Progressed) and event.stage == command:
                return progress(event.done, event.total)
            return not reporter.stop_wanted

        return dict(run_to_its_end(worker, [command, *argv], heard))


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
