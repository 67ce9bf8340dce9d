"""Landmarks from the marker set of Vicon's Plug-in Gait (Full Body), joint centres approximated in simple ways.

Hip centres: Harrington et al., "Prediction of the hip joint centre in adults, children, and patients with cerebral
palsy based on magnetic resonance imaging", Journal of Biomechanics 40 (2007): from pelvic width and depth. All other
joints: half a joint's width (grown people's, and half a marker) from the marker along the joint's axis; nobody measured
the person, so expect 1 to 2 cm. Marker names and places: Vicon, Plug-in Gait Reference Guide.
"""

from __future__ import annotations

import numpy as np

from ...core.rotations import between, normalised, rotate
from .derived_landmarks import body_frame, frame_ahead

_SIDES = (("l", "L", 1.0), ("r", "R", -1.0))
_BOTH = ("ASI", "KNE", "ANK", "TOE", "HEE", "SHO", "ELB", "WRA", "WRB", "FHD", "BHD")
_PELVIS_BACK = ("LPSI", "RPSI")
_SACRUM = "SACR"
_TRUNK = ("C7", "CLAV", "T10", "STRN")
LABELS = tuple(f"{side}{name}" for side in "LR" for name in _BOTH) + _TRUNK
OPTIONAL_LABELS = (*_PELVIS_BACK, _SACRUM, "LFIN", "RFIN")

# From the skin to the joint's centre, a marker's 7 mm included.
_KNEE_M, _ANKLE_M, _ELBOW_M, _SHOULDER_M = 0.057, 0.042, 0.042, 0.050
# The head band sits above the ears, the toe marker on top of the foot, the heel marker as high as that.
_BAND_ABOVE_EARS_M, _TOE_MARKER_ABOVE_BALL_M, _HEEL_MARKER_ABOVE_HEEL_M = 0.045, 0.015, 0.045
# The upper lumbar spine between the hips (0) and the middle of the chest (1); the clavicle's inner end between the neck
# (0) and the shoulder (1): as on the mean body.
_SPINE_PART, _CLAVICLE_PART = 0.62, 0.12
_CLAVICLE_M = np.array([0.0, -0.018, -0.016])
# Sines of an elbow's bend between which its plane gains the word about the elbow's axis.
_STRAIGHT, _BENT = 0.10, 0.35
# Bones end in the centres that are sought, so they are found in rounds; after these nothing moves by a millimetre.
_ROUNDS = 6


def missing_labels(labels: tuple[str, ...]) -> list[str]:
    """Labels that are needed and not among ``labels``; the sacrum's one may stand in for the two behind the hips."""
    missing = sorted(set(LABELS) - set(labels))
    if _SACRUM not in labels:
        missing += sorted(set(_PELVIS_BACK) - set(labels))
    return missing


def _pelvis(at: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(F, 3, 3) pelvis axes left, up, forward, and the hip centres."""
    front = (at["LASI"] + at["RASI"]) / 2
    back = at[_SACRUM] if _PELVIS_BACK[0] not in at else (at["LPSI"] + at["RPSI"]) / 2
    left = normalised(at["LASI"] - at["RASI"])
    up = normalised(np.cross(front - back, left))
    axes = np.stack([left, up, np.cross(left, up)], axis=-1)
    width = np.nanmedian(np.linalg.norm(at["LASI"] - at["RASI"], axis=-1))
    depth = np.nanmedian(np.linalg.norm(front - back, axis=-1))
    out, down, behind = 0.33 * width + 0.0073, 0.30 * width + 0.0109, 0.24 * depth + 0.0099
    return axes, {f"{side}_hip": front + axes @ np.array([sign * out, -down, -behind]) for side, _, sign in _SIDES}


def _across(direction: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The part of ``direction`` at right angles to ``along``, at length 1."""
    along = normalised(along)
    return normalised(direction - np.sum(direction * along, axis=-1, keepdims=True) * along)


def _beside(marker: np.ndarray, width_m: float, above: np.ndarray, outwards: np.ndarray) -> np.ndarray:
    """(F, 3) a joint's centre: ``width_m`` inwards of its marker, square to the bone from ``above``.

    outwards: (F, 3) about where the marker lies from the centre
    """
    centre = marker
    for _ in range(_ROUNDS):
        centre = marker - width_m * _across(outwards, centre - above)
    return centre


def _leg(
    at: dict[str, np.ndarray], side: str, label: str, sign: float, hip: np.ndarray, pelvis: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Knee, ankle, ball and heel of one leg, and (F, 3, 3) the foot's axes."""
    knee, ankle = at[f"{label}KNE"], at[f"{label}ANK"]
    # Toe and heel markers are at one height above the sole when the foot is flat.
    foot = frame_ahead(at[f"{label}TOE"] - at[f"{label}HEE"], knee - ankle)
    outwards = sign * normalised(pelvis[..., 0] + foot[..., 0])
    knee_centre = _beside(knee, _KNEE_M, hip, outwards)
    return {
        f"{side}_hip": hip,
        f"{side}_knee": knee_centre,
        f"{side}_ankle": _beside(ankle, _ANKLE_M, knee_centre, sign * foot[..., 0]),
        f"{side}_toe_base": at[f"{label}TOE"] - _TOE_MARKER_ABOVE_BALL_M * foot[..., 1],
        f"{side}_heel": at[f"{label}HEE"] - _HEEL_MARKER_ABOVE_HEEL_M * foot[..., 1],
    }, foot


def _elbow(marker: np.ndarray, shoulder: np.ndarray, wrist: np.ndarray, sign: float, chest: np.ndarray) -> np.ndarray:
    """(F, 3) the elbow's centre. Its outer side is up in a T-pose, and from there wherever the arm goes without
    twisting; a bent elbow shows its axis."""
    centre = marker
    for _ in range(_ROUNDS):
        upper, lower = centre - shoulder, wrist - centre
        untwisted = rotate(between(sign * chest[..., 0], upper), chest[..., 1])
        hinge = sign * np.cross(normalised(lower), normalised(upper))
        bend = np.linalg.norm(hinge, axis=-1, keepdims=True)
        trust = np.clip((bend - _STRAIGHT) / (_BENT - _STRAIGHT), 0.0, 1.0)
        outwards = trust * normalised(hinge) + (1 - trust) * untwisted
        centre = _beside(marker, _ELBOW_M, shoulder, outwards)
    return centre


def _arm(at: dict[str, np.ndarray], side: str, label: str, sign: float, chest: np.ndarray) -> dict[str, np.ndarray]:
    shoulder = at[f"{label}SHO"] - _SHOULDER_M * chest[..., 1]
    wrist = (at[f"{label}WRA"] + at[f"{label}WRB"]) / 2
    found = {
        f"{side}_shoulder": shoulder,
        f"{side}_elbow": _elbow(at[f"{label}ELB"], shoulder, wrist, sign, chest),
        f"{side}_wrist": wrist,
    }
    if f"{label}FIN" in at:
        found[f"{side}_knuckle"] = at[f"{label}FIN"]
    return found


def landmarks(at: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Landmarks, and the frames of head and feet, from markers.

    at:      label -> (F, 3) metres, any right-handed axes; all of ``LABELS``
    returns: landmark -> (F, 3), and head, l_foot, r_foot -> (F, 3, 3) axes left, up, forward
    """
    pelvis, hips = _pelvis(at)
    points, frames = dict(hips), {}
    points["pelvis"] = (hips["l_hip"] + hips["r_hip"]) / 2
    points["chest"] = (at["T10"] + at["STRN"]) / 2
    points["neck"] = (at["C7"] + at["CLAV"]) / 2
    points["spine"] = points["pelvis"] + _SPINE_PART * (points["chest"] - points["pelvis"])
    chest = body_frame(at["LSHO"] - at["RSHO"], points["neck"] - points["chest"])
    band = (at["LFHD"] + at["RFHD"] + at["LBHD"] + at["RBHD"]) / 4
    ahead = at["LFHD"] + at["RFHD"] - at["LBHD"] - at["RBHD"]
    across = at["LFHD"] + at["LBHD"] - at["RFHD"] - at["RBHD"]
    frames["head"] = frame_ahead(ahead, np.cross(ahead, across))
    points["head"] = band - _BAND_ABOVE_EARS_M * frames["head"][..., 1]
    for side, label, sign in _SIDES:
        leg, frames[f"{side}_foot"] = _leg(at, side, label, sign, hips[f"{side}_hip"], pelvis)
        points |= leg | _arm(at, side, label, sign, chest)
        collar = points[f"{side}_shoulder"] - points["neck"]
        points[f"{side}_clavicle"] = points["neck"] + _CLAVICLE_PART * collar + chest @ _CLAVICLE_M
    return points, frames
