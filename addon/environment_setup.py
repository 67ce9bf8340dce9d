"""Buttons that set up the worker's environment and look at it."""

CLASSES: tuple[type, ...] = ()
