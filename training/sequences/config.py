"""The settings of a run over whole sequences, as in the paper."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from ..setting_ranges import CHANCE_BELOW_1, NOT_NEGATIVE, ODD, PART, POSITIVE, at_least, check_precision, check_ranges
from .keypoint_noise import KeypointNoise


@dataclass(frozen=True)
class FilmedData:
    """Human3.6M, HumanEva or a custom set, in the .npz files that the field exchanges; paths relative to the file.

    kind:                 human36m, humaneva or custom
    keypoints:            data_2d_*.npz
    poses:                data_3d_*.npz; without, everything is unlabelled
    cameras:              Human3.6M's metadata.xml, or a cameras.toml (docs/file-formats.md)
    skeleton:             name of the joints in ``poses``; empty = the kind's own
    keypoint_layout:      name of the keypoints' layout; empty = as the file says
    score:                learn from each keypoint's score too, the third value in ``keypoints``; False = x and y alone
    *_subjects:           who is learnt from with labels, without, validated on, tested on
    unlabelled_keypoints: further data_2d_*.npz to learn from without labels
    actions:              only these (text before the first space); empty = all
    subset, downsample:   part of each labelled training sequence; every n-th frame of all
    """

    kind: str
    keypoints: str
    poses: str = ""
    cameras: str = ""
    skeleton: str = ""
    keypoint_layout: str = ""
    score: bool = False
    train_subjects: tuple[str, ...] = ()
    valid_subjects: tuple[str, ...] = ()
    test_subjects: tuple[str, ...] = ()
    unlabelled_subjects: tuple[str, ...] = ()
    unlabelled_keypoints: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    subset: float = 1.0
    downsample: int = 1
    licence: str = ""
    acknowledgement: str = ""

    def __post_init__(self) -> None:
        check_ranges(self, "data", subset=PART, downsample=at_least(1))


@dataclass(frozen=True)
class MocapData:
    """Motion capture, filmed by synthetic cameras.

    train, valid, test: each a landmark .npz, or a folder of .bvh or .c3d files; paths relative to the file
    joint_map:          a TOML file that names joints (BVH) or labels (C3D) of rigs that are not known by themselves
    leave_out_sources:  collections of a landmark .npz to leave out of training
    skeleton:           joints to learn: h36m17 or landmarks41
    keypoint_layout:    what the camera sees: h36m17 or coco17
    fps:                rate that motion is brought to
    cameras:            synthetic cameras round each clip
    camera_seed:        which cameras they are
    labelled_part:      part of the training frames with labels (whole clips); the rest is 2D only
    labelled_by:        person = one person after another gets labels, as in a studio; clip = clips of anybody
    label_seed:         whose, or which, these are
    noise:              how far the keypoints are off
    """

    kind: str
    train: str
    valid: str
    test: str
    joint_map: str = ""
    leave_out_sources: tuple[str, ...] = ()
    skeleton: str = "h36m17"
    keypoint_layout: str = "h36m17"
    fps: float = 30.0
    cameras: int = 2
    camera_seed: int = 1
    labelled_part: float = 1.0
    labelled_by: str = "person"
    label_seed: int = 1
    noise: KeypointNoise = field(default_factory=KeypointNoise)
    licence: str = ""
    acknowledgement: str = ""

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "data",
            fps=POSITIVE,
            cameras=at_least(1),
            camera_seed=NOT_NEGATIVE,
            labelled_part=PART,
            label_seed=NOT_NEGATIVE,
        )
        sizes = {"constant": NOT_NEGATIVE, "smooth": NOT_NEGATIVE, "jitter": NOT_NEGATIVE}
        check_ranges(self.noise, "data.noise", **sizes, memory_frames=NOT_NEGATIVE)


@dataclass(frozen=True)
class SequenceNetwork:
    """Sizes of the lifter; the receptive field is the product of the widths, in frames."""

    widths: tuple[int, ...] = (3, 3, 3, 3, 3)
    channels: int = 1024
    dropout: float = 0.25
    causal: bool = False
    dense: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "network", widths=ODD, channels=at_least(1), dropout=CHANCE_BELOW_1)


@dataclass(frozen=True)
class SequenceLoop:
    """Adam with amsgrad, a learning rate that falls by a factor each epoch, batches of output frames.

    batch:            labelled output frames in a step (and as many unlabelled ones)
    stride:           output frames that one chunk gives
    flip:             learn every chunk twice, plain and mirrored
    test_time_flip:   average with the mirrored prediction when evaluating
    steps_per_epoch:  0 = as many as the labelled chunks fill; else that many, over and over the labelled chunks
    validate_every:   epochs from one validation to the next
    precision:        auto (bfloat16 where the device is made for it), float32 or bfloat16
    """

    epochs: int = 60
    batch: int = 1024
    learning_rate: float = 1e-3
    learning_rate_decay: float = 0.95
    stride: int = 1
    flip: bool = True
    test_time_flip: bool = True
    steps_per_epoch: int = 0
    checkpoint_every_s: float = 60.0
    validate_every: int = 1
    precision: str = "auto"
    seed: int = 1

    def __post_init__(self) -> None:
        check_ranges(
            self,
            "loop",
            epochs=at_least(1),
            # One output frame has no batch statistics.
            batch=at_least(2),
            learning_rate=POSITIVE,
            learning_rate_decay=PART,
            stride=at_least(1),
            steps_per_epoch=NOT_NEGATIVE,
            checkpoint_every_s=NOT_NEGATIVE,
            validate_every=at_least(1),
        )
        check_precision(self.precision)


@dataclass(frozen=True)
class SemiSupervised:
    """Learning from 2D alone by back-projection.

    enabled:           whether unlabelled sequences are used at all
    warm_up_epochs:    epochs of labelled batches alone at the start
    projection:        compare the projected pose with the keypoints; False = an ablation
    bone_term:         compare mean bone lengths with the labelled ones; False = an ablation
    bone_weight:       of that term; 1 in the paper
    linear_projection: leave the lens distortion out
    """

    enabled: bool = False
    warm_up_epochs: int = 1
    projection: bool = True
    bone_term: bool = True
    bone_weight: float = 1.0
    linear_projection: bool = False

    def __post_init__(self) -> None:
        check_ranges(self, "semi_supervised", warm_up_epochs=NOT_NEGATIVE, bone_weight=NOT_NEGATIVE)


@dataclass(frozen=True)
class SequenceConfig:
    """Everything that a run over sequences depends on besides its data."""

    name: str
    method: str
    data: FilmedData | MocapData
    network: SequenceNetwork = field(default_factory=SequenceNetwork)
    loop: SequenceLoop = field(default_factory=SequenceLoop)
    semi_supervised: SemiSupervised = field(default_factory=SemiSupervised)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the header of the weights."""
        return asdict(self)
