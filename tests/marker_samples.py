"""The walker as a motion-capture lab would have recorded it: Plug-in Gait's markers on its body, in a C3D file."""

from __future__ import annotations

from pathlib import Path

import ezc3d
import numpy as np

from keylift.core.rotations import rotate
from keylift.core.segments import SEGMENT_NAMES
from keylift.core.skeletons import LANDMARKS_41
from walker import Walk

# Where each marker is stuck: the landmark and segment it is near, and metres from there in the T-pose's axes. Offsets
# to the left; the right side mirrors them.
_ON_EACH_SIDE = {
    "ASI": ("pelvis", "pelvis", (0.120, 0.083, 0.056)),
    "PSI": ("pelvis", "pelvis", (0.040, 0.083, -0.134)),
    "KNE": ("knee", "thigh", (0.057, 0, 0)),
    "ANK": ("ankle", "shank", (0.042, 0, 0)),
    "TOE": ("toe_base", "foot", (0, 0.015, 0)),
    "HEE": ("heel", "foot", (0, 0.045, 0)),
    "SHO": ("shoulder", "chest", (0, 0.050, 0)),
    "ELB": ("elbow", "upperarm", (0, 0.042, 0)),
    "WRA": ("wrist", "forearm", (0, 0, 0.03)),
    "WRB": ("wrist", "forearm", (0, 0, -0.03)),
    "FIN": ("knuckle", "hand", (0, 0, 0)),
    "FHD": ("head", "head", (0.070, 0.045, 0.085)),
    "BHD": ("head", "head", (0.065, 0.045, -0.085)),
}
_IN_THE_MIDDLE = {
    "C7": ("neck", "chest", (0, 0.02, -0.07)),
    "CLAV": ("neck", "chest", (0, -0.02, 0.07)),
    "T10": ("chest", "chest", (0, 0, -0.11)),
    "STRN": ("chest", "chest", (0, 0, 0.11)),
}
_ONE_OF_A_KIND = ("pelvis", "chest", "head", "neck")
Z_UP_FROM_Y_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def plug_in_gait_markers(walk: Walk) -> dict[str, np.ndarray]:
    """Label -> (F, 3) metres, in the walk's y-up world."""
    markers = {}

    def stick(label: str, landmark: str, segment: str, offset: np.ndarray) -> None:
        turn = walk.turns[:, SEGMENT_NAMES.index(segment)]
        markers[label] = walk.positions_m[:, LANDMARKS_41.index(landmark)] + rotate(turn, offset)

    for label, (landmark, segment, offset) in _IN_THE_MIDDLE.items():
        stick(label, landmark, segment, np.array(offset))
    for side, letter, sign in (("l", "L", 1), ("r", "R", -1)):
        for label, (landmark, segment, offset) in _ON_EACH_SIDE.items():
            near = landmark if landmark in _ONE_OF_A_KIND else f"{side}_{landmark}"
            on = segment if segment in _ONE_OF_A_KIND else f"{side}_{segment}"
            stick(letter + label, near, on, np.array(offset) * [sign, 1, 1])
    return markers


def write_c3d(
    path: Path,
    markers: dict[str, np.ndarray],
    fps: float,
    unit: str = "mm",
    up: str = "z",
    says_up: bool = True,
    prefix: str = "Walker:",
) -> None:
    """Markers (F, 3) metres, y up, as a lab writes them: NaN becomes a gap, z (or y) points up."""
    scale = {"mm": 1000.0, "m": 1.0, "": 1000.0}[unit]
    axes = Z_UP_FROM_Y_UP if up == "z" else np.eye(3)
    file = ezc3d.c3d()
    file["parameters"]["POINT"]["RATE"]["value"] = [fps]
    file["parameters"]["POINT"]["UNITS"]["value"] = [unit] if unit else []
    file["parameters"]["POINT"]["LABELS"]["value"] = [prefix + label for label in markers]
    if says_up:
        file.add_parameter("POINT", "X_SCREEN", ["+X"])
        file.add_parameter("POINT", "Y_SCREEN", [f"+{up.upper()}"])
    places = np.stack([scale * place @ axes.T for place in markers.values()])
    file["data"]["points"] = np.concatenate([places.transpose(2, 0, 1), np.ones((1, *places.shape[:2]))])
    file.write(str(path))
