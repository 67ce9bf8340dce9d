"""What an animator sets once: the worker's environment, devices and folders."""

# No postponed annotations here: Blender reads properties from them.

import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy

if TYPE_CHECKING:
    from .worker_environment import EnvironmentPlan

_EXTENSION = __package__.rpartition(".")[0]
_NOT_SET_UP = (
    "The worker is not set up yet. Press Set Up in Keylift's tab, or in Edit > Preferences > Add-ons > Keylift."
)


def _build_items(_preferences: Any, _context: bpy.types.Context | None) -> list[tuple[str, str, str, str, int]]:
    from .retarget_choices import enum_item
    from .torch_builds import fitting_build, torch_builds

    fitting = fitting_build()
    automatic = enum_item("auto", f"Automatic ({fitting.title})", "The one that fits this machine", first=True)
    _shown[:] = [
        automatic,
        *(
            enum_item(build.name, build.title, f"About {build.bytes / 1e9:.1f} GB of disk")
            for build in torch_builds().values()
        ),
    ]
    return _shown


# Blender keeps no reference to the texts of a list that is made anew; without one they turn to garbage on the screen.
_shown: list[tuple[str, str, str, str, int]] = []


class KEYLIFT_AP_preferences(bpy.types.AddonPreferences):
    """Where the worker runs and keeps its files"""

    bl_idname = _EXTENSION

    environment: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Environment",
        description="Which Python the worker runs in",
        items=[
            ("MANAGED", "Managed", "An environment that Keylift makes and keeps for itself"),
            ("OWN", "Own Interpreter", "A Python of yours that has everything installed"),
        ],
    )
    interpreter: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Interpreter",
        description="python or python.exe of an environment of yours, or the environment's folder",
        subtype="FILE_PATH",
    )
    wheels: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Wheels",
        description="A folder of packages to install from, for machines without a network; empty = from the network",
        subtype="DIR_PATH",
    )
    torch: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Torch", description="Which build of torch is installed: for which graphics card", items=_build_items
    )
    device: bpy.props.EnumProperty(  # type: ignore[valid-type]
        name="Device",
        description="What the lifter computes on",
        items=[
            ("auto", "Automatic", "A graphics card where there is one that torch can use"),
            ("cpu", "Processor", "The processor; lifting takes a small part of the time that detection takes"),
            ("cuda", "NVIDIA or AMD GPU", "CUDA, or ROCm, which answers to the same name"),
            ("mps", "Apple GPU", "Metal"),
        ],
    )
    cache: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Cache",
        description="Detected keypoints, poses and models; empty = Keylift's own folder",
        subtype="DIR_PATH",
    )
    weights: bpy.props.StringProperty(  # type: ignore[valid-type]
        name="Weights",
        description="Lifters of your own (.safetensors); empty = Keylift's own folder",
        subtype="DIR_PATH",
    )

    def draw(self, context: bpy.types.Context) -> None:
        """The environment's state first, then what can be changed."""
        from .environment_panel import draw_environment, draw_findings, draw_unused_environments

        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.prop(self, "environment", expand=True)
        if self.environment == "OWN":
            layout.prop(self, "interpreter")
        else:
            layout.prop(self, "torch")
            layout.prop(self, "wheels")
        draw_environment(layout, context)
        layout.separator()
        layout.prop(self, "device")
        layout.prop(self, "cache")
        layout.prop(self, "weights")
        draw_findings(layout)
        draw_unused_environments(layout, context)


def preferences_of(context: bpy.types.Context | None) -> Any:
    """The add-on's preferences; None where it is not installed as an extension, but imported as a package."""
    found = (context or bpy.context).preferences.addons.get(_EXTENSION)
    return None if found is None else found.preferences


def own_folder() -> Path:
    """Where Keylift may keep files: Blender gives every extension a folder, and others the user's data folder."""
    try:
        return Path(bpy.utils.extension_path_user(_EXTENSION, create=True))
    except ValueError:
        return Path(bpy.utils.user_resource("DATAFILES", path="keylift"))


def _is_extension() -> bool:
    return _EXTENSION.startswith("bl_ext.")


def _folder(context: bpy.types.Context | None, name: str, otherwise: Path) -> Path:
    preferences = preferences_of(context)
    chosen = getattr(preferences, name, "") if preferences is not None else ""
    return Path(bpy.path.abspath(chosen)) if chosen else otherwise


def cache_folder(context: bpy.types.Context | None) -> Path:
    """Where detected keypoints, poses and models are kept. May not be there yet."""
    if os.environ.get("KEYLIFT_CACHE") or (not _is_extension() and importlib.util.find_spec("platformdirs")):
        # The shell's own, which a package installed with pip shares.
        from ..core import pose_model

        return _folder(context, "cache", pose_model.cache_folder())
    return _folder(context, "cache", own_folder() / "cache")


def weights_folder(context: bpy.types.Context | None) -> Path:
    """Where the user's own weights are. May not be there yet."""
    if data := os.environ.get("KEYLIFT_DATA"):
        return _folder(context, "weights", Path(data) / "weights")
    return _folder(context, "weights", own_folder() / "weights")


def worker_variables(context: bpy.types.Context | None) -> dict[str, str]:
    """What the worker has to be told: where its folders are, and where it may fetch the pose model from."""
    variables = {"KEYLIFT_CACHE": str(cache_folder(context)), "KEYLIFT_WEIGHTS": str(weights_folder(context))}
    wheels = _wheels_folder(context)
    if wheels is not None:
        # pip splits this at spaces, which an address has none of.
        variables["PIP_FIND_LINKS"] = wheels.absolute().as_uri()
    # The setting is about extensions; who imports Keylift as a package runs it in a program of their own.
    if wheels is not None or (_is_extension() and not bpy.app.online_access):
        variables["PIP_NO_INDEX"] = "1"
    return variables


def _wheels_folder(context: bpy.types.Context | None) -> Path | None:
    preferences = preferences_of(context)
    chosen = bpy.path.abspath(preferences.wheels) if preferences is not None else ""
    return Path(chosen) if chosen and preferences.environment == "MANAGED" else None


def device(context: bpy.types.Context | None) -> str:
    """What the lifter is to compute on, as the shell calls it."""
    preferences = preferences_of(context)
    return "auto" if preferences is None else str(preferences.device)


def environment_plan(context: bpy.types.Context | None) -> "EnvironmentPlan":
    """The environment that the preferences ask for, there or not."""
    from .. import __version__
    from .torch_builds import fitting_build
    from .worker_environment import EnvironmentPlan, environment_folder

    preferences = preferences_of(context)
    build = fitting_build("auto" if preferences is None else preferences.torch)
    return EnvironmentPlan(
        folder=environment_folder(_environments(), __version__, build),
        python=Path(sys.executable),
        build=build,
        wheels=_wheels_folder(context),
        online=bool(bpy.app.online_access),
        version=__version__,
        variables=worker_variables(context),
    )


def _environments() -> Path:
    """Where environments live. Windows cuts paths at 260 letters, of which an extension's folder takes half."""
    local = os.environ.get("LOCALAPPDATA")
    return Path(local) / "keylift" if os.name == "nt" and local else own_folder() / "worker"


def worker_python(context: bpy.types.Context | None) -> Path:
    """The interpreter that the worker runs in. Raises EnvironmentMissingError that says which button to press."""
    from .own_interpreter import interpreter_at
    from .worker_environment import EnvironmentMissingError, is_complete, python_of

    preferences = preferences_of(context)
    if preferences is not None and preferences.environment == "OWN":
        chosen = bpy.path.abspath(preferences.interpreter)
        python = interpreter_at(Path(chosen)) if chosen else None
        if python is None:
            raise EnvironmentMissingError(
                "Choose the interpreter of your own environment in Edit > Preferences > Add-ons > Keylift."
            )
        return python
    folder = environment_plan(context).folder
    if is_complete(folder):
        return python_of(folder)
    if _everything_is_here():
        return Path(sys.executable)
    raise EnvironmentMissingError(_NOT_SET_UP)


def _everything_is_here() -> bool:
    """Whether this very Python could be the worker's: Blender as a module, beside everything else."""
    return bpy.app.binary_path == "" and all(importlib.util.find_spec(name) for name in ("torch", "mediapipe", "av"))


CLASSES = (KEYLIFT_AP_preferences,)
