"""What a movie clip says of the camera that filmed it: the lens, and the way of a camera that was solved.

Blender's tracker counts pixels from the lower left corner and y upwards, so its tangential distortion is that of a
mirrored picture; its lengths are those of a pixel's width, and a pixel's height is the part of it that ``pixel_aspect``
says. Each of this was checked against what Blender itself makes of a marker (tests/addon/test_clip_lens.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..core.array_files import read_arrays, write_arrays
from ..core.camera import Camera
from ..core.errors import FileFormatError, FootageError
from ..core.output_files import ELSEWHERE, written_whole
from ..core.rotations import from_matrix, slerp, to_matrix
from .clip_frames import UPRIGHT, picture_turn

# A camera in Blender looks down its own -z with +y up; camera space is y down and z forward.
BLENDER_CAMERA_FROM_CAMERA = np.diag([1.0, -1.0, -1.0, 1.0])
# What a clip has that was just opened: nobody said so.
_DEFAULT_FOCAL_MM, _DEFAULT_SENSOR_MM = 24.0, 35.0
_COEFFICIENTS = {
    "POLYNOMIAL": ("k1", "k2", "k3"),
    "DIVISION": ("division_k1", "division_k2"),
    "NUKE": ("nuke_k1", "nuke_k2", "nuke_p1", "nuke_p2"),
    "BROWN": ("brown_k1", "brown_k2", "brown_k3", "brown_k4", "brown_p1", "brown_p2"),
}
# From this version on Blender turns footage as its file says, and a clip is upright.
_TURNS_FOOTAGE = (4, 4, 0)
_WORTH_TELLING_PX = 0.5
_SAME_PX = 1.0
# A camera's scale by which its axes differ less than this is one number.
_EVEN_SCALE = 1e-3
# A camera that looks along +y and is held level, as Blender's camera.
_LEVEL = np.array([[1.0, 0, 0, 0], [0, 0, -1.0, 0], [0, 1.0, 0, 0], [0, 0, 0, 1.0]])


# ---- Lens -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LensSource:
    """Whether the clip says anything of the lens.

    kind:  "solved", "set by hand" or "unknown"
    words: the same for a person
    """

    kind: str
    words: str

    @property
    def known(self) -> bool:
        """Whether the clip's lens is worth more than a guess."""
        return self.kind != "unknown"


@dataclass(frozen=True, eq=False)
class ClipLens:
    """The clip's lens in the words of OpenCV.

    error_px: how far a point of the picture may lie off, where OpenCV has no such distortion; 0 where it has
    notes:    what is worth telling
    """

    camera: Camera
    error_px: float = 0.0
    notes: tuple[str, ...] = ()


def lens_source(clip: bpy.types.MovieClip) -> LensSource:
    """Who says what the lens is. Quick enough to be asked whenever the panel is drawn."""
    if not _is_readable(clip):
        return LensSource("unknown", "The clip's pictures can't be read")
    lens = clip.tracking.camera
    told = f"{lens.focal_length:.1f} mm on a {lens.sensor_width:.1f} mm sensor"
    solved = _reconstruction(clip)
    if solved.is_valid and len(solved.cameras):
        return LensSource("solved", f"Solved with the clip: {told}, {solved.average_error:.2f} px off")
    if _is_set(lens):
        return LensSource("set by hand", f"Set in the clip: {told}")
    return LensSource("unknown", "Not set in the clip: taken as a phone's")


def clip_lens(clip: bpy.types.MovieClip) -> ClipLens:
    """The lens that the clip's own camera has, whoever set it. Raises FootageError when its pictures can't be read."""
    if not _is_readable(clip):
        raise FootageError(f"The pictures of '{clip.name}' can't be read. Bring its file back, or choose it again.")
    width, height = clip.size
    lens = clip.tracking.camera
    aspect = float(lens.pixel_aspect)
    # As core.footage makes pixels square: it enlarges, and never throws rows or columns away.
    scale = max(aspect, 1.0)
    size_px = round(width * scale), round(height / min(aspect, 1.0))
    across, up = lens.principal_point_pixels
    focal_px = float(lens.focal_length_pixels) * scale
    centre_px = float(across) * scale, (height - float(up)) / aspect * scale
    distortion, error = _distortion(lens, width, height)
    camera = Camera(size_px, (focal_px, focal_px), centre_px, distortion)
    error_px = error * focal_px
    notes: tuple[str, ...] = ()
    if error_px > _WORTH_TELLING_PX:
        notes = (
            f"The lens model '{_model_name(lens)}' of '{clip.name}' is one that Keylift doesn't have; its own comes "
            f"within {error_px:.1f} pixels of it.",
        )
    return ClipLens(_turned(camera, _turn(clip)), error_px, notes)


def clip_camera(clip: bpy.types.MovieClip) -> Camera:
    """``clip_lens`` without what is to be told about it."""
    return clip_lens(clip).camera


def is_lens_of(clip: bpy.types.MovieClip, camera: Camera) -> bool:
    """Whether ``camera`` is the clip's own, so that Blender takes the same distortion out of the picture."""
    try:
        own = clip_camera(clip).resized(camera.size_px)
    except (FootageError, FileFormatError):
        return False
    width, height = camera.size_px
    grid = np.stack(np.meshgrid(np.linspace(0, width, 9), np.linspace(0, height, 9)), axis=-1)
    rays = own.rays(grid)
    points = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1)
    return bool(np.abs(camera.project(points) - grid).max() < _SAME_PX)


def write_camera_file(path: Path, camera: Camera, advice: str = ELSEWHERE) -> None:
    """Write ``camera.toml``; see docs/file-formats.md. Raises OutputError with ``advice`` when it can't be written."""
    lines = [
        f"width = {camera.size_px[0]}",
        f"height = {camera.size_px[1]}",
        *(
            f"{name} = {float(value)!r}"
            for name, value in zip(("fx", "fy", "cx", "cy"), (*camera.focal_px, *camera.centre_px), strict=True)
        ),
        f"distortion = [{', '.join(repr(float(value)) for value in camera.distortion)}]",
    ]
    with written_whole(path, advice) as beside:
        beside.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _is_readable(clip: bpy.types.MovieClip) -> bool:
    """What Blender can't decode it opens all the same, as a small film without pictures."""
    return clip.frame_duration > 0 and 0 not in tuple(clip.size)


def _is_set(lens: Any) -> bool:
    """Whether anything of the lens is not as in a clip that was just opened; the shape of its pixels says nothing."""
    return (
        abs(lens.focal_length - _DEFAULT_FOCAL_MM) > 0.01
        or abs(lens.sensor_width - _DEFAULT_SENSOR_MM) > 0.01
        or max(abs(value) for value in lens.principal_point) > 1e-4
        or any(getattr(lens, name, 0.0) for names in _COEFFICIENTS.values() for name in names)
    )


def _model_name(lens: Any) -> str:
    return str(lens.bl_rna.properties["distortion_model"].enum_items[lens.distortion_model].name)


def _distortion(lens: Any, width: int, height: int) -> tuple[tuple[float, float, float, float, float], float]:
    """OpenCV's k1, k2, p1, p2, k3, and by how much of a focal length a point of the picture is off at most."""
    values = {name.rpartition("_")[2]: float(getattr(lens, name, 0.0)) for name in _COEFFICIENTS[lens.distortion_model]}
    if lens.distortion_model == "POLYNOMIAL":
        return (values["k1"], values["k2"], 0.0, 0.0, values["k3"]), 0.0
    # The tracker's p1 goes with x; and with y turned over, what bends upwards bends downwards.
    p1, p2 = -values.get("p2", 0.0), values.get("p1", 0.0)
    if lens.distortion_model == "BROWN" and values["k4"] == 0.0:
        return (values["k1"], values["k2"], p1, p2, values["k3"]), 0.0
    if not any(values.values()):
        return (0.0, 0.0, 0.0, 0.0, 0.0), 0.0
    straight, bent = _bent_grid(lens, values, width, height)
    if lens.distortion_model != "BROWN":
        p1 = p2 = 0.0
    tangential = Camera((1, 1), (1.0, 1.0), (0.0, 0.0), (0.0, 0.0, p1, p2, 0.0))
    bend = bent - tangential.project(np.concatenate([straight, np.ones((len(straight), 1))], axis=-1))
    r2 = (straight**2).sum(axis=-1, keepdims=True)
    powers = np.stack([straight * r2, straight * r2**2, straight * r2**3], axis=-1).reshape(-1, 3)
    (k1, k2, k3), *_ = np.linalg.lstsq(powers, bend.ravel(), rcond=None)
    error = float(np.linalg.norm((powers @ [k1, k2, k3] - bend.ravel()).reshape(-1, 2), axis=-1).max())
    return (float(k1), float(k2), p1, p2, float(k3)), error


def _bent_grid(lens: Any, values: dict[str, float], width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Points all over the picture, (N, 2) as x/z and y/z, y down: without the distortion and with it."""
    focal, aspect = float(lens.focal_length_pixels), float(lens.pixel_aspect)
    across, up = lens.principal_point_pixels
    low = -np.array([across, height - up]) * [1, 1 / aspect] / focal
    high = low + np.array([width, height / aspect]) / focal
    corners = np.stack(np.meshgrid(*(np.linspace(a, b, 41) for a, b in zip(low, high, strict=True))), axis=-1)
    grid = corners.reshape(-1, 2)
    if lens.distortion_model == "NUKE":
        # Told from the bent to the straight, in halves of the picture's longer side. p1 and p2 squeeze: y bends x.
        unit = max(width, height / aspect) / 2 / focal
        x, y = (grid / unit).T
        r2 = x * x + y * y
        radial = 1 + r2 * (values["k1"] + r2 * values["k2"])
        return np.stack([x / (radial + values["p1"] * y**2), y / (radial + values["p2"] * x**2)], axis=-1) * unit, grid
    # Told from the straight to the bent: a grid that surely is large enough, of which what lies in the picture is kept.
    straight = grid * 3
    r2 = (straight**2).sum(axis=-1, keepdims=True)
    k1, k2 = values["k1"], values["k2"]
    if lens.distortion_model == "DIVISION":
        bent = straight / (1 + r2 * (k1 + r2 * k2))
        # Beyond some radius a strong lens would fold the picture back over itself.
        grows = 1 - r2 * (k1 + 3 * r2 * k2) > 0
    else:
        k3, k4, p1, p2 = values["k3"], values["k4"], -values["p2"], values["p1"]
        lens_without_k4 = Camera((1, 1), (1.0, 1.0), (0.0, 0.0), (k1, k2, p1, p2, k3))
        bent = lens_without_k4.project(np.concatenate([straight, np.ones_like(r2)], axis=-1)) + straight * r2**4 * k4
        grows = 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * (7 * k3 + r2 * 9 * k4))) > 0
    kept = ((bent >= low) & (bent <= high)).all(axis=-1) & grows[:, 0]
    return straight[kept], bent[kept]


def _turn(clip: bpy.types.MovieClip) -> np.ndarray:
    """(2, 2) upright picture from the one that Blender shows, about their middles, y down."""
    if bpy.app.version >= _TURNS_FOOTAGE:
        return np.eye(2)
    width, height = clip.size
    turn, known = picture_turn(clip, (height, width))
    a, b, c, d = turn if known else UPRIGHT
    return np.array([[a, c], [b, d]], dtype=float)


def _turned(camera: Camera, turn: np.ndarray) -> Camera:
    """The same lens before the picture turned by (2, 2)."""
    if (turn == np.eye(2)).all():
        return camera
    size = np.array(camera.size_px, dtype=float)
    turned_size = np.abs(turn @ size)
    cx, cy = turn @ (np.array(camera.centre_px) - size / 2) + turned_size / 2
    k1, k2, p1, p2, k3 = camera.distortion
    p2, p1 = turn @ [p2, p1]
    width, height = (int(value) for value in turned_size)
    return Camera((width, height), camera.focal_px, (cx, cy), (k1, k2, p1, p2, k3))


# ---- A camera that moves --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class CameraPath:
    """The way of a camera through the world.

    world_from_camera: (N, 4, 4) rigid, metres; world is z up, camera axes x right, y down, z forward
    time_s:            (N,) presentation times in the footage, growing
    clip_frames:       (N,) the same in the clip's own frames, of which 1 is its first
    notes:             what is worth telling
    """

    world_from_camera: np.ndarray
    time_s: np.ndarray
    clip_frames: np.ndarray
    notes: tuple[str, ...] = ()

    def at(self, time_s: np.ndarray) -> np.ndarray:
        """(F, 4, 4) where the camera is at times (F,); between frames as Keylift lifts, beyond the ends it stands."""
        held = np.clip(time_s, self.time_s[0], self.time_s[-1])
        after = np.clip(np.searchsorted(self.time_s, held), 1, max(len(self.time_s) - 1, 1))
        before = after - 1
        after = np.minimum(after, len(self.time_s) - 1)
        step = self.time_s[after] - self.time_s[before]
        part = np.divide(held - self.time_s[before], step, out=np.zeros_like(held), where=step > 0)[:, None]
        turns = from_matrix(self.world_from_camera[:, :3, :3])
        places = self.world_from_camera[:, :3, 3]
        result = np.tile(np.eye(4), (len(held), 1, 1))
        result[:, :3, :3] = to_matrix(slerp(turns[before], turns[after], part))
        result[:, :3, 3] = places[before] * (1 - part) + places[after] * part
        return result


def camera_motion_of(clip: bpy.types.MovieClip, scene: bpy.types.Scene) -> CameraPath:
    """The way of the clip's solved camera, where the scene's camera with a Camera Solver constraint puts it.

    Where no camera follows the solve, the first solved frame is taken as held level. Raises FootageError when the clip
    is not solved, or its camera can't stand for a real one.
    """
    solved = _reconstruction(clip)
    if not solved.is_valid or not len(solved.cameras):
        raise FootageError(
            f"The camera of '{clip.name}' is not solved. Track and solve it in the Movie Clip editor, or choose "
            "another lens."
        )
    frames = np.array([camera.frame for camera in solved.cameras], dtype=np.int64)
    order = np.unique(frames, return_index=True)[1]
    solve_from_camera = np.array([camera.matrix for camera in solved.cameras], dtype=float).reshape(-1, 4, 4)[order]
    world_from_solve, notes = _placing(clip, scene, solve_from_camera)
    world_from_camera = world_from_solve @ solve_from_camera
    world_from_camera[:, :3, :3] = _without_scale(world_from_camera[:, :3, :3])
    world_from_camera = world_from_camera @ BLENDER_CAMERA_FROM_CAMERA
    turn = _turn(clip)
    if np.linalg.det(turn) > 0:
        world_from_camera[:, :3, :2] = world_from_camera[:, :3, :2] @ turn.T
    return CameraPath(world_from_camera, _times_s(clip, scene, frames[order]), frames[order], tuple(notes))


def write_camera_motion(path: Path, motion: CameraPath) -> None:
    """Write what ``keylift lift --camera-motion`` reads. Raises OutputError when it can't be written."""
    write_arrays(path, {"world_from_camera": motion.world_from_camera, "time_s": motion.time_s})


def read_camera_path(path: Path) -> CameraPath:
    """The camera's way that a pose was lifted with, from its file. Raises FileFormatError.

    ``core.camera_motion`` reads the same files, but needs scipy, which Blender lacks.
    """
    arrays = read_arrays(path, "camera motion")
    try:
        matrices, time_s = arrays["world_from_camera"].astype(float), arrays["time_s"].astype(float)
    except (KeyError, ValueError, TypeError) as problem:
        raise FileFormatError(f"'{path}' is no camera motion, or it is damaged: {problem}") from problem
    if not len(time_s) or matrices.shape != (len(time_s), 4, 4) or (np.diff(time_s) <= 0).any():
        raise FileFormatError(f"'{path}' is no camera motion: it needs world_from_camera (N, 4, 4) and growing times.")
    return CameraPath(matrices, time_s, np.arange(1, len(time_s) + 1))


def _reconstruction(clip: bpy.types.MovieClip) -> Any:
    """That of the camera; the clip may have objects that were solved as well."""
    return next(thing for thing in clip.tracking.objects if thing.is_camera).reconstruction


def _times_s(clip: bpy.types.MovieClip, scene: bpy.types.Scene, frames: np.ndarray) -> np.ndarray:
    rate = clip.fps if clip.source == "MOVIE" and clip.fps > 0 else scene.render.fps / scene.render.fps_base
    return (frames - 1 + clip.frame_offset) / rate


def _placing(
    clip: bpy.types.MovieClip, scene: bpy.types.Scene, solve_from_camera: np.ndarray
) -> tuple[np.ndarray, list[str]]:
    """(4, 4) the scene's world from the space that was solved in, and what is worth telling about it."""
    camera = _follower(clip, scene)
    if camera is None:
        note = (
            f"No camera of the scene follows the solve of '{clip.name}', so its first frame is taken as held level and "
            "its lengths as metres. In the Movie Clip editor set up the tracking scene, the floor and the scale."
        )
        return _LEVEL @ np.linalg.inv(solve_from_camera[0]), [note]
    placed = np.array(camera.matrix_basis, dtype=float)
    if camera.parent is not None:
        carried = np.array(camera.parent.matrix_world @ camera.matrix_parent_inverse, dtype=float)
        placed = carried @ placed
    scales = np.linalg.norm(placed[:3, :3], axis=0)
    if scales.min() < 1e-9 or np.linalg.det(placed[:3, :3]) < 0:
        raise FootageError(
            f"The camera '{camera.name}', which follows the solve of '{clip.name}', is mirrored or has no size. Give "
            "it a positive scale."
        )
    notes = []
    if scales.max() / scales.min() > 1 + _EVEN_SCALE:
        notes.append(
            f"The camera '{camera.name}' has another scale on each axis, which no real camera has. Make them the same."
        )
    elif abs(scales.mean() - 1) > _EVEN_SCALE:
        notes.append(
            f"The scale {scales.mean():.3g} of camera '{camera.name}' is taken as the size of the solved world, in "
            "metres; the camera itself counts as without scale."
        )
    others = [other.name for other in camera.constraints if other.type != "CAMERA_SOLVER" and not other.mute]
    if others:
        notes.append(f"The camera '{camera.name}' has other constraints, which are left out: {', '.join(others)}.")
    return placed, notes


def _follower(clip: bpy.types.MovieClip, scene: bpy.types.Scene) -> bpy.types.Object | None:
    """The camera that a Camera Solver constraint moves by this clip: the scene's own before others."""

    def follows(candidate: bpy.types.Object) -> bool:
        return any(
            constraint.type == "CAMERA_SOLVER"
            and not constraint.mute
            and constraint.influence > 0
            and (scene.active_clip if constraint.use_active_clip else constraint.clip) == clip
            for constraint in candidate.constraints
        )

    if scene.camera is not None and follows(scene.camera):
        return scene.camera
    return next((thing for thing in scene.objects if thing.type == "CAMERA" and follows(thing)), None)


def _without_scale(axes: np.ndarray) -> np.ndarray:
    """(N, 3, 3) the rotations nearest to the axes."""
    u, _, vt = np.linalg.svd(axes)
    return u @ vt


# ---- Both, as files for the worker ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class LensFiles:
    """What the clip says of its camera, as files. motion: None for a camera that was not solved"""

    camera: Path
    motion: Path | None
    notes: tuple[str, ...]


def write_lens_files(clip: bpy.types.MovieClip, scene: bpy.types.Scene, folder: Path, name: str) -> LensFiles:
    """Write the clip's lens, and its way if it was solved, as ``name`` with the fitting endings.

    Raises FootageError when the clip's pictures can't be read, OutputError when ``folder`` can't be written.
    """
    lens = clip_lens(clip)
    camera, motion, notes = folder / f"{name}.camera.toml", None, lens.notes
    write_camera_file(camera, lens.camera)
    if lens_source(clip).kind == "solved":
        path = camera_motion_of(clip, scene)
        motion, notes = folder / f"{name}.camera-motion.npz", (*notes, *path.notes)
        write_camera_motion(motion, path)
    return LensFiles(camera, motion, notes)
