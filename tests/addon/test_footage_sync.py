"""Keys lie where Blender itself shows the picture that they were found in, whatever clock the footage has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("bpy")

import av
import bpy

from clip_samples import SIZE_PX, film, numbers_shown
from keylift.addon.clip_frames import clip_frame_at, shown_rate
from keylift.addon.footage_background import camera_on_footage
from keylift.addon.keyframe_writing import frame_numbers
from keylift.addon.takes import bake_take, retarget_to_files, set_frame_rate
from keylift.addon.timeline import place_on_timeline
from keylift.core.camera import Camera
from keylift.core.footage import open_footage
from keylift.core.frame_rate import frame_rate
from keylift.core.tracks import PoseTrack
from rig_samples import empty_scene, make_rig
from walker import camera_from_world, filmed, walk

COUNT = 24
NTSC_FILM = Fraction(24000, 1001)
# Thirty pictures a second, and fewer when the light goes.
PHONE_MS = [round(1000 * (i / 30 + max(0, i - 12) * (1 / 24 - 1 / 30))) for i in range(COUNT)]
FILMS: dict[str, dict[str, Any]] = {
    "phone.mp4": {"ticks_ms": PHONE_MS},
    "phone.mkv": {"ticks_ms": PHONE_MS},
    "pauses.mov": {"ticks_ms": [40 * i + 160 * (i // 4) for i in range(COUNT)]},
    "film.mp4": {"fps": NTSC_FILM},
    "film.mkv": {"fps": NTSC_FILM},
    "late.mkv": {"ticks_ms": [10000 + 40 * i for i in range(COUNT)]},
    "late.ts": {"ticks_ms": [10000 + 40 * i for i in range(COUNT)]},
    "leap.mp4": {"ticks_ms": [40 * i + 1000 * (i >= 10) for i in range(COUNT)]},
    "fast.mov": {"fps": 120},
}


@pytest.fixture(autouse=True)
def fresh_scene() -> None:
    empty_scene()


def pose_of(path: Path, part: slice = slice(None), fps: float | None = None) -> PoseTrack:
    """Somebody who walks in the footage, as lifted from its pictures."""
    frames = [(frame.time_s, frame.index) for frame in open_footage(path, fps).frames()][part]
    times_s, indices = (np.array(values) for values in zip(*frames, strict=True))
    pose, _ = filmed(walk(len(frames)), Camera.guessed(SIZE_PX), camera_from_world())
    return replace(pose, time_s=times_s, frame_index=indices, fps=frame_rate(times_s))


def key_frames(armature: Any) -> np.ndarray:
    """Frames of the scene at which the armature has keys, one a picture."""
    action = armature.animation_data.action
    if hasattr(action, "fcurves"):
        curves = action.fcurves
    else:
        curves = action.layers[0].strips[0].channelbag(action.slots[0]).fcurves
    return np.array([point.co[0] for point in curves[0].keyframe_points])


def check_step(clip: Any, keys: np.ndarray, numbers: Sequence[int], folder: Path) -> None:
    """At each frame, Blender shows the last picture whose key has come, to half a frame."""
    scene_frames = range(int(np.ceil(keys[0])), int(keys[-1]) + 1)
    shown = numbers_shown(clip, [clip_frame_at(clip, frame) for frame in scene_frames], COUNT, folder)
    for frame, number in zip(scene_frames, shown, strict=True):
        # The take may begin up to half a frame before its first picture does.
        key = int(np.searchsorted(numbers, number, side="right")) - 1
        assert key < 0 or keys[key] <= frame + 0.5, f"frame {frame} shows picture {number} too early"
        assert key + 1 == len(keys) or keys[key + 1] >= frame - 0.5, f"frame {frame} shows picture {number} too late"


@pytest.mark.parametrize("part", [slice(None), slice(5, 20)])
@pytest.mark.parametrize("name", list(FILMS))
def test_a_blend_shows_each_picture_at_its_key(tmp_path: Path, name: str, part: slice) -> None:
    path = film(tmp_path / name, COUNT, **FILMS[name])
    pose = pose_of(path, part)
    summary = retarget_to_files(pose, rig="skeleton", bone_map="auto", outputs=[tmp_path / "take.blend"], footage=path)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "take.blend"))
    armature = next(thing for thing in bpy.context.scene.objects if thing.type == "ARMATURE")
    clip = bpy.context.scene.camera.data.background_images[0].clip
    check_step(clip, key_frames(armature), pose.frame_index, tmp_path)
    other_rate = [warning for warning in summary.warnings if "keep step" in warning]
    assert len(other_rate) == (name.startswith("phone") and not summary.frames < 15)


@pytest.mark.parametrize("part", [slice(None), slice(5, 20)])
@pytest.mark.parametrize("name", list(FILMS))
def test_in_the_open_scene_too(tmp_path: Path, name: str, part: slice) -> None:
    path = film(tmp_path / name, COUNT, **FILMS[name])
    pose = pose_of(path, part)
    armature, scene = make_rig("cmu_mb"), bpy.context.scene
    clip = bpy.data.movieclips.load(str(path))
    clip.frame_start = 11
    fps, first_frame = place_on_timeline(scene, clip, pose, "FOOTAGE")
    bake_take(pose, armature, bone_map="auto", name="take", fps=fps, first_frame=first_frame)
    view = camera_on_footage(scene, pose, clip, fps=fps, first_frame=first_frame)
    assert view.camera.data.background_images[0].clip == clip and clip.frame_start == 11
    assert not [note for note in view.notes if "runs away" in note]
    check_step(clip, key_frames(armature), pose.frame_index, tmp_path)


def test_a_scene_at_another_rate_is_told_by_what_blender_shows(tmp_path: Path) -> None:
    """At the rate of its pictures a phone's film runs away in Blender, which shows it at another."""
    path = film(tmp_path / "phone.mp4", COUNT, ticks_ms=PHONE_MS)
    pose = pose_of(path)
    clip = bpy.data.movieclips.load(str(path))
    assert abs(clip.fps / pose.fps - 1) > 0.05
    view = camera_on_footage(bpy.context.scene, pose, clip, fps=pose.fps, first_frame=1.0)
    assert any("runs away" in note for note in view.notes)
    # A thousandth of a rate is nothing in a second, and 86 frames in an hour.
    steady = film(tmp_path / "film.mp4", COUNT, fps=NTSC_FILM)
    clip, short = bpy.data.movieclips.load(str(steady)), pose_of(steady)
    long = replace(short, time_s=short.time_s * 3600)
    for pose, told in ((short, False), (replace(long, fps=short.fps), True)):
        view = camera_on_footage(bpy.context.scene, pose, clip, fps=24.0, first_frame=1.0)
        assert any("runs away" in note for note in view.notes) == told


def test_slow_motion_at_the_rate_that_it_was_filmed_at(tmp_path: Path) -> None:
    """Blender knows nothing of --fps, and shows a picture a frame."""
    path = film(tmp_path / "slow.mp4", COUNT, fps=25)
    pose = pose_of(path, fps=120)
    assert pose.fps == 120
    retarget_to_files(pose, rig="skeleton", bone_map="auto", outputs=[tmp_path / "take.blend"], footage=path)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "take.blend"))
    scene = bpy.context.scene
    assert scene.render.fps / scene.render.fps_base == 120
    armature = next(thing for thing in scene.objects if thing.type == "ARMATURE")
    check_step(scene.camera.data.background_images[0].clip, key_frames(armature), pose.frame_index, tmp_path)


def test_a_film_that_begins_between_key_pictures(tmp_path: Path) -> None:
    whole = film(tmp_path / "whole.mp4", COUNT)
    path = tmp_path / "cut.mkv"
    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        # The film has one key picture; a second one is where its other half begins.
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for copy in (packets[4:], packets):
            for packet in copy:
                data = av.Packet(bytes(packet))
                late = len(packets) * 512 * (copy is packets)
                data.pts, data.dts, data.time_base = packet.pts + late, packet.dts + late, packet.time_base
                data.is_keyframe, data.stream, data.duration = packet.is_keyframe, stream, packet.duration
                container.mux(data)
    pose = pose_of(path)
    assert len(pose.time_s) == COUNT and pose.time_s[0] > 0.5
    retarget_to_files(pose, rig="skeleton", bone_map="auto", outputs=[tmp_path / "take.blend"], footage=path)
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "take.blend"))
    armature = next(thing for thing in bpy.context.scene.objects if thing.type == "ARMATURE")
    clip = bpy.context.scene.camera.data.background_images[0].clip
    assert clip.frame_offset == round(pose.time_s[0] * 25)
    check_step(clip, key_frames(armature), pose.frame_index, tmp_path)


def test_pictures_on_twos_keep_their_numbers(tmp_path: Path) -> None:
    for number in range(1, 2 * COUNT, 2):
        image = bpy.data.images.new("picture", *SIZE_PX)
        image.filepath_raw, image.file_format = str(tmp_path / f"shot_{number:04d}.png"), "PNG"
        image.save()
    pose = pose_of(tmp_path / "shot_####.png", fps=24.0)
    assert pose.fps == 12
    clip = bpy.data.movieclips.load(str(tmp_path / "shot_0001.png"))
    assert shown_rate(clip, pose.time_s, pose.frame_index) == pytest.approx(24)
    fps, first_frame = place_on_timeline(bpy.context.scene, clip, pose, "FOOTAGE")
    assert frame_numbers(pose, fps, first_frame).tolist() == list(range(1, 2 * COUNT, 2))


@pytest.mark.parametrize("fps", [NTSC_FILM, Fraction(30000, 1001), Fraction(60000, 1001), Fraction(25), Fraction(120)])
def test_an_hour_of_keys_is_in_step_to_half_a_frame(tmp_path: Path, fps: Fraction) -> None:
    """Blender holds rates and frames in single precision; what it reads of a film is the same as of a short one."""
    path = film(tmp_path / "film.mp4", 8, fps=fps)
    clip = bpy.data.movieclips.load(str(path))
    number = np.arange(0, round(3600 * fps), 977)
    for ticks_per_s in (90000, 1000):
        time_s = np.round(number / float(fps) * ticks_per_s) / ticks_per_s
        pose, _ = filmed(walk(len(number)), Camera.guessed(SIZE_PX), camera_from_world())
        pose = replace(pose, time_s=time_s, frame_index=number, fps=float(fps))
        rate = shown_rate(clip, time_s, number)
        assert rate is not None
        scene_fps = set_frame_rate(bpy.context.scene, rate)
        keys = frame_numbers(pose, scene_fps, 1.0).astype(np.float32)
        # Blender shows picture n of a steady film at frame n + 1.
        assert np.abs(keys - (number + 1)).max() < 0.15
        assert abs(scene_fps / float(fps) - 1) * number[-1] < 0.05
