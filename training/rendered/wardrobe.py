"""What a body looks like: which parts of its mesh are seen, where clothes hang, and in which colours."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core.skeletons import LANDMARKS_41
from .body import (
    CARRIERS,
    HAIR,
    LEFT_EYE,
    RIGHT_EYE,
    SKIN,
    SKIRT,
    TIGHTS,
    TWIST_PIECES,
    TWISTING,
    Body,
    carrier_segment,
)

_SHIRT = ("spine", "chest", "clavicle")
_HIPS = ("pelvis",)
# Shoes are so much thicker than feet.
_SHOE_M = 0.006
# Skin below cloth is drawn in a little, so that it never shows through.
_BELOW_CLOTH_M = 0.004


@dataclass(frozen=True, eq=False)
class DressedBody:
    """A body's mesh as it is drawn.

    body:       whose it is
    rest_m:     (V, 3) vertices in the rest pose, clothes and shoes put on
    faces:      (N, 4) those that are drawn
    colours:    (V, 3) in [0, 1], as on a screen
    sag_m:      (V,) how far cloth hangs down from where the body carries it
    """

    body: Body
    rest_m: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    sag_m: np.ndarray


def dress(body: Body, chance: np.random.Generator) -> DressedBody:
    """Put clothes on a body: tight ones, loose ones, or a skirt, in colours as they come."""
    segment, parts = _segments(body)
    layer = body.layer
    loose_top, loose_bottom, skirt = chance.random() < 0.7, chance.random() < 0.65, chance.random() < 0.2
    long_sleeves, long_legs = chance.random() < 0.5, chance.random() < 0.75
    long_hair = chance.random() < 0.35
    top = np.isin(segment, _SHIRT) | _first_part(segment, parts, "upperarm", 1.0 if long_sleeves else 0.55)
    top |= long_sleeves & _first_part(segment, parts, "forearm", 0.9)
    bottom = np.isin(segment, _HIPS) | _first_part(segment, parts, "thigh", 1.0 if long_legs else 0.75)
    bottom |= long_legs & _first_part(segment, parts, "shank", 0.92)
    feet = np.isin(segment, ("foot", "toes"))

    skin = _skin_colour(chance)
    colours = np.tile(skin, (len(layer), 1))
    cloth_top, cloth_bottom = _cloth_colour(chance), _cloth_colour(chance)
    pattern = _pattern(body, chance)
    colours[top] = np.clip(cloth_top * pattern[top, None], 0, 1)
    colours[bottom] = cloth_bottom
    colours[feet & (layer != SKIRT)] = _cloth_colour(chance)
    colours[layer == SKIRT] = cloth_bottom
    hair = _hair_colour(chance)
    _paint_head(body, colours, hair, skin)

    hangs = 0.008 + chance.random() * 0.03
    out = np.zeros(len(layer))
    out[(layer == TIGHTS) & (top | bottom)] = 0.004
    out[(layer == TIGHTS) & top] += hangs * loose_top
    out[(layer == TIGHTS) & bottom] += 0.8 * hangs * loose_bottom
    out[layer == SKIRT] = 0.006
    wrinkled = out * np.clip(1 + 0.45 * _wrinkles(body.vertices_m, chance), 0.2, 1.8)
    wrinkled[(layer == SKIN) & feet] = _SHOE_M
    wrinkled[(layer == SKIN) & (top | bottom)] = -_BELOW_CLOTH_M
    shown = np.zeros(len(layer), bool)
    shown[np.isin(layer, (SKIN, LEFT_EYE, RIGHT_EYE))] = True
    shown[(layer == TIGHTS) & ((top & loose_top) | (bottom & loose_bottom))] = True
    shown[layer == SKIRT] = skirt
    shown[_hair_to_the_shoulders(body)] = long_hair
    sag_m = np.where((layer == TIGHTS) | (layer == SKIRT), 0.35 * np.clip(out - 0.006, 0, None), 0.0)
    return DressedBody(
        body=body,
        rest_m=body.vertices_m + wrinkled[:, None] * body.normals,
        faces=body.faces[shown[body.faces].all(axis=1)],
        colours=colours,
        sag_m=sag_m,
    )


def _segments(body: Body) -> tuple[np.ndarray, np.ndarray]:
    """(V,) the segment that holds most of a vertex, without its side, and (V,) how far along it is held, 0 to 1."""
    names = [carrier_segment(name).split("_")[-1] for name in CARRIERS]
    kinds = sorted(set(names))
    share = np.stack([body.weights[:, [n == kind for n in names]].sum(axis=1) for kind in kinds], axis=1)
    segment = np.array(kinds)[share.argmax(axis=1)]
    parts = np.zeros(len(segment))
    for kind in TWISTING:
        own = [column for column, name in enumerate(names) if name == kind]
        places = np.array([int(CARRIERS[column].split(".")[1]) / (TWIST_PIECES - 1) for column in own])
        held = body.weights[:, own]
        mine = segment == kind
        parts[mine] = ((held @ places) / np.maximum(held.sum(axis=1), 1e-6))[mine]
    return segment, parts


def _hair_to_the_shoulders(body: Body) -> np.ndarray:
    """(V,) the part of the hair that needn't swing and leaves the face free."""
    at = dict(zip(LANDMARKS_41.names, body.rest_m, strict=True))
    points = body.vertices_m
    before_face = (points[:, 2] > at["head"][2] + 0.045) & (points[:, 1] < at["l_eye"][1] + 0.045)
    return np.asarray((body.layer == HAIR) & (points[:, 1] > at["neck"][1] + 0.03) & ~before_face)


def _first_part(segment: np.ndarray, parts: np.ndarray, name: str, until: float) -> np.ndarray:
    return (segment == name) & (parts <= until)


def _wrinkles(points_m: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """(V,) smooth noise about 0."""
    noise = np.zeros(len(points_m))
    for length_m in (0.25, 0.12, 0.07):
        for _ in range(3):
            way = chance.normal(size=3)
            noise += np.sin(points_m @ (way / np.linalg.norm(way)) * (2 * np.pi / length_m) + chance.uniform(0, 6.3))
    return noise / 3


def _pattern(body: Body, chance: np.random.Generator) -> np.ndarray:
    """(V,) brightness of the shirt's pattern: plain, striped, or blotched."""
    kind = chance.integers(3)
    if kind == 0:
        return np.ones(len(body.layer))
    if kind == 1:
        axis = np.array([0.0, 1.0, 0.0]) if chance.random() < 0.5 else np.array([1.0, 0.0, 0.0])
        stripes = np.sin(body.vertices_m @ axis * (2 * np.pi / chance.uniform(0.06, 0.15)))
        return np.asarray(1 - 0.35 * (stripes > 0))
    return np.asarray(1 - 0.3 * (_wrinkles(body.vertices_m, chance) > 0.3))


def _skin_colour(chance: np.random.Generator) -> np.ndarray:
    light, dark = np.array([0.93, 0.76, 0.66]), np.array([0.36, 0.23, 0.16])
    share = chance.random()
    return np.asarray(light + share * (dark - light))


def _hair_colour(chance: np.random.Generator) -> np.ndarray:
    colours = np.array(
        [[0.10, 0.08, 0.07], [0.24, 0.16, 0.10], [0.45, 0.30, 0.17], [0.72, 0.58, 0.35], [0.6, 0.6, 0.6]]
    )
    return np.asarray(colours[chance.integers(len(colours))])


def _cloth_colour(chance: np.random.Generator) -> np.ndarray:
    """A colour with some chance of white, black and grey, as in wardrobes."""
    grey, tone = chance.uniform(0.08, 0.92), chance.random(3)
    return np.asarray(grey + chance.choice([0.05, 0.5, 0.9]) * (0.1 + 0.8 * tone - grey))


def _paint_head(body: Body, colours: np.ndarray, hair: np.ndarray, skin: np.ndarray) -> None:
    """Hair as a cap, brows, lips and eyes: what a detector of faces looks for."""
    at = dict(zip(LANDMARKS_41.names, body.rest_m, strict=True))
    points, layer = body.vertices_m, body.layer
    eyes, head = (at["l_eye"] + at["r_eye"]) / 2, at["head"]
    up_m, ahead_m, aside_m = (points - eyes)[:, 1], (points - head)[:, 2], np.abs(points[:, 0])
    on_head = (layer == SKIN) & (points[:, 1] > at["neck"][1] + 0.07)
    # The hairline rises from the nape over the ears to the brow.
    line = np.interp(ahead_m, [-0.09, -0.02, 0.03, 0.06, 0.10], [-0.075, -0.05, 0.03, 0.055, 0.06])
    ear = aside_m > 0.93 * abs(at["l_ear"][0])
    colours[on_head & (up_m > line) & ~ear] = hair
    brow = on_head & (np.abs(up_m - 0.021) < 0.005) & (np.abs(aside_m - 0.033) < 0.02) & (ahead_m > 0.05)
    colours[brow] = 0.6 * hair + 0.2 * skin
    nose = at["nose"]
    lips = on_head & (np.abs(points[:, 1] - nose[1] + 0.037) < 0.008) & (aside_m < 0.024) & (points[:, 2] > eyes[2])
    colours[lips] = 0.55 * skin + np.array([0.3, 0.06, 0.08])
    colours[layer == HAIR] = hair
    for which in (LEFT_EYE, RIGHT_EYE):
        eye = layer == which
        colours[eye] = 0.93
        centre = points[eye].mean(axis=0)
        front = points[:, 2] - centre[2]
        across = np.linalg.norm(points[:, :2] - centre[:2], axis=1)
        colours[eye & (front > 0) & (across < 0.0065)] = (0.18, 0.13, 0.10)
