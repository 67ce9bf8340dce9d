"""What Keylift does inside Blender. The only room that imports bpy, and only when something is asked of it."""

from __future__ import annotations


def register() -> None:
    """Make the panel, the operator and the headless command known to Blender."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Take them away again."""
    from . import registration

    registration.unregister()
