"""A folder of BVH files as landmark clips: three dialects known by joint names, other rigs by a joint map."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.errors import FileFormatError
from ...core.rotations import normalised
from .bvh_reader import BvhMotion, read_bvh
from .clips import (
    MAX_FRAMES_IN_FOLDER,
    LandmarkClip,
    motion_files_in,
    name_and_subject,
    turn_to_y_up,
    unit_by_body_size,
    up_by_posture,
)
from .derived_landmarks import body_frame, completed, frame_ahead
from .joint_map import JointMap, Place, built_in_joint_maps

# So many frames are posed at once: a rig of a thousand joints then takes 400 MB, one of a hundred 40.
_FRAMES_AT_ONCE = 4096
_FOOT_PARTS = ("ankle", "toe_base", "toe_tip", "heel", "big_toe", "small_toe")
_HAND_PARTS = ("wrist", "knuckle", "fingertip", "thumb")
# The landmarks whose joints carry what is derived.
_CARRIERS = {"head": "head", **{f"{s}_foot": f"{s}_ankle" for s in "lr"}, **{f"{s}_hand": f"{s}_wrist" for s in "lr"}}

# Cosines: how far from upright a zero pose and a trunk may be, and how far from level an arm of a T-pose.
_STANDING, _UPRIGHT, _LEVEL = 0.85, 0.93, 0.35
_FEWEST_UPRIGHT_FRAMES = 30
_STANDING_ANKLES_PERCENT = 40.0


@dataclass(frozen=True, eq=False)
class _Captured:
    """What one file says, in metres and y up, before anything is derived.

    points: landmark -> (F, 3), without the offset that the map puts beside it
    turns:  joint -> (F, 3, 3) y-up axes from the joint's own
    rest:   landmark -> (3,) the same in the rig's zero pose
    rig:    files with the same rig have the same
    """

    path: Path
    points: dict[str, np.ndarray]
    turns: dict[str, np.ndarray]
    rest: dict[str, np.ndarray]
    rig: tuple[object, ...]
    fps: float

    def standing_still(self) -> bool:
        """Whether the zero pose stands upright, so that its axes are a standing person's."""
        rest = self.rest

        def rise(low: str, high: str) -> float:
            return float(normalised(rest[high] - rest[low])[1])

        legs = [rise(f"{side}_ankle", f"{side}_hip") for side in "lr"]
        return min(*legs, rise("l_hip", "neck"), rise("r_hip", "neck")) > _STANDING

    def t_posing(self) -> bool:
        """Whether the zero pose is a T-pose, arms level and all."""
        level = [normalised(self.rest[f"{s}_wrist"] - self.rest[f"{s}_shoulder"])[1] for s in "lr"]
        return self.standing_still() and max(np.abs(level)) < _LEVEL


def _map_for(path: Path, names: tuple[str, ...], given: JointMap | None) -> JointMap:
    """The map that was given, or the one of ours whose joints are all there."""
    if given is not None:
        if missing := given.missing_from(names):
            raise FileFormatError(
                f"'{path}' has no joint {', '.join(missing)}, which the joint map '{given.title}' names. "
                f"Its joints are: {', '.join(names)}."
            )
        return given
    known = built_in_joint_maps("bvh")
    for joint_map in known:
        if not joint_map.missing_from(names):
            return joint_map
    raise FileFormatError(
        f"'{path}' has a rig that is not known by itself (those are: {'; '.join(m.title for m in known)}). Write a "
        f"joint map (docs/file-formats.md) and name it as joint_map. The rig's joints are: {', '.join(names)}."
    )


def _offsets(motion: BvhMotion, joint_map: JointMap) -> np.ndarray:
    """(J, 3) the file's offsets, with the map's in their place."""
    index = {name: place for place, name in enumerate(motion.names)}
    offsets = np.array([node.offset for node in motion.nodes])
    own = offsets.copy()
    for name, wanted in joint_map.offsets.items():
        offset = np.array(wanted.direction)
        if wanted.as_long_as:
            offset = wanted.times * np.linalg.norm(own[index[wanted.as_long_as]]) * normalised(offset)
        offsets[index[name]] = offset
    return offsets


def _joints_with_frames(joint_map: JointMap) -> set[str]:
    carriers = {place.points[0] for name, place in joint_map.landmarks.items() if name in _CARRIERS.values()}
    return carriers | {place.points[0] for place in joint_map.landmarks.values() if any(place.offset_m)}


def _mean_of(place: Place, positions: np.ndarray, index: dict[str, int]) -> np.ndarray:
    """(..., J, 3) -> (..., 3)"""
    chosen = positions[..., [index[name] for name in place.points], :]
    return np.einsum("...pi,p->...i", chosen, np.array(place.weights))


def _capture(path: Path, joint_map: JointMap | None, notes: dict[str, None]) -> tuple[_Captured, JointMap]:
    motion = read_bvh(path)
    used = _map_for(path, motion.names, joint_map)
    if len(motion) <= used.skip_frames:
        raise FileFormatError(f"'{path}' has {len(motion)} frames, and the first {used.skip_frames} are no motion.")
    index = {name: place for place, name in enumerate(motion.names)}
    offsets = _offsets(motion, used)
    turning = sorted(_joints_with_frames(used))
    points: dict[str, list[np.ndarray]] = defaultdict(list)
    turns: dict[str, list[np.ndarray]] = defaultdict(list)
    for start in range(used.skip_frames, len(motion), _FRAMES_AT_ONCE):
        positions, rotations = motion.world(slice(start, start + _FRAMES_AT_ONCE), offsets)
        for name, place in used.landmarks.items():
            points[name].append(_mean_of(place, positions, index))
        for name in turning:
            turns[name].append(rotations[:, index[name]])
    whole = {name: np.concatenate(parts) for name, parts in points.items()}
    zero = motion.zero_pose(offsets)
    rest = {name: _mean_of(place, zero, index) for name, place in used.landmarks.items()}

    up = used.up or up_by_posture(whole)
    metres = used.metres_per_unit
    if metres is None:
        metres, unit = unit_by_body_size(whole)
        notes[f"'{used.title}' is taken to be in {unit}, going by the length of the legs."] = None
    if not used.up and up != "y":
        notes[f"'{used.title}' is taken to have {up} upwards, going by how people stand."] = None
    y_up = turn_to_y_up(up)
    captured = _Captured(
        path=path,
        points={name: metres * (point @ y_up.T) for name, point in whole.items()},
        turns={name: y_up @ np.concatenate(parts) for name, parts in turns.items()},
        rest={name: metres * (y_up @ point) for name, point in rest.items()},
        rig=(used.title, motion.names, offsets.round(3).tobytes()),
        fps=motion.fps,
    )
    return captured, used


def _part_of(joint: str, joint_map: JointMap) -> str:
    """Which part of the body a joint turns: trunk (the head is upright with it), or l_foot, r_hand and so on."""
    for name, place in joint_map.landmarks.items():
        if place.points[0] == joint and name[2:] in _FOOT_PARTS:
            return f"{name[0]}_foot"
        if place.points[0] == joint and name[2:] in _HAND_PARTS:
            return f"{name[0]}_hand"
    return "trunk"


def _frame_at_rest(part: str, rest: dict[str, np.ndarray]) -> np.ndarray:
    """(3, 3) the part's own frame (left, up, forward) in a zero pose that stands."""
    frame = body_frame(rest["l_hip"] - rest["r_hip"], np.array([0.0, 1.0, 0.0]))
    if not part.endswith("foot"):
        return frame
    # Legs may be spread at rest; a foot that stands under the hip is then rolled as far as the shank.
    return frame_ahead(frame[:, 2], rest[f"{part[0]}_knee"] - rest[f"{part[0]}_ankle"])


def _frames_in_motion(part: str, points: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """(F, 3, 3) how the part is turned while standing, and (F,) the frames for which that is true enough.

    A head looks on average to where the chest faces; a foot that is low stands level.
    """
    up = np.array([0.0, 1.0, 0.0])
    if part.endswith("foot"):
        ankle = points[f"{part[0]}_ankle"]
        ahead = points[f"{part[0]}_toe_base"] - ankle
        return frame_ahead(ahead * [1, 0, 1], up), ankle[:, 1] <= np.percentile(ankle[:, 1], _STANDING_ANKLES_PERCENT)
    rise = normalised(points["neck"] - (points["l_hip"] + points["r_hip"]) / 2)[:, 1]
    upright = rise > _UPRIGHT
    if upright.sum() < _FEWEST_UPRIGHT_FRAMES:
        upright = rise >= np.percentile(rise, 80)
    return body_frame(points["l_shoulder"] - points["r_shoulder"], up), upright


def _nod(degrees: float) -> np.ndarray:
    sine, cosine = np.sin(np.radians(degrees)), np.cos(np.radians(degrees))
    return np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])


def _own_frames(of_one_rig: list[_Captured], joint_map: JointMap) -> dict[str, np.ndarray]:
    """Joint -> (3, 3) the joint's axes from its part's frame (left, up, forward), the same in every clip of a rig.

    Told by the zero pose when that stands; else by how the part is turned on average while the person stands. A hand
    can be told by a T-pose alone.
    """
    frames = {}
    for joint in of_one_rig[0].turns:
        part = _part_of(joint, joint_map)
        if part.endswith("hand") and not of_one_rig[0].t_posing():
            continue
        if part.endswith("foot") and f"{part[0]}_toe_base" not in joint_map.landmarks:
            continue
        if of_one_rig[0].standing_still():
            frame = _frame_at_rest(part, of_one_rig[0].rest)
        else:
            total = np.zeros((3, 3))
            for clip in of_one_rig:
                seen, right = _frames_in_motion(part, clip.points)
                total += np.einsum("fji,fjk->ik", clip.turns[joint][right], seen[right])
            u, _, vt = np.linalg.svd(total)
            frame = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
        frames[joint] = frame @ _nod(joint_map.pitch_deg.get(joint, 0.0))
    return frames


def _clip(folder: Path, captured: _Captured, joint_map: JointMap, own: dict[str, np.ndarray]) -> LandmarkClip:
    turned = {joint: captured.turns[joint] @ frame for joint, frame in own.items()}
    points = dict(captured.points)
    for name, place in joint_map.landmarks.items():
        if any(place.offset_m):
            if place.points[0] not in turned:
                raise FileFormatError(
                    f"'{captured.path}': {name} has an offset_m from '{place.points[0]}', whose axes can't be told: "
                    "for a hand the zero pose must be a T-pose, for a foot its toe_base must be named."
                )
            points[name] = points[name] + turned[place.points[0]] @ np.array(place.offset_m)
    carriers = {
        part: turned[joint_map.landmarks[landmark].points[0]]
        for part, landmark in _CARRIERS.items()
        if landmark in joint_map.landmarks and joint_map.landmarks[landmark].points[0] in turned
    }
    name, subject = name_and_subject(folder, captured.path)
    return LandmarkClip(captured.path, name, subject, completed(points, carriers), captured.fps)


def read_bvh_clips(folder: Path, joint_map: JointMap | None) -> tuple[list[LandmarkClip], tuple[str, ...]]:
    """Every BVH file in ``folder`` and below as a landmark clip, and notes on what was guessed.

    joint_map: for rigs that are not known by themselves; it is then used for all files
    Raises FileFormatError when a file is damaged, its rig is not known, or joints that the map names are missing.
    """
    notes: dict[str, None] = {}
    rigs: dict[tuple[object, ...], tuple[JointMap, list[_Captured]]] = {}
    frames = 0
    for path in motion_files_in(folder, ".bvh"):
        captured, used = _capture(path, joint_map, notes)
        frames += len(captured.points["neck"])
        if frames > MAX_FRAMES_IN_FOLDER:
            raise FileFormatError(f"'{folder}' holds more than {MAX_FRAMES_IN_FOLDER} frames. Name a folder in it.")
        rigs.setdefault(captured.rig, (used, []))[1].append(captured)
    clips = []
    for used, of_one_rig in rigs.values():
        own = _own_frames(of_one_rig, used)
        clips += [_clip(folder, captured, used, own) for captured in of_one_rig]
    return sorted(clips, key=lambda clip: clip.path), tuple(notes)
