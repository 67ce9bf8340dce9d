"""F-curves in bulk, in actions of every kind that Blender has: a key at a time takes minutes, this a blink."""

from __future__ import annotations

from typing import Any

import bpy
import numpy as np

# Values of Blender's enumeration, which foreach_set writes as integers.
CONSTANT, LINEAR, BEZIER = 0, 1, 2


class AnimatedCurves:
    """What an action does to one thing: the F-curves of a slot of its own (4.4 on), or all that the action has.

    From 4.4 on several things may share an action; before, each needs one to itself.
    """

    def __init__(self, action: bpy.types.Action, animated: Any) -> None:
        self.action, self.animated = action, animated
        self._slot: Any = None
        self._bag: Any = action
        if actions_have_slots():
            layered: Any = action
            self._slot = layered.slots.new(id_type=animated.id_type, name=animated.name)
            layer = layered.layers[0] if len(layered.layers) else layered.layers.new("Layer")
            strip = layer.strips[0] if len(layer.strips) else layer.strips.new(type="KEYFRAME")
            self._bag = strip.channelbag(self._slot, ensure=True)

    def new(self, data_path: str, index: int, group: str) -> Any:
        """An F-curve without keys."""
        curve = self._bag.fcurves.new(data_path, index=index)
        curve.group = self._bag.groups.get(group) or self._bag.groups.new(group)
        return curve

    def write(
        self,
        data_path: str,
        index: int,
        group: str,
        frames: np.ndarray,
        values: np.ndarray,
        interpolation: int = LINEAR,
    ) -> None:
        """An F-curve with a key at each of ``frames`` (N,), of ``values`` (N,)."""
        curve = self.new(data_path, index, group)
        points = curve.keyframe_points
        points.add(len(frames))
        points.foreach_set("co", in_turn(frames, values))
        points.foreach_set("interpolation", np.full(len(frames), interpolation, dtype=np.int32))
        curve.update()

    def assign(self) -> None:
        """Let the thing play the action."""
        data = self.animated.animation_data or self.animated.animation_data_create()
        data.action = self.action
        if self._slot is not None:
            # Assigning an action may pick no slot, or another's.
            data.action_slot = self._slot


def actions_have_slots() -> bool:
    """Whether this Blender's actions can hold the curves of several things."""
    return "slots" in bpy.types.Action.bl_rna.properties


def in_turn(frames: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Frame, value, frame, value ... in the precision that Blender keeps."""
    return np.stack([frames, values], axis=1).astype(np.float32).ravel()


def drop_action(animated: Any) -> None:
    """Take the action off a thing that is Keylift's own, and out of the file when nothing else plays it."""
    data = animated.animation_data
    action = data.action if data is not None else None
    if action is None:
        return
    data.action = None
    if action.users - int(action.use_fake_user) == 0:
        bpy.data.actions.remove(action)
