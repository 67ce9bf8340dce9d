"""Correct keypoints in the clip editor: doubtful frames, sides, export."""

CLASSES: tuple[type, ...] = ()
