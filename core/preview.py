"""A film to look at before anything else: footage with its keypoints beside the figure in space."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter1d

from .errors import FileFormatError
from .output_files import written_whole
from .progress import Progress, report, silent
from .rotations import normalised
from .skeletons import LANDMARKS_41, MEDIAPIPE_33_LINES
from .tracks import Change, KeypointTrack, PoseTrack

if TYPE_CHECKING:
    from .footage import Footage

HEIGHT_PX = 720
# The view follows the figure with this much of a delay, and ahead of it as much.
GLIDE_S = 0.7
_NEAREST_DRAWN_M = 0.3
# Left, right and middle of the body; told apart by colour-blind eyes too (Okabe and Ito). RGB.
_LEFT, _RIGHT, _MIDDLE = (0, 114, 178), (213, 94, 0), (90, 90, 90)
_PAPER, _GRID, _PATH, _INK = (247, 246, 243), (214, 211, 205), (150, 146, 138), (60, 60, 60)
_TIMES_90K = 90_000
# What was repaired: its colour, and what the picture says about it.
_EXCHANGED_INK, _BRIDGED_INK, _DOUBTED_INK = (255, 40, 200), (0, 230, 118), (255, 214, 0)
_CORRECTED_INK = (0, 220, 255)
_REPAIRS = (
    ((Change.BODY_EXCHANGED, Change.LIMB_EXCHANGED), _EXCHANGED_INK, "sides exchanged back"),
    ((Change.OUTLIER_BRIDGED, Change.DROP_OUT_BRIDGED), _BRIDGED_INK, "bridged"),
    ((Change.DOUBTED,), _DOUBTED_INK, "doubted"),
    ((Change.SOMEBODY_ELSE,), _BRIDGED_INK, "somebody else"),
    ((Change.CORRECTED,), _CORRECTED_INK, "corrected by hand"),
)
# Limbs are drawn this thick at their far end, metres.
_THICKNESS_M = {"knee": 0.12, "ankle": 0.09, "toe_base": 0.08, "toe_tip": 0.06, "elbow": 0.08, "wrist": 0.065}
_THIN_M = 0.04
_DRAWN = (*_THICKNESS_M, "knuckle", "fingertip", "thumb", "heel", "head")
# (end, start) of each limb; the trunk is one shape.
_LIMBS = [
    (joint, LANDMARKS_41.parents[joint])
    for joint, name in enumerate(LANDMARKS_41.names)
    if (name[2:] if name[1:2] == "_" else name) in _DRAWN
]
_TORSO = tuple(LANDMARKS_41.indices("l_shoulder", "l_hip", "r_hip", "r_shoulder"))


def _colour_of(name: str) -> tuple[int, int, int]:
    return {"l": _LEFT, "r": _RIGHT}.get(name[0] if name[1:2] == "_" else "", _MIDDLE)


def _paler(colour: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    """``colour`` mixed with ``share`` of the paper's."""
    red, green, blue = (round(c + (p - c) * share) for c, p in zip(colour, _PAPER, strict=True))
    return red, green, blue


class FigureView:
    """The figure on its floor, seen by a camera that glides along with it.

    The view stands three quarters to the side of the footage's camera, since what the footage can't show is depth.
    """

    def __init__(self, pose: PoseTrack, size_px: tuple[int, int], turn_deg: float = 40.0) -> None:
        self.size_px = size_px
        self.positions_m = pose.positions_world_m()
        self.contact, self.confidence = pose.contact, pose.confidence
        self.here = self.confidence.max(axis=1) > 0
        points_m = self.positions_m[self.here] if self.here.any() else self.positions_m
        low, high = points_m.min(axis=(0, 1)), points_m.max(axis=(0, 1))
        # Slowly enough that a step is seen as a step over the floor.
        self.centre_m = gaussian_filter1d(self.positions_m[:, 0], GLIDE_S * pose.fps, axis=0, mode="nearest")
        self.centre_m[:, 2] = max(high[2], 1.0) * 0.48
        # The camera of the footage looks along +y.
        turn = np.radians(turn_deg)
        ahead = normalised(np.array([-np.sin(turn), np.cos(turn), -0.22]))
        right = normalised(np.cross(ahead, [0.0, 0.0, 1.0]))
        self.axes = np.stack([right, -np.cross(right, ahead), ahead])
        width, height = size_px
        # Far enough for every point of the clip to be in the picture, whatever its depth.
        self.focal_px = 1.6 * min(width, height)
        seen = (points_m - (self.centre_m[self.here] if self.here.any() else self.centre_m)[:, None]) @ self.axes.T
        reach = np.abs(seen[..., :2]) * self.focal_px / (np.array([width, height]) / 2 * 0.9)
        self.distance_m = float(max(3.0, (reach.max(axis=-1) - seen[..., 2]).max()))
        self.floor = self._floor_lines(low, high)

    def project(self, points_m: np.ndarray, frame: int) -> tuple[np.ndarray, np.ndarray]:
        """(..., 3) world metres -> (..., 2) pixels and (...) depth, as the view is in one frame."""
        seen = (points_m - self.centre_m[frame]) @ self.axes.T
        depth = np.maximum(seen[..., 2] + self.distance_m, 0.1)
        return seen[..., :2] * self.focal_px / depth[..., None] + np.array(self.size_px) / 2, depth

    @staticmethod
    def _floor_lines(low: np.ndarray, high: np.ndarray) -> list[np.ndarray]:
        first, last = np.floor(low[:2] - 1.0), np.ceil(high[:2] + 1.0)
        # A floor for a walk across a hall needs no finer grid than can be seen.
        step = max(0.5, float((last - first).max()) / 24)
        # In pieces, so that what is behind the view can be left out.
        x, y = (np.arange(first[axis], last[axis] + step, step) for axis in (0, 1))
        corners = np.stack([*np.meshgrid(x, y, indexing="ij"), np.zeros((len(x), len(y)))], axis=-1)
        along_x = np.stack([corners[:-1], corners[1:]], axis=2).reshape(-1, 2, 3)
        along_y = np.stack([corners[:, :-1], corners[:, 1:]], axis=2).reshape(-1, 2, 3)
        return [*along_x, *along_y]

    def draw(self, frame: int) -> np.ndarray:
        """(H, W, 3) uint8 RGB picture of one frame."""
        import cv2

        width, height = self.size_px
        picture = np.full((height, width, 3), _PAPER, np.uint8)

        def line(ends_m: np.ndarray, colour: tuple[int, int, int], thickness: int) -> None:
            (a, b), depth = self.project(ends_m, frame)
            if depth.min() < _NEAREST_DRAWN_M:
                return
            reach = 1 << 14
            a, b = np.clip(a, -reach, reach), np.clip(b, -reach, reach)
            cv2.line(picture, _fixed(a), _fixed(b), colour, thickness, cv2.LINE_AA, 4)

        for ends in self.floor:
            line(ends, _GRID, 1)
        path = self.positions_m[: frame + 1, 0][self.here[: frame + 1]]
        path[:, 2] = 0
        trail, depth = self.project(path, frame)
        behind = np.flatnonzero(depth < _NEAREST_DRAWN_M)
        trail = trail[behind[-1] + 1 :] if len(behind) else trail
        if len(trail) > 1:
            cv2.polylines(picture, [np.round(trail * 16).astype(np.int32)], False, _PATH, 2, cv2.LINE_AA, 4)
        if not self.here[frame]:
            return picture
        self._draw_footprints(picture, frame)

        points = self.positions_m[frame]
        at_px, depth = self.project(points, frame)
        # What is nearer covers what is further.
        parts = sorted([*_LIMBS, _TORSO], key=lambda part: -float(depth[list(part)].mean()))
        for part in parts:
            name = "" if part == _TORSO else LANDMARKS_41.names[part[0]]
            doubt = 1 - float(self.confidence[frame, list(part)].min())
            colour = _paler(_colour_of(name), 0.5 * doubt)
            if part == _TORSO:
                outline = [np.array([_fixed(at_px[corner]) for corner in part], np.int32)]
                thickness = max(3, round(0.10 * self.focal_px / float(depth[list(part)].mean())))
                cv2.polylines(picture, outline, True, (255, 255, 255), thickness + 3, cv2.LINE_AA, 4)
                cv2.polylines(picture, outline, True, colour, thickness, cv2.LINE_AA, 4)
                cv2.fillPoly(picture, outline, colour, cv2.LINE_AA, 4)
                continue
            bare = name[2:] if name[1:2] == "_" else name
            thickness = max(2, round(_THICKNESS_M.get(bare, _THIN_M) * self.focal_px / float(depth[part[0]])))
            start, end = _fixed(at_px[part[1]]), _fixed(at_px[part[0]])
            cv2.line(picture, start, end, (255, 255, 255), thickness + 3, cv2.LINE_AA, 4)
            cv2.line(picture, start, end, colour, thickness, cv2.LINE_AA, 4)
        self._draw_face(picture, frame, at_px, depth)
        return picture

    def _draw_face(self, picture: np.ndarray, frame: int, at_px: np.ndarray, depth: np.ndarray) -> None:
        import cv2

        head, top, nose = LANDMARKS_41.indices("head", "head_top", "nose")
        points = self.positions_m[frame]
        size = float(np.linalg.norm(points[top] - points[head]) * self.focal_px / depth[head])
        cv2.circle(picture, _fixed(at_px[head]), round(size * 0.85 * 16), _MIDDLE, -1, cv2.LINE_AA, 4)
        if depth[nose] < depth[head]:
            cv2.circle(picture, _fixed(at_px[nose]), round(size * 0.22 * 16), (255, 255, 255), -1, cv2.LINE_AA, 4)

    def _draw_footprints(self, picture: np.ndarray, frame: int) -> None:
        import cv2

        for side, colour, (heel, toe) in (("l", _LEFT, (0, 1)), ("r", _RIGHT, (2, 3))):
            if self.contact[frame, [heel, toe]].max() > 0.5:
                ends = self.positions_m[frame, LANDMARKS_41.indices(f"{side}_heel", f"{side}_toe_tip")].copy()
                ends[:, 2] = 0
                (a, b), depth = self.project(ends, frame)
                pale = _paler(colour, 0.55)
                thickness = max(2, round(0.12 * self.focal_px / depth.mean()))
                cv2.line(picture, _fixed(a), _fixed(b), pale, thickness, cv2.LINE_AA, 4)


def _fixed(point_px: np.ndarray) -> tuple[int, int]:
    """A point in sixteenths of a pixel, as cv2 draws with ``shift=4``."""
    return int(round(float(point_px[0]) * 16)), int(round(float(point_px[1]) * 16))


def draw_keypoints(
    picture: np.ndarray,
    xy_px: np.ndarray,
    confidence: np.ndarray,
    layout: str,
    changes: np.ndarray | None = None,
) -> None:
    """Draw one frame's keypoints (K, 2) into an RGB picture: full dots where sure, rings where not.

    What was repaired, by ``changes`` (K,), has a ring of another colour around it, and what was bridged is no full dot.
    A line at the top says what the colours in this picture mean.
    """
    import cv2

    from .skeletons import KEYPOINT_LAYOUTS

    names = KEYPOINT_LAYOUTS[layout]
    radius = max(3, round(picture.shape[0] / 160))

    def colour(name: str) -> tuple[int, int, int]:
        if name.startswith(("left", "l_")):
            return _LEFT
        return _RIGHT if name.startswith(("right", "r_")) else (240, 228, 66)

    seen = np.isfinite(xy_px).all(axis=-1)
    if layout == "mediapipe33":
        for a, b in MEDIAPIPE_33_LINES:
            if seen[a] and seen[b]:
                same = colour(names[a]) == colour(names[b])
                ink = colour(names[a]) if same else (235, 235, 235)
                cv2.line(picture, _fixed(xy_px[a]), _fixed(xy_px[b]), ink, max(2, radius // 2), cv2.LINE_AA, 4)
    for index, name in enumerate(names):
        if seen[index]:
            repaired = None if changes is None else _repair_of(int(changes[index]))
            sure = confidence[index] > 0.5 and (repaired is None or repaired[0] != _BRIDGED_INK)
            at = _fixed(xy_px[index])
            if sure:
                cv2.circle(picture, at, (radius + 1) * 16, (255, 255, 255), -1, cv2.LINE_AA, 4)
            cv2.circle(picture, at, radius * 16, colour(name), -1 if sure else 2, cv2.LINE_AA, 4)
            if repaired is not None:
                cv2.circle(picture, at, (radius + 3) * 16, repaired[0], 2, cv2.LINE_AA, 4)
    if changes is not None:
        _tell_repairs(picture, changes)


def _repair_of(code: int) -> tuple[tuple[int, int, int], str] | None:
    """Colour and words for a code of ``Change``; None where nothing was changed."""
    return next(((ink, words) for codes, ink, words in _REPAIRS if code in codes), None)


def _tell_repairs(picture: np.ndarray, changes: np.ndarray) -> None:
    """A line at the top of the picture about the repairs that are in it, if there are any."""
    import cv2

    radius, left = max(3, round(picture.shape[0] / 160)), 16
    for codes, ink, words in _REPAIRS:
        if not np.isin(changes, codes).any():
            continue
        (width, _), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, 0.55, 1)
        right = left + 2 * radius + 14 + width
        cv2.rectangle(picture, (left - 6, 10), (right, 34), _PAPER, -1)
        cv2.circle(picture, (left + radius + 1, 22), radius + 3, ink, 2, cv2.LINE_AA)
        at = (left + 2 * radius + 8, 27)
        cv2.putText(picture, words, at, cv2.FONT_HERSHEY_SIMPLEX, 0.55, _INK, 1, cv2.LINE_AA)
        left = right + 12


def _footage_pictures(
    footage: Footage, pose: PoseTrack, keypoints: KeypointTrack | None
) -> Iterator[tuple[int, np.ndarray]]:
    """(frame of the pose, picture with keypoints), for the frames of the footage that the pose has."""
    import cv2

    of_frame = {int(index): frame for frame, index in enumerate(pose.frame_index)}
    keypoints_of = {} if keypoints is None else {int(index): at for at, index in enumerate(keypoints.frame_index)}
    scale = HEIGHT_PX / footage.size_px[1]
    size = _even(footage.size_px[0] * scale), HEIGHT_PX
    for shot in footage.frames(int(pose.frame_index[0]), int(pose.frame_index[-1])):
        if shot.index not in of_frame:
            continue
        picture = cv2.resize(shot.rgb, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        at = keypoints_of.get(shot.index)
        if keypoints is not None and at is not None:
            xy_px, confidence = keypoints.xy_px[at] * scale, keypoints.confidence[at]
            draw_keypoints(picture, xy_px, confidence, keypoints.layout, keypoints.changes[at])
        yield of_frame[shot.index], picture


def _even(value: float) -> int:
    return max(2, 2 * round(value / 2))


def _label(picture: np.ndarray, text: str) -> None:
    import cv2

    cv2.putText(picture, text, (16, picture.shape[0] - 18), cv2.FONT_HERSHEY_SIMPLEX, 0.55, _INK, 1, cv2.LINE_AA)


def render_preview(
    path: Path,
    pose: PoseTrack,
    *,
    keypoints: KeypointTrack | None = None,
    footage: Footage | None = None,
    progress: Progress = silent,
) -> None:
    """Write an .mp4 of the pose: the footage with its keypoints on the left when there is footage, the figure right.

    One frame is held at a time, whatever the length. Left is blue, right is orange; pale limbs are uncertain; a foot
    that stands leaves a print. Raises OutputError when ``path`` can't be written, FootageError for the
    footage, FileFormatError for a pose of another skeleton.
    """
    import av

    if pose.skeleton.names != LANDMARKS_41.names:
        raise FileFormatError(
            f"The pose has {len(pose.skeleton)} joints of another skeleton; a preview needs the 41 landmarks of "
            "`keylift lift`."
        )
    frames = len(pose.time_s)
    view = FigureView(pose, (HEIGHT_PX if footage is not None else 960, HEIGHT_PX))
    shots = _footage_pictures(footage, pose, keypoints) if footage is not None else ((f, None) for f in range(frames))
    width = view.size_px[0] + (_even(footage.size_px[0] * HEIGHT_PX / footage.size_px[1]) if footage else 0)
    with written_whole(path) as beside, av.open(str(beside), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(pose.fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, HEIGHT_PX, "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        stream.codec_context.time_base = Fraction(1, _TIMES_90K)
        for done, (frame, shot) in enumerate(shots, start=1):
            figure = view.draw(frame)
            gone = "" if view.here[frame] else "   not seen"
            _label(figure, f"{pose.time_s[frame]:.2f} s   frame {int(pose.frame_index[frame])}{gone}")
            picture = av.VideoFrame.from_ndarray(figure if shot is None else np.hstack([shot, figure]), format="rgb24")
            picture.pts = round((pose.time_s[frame] - pose.time_s[0]) * _TIMES_90K)
            picture.time_base = Fraction(1, _TIMES_90K)
            container.mux(stream.encode(picture))
            report(progress, done, frames)
        container.mux(stream.encode())
