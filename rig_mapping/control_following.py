"""Which control of a rig carries which, told by turning and moving each and looking at what moves.

In a control rig the tree of bones says little: between two controls lie mechanism bones with constraints and drivers.
What matters to a solve is only what each control does to the others, and that can be measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Two turns this near are the same; single precision and constraints leave less.
_SAME_TURN_RAD = np.radians(0.5)
# Two places this near are the same, as a share of the rig's extent.
_SAME_PLACE = 2e-3


@dataclass(frozen=True, eq=False)
class Following:
    """How N controls follow each other.

    parents:  (N,) index of the control that carries each, -1 = none
    inherits: (N,) False where a control goes along with its parent's place but keeps its own direction
    order:    (N,) indices, a parent before what it carries
    in_part:  pairs (control, the one it follows by a part only): a solve that takes it for whole will be off
    """

    parents: tuple[int, ...]
    inherits: np.ndarray
    order: tuple[int, ...]
    in_part: tuple[tuple[int, int], ...]


def following(at_rest: np.ndarray, turned: np.ndarray) -> Following:
    """Tell who follows whom.

    at_rest: (N, 4, 4) the controls with none of them turned, armature space
    turned:  (N, N, 4, 4) the same while control i (first axis) is turned about some odd axis, and moved as
             far as it can be: what starts where it does would not be seen to go along in place otherwise
    """
    count = len(at_rest)
    extent = max(float(np.ptp(at_rest[:, :3, 3], axis=0).max()), 1e-9)
    moves = turned @ np.linalg.inv(at_rest)
    whole = np.zeros((count, count), dtype=bool)
    place_only = np.zeros((count, count), dtype=bool)
    partly = np.zeros((count, count), dtype=bool)
    for turning in range(count):
        own = moves[turning, turning]
        heads = at_rest[:, :3, 3]
        carried_to = heads @ own[:3, :3].T + own[:3, 3]
        placed = np.linalg.norm(turned[turning, :, :3, 3] - carried_to, axis=-1) < _SAME_PLACE * extent
        same_turn = _angles(moves[turning, :, :3, :3], own[:3, :3]) < _SAME_TURN_RAD
        unturned = _angles(moves[turning, :, :3, :3], np.eye(3)) < _SAME_TURN_RAD
        unmoved = np.linalg.norm(turned[turning, :, :3, 3] - heads, axis=-1) < _SAME_PLACE * extent
        whole[turning] = same_turn & placed
        place_only[turning] = unturned & placed & ~whole[turning] & ~unmoved
        partly[turning] = ~whole[turning] & ~place_only[turning] & ~(unturned & unmoved)
    np.fill_diagonal(whole, False)
    np.fill_diagonal(partly, False)
    carries = whole | place_only
    depth = carries.sum(axis=0)
    parents, inherits = [-1] * count, np.ones(count, dtype=bool)
    in_part = [(int(follower), int(turning)) for turning, follower in zip(*np.nonzero(partly), strict=True)]
    for control in range(count):
        carriers = np.flatnonzero(carries[:, control])
        for nearest in (int(carrier) for carrier in carriers[np.argsort(-depth[carriers], kind="stable")]):
            if control in _line_of(parents, nearest):
                # They carry each other in a circle, and a solve must begin somewhere.
                in_part.append((control, nearest))
                continue
            parents[control] = nearest
            inherits[control] = bool(whole[nearest, control])
            if not inherits[control] and whole[:, control].any():
                # Turned by one that is further up but not by the nearest: no single parent does that.
                in_part.append((control, nearest))
            break
    return Following(tuple(parents), inherits, _parents_first(parents), tuple(in_part))


def _angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(N,) radians between (N, 3, 3) rotations and one."""
    off = np.linalg.norm(a - b, axis=(-2, -1)) / np.sqrt(8.0)
    return 2 * np.arcsin(np.clip(off, 0.0, 1.0))


def _line_of(parents: list[int], control: int) -> list[int]:
    """The control, its parent, and so on up."""
    line = []
    while control >= 0:
        line.append(control)
        control = parents[control]
    return line


def _parents_first(parents: list[int]) -> tuple[int, ...]:
    return tuple(sorted(range(len(parents)), key=lambda control: len(_line_of(parents, control))))
