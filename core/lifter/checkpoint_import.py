"""Published checkpoints of the paper, brought into our weights format.

Their sizes are told by the shapes of their parameters. What the shapes don't tell, the owner has to say: which points
go in, and whether the network looks ahead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import WeightsError
from ..restricted_pickle import BAD_FILE
from ..skeletons import KEYPOINT_LAYOUTS, SKELETONS, Skeleton
from ..source import sha256_of
from ..torch_archive import MAX_FILE_BYTES, SavedTensor, read_torch_archive, unreadable
from .network import MAX_PARAMETERS, MAX_RECEPTIVE_FIELD, LifterConfig

INPUT_LAYOUTS = ("coco17", "h36m17", "humaneva15", "mpii16")
OUTPUT_SKELETONS = ("h36m17", "humaneva15")
UNKNOWN_LICENCE = (
    "unknown: as the checkpoint's owner says; published checkpoints of the paper are CC BY-NC 4.0 (non-commercial)"
)
_LONGEST_LIKELY_FIELD = 4095
# Put before the names of the trajectory network's parameters, which share a file with the pose network's.
TRAJECTORY_PREFIX = "trajectory."

_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")
_COUNTER = "num_batches_tracked"

# "pt" is a detector pre-trained on COCO, "ft" one fine-tuned on Human3.6M ("dbb": in bounding boxes that it detected).
_SOUNDS_LIKE = {
    "coco17": re.compile(r"coco|(?<![a-z])(cpn|d)[-_]pt(?![a-z])"),
    "h36m17": re.compile(r"[-_]ft(?![a-z])|(?<![a-z])dbb(?![a-z])|h36m[-_]cpn"),
}


@dataclass(frozen=True, eq=False)
class ImportedLifter:
    """What goes into a weights file.

    tensors: parameters of the pose network, and of the trajectory network under ``TRAJECTORY_PREFIX``
    header:  see docs/file-formats.md, "Imported weights"
    """

    tensors: dict[str, Tensor]
    header: dict[str, Any]
    config: LifterConfig
    trajectory: LifterConfig | None
    skeleton_name: str


def says_causal(file_name: str) -> bool:
    """Whether a checkpoint's name tells that its network never looks ahead."""
    return "causal" in file_name.lower()


def layout_doubt(file_name: str, input_layout: str) -> str | None:
    """Why a checkpoint of this name probably takes points of another layout; None = it doesn't look so."""
    name = file_name.lower()
    likely = next((layout for layout, sound in _SOUNDS_LIKE.items() if sound.search(name)), input_layout)
    if likely == input_layout or len(KEYPOINT_LAYOUTS[likely]) != len(KEYPOINT_LAYOUTS[input_layout]):
        return None
    return f"'{file_name}' sounds as if it took {likely} keypoints, not {input_layout}; both have 17 points."


def import_checkpoint(
    path: str | PathLike[str],
    *,
    input_layout: str,
    causal: bool = False,
    skeleton: str = "",
    widths: Sequence[int] = (),
    fps: float | None = None,
    licence: str = UNKNOWN_LICENCE,
) -> ImportedLifter:
    """Read a published checkpoint (.bin) and say what it is.

    input_layout: one of ``INPUT_LAYOUTS``, the points that it was trained on
    causal:       True if it was trained to look at no later frames
    skeleton:     one of ``OUTPUT_SKELETONS``; empty = the one that has as many joints
    widths:       kernel widths, where the shapes leave it open; empty = as the shapes say
    fps:          frame rate of the footage that it was trained on, where known

    Raises WeightsError when the file is no such checkpoint, or doesn't fit the layout or the skeleton.
    """
    path = Path(path)
    content = read_torch_archive(path)
    try:
        parameters = _parameters(content, "model_pos")
        moved = _parameters(content, "model_traj")
    except BAD_FILE as problem:
        raise unreadable(path, problem) from problem
    if parameters is None:
        raise WeightsError(f"'{path}' has no 'model_pos', the network of a pose checkpoint. Give a file that has.")
    config = _config(path, parameters, input_layout, causal, widths)
    skeleton_name, joints = _skeleton(path, config.joints_out, skeleton)
    tensors = _tensors(path, parameters, config)
    header: dict[str, Any] = {
        "lifter": config.as_dict(),
        "input_layout": input_layout,
        "skeleton": {"names": joints.names, "parents": joints.parents},
        "licence": licence,
        "training": {"imported_from": {"name": path.name, "sha256": sha256_of(path)}},
    }
    if isinstance(content.get("epoch"), int):
        header["training"]["epoch"] = content["epoch"]
    if fps is not None:
        header["fps"] = fps
    trajectory = None
    if moved is not None:
        trajectory = _trajectory_config(path, moved, config, input_layout)
        tensors |= {TRAJECTORY_PREFIX + name: value for name, value in _tensors(path, moved, trajectory).items()}
        header["trajectory"] = trajectory.as_dict()
    return ImportedLifter(tensors, header, config, trajectory, skeleton_name)


def _parameters(content: Any, key: str) -> dict[str, np.ndarray] | None:
    """The parameters of one network in a checkpoint; None where it isn't there."""
    if not isinstance(content, dict):
        raise ValueError("it holds no dict of networks")
    if "state_dict" in content and "model_pos" not in content:
        return _parameters(content["state_dict"], key)
    # Some people publish the bare parameters.
    bare = key == "model_pos" and "expand_conv.weight" in _without_prefix(content)
    state = content if bare else content.get(key)
    if state is None:
        return None
    if not isinstance(state, dict) or not all(isinstance(value, SavedTensor) for value in state.values()):
        raise ValueError(f"its '{key}' is no dict of tensors")
    # Tensors may share a storage; many that share a large one would take any time and room.
    if (
        sum(value.bytes_read for value in state.values()) > 2 * MAX_FILE_BYTES
        or sum(math.prod(value.shape) for value in state.values()) > MAX_PARAMETERS
    ):
        raise ValueError(f"its '{key}' is far larger than such a network ever is")
    return {name: value.numbers() for name, value in _without_prefix(state).items()}


def _without_prefix(state: dict[Any, Any]) -> dict[str, Any]:
    """The same under the names of a network that was not trained on several processors at once."""
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _shape(path: Path, parameters: Mapping[str, np.ndarray], name: str, dimensions: int) -> tuple[int, ...]:
    if name not in parameters or parameters[name].ndim != dimensions:
        raise WeightsError(
            f"'{path}' is no checkpoint of the temporal-convolution lifter: its '{name}' is missing or has another "
            "form. Keylift reads the networks of the paper only."
        )
    return parameters[name].shape


def _sizes(path: Path, parameters: Mapping[str, np.ndarray]) -> tuple[int, int, int, tuple[int, ...]]:
    """Channels, values a frame, joints, and kernels of the temporal convolutions."""
    channels, values_in, first = _shape(path, parameters, "expand_conv.weight", 3)
    values_out = _shape(path, parameters, "shrink.weight", 3)[0]
    blocks = sum(bool(re.fullmatch(r"layers_conv\.\d+\.weight", name)) for name in parameters) // 2
    others = (_shape(path, parameters, f"layers_conv.{2 * block}.weight", 3)[2] for block in range(blocks))
    return channels, values_in, values_out // 3, (first, *others)


def _undilated(kernels: Sequence[int]) -> tuple[int, ...] | None:
    """Widths of a network whose convolutions are widened instead of dilated; None when these kernels are not its."""
    widths = list(kernels[:1])
    for kernel in kernels[1:]:
        width, rest = divmod(kernel - 1, math.prod(widths))
        if rest or width % 2:
            return None
        widths.append(width + 1)
    return tuple(widths)


def _widths(path: Path, kernels: tuple[int, ...], said: Sequence[int]) -> tuple[tuple[int, ...], bool]:
    """Widths, and whether the network is the dense ablation of the paper."""
    undilated = _undilated(kernels)
    possible = [(kernels, False)] + ([(undilated, True)] if undilated not in (None, kernels) else [])
    fitting = [
        (widths, dense) for widths, dense in possible if widths is not None and math.prod(widths) <= MAX_RECEPTIVE_FIELD
    ]
    if said:
        fitting = [(widths, dense) for widths, dense in fitting if widths == tuple(said)]
    elif len(fitting) > 1:
        # Nobody trains a network that looks at minutes of film.
        fitting = [fit for fit in fitting if math.prod(fit[0]) <= _LONGEST_LIKELY_FIELD] or fitting
    if len(fitting) == 1:
        return fitting[0]
    shown = ",".join(map(str, kernels))
    if not fitting:
        given = f"the widths {','.join(map(str, said))}" if said else "any network of the paper"
        raise WeightsError(f"'{path}' has kernels of {shown} frames, which do not fit {given}.")
    choices = " or ".join(f"--widths {','.join(map(str, widths))}" for widths, _ in fitting)
    raise WeightsError(
        f"'{path}' has kernels of {shown} frames: dilated ones of these widths, or undilated ones of a network of "
        f"fewer. Say which it was trained with: {choices}."
    )


def _features(path: Path, values_in: int, input_layout: str) -> int:
    """Values a point: x and y, or x, y and score."""
    points = len(KEYPOINT_LAYOUTS[input_layout])
    if values_in in (2 * points, 3 * points):
        return values_in // points
    forms = " or ".join(f"{values_in // each} points x {each}" for each in (2, 3) if values_in % each == 0)
    fitting = [
        name
        for name in INPUT_LAYOUTS
        if values_in in (2 * len(KEYPOINT_LAYOUTS[name]), 3 * len(KEYPOINT_LAYOUTS[name]))
    ]
    advice = f"Layouts that fit: {', '.join(fitting)}." if fitting else "No layout that Keylift knows fits."
    raise WeightsError(
        f"'{path}' expects {forms or f'{values_in} values'} a frame, but the layout '{input_layout}' has {points} "
        f"points. {advice}"
    )


def _config(
    path: Path, parameters: Mapping[str, np.ndarray], input_layout: str, causal: bool, said: Sequence[int]
) -> LifterConfig:
    channels, values_in, joints, kernels = _sizes(path, parameters)
    widths, dense = _widths(path, kernels, said)
    return LifterConfig(
        points_in=len(KEYPOINT_LAYOUTS[input_layout]),
        features_in=_features(path, values_in, input_layout),
        joints_out=joints,
        channels=channels,
        widths=widths,
        causal=causal,
        dense=dense,
    )


def _trajectory_config(
    path: Path, parameters: Mapping[str, np.ndarray], pose: LifterConfig, input_layout: str
) -> LifterConfig:
    said = pose.widths if len(_sizes(path, parameters)[3]) == len(pose.widths) else ()
    config = _config(path, parameters, input_layout, pose.causal, said)
    if config.joints_out != 1 or config.receptive_field != pose.receptive_field:
        raise WeightsError(
            f"The trajectory network in '{path}' gives {config.joints_out} joints from {config.receptive_field} "
            f"frames; it should give 1 from {pose.receptive_field}, as its pose network looks at."
        )
    return config


def _skeleton(path: Path, joints_out: int, wanted: str) -> tuple[str, Skeleton]:
    fitting = [name for name in OUTPUT_SKELETONS if len(SKELETONS[name]) == joints_out]
    name = wanted or (fitting[0] if fitting else "")
    if name not in fitting:
        known = ", ".join(f"{known} ({len(SKELETONS[known])})" for known in OUTPUT_SKELETONS)
        has = f"the skeleton '{wanted}' has {len(SKELETONS[wanted])}" if wanted else "no skeleton of the field has"
        raise WeightsError(f"'{path}' gives {joints_out} joints, but {has}. Known: {known}.")
    return name, SKELETONS[name]


def _expected_shapes(parameters: Mapping[str, np.ndarray], config: LifterConfig) -> dict[str, tuple[int, ...]]:
    """Every parameter that the network has; the kernels are as found."""
    channels = config.channels
    shapes: dict[str, tuple[int, ...]] = {"expand_conv.weight": parameters["expand_conv.weight"].shape}
    norms = ["expand_bn"]
    for block in range(len(config.widths) - 1):
        kernel = parameters[f"layers_conv.{2 * block}.weight"].shape[2]
        shapes[f"layers_conv.{2 * block}.weight"] = (channels, channels, kernel)
        shapes[f"layers_conv.{2 * block + 1}.weight"] = (channels, channels, 1)
        norms += [f"layers_bn.{2 * block}", f"layers_bn.{2 * block + 1}"]
    for norm in norms:
        shapes |= {f"{norm}.{part}": (channels,) for part in _NORM_PARTS}
        shapes[f"{norm}.{_COUNTER}"] = ()
    shapes["shrink.weight"] = (3 * config.joints_out, channels, 1)
    shapes["shrink.bias"] = (3 * config.joints_out,)
    return shapes


def _tensors(path: Path, parameters: Mapping[str, np.ndarray], config: LifterConfig) -> dict[str, Tensor]:
    """The parameters as float32, complete: torch did not always count batches. Raises WeightsError if others lack."""
    shapes = _expected_shapes(parameters, config)
    found = {name: np.zeros((), np.int64) for name in shapes if name.endswith(_COUNTER)} | dict(parameters)
    wrong = sorted(
        {name for name, value in found.items() if shapes.get(name) != value.shape} | (set(shapes) - set(found))
    )
    if wrong:
        raise WeightsError(
            f"'{path}' is no complete checkpoint of the temporal-convolution lifter. Missing, unknown or of another "
            f"size: {', '.join(wrong[:5])}{' ...' if len(wrong) > 5 else ''}."
        )
    if broken := [name for name, value in found.items() if not np.isfinite(value).all()]:
        raise WeightsError(f"'{path}' has numbers that are none: {', '.join(broken[:5])}. Its training went wrong.")
    return {
        name: torch.from_numpy(found[name].astype(np.int64 if name.endswith(_COUNTER) else np.float32))
        for name in shapes
    }
