"""How long the lens is, told from how a body looks through it.

A person who comes nearer grows, and a hand stretched towards the camera looks large; how much says how far away they
are, and so how wide the lens sees. On most footage that is a weak hint, so it is weighed against what cameras usually
are. Where it matters, a camera file or Blender's solved camera is far better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .camera import DEFAULT_FIELD_OF_VIEW_DEG, Camera
from .fit.evidence import disagreement
from .fit.fitting import fit_body
from .fit.settings import FitSettings
from .lift import bridged_body, evidence_of
from .progress import Progress, report, silent
from .tracks import KeypointTrack

if TYPE_CHECKING:
    from .lifter.lifting import RayLifter

_FIELDS_OF_VIEW_DEG = (28.0, 36.0, 46.0, 57.0, 70.0, 84.0)
# Lenses on people are within about a third of the usual one.
_USUAL_DEVIATION = 0.3
# Errors of frames closer than this are one error.
_INDEPENDENT_S = 1.5
_MOST_FRAMES = 240


def estimate_camera(track: KeypointTrack, lifter: RayLifter, progress: Progress = silent) -> Camera:
    """The camera without distortion that ``track`` agrees best with, weighed against the usual field of view.

    Fits the body under several lenses and takes the least disagreement, between them by a parabola.
    """
    from .lifter.lifting import lift_rays
    from .lifter.ray_windows import lifter_points

    xy_px, confidence = lifter_points(track)
    settings = FitSettings()
    rows = slice(None)
    if len(track.time_s) > _MOST_FRAMES:
        # The part in which most is seen.
        seen = np.cumsum(np.append(0, track.seen))
        first = int(np.argmax(seen[_MOST_FRAMES:] - seen[:-_MOST_FRAMES]))
        rows = slice(first, first + _MOST_FRAMES)
    log_focal, cost = [], []
    for done, degrees in enumerate(_FIELDS_OF_VIEW_DEG):
        camera = Camera.guessed(track.size_px, degrees)
        rays = camera.rays(xy_px)
        body = bridged_body(lift_rays(lifter, rays, confidence, track.time_s), track.seen, track.time_s)
        evidence = evidence_of(body, rays, confidence, track).of(rows)
        found = fit_body(evidence, settings)
        span_s = max(float(evidence.time_s[-1] - evidence.time_s[0]), _INDEPENDENT_S)
        log_focal.append(np.log(camera.focal_px[0]))
        cost.append(disagreement(found.positions_m, evidence, settings) * span_s / _INDEPENDENT_S)
        report(progress, done + 1, len(_FIELDS_OF_VIEW_DEG))
    usual = np.log(Camera.guessed(track.size_px, DEFAULT_FIELD_OF_VIEW_DEG).focal_px[0])
    at = np.array(log_focal)
    total = np.array(cost) + ((at - usual) / _USUAL_DEVIATION) ** 2 / 2
    best = int(np.clip(np.argmin(total), 1, len(at) - 2))
    a, b, _ = np.polyfit(at[best - 1 : best + 2], total[best - 1 : best + 2], 2)
    log_best = np.clip(-b / (2 * a), at[best + 1], at[best - 1]) if a > 0 else at[int(np.argmin(total))]
    focal = float(np.exp(log_best))
    width, height = track.size_px
    return Camera(track.size_px, (focal, focal), (width / 2, height / 2))
