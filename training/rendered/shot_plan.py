"""What is to be rendered: who moves how, dressed how, seen by which camera, in which room and light.

A plan follows from a seed and a number alone, so that a set can be made again, or gone on with.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from ...core.camera import Camera
from ...core.errors import FileFormatError
from ...core.rotations import from_matrix, from_rotation_vector, multiply, rotate, to_matrix
from ...core.segments import SEGMENT_NAMES
from ...core.skeletons import LANDMARKS_41
from ..motion.motion_set import MotionSet
from ..shots.shot import Shot
from .body import BaseBody, Body
from .posing import PosedBody, pose_body
from .room import Mesh, in_the_way, make_floor, make_walls, shaded_floor
from .wardrobe import DressedBody, dress

SIZE_PX = (640, 480)
_TRIES = 60
# Who stands less is on stairs or on a wall, which are not drawn.
_STANDS_AT_LEAST = 0.55
# World is z up, motion is y up.
WORLD_FROM_MOTION = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])


@dataclass(frozen=True)
class CameraHabits:
    """Where cameras stand, and how: metres over the floor, degrees from side to side, of roll (one deviation), how near
    along the floor they may come, and how large the person is in the picture; smaller ones are missed now and then."""

    eye_m: tuple[float, float]
    field_deg: tuple[float, float]
    roll_deg: float
    nearest_m: float
    wanted_px: tuple[float, float] = (280, 400)
    smallest_px: float = 250


# High ones hang from a ceiling and look down steeply; low ones stand on the floor, wide ones come close.
CAMERA_HABITS = {
    "usual": CameraHabits((0.5, 2.3), (40, 75), 4, 1.5),
    "high": CameraHabits((2.8, 4.2), (30, 55), 10, 0.8, (200, 400), 150),
    "low": CameraHabits((0.05, 0.3), (75, 105), 12, 0.8, (250, 400), 200),
    "wide": CameraHabits((0.5, 2.3), (95, 115), 6, 0.6, (220, 400), 180),
}


@dataclass(frozen=True, eq=False)
class Lighting:
    """Lights far away: (L, 3) where they come from in a z-up world, (L, 3) linear colours; (3,) ambient."""

    towards: np.ndarray
    colours: np.ndarray
    ambient: np.ndarray
    shadow: float


@dataclass(frozen=True, eq=False)
class Development:
    """What a camera makes of light: gain, gamma, blur in pixels, noise and the dark of the corners."""

    gain: np.ndarray
    gamma: float
    blur_px: float
    noise: float
    vignette: float
    seed: int

    def develop(self, rgb: np.ndarray, frame: int) -> np.ndarray:
        """(H, W, 3) floats in [0, 1] -> uint8."""
        chance = np.random.default_rng([self.seed, frame])
        height, width = rgb.shape[:2]
        y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
        picture = np.clip(rgb * self.gain * (1 - self.vignette * (x * x + y * y) / 2)[..., None], 0, 1) ** self.gamma
        if self.blur_px > 0:
            picture = gaussian_filter(picture, (self.blur_px, self.blur_px, 0))
        picture = picture + self.noise * chance.standard_normal(picture.shape, dtype=np.float32)
        return np.clip(np.round(255 * picture), 0, 255).astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Actor:
    """Somebody in the scene: a dressed body and how it moves, moved in the room by ``shift_m`` (3,), z up."""

    dressed: DressedBody
    posed: PosedBody
    shift_m: np.ndarray

    def vertices_m(self, time: float) -> np.ndarray:
        """(V, 3) z up, at a time in frames; between frames in a straight line."""
        last = len(self.posed.contact) - 1
        before = min(int(np.floor(np.clip(time, 0, last))), last)
        share = float(np.clip(time, 0, last)) - before
        vertices = self._at(before)
        if share > 1e-6:
            vertices = vertices + share * (self._at(before + 1) - vertices)
        return vertices

    def _at(self, frame: int) -> np.ndarray:
        vertices = self.posed.skinned(frame, self.dressed.rest_m)
        vertices[:, 1] -= self.dressed.sag_m
        return vertices @ WORLD_FROM_MOTION.T + self.shift_m


@dataclass(frozen=True, eq=False)
class ShotPlan:
    """A shot before it is rendered.

    name:              of the shot
    about:             what is in it, for people
    actor:             whose truth is known
    bystander:         somebody else, or None
    camera:            stands still at ``world_from_camera`` (4, 4), z up, floor at z = 0
    furniture:         what stands in the way, or None
    sub_frames:        pictures averaged for each frame, spread over ``shutter`` of the time between frames
    """

    name: str
    about: str
    fps: float
    actor: Actor
    bystander: Actor | None
    camera: Camera
    world_from_camera: np.ndarray
    floor: Mesh
    walls: Mesh
    furniture: Mesh | None
    lighting: Lighting
    development: Development
    sub_frames: int
    shutter: float

    def __len__(self) -> int:
        return len(self.actor.posed.contact)

    def surfaces(self) -> dict[str, Mesh]:
        """Everything that is drawn, as it is in the first frame."""
        found = {"floor": self.floor, "walls": self.walls}
        if self.furniture is not None:
            found["furniture"] = self.furniture
        for name, actor in self._actors().items():
            dressed = actor.dressed
            found[name] = Mesh(actor.vertices_m(0), dressed.faces, dressed.colours, smooth=True)
        return found

    def _actors(self) -> dict[str, Actor]:
        return {"actor": self.actor} | ({} if self.bystander is None else {"bystander": self.bystander})

    def times(self, frame: int) -> np.ndarray:
        """When, in frames, the pictures of a frame are taken."""
        if self.sub_frames == 1:
            return np.array([float(frame)])
        return frame + self.shutter * np.linspace(-0.5, 0.5, self.sub_frames)

    def moved(self, time: float) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Where the people's vertices are at a time in frames, and the floor's colours below them."""
        vertices = {name: actor.vertices_m(time) for name, actor in self._actors().items()}
        shaded = shaded_floor(self.floor, list(vertices.values()), self.lighting.towards[0], self.lighting.shadow)
        return vertices, shaded

    @property
    def camera_from_motion(self) -> tuple[np.ndarray, np.ndarray]:
        """(3, 3) turn and (3,) move."""
        turn = self.world_from_camera[:3, :3].T
        return turn @ WORLD_FROM_MOTION, turn @ (self.actor.shift_m - self.world_from_camera[:3, 3])

    def truth(self) -> dict[str, np.ndarray]:
        """The known fields of ``Shot``: landmarks, rotations, contacts, times."""
        turn, move = self.camera_from_motion
        posed = self.actor.posed
        return {
            "truth_m": posed.landmarks_m @ turn.T + move,
            "truth_rotations_wxyz": multiply(from_matrix(turn), posed.segment_wxyz),
            "truth_contact": posed.contact.astype(float),
            "world_from_camera": self.world_from_camera,
            "time_s": np.arange(len(self)) / self.fps,
        }

    def shot(self, keypoints: dict, detector_world_m: dict, source: str) -> Shot:  # type: ignore[type-arg]
        """The shot, once a detector has seen the pictures."""
        return Shot(
            name=self.name,
            keypoints=keypoints,
            detector_world_m=detector_world_m,
            camera=self.camera,
            fps=self.fps,
            source=f"{source}; {self.about}",
            **self.truth(),
        )


def plan_shot(
    motion: MotionSet,
    base: BaseBody,
    seed: int,
    number: int,
    count: int,
    frames: int,
    fps: float,
    cameras: str = "usual",
) -> ShotPlan:
    """The ``number``-th of ``count`` shots of a set. ``cameras`` is a name in ``CAMERA_HABITS``.

    Raises FileFormatError when the motion has no clips of that length to choose from.
    """
    chance = np.random.default_rng([seed, number])
    step = round(motion.fps / fps)
    if step < 1 or abs(motion.fps / step - fps) > 0.01:
        raise FileFormatError(f"Motion at {motion.fps:g} frames a second can't be read at {fps:g}.")
    for _ in range(_TRIES):
        clip, start = _choose_clip(motion, frames * step, number, chance)
        body = _random_body(base, chance)
        posed = _posed(body, motion, start, frames, step, fps)
        stands = posed.contact.any(axis=1).mean()
        seen = _place_camera(posed, CAMERA_HABITS[cameras], number, count, chance)
        if stands >= _STANDS_AT_LEAST and seen is not None:
            break
    else:
        raise FileFormatError("No clip of the motion keeps a person in the picture. Ask for fewer frames.")
    camera, world_from_camera, about_view = seen
    actor = Actor(dress(body, chance), posed, np.zeros(3))
    bystander, furniture, extras = None, None, []
    if chance.random() < 0.4:
        bystander = _bystander(motion, base, actor, world_from_camera, frames, step, fps, chance)
        extras.append("bystander")
    if chance.random() < 0.4:
        kind = str(chance.choice(["table", "box", "pole"]))
        furniture = _furniture(kind, actor, world_from_camera, chance)
        extras += [kind] * (furniture is not None)
    blurred = chance.random() < 0.4
    low_m, high_m = _room_corners(actor, bystander, world_from_camera, chance)
    if blurred:
        extras.append("motion blur")
    text = ", ".join([f"clip {motion.clip_name[clip]} ({motion.source[clip]}) from frame {start}", about_view, *extras])
    return ShotPlan(
        name=f"{_set_name(cameras)}-{seed}-{number:02d}-{motion.subject[clip]}",
        about=text,
        fps=fps,
        actor=actor,
        bystander=bystander,
        camera=camera,
        world_from_camera=world_from_camera,
        floor=make_floor(low_m, high_m, chance),
        walls=make_walls(low_m, high_m, chance),
        furniture=furniture,
        lighting=_lighting(chance),
        development=_development(chance),
        sub_frames=3 if blurred else 1,
        shutter=float(chance.uniform(0.4, 0.8)),
    )


def _set_name(cameras: str) -> str:
    return "rendered" if cameras == "usual" else f"rendered-{cameras}"


def _choose_clip(motion: MotionSet, length: int, number: int, chance: np.random.Generator) -> tuple[int, int]:
    """A clip and its first frame; people take turns."""
    long = np.flatnonzero(motion.clip_lengths >= length)
    if not len(long):
        raise FileFormatError(f"No clip of the motion has {length} frames. Ask for fewer with --frames.")
    subjects = sorted(set(motion.subject[long]))
    subject = subjects[(number + int(chance.integers(len(subjects))) * (chance.random() < 0.3)) % len(subjects)]
    clip = int(chance.choice(long[motion.subject[long] == subject]))
    slack = int(motion.clip_lengths[clip]) - length
    return clip, int(motion.clip_start[clip] + chance.integers(slack + 1))


def _random_body(base: BaseBody, chance: np.random.Generator) -> Body:
    names = list(base.targets_m)
    shares = chance.dirichlet(np.full(len(names), 0.5))
    return base.shaped(dict(zip(names, shares, strict=True)))


def _posed(body: Body, motion: MotionSet, start: int, frames: int, step: int, fps: float) -> PosedBody:
    rows = slice(start, start + frames * step, step)
    return pose_body(body, motion.positions_m[rows].astype(float), motion.contact[rows], fps)


def _looking(place_m: np.ndarray, at_m: np.ndarray, roll_rad: float) -> np.ndarray:
    """(4, 4) world from camera (x right, y down, z forward) of a camera that looks at a point."""
    ahead = (at_m - place_m) / np.linalg.norm(at_m - place_m)
    right = np.cross(ahead, [0.0, 0.0, 1.0])
    right = right / np.linalg.norm(right)
    turn = np.stack([right, np.cross(ahead, right), ahead], axis=-1)
    turn = turn @ to_matrix(from_rotation_vector(np.array([0.0, 0.0, roll_rad])))
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = turn, place_m
    return matrix


def _place_camera(
    posed: PosedBody, habits: CameraHabits, number: int, count: int, chance: np.random.Generator
) -> tuple[Camera, np.ndarray, str] | None:
    """A camera that sees all of the body all of the time, large enough; None when there is none."""
    width, height = SIZE_PX
    field_deg = float(chance.uniform(*habits.field_deg))
    focal = width / 2 / np.tan(np.radians(field_deg) / 2)
    camera = Camera(SIZE_PX, (focal, focal), (width / 2, height / 2))
    points_m = posed.landmarks_m @ WORLD_FROM_MOTION.T
    low, high = points_m.min(axis=(0, 1)), points_m.max(axis=(0, 1))
    # From all sides: each shot of a set sees another one.
    ahead = rotate(posed.segment_wxyz[:, SEGMENT_NAMES.index("pelvis")], np.array([0.0, 0.0, 1.0])).mean(axis=0)
    facing = np.arctan2(*(WORLD_FROM_MOTION @ ahead)[[1, 0]])
    share = (number * 0.618034 + chance.uniform(-0.5, 0.5) / max(count, 1)) % 1
    yaw = facing + 2 * np.pi * share
    target = (low + high) / 2
    target[:2] += chance.normal(0, 0.1, 2)
    eye_m, roll = chance.uniform(*habits.eye_m), np.radians(chance.normal(0, habits.roll_deg))
    wanted_px = chance.uniform(*habits.wanted_px)
    for metres in np.geomspace(habits.nearest_m, 12, 60):
        place = np.array([target[0] + metres * np.cos(yaw), target[1] + metres * np.sin(yaw), eye_m])
        world_from_camera = _looking(place, target, roll)
        seen_m = (points_m - place) @ world_from_camera[:3, :3]
        if seen_m[..., 2].min() < 0.6:
            continue
        xy = camera.project(seen_m)
        inside = (xy > 14).all() and (xy[..., 0] < width - 14).all() and (xy[..., 1] < height - 14).all()
        size = np.ptp(xy, axis=1).max(axis=-1)
        if inside and np.median(size) <= wanted_px:
            least_px = habits.smallest_px
            if np.median(size) < least_px or size[0] < least_px or size.min() < 0.6 * least_px:
                return None
            side = ("front", "left", "back", "right")[round(4 * share) % 4]
            return camera, world_from_camera, f"{side} view, {metres:.1f} m away, {field_deg:.0f} deg wide"
    return None


def _bystander(
    motion: MotionSet,
    base: BaseBody,
    actor: Actor,
    world_from_camera: np.ndarray,
    frames: int,
    step: int,
    fps: float,
    chance: np.random.Generator,
) -> Actor:
    """Somebody who stands behind, to one side, and moves little."""
    long = np.flatnonzero(motion.clip_lengths >= frames * step)
    pelvis = LANDMARKS_41.index("pelvis")
    best, calmest = 0, np.inf
    for _ in range(12):
        clip = int(chance.choice(long))
        start = int(motion.clip_start[clip] + chance.integers(int(motion.clip_lengths[clip]) - frames * step + 1))
        strays = float(np.ptp(motion.positions_m[start : start + frames * step, pelvis], axis=0).max())
        if strays < calmest:
            best, calmest = start, strays
    body = _random_body(base, chance)
    posed = _posed(body, motion, best, frames, step, fps)
    where = (actor.posed.landmarks_m[:, pelvis] @ WORLD_FROM_MOTION.T).mean(axis=0)
    his = (posed.landmarks_m[:, pelvis] @ WORLD_FROM_MOTION.T).mean(axis=0)
    away = where - world_from_camera[:3, 3]
    away = away * np.array([1.0, 1.0, 0.0]) / np.linalg.norm(away[:2])
    aside = np.array([-away[1], away[0], 0.0]) * chance.choice([-1.0, 1.0])
    reach = np.abs((actor.posed.landmarks_m @ WORLD_FROM_MOTION.T - where) @ away).max()
    shift = where - his + away * (reach + chance.uniform(0.9, 1.8)) + aside * chance.uniform(0.5, 1.2)
    return Actor(dress(body, chance), posed, shift * np.array([1.0, 1.0, 0.0]))


def _furniture(kind: str, actor: Actor, world_from_camera: np.ndarray, chance: np.random.Generator) -> Mesh | None:
    """Something between camera and body; None where there is no room for it, or it would hide who lies down."""
    points = actor.posed.landmarks_m @ WORLD_FROM_MOTION.T
    place = world_from_camera[:3, 3]
    away = (points.mean(axis=(0, 1)) - place) * np.array([1.0, 1.0, 0.0])
    away = away / np.linalg.norm(away)
    aside = np.array([-away[1], away[0], 0.0])
    nearest = float(((points - place) @ away).min()) - 0.25
    metres = nearest - chance.uniform(0.0, 0.4)
    crouches = points[:, LANDMARKS_41.index("pelvis"), 2].min() < 0.55 * points[0, LANDMARKS_41.index("pelvis"), 2]
    if metres < 0.9 or crouches and kind != "pole":
        return None
    across = (points - place) @ aside / ((points - place) @ away) * metres
    wide = float(np.ptp(across))
    middle = chance.uniform(np.quantile(across, 0.2), np.quantile(across, 0.8))
    spot = place + metres * away + middle * aside
    hips = points[:, LANDMARKS_41.index("pelvis"), 2].mean()
    distance = float(((points - place) @ away).mean())
    line = place[2] + (hips - place[2]) * metres / distance
    high = float(np.clip(line, 0.25, 1.1))
    return in_the_way(kind, spot[:2], float(np.arctan2(aside[1], aside[0])), np.array([wide, high]), chance)


def _room_corners(
    actor: Actor, bystander: Actor | None, world_from_camera: np.ndarray, chance: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    points = [actor.posed.landmarks_m.reshape(-1, 3) @ WORLD_FROM_MOTION.T, world_from_camera[None, :3, 3]]
    if bystander is not None:
        points.append(bystander.posed.landmarks_m.reshape(-1, 3) @ WORLD_FROM_MOTION.T + bystander.shift_m)
    every = np.concatenate(points)[:, :2]
    return every.min(axis=0) - chance.uniform(0.7, 2.5, 2), every.max(axis=0) + chance.uniform(0.7, 2.5, 2)


def _lighting(chance: np.random.Generator) -> Lighting:
    """One main light from above, one or two weaker ones, some light from everywhere."""
    ways, colours = [], []
    for number in range(int(chance.integers(2, 4))):
        yaw, height = (
            chance.uniform(0, 2 * np.pi),
            np.radians(chance.uniform(40, 80) if number == 0 else chance.uniform(0, 60)),
        )
        ways.append([np.cos(yaw) * np.cos(height), np.sin(yaw) * np.cos(height), np.sin(height)])
        strength = chance.uniform(0.55, 1.0) if number == 0 else chance.uniform(0.1, 0.4)
        colours.append(strength * (1 + chance.uniform(-0.12, 0.12) * np.array([1.0, 0.0, -1.0])))
    ambient = chance.uniform(0.12, 0.4) * np.ones(3)
    return Lighting(np.array(ways), np.array(colours), ambient, shadow=float(chance.uniform(0.25, 0.65)))


def _development(chance: np.random.Generator) -> Development:
    return Development(
        gain=chance.uniform(0.85, 1.1) * (1 + 0.05 * chance.normal(size=3)),
        gamma=float(chance.uniform(0.85, 1.15)),
        blur_px=float(chance.uniform(0.0, 0.8)),
        noise=float(chance.uniform(0.004, 0.025)),
        vignette=float(chance.uniform(0.0, 0.25)),
        seed=int(chance.integers(1 << 31)),
    )
