"""A posed rig shows where the landmarks of its body are: a body's known turns, taken up by a rig, come back."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keylift.core.errors import RigError
from keylift.core.rotations import from_rotation_vector, to_matrix
from keylift.core.segments import SEGMENTS
from keylift.core.skeletons import LANDMARKS_41
from keylift.rig_mapping.bone_map import load_bone_map
from keylift.rig_mapping.recognition import recognise
from keylift.rig_mapping.rig_body import rig_body
from keylift.rig_mapping.rig_landmarks import landmarks_of, readable_body
from rig_samples import PRESET_OF, Performance, plausible_turns
from rig_skeletons import family_rig, real_rig, rest_from_rows, without_bones

FRAMES = 8
RIGS = [name for name in PRESET_OF if name != "rigify_metarig"]


def posed_of(performance: Performance) -> np.ndarray:
    """(F, B, 4, 4) armature from bone."""
    world_from_bone = np.zeros((*performance.heads.shape[:2], 4, 4))
    world_from_bone[..., :3, :3] = performance.turned * performance.rest.scale
    world_from_bone[..., :3, 3], world_from_bone[..., 3, 3] = performance.heads, 1.0
    return np.linalg.inv(performance.rest.world_from_armature) @ world_from_bone


def in_world(performance: Performance, landmarks: np.ndarray) -> np.ndarray:
    world = performance.rest.world_from_armature
    return landmarks @ world[:3, :3].T + world[:3, 3]


@pytest.mark.parametrize("name", RIGS)
def test_a_performance_comes_back(name: str) -> None:
    rest = real_rig(name)
    path_m = np.random.default_rng(5).normal([0.3, 1.0, 1.0], 0.3, (FRAMES, 3))
    performance = Performance(rest, PRESET_OF[name], plausible_turns(FRAMES, seed=2), path_m)
    found = in_world(performance, landmarks_of(rest, recognise(rest), posed_of(performance)))
    truth = performance.pose.positions_world_m()
    joints = [
        LANDMARKS_41.index(segment.joint)
        for segment in SEGMENTS
        if segment.name in performance.chains and segment.name != "pelvis"
    ]
    assert np.abs(found[:, joints] - truth[:, joints]).max() < 1e-6
    assert np.abs(found[:, 0] - path_m).max() < 1e-6
    # Toes, finger tips and the face are where the performance's own person has them, as far as the rig knows.
    assert np.isfinite(found).all()
    assert np.percentile(np.linalg.norm(found - truth, axis=-1), 90) < 0.06


def test_at_rest_they_are_the_bodys_own() -> None:
    rest = family_rig("mixamo", arms="a")
    body = rig_body(rest, recognise(rest))
    landmarks = landmarks_of(rest, recognise(rest), rest.armature_from_bone[None])[0]
    assert np.abs(landmarks - body.landmarks @ body.armature_from_body.T).max() < 1e-9


@settings(max_examples=25)
@given(st.lists(st.floats(-3, 3), min_size=6, max_size=6), st.floats(0.1, 10))
def test_the_whole_moves_as_one(numbers: list[float], scale: float) -> None:
    rest = family_rig("unreal_5")
    bone_map = recognise(rest)
    moved = np.eye(4)
    moved[:3, :3] = scale * to_matrix(from_rotation_vector(np.array(numbers[:3])))
    moved[:3, 3] = numbers[3:]
    still = landmarks_of(rest, bone_map, rest.armature_from_bone[None])[0]
    carried = landmarks_of(rest, bone_map, (moved @ rest.armature_from_bone)[None])[0]
    assert np.allclose(carried, still @ moved[:3, :3].T + moved[:3, 3], atol=1e-6)


def test_what_a_rig_lacks_rides_on_what_it_has() -> None:
    whole = family_rig("mixamo", fingers=False)
    bare = without_bones(whole, lambda bone: any(part in bone for part in ("Neck", "Toe", "Shoulder", "Hand")))
    landmarks = landmarks_of(bare, recognise(bare), bare.armature_from_bone[None])[0]
    assert np.isfinite(landmarks).all()
    heel, toe, ankle = (landmarks[LANDMARKS_41.index(f"l_{part}")] for part in ("heel", "toe_tip", "ankle"))
    # Rigs face -y with z up: the toe is ahead of the ankle, the heel behind and below.
    assert toe[1] < ankle[1] < heel[1] and heel[2] < ankle[2]


def test_controls_are_passed_over_for_what_deforms() -> None:
    rig = family_rig("mixamo")
    rows = []
    for prefix in ("", "CTRL-"):
        for bone, parent in zip(rig.names, rig.parents, strict=True):
            at = rig.names.index(bone)
            above = rig.names[parent] if parent >= 0 else ""
            rows.append([prefix + bone, prefix + above if above else None, rig.heads[at], rig.tails[at]])
    # The copies come first and hang together; only the others deform.
    both = rest_from_rows("both", rows[len(rig) :] + rows[: len(rig)], deform=lambda bone: not bone.startswith("CTRL-"))
    body = readable_body(both)
    assert not [name for name in body.rest.names if name.startswith("CTRL-")]
    assert len(body.rest) == len(rig)
    given_map = readable_body(rig, load_bone_map("mixamo"))
    assert given_map.rest is rig and given_map.bone_map.name == "mixamo"


def test_a_mapped_rig_may_deform_by_other_bones() -> None:
    rig = family_rig("mixamo")
    skinned = replace(rig, use_deform=np.array(["Thumb" in bone for bone in rig.names]))
    assert readable_body(skinned).rest is skinned


def test_no_body_is_refused() -> None:
    rig = family_rig("mixamo")
    legless = without_bones(rig, lambda bone: "Leg" in bone)
    with pytest.raises(RigError):
        readable_body(legless)
    with pytest.raises(ValueError, match="must have shape"):
        landmarks_of(rig, recognise(rig), rig.armature_from_bone)
