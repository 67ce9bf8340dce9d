"""Keylift: footage of a person becomes editable keyframes on any armature."""

__version__ = "0.1.0"


def register() -> None:
    """Blender's door: called when the extension is enabled. Nothing is imported before."""
    from . import addon

    addon.register()


def unregister() -> None:
    """Called when the extension is disabled."""
    from . import addon

    addon.unregister()
