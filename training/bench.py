"""How fast lifting and learning are here, against the network written down plainly.

All figures are ratios of times taken in turn in one run, so a machine that is busy with other things slows both sides.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ..core.lifter.dense_inference import DenseLifter
from ..core.lifter.device import choose_device
from ..core.lifter.folding import Mirror, fold
from ..core.lifter.keypoint_lifter import KeypointLifter
from ..core.lifter.losses import mpjpe_loss
from ..core.lifter.network import LifterConfig, TemporalLifter
from ..core.lifter.streaming import StreamingLifter
from ..core.progress import Progress, report, silent
from ..core.skeletons import H36M_17, mirrored_layout
from .lift_bench import measure_lift
from .loop import batches_ahead
from .sequences.chunks import ChunkBatch, ChunkSet, ShuffledOrder, Windows
from .sequences.sequence import FilmedSequence
from .views_bench import measure_views

_JOINTS = len(H36M_17)
_MIRROR = Mirror(mirrored_layout(H36M_17.names), H36M_17.mirrored_order())


@dataclass(frozen=True)
class BenchSizes:
    """What is measured.

    widths, channels, clip_frames: the network and the clip of the inference
    training:                      (widths, channels, batch) of each measured training
    memory_frames:                 a short and a long clip
    streamed_widths:               of the two causal networks whose frames are timed
    rounds:                        times that each side is timed; steps: training steps in one round
    lifted_frames:                 clips that are lifted and fitted
    views:                         steps, batch and channels of a training on synthetic views; None = the default's
    """

    widths: tuple[int, ...] = (3, 3, 3, 3, 3)
    channels: int = 1024
    clip_frames: int = 3000
    training: tuple[tuple[tuple[int, ...], int, int], ...] = (((3, 3, 3), 512, 256), ((3, 3, 3, 3, 3), 1024, 256))
    memory_frames: tuple[int, int] = (1000, 100_000)
    streamed_widths: tuple[tuple[int, ...], tuple[int, ...]] = ((3, 3, 3), (3, 9, 9))
    streamed_frames: int = 100
    rounds: int = 5
    steps: int = 1
    lifted_frames: tuple[int, ...] = (300, 3000)
    views: tuple[int, int | None, int | None] = (64, None, None)


FULL = BenchSizes()
QUICK = BenchSizes((3, 3, 3), 32, 200, (((3, 3), 16, 8),), (100, 1000), ((3, 3), (3, 9)), 10, 3, 1, (40,), (2, 8, 16))


class PlainLifter(nn.Module):
    """The network as the paper describes it, layer by layer, with nothing done to make it fast; same parameter names.

    strided: True = the form that makes one frame of a window
    """

    def __init__(self, widths: tuple[int, ...], channels: int, strided: bool = False, points: int = _JOINTS) -> None:
        super().__init__()
        self.widths, self.strided = widths, strided
        spans = [prod(widths[:block]) for block in range(len(widths))]

        def convolution(channels_in: int, width: int, span: int) -> nn.Conv1d:
            steps = {"stride": width} if strided else {"dilation": span}
            return nn.Conv1d(channels_in, channels, width, bias=False, **steps)

        self.expand_conv = convolution(2 * points, widths[0], 1)
        self.expand_bn = nn.BatchNorm1d(channels)
        self.layers_conv, self.layers_bn = nn.ModuleList(), nn.ModuleList()
        for width, span in zip(widths[1:], spans[1:], strict=True):
            self.layers_conv.extend([convolution(channels, width, span), nn.Conv1d(channels, channels, 1, bias=False)])
            self.layers_bn.extend([nn.BatchNorm1d(channels), nn.BatchNorm1d(channels)])
        self.shrink = nn.Conv1d(channels, 3 * _JOINTS, 1)
        self.relu, self.drop = nn.ReLU(), nn.Dropout(0.25)

    def forward(self, keypoints: Tensor) -> Tensor:
        """(B, T, K, 2) -> (B, T', J, 3)"""
        x = keypoints.flatten(2).transpose(1, 2)
        x = self.drop(self.relu(self.expand_bn(self.expand_conv(x))))
        span = self.widths[0]
        for block, width in enumerate(self.widths[1:]):
            pad = (width - 1) * span // 2
            residual = x[:, :, width // 2 :: width] if self.strided else x[:, :, pad : x.shape[2] - pad]
            x = self.drop(self.relu(self.layers_bn[2 * block](self.layers_conv[2 * block](x))))
            x = self.drop(self.relu(self.layers_bn[2 * block + 1](self.layers_conv[2 * block + 1](x))))
            x = residual + x
            span *= width
        return self.shrink(x).transpose(1, 2).unflatten(2, (_JOINTS, 3))

    @torch.inference_mode()
    def lift(self, keypoints: np.ndarray) -> np.ndarray:
        """(F, K, 2) -> (F, J, 3): padded, with the mirror image as the second of a batch of two."""
        around = prod(self.widths) // 2
        padded = np.pad(keypoints, ((around, around), (0, 0), (0, 0)), "edge")
        mirrored = padded[:, _MIRROR.points].copy()
        mirrored[..., 0] *= -1
        both = torch.from_numpy(np.stack([padded, mirrored])).to(self.shrink.weight.device)
        plain, back = self(both).cpu().numpy()
        back = back[:, _MIRROR.joints]
        back[..., 0] *= -1
        return (plain + back) / 2


def in_turn(*sides: Callable[[], Any], rounds: int) -> list[list[float]]:
    """Seconds of each side in each round, one after the other in every round, after one that doesn't count."""
    for side in sides:
        side()
    seconds: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, taken in zip(sides, seconds, strict=True):
            began = time.perf_counter()
            side()
            taken.append(time.perf_counter() - began)
    return seconds


def compared(ours: list[float], plain: list[float]) -> dict[str, float]:
    """Medians, and the median of the rounds' ratios: how many times as fast ours is."""
    ratios = [theirs / own for own, theirs in zip(ours, plain, strict=True)]
    return {
        "seconds": statistics.median(ours),
        "plain_seconds": statistics.median(plain),
        "ratio": statistics.median(ratios),
        "ratio_lowest": min(ratios),
        "ratio_highest": max(ratios),
    }


def operations(work: Callable[[], Any]) -> int:
    """Floating-point operations of the convolutions and matrix products in ``work``."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def _keypoints(frames: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (frames, _JOINTS, 2)).astype(np.float32)


def _network(widths: tuple[int, ...], channels: int, causal: bool = False) -> TemporalLifter:
    torch.manual_seed(0)
    return TemporalLifter(LifterConfig(_JOINTS, 2, _JOINTS, channels=channels, widths=widths, causal=causal)).eval()


def _bfloat16_is_native(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return device.type == "cpu" and asked is not None and bool(asked())


def measure_inference(sizes: BenchSizes, device: torch.device) -> dict[str, Any]:
    """Whole clips with test-time flip, in each precision that the device is made for."""
    network = _network(sizes.widths, sizes.channels)
    plain = PlainLifter(sizes.widths, sizes.channels)
    plain.load_state_dict(network.state_dict())
    plain.to(device).eval()
    folded, keypoints = fold(network, _MIRROR), _keypoints(sizes.clip_frames)
    precisions = ["float32", *(["bfloat16"] if _bfloat16_is_native(device) else [])]
    lifts = {name: DenseLifter(folded, device, name) for name in precisions}
    truth = plain.lift(keypoints)
    sides = [lambda lift=lift: lift(keypoints) for lift in lifts.values()]
    theirs, *ours = in_turn(lambda: plain.lift(keypoints), *sides, rounds=sizes.rounds)
    gflop = operations(lambda: plain.lift(keypoints)) / 1e9
    result: dict[str, Any] = {
        "frames": sizes.clip_frames,
        "receptive_field": network.config.receptive_field,
        "channels": sizes.channels,
        "gflop": gflop,
    }
    for (name, lift), seconds in zip(lifts.items(), ours, strict=True):
        difference = float(np.abs(lift(keypoints) - truth).max())
        result[name] = {**compared(seconds, theirs), "largest_difference_m": difference}
    return result


class _Learner:
    """Steps of training: batches from the trainer's own chunks, forward, backward, Adam."""

    def __init__(
        self, network: nn.Module, form: Callable[[Tensor], Tensor], chunks: ChunkSet, batch: int, **adam: Any
    ) -> None:
        self._network, self._form, self._chunks = network.train(), form, chunks
        self._order = ShuffledOrder(len(chunks), batch, 1234)
        self._optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, amsgrad=True, **adam)

    def batch(self, number: int) -> ChunkBatch:
        return self._chunks.batch(self._order.batch(number))

    def learn(self, batches: Iterator[ChunkBatch]) -> float:
        loss = torch.zeros(())
        for batch in batches:
            assert batch.positions_m is not None
            device = next(self._network.parameters()).device
            self._optimiser.zero_grad(set_to_none=True)
            predicted = self._form(torch.from_numpy(batch.keypoints).to(device))
            loss = mpjpe_loss(predicted, torch.from_numpy(batch.positions_m).to(device))
            loss.backward()
            self._optimiser.step()
        return float(loss.detach())


def measure_training(case: tuple[tuple[int, ...], int, int], sizes: BenchSizes, device: torch.device) -> dict[str, Any]:
    """Samples a second, from the sequences to the changed parameters."""
    widths, channels, batch = case
    network = _network(widths, channels).to(device)
    plain = PlainLifter(widths, channels, strided=True).to(device)
    plain.load_state_dict(network.state_dict())
    rng = np.random.default_rng(0)
    sequence = FilmedSequence(
        "S", "walking", "0", _keypoints(4 * batch), rng.normal(size=(4 * batch, _JOINTS, 3)), None, 50.0
    )
    chunks = ChunkSet([sequence], Windows(network.config.receptive_field), _MIRROR.points, _MIRROR.joints, flip=True)
    ours = _Learner(network, network.forward_window, chunks, batch, fused=True)
    theirs = _Learner(plain, plain, chunks, batch)
    own_seconds, plain_seconds = in_turn(
        lambda: ours.learn(batches_ahead(ours.batch, 0, sizes.steps)),
        lambda: theirs.learn(theirs.batch(number) for number in range(sizes.steps)),
        rounds=sizes.rounds,
    )
    result = compared(own_seconds, plain_seconds)
    gflop = operations(lambda: theirs.learn(theirs.batch(number) for number in range(sizes.steps))) / 1e9
    return {
        "receptive_field": network.config.receptive_field,
        "channels": channels,
        "batch": batch,
        "gflop": gflop,
        "samples_per_second": sizes.steps * batch / result["seconds"],
        **result,
    }


def measure_streaming(sizes: BenchSizes, device: torch.device) -> dict[str, Any]:
    """Milliseconds a frame of causal networks with as many layers and different receptive fields.

    What a frame must cost at least is one pass over the parameters; the ratio of the costs is told beside the ratio of
    the parameters.
    """
    networks = [_network(widths, sizes.channels, causal=True).to(device) for widths in sizes.streamed_widths]
    streams = [
        StreamingLifter(KeypointLifter(network, None, "h36m17", H36M_17, device), test_time_flip=True)
        for network in networks
    ]
    keypoints = _keypoints(sizes.streamed_frames)
    sides = [lambda stream=stream: [stream.push(frame) for frame in keypoints] for stream in streams]
    near, far = in_turn(*sides, rounds=sizes.rounds)
    ms = [1000 * statistics.median(seconds) / sizes.streamed_frames for seconds in (near, far)]
    parameters = [sum(value.numel() for value in network.parameters()) for network in networks]
    return {
        "receptive_fields": [network.config.receptive_field for network in networks],
        "ms_per_frame": ms,
        "cost_ratio": statistics.median(b / a for a, b in zip(near, far, strict=True)),
        "parameter_ratio": parameters[1] / parameters[0],
    }


def peak_memory_bytes() -> int:
    """The most memory that this process has had so far."""
    if sys.platform == "win32":
        return _windows_peak()
    if sys.platform.startswith("linux"):
        # getrusage would also count what the parent had before this process became what it is.
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _windows_peak() -> int:
    import ctypes
    from ctypes import wintypes

    class Counters(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS; the page faults and eight sizes, of which the first is the peak."""

        _fields_ = [("cb", wintypes.DWORD), ("faults", wintypes.DWORD), ("sizes", ctypes.c_size_t * 8)]

    counters = Counters(cb=ctypes.sizeof(Counters))
    windows: Any = getattr(ctypes, "windll")  # noqa: B009 - not there for type checkers elsewhere
    windows.kernel32.GetCurrentProcess.restype = wintypes.HANDLE
    ask = windows.kernel32.K32GetProcessMemoryInfo
    ask.argtypes = [wintypes.HANDLE, ctypes.POINTER(Counters), wintypes.DWORD]
    ask(windows.kernel32.GetCurrentProcess(), ctypes.byref(counters), counters.cb)
    return int(counters.sizes[0])


def _peak_of_lifting(frames: int, widths: tuple[int, ...], channels: int, device: str) -> int:
    keypoints = _keypoints(frames)
    DenseLifter(fold(_network(widths, channels), _MIRROR), torch.device(device))(keypoints)
    return peak_memory_bytes()


def measure_memory(sizes: BenchSizes, device: torch.device) -> dict[str, Any]:
    """The most memory that lifting a short and a long clip takes, each in a process of its own."""
    peaks = []
    for frames in sizes.memory_frames:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
            peaks.append(fresh.submit(_peak_of_lifting, frames, sizes.widths, sizes.channels, str(device)).result())
    return {
        "frames": list(sizes.memory_frames),
        "peak_mb": [peak / 1e6 for peak in peaks],
        "more_mb": (peaks[1] - peaks[0]) / 1e6,
    }


def run_bench(sizes: BenchSizes = FULL, device: str = "auto", progress: Progress = silent) -> dict[str, Any]:
    """Measure everything; plain values, for a report. Raises KeyliftError when the device is not there."""
    chosen = choose_device(device)
    result: dict[str, Any] = {
        "device": str(chosen),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "rounds": sizes.rounds,
        "training": [],
        "lift": [],
    }
    stages: list[tuple[str, Callable[[], Any]]] = [
        ("inference", lambda: measure_inference(sizes, chosen)),
        *(("training", partial(measure_training, case, sizes, chosen)) for case in sizes.training),
        ("views", lambda: measure_views(*sizes.views, chosen)),
        ("streaming", lambda: measure_streaming(sizes, chosen)),
        ("memory", lambda: measure_memory(sizes, chosen)),
        *(("lift", partial(measure_lift, frames, sizes.rounds, device)) for frames in sizes.lifted_frames),
    ]
    for number, (name, measure) in enumerate(stages):
        report(progress, number, len(stages))
        measured = measure()
        if isinstance(result.get(name), list):
            result[name].append(measured)
        else:
            result[name] = measured
    report(progress, len(stages), len(stages))
    return result
