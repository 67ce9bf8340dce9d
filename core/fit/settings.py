"""How much each kind of evidence counts in the fit, as standard deviations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FitSettings:
    """Deviations in metres, seconds and degrees; what is farther off than its deviation counts less and less.

    keypoint_m:           between a keypoint and the site it marks, at the depth of the body
    pinned_m:             of a keypoint that an artist put there, which counts in full however far off it is; a pixel
                          more than that
    detail:               part of the usual error of points of hands and faces against each other which counts as one
    lifted:               part of the error that the lifter expects of itself which counts as one deviation
    direction:            of a bone that the lifter gives, in parts of its length
    acceleration_m_s2:    of limbs; of the trunk
    foothold_m_s:         of a foot in contact
    floor_m:              height of a foot in contact over the floor
    growth:               of a bone's length against what the lifter says, in parts of it
    """

    keypoint_m: float = 0.02
    pinned_m: float = 0.005
    detail: float = 1.0
    lifted: float = 1.5
    direction: float = 0.25
    acceleration_m_s2: float = 12.0
    trunk_acceleration_m_s2: float = 5.0
    foothold_m_s: float = 0.03
    floor_m: float = 0.02
    growth: float = 0.04
    rounds: int = 4
