"""Lifters of the paper's kind: screen-normalised keypoints in, joints about the root (and the root's path) out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import FileFormatError, WeightsError
from ..skeletons import KEYPOINT_LAYOUTS, Skeleton, mirrored_layout, pairs_by_prefix
from ..weights import read_header, read_tensors
from .dense_inference import DenseLifter
from .device import choose_device
from .folding import Mirror, fold
from .network import LifterConfig, TemporalLifter
from .ray_windows import INPUT_LAYOUT as RAYS

_TRAJECTORY = "trajectory."
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True, eq=False)
class KeypointLifter:
    """A trained network with what its inputs and outputs mean.

    network:      screen-normalised keypoints -> joints about the root
    trajectory:   screen-normalised keypoints -> the root, or None
    input_layout: name of the keypoints (core.skeletons.KEYPOINT_LAYOUTS), or rays21
    skeleton:     the joints that come out
    device:       where it computes

    The networks are made ready when they first lift; load the file again after training them further.
    """

    network: TemporalLifter
    trajectory: TemporalLifter | None
    input_layout: str
    skeleton: Skeleton
    device: torch.device
    _ready: dict[tuple[str, bool, str], DenseLifter] = field(default_factory=dict, init=False, repr=False)

    @property
    def causal(self) -> bool:
        """True if no frame looks at later ones."""
        return self.network.config.causal

    @property
    def receptive_field(self) -> int:
        """Frames that one lifted frame depends on."""
        return self.network.config.receptive_field

    @property
    def features_in(self) -> int:
        """Values a keypoint: 2 = x, y; 3 = x, y, score."""
        return self.network.config.features_in

    def lift_normalised(
        self, keypoints: np.ndarray, test_time_flip: bool = True, precision: str = "float32"
    ) -> np.ndarray:
        """Lift every frame of a clip, with the first and last frame standing in for those beyond it.

        keypoints:      (F, K, C) screen-normalised (core.camera.normalise_screen), all finite
        test_time_flip: average with the un-mirrored result of the mirrored keypoints
        precision:      float32, or bfloat16: faster on processors made for it, some mm off
        returns:        (F, J, 3) float32 metres, camera axes; the root is where the network puts it, not moved to 0

        Raises WeightsError or FileFormatError when the keypoints are not what the weights take.
        """
        return self._dense("pose", test_time_flip, precision)(self.checked(keypoints))

    def lift_trajectory_normalised(
        self, keypoints: np.ndarray, test_time_flip: bool = True, precision: str = "float32"
    ) -> np.ndarray:
        """Where the root is, (F, 3) float32 metres in camera space; arguments and errors as in ``lift_normalised``.

        Raises WeightsError when the weights hold no trajectory network.
        """
        return self._dense("trajectory", test_time_flip, precision)(self.checked(keypoints))[:, 0]

    def mirror(self) -> Mirror:
        """What a mirror exchanges in the keypoints and in the joints."""
        return Mirror(mirrored_layout(self._point_names()), self.skeleton.mirrored_order())

    def checked(self, keypoints: np.ndarray) -> np.ndarray:
        """``keypoints`` (F, K, C) as float32. Raises WeightsError or FileFormatError when they won't do."""
        names = self._point_names()
        keypoints = np.asarray(keypoints)
        if keypoints.ndim != 3 or keypoints.shape[1:] != (len(names), self.features_in) or len(keypoints) == 0:
            values = "x, y" if self.features_in == 2 else "x, y, score" if self.features_in == 3 else "values"
            raise WeightsError(
                f"These weights take '{self.input_layout}' keypoints, (frames, {len(names)}, {self.features_in}) of "
                f"{values}; these keypoints are {keypoints.shape}. Detect or convert them to that layout, or use "
                "weights for theirs."
            )
        keypoints = np.ascontiguousarray(keypoints, np.float32)
        finite = np.isfinite(keypoints).all(axis=2)
        if not finite.all():
            frame, point = np.argwhere(~finite)[0]
            raise FileFormatError(
                f"Keypoint '{names[point]}' is missing in frame {frame}, and these weights need every one of "
                f"'{self.input_layout}' in every frame. Fill the gaps first."
            )
        return keypoints

    def _point_names(self) -> tuple[str, ...]:
        if self.input_layout == RAYS:
            raise WeightsError(
                f"These weights take rays ('{RAYS}'), not screen-normalised keypoints. Lift with `keylift lift`, or "
                "use weights for keypoints."
            )
        return KEYPOINT_LAYOUTS[self.input_layout]

    def _dense(self, which: str, test_time_flip: bool, precision: str) -> DenseLifter:
        key = which, test_time_flip, precision
        if key not in self._ready:
            network, mirror = self.network, self.mirror()
            if which == "trajectory":
                if self.trajectory is None:
                    raise WeightsError("These weights can't tell where the root is: they have no trajectory network.")
                network, mirror = self.trajectory, Mirror(mirror.points, np.zeros(1, int))
            self._ready[key] = DenseLifter(fold(network, mirror if test_time_flip else None), self.device, precision)
        return self._ready[key]


def load_lifter(path: str | PathLike[str], device: str = "cpu") -> KeypointLifter:
    """Read a lifter's weights (docs/file-formats.md).

    device: cpu, cuda, mps, or auto for the best that is there

    Weights that take rays are read too, but only their networks are of use. Raises WeightsError when the file is no
    lifter of ours, damaged, or contradicts itself; KeyliftError when the device is not there.
    """
    path = Path(path)
    header = read_header(path)
    config = _config(header.get("lifter"))
    skeleton = _skeleton(path, header.get("skeleton"), config.joints_out)
    layout = _input_layout(path, header.get("input_layout"), config.points_in)
    tensors = read_tensors(path)
    of_trajectory = {name.removeprefix(_TRAJECTORY): t for name, t in tensors.items() if name.startswith(_TRAJECTORY)}
    chosen = choose_device(device)
    network = _network(path, config, {name: t for name, t in tensors.items() if not name.startswith(_TRAJECTORY)})
    trajectory = None
    if header.get("trajectory") is not None or of_trajectory:
        path_config = _config(header.get("trajectory"))
        wanted = (config.points_in, config.features_in, 1, config.causal)
        if (path_config.points_in, path_config.features_in, path_config.joints_out, path_config.causal) != wanted:
            raise WeightsError(f"The trajectory network in '{path}' doesn't go with its pose network. Make it again.")
        trajectory = _network(path, path_config, of_trajectory).to(chosen).eval()
    return KeypointLifter(network.to(chosen).eval(), trajectory, layout, skeleton, chosen)


def _config(values: Any) -> LifterConfig:
    if not isinstance(values, dict):
        raise WeightsError("The weights file does not say what network it holds. Make it again.")
    return LifterConfig.from_dict(values)


def _input_layout(path: Path, layout: Any, points_in: int) -> str:
    if layout == RAYS:
        return RAYS
    if not isinstance(layout, str) or layout not in KEYPOINT_LAYOUTS:
        known = ", ".join(KEYPOINT_LAYOUTS)
        raise WeightsError(f"'{path}' takes '{layout}' keypoints, which Keylift doesn't know. It knows {known}.")
    if len(KEYPOINT_LAYOUTS[layout]) != points_in:
        raise WeightsError(
            f"'{path}' says that it takes '{layout}' keypoints, {len(KEYPOINT_LAYOUTS[layout])} points, but its "
            f"network takes {points_in}. Import it again with the right --input-layout."
        )
    return layout


def _skeleton(path: Path, values: Any, joints_out: int) -> Skeleton:
    try:
        names = tuple(values["names"])
        parents = tuple(values["parents"])
        if not all(isinstance(name, str) for name in names) or not all(type(parent) is int for parent in parents):
            raise TypeError("names are texts, parents are whole numbers")
        pairs = (*pairs_by_prefix(names, "l_", "r_"), *pairs_by_prefix(names, "left_", "right_"))
        skeleton = Skeleton(names, parents, pairs)
    except (TypeError, KeyError, FileFormatError) as problem:
        raise WeightsError(f"The skeleton in '{path}' is not understood: {problem}") from problem
    if len(skeleton) != joints_out:
        raise WeightsError(
            f"'{path}' names {len(skeleton)} joints, but its network gives {joints_out}. Make the file again."
        )
    return skeleton


def _network(path: Path, config: LifterConfig, tensors: Mapping[str, Tensor]) -> TemporalLifter:
    """The network of ``config`` with ``tensors`` for its parameters; nothing is set up before they are seen to fit."""
    with torch.device("meta"):
        network = TemporalLifter(config)
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    counters = {name: torch.zeros((), dtype=torch.long) for name in shapes if name.endswith(_COUNTER)}
    given = {**counters, **tensors}
    wrong = sorted(
        name for name in shapes.keys() | given.keys() if name not in given or shapes.get(name) != given[name].shape
    )
    if wrong:
        raise WeightsError(f"The parameters in '{path}' don't fit its own configuration: {', '.join(wrong[:5])}.")
    # Some files keep halves.
    single = {name: value if name in counters else value.float() for name, value in given.items()}
    network.load_state_dict(single, assign=True)
    return network
