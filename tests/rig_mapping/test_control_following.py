"""Who carries whom in a control rig, told from how the controls move when each is turned."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.rotations import from_rotation_vector, to_matrix
from keylift.rig_mapping.control_following import Following, following

TEST_TURN = np.array([0.3, 0.8, 0.5]) / np.linalg.norm([0.3, 0.8, 0.5]) * 0.2
TEST_SHIFT = np.full(3, 0.1)
WHOLE, PLACE_ONLY = True, False


@dataclass(frozen=True)
class Tree:
    """Controls in the order of ``at_rest``; a parent may come after what it carries."""

    parents: tuple[int, ...]
    inherits: tuple[bool, ...]
    at_rest: np.ndarray

    def posed(self, turning: int, share: dict[int, float] | None = None) -> np.ndarray:
        """(N, 4, 4) with one control turned about its own axes; some follow their parent's turn by a share only."""
        found: dict[int, np.ndarray] = {}

        def place(control: int) -> np.ndarray:
            if control in found:
                return found[control]
            parent = self.parents[control]
            carried = self.at_rest[control].copy()
            if parent >= 0:
                moved = place(parent) @ np.linalg.inv(self.at_rest[parent])
                whole = moved @ self.at_rest[control]
                carried[:3, 3] = whole[:3, 3]
                if self.inherits[control]:
                    carried = whole
                if share and control in share:
                    carried[:3, :3] = part_of(moved[:3, :3], share[control]) @ self.at_rest[control][:3, :3]
            if control == turning:
                carried = carried.copy()
                carried[:3, :3] = carried[:3, :3] @ to_matrix(from_rotation_vector(TEST_TURN))
                carried[:3, 3] += carried[:3, :3] @ TEST_SHIFT
            found[control] = carried
            return carried

        return np.array([place(control) for control in range(len(self.parents))])

    def told(self, share: dict[int, float] | None = None) -> Following:
        turned = np.array([self.posed(control, share) for control in range(len(self.parents))])
        return following(self.at_rest, turned)


def part_of(turn: np.ndarray, share: float) -> np.ndarray:
    angle = np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1))
    if angle < 1e-9:
        return np.eye(3)
    axis = np.array([turn[2, 1] - turn[1, 2], turn[0, 2] - turn[2, 0], turn[1, 0] - turn[0, 1]]) / (2 * np.sin(angle))
    return to_matrix(from_rotation_vector(axis * angle * share))


def tree(parents: list[int], inherits: list[bool], seed: int) -> Tree:
    rng = np.random.default_rng(seed)
    count = len(parents)
    at_rest = np.tile(np.eye(4), (count, 1, 1))
    at_rest[:, :3, :3] = to_matrix(from_rotation_vector(rng.normal(0, 1, (count, 3))))
    # Well apart, that a control which only goes along in place is seen to move.
    at_rest[:, :3, 3] = rng.permutation(count)[:, None] * [0.31, 0.17, 0.4] + rng.uniform(0, 0.1, (count, 3))
    return Tree(tuple(parents), tuple(inherits), at_rest)


@st.composite
def trees(draw: st.DrawFn, inherits: st.SearchStrategy[bool]) -> Tree:
    count = draw(st.integers(2, 14))
    shuffled = draw(st.permutations(range(count)))
    parents = [-1] * count
    for place, control in enumerate(shuffled[1:], start=1):
        parents[control] = draw(st.sampled_from([-1, *shuffled[:place]]))
    keeps = [parent < 0 or draw(inherits) for parent in parents]
    return tree(parents, keeps, draw(st.integers(0, 1000)))


def parents_first(told: Following) -> bool:
    place = {control: index for index, control in enumerate(told.order)}
    return all(parent < 0 or place[parent] < place[control] for control, parent in enumerate(told.parents))


@settings(max_examples=60, deadline=None)
@given(rig=trees(inherits=st.just(WHOLE)))
def test_a_tree_of_controls_is_told_as_it_is(rig: Tree) -> None:
    told = rig.told()
    assert told.parents == rig.parents
    assert told.inherits.all()
    assert not told.in_part
    assert sorted(told.order) == list(range(len(rig.parents))) and parents_first(told)


@settings(max_examples=60, deadline=None)
@given(rig=trees(inherits=st.booleans()))
def test_whatever_keeps_its_direction_is_known_or_told_of(rig: Tree) -> None:
    told = rig.told()
    assert sorted(told.order) == list(range(len(rig.parents))) and parents_first(told)
    spoken_of = {control for control, _ in told.in_part}
    for control, parent in enumerate(rig.parents):
        above, turned_by = parent, True
        while above >= 0:
            turned_by = turned_by and rig.inherits[above]
            above = rig.parents[above]
        # Where nothing further up keeps its direction, one parent says it all.
        if turned_by and control not in spoken_of:
            assert (told.parents[control], bool(told.inherits[control])) == (parent, rig.inherits[control])


def test_a_head_that_goes_along_but_keeps_its_direction() -> None:
    told = tree([-1, 0], [WHOLE, PLACE_ONLY], seed=1).told()
    assert told.parents == (-1, 0)
    assert told.inherits.tolist() == [True, False]
    assert not told.in_part
    # Though both start at the same place.
    stacked = tree([-1, 0, 0], [WHOLE, PLACE_ONLY, WHOLE], seed=1)
    stacked.at_rest[1, :3, 3] = stacked.at_rest[0, :3, 3]
    assert stacked.told().parents == (-1, 0, 0)
    assert stacked.told().inherits.tolist() == [True, False, True]


def test_place_from_the_nearest_and_turn_from_one_further_up_is_told_of() -> None:
    """A head that goes along with the neck, but turns with the torso alone: no single parent does that."""
    torso_neck_head = tree([-1, 0, 1], [WHOLE] * 3, seed=2)
    turned = np.array([torso_neck_head.posed(control) for control in range(3)])
    turned[1, 2, :3, :3] = torso_neck_head.at_rest[2, :3, :3]
    told = following(torso_neck_head.at_rest, turned)
    assert told.parents == (-1, 0, 1)
    assert (2, 1) in told.in_part


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_neck_that_follows_in_part_is_told_of(share: float) -> None:
    told = tree([-1, 0, 1], [WHOLE] * 3, seed=3).told(share={1: share})
    assert (1, 0) in told.in_part
    assert told.parents[2] == 1


@pytest.mark.parametrize("count", [40, 120])
def test_a_deep_chain_in_any_order(count: int) -> None:
    order = np.random.default_rng(4).permutation(count)
    parents = [-1] * count
    for above, below in zip(order[:-1], order[1:], strict=True):
        parents[below] = int(above)
    rig = tree(parents, [WHOLE] * count, seed=5)
    told = rig.told()
    assert told.parents == rig.parents
    assert list(told.order) == order.tolist()


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 10), seed=st.integers(0, 10_000), alike=st.booleans())
def test_no_answers_make_it_hang_or_fall(count: int, seed: int, alike: bool) -> None:
    """Controls that move each other in a circle, all at one place, or by chance."""
    rng = np.random.default_rng(seed)
    at_rest = np.tile(np.eye(4), (count, 1, 1))
    if not alike:
        at_rest[:, :3, 3] = rng.normal(0, 1, (count, 3))
    turned = np.tile(at_rest, (count, 1, 1, 1))
    turn = np.eye(4)
    turn[:3, :3] = to_matrix(from_rotation_vector(TEST_TURN))
    for control in range(count):
        moves = rng.random(count) < 0.5
        moves[[control, (control + 1) % count]] = True
        pivot = at_rest[control] @ turn @ np.linalg.inv(at_rest[control])
        turned[control, moves] = pivot @ at_rest[moves]
    told = following(at_rest, turned)
    assert sorted(told.order) == list(range(count))
    # Nobody is carried by what it carries itself: a solve goes through the controls parents first.
    assert parents_first(told)
