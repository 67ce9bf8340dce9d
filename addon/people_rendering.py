"""Pictures of meshes that are given as arrays, with Blender's Workbench and without a window."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import bpy
import numpy as np
from mathutils import Matrix

from ..core.camera import Camera
from ..core.errors import KeyliftError
from .blender_chatter import unheard

_BMP_HEADER_BYTES = 54


@dataclass(frozen=True, eq=False)
class Surface:
    """A mesh in a z-up world.

    vertices_m: (V, 3)
    faces:      (N, 4) corners, seen from outside anticlockwise
    colours:    (V, 3) in [0, 1], as on a screen
    smooth:     whether its faces are parts of one round surface
    """

    vertices_m: np.ndarray
    faces: np.ndarray
    colours: np.ndarray
    smooth: bool = True


@dataclass(frozen=True, eq=False)
class Light:
    """Light from infinitely far away.

    towards: (3,) where it comes from, in camera axes (x right, y down, z forward)
    colour:  (3,) linear
    smooth:  in [0, 1], how far it reaches round what it shines at
    """

    towards: np.ndarray
    colour: np.ndarray
    smooth: float = 0.5


_DARK = Light(np.array([0.0, 0.0, -1.0]), np.zeros(3))


class PictureRenderer:
    """A scene of named surfaces that is drawn again and again while some of them move.

    Blender's open file is lost. Lens distortion is not drawn.
    """

    def __init__(
        self,
        surfaces: Mapping[str, Surface],
        camera: Camera,
        world_from_camera: np.ndarray,
        lights: Sequence[Light],
        ambient: np.ndarray,
    ) -> None:
        if any(camera.distortion):
            raise KeyliftError("A camera with lens distortion can't be rendered.")
        self._folder = tempfile.TemporaryDirectory(prefix="keylift-", ignore_cleanup_errors=True)
        self._size_px = camera.size_px
        with unheard():
            bpy.ops.wm.read_factory_settings(use_empty=True)
        self._scene = bpy.context.scene
        self._set_up_workbench(lights, ambient)
        self._add_camera(camera, world_from_camera)
        self._meshes = {name: self._add(name, surface) for name, surface in surfaces.items()}

    def __enter__(self) -> PictureRenderer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    def _set_up_workbench(self, lights: Sequence[Light], ambient: np.ndarray) -> None:
        render, shading = self._scene.render, self._scene.display.shading
        render.engine = "BLENDER_WORKBENCH"
        self._scene.display.render_aa = "FXAA"
        render.resolution_x, render.resolution_y = self._size_px
        render.resolution_percentage = 100
        render.image_settings.file_format = "BMP"
        render.image_settings.color_mode = "RGB"
        render.dither_intensity = 0.0
        self._scene.view_settings.view_transform = "Standard"
        shading.light, shading.color_type = "STUDIO", "VERTEX"
        shading.show_specular_highlight = False
        shading.show_shadows = shading.show_cavity = shading.show_object_outline = False
        system = bpy.context.preferences.system
        system.use_studio_light_edit = True
        system.light_ambient = tuple(float(value) for value in ambient)
        for number, slot in enumerate(system.solid_lights):
            # Blender keeps one light on whatever it is told, so what isn't wanted shines black as well.
            slot.use = number < len(lights)
            light = lights[number] if number < len(lights) else _DARK
            x, y, z = (float(value) for value in light.towards)
            # Blender's view axes: x right, y up, z to the viewer.
            slot.direction = (x, -y, -z)
            slot.diffuse_color = tuple(float(value) for value in light.colour)
            slot.specular_color = (0.0, 0.0, 0.0)
            slot.smooth = light.smooth

    def _add_camera(self, camera: Camera, world_from_camera: np.ndarray) -> None:
        width, height = camera.size_px
        data = bpy.data.cameras.new("Camera")
        data.sensor_fit, data.sensor_width = "HORIZONTAL", 36.0
        data.lens = camera.focal_px[0] / width * 36.0
        data.shift_x = (width / 2 - camera.centre_px[0]) / width
        data.shift_y = (camera.centre_px[1] - height / 2) / width
        data.clip_start, data.clip_end = 0.05, 200.0
        seen = bpy.data.objects.new("Camera", data)
        seen.matrix_world = Matrix((world_from_camera @ np.diag([1.0, -1.0, -1.0, 1.0])).tolist())
        self._scene.collection.objects.link(seen)
        self._scene.camera = seen

    def _add(self, name: str, surface: Surface) -> bpy.types.Mesh:
        mesh = bpy.data.meshes.new(name)
        faces = np.ascontiguousarray(surface.faces, np.int32)
        mesh.vertices.add(len(surface.vertices_m))
        mesh.loops.add(faces.size)
        mesh.polygons.add(len(faces))
        mesh.loops.foreach_set("vertex_index", faces.ravel())
        mesh.polygons.foreach_set("loop_start", np.arange(0, faces.size, 4, dtype=np.int32))
        mesh.polygons.foreach_set("use_smooth", np.full(len(faces), surface.smooth))
        mesh.vertices.foreach_set("co", np.ascontiguousarray(surface.vertices_m, np.float32).ravel())
        mesh.color_attributes.new("Colour", "FLOAT_COLOR", "POINT")
        mesh.color_attributes.active_color_index = 0
        self._paint(mesh, surface.colours)
        mesh.update(calc_edges=True)
        self._scene.collection.objects.link(bpy.data.objects.new(name, mesh))
        return mesh

    @staticmethod
    def _paint(mesh: bpy.types.Mesh, colours: np.ndarray) -> None:
        linear = np.ones((len(colours), 4), np.float32)
        linear[:, :3] = np.clip(colours, 0, 1) ** 2.2
        mesh.color_attributes[0].data.foreach_set("color", linear.ravel())

    def move(self, name: str, vertices_m: np.ndarray) -> None:
        """Put a surface's vertices elsewhere."""
        mesh = self._meshes[name]
        mesh.vertices.foreach_set("co", np.ascontiguousarray(vertices_m, np.float32).ravel())
        mesh.update()

    def paint(self, name: str, colours: np.ndarray) -> None:
        """Give a surface other colours."""
        self._paint(self._meshes[name], colours)
        self._meshes[name].update()

    def picture(self) -> np.ndarray:
        """(H, W, 3) uint8, the scene as it is now."""
        path = Path(self._folder.name) / "picture.bmp"
        self._scene.render.filepath = str(path)
        with unheard():
            bpy.ops.render.render(write_still=True)
        return _read_bmp(path, self._size_px)


def _read_bmp(path: Path, size_px: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) of an uncompressed BMP of 24 bits: rows from below, each of whole words, blue first."""
    width, height = size_px
    stride = (3 * width + 3) // 4 * 4
    content = path.read_bytes()
    if len(content) < _BMP_HEADER_BYTES + stride * height:
        raise KeyliftError(f"Blender wrote no whole picture to '{path}'. Free some disk space and run it again.")
    first = int.from_bytes(content[10:14], "little")
    rows = np.frombuffer(content, np.uint8, stride * height, first).reshape(height, stride)
    return np.ascontiguousarray(rows[::-1, : 3 * width].reshape(height, width, 3)[..., ::-1])
