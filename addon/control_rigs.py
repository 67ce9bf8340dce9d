"""Control rigs: what their switches must say, and how their controls follow each other, measured in Blender itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any

import bpy
import numpy as np
from mathutils import Matrix

from ..core.errors import RigError
from ..rig_mapping.bone_map import IK_LIMBS, BoneMap, Controls, Switch
from ..rig_mapping.control_following import following
from ..rig_mapping.rest_pose import RestPose
from ..rig_mapping.rig_body import titles

# Large enough to be told from single precision, about an axis that no rig has, and small enough that a leg on IK can
# still follow: at the end of its reach it would go along in part.
_TEST_TURN = Matrix.Rotation(0.2, 4, (0.3, 0.8, 0.5))
# So far a control is moved as well, as a share of the rig's extent: one that starts where another does goes along with
# it in place, and a turn alone would not show it.
_TEST_STEP = 0.03
# Less than this share of the rig's extent, and of a turn, is no answer: a solver's leftovers.
_ANSWERS = 1e-3
# With IK controls at rest, bones may stand so far from where FK controls at rest have them, as a share of the extent.
_SAME_REST = 5e-3
_LIMB_PARTS = ("upperarm", "forearm", "hand", "thigh", "shank", "foot", "toes")
_CHANNELS = ("location", "rotation_quaternion", "rotation_euler", "rotation_axis_angle", "scale")
_MOST_NAMED = 4

PropertyValues = dict[tuple[str, str], float]


def property_values(armature_object: bpy.types.Object, controls: Controls, limbs: str) -> PropertyValues:
    """(bone, custom property) -> the value that it must have for limbs keyed as "fk" or "ik", where the rig has it.

    Switches of limbs that have no IK control stay on FK.
    """
    on_ik = _switches_of_ik_limbs(armature_object, controls) if limbs == "ik" else ()
    return _values(armature_object, controls, on_ik)


def read_controls(
    armature_object: bpy.types.Object, rest: RestPose, bone_map: BoneMap, limbs: str
) -> tuple[RestPose, list[str]]:
    """The controls of a rig alone, with the one that really carries each as its parent; and what to warn of.

    rest:     the whole rig, as read
    bone_map: bound to the rig, with ``controls``
    limbs:    "fk" or "ik"; for "ik" the IK controls are among the bones too, which hang on controls outside the limbs

    The rig and the scene are left as they were. Raises RigError when the rig can't be posed as it is now.
    """
    controls = bone_map.controls or Controls()
    chains = (*bone_map.bones.values(), *bone_map.twist.values())
    fk_names = list(dict.fromkeys(bone for chain in chains for bone in chain))
    if bone_map.root is not None and bone_map.root not in fk_names:
        fk_names.insert(0, bone_map.root)
    limb_names = {b for segment, chain in bone_map.bones.items() if segment[2:] in _LIMB_PARTS for b in chain}
    warnings = _missing_properties(armature_object, controls)
    fk_values = property_values(armature_object, controls, "fk")
    ik_values = property_values(armature_object, controls, limbs)
    with _stage(armature_object) as stage:
        deforming = [name for name, deforms in zip(rest.names, rest.use_deform, strict=True) if deforms]
        fk = _measured(stage, fk_names, deforming, fk_values)
        names, measured = fk.names, dict(fk.controls)
        warnings += fk.warnings
        mapped = [name for name in names if name != bone_map.root]
        if limbs == "ik":
            present = {limb: control for limb, control in controls.ik.items() if control.bone in rest.names}
            ik_names = [name for control in present.values() for name in control.names if name in rest.names]
            trunk = [name for name in names if name not in limb_names]
            ik = _measured(stage, list(dict.fromkeys([*trunk, *ik_names])), deforming, ik_values)
            # What carries FK controls is told with the limbs on FK; here only what carries the IK controls.
            for name in ik.names:
                if name not in measured:
                    names.append(name)
                    measured[name] = ik.controls[name]
            warnings += [warning for warning in ik.warnings if warning not in warnings]
            warnings += _limbs_on_fk(rest.name, bone_map, present)
            warnings += _standing_apart(rest.name, deforming, fk, ik)
            if len(present) == len(IK_LIMBS):
                mapped = [name for name in mapped if name not in limb_names]
            warnings += _without_effect(rest.name, [control.bone for control in present.values()], ik)
        warnings += _without_effect(rest.name, mapped, fk)
    # Only now: a driver that may not run is found out when it should.
    warnings += _blocked_drivers(armature_object)
    # Switches sit on bones that get no other keys; a user's own map must find all that it names here too.
    named = [switch.bone for switch in controls.switches] + [setting.bone for setting in controls.settings]
    named += [name for control in controls.ik.values() for name in control.names]
    for name in named:
        if name not in measured and name in rest.names:
            names.append(name)
            measured[name] = _unmeasured(rest, rest.names.index(name))
    return _as_rest_pose(rest, names, measured), list(dict.fromkeys(warnings))


@dataclass(frozen=True, eq=False)
class MeasuredControl:
    """One control: what carries it, whether it is turned along, its matrix at rest, the axes that it moves by."""

    parent: str | None
    inherits: bool
    at_rest: np.ndarray
    moves_along: np.ndarray


def _unmeasured(rest: RestPose, bone: int) -> MeasuredControl:
    return MeasuredControl(None, True, rest.armature_from_bone[bone], rest.location_axes[bone])


@dataclass(frozen=True, eq=False)
class _Measured:
    """What was seen of some controls.

    names:         the controls, parents first
    controls:      what each does
    deform_heads:  (D, 3) where the deforming bones are with all of them at rest, armature space
    without_effect: the controls that move no deforming bone when they are turned
    warnings:      what a solve that takes all this for true will get wrong
    """

    names: list[str]
    controls: dict[str, MeasuredControl]
    deform_heads: np.ndarray
    without_effect: tuple[str, ...]
    warnings: list[str]


def _measured(stage: _Stage, controls: Sequence[str], deforming: Sequence[str], values: PropertyValues) -> _Measured:
    names = list(controls)
    everything = list(dict.fromkeys([*names, *deforming]))
    deform_rows = [everything.index(name) for name in deforming]
    count = len(names)
    stage.set_properties(values)
    for name in names:
        stage.pose(name, Matrix())
    all_at_rest = stage.matrices(everything)
    at_rest = _without_scale(all_at_rest[:count])
    turned = np.empty((count, count, 4, 4))
    # A step as large as the rig: small ones drown in single precision.
    step = _extent(at_rest)
    axes = np.empty((count, 3, 3))
    moves = np.zeros(count, dtype=bool)
    for index, name in enumerate(names):
        stage.pose(name, _test_pose(step))
        now = stage.matrices(everything)
        turned[index] = _without_scale(now[:count])
        moves[index] = _answers(all_at_rest[deform_rows], now[deform_rows], step).any()
        for axis in range(3):
            stage.pose(name, Matrix.Translation(np.eye(3)[axis] * step))
            axes[index, :, axis] = (stage.matrices([name])[0] - at_rest[index])[:3, 3] / step
        stage.pose(name, Matrix())
    told = following(at_rest, turned)
    measured = {
        name: MeasuredControl(
            parent=names[told.parents[i]] if told.parents[i] >= 0 else None,
            inherits=bool(told.inherits[i]),
            at_rest=at_rest[i],
            moves_along=_rotation_near(axes[i]) if np.abs(axes[i]).max() > 0.5 else at_rest[i, :3, :3],
        )
        for i, name in enumerate(names)
    }
    in_part = [(names[follower], names[control]) for follower, control in told.in_part]
    return _Measured(
        names=[names[index] for index in told.order],
        controls=measured,
        deform_heads=all_at_rest[deform_rows, :3, 3],
        without_effect=tuple(name for name, moved in zip(names, moves, strict=True) if deforming and not moved),
        warnings=_followed_in_part(stage.armature_object, in_part),
    )


def _switches_of_ik_limbs(armature_object: bpy.types.Object, controls: Controls) -> tuple[Switch, ...]:
    """The switches that have a say in what the IK controls do; of a rig with IK controls for all limbs, all are."""
    bones = armature_object.pose.bones
    limbs = {limb: control for limb, control in controls.ik.items() if control.bone in bones}
    if len(limbs) == len(IK_LIMBS) or not limbs:
        return controls.switches if limbs else ()
    names = [name for control in limbs.values() for name in control.names if name in bones]
    everything = [bone.name for bone in bones]
    with _stage(armature_object) as stage:

        def answers_with(on_ik: Sequence[Switch]) -> np.ndarray:
            """(controls, bones, 4, 4) how far every bone goes along with every IK control."""
            stage.set_properties(_values(armature_object, controls, on_ik))
            at_rest = stage.matrices(everything)
            answers = []
            for name in names:
                stage.pose(name, _test_pose(_extent(at_rest)))
                answers.append(stage.matrices(everything) - at_rest)
                stage.pose(name, Matrix())
            return np.array(answers)

        for name in names:
            stage.pose(name, Matrix())
        extent = _extent(stage.matrices(everything))
        with_all = answers_with(controls.switches)
        return tuple(
            switch
            for switch in controls.switches
            if _answers(with_all, answers_with([other for other in controls.switches if other != switch]), extent).any()
        )


def _values(armature_object: bpy.types.Object, controls: Controls, on_ik: Sequence[Switch]) -> PropertyValues:
    wanted = {(s.bone, s.property): s.ik if s in on_ik else s.fk for s in controls.switches}
    wanted |= {(setting.bone, setting.property): setting.value for setting in controls.settings}
    return {key: value for key, value in wanted.items() if _has_number(armature_object, *key)}


def _has_number(armature_object: bpy.types.Object, bone: str, name: str) -> bool:
    bones = armature_object.pose.bones
    return bone in bones and isinstance(bones[bone].get(name), (bool, int, float))


def _test_pose(extent: float) -> Matrix:
    return Matrix.Translation(np.full(3, _TEST_STEP / np.sqrt(3) * extent)) @ _TEST_TURN


def _extent(matrices: np.ndarray) -> float:
    return max(float(np.ptp(matrices[:, :3, 3], axis=0).max()), 1e-6)


def _answers(a: np.ndarray, b: np.ndarray, extent: float) -> np.ndarray:
    """(...) True where matrices (..., 4, 4) differ by more than a solver's leftovers."""
    off = np.abs(a - b)
    return (off[..., :3, 3].max(axis=-1) > _ANSWERS * extent) | (off[..., :3, :3].max(axis=(-2, -1)) > _ANSWERS)


def _without_scale(matrices: np.ndarray) -> np.ndarray:
    rigid = matrices.copy()
    rigid[:, :3, :3] = _rotation_near(rigid[:, :3, :3])
    return rigid


def _rotation_near(matrices: np.ndarray) -> np.ndarray:
    """(..., 3, 3) without scale."""
    u, _, vt = np.linalg.svd(matrices)
    return u @ vt


def _as_rest_pose(rest: RestPose, names: Sequence[str], measured: dict[str, MeasuredControl]) -> RestPose:
    index = [rest.names.index(name) for name in names]
    position = {name: i for i, name in enumerate(names)}
    parents = [measured[name].parent for name in names]
    return replace(
        rest,
        names=tuple(names),
        parents=tuple(-1 if parent is None else position[parent] for parent in parents),
        armature_from_bone=np.array([measured[name].at_rest for name in names]),
        lengths=rest.lengths[index],
        rotation_modes=tuple(rest.rotation_modes[i] for i in index),
        inherit_rotation=np.array([measured[name].inherits for name in names]),
        local_location=rest.local_location[index],
        locks=rest.locks[index],
        use_connect=rest.use_connect[index],
        basis=rest.basis[index],
        rotation_locks=rest.rotation_locks[index],
        use_deform=rest.use_deform[index],
        location_axes=np.array([measured[name].moves_along for name in names]),
    )


# --- what to warn of -------------------------------------------------------------------------------------------------


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_MOST_NAMED]) + more


def _missing_properties(armature_object: bpy.types.Object, controls: Controls) -> list[str]:
    named = [(switch.bone, switch.property) for switch in controls.switches]
    named += [(setting.bone, setting.property) for setting in controls.settings]
    missing = [f"{name} of {bone}" for bone, name in named if not _has_number(armature_object, bone, name)]
    if not missing:
        return []
    return [
        f"'{armature_object.name}' lacks properties that its bone map names, or they are no numbers: "
        f"{_named(missing)}. Correct 'controls' in the bone map, or set by hand what they should."
    ]


def _followed_in_part(armature_object: bpy.types.Object, pairs: list[tuple[str, str]]) -> list[str]:
    followed: dict[str, list[str]] = {}
    for follower, control in pairs:
        followed.setdefault(follower, []).append(control)
    halfway = [
        f"{name} of {bone.name}"
        for bone in armature_object.pose.bones
        for name, value in bone.items()
        if isinstance(value, float) and 0 < value < 1
    ]
    try_these = f", perhaps {_named(halfway)}," if halfway else ""
    return [
        f"'{follower}' follows {_named(controls)} only in part, so its keys may be off. Set the property of the rig "
        f"that says how much it follows{try_these} to all or nothing, or name it under 'settings' in a bone map."
        for follower, controls in followed.items()
    ]


def _limbs_on_fk(rig: str, bone_map: BoneMap, present: Sequence[str] | dict[str, Any]) -> list[str]:
    missing = [limb for limb in IK_LIMBS if limb not in present]
    if not missing:
        return []
    return [
        f"The bone map '{bone_map.name}' has no IK control on '{rig}' for: {titles(*missing)}. Its FK controls are "
        "keyed. Name the IK control under 'ik' in a bone map to have that keyed."
    ]


def _standing_apart(rig: str, deforming: Sequence[str], fk: _Measured, ik: _Measured) -> list[str]:
    if not deforming:
        return []
    extent = max(float(np.ptp(fk.deform_heads, axis=0).max()), 1e-6)
    off = np.linalg.norm(fk.deform_heads - ik.deform_heads, axis=1)
    if off.max() <= _SAME_REST * extent:
        return []
    worst = deforming[int(off.argmax())]
    return [
        f"With its IK controls at rest, '{rig}' does not stand as with its FK controls: '{worst}' is "
        f"{off.max() / extent:.1%} of the rig's size off, so the limbs may miss. Clear the pose of controls that get "
        "no keys, such as those that roll the foot, or key the FK controls."
    ]


def _without_effect(rig: str, names: Sequence[str], measured: _Measured) -> list[str]:
    still = [name for name in names if name in measured.without_effect]
    if not still:
        return []
    return [
        f"Controls of '{rig}' move none of its deforming bones, so their keys will not show: {_named(still)}. Name the "
        "property that puts the limb on them under 'switches' in a bone map, or unmute the rig's constraints."
    ]


def _blocked_drivers(armature_object: bpy.types.Object) -> list[str]:
    owners = (armature_object, armature_object.data)
    invalid = [
        curve
        for owner in owners
        if owner.animation_data is not None
        for curve in owner.animation_data.drivers
        if not curve.driver.is_valid
    ]
    if not invalid:
        return []
    blocked = any(c.driver.type == "SCRIPTED" and not c.driver.is_simple_expression for c in invalid)
    return [
        f"{len(invalid)} drivers of '{armature_object.name}' do not work, such as that of "
        f"{invalid[0].data_path}, so what they drive may stand wrong. "
        + (
            "Blender runs no scripts of this file: if you trust it, allow them (File > Open > Trusted Source) and try "
            "again."
            if blocked and bpy.app.autoexec_fail
            else "Mend or remove them."
        )
    ]


# --- measuring -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Stage:
    """An armature that can be posed and looked at, with nothing around it."""

    armature_object: bpy.types.Object
    layer: bpy.types.ViewLayer

    def pose(self, bone: str, matrix: Matrix) -> None:
        """Give a bone a turn and a shift of its own."""
        self.armature_object.pose.bones[bone].matrix_basis = matrix

    def set_properties(self, values: PropertyValues) -> None:
        """A boolean or whole number stays what it is: Blender refuses to animate one that changed its kind."""
        for (bone, name), value in values.items():
            pose_bone = self.armature_object.pose.bones[bone]
            pose_bone[name] = type(pose_bone[name])(value)

    def matrices(self, names: Sequence[str]) -> np.ndarray:
        """(N, 4, 4) where the bones are now, armature space."""
        _evaluate(self.armature_object, self.layer)
        bones = self.armature_object.evaluated_get(self.layer.depsgraph).pose.bones
        return np.array([bones[name].matrix for name in names], dtype=float).reshape(-1, 4, 4)


@contextmanager
def _stage(armature_object: bpy.types.Object) -> Iterator[_Stage]:
    """Whatever the block does to the pose, its custom properties and the playing animation is taken back after it.

    The armature is measured in a scene of its own: there it is seen though it may be hidden in the user's, and meshes
    that hang on it cost no time.
    """
    data = armature_object.animation_data
    if data is not None and data.use_tweak_mode:
        raise RigError(f"An NLA strip of '{armature_object.name}' is being tweaked. Leave tweak mode (Tab) first.")
    if armature_object.mode == "EDIT":
        raise RigError(f"'{armature_object.name}' is in edit mode, where it can't be posed. Leave it (Tab) first.")
    frame = bpy.context.scene.frame_current_final
    with ExitStack() as undone:
        # Taken back last, when the scenes have been evaluated: the old animation must not overwrite it.
        kept = _kept_pose(armature_object)
        undone.callback(_put_back_pose, *kept)
        undone.callback(_evaluate, armature_object, bpy.context.view_layer)
        scene = bpy.data.scenes.new("Keylift measures")
        undone.callback(bpy.data.scenes.remove, scene)
        scene.frame_current, scene.frame_subframe = int(np.floor(frame)), float(frame - np.floor(frame))
        scene.collection.objects.link(armature_object)
        layer = scene.view_layers[0]
        for thing, name, value in (
            (armature_object, "hide_viewport", False),
            (armature_object.data, "pose_position", "POSE"),
        ):
            if getattr(thing, name) != value:
                undone.callback(setattr, thing, name, getattr(thing, name))
                setattr(thing, name, value)
        # What drivers wrote while measuring is written anew here: in the user's scene a hidden rig stays as it is.
        undone.callback(_evaluate, armature_object, layer)
        undone.callback(_put_back_pose, *kept)
        if data is not None:
            undone.callback(_put_back_animation, data, data.action, getattr(data, "action_slot", None), data.use_nla)
            # Else the next evaluation would put the old animation over what is measured.
            data.action, data.use_nla = None, False
        yield _Stage(armature_object, layer)


KeptPose = list[tuple[bpy.types.PoseBone, dict[str, tuple[float, ...]]]]
KeptProperties = list[tuple[bpy.types.PoseBone, str, Any]]


def _kept_pose(armature_object: bpy.types.Object) -> tuple[KeptPose, KeptProperties]:
    bones = armature_object.pose.bones
    poses = [(bone, {channel: tuple(getattr(bone, channel)) for channel in _CHANNELS}) for bone in bones]
    properties = [
        (bone, name, value) for bone in bones for name, value in bone.items() if isinstance(value, (bool, int, float))
    ]
    return poses, properties


def _put_back_pose(poses: KeptPose, properties: KeptProperties) -> None:
    for bone, channels in poses:
        for channel, value in channels.items():
            if tuple(getattr(bone, channel)) != value:
                setattr(bone, channel, value)
    for bone, name, value in properties:
        if bone[name] != value:
            bone[name] = value


def _put_back_animation(data: bpy.types.AnimData, action: bpy.types.Action | None, slot: Any, use_nla: bool) -> None:
    data.use_nla = use_nla
    data.action = action
    if action is not None and hasattr(data, "action_slot"):
        # Assigning an action may pick a slot by itself.
        data.action_slot = slot


def _evaluate(armature_object: bpy.types.Object, layer: bpy.types.ViewLayer) -> None:
    armature_object.update_tag()
    layer.update()
