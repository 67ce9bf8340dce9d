"""Films and keypoints for the clip editor, made with what every Blender in the matrix of versions has beside it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from keylift.core.skeletons import KEYPOINT_LAYOUTS
from keylift.core.source import Source
from keylift.core.tracks import KeypointTrack

SIZE_PX = (96, 64)


def film(
    path: Path,
    count: int,
    *,
    fps: int = 25,
    ticks_ms: Sequence[int] | None = None,
    turned_deg: int = 0,
    dot: tuple[int, int] | None = None,
) -> Path:
    """A film of grey pictures, each brighter than the one before, by which it is known.

    dot:        where a stored picture is white, in pixels from the top left
    ticks_ms:   presentation times of the pictures in milliseconds; without, one every 1 / ``fps``
    turned_deg: how far the file asks to turn it against the clock
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = *SIZE_PX, "yuv420p"
        ticks_per_s = fps if ticks_ms is None else 1000
        stream.codec_context.time_base = stream.time_base = Fraction(1, ticks_per_s)
        if turned_deg:
            stream.set_display_rotation(turned_deg)
        for number in range(count):
            picture = grey_picture(number, count)
            if dot is not None:
                picture[dot[1] - 2 : dot[1] + 2, dot[0] - 2 : dot[0] + 2] = 255
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = number if ticks_ms is None else ticks_ms[number]
            frame.time_base = Fraction(1, ticks_per_s)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def grey_picture(number: int, count: int) -> np.ndarray:
    """(H, W, 3) picture ``number`` of ``count``."""
    return np.full((SIZE_PX[1], SIZE_PX[0], 3), 16 + 200 * number // max(count - 1, 1), np.uint8)


def decoded_times(path: Path) -> np.ndarray:
    """(F,) when each picture of a film is to be shown, from 0."""
    with av.open(str(path)) as container:
        times = np.array([float(frame.time) for frame in container.decode(video=0)])
    return times - times[0]


def shown_at(clip: Any, clip_frames: Iterable[int], scratch: Path) -> Iterator[np.ndarray]:
    """(H, W) grey pictures, 0 to 255, that Blender itself shows at frames of a clip, by its sequence editor."""
    import bpy

    scene = bpy.context.scene
    editor = scene.sequence_editor or scene.sequence_editor_create()
    strips = editor.strips if hasattr(editor, "strips") else editor.sequences
    strip = strips.new_clip("clip", clip, 1, 1)
    scene.view_settings.view_transform = "Standard"
    scene.render.resolution_x, scene.render.resolution_y = clip.size
    scene.render.resolution_percentage = 100
    scene.render.image_settings.file_format = "PNG"
    scene.render.filepath = str(scratch / "shown.png")
    for frame in clip_frames:
        scene.frame_set(frame)
        bpy.ops.render.render(write_still=True)
        image = bpy.data.images.load(scene.render.filepath)
        width, height = image.size
        yield np.array(image.pixels[:]).reshape(height, width, 4)[::-1, :, :3].mean(axis=-1) * 255
        bpy.data.images.remove(image)
    strips.remove(strip)


def numbers_shown(clip: Any, clip_frames: Iterable[int], count: int, scratch: Path) -> list[int]:
    """Which of ``count`` grey pictures Blender shows at frames of a clip."""
    pictures = shown_at(clip, clip_frames, scratch)
    return [round((float(grey.mean()) - 16) * max(count - 1, 1) / 200) for grey in pictures]


def dot_in(grey: np.ndarray) -> tuple[float, float]:
    """Where an (H, W) picture is white, in pixels from the top left."""
    y, x = np.nonzero(grey > 235)
    return float(x.mean() + 0.5), float(y.mean() + 0.5)


def keypoints(
    frames: int, *, person: int = 1, layout: str = "mediapipe33", size_px: tuple[int, int] = SIZE_PX
) -> KeypointTrack:
    """Somebody who moves to the right, each person beside the one before."""
    points = len(KEYPOINT_LAYOUTS[layout])
    along, down = np.arange(frames)[:, None] / frames, np.arange(points)[None] / points
    xy_px = np.stack([10 + 40 * down + 10 * along + 20 * person, 5 + 50 * down + 0 * along], axis=-1)
    return KeypointTrack(
        xy_px=xy_px * np.array(size_px) / np.array(SIZE_PX),
        confidence=np.full((frames, points), 0.9),
        time_s=np.arange(frames) / 25,
        frame_index=np.arange(frames),
        layout=layout,
        size_px=size_px,
        filled=np.zeros(frames, bool),
        source=Source("film.mp4", "0" * 64),
        person=person,
    )


def seen_only(track: KeypointTrack, seen: np.ndarray) -> KeypointTrack:
    """The track without the keypoints that are not in (F, K) ``seen``."""
    return replace(
        track,
        xy_px=np.where(seen[..., None], track.xy_px, np.nan),
        confidence=np.where(seen, track.confidence, 0.0),
    )
