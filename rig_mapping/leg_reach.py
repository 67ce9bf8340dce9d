"""Legs that reach given ankles: two bones solved in their plane, and hips that come down where legs are too short."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..core.rotations import normalised

# A leg may always be stretched so far; further only where the person's own leg is straighter.
_STRETCHED = 0.985
# Hips come down and up again over so long a time about the moment when a leg needs it.
_HIPS_EASE_S = 0.2
# A knee nearer to the line from hip to ankle than this share of the leg doesn't tell its plane; its hinge does.
_STRAIGHT = 0.01


@dataclass(frozen=True, eq=False)
class LegMotion:
    """Joints of one leg, (F, 3) each, metres, world; ``forward`` (F, 3): where its knee points when it bends."""

    hips: np.ndarray
    knees: np.ndarray
    ankles: np.ndarray
    forward: np.ndarray

    @property
    def thigh_m(self) -> np.ndarray:
        """(F,) length of the thigh; a thigh of several bones is a little shorter while they are bent."""
        return np.linalg.norm(self.knees - self.hips, axis=-1)

    @property
    def shank_m(self) -> np.ndarray:
        """(F,) length of the lower leg."""
        return np.linalg.norm(self.ankles - self.knees, axis=-1)

    def bend(self, straight: float = _STRAIGHT) -> np.ndarray:
        """(F, 3) from the line between hip and ankle to the knee; of a leg all but straight, where its hinge bends.

        straight: the share of the leg's length below which the knee's distance from the line tells nothing
        """
        along = normalised(self.ankles - self.hips)
        off = self.knees - self.hips
        off = off - along * np.sum(off * along, axis=-1, keepdims=True)
        near = straight * (self.thigh_m + self.shank_m)[:, None]
        hinge = self.forward - along * np.sum(self.forward * along, axis=-1, keepdims=True)
        return off + np.maximum(near - np.linalg.norm(off, axis=-1, keepdims=True), 0.0) * normalised(hinge)

    def longest_m(self) -> np.ndarray:
        """(F,) how far its ankle may be from its hip; a leg that the person stretches further may do so."""
        now = np.linalg.norm(self.ankles - self.hips, axis=-1)
        return np.maximum(now, _STRETCHED * (self.thigh_m + self.shank_m))


def hips_drop_m(legs: list[LegMotion], targets: list[np.ndarray], fps: float) -> np.ndarray:
    """(F,) how far the hips must come down so that every ankle is within reach of its target, smooth over time.

    targets: (F, 3) where the ankles should be, for each leg
    """
    need = np.zeros(len(targets[0]))
    for leg, target in zip(legs, targets, strict=True):
        apart = leg.hips - target
        longest = leg.longest_m()
        below = np.sqrt(np.maximum(longest**2 - (apart[:, :2] ** 2).sum(axis=1), 0.0))
        short = np.linalg.norm(apart, axis=-1) > longest + 1e-9
        need = np.maximum(need, np.where(short & (apart[:, 2] > 0), apart[:, 2] - below, 0.0))
    if not need.any():
        return need
    reach = max(1, round(_HIPS_EASE_S * fps))
    # The largest need nearby, then a weighted mean over the same stretch: smooth, and nowhere less than the need.
    padded = np.pad(need, 2 * reach, mode="edge")
    largest = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).max(axis=1)
    weights = np.hanning(2 * reach + 3)[1:-1]
    return np.convolve(largest, weights / weights.sum(), mode="valid")


def reached(leg: LegMotion, target: np.ndarray) -> LegMotion:
    """The leg with its ankle at ``target`` (F, 3), or as near as it reaches, its knee bent in the plane that it had."""
    aim = target - leg.hips
    distance = np.linalg.norm(aim, axis=-1)
    thigh, shank = leg.thigh_m, leg.shank_m
    # A hair inside the straight leg, and outside the wholly folded one, where the knee has no plane.
    allowed = np.clip(distance, np.abs(thigh - shank) * (1 + 1e-6) + 1e-9, leg.longest_m() * (1 - 1e-12))
    allowed = np.minimum(allowed, (thigh + shank) * (1 - 1e-9))
    along = normalised(np.where(distance[:, None] > 1e-9, aim, leg.ankles - leg.hips))
    was_along = normalised(leg.ankles - leg.hips)
    turned = _turned_with(was_along, along, leg.bend())
    out = normalised(turned - along * np.sum(turned * along, axis=-1, keepdims=True))
    cosine = np.clip((thigh**2 + allowed**2 - shank**2) / (2 * thigh * allowed), -1.0, 1.0)
    sine = np.sqrt(1 - cosine**2)
    knees = leg.hips + thigh[:, None] * (cosine[:, None] * along + sine[:, None] * out)
    return LegMotion(leg.hips, knees, leg.hips + allowed[:, None] * along, leg.forward)


def _turned_with(a: np.ndarray, b: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """(F, 3) ``vectors`` turned as the smallest turn from unit ``a`` to unit ``b`` does. Rodrigues."""
    axis = np.cross(a, b)
    cosine = np.sum(a * b, axis=-1, keepdims=True)
    across = np.cross(axis, vectors)
    return vectors + across + np.cross(axis, across) / np.maximum(1 + cosine, 1e-9)


def frames_of(leg: LegMotion) -> tuple[np.ndarray, np.ndarray]:
    """(F, 3, 3) for thigh and shank: axes along the bone, across the plane of the knee, and the third."""
    thigh, shank = normalised(leg.knees - leg.hips), normalised(leg.ankles - leg.knees)
    across = normalised(np.cross(leg.ankles - leg.hips, leg.bend()))
    return _axes(thigh, across), _axes(shank, across)


def _axes(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    across = normalised(across - along * np.sum(across * along, axis=-1, keepdims=True))
    return np.stack([along, across, np.cross(along, across)], axis=-1)
