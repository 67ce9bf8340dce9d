"""A little of everything that people do, small enough to travel with Keylift.

``anchor.npz`` holds pieces of CMU's motion capture. Whoever learns something new from one clip looks at them in
between, so that what was known before is not forgotten. It was made from what the default weights are trained on;
``guard.npz``, which tells whether something was forgotten all the same, from their people for validation:

    python -c "from pathlib import Path; from keylift.training.motion.anchor import write_anchor;
    write_anchor(Path('mocap_train_60fps.npz'), Path('training/motion/anchor.npz'))
    write_anchor(Path('mocap_valid_60fps.npz'), Path('training/motion/guard.npz'), 60)"
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ...core.array_files import write_arrays
from ...core.errors import FileFormatError
from ...core.skeletons import LANDMARKS_41
from .motion_set import MotionSet, read_motion

ANCHOR_FILE = Path(__file__).parent / "anchor.npz"
GUARD_FILE = Path(__file__).parent / "guard.npz"
FPS = 30.0
PIECE_FRAMES, SHORTEST_FRAMES = 75, 45
PIECES = 200
LEFT_OUT = ("hdm05_amc",)
LICENCE = (
    "CMU Graphics Lab Motion Capture Database: free for all uses. You may include this data in commercially-sold "
    "products, but you may not resell this data directly, even in converted form."
)
ACKNOWLEDGEMENT = (
    "The data used in this project was obtained from mocap.cs.cmu.edu. The database was created with funding from NSF "
    "EIA-0196217."
)

_QUANTUM_M = 0.001
_SAMPLES = 5
# A metre a second of difference counts as much as this many metres.
_SPEED_COUNTS_S = 0.2
_POSE = LANDMARKS_41.indices(
    "head", *(f"{side}_{name}" for side in "lr" for name in ("elbow", "wrist", "hip", "knee", "ankle"))
)


@dataclass(frozen=True)
class _Piece:
    """Frames first, first + step ... of a motion set, out of one clip."""

    clip: int
    first: int
    frames: int
    step: int

    def rows(self) -> np.ndarray:
        return self.first + self.step * np.arange(self.frames)


def read_anchor(path: Path = ANCHOR_FILE) -> MotionSet:
    """The motion that travels with Keylift. Raises FileFormatError when it is missing or damaged."""
    motion = read_motion(path)
    # Kept in the file as one row a coordinate, which packs tighter; windows are taken a frame at a time.
    return replace(motion, positions_m=np.ascontiguousarray(motion.positions_m))


def read_guard(path: Path = GUARD_FILE) -> MotionSet:
    """Motion of people that no weights were ever taught: what nobody may get worse at. Raises FileFormatError."""
    return read_anchor(path)


def _pieces_of(motion: MotionSet) -> list[_Piece]:
    """All pieces that could be taken, side by side."""
    step = round(motion.fps / FPS)
    if step < 1 or abs(motion.fps / step - FPS) > 0.01:
        raise FileFormatError(f"Pieces are taken of motion at a multiple of {FPS:g} frames a second.")
    pieces = []
    for clip, start in enumerate(motion.clip_start[:-1]):
        frames = -(-int(motion.clip_lengths[clip]) // step)
        count = max(1, frames // PIECE_FRAMES)
        if frames < SHORTEST_FRAMES:
            continue
        for number in range(count):
            first = int(start) + number * PIECE_FRAMES * step
            pieces.append(_Piece(clip, first, min(PIECE_FRAMES, frames), step))
    return pieces


def _looks(motion: MotionSet, piece: _Piece) -> np.ndarray:
    """(_SAMPLES, N) poses of a piece, whatever way they face, with how fast they change."""
    body = motion.positions_m[piece.rows()].astype(np.float64)
    across = body[:, LANDMARKS_41.index("l_hip")] - body[:, LANDMARKS_41.index("r_hip")]
    heading = np.arctan2(across[:, 2], across[:, 0])
    c, s = np.cos(heading), np.sin(heading)
    zero, one = np.zeros_like(c), np.ones_like(c)
    turn = np.stack([np.stack(row, -1) for row in ([c, zero, s], [zero, one, zero], [-s, zero, c])], axis=-2)
    turned = np.einsum("fij,fkj->fki", turn, body[:, _POSE] - body[:, :1])
    speed = np.gradient(turned, 1 / FPS, axis=0) * _SPEED_COUNTS_S
    at = np.linspace(0, len(body) - 1, _SAMPLES).round().astype(int)
    return np.concatenate([turned, speed], axis=-1)[at].reshape(_SAMPLES, -1)


def choose_pieces(motion: MotionSet, count: int) -> list[_Piece]:
    """The ``count`` pieces to which all that was captured is nearest: each next one brings the most that is new.

    The greedy solution of the facility location problem (Nemhauser, Wolsey and Fisher, 1978).
    """
    pieces = _pieces_of(motion)
    looks = np.stack([_looks(motion, piece) for piece in pieces])
    flat = looks.reshape(-1, looks.shape[-1])
    squares = (flat * flat).sum(axis=1)
    # (pieces, samples): how far the nearest pose of a piece is from a sample of any piece.
    distance = np.empty((len(pieces), len(flat)), np.float32)
    for number, own in enumerate(looks):
        squared = (own * own).sum(axis=1)[:, None] + squares - 2 * own @ flat.T
        distance[number] = np.sqrt(np.maximum(squared, 0)).min(axis=0)
    nearest = np.full(len(flat), distance.max())
    chosen: list[int] = []
    for _ in range(min(count, len(pieces))):
        gain = np.maximum(nearest - distance, 0).sum(axis=1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        nearest = np.minimum(nearest, distance[chosen[-1]])
    return [pieces[number] for number in sorted(chosen)]


def write_anchor(source: Path, output: Path, pieces: int = PIECES) -> None:
    """Choose ``pieces`` of CMU's motion in a landmark set and write them as another, terms of use included.

    Raises FileFormatError when ``source`` is no landmark set, OutputError when ``output`` can't be written.
    """
    motion = read_motion(source, LEFT_OUT)
    chosen = choose_pieces(motion, pieces)
    bodies = []
    for piece in chosen:
        body = motion.positions_m[piece.rows()].copy()
        body[..., [0, 2]] -= body[:1, :1, [0, 2]]
        bodies.append(body)
    clips = [piece.clip for piece in chosen]
    begins = [piece.first - motion.clip_start[piece.clip] for piece in chosen]
    names = [f"{motion.clip_name[clip]}@{begin}" for clip, begin in zip(clips, begins, strict=True)]
    whole = np.round(np.concatenate(bodies) / _QUANTUM_M).astype(np.int16)
    write_arrays(
        output,
        {
            "positions_q": np.asfortranarray(whole),
            "position_quantum_m": np.float32(_QUANTUM_M),
            "clip_start": np.concatenate([[0], np.cumsum([len(body) for body in bodies])]),
            "clip_name": np.array(names),
            "clip_subject": motion.subject[clips],
            "clip_source": motion.source[clips],
            "fps": np.float64(FPS),
            "joint_names": np.array(LANDMARKS_41.names),
            "licence": np.array(LICENCE),
            "acknowledgement": np.array(ACKNOWLEDGEMENT),
        },
    )
