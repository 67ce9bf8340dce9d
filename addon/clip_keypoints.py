"""Keypoints as tracks of a movie clip, where Blender artists correct them."""

CLASSES: tuple[type, ...] = ()
