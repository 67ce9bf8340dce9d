"""A run over footage as values: what it begins with, what a step is made of, and when the result is kept."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..setting_ranges import NOT_NEGATIVE, PART, POSITIVE, at_least, check_precision, check_ranges


@dataclass(frozen=True)
class PreparingSettings:
    """What footage is learnt from.

    shortest_s:     a person seen for less than this in a clip is left out
    fewest_seen:    so is one of whom a smaller part of the keypoints is seen
    held_out_part:  of the footage nothing is learnt from this part; the gate looks at it
    block_s:        it is held out in blocks of so many seconds
    margin_s:       nor is anything learnt from what is as near to a block as this
    covered_within: a fitted pose is learnt from while it misses its keypoints by no more than this part of the body's
                    box, in the median,
    agreed_within_m: and while it agrees with the lifter's own word to so much, in the mean over limb joints, aligned
    """

    shortest_s: float = 1.2
    fewest_seen: float = 0.4
    held_out_part: float = 0.15
    block_s: float = 2.0
    margin_s: float = 0.45
    covered_within: float = 0.06
    agreed_within_m: float = 0.045

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "preparing",
            shortest_s=POSITIVE,
            fewest_seen=NOT_NEGATIVE,
            held_out_part=PART,
            block_s=POSITIVE,
            margin_s=NOT_NEGATIVE,
            covered_within=POSITIVE,
            agreed_within_m=POSITIVE,
        )


@dataclass(frozen=True)
class MixSettings:
    """What a step looks at, and how much each of it counts.

    anchor_views:   synthetic views of the motion that travels with Keylift, so that nothing is forgotten
    keep_weight:    of the distance between what is said of these views and what the weights that are begun with say
    footage_views:  synthetic views of motion that was lifted from the footage and fitted
    labelled_views: synthetic views of the studio's own motion capture or animation, where there is any
    runs, run_frames: as many runs of neighbouring frames of the footage itself
    reprojection_weight: of the footage's back-projection, metres at the depth of the body
    pose_weight:    of the distance to where a pose is known: corrected by an artist, or captured beside the film
    bone_weight:    of bone lengths of the footage's poses against those of the body that was fitted to the clip
    acceleration_weight: of second differences between neighbouring frames
    view_uses, pool_blocks: how often a view is learnt from, and out of how many batches' worth it is drawn
    """

    anchor_views: int = 128
    footage_views: int = 128
    labelled_views: int = 128
    runs: int = 12
    run_frames: int = 8
    keep_weight: float = 1.0
    reprojection_weight: float = 0.3
    pose_weight: float = 1.0
    bone_weight: float = 0.5
    acceleration_weight: float = 0.2
    view_uses: int = 4
    pool_blocks: int = 24

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "mix",
            anchor_views=at_least(2),
            footage_views=NOT_NEGATIVE,
            labelled_views=NOT_NEGATIVE,
            runs=NOT_NEGATIVE,
            run_frames=at_least(3),
            keep_weight=NOT_NEGATIVE,
            reprojection_weight=NOT_NEGATIVE,
            pose_weight=NOT_NEGATIVE,
            bone_weight=NOT_NEGATIVE,
            acceleration_weight=NOT_NEGATIVE,
            view_uses=at_least(1),
            pool_blocks=at_least(1),
        )


@dataclass(frozen=True)
class AdaptLoopSettings:
    """AdamW with a short warm-up and a cosine down to nothing."""

    steps: int = 2000
    learning_rate: float = 3e-4
    warm_up_steps: int = 50
    checkpoint_every_s: float = 60.0
    validate_every: int = 100
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "loop",
            steps=at_least(1),
            learning_rate=POSITIVE,
            warm_up_steps=NOT_NEGATIVE,
            checkpoint_every_s=NOT_NEGATIVE,
            validate_every=at_least(1),
            seed=NOT_NEGATIVE,
        )
        check_precision(self.precision)


@dataclass(frozen=True)
class GateSettings:
    """When the new weights count as better.

    least_gain:  the score of held-out footage must fall by this part at least
    most_loss:   errors on held-out motion capture may grow by this part at most
    most_side_effect: trembling, sliding and changing bones may grow by this part at most
    least_sound: where a smaller part of the held-out footage has a pose that can be believed, the footage can't tell
                 by itself
    least_held_out_s: with less held-out footage than this nothing can be told
    guard_views: synthetic views of motion capture that are looked at
    held_out_s:  seconds of held-out footage that are looked at, at most
    """

    least_gain: float = 0.02
    most_loss: float = 0.03
    most_side_effect: float = 0.1
    least_sound: float = 0.6
    least_held_out_s: float = 1.0
    guard_views: int = 4096
    held_out_s: float = 300.0

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "gate",
            least_gain=NOT_NEGATIVE,
            most_loss=NOT_NEGATIVE,
            most_side_effect=NOT_NEGATIVE,
            least_sound=NOT_NEGATIVE,
            least_held_out_s=NOT_NEGATIVE,
            guard_views=at_least(2),
            held_out_s=POSITIVE,
        )


@dataclass(frozen=True)
class AdaptConfig:
    """Everything that a run over footage depends on besides its data.

    name:        what the new weights are called
    base:        a name of weights, or a file (relative to the configuration): what is begun with
    base_sha256: of that file, so that no other one is taken for it
    base_name:   what these weights are called where they are from
    footage_set: the folder that ``keylift adapt`` made of the footage, relative to the configuration
    """

    name: str
    base: str
    base_sha256: str
    footage_set: str
    base_name: str = "base"
    method: str = "adapt"
    preparing: PreparingSettings = field(default_factory=PreparingSettings)
    mix: MixSettings = field(default_factory=MixSettings)
    loop: AdaptLoopSettings = field(default_factory=AdaptLoopSettings)
    gate: GateSettings = field(default_factory=GateSettings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the header of the weights."""
        return asdict(self)
