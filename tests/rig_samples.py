"""Rigs to try things on, and performances whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from keylift.core.camera import Camera
from keylift.core.rotations import from_matrix, from_rotation_vector, inverse, multiply, to_matrix
from keylift.core.segments import SEGMENT_NAMES, SEGMENTS, T_POSE_M, joint_rotations
from keylift.core.skeletons import LANDMARKS_41
from keylift.core.source import Source
from keylift.core.tracks import PoseTrack
from keylift.rig_mapping.bone_map import load_bone_map
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import across_palm, rig_body
from keylift.rig_mapping.turn_sharing import shared_turns

RIG_FOLDER = Path(__file__).parent / "rigs"
# Rig -> the preset that is its own.
PRESET_OF = {
    "rigify_metarig": "rigify_metarig",
    "default": "mpfb_default",
    "default_no_toes": "mpfb_default",
    "game_engine": "game_engine",
    "cmu_mb": "cmu_mb",
    "mixamo": "mixamo",
}
LIMB_SEGMENTS = [
    segment for segment in SEGMENTS if segment.name.partition("_")[2] in ("upperarm", "forearm", "thigh", "shank")
]
# World (z up) from T-pose axes (x left, y up, z forward) for someone who faces -y, as rigs in Blender do.
WORLD_FROM_BODY = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


def empty_scene() -> None:
    """Blender as freshly started, with nothing in it."""
    import bpy

    bpy.ops.wm.read_factory_settings(use_empty=True)


def make_rig(name: str) -> Any:
    """An armature object in the open scene: one of ``PRESET_OF``."""

    if name == "rigify_metarig":
        from keylift.addon.rigs import open_rig

        return open_rig(name)
    rows = json.loads((RIG_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return make_armature(name, rows)


def make_armature(name: str, rows: list[Any]) -> Any:
    """An armature object out of rows of bone, parent, head, tail, roll, connected."""
    import bpy

    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="EDIT")
    for bone_name, parent, head, tail, roll, connected in rows:
        bone = data.edit_bones.new(bone_name)
        bone.head, bone.tail, bone.roll = head, tail, roll
        if parent:
            bone.parent = data.edit_bones[parent]
            bone.use_connect = connected
    bpy.ops.object.mode_set(mode="OBJECT")
    return armature


def evaluated(armature: Any, frames: np.ndarray | list[float], bones: tuple[str, ...]) -> np.ndarray:
    """(F, B, 4, 4) where Blender itself puts the bones, world space."""
    import bpy

    posed = []
    for frame in frames:
        whole = int(np.floor(frame))
        bpy.context.scene.frame_set(whole, subframe=float(frame - whole))
        now = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        posed.append([np.array(now.matrix_world @ now.pose.bones[bone].matrix) for bone in bones])
    return np.array(posed)


def plausible_turns(frames: int, seed: int) -> np.ndarray:
    """(F, S, 4) segment turns, world axes as the T-pose's, that a person could take up.

    Elbows and knees are hinges that are clearly bent, the forearm takes half of the hand's twist and both collars shrug
    alike: what positions alone can tell apart.
    """
    rng = np.random.default_rng(seed)

    def about(axis: int, low: float, high: float) -> np.ndarray:
        vector = np.zeros((frames, 3))
        vector[:, axis] = rng.uniform(low, high, frames)
        return from_rotation_vector(vector)

    def wobble(angle: float) -> np.ndarray:
        return from_rotation_vector(rng.normal(0.0, angle / 2, (frames, 3)))

    turn: dict[str, np.ndarray] = {}
    turn["pelvis"] = multiply(about(1, -np.pi, np.pi), wobble(0.4))
    turn["chest"] = multiply(turn["pelvis"], wobble(0.4))
    turn["spine"] = multiply(turn["pelvis"], wobble(0.3))
    turn["neck"] = multiply(turn["chest"], wobble(0.3))
    turn["head"] = multiply(turn["chest"], wobble(0.4))
    shrug = rng.uniform(-0.2, 0.2, frames)
    for side, sign in (("l", 1.0), ("r", -1.0)):
        lift = np.zeros((frames, 3))
        lift[:, 2] = sign * shrug
        turn[f"{side}_clavicle"] = multiply(turn["chest"], from_rotation_vector(lift))
        upper = multiply(turn["chest"], multiply(wobble(1.2), about(2, -1.2 * sign - 0.3, -1.2 * sign + 0.3)))
        bent = multiply(upper, about(1, *sorted((-0.5 * sign, -2.0 * sign))))
        twist = rng.uniform(-1.2, 1.2, frames)
        along = np.zeros((frames, 3))
        along[:, 0] = twist
        turn[f"{side}_upperarm"] = upper
        turn[f"{side}_forearm"] = multiply(bent, from_rotation_vector(along / 2))
        turn[f"{side}_hand"] = multiply(bent, multiply(from_rotation_vector(along), about(2, -0.6, 0.6)))
        thigh = multiply(turn["pelvis"], multiply(about(0, -1.2, 0.3), wobble(0.3)))
        turn[f"{side}_thigh"] = thigh
        turn[f"{side}_shank"] = multiply(thigh, about(0, 0.5, 1.8))
        turn[f"{side}_foot"] = multiply(turn[f"{side}_shank"], wobble(0.3))
        turn[f"{side}_toes"] = turn[f"{side}_foot"]
    return np.stack([turn[name] for name in SEGMENT_NAMES], axis=1)


def rig_rest_turns(rest: RestPose, preset: str) -> dict[str, np.ndarray]:
    """Segment -> (3, 3) turn of the rig's rest pose against the T-pose, world axes; written anew, plainly, as a check.

    Only for rigs that stand upright and face -y, with every segment mapped.
    """
    chains = load_bone_map(preset).bound_to(rest).bones
    head = {segment: rest.heads[rest.names.index(chain[0])] for segment, chain in chains.items()}
    for toes in ("l_toes", "r_toes"):
        # Several toes side by side: the foot points to the middle of them.
        head[toes] = np.mean([rest.heads[rest.names.index(bone)] for bone in chains[toes]], axis=0)
    turns = {name: np.eye(3) for name in SEGMENT_NAMES}
    for side in "lr":
        hand_tail = rest.tails[rest.names.index(chains[f"{side}_hand"][-1])]
        for line in (("upperarm", "forearm", "hand"), ("thigh", "shank", "foot")):
            carried = np.eye(3)
            for part, following in zip(line, line[1:] + ("",), strict=True):
                segment = next(s for s in SEGMENTS if s.name == f"{side}_{part}")
                if part == "foot":
                    break
                end = head[f"{side}_{following}"] if following else hand_tail
                at_t = WORLD_FROM_BODY @ (
                    T_POSE_M[LANDMARKS_41.index(segment.tip)] - T_POSE_M[LANDMARKS_41.index(segment.joint)]
                )
                carried = smallest_turn(carried @ at_t, end - head[segment.name]) @ carried
                if part == "hand":
                    carried = palm_twist(rest, preset, side, end - head[segment.name], carried) @ carried
                turns[segment.name] = carried
        foot = head[f"{side}_toes"] - head[f"{side}_foot"]
        person = WORLD_FROM_BODY @ (
            T_POSE_M[LANDMARKS_41.index(f"{side}_toe_base")] - T_POSE_M[LANDMARKS_41.index(f"{side}_ankle")]
        )
        flat = np.array([1.0, 1.0, 0.0])
        turns[f"{side}_foot"] = turns[f"{side}_toes"] = smallest_turn(person * flat, foot * flat)
    return turns


def palm_twist(rest: RestPose, preset: str, side: str, along: np.ndarray, carried: np.ndarray) -> np.ndarray:
    """(3, 3) twist of a hand at rest that puts its fingers side by side as the T-pose has them; world axes."""
    body = rig_body(rest, load_bone_map(preset))
    across = across_palm(rest, body.chains, side, body.armature_from_body)
    if across is None:
        return np.eye(3)
    along = along / np.linalg.norm(along)
    ahead, fingers = (
        v - along * (v @ along) for v in (carried @ WORLD_FROM_BODY @ [0.0, 0.0, 1.0], WORLD_FROM_BODY @ across)
    )
    return smallest_turn(ahead, fingers)


def shares(rest: RestPose, preset: str, turns: np.ndarray) -> dict[int, np.ndarray]:
    """Mapped bone -> (F, 3, 3) what its turn has beyond its segment's, where several bones share it; T-pose axes.

    A rig whose spine bends and whose limbs twist evenly is what a plausible pose of it looks like; that the sharing is
    even is tested for itself.
    """
    body = rig_body(rest, load_bone_map(preset))
    shared = shared_turns(rest, body, turns)
    extra = {}
    for segment, chain in body.chains.items():
        index = SEGMENT_NAMES.index(segment)
        for bone in chain:
            against_t_pose = multiply(shared[bone], body.rest_turns[index])
            extra[bone] = to_matrix(multiply(inverse(turns[:, index]), against_t_pose))
    return extra


def smallest_turn(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(3, 3) by Rodrigues' formula; ``a`` and ``b`` not opposite."""
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    v, c = np.cross(a, b), a @ b
    k = np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


class Performance:
    """What a rig does when its body takes up known turns: plain forward kinematics, a bone and a frame at a time.

    pose:    the PoseTrack that a perfect capture of this rig would give
    heads:   (F, B, 3) where its joints are in the world
    turned:  (F, B, 3, 3) how its bones stand in the world
    turns:   (F, S, 4) the segment turns, world from T-pose
    """

    def __init__(self, rest: RestPose, preset: str, turns: np.ndarray, path_m: np.ndarray) -> None:
        self.turns = turns
        chains = load_bone_map(preset).bound_to(rest).bones
        segment_of = {bone: segment for segment, chain in chains.items() for bone in chain}
        rest_turns = rig_rest_turns(rest, preset)
        extra = shares(rest, preset, turns)
        world = rest.world_from_armature
        object_turn = rest.world_from_armature_rotation
        frames, bones = len(turns), len(rest)
        self.heads = np.zeros((frames, bones, 3))
        self.turned = np.zeros((frames, bones, 3, 3))
        rest_heads = rest.heads @ world[:3, :3].T + world[:3, 3]
        rest_turned = object_turn @ rest.armature_from_bone[:, :3, :3]
        thighs = [rest.names.index(chains[f"{side}_thigh"][0]) for side in "lr"]
        for frame in range(frames):
            for bone in range(bones):
                parent = rest.parents[bone]
                carried = np.eye(3) if parent < 0 else self.turned[frame, parent] @ rest_turned[parent].T
                base = rest_heads[bone] if parent < 0 else self.heads[frame, parent]
                self.heads[frame, bone] = base + (
                    0 if parent < 0 else carried @ (rest_heads[bone] - rest_heads[parent])
                )
                segment = segment_of.get(rest.names[bone])
                if segment is None:
                    self.turned[frame, bone] = carried @ rest_turned[bone]
                    continue
                turn = to_matrix(turns[frame, SEGMENT_NAMES.index(segment)]) @ extra[bone][frame]
                now = WORLD_FROM_BODY @ turn @ WORLD_FROM_BODY.T
                self.turned[frame, bone] = now @ rest_turns[segment].T @ rest_turned[bone]
            hips = rest.names.index(chains["pelvis"][0])
            below = [bone for bone in range(bones) if hips in rest.ancestors(bone)]
            self.heads[frame, below] += path_m[frame] - self.heads[frame, thighs].mean(axis=0)
        self.rest, self.chains = rest, chains
        self.turns = multiply(np.broadcast_to(from_matrix(WORLD_FROM_BODY), turns.shape), turns)
        self.pose = self._pose(path_m, rest_heads)

    def _pose(self, path_m: np.ndarray, rest_heads: np.ndarray) -> PoseTrack:
        positions = np.tile(path_m[:, None], (1, len(LANDMARKS_41), 1))
        scale = self._leg_m(rest_heads) / float(np.abs(T_POSE_M[LANDMARKS_41.index("l_ankle"), 1]))
        known = {"pelvis"}
        for segment in SEGMENTS[1:]:
            if segment.name in self.chains:
                bone = self.rest.names.index(self.chains[segment.name][0])
                bones = [bone]
                if segment.name.endswith("toes"):
                    bones = [self.rest.names.index(toe) for toe in self.chains[segment.name]]
                positions[:, LANDMARKS_41.index(segment.joint)] = self.heads[:, bones].mean(axis=1)
                known.add(segment.joint)
        # Points that no bone starts at ride on the bones above them, at places of our choice.
        matrices = to_matrix(self.turns)
        for joint, (name, parent) in enumerate(zip(LANDMARKS_41.names, LANDMARKS_41.parents, strict=True)):
            if name in known:
                continue
            if name[2:] in ("knuckle", "toe_tip"):
                positions[:, joint] = self._tip(f"{name[0]}_{'hand' if name[2:] == 'knuckle' else 'toes'}")
                continue
            rides_on = parent
            while LANDMARKS_41.names[rides_on] not in {segment.joint for segment in SEGMENTS}:
                rides_on = LANDMARKS_41.parents[rides_on]
            segment_index = next(
                i for i, segment in enumerate(SEGMENTS) if segment.joint == LANDMARKS_41.names[rides_on]
            )
            offset = (T_POSE_M[joint] - T_POSE_M[parent]) * scale
            positions[:, joint] = positions[:, parent] + matrices[:, segment_index] @ offset
        return filmed(positions, self.turns)

    def _leg_m(self, rest_heads: np.ndarray) -> float:
        hip, knee, ankle = (
            rest_heads[self.rest.names.index(self.chains[f"l_{part}"][0])] for part in ("thigh", "shank", "foot")
        )
        return float(np.linalg.norm(hip - knee) + np.linalg.norm(knee - ankle))

    def _tip(self, segment: str) -> np.ndarray:
        """(F, 3) the middle of the tips of a hand's last bone, or of all toes."""
        chain = self.chains[segment]
        bones = [self.rest.names.index(bone) for bone in (chain[-1:] if segment.endswith("hand") else chain)]
        lengths = self.rest.lengths[bones] * self.rest.scale
        return (self.heads[:, bones] + self.turned[:, bones][..., 1] * lengths[:, None]).mean(axis=1)


def filmed(positions_world_m: np.ndarray, turns_world: np.ndarray, fps: float = 25.0) -> PoseTrack:
    """A pose as if a camera, tilted and to the side, had seen it. Turns: (F, S, 4) world from T-pose."""
    frames = len(positions_world_m)
    world_from_camera = np.eye(4)
    looking = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    world_from_camera[:3, :3] = to_matrix(from_rotation_vector(np.array([-0.2, 0.05, 0.3]))) @ looking
    world_from_camera[:3, 3] = [0.6, -4.0, 1.5]
    rotation = world_from_camera[:3, :3]
    in_camera = (positions_world_m - world_from_camera[:3, 3]) @ rotation
    turns = multiply(np.broadcast_to(from_matrix(rotation.T), turns_world.shape), turns_world)
    return PoseTrack(
        positions_m=in_camera,
        rotations_wxyz=joint_rotations(turns),
        confidence=np.ones((frames, len(LANDMARKS_41))),
        contact=np.zeros((frames, 4)),
        world_from_camera=world_from_camera,
        time_s=np.arange(frames) / fps,
        frame_index=np.arange(frames),
        fps=fps,
        camera=Camera.guessed((1280, 720)),
        skeleton=LANDMARKS_41,
        source=Source("sample.mp4", ""),
    )


def standing_pose(frames: int = 3) -> PoseTrack:
    """Someone in the T-pose, facing -y."""
    turns = np.tile(from_matrix(WORLD_FROM_BODY), (frames, len(SEGMENTS), 1))
    height = -T_POSE_M[:, 1].min()
    positions = np.tile(T_POSE_M @ WORLD_FROM_BODY.T + [0, 0, height], (frames, 1, 1))
    return filmed(positions, turns)
