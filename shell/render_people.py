"""``keylift render-people``: motion -> rendered clips of people, seen by the detector, as shots with exact truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import EXIT_DONE, DetectorError
from . import places
from .arguments import frames_per_second
from .reporting import Reporter

if TYPE_CHECKING:
    import numpy as np

    from ..core.footage import Frame
    from ..core.progress import Progress
    from ..training.rendered.shot_plan import ShotPlan
    from ..training.shots.shot import Shot

SUMMARY = "render clips of people whose motion is known, and store what the detector makes of them"
EXAMPLES = """  keylift render-people shots --motion test.npz --body mpfb --seed 2
        twelve clips of 110 frames, to evaluate with `keylift evaluate default --set rendered --shots shots`
  keylift render-people shots --motion train.npz --body mpfb --clips 4 --frames 60 --statistics
        --detector-model full --detector-model pose_landmarker_heavy.task
        four short ones, the keypoints of two models, and how far they are off
"""
STATISTICS_FILE = "statistics.json"
MOST_CLIPS, MOST_FRAMES, MOST_SEED = 1000, 3000, 2**31
_SOURCE = "rendered by Keylift; body MakeHuman/MPFB2, CC0 1.0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "output", type=Path, metavar="FOLDER", help="where the .shot.npz files go; kept ones are not made again"
    )
    parser.add_argument(
        "--motion", type=Path, required=True, metavar="FILE", help="landmark clips (.npz), see docs/file-formats.md"
    )
    parser.add_argument(
        "--body", type=Path, required=True, metavar="FOLDER", help="MPFB2's body and rigs, see docs/rendered-people.md"
    )
    parser.add_argument("--clips", type=_number(MOST_CLIPS), default=12, metavar="N", help="how many")
    parser.add_argument("--frames", type=_number(MOST_FRAMES), default=110, metavar="N", help="frames in each")
    parser.add_argument("--fps", type=frames_per_second, default=30.0, metavar="RATE", help="frames a second")
    parser.add_argument(
        "--seed",
        type=_number(MOST_SEED, 0),
        default=1,
        metavar="N",
        help="chooses clips, bodies, clothes, light",
    )
    parser.add_argument(
        "--cameras",
        choices=["usual", "high", "low", "wide"],
        default="usual",
        help="where cameras stand: as people hold them, under the ceiling, on the floor, or near with a wide lens",
    )
    parser.add_argument(
        "--detector-model",
        action="append",
        metavar="full|lite|heavy|FILE",
        help="a model that looks at the pictures; may be given several times (without: full)",
    )
    parser.add_argument(
        "--keep-pictures", action="store_true", help="leave the pictures beside the shots, in a folder for each"
    )
    parser.add_argument(
        "--statistics",
        action="store_true",
        help=f"tell how far the keypoints of all shots in the folder are off, and write {STATISTICS_FILE}",
    )


def _number(most: int, least: int = 1) -> Any:
    def number(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    return number


def run(options: argparse.Namespace, reporter: Reporter) -> int:
    """Plan, render, detect and write one shot after the other."""
    from ..training.motion.motion_set import read_motion
    from ..training.rendered.body import read_body
    from ..training.rendered.detector_statistics import detector_statistics, found_frames, statistics_table
    from ..training.rendered.shot_plan import plan_shot
    from ..training.shots.shot import SHOT_ENDING, read_shot, read_shots, write_shot
    from .triangulate import bundles_by_kind

    places.check_input(options.motion, "the motion")
    motion, base = read_motion(options.motion), read_body(options.body)
    models = bundles_by_kind(options.detector_model or ["full"], reporter)
    paths, found = [], []
    for number in range(options.clips):
        plan = plan_shot(
            motion, base, options.seed, number, options.clips, options.frames, options.fps, options.cameras
        )
        path = options.output / f"{plan.name}{SHOT_ENDING}"
        paths.append(path)
        shot = read_shot(path) if path.exists() else None
        if shot is None or len(shot.time_s) != len(plan) or not set(models) <= set(shot.keypoints):
            looking = models
            if shot is not None and not set(shot.keypoints) <= set(models):
                # What was seen with other models is seen again: a shot never loses keypoints.
                looking = {**bundles_by_kind(sorted(shot.keypoints), reporter), **models}
            shot = _make(plan, looking, f"Clip {number + 1} of {options.clips}", options, reporter)
            if shot is None:
                reporter.note(f"  {plan.name}: nobody was found ({plan.about})")
                found.append({"shot": plan.name, "seen": dict.fromkeys(models, 0.0)})
                continue
            write_shot(path, shot)
        seen = {model: float(found_frames(shot, model).mean()) for model in shot.keypoints}
        found.append({"shot": plan.name, "seen": seen})
        reporter.note(f"  {plan.name}: {_rates(seen)} ({plan.about})")
    made = [path for path in paths if path.exists()]
    kinds = sorted({kind for shot in found for kind in shot["seen"]})  # type: ignore[attr-defined]
    rates = {kind: _mean([shot["seen"].get(kind, 0.0) for shot in found]) for kind in kinds}  # type: ignore[attr-defined]
    text = f"{len(made)} shots in {options.output}; the person was found in {_rates(rates)} of the frames"
    values: dict[str, Any] = {"outputs": [str(path) for path in made], "hit_rate": rates, "shots": found}
    if options.statistics:
        from ..core.output_files import written_whole

        statistics = detector_statistics(list(read_shots(options.output)))
        with written_whole(options.output / STATISTICS_FILE) as beside:
            beside.write_text(json.dumps(statistics, indent=1) + "\n", encoding="utf-8")
        text += "\n" + statistics_table(statistics)
        values["statistics"] = statistics
    reporter.result(text, {**values, "seconds": reporter.seconds})
    return EXIT_DONE


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _rates(rates: dict[str, float]) -> str:
    return ", ".join(f"{100 * rate:.1f} % ({kind})" for kind, rate in rates.items())


def _make(
    plan: ShotPlan, models: dict[str, Path], which: str, options: argparse.Namespace, reporter: Reporter
) -> Shot | None:
    """The shot; None when a model finds nobody."""
    from ..core.errors import NobodyFoundError
    from ..training.shots.detector_world import detector_world_landmarks

    with reporter.stage("render", f"{which}: rendering {plan.name}") as progress:
        frames = _render(plan, progress)
    if options.keep_pictures:
        _keep(frames, options.output / plan.name)
    keypoints, world_m = {}, {}
    for kind, bundle in models.items():
        with reporter.stage("detect", f"{which}: looking for the person ({kind})") as progress:
            try:
                keypoints[kind] = _detect(frames, plan, bundle, progress)
            except NobodyFoundError:
                return None
        with reporter.stage("detect", f"{which}: world landmarks ({kind})") as progress:
            world_m[kind] = detector_world_landmarks(frames, keypoints[kind], bundle, progress)
    return plan.shot(keypoints, world_m, _SOURCE)


def _render(plan: ShotPlan, progress: Progress) -> list[Frame]:
    """The developed pictures of a shot."""
    import numpy as np

    try:
        from ..addon.people_rendering import Light, PictureRenderer, Surface
    except ImportError as problem:
        raise DetectorError(f"Blender is not installed ({problem}). Run: pip install bpy==5.0.1") from problem
    from ..core.footage import Frame
    from ..core.progress import report

    camera_from_world = plan.world_from_camera[:3, :3].T
    lights = [
        Light(camera_from_world @ towards, colour)
        for towards, colour in zip(plan.lighting.towards, plan.lighting.colours, strict=True)
    ]
    surfaces = {
        name: Surface(mesh.vertices_m, mesh.faces, mesh.colours, mesh.smooth) for name, mesh in plan.surfaces().items()
    }
    frames = []
    with PictureRenderer(surfaces, plan.camera, plan.world_from_camera, lights, plan.lighting.ambient) as renderer:
        for frame in range(len(plan)):
            pictures = []
            for time in plan.times(frame):
                vertices, floor = plan.moved(float(time))
                for name, places_m in vertices.items():
                    renderer.move(name, places_m)
                renderer.paint("floor", floor)
                pictures.append(renderer.picture().astype(np.float32) / 255)
            rgb = plan.development.develop(np.mean(pictures, axis=0), frame)
            frames.append(Frame(rgb, frame / plan.fps, frame))
            report(progress, frame + 1, len(plan))
    return frames


def _keep(frames: Sequence[Frame], folder: Path) -> None:
    import av

    folder.mkdir(parents=True, exist_ok=True)
    for frame in frames:
        path = folder / f"{frame.index:04d}.png"
        with av.open(str(path), "w", format="image2") as container:
            stream = container.add_stream("png", rate=1)
            stream.height, stream.width = frame.rgb.shape[:2]
            stream.pix_fmt = "rgb24"
            for packet in [*stream.encode(av.VideoFrame.from_ndarray(frame.rgb, format="rgb24")), *stream.encode()]:
                container.mux(packet)


def _detect(frames: Sequence[Frame], plan: ShotPlan, bundle: Path, progress: Progress) -> Any:
    """Keypoints of the actor: whoever is largest, as on footage."""
    from ..core.detection import detect_people
    from ..core.people import pick_people

    return pick_people(detect_people(_film(frames, plan), model=bundle, progress=progress), "largest")[0]


def _film(frames: Sequence[Frame], plan: ShotPlan) -> Any:
    """Pictures in memory as footage."""
    from collections.abc import Iterator

    from ..core.footage import Footage
    from ..core.source import Source

    class Film(Footage):
        def source(self) -> Source:
            return Source(f"{plan.name}.mp4", _digest(frames))

        def _most_frames(self, at_least: int) -> int | None:
            return len(frames)

        def _all_frames(self, first: int, last: int | None) -> Iterator[Frame]:
            yield from frames[first : None if last is None else last + 1]

    return Film(Path(f"{plan.name}.mp4"), plan.camera.size_px, plan.fps, len(frames))


def _digest(frames: Sequence[Frame]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for frame in frames:
        pixels: np.ndarray = frame.rgb
        digest.update(pixels.tobytes())
    return digest.hexdigest()
