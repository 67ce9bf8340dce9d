"""Joint sets: what the points of a keypoint layout or a pose are called, and how they hang together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .errors import FileFormatError

MAX_JOINTS = 512


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Named joints in a tree.

    names:            (J,) joint names
    parents:          (J,) index of the parent, -1 = root; a parent comes before its children
    left_right_pairs: pairs of indices (left, right) that a mirror exchanges
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    left_right_pairs: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        count = len(self.names)
        if not 0 < count <= MAX_JOINTS:
            raise FileFormatError(f"A skeleton needs 1 to {MAX_JOINTS} joints, this one has {count}.")
        if len(set(self.names)) != count:
            raise FileFormatError("A skeleton has two joints of the same name.")
        if len(self.parents) != count:
            raise FileFormatError(f"A skeleton has {count} joints but {len(self.parents)} parents.")
        for joint, parent in enumerate(self.parents):
            if not -1 <= parent < joint:
                raise FileFormatError(f"Joint '{self.names[joint]}' must come after its parent in the skeleton.")

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Position of the joint ``name``."""
        return self.names.index(name)

    def indices(self, *names: str) -> list[int]:
        """Positions of several joints."""
        return [self.names.index(name) for name in names]

    def mirrored_order(self) -> np.ndarray:
        """(J,) where each joint goes when left and right are exchanged."""
        order = np.arange(len(self.names))
        for left, right in self.left_right_pairs:
            order[left], order[right] = right, left
        return order


def pairs_by_prefix(names: tuple[str, ...], left: str, right: str) -> tuple[tuple[int, int], ...]:
    """Left/right pairs of joints whose names differ by a prefix only."""
    return tuple(
        (index, names.index(right + name[len(left) :]))
        for index, name in enumerate(names)
        if name.startswith(left) and right + name[len(left) :] in names
    )


def _landmark_tree() -> Skeleton:
    tree = """
        pelvis:-  l_hip:pelvis l_knee:l_hip l_ankle:l_knee l_toe_base:l_ankle l_toe_tip:l_toe_base
        r_hip:pelvis r_knee:r_hip r_ankle:r_knee r_toe_base:r_ankle r_toe_tip:r_toe_base
        spine:pelvis chest:spine neck:chest head:neck head_top:head
        l_clavicle:chest l_shoulder:l_clavicle l_elbow:l_shoulder l_wrist:l_elbow l_knuckle:l_wrist
        l_fingertip:l_knuckle l_thumb:l_wrist
        r_clavicle:chest r_shoulder:r_clavicle r_elbow:r_shoulder r_wrist:r_elbow r_knuckle:r_wrist
        r_fingertip:r_knuckle r_thumb:r_wrist
        nose:head l_eye:head r_eye:head l_ear:head r_ear:head
        l_heel:l_ankle r_heel:r_ankle l_big_toe:l_toe_base r_big_toe:r_toe_base
        l_small_toe:l_toe_base r_small_toe:r_toe_base
    """
    rows = [entry.split(":") for entry in tree.split()]
    names = tuple(name for name, _ in rows)
    parents = tuple(-1 if parent == "-" else names.index(parent) for _, parent in rows)
    return Skeleton(names, parents, pairs_by_prefix(names, "l_", "r_"))


# The landmarks that our own lifter gives: body, feet, hands and face, so that twist and foot direction can be seen.
LANDMARKS_41 = _landmark_tree()

MEDIAPIPE_33_NAMES = tuple(
    """nose left_eye_inner left_eye left_eye_outer right_eye_inner right_eye right_eye_outer left_ear right_ear
    mouth_left mouth_right left_shoulder right_shoulder left_elbow right_elbow left_wrist right_wrist left_pinky
    right_pinky left_index right_index left_thumb right_thumb left_hip right_hip left_knee right_knee left_ankle
    right_ankle left_heel right_heel left_foot_index right_foot_index""".split()
)

COCO_17_NAMES = tuple(
    """nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow left_wrist
    right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle""".split()
)

# The points that the default lifter looks at; a knuckle is the middle of MediaPipe's index and pinky.
LIFTER_21_NAMES = tuple(
    """nose l_ear r_ear l_shoulder r_shoulder l_elbow r_elbow l_wrist r_wrist l_knuckle r_knuckle l_hip r_hip l_knee
    r_knee l_ankle r_ankle l_heel r_heel l_big_toe r_big_toe""".split()
)


def _tree(text: str) -> Skeleton:
    """A skeleton from ``joint:parent`` in order, ``-`` = no parent; sides are told by left_ and right_."""
    rows = [entry.split(":") for entry in text.split()]
    names = tuple(name for name, _ in rows)
    parents = tuple(-1 if parent == "-" else names.index(parent) for _, parent in rows)
    return Skeleton(names, parents, pairs_by_prefix(names, "left_", "right_"))


# Human3.6M's joints as the literature uses them. Its "foot" is the ankle, and its "neck" lies near the nose.
H36M_17 = _tree(
    """
    pelvis:- right_hip:pelvis right_knee:right_hip right_ankle:right_knee
    left_hip:pelvis left_knee:left_hip left_ankle:left_knee
    spine:pelvis thorax:spine neck_nose:thorax head_top:neck_nose
    left_shoulder:thorax left_elbow:left_shoulder left_wrist:left_elbow
    right_shoulder:thorax right_elbow:right_shoulder right_wrist:right_elbow
    """
)

HUMANEVA_15 = _tree(
    """
    pelvis:- thorax:pelvis left_shoulder:thorax left_elbow:left_shoulder left_wrist:left_elbow
    right_shoulder:thorax right_elbow:right_shoulder right_wrist:right_elbow
    left_hip:pelvis left_knee:left_hip left_ankle:left_knee
    right_hip:pelvis right_knee:right_hip right_ankle:right_knee head:thorax
    """
)

MPII_16_NAMES = tuple(
    """right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top right_wrist
    right_elbow right_shoulder left_shoulder left_elbow left_wrist""".split()
)

# Keypoint layouts that a KeypointTrack or a lifter's input may have, by name.
KEYPOINT_LAYOUTS: dict[str, tuple[str, ...]] = {
    "mediapipe33": MEDIAPIPE_33_NAMES,
    "coco17": COCO_17_NAMES,
    "lifter21": LIFTER_21_NAMES,
    "h36m17": H36M_17.names,
    "humaneva15": HUMANEVA_15.names,
    "mpii16": MPII_16_NAMES,
}

# Skeletons that a lifter may give, by name.
SKELETONS: dict[str, Skeleton] = {"landmarks41": LANDMARKS_41, "h36m17": H36M_17, "humaneva15": HUMANEVA_15}


def mirrored_layout(names: tuple[str, ...]) -> np.ndarray:
    """(K,) which point takes each one's place when left and right are exchanged."""
    order = np.arange(len(names))
    for left, right in (*pairs_by_prefix(names, "l_", "r_"), *pairs_by_prefix(names, "left_", "right_")):
        order[left], order[right] = right, left
    return order


def _plain(name: str) -> str:
    return name.replace("left_", "l_", 1).replace("right_", "r_", 1)


def joints_in_both(names: tuple[str, ...], others: tuple[str, ...]) -> list[tuple[int, int]]:
    """Index pairs (in ``names``, in ``others``) of the joints that both have, whether sides are l_ or left_."""
    place = {_plain(name): index for index, name in enumerate(others)}
    return [(index, place[_plain(name)]) for index, name in enumerate(names) if _plain(name) in place]


# Lines to draw between MediaPipe's points, head to foot.
MEDIAPIPE_33_LINES = tuple(
    (MEDIAPIPE_33_NAMES.index(a), MEDIAPIPE_33_NAMES.index(b))
    for a, b in (
        pair.split("-")
        for pair in """left_shoulder-right_shoulder left_shoulder-left_elbow left_elbow-left_wrist
        right_shoulder-right_elbow right_elbow-right_wrist left_wrist-left_index left_wrist-left_pinky
        right_wrist-right_index right_wrist-right_pinky left_shoulder-left_hip right_shoulder-right_hip
        left_hip-right_hip left_hip-left_knee left_knee-left_ankle right_hip-right_knee right_knee-right_ankle
        left_ankle-left_heel left_heel-left_foot_index left_ankle-left_foot_index right_ankle-right_heel
        right_heel-right_foot_index right_ankle-right_foot_index left_ear-left_eye left_eye-nose nose-right_eye
        right_eye-right_ear""".split()
    )
)
