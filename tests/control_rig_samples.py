"""Control rigs to try things on: one that Rigify generates, and one of another design, made by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rig_samples import make_armature

# Deforming bone of a limb -> the FK control that it follows.
RIGIFY_LIMBS = {
    f"DEF-{deform}.{side}": f"{control}.{side}"
    for side in "LR"
    for deform, control in (
        ("upper_arm", "upper_arm_fk"),
        ("forearm", "forearm_fk"),
        ("hand", "hand_fk"),
        ("thigh", "thigh_fk"),
        ("shin", "shin_fk"),
        ("foot", "foot_fk"),
        ("toe", "toe_fk"),
    )
}
OWN_LIMBS = {
    f"{deform}.{side}": f"c_{deform}_fk.{side}"
    for side in "lr"
    for deform in ("arm", "forearm", "hand", "thigh", "leg", "foot", "toes")
}


def generated_rig_file(folders: pytest.TempPathFactory) -> Path:
    """A .blend with what Rigify generates out of its human metarig, object "rig".

    Some seconds the first time; processes that test side by side share it.
    """
    own = folders.mktemp("rigify") / "rigify.blend"
    shared = folders.getbasetemp().parent / own.name if "PYTEST_XDIST_WORKER" in os.environ else own
    if not shared.is_file():
        _generate(own)
        own.replace(shared)
    return shared


def _generate(path: Path) -> None:
    import addon_utils
    import bpy

    from keylift.addon.rigs import fresh_scene, open_rig

    fresh_scene()
    addon_utils.enable("rigify", default_set=True)
    try:
        metarig = open_rig("rigify_metarig")
        bpy.ops.pose.rigify_generate()
        rig = next(o for o in bpy.data.objects if o.type == "ARMATURE" and o is not metarig)
        rig.name = "rig"
        bpy.data.objects.remove(metarig)
        bpy.ops.wm.save_as_mainfile(filepath=str(path))
    finally:
        addon_utils.disable("rigify", default_set=True)
        for handler in list(bpy.app.handlers.load_post):
            if getattr(handler, "__module__", "").partition(".")[0] == "rigify":
                bpy.app.handlers.load_post.remove(handler)


# --- a rig of another design -----------------------------------------------------------------------------------------

_TRUNK = [
    ("traj", None, (0, 0, 0), (0, 0.3, 0)),
    ("root", "traj", (0, 0, 0.95), (0, 0, 1.05)),
    ("spine", "root", (0, 0, 1.05), (0, 0, 1.25)),
    ("chest", "spine", (0, 0, 1.25), (0, 0, 1.45)),
    ("neck", "chest", (0, 0, 1.45), (0, 0, 1.55)),
    ("head", "neck", (0, 0, 1.55), (0, 0, 1.75)),
]
_SIDE = [
    ("shoulder", "chest", (0.03, 0, 1.42), (0.16, 0, 1.42)),
    ("arm", "shoulder", (0.17, 0, 1.42), (0.45, 0.03, 1.40)),
    ("forearm", "arm", (0.45, 0.03, 1.40), (0.70, 0, 1.38)),
    ("hand", "forearm", (0.70, 0, 1.38), (0.86, -0.01, 1.37)),
    ("thigh", "root", (0.1, 0, 0.92), (0.1, -0.03, 0.5)),
    ("leg", "thigh", (0.1, -0.03, 0.5), (0.1, 0.02, 0.09)),
    ("foot", "leg", (0.1, 0.02, 0.09), (0.1, -0.12, 0.02)),
    ("toes", "foot", (0.1, -0.12, 0.02), (0.1, -0.19, 0.02)),
]
_ON_BOTH = ("arm", "forearm", "hand", "thigh", "leg", "foot", "toes")
_ROLL = 0.3


def make_own_rig() -> Any:
    """Deforming bones that copy an FK chain or, as the float ``ik_fk_switch`` on the IK control says (1.0 = FK), a
    chain on an IK constraint with a pole. Controls begin with ``c_``."""
    import bpy

    bones = [(f"{name}.x", f"{parent}.x" if parent else None, head, tail) for name, parent, head, tail in _TRUNK]
    trunk = {name for name, *_ in _TRUNK}
    for side, sign in (("l", 1.0), ("r", -1.0)):
        for name, parent, head, tail in _SIDE:
            ending = "x" if parent in trunk else side
            bones.append((f"{name}.{side}", f"{parent}.{ending}", *(_mirrored(point, sign) for point in (head, tail))))
    rows: list[list[Any]] = []
    for name, parent, head, tail in bones:
        plain, _, ending = name.rpartition(".")
        control = f"c_{plain}_fk.{ending}" if plain in _ON_BOTH else f"c_{name}"
        above = parent and (f"c_{parent[:-2]}_fk{parent[-2:]}" if parent[:-2] in _ON_BOTH else f"c_{parent}")
        rows.append([control, above or "", head, tail, _ROLL, False])
        # Deforming bones have a tree of their own, which only hangs on the object.
        rows.append([name, parent or "", head, tail, _ROLL, False])
        if plain in ("arm", "forearm", "thigh", "leg"):
            first = plain in ("arm", "thigh")
            rows.append(
                [f"{plain}_ik.{ending}", above if first else f"{parent[:-2]}_ik.{ending}", head, tail, _ROLL, False]
            )
        if plain in ("hand", "foot"):
            rows.append([f"c_{plain}_ik.{ending}", "c_traj.x", head, tail, _ROLL, False])
            elbow = next(
                at for other, _, at, _ in bones if other == f"{'forearm' if plain == 'hand' else 'leg'}.{ending}"
            )
            ahead = 0.6 if plain == "hand" else -0.6
            pole = (elbow[0], elbow[1] + ahead, elbow[2])
            pole_name = f"c_{'arms' if plain == 'hand' else 'leg'}_pole.{ending}"
            rows.append([pole_name, "c_traj.x", pole, (pole[0], pole[1], pole[2] + 0.1), 0.0, False])
        if plain == "toes":
            rows.append([f"c_toes_ik.{ending}", f"c_foot_ik.{ending}", head, tail, _ROLL, False])
    rig = make_armature("own", rows)
    for bone in rig.data.bones:
        bone.use_deform = bone.name in {name for name, *_ in bones}
    pose = rig.pose.bones
    for name, *_ in bones:
        plain, _, ending = name.rpartition(".")
        limb = "hand" if plain in ("arm", "forearm", "hand") else "foot"
        fk = pose[name].constraints.new("COPY_TRANSFORMS")
        fk.target, fk.subtarget = rig, f"c_{plain}_fk.{ending}" if plain in _ON_BOTH else f"c_{name}"
        if plain in _ON_BOTH:
            ik = pose[name].constraints.new("COPY_TRANSFORMS")
            ik.target = rig
            ik.subtarget = f"c_{plain}_ik.{ending}" if plain in ("hand", "foot", "toes") else f"{plain}_ik.{ending}"
            driver = ik.driver_add("influence").driver
            driver.type, driver.expression = "SCRIPTED", "1 - switch"
            variable = driver.variables.new()
            variable.name = "switch"
            variable.targets[0].id = rig
            variable.targets[0].data_path = f'pose.bones["c_{limb}_ik.{ending}"]["ik_fk_switch"]'
    for side in "lr":
        for limb, lower, pole in (("hand", "forearm", "arms"), ("foot", "leg", "leg")):
            pose[f"c_{limb}_ik.{side}"]["ik_fk_switch"] = 0.0
            ik = pose[f"{lower}_ik.{side}"].constraints.new("IK")
            ik.target, ik.subtarget, ik.chain_count = rig, f"c_{limb}_ik.{side}", 2
            ik.pole_target, ik.pole_subtarget, ik.use_stretch = rig, f"c_{pole}_pole.{side}", False
            ik.pole_angle = _pole_angle(rig, f"{'arm' if limb == 'hand' else 'thigh'}_ik.{side}", ik.pole_subtarget)
    bpy.context.view_layer.update()
    return rig


def _mirrored(point: tuple[float, float, float], sign: float) -> tuple[float, float, float]:
    return (point[0] * sign, point[1], point[2])


def _pole_angle(rig: Any, upper: str, pole: str) -> float:
    """The one at which the pole turns nothing at rest: from the bone's x axis to the pole, about the limb's line."""
    bone = rig.data.bones[upper]
    tip, base = np.array(bone.children[0].tail_local), np.array(bone.head_local)
    along = np.array(bone.tail_local) - base
    across = np.cross(np.cross(tip - base, np.array(rig.data.bones[pole].head_local) - base), along)
    x = np.array(bone.matrix_local)[:3, 0]
    return float(-np.arctan2(np.cross(x, across) @ along / np.linalg.norm(along), x @ across))


def own_rig_map(path: Path, **changes: Any) -> Path:
    """A user's bone map of format 2 for the rig of ``make_own_rig``; ``changes`` replace parts of its controls."""
    bones = {"pelvis": "c_root.x", "spine": "c_spine.x", "chest": "c_chest.x", "neck": "c_neck.x", "head": "c_head.x"}
    parts = {"upperarm": "arm", "forearm": "forearm", "hand": "hand"}
    parts |= {"thigh": "thigh", "shank": "leg", "foot": "foot", "toes": "toes"}
    for side in "lr":
        bones[f"{side}_clavicle"] = f"c_shoulder.{side}"
        bones |= {f"{side}_{segment}": f"c_{part}_fk.{side}" for segment, part in parts.items()}
    controls = {
        "switches": [
            {"bone": f"c_{limb}_ik.{side}", "property": "ik_fk_switch", "fk": 1.0, "ik": 0.0}
            for side in "lr"
            for limb in ("hand", "foot")
        ],
        "ik": {
            f"{side}_{limb}": {"bone": f"c_{limb}_ik.{side}", "pole": f"c_{pole}_pole.{side}"}
            | ({"toe": f"c_toes_ik.{side}"} if limb == "foot" else {})
            for side in "lr"
            for limb, pole in (("hand", "arms"), ("foot", "leg"))
        },
    }
    table = {"format": 2, "bones": bones, "root": "c_traj.x", "controls": controls | changes}
    path.write_text(json.dumps(table), encoding="utf-8")
    return path


def rig_facts(rig: Any) -> dict[str, str]:
    """All of a rig and the scenes about it that measuring must leave alone."""
    import bpy

    facts = {}
    for bone in rig.pose.bones:
        channels = (bone.location, bone.rotation_quaternion, bone.rotation_euler, bone.rotation_axis_angle, bone.scale)
        properties = sorted(
            (key, repr(value)) for key, value in bone.items() if isinstance(value, (bool, int, float, str))
        )
        constraints = [(tie.name, tie.mute, tie.influence) for tie in bone.constraints]
        facts[bone.name] = repr((bone.rotation_mode, [tuple(values) for values in channels], properties, constraints))
    data = rig.animation_data
    if data is not None:
        slot = getattr(data, "action_slot", None)
        strips = [(s.name, s.mute, s.frame_start, s.action.name) for track in data.nla_tracks for s in track.strips]
        playing = (data.action and data.action.name, slot and slot.identifier, data.use_nla, len(data.drivers))
        facts["animation"] = repr((playing, [track.mute for track in data.nla_tracks], strips))
    facts["object"] = repr((rig.mode, rig.hide_viewport, rig.hide_get(), rig.data.pose_position, rig.matrix_world))
    facts["file"] = repr(
        (rig.users, [c.name for c in rig.users_collection], *map(list, (bpy.data.scenes, bpy.data.actions)))
    )
    facts["scene"] = repr((bpy.context.scene.name, bpy.context.scene.frame_current_final))
    return facts
