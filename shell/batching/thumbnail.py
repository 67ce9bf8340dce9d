"""A small picture of a take: the person as filmed, and beside it the figure on its floor."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from ...core.errors import FootageError
from ...core.footage import Footage, Video
from ...core.footage_spans import random_access
from ...core.output_files import written_whole
from ...core.preview import FigureView, draw_keypoints
from ...core.tracks import KeypointTrack, PoseTrack

SIZE_PX = (320, 180)
# The photograph is as wide as the person needs, within these; the figure has the rest.
_PHOTO_WIDTH_PX = (135, 190)
# Lines are drawn this much larger, and so come out thin and smooth.
_LARGER_FIGURE, _LARGER_PHOTO = 3, 3
# Of the figure's drawing, what is around the figure is shown, but never so little that a crouch fills it all.
_FIGURE_ROOM, _LEAST_SHOWN = 1.3, 0.6
# Shadows of feet lie beyond what a view is sure to show.
_BEYOND = 1.25
# So much is left around the person.
_ROOM = 1.25
# The figure is framed by what it does this long before and after.
_AROUND_S = 0.6
_TURN_DEG = 70.0
# More colours cost more than they show.
_COLOURS = 96
# Decoding costs by the pixel: that of a few frames of 4K, or of ten of full HD.
_DECODED_PX = 20_000_000


def write_thumbnail(pose: PoseTrack, track: KeypointTrack, footage: Footage | None, output: Path) -> None:
    """Write a PNG of ``SIZE_PX`` of about the middle of where the person is seen.

    pose:    of the 41 landmarks
    track:   the keypoints that it was lifted from
    footage: None, or footage that can't be read at that place: the figure alone

    The frame is the last key frame before the middle, or a little later, so that long footage isn't decoded for it.
    Raises OutputError when ``output`` can't be written.
    """
    row = _middle_row(pose)
    found = _photograph(footage, pose, track, row) if footage is not None else None
    if found is None:
        picture = _figure(pose, row, SIZE_PX)
    else:
        row, photo = found
        picture = np.hstack([photo, _figure(pose, row, (SIZE_PX[0] - photo.shape[1], SIZE_PX[1]))])
    _write_png(picture, output)


def _middle_row(pose: PoseTrack) -> int:
    here = np.flatnonzero(pose.confidence.max(axis=1) > 0)
    return int(here[len(here) // 2]) if len(here) else len(pose.time_s) // 2


# ---- The figure -----------------------------------------------------------------------------------------------------


def _figure(pose: PoseTrack, row: int, size_px: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) the figure from the side."""
    near = np.flatnonzero(np.abs(pose.time_s - pose.time_s[row]) <= _AROUND_S)
    rows = slice(int(near[0]), int(near[-1]) + 1)
    part = replace(
        pose,
        positions_m=pose.positions_m[rows],
        rotations_wxyz=pose.rotations_wxyz[rows],
        confidence=pose.confidence[rows],
        contact=pose.contact[rows],
        time_s=pose.time_s[rows],
        frame_index=pose.frame_index[rows],
        lifted_from=np.zeros(0, np.uint64),
    )
    large = np.array(size_px) * _LARGER_FIGURE
    canvas = np.round(large * _BEYOND).astype(int)
    view = FigureView(part, (int(canvas[0]), int(canvas[1])), turn_deg=_TURN_DEG)
    at_px, _ = view.project(view.positions_m[row - rows.start], row - rows.start)
    low, high = at_px.min(axis=0), at_px.max(axis=0)
    share = float(np.clip(((high - low) * _FIGURE_ROOM / large).max(), _LEAST_SHOWN, _BEYOND))
    shown = np.minimum(np.round(large * share).astype(int), canvas)
    left, top = np.round(np.clip((low + high - shown) / 2, 0, canvas - shown)).astype(int)
    drawing = view.draw(row - rows.start)[top : top + shown[1], left : left + shown[0]]
    return cv2.resize(drawing, size_px, interpolation=cv2.INTER_AREA)


# ---- The photograph -------------------------------------------------------------------------------------------------


def _photograph(footage: Footage, pose: PoseTrack, track: KeypointTrack, row: int) -> tuple[int, np.ndarray] | None:
    """Row of the pose and (H, W, 3) picture with the skeleton over it; None where there is none to be had."""
    seen = {int(index) for index in track.frame_index[track.seen]}
    wanted = [int(index) in seen for index in pose.frame_index]
    try:
        found = _picture_near(footage, pose, row, np.array(wanted))
    except FootageError:
        return None
    if found is None:
        return None
    row, rgb = found
    at = int(np.flatnonzero(track.frame_index == pose.frame_index[row])[0])
    xy_px = track.xy_px[at] * (np.array([rgb.shape[1], rgb.shape[0]]) / np.array(track.size_px))
    left, top, right, bottom = _frame_around(xy_px[np.isfinite(xy_px).all(axis=-1)], (rgb.shape[1], rgb.shape[0]))
    scale = SIZE_PX[1] / (bottom - top)
    width = round((right - left) * scale)
    large = (width * _LARGER_PHOTO, SIZE_PX[1] * _LARGER_PHOTO)
    # A person who is small in a large picture stays a photograph, not a mosaic.
    smooth = cv2.INTER_AREA if scale * _LARGER_PHOTO < 1 else cv2.INTER_CUBIC
    photo = cv2.resize(np.ascontiguousarray(rgb[top:bottom, left:right]), large, interpolation=smooth)
    to_large = np.array(large) / (right - left, bottom - top)
    draw_keypoints(photo, (xy_px - (left, top)) * to_large, track.confidence[at], track.layout)
    return row, cv2.resize(photo, (width, SIZE_PX[1]), interpolation=cv2.INTER_AREA)


def _frame_around(xy_px: np.ndarray, size_px: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of the part of a picture to show of a person, whole pixels within the picture.

    xy_px: (N, 2) the keypoints that are known
    """
    inside = np.clip(xy_px, 0, np.array(size_px))
    low, high = inside.min(axis=0), inside.max(axis=0)
    narrowest, widest = (width / SIZE_PX[1] for width in _PHOTO_WIDTH_PX)
    wide, tall = np.maximum((high - low) * _ROOM, 16)
    tall = min(max(tall, wide / widest), size_px[1])
    wide = min(max(wide, tall * narrowest), tall * widest, size_px[0])
    # Footage may be narrower, or lower, than any frame for it.
    tall = min(tall, wide / narrowest)
    middle = (low + high) / 2
    left, top = (
        round(float(np.clip(middle[axis] - length / 2, 0, size_px[axis] - length)))
        for axis, length in enumerate((wide, tall))
    )
    return left, top, min(left + round(wide), size_px[0]), min(top + round(tall), size_px[1])


def _picture_near(footage: Footage, pose: PoseTrack, row: int, wanted: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Row of the pose, near ``row`` and one of those ``wanted`` (F,), and its upright picture (H, W, 3)."""
    if not wanted[row]:
        rows = np.flatnonzero(wanted)
        if not len(rows):
            return None
        row = int(rows[np.abs(rows - row).argmin()])
    if not isinstance(footage, Video):
        index = int(pose.frame_index[row])
        return row, next(footage.frames(index, index)).rgb
    best, left_px = None, _DECODED_PX
    for glimpse in footage.glimpses(float(pose.time_s[row])):
        at = int(np.abs(pose.time_s - glimpse.time_s).argmin())
        if abs(pose.time_s[at] - glimpse.time_s) < 0.5 / footage.fps and wanted[at]:
            best = at, glimpse
        left_px -= footage.size_px[0] * footage.size_px[1]
        if glimpse.time_s >= pose.time_s[row] or left_px < 0:
            break
    return _counted_picture(footage, pose, row, wanted) if best is None else (best[0], best[1].rgb())


def _counted_picture(footage: Video, pose: PoseTrack, row: int, wanted: np.ndarray) -> tuple[int, np.ndarray] | None:
    """As ``_picture_near``, where a picture's time is not its stamp: by its number.

    Numbers come from the stamps of all packets; footage without any is counted from its start.
    """
    reader = random_access(footage)
    starts = np.zeros(1, int) if reader is None else reader.starts
    begins = int(starts[starts <= pose.frame_index[row]].max(initial=0))
    beyond = begins + _DECODED_PX // (footage.size_px[0] * footage.size_px[1])
    near = np.flatnonzero(wanted & (pose.frame_index >= begins) & (pose.frame_index <= beyond))
    if not len(near):
        return None
    row = int(near[np.abs(near - row).argmin()])
    number = int(pose.frame_index[row])
    frame = next((footage if reader is None else reader).frames(number, number), None)
    return None if frame is None else (row, frame.rgb)


# ---- The file -------------------------------------------------------------------------------------------------------


def _write_png(rgb: np.ndarray, output: Path) -> None:
    from PIL import Image

    with written_whole(output) as beside:
        palette = Image.fromarray(rgb).quantize(_COLOURS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        palette.save(beside, format="PNG", optimize=True)
