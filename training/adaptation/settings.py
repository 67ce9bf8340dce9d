"""How a lifter is adapted to one clip, and when the result is kept."""

from __future__ import annotations

from dataclasses import dataclass

from ..setting_ranges import NOT_NEGATIVE, POSITIVE, at_least, check_ranges


@dataclass(frozen=True)
class AdaptSettings:
    """Steps, terms and the gate.

    steps:             of AdamW at most; the time budget may end it sooner
    runs, run_frames:  each step looks at so many runs of neighbouring frames of the clip
    views:             synthetic views in each step
    reprojection_weight: of the clip's back-projection, metres at the depth of the body
    bone_weight:       of mean bone lengths against those of the synthetic views (the paper's term)
    constancy_weight:  of each bone against its mean over the clip, and of left against right
    acceleration_weight: of second differences between neighbouring frames
    shortest_s:        clips shorter than this are not adapted to
    fewest_seen:       nor are those of which a smaller part of the keypoints is seen
    longest_s:         of longer clips only so much is learnt from and looked at
    block_s, held_out_part: frames are held out in blocks of so many seconds, this part of all
    margin_s:          frames as near to a block as this are not learnt from either
    least_gain:        held-out reprojection must fall by this part at least
    most_loss:         errors on synthetic views may grow by this part at most
    guard_views:       synthetic views that the guard looks at
    """

    steps: int = 240
    learning_rate: float = 3e-5
    runs: int = 16
    run_frames: int = 8
    views: int = 128
    reprojection_weight: float = 1.0
    bone_weight: float = 0.5
    constancy_weight: float = 0.5
    acceleration_weight: float = 0.2
    shortest_s: float = 1.5
    longest_s: float = 90.0
    fewest_seen: float = 0.4
    block_s: float = 0.6
    held_out_part: float = 0.2
    margin_s: float = 0.15
    least_gain: float = 0.02
    most_loss: float = 0.03
    guard_views: int = 1024

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "adapt",
            steps=at_least(1),
            learning_rate=POSITIVE,
            runs=at_least(1),
            run_frames=at_least(3),
            views=at_least(2),
            reprojection_weight=NOT_NEGATIVE,
            bone_weight=NOT_NEGATIVE,
            constancy_weight=NOT_NEGATIVE,
            acceleration_weight=NOT_NEGATIVE,
            shortest_s=POSITIVE,
            longest_s=POSITIVE,
            fewest_seen=NOT_NEGATIVE,
            block_s=POSITIVE,
            held_out_part=POSITIVE,
            margin_s=NOT_NEGATIVE,
            least_gain=NOT_NEGATIVE,
            most_loss=NOT_NEGATIVE,
            guard_views=at_least(2),
        )
