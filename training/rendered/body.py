"""A human body as arrays: MakeHuman's base mesh, shaped, with the joints, landmarks and skin weights to pose it by.

The mesh, its shapes and weights are those of MPFB2 (CC0). Axes are those of a T-pose: x left, y up, z forward, metres.
"""

from __future__ import annotations

import gzip
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...core.array_files import read_arrays, write_arrays
from ...core.errors import FileFormatError
from ...core.outside_text import check_ordinary, json_value
from ...core.rotations import between, from_matrix, multiply, rotate
from ...core.segments import SEGMENT_NAMES, SEGMENTS, T_POSE_M
from ...core.skeletons import LANDMARKS_41

MAX_BODY_FILE_BYTES = 64 << 20
# MakeHuman's base mesh has 19,158 vertices, and the rig 53 bones.
MAX_VERTICES, MAX_BONES = 200_000, 1_000
# Of all shapes together.
_MAX_MOVED = 32_000_000
# Parts of the base mesh that are kept, in the order of ``BaseBody.layer``.
LAYERS = ("body", "helper-l-eye", "helper-r-eye", "helper-tights", "helper-skirt", "helper-hair")
SKIN, LEFT_EYE, RIGHT_EYE, TIGHTS, SKIRT, HAIR = range(len(LAYERS))

_UNIT_M = 0.1
_RIG = "game_engine"
_INFLUENCES = 4
_CENTRE_JOINTS = tuple("pelvis spine-4 spine-3 spine-2 spine-1 neck head".split())
_SIDE_JOINTS = tuple(
    """clavicle shoulder elbow hand finger-3-1 finger-3-4 finger-1-3 upper-leg knee ankle foot-1 toe-2-4 toe-1-3
    toe-5-4 eye""".split()
)
_JOINTS = _CENTRE_JOINTS + tuple(f"{side}-{name}" for side in "lr" for name in _SIDE_JOINTS)
_LANDMARK_JOINTS = {
    "clavicle": "clavicle",
    "shoulder": "shoulder",
    "elbow": "elbow",
    "wrist": "hand",
    "knuckle": "finger-3-1",
    "fingertip": "finger-3-4",
    "thumb": "finger-1-3",
    "hip": "upper-leg",
    "knee": "knee",
    "ankle": "ankle",
    "toe_base": "foot-1",
    "toe_tip": "toe-2-4",
    "big_toe": "toe-1-3",
    "small_toe": "toe-5-4",
    "eye": "eye",
}
# Ears stick out of the head by more than this.
_EAR_REACH_M = 0.070
# The heel's landmark is this high above the sole.
_HEEL_HEIGHT_M = 0.017
# How the bones of the rig turn: with a segment of the body.
_SEGMENT_OF_BONE = {
    "Root": "pelvis",
    "pelvis": "pelvis",
    "spine_01": "lumbar",
    "spine_02": "spine",
    "spine_03": "chest",
    "neck_01": "neck",
    "head": "head",
    "clavicle": "clavicle",
    "upperarm": "upperarm",
    "lowerarm": "forearm",
    "hand": "hand",
    "thigh": "thigh",
    "calf": "shank",
    "foot": "foot",
    "ball": "toes",
}
# Limbs twist along their length, so they are cut into so many pieces, each turned a little further than the last.
TWIST_PIECES = 4
TWISTING = ("upperarm", "forearm", "thigh", "shank")


def _carriers() -> tuple[str, ...]:
    centre = ("pelvis", "lumbar", "spine", "chest", "neck", "head")
    names = list(centre)
    for side in "lr":
        for name in ("clavicle", "upperarm", "forearm", "hand", "thigh", "shank", "foot", "toes"):
            pieces = range(TWIST_PIECES) if name in TWISTING else (None,)
            names += [f"{side}_{name}" + ("" if piece is None else f".{piece}") for piece in pieces]
    return tuple(names)


# What skin hangs on: segments, pieces of twisting ones, and the lumbar spine between pelvis and spine.
CARRIERS = _carriers()


def carrier_segment(carrier: str) -> str:
    """The segment that a carrier belongs to."""
    return "spine" if carrier == "lumbar" else carrier.split(".")[0]


@dataclass(frozen=True, eq=False)
class Body:
    """One person's body as it stands in its rest pose, arms half lowered.

    vertices_m: (V, 3)
    normals:    (V, 3) outward, of unit length
    faces:      (N, 4) corners, seen from outside anticlockwise
    layer:      (V,) which of ``LAYERS`` a vertex belongs to
    weights:    (V, C) how much of it hangs on each of ``CARRIERS``; rows sum to 1
    rest_m:     (41, 3) ``LANDMARKS_41`` in the rest pose
    t_pose_m:   (41, 3) the same in the T-pose, pelvis at the origin
    to_t_pose:  (S, 4) wxyz for each of ``SEGMENTS``: T-pose from rest pose
    """

    vertices_m: np.ndarray
    normals: np.ndarray
    faces: np.ndarray
    layer: np.ndarray
    weights: np.ndarray
    rest_m: np.ndarray
    t_pose_m: np.ndarray
    to_t_pose: np.ndarray

    @property
    def leg_m(self) -> float:
        """From hip to ankle along the bones."""
        hip, knee, ankle = self.rest_m[LANDMARKS_41.indices("l_hip", "l_knee", "l_ankle")]
        return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))


@dataclass(frozen=True, eq=False)
class BaseBody:
    """The mesh that all bodies are shaped from.

    points_m:    (V + J, 3) vertices, then joints
    targets_m:   what each shape adds to them, by name
    faces, layer: as in ``Body``
    bone_index, bone_weight: (V, 4) the bones of ``bone_names`` that hold a vertex, and how much
    """

    points_m: np.ndarray
    targets_m: Mapping[str, np.ndarray]
    faces: np.ndarray
    layer: np.ndarray
    bone_names: tuple[str, ...]
    bone_index: np.ndarray
    bone_weight: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.layer)
        shapes = (
            (self.points_m, (count + len(_JOINTS), 3)),
            *((delta, (count + len(_JOINTS), 3)) for delta in self.targets_m.values()),
            (self.faces, (len(self.faces), 4)),
            (self.bone_index, (count, _INFLUENCES)),
            (self.bone_weight, (count, _INFLUENCES)),
        )
        if any(array.shape != shape or not np.isfinite(array).all() for array, shape in shapes):
            raise FileFormatError("The body's arrays don't fit together.")
        if not (count and len(self.faces) and self.layer.min() == SKIN and self.layer.max() < len(LAYERS)):
            raise FileFormatError("The body has no skin, or layers that there are not.")
        if not self.targets_m:
            raise FileFormatError("The body has no shape. Put at least one .target.gz beside its mesh.")
        if not (self.faces.min() >= 0 and self.faces.max() < count and (np.diff(self.layer) >= 0).all()):
            raise FileFormatError("The body's faces name vertices that it doesn't have.")
        if not (self.bone_index.min() >= 0 and self.bone_index.max() < len(self.bone_names)):
            raise FileFormatError("The body's weights name bones that it doesn't have.")
        if np.abs(self.bone_weight.sum(axis=1) - 1).max() > 0.02:
            raise FileFormatError("The body's weights don't sum to 1.")

    def shaped(self, mix: Mapping[str, float]) -> Body:
        """The body with shapes added; ``mix`` should sum to 1."""
        points_m = self.points_m + sum(share * self.targets_m[name] for name, share in mix.items())
        vertices_m = np.asarray(points_m[: len(self.layer)], float)
        joints_m = dict(zip(_JOINTS, points_m[len(self.layer) :], strict=True))
        rest_m = _landmarks(joints_m, vertices_m[self.layer == SKIN])
        to_t_pose = _turns_to_t_pose(rest_m)
        return Body(
            vertices_m=vertices_m,
            normals=vertex_normals(vertices_m, self.faces),
            faces=self.faces,
            layer=self.layer,
            weights=self._carrier_weights(vertices_m, rest_m),
            rest_m=rest_m,
            t_pose_m=_t_pose(rest_m, to_t_pose),
            to_t_pose=to_t_pose,
        )

    def _carrier_weights(self, vertices_m: np.ndarray, rest_m: np.ndarray) -> np.ndarray:
        weights = np.zeros((len(vertices_m), len(CARRIERS)))
        rows = np.arange(len(vertices_m))
        for column in range(_INFLUENCES):
            for bone, name in enumerate(self.bone_names):
                held = rows[self.bone_index[:, column] == bone]
                share = self.bone_weight[held, column]
                segment = _segment_of_bone(name)
                if segment.split("_")[-1] not in TWISTING:
                    np.add.at(weights, (held, CARRIERS.index(segment)), share)
                    continue
                start, end = (rest_m[joint] for joint in _ends(segment))
                along = (vertices_m[held] - start) @ (end - start) / np.dot(end - start, end - start)
                place = np.clip(along, 0, 1) * (TWIST_PIECES - 1)
                for piece in range(TWIST_PIECES):
                    part = np.clip(1 - np.abs(place - piece), 0, None)
                    np.add.at(weights, (held, CARRIERS.index(f"{segment}.{piece}")), share * part)
        return weights / weights.sum(axis=1, keepdims=True)


def _segment_of_bone(bone: str) -> str:
    if bone in _SEGMENT_OF_BONE:
        return _SEGMENT_OF_BONE[bone]
    name, _, side = bone.rpartition("_")
    # Fingers ride on the hand.
    return f"{side}_{_SEGMENT_OF_BONE.get(name, 'hand')}"


def _ends(segment: str) -> tuple[int, int]:
    found = SEGMENTS[SEGMENT_NAMES.index(segment)]
    return LANDMARKS_41.index(found.joint), LANDMARKS_41.index(found.tip)


def vertex_normals(vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals; zero where no face touches a vertex."""
    a, b, c, d = (vertices_m[faces[:, corner]] for corner in range(4))
    of_face = np.cross(c - a, d - b)
    summed = np.stack(
        [
            sum(np.bincount(faces[:, corner], of_face[:, axis], len(vertices_m)) for corner in range(4))
            for axis in range(3)
        ],
        axis=-1,
    )
    return summed / np.maximum(np.linalg.norm(summed, axis=-1, keepdims=True), 1e-12)


def _landmarks(joints_m: Mapping[str, np.ndarray], skin_m: np.ndarray) -> np.ndarray:
    """(41, 3) where the landmarks of motion data are on this body."""
    at: dict[str, np.ndarray] = {}
    for side in "lr":
        for name, joint in _LANDMARK_JOINTS.items():
            at[f"{side}_{name}"] = joints_m[f"{side}-{joint}"]
    at["pelvis"] = (at["l_hip"] + at["r_hip"]) / 2
    # Landmarks of the spine stand as high as on the people of the motion data, on this body's own spine.
    column = np.array([at["pelvis"], *(joints_m[name] for name in _CENTRE_JOINTS[1:-1])])
    rise = {name: T_POSE_M[LANDMARKS_41.index(name), 1] for name in ("spine", "chest", "neck", "l_shoulder")}
    shoulders = (at["l_shoulder"] + at["r_shoulder"])[1] / 2
    scale = (shoulders - at["pelvis"][1]) / rise["l_shoulder"]
    for name in ("spine", "chest", "neck"):
        height = at["pelvis"][1] + scale * rise[name]
        at[name] = np.array([0.0, height, np.interp(height, column[:, 1], column[:, 2])])
    head = skin_m[skin_m[:, 1] > at["neck"][1] + 0.05]
    for side, sign in (("l", 1.0), ("r", -1.0)):
        at[f"{side}_ear"] = head[sign * head[:, 0] > _EAR_REACH_M].mean(axis=0)
        foot = skin_m[(sign * skin_m[:, 0] > 0) & (skin_m[:, 1] < at[f"{side}_ankle"][1])]
        back = foot[np.argmin(foot[:, 2])]
        at[f"{side}_heel"] = np.array([back[0], foot[:, 1].min() + _HEEL_HEIGHT_M, back[2]])
    at["head"] = (at["l_ear"] + at["r_ear"]) / 2
    at["nose"] = head[np.argmax(head[:, 2] - 10 * np.abs(head[:, 0]))]
    at["head_top"] = np.array([0.0, head[:, 1].max(), at["head"][2]])
    return np.array([at[name] for name in LANDMARKS_41.names], float)


def _frame(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    x = first / np.linalg.norm(first)
    z = np.cross(x, second)
    z = z / np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z], axis=-1)


def _turns_to_t_pose(rest_m: np.ndarray) -> np.ndarray:
    """(S, 4) turns that straighten arms and legs into the T-pose; the trunk, head and feet stay as they are."""
    at = dict(zip(LANDMARKS_41.names, rest_m, strict=True))
    t_pose = dict(zip(LANDMARKS_41.names, T_POSE_M, strict=True))
    turns = np.tile([1.0, 0.0, 0.0, 0.0], (len(SEGMENTS), 1))

    def put(segment: str, turn: np.ndarray) -> None:
        turns[SEGMENT_NAMES.index(segment)] = turn

    for side, sign in (("l", 1.0), ("r", -1.0)):
        shoulder, elbow, wrist = (at[f"{side}_{name}"] for name in ("shoulder", "elbow", "wrist"))
        out, hinge = np.array([sign, 0.0, 0.0]), np.array([0.0, -sign, 0.0])
        # The elbow's axis goes where the T-pose has it, so that a bent arm bends where elbows do.
        bend = np.cross(elbow - shoulder, wrist - elbow)
        for segment, along in (("upperarm", elbow - shoulder), ("forearm", wrist - elbow)):
            put(f"{side}_{segment}", from_matrix(_frame(out, hinge) @ _frame(along, bend).T))
        palm = at[f"{side}_knuckle"] - wrist, at[f"{side}_thumb"] - wrist
        flat = t_pose[f"{side}_knuckle"] - t_pose[f"{side}_wrist"], t_pose[f"{side}_thumb"] - t_pose[f"{side}_wrist"]
        put(f"{side}_hand", from_matrix(_frame(*flat) @ _frame(*palm).T))
        hip, knee, ankle = (at[f"{side}_{name}"] for name in ("hip", "knee", "ankle"))
        down = np.array([0.0, -1.0, 0.0])
        thigh = between(knee - hip, down)
        put(f"{side}_thigh", thigh)
        put(f"{side}_shank", multiply(between(rotate(thigh, ankle - knee), down), thigh))
    return turns


def _t_pose(rest_m: np.ndarray, to_t_pose: np.ndarray) -> np.ndarray:
    """(41, 3) landmarks with every segment turned into the T-pose."""
    starts = {segment.joint: index for index, segment in enumerate(SEGMENTS)}
    names, parents = LANDMARKS_41.names, LANDMARKS_41.parents
    posed = np.zeros_like(rest_m)
    for joint, parent in enumerate(parents):
        if parent < 0:
            continue
        carrier = starts.get(names[parent], starts.get(names[parents[parent]], 0))
        posed[joint] = posed[parent] + rotate(to_t_pose[carrier], rest_m[joint] - rest_m[parent])
    return posed


# ---- Files ----------------------------------------------------------------------------------------------------------


def read_body(path: Path) -> BaseBody:
    """The base body of a folder with MPFB2's ``body`` and ``rigs``, or of a file that ``write_body`` made.

    Raises FileFormatError when it is neither.
    """
    try:
        return _from_folder(path) if path.is_dir() else _from_file(path)
    except FileNotFoundError as problem:
        raise FileFormatError(
            f"There is no '{problem.filename}'. Give the folder that holds MPFB2's body/base.obj, body/*.target.gz, "
            "body/basemesh_vertex_groups.json and rigs/weights.game_engine.json after --body."
        ) from None
    except _UNREADABLE as problem:
        raise FileFormatError(f"The body '{path}' can't be read: {problem or type(problem).__name__}.") from problem


_UNREADABLE = (
    OSError, EOFError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def _text(path: Path) -> str:
    check_ordinary(path)
    if path.stat().st_size > MAX_BODY_FILE_BYTES:
        raise ValueError(f"{path.name} is far too large")
    if path.suffix != ".gz":
        return path.read_text(encoding="utf-8")
    with gzip.open(path, "rb") as stream:
        content = stream.read(MAX_BODY_FILE_BYTES + 1)
    if len(content) > MAX_BODY_FILE_BYTES:
        raise ValueError(f"{path.name} is far too large")
    return content.decode("utf-8")


def _from_folder(folder: Path) -> BaseBody:
    groups = json_value(_text(folder / "body" / "basemesh_vertex_groups.json"))
    points, faces, group = [], [], ""
    for line in _text(folder / "body" / "base.obj").splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            points.append([float(value) for value in rest.split()[:3]])
        elif word == "g":
            group = rest.strip()
        elif word == "f" and group in LAYERS:
            faces.append([int(corner.split("/")[0]) - 1 for corner in rest.split()])
    raw_m = _UNIT_M * np.array(points)
    if raw_m.ndim != 2 or raw_m.shape[1] != 3 or len(raw_m) > MAX_VERTICES:
        raise ValueError(f"base.obj has not from 1 to {MAX_VERTICES:,} places")

    def members(name: str) -> np.ndarray:
        if not all(0 <= first <= last < len(raw_m) for first, last in groups[name]):
            raise ValueError(f"the group {name!r} names vertices that there are not")
        found = np.concatenate([np.arange(first, last + 1) for first, last in groups[name][:MAX_BONES]])
        if len(found) > MAX_VERTICES:
            raise ValueError(f"the group {name!r} names vertices again and again")
        return found

    kept = [members(name) for name in LAYERS]
    vertices = np.concatenate(kept)
    new_index = np.full(len(raw_m), -1)
    new_index[vertices] = np.arange(len(vertices))

    def gathered(values_m: np.ndarray) -> np.ndarray:
        joints = [values_m[members(f"joint-{name}")].mean(axis=0) for name in _JOINTS]
        return np.concatenate([values_m[vertices], np.array(joints)])

    targets = {}
    shapes = sorted((folder / "body").glob("*.target.gz"))
    if len(shapes) * raw_m.size > _MAX_MOVED:
        raise ValueError(f"{len(shapes)} shapes are more than are read; leave some out")
    for path in shapes:
        delta = np.zeros_like(raw_m)
        for line in _text(path).splitlines():
            if line.strip() and not line.startswith("#"):
                vertex, *move = line.split()
                delta[int(vertex)] = [_UNIT_M * float(value) for value in move]
        targets[path.name.removesuffix(".target.gz")] = gathered(delta)

    table = json_value(_text(folder / "rigs" / f"weights.{_RIG}.json"))["weights"]
    if len(table) > MAX_BONES:
        raise ValueError(f"its rig has more than {MAX_BONES:,} bones")
    dense = np.zeros((len(raw_m), len(table)))
    for bone, pairs in enumerate(table.values()):
        for vertex, weight in pairs:
            dense[vertex, bone] += weight
    dense = dense[vertices]
    bone_index = np.argsort(-dense, axis=1)[:, :_INFLUENCES]
    bone_weight = np.take_along_axis(dense, bone_index, axis=1)
    return BaseBody(
        points_m=gathered(raw_m),
        targets_m=targets,
        faces=new_index[np.array(faces)],
        layer=np.repeat(np.arange(len(LAYERS)), [len(part) for part in kept]),
        bone_names=tuple(table),
        bone_index=bone_index,
        bone_weight=bone_weight / bone_weight.sum(axis=1, keepdims=True),
    )


# A compact file holds places in steps of this.
_QUANTUM_M = 5e-5


def write_body(path: Path, base: BaseBody, targets: tuple[str, ...]) -> None:
    """Write a base body with some of its shapes as one compact ``.npz``."""
    write_arrays(
        path,
        {
            "points_q": np.round(base.points_m / _QUANTUM_M).astype(np.int16),
            "target_names": np.array(targets),
            "targets_q": np.stack([np.round(base.targets_m[name] / _QUANTUM_M) for name in targets]).astype(np.int16),
            "faces": base.faces.astype(np.uint16),
            "layer": base.layer.astype(np.uint8),
            "bone_names": np.array(base.bone_names),
            "bone_index": base.bone_index.astype(np.uint8),
            "bone_weight": np.round(255 * base.bone_weight).astype(np.uint8),
        },
    )


def _from_file(path: Path) -> BaseBody:
    if path.stat().st_size > MAX_BODY_FILE_BYTES:
        raise ValueError("it is far too large")
    data = read_arrays(path, "body")
    if len(data["layer"]) > MAX_VERTICES or data["targets_q"].size > _MAX_MOVED:
        raise ValueError("it has far more than a body has")
    weight = data["bone_weight"].astype(float)
    return BaseBody(
        points_m=_QUANTUM_M * data["points_q"],
        targets_m={
            str(name): _QUANTUM_M * delta for name, delta in zip(data["target_names"], data["targets_q"], strict=True)
        },
        faces=data["faces"].astype(np.int64),
        layer=data["layer"].astype(np.int64),
        bone_names=tuple(str(name) for name in data["bone_names"]),
        bone_index=data["bone_index"].astype(np.int64),
        bone_weight=weight / weight.sum(axis=1, keepdims=True),
    )
