"""Before and after: how well lifters do on footage and motion that nothing was learnt from, and which is the better."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from ...core.detector_sites import detector_sites
from ...core.lifter.lifting import LiftedBody, RayLifter, lift_rays
from ...core.motion_metrics import (
    CONTACT_POINTS,
    LIMB_JOINTS,
    accelerations,
    bone_variation_pct,
    contact_slide,
    frame_procrustes_error,
)
from ...core.progress import Progress, report, silent
from ...core.root_path import solve_root_path
from ..adaptation.adaptation import views_for
from ..adaptation.clip_loss import reprojection_mm
from ..motion.motion_set import MotionSet
from ..views.evaluation import evaluate_on_views
from .footage_set import FootageSet, SetClip
from .settings import GateSettings

_GUARD_SEED = 99
# So many moments around a held-out block are lifted with it, for a path that is smooth.
_AROUND = 30
_SHORTEST_BLOCK = 8


@dataclass(frozen=True)
class HeldOutFootage:
    """What held-out footage says of a lifter, without knowing any truth. The lifter's word alone: nothing is fitted.

    reprojection_mm:  distance of keypoints from the placed body, at the body's depth
    between_mm:       the same of frames that the lifter wasn't given: it saw every second one
    second_camera_mm: the same of the keypoints of another camera that filmed the same; NaN where there is none
    truth_mm:         distance of limb joints from where they are known to be, aligned; NaN where nobody knows
    bones_pct:        how much bones change their lengths, per cent
    jitter_m_s2:      mean acceleration
    slide_mm_s:       speed along the floor of feet that stand, by the contacts that were fitted before
    sound:            part of it whose fitted pose can be believed, see ``FootagePart.covered``
    seconds:          of footage that were looked at
    """

    reprojection_mm: float
    between_mm: float
    second_camera_mm: float
    truth_mm: float
    bones_pct: float
    jitter_m_s2: float
    slide_mm_s: float
    sound: float
    seconds: float


@dataclass(frozen=True)
class Judged:
    """A lifter's figures on held-out footage, and on synthetic views of held-out motion capture (millimetres)."""

    footage: HeldOutFootage
    views_mm: float
    views_aligned_mm: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values; None where nothing is known."""
        flat = {**asdict(self.footage), "views_mm": self.views_mm, "views_aligned_mm": self.views_aligned_mm}
        return {name: round(value, 4) if math.isfinite(value) else None for name, value in flat.items()}


@dataclass(frozen=True)
class Verdict:
    """Whether the new weights are better, and why, in words."""

    better: bool
    reason: str


def judge(
    lifter: RayLifter,
    footage: FootageSet,
    guard: MotionSet,
    settings: GateSettings,
    progress: Progress = silent,
) -> Judged:
    """Figures of one lifter. Raises Cancelled when ``progress`` asks to stop."""
    held_out = look_at_held_out(lifter, footage, settings, progress)
    views = evaluate_on_views(
        lifter.network, guard, views_for(lifter), settings.guard_views, _GUARD_SEED, lifter.device
    )
    return Judged(held_out, views["mpjpe_mm"], views["p_mpjpe_mm"])


# ---- Held-out footage -----------------------------------------------------------------------------------------------


def look_at_held_out(
    lifter: RayLifter, footage: FootageSet, settings: GateSettings, progress: Progress = silent
) -> HeldOutFootage:
    """What the blocks that nothing was learnt from say, a piece of each clip in turn, ``held_out_s`` at most."""
    blocks = chosen_blocks(footage, settings.held_out_s)
    looks = []
    for number, (clip, block) in enumerate(blocks):
        report(progress, number, len(blocks))
        looks.append(_look(lifter, footage, clip, block))
    report(progress, len(blocks), len(blocks))
    weight = np.array([look.seconds for look in looks])

    def mean(name: str) -> float:
        values = np.array([getattr(look, name) for look in looks])
        known = np.isfinite(values)
        return float(np.average(values[known], weights=weight[known])) if known.any() else float("nan")

    names = [entry.name for entry in fields(HeldOutFootage) if entry.name != "seconds"]
    return HeldOutFootage(**{name: mean(name) for name in names}, seconds=float(weight.sum()))


def chosen_blocks(footage: FootageSet, longest_s: float) -> list[tuple[SetClip, slice]]:
    """Held-out blocks of all clips in turn, until they are ``longest_s`` together; rows of the set."""
    by_clip = [(clip, _blocks(footage.held_out[clip.rows], clip.start)) for clip in footage.clips]
    chosen, left = [], longest_s * footage.fps
    for turn in range(max((len(blocks) for _, blocks in by_clip), default=0)):
        for clip, blocks in by_clip:
            if turn < len(blocks) and left > 0:
                chosen.append((clip, blocks[turn]))
                left -= blocks[turn].stop - blocks[turn].start
    return chosen


def _blocks(held_out: np.ndarray, start: int) -> list[slice]:
    edges = np.flatnonzero(np.diff(np.concatenate([[False], held_out, [False]]).astype(np.int8)))
    return [
        slice(start + int(a), start + int(b))
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if b - a >= _SHORTEST_BLOCK
    ]


@dataclass(frozen=True, eq=False)
class _Lifted:
    """A stretch of a clip as a lifter has it: body about the pelvis, path of the root, camera space."""

    body: LiftedBody
    root_m: np.ndarray

    @property
    def sites_m(self) -> np.ndarray:
        return detector_sites(self.body.positions_m)


def _lifted(lifter: RayLifter, rays: np.ndarray, confidence: np.ndarray, time_s: np.ndarray) -> _Lifted:
    body = lift_rays(lifter, rays, confidence, time_s)
    return _Lifted(body, solve_root_path(detector_sites(body.positions_m), rays, confidence, time_s))


def _look(lifter: RayLifter, footage: FootageSet, clip: SetClip, block: slice) -> HeldOutFootage:
    reach = _AROUND + lifter.receptive_field
    first, last = max(clip.start, block.start - reach), min(clip.start + clip.length, block.stop + reach)
    rows = slice(first, last)
    rays, confidence = footage.rays[rows].astype(float), footage.confidence[rows].astype(float)
    true_rays, true_confidence = footage.true_rays[rows].astype(float), footage.true_confidence[rows].astype(float)
    time_s = footage.time_s[rows]
    own = slice(block.start - first, block.stop - first)
    whole = _lifted(lifter, rays, confidence, time_s)
    placed = whole.body.positions_m + whole.root_m[:, None]
    motion_from_camera = np.linalg.inv(clip.camera_from_motion)
    contact = _contacts(footage, rows)
    up = motion_from_camera[1, :3]
    return HeldOutFootage(
        reprojection_mm=reprojection_mm(whole.sites_m[own], whole.root_m[own], true_rays[own], true_confidence[own]),
        between_mm=_between_mm(lifter, rays, confidence, true_rays, true_confidence, time_s, own),
        second_camera_mm=_second_camera_mm(footage, clip, placed[own], time_s[own]),
        truth_mm=1000 * frame_procrustes_error(placed[own][:, LIMB_JOINTS], footage.truth_m[block][:, LIMB_JOINTS]),
        sound=float(footage.covered[block].mean()),
        bones_pct=bone_variation_pct(placed[own][:, LIMB_JOINTS]),
        jitter_m_s2=float(np.linalg.norm(accelerations(whole.body.positions_m[own], time_s[own]), axis=-1).mean()),
        slide_mm_s=1000 * contact_slide(placed[own][:, CONTACT_POINTS], contact[own], time_s[own], up),
        seconds=(block.stop - block.start) / footage.fps,
    )


def _contacts(footage: FootageSet, rows: slice) -> np.ndarray:
    from ..motion.motion_set import foot_contacts

    return foot_contacts(footage.motion_m[rows].astype(float), footage.fps).astype(float)


def _between_mm(
    lifter: RayLifter,
    rays: np.ndarray,
    confidence: np.ndarray,
    true_rays: np.ndarray,
    true_confidence: np.ndarray,
    time_s: np.ndarray,
    own: slice,
) -> float:
    """Reprojection of frames that the lifter wasn't given."""
    given = slice(None, None, 2)
    half = _lifted(lifter, rays[given], confidence[given], time_s[given])
    missing = np.arange(own.start, own.stop)
    missing = missing[missing % 2 == 1]
    if not len(missing) or len(time_s[given]) < 2:
        return float("nan")

    def drawn(values: np.ndarray) -> np.ndarray:
        flat = values.reshape(len(values), -1)
        columns = [np.interp(time_s[missing], time_s[given], column) for column in flat.T]
        return np.stack(columns, axis=-1).reshape(len(missing), *values.shape[1:])

    return reprojection_mm(drawn(half.sites_m), drawn(half.root_m), true_rays[missing], true_confidence[missing])


def _second_camera_mm(footage: FootageSet, clip: SetClip, placed_m: np.ndarray, time_s: np.ndarray) -> float:
    """Mean reprojection into the other cameras that filmed the same, after one similarity for each.

    A single camera tells neither how far away a person is nor how large, so the body may be moved and scaled as a whole
    until it lies best in the other picture; how it is turned and bent is what is judged.
    """
    if clip.world_from_camera is None:
        return float("nan")
    found = []
    for other in _others(footage, clip):
        at = np.searchsorted(footage.time_s[other.rows], time_s - 1e-3)
        inside = at < other.length
        inside[inside] = np.abs(footage.time_s[other.rows][at[inside]] - time_s[inside]) < 0.5 / footage.fps
        if inside.sum() < _SHORTEST_BLOCK:
            continue
        rows = other.start + at[inside]
        assert other.world_from_camera is not None
        turn = np.linalg.inv(other.world_from_camera)[:3, :3] @ clip.world_from_camera[:3, :3]
        about = placed_m[inside] - placed_m[inside][:, :1]
        sites = detector_sites(about) @ turn.T
        rays, confidence = footage.true_rays[rows].astype(float), footage.true_confidence[rows].astype(float)
        root = solve_root_path(sites, rays, confidence, time_s[inside])
        found.append(reprojection_mm(sites, root, rays, confidence))
    return float(np.mean(found)) if found else float("nan")


def _others(footage: FootageSet, clip: SetClip) -> list[SetClip]:
    return [
        other
        for other in footage.clips
        if other is not clip and other.world_from_camera is not None and other.source.sha256 != clip.source.sha256
    ]


# ---- The verdict ----------------------------------------------------------------------------------------------------


def footage_score(before: HeldOutFootage, after: HeldOutFootage) -> float:
    """By what part the misses on held-out footage have changed; below 0 is better.

    Who was there knows best: motion that was captured beside the film. A second camera comes next, since it sees what
    the first can't. Without either it is the mean of reprojection and of reprojection between the frames that were
    given.
    """
    for name in ("truth_mm", "second_camera_mm"):
        old, new = getattr(before, name), getattr(after, name)
        if math.isfinite(old) and math.isfinite(new):
            return float(new / old - 1)
    changes = [
        getattr(after, name) / max(getattr(before, name), 1e-9) - 1 for name in ("reprojection_mm", "between_mm")
    ]
    return float(np.mean(changes))


def verdict(before: Judged, after: Judged, settings: GateSettings) -> Verdict:
    """Whether the lifter ``after`` is better than the one ``before``, and why, in words."""
    was, now = before.footage, after.footage
    numbers = (now.reprojection_mm, now.between_mm, after.views_mm, after.views_aligned_mm)
    if was.seconds < settings.least_held_out_s:
        return Verdict(
            False,
            f"only {was.seconds:.1f} s of footage could be held out, too little to tell; give more footage",
        )
    if not all(map(math.isfinite, numbers)):
        return Verdict(False, "learning ran astray")
    seen_from_aside = math.isfinite(was.truth_mm) or math.isfinite(was.second_camera_mm)
    if was.sound < settings.least_sound and not seen_from_aside:
        return Verdict(
            False,
            f"only {was.sound:.0%} of the held-out footage has a pose that can be believed, so one camera can't tell "
            "whether depth got better; give a second camera, motion capture of the same take, or other footage",
        )
    gain = -footage_score(was, now)
    told = _told(was, now, gain)
    for what, old, new in (
        ("held-out motion capture is missed", before.views_mm, after.views_mm),
        ("held-out motion capture, aligned, is missed", before.views_aligned_mm, after.views_aligned_mm),
    ):
        if new > old * (1 + settings.most_loss):
            return Verdict(False, f"{told}, but {what} by {new:.1f} mm instead of {old:.1f}")
    if gain < settings.least_gain:
        return Verdict(False, f"{told}, which is no gain")
    for what, unit, old, new in (
        ("bones change their lengths", "%", was.bones_pct, now.bones_pct),
        ("the motion trembles", "m/s2", was.jitter_m_s2, now.jitter_m_s2),
        ("standing feet slide", "mm/s", was.slide_mm_s, now.slide_mm_s),
    ):
        if math.isfinite(old) and math.isfinite(new) and new > old * (1 + settings.most_side_effect):
            return Verdict(False, f"{told}, but {what} more: {new:.1f} {unit} instead of {old:.1f}")
    return Verdict(
        True, f"{told}; held-out motion capture is missed by {after.views_mm:.1f} mm instead of {before.views_mm:.1f}"
    )


def _told(was: HeldOutFootage, now: HeldOutFootage, gain: float) -> str:
    if math.isfinite(was.truth_mm):
        numbers = f"by {now.truth_mm:.1f} mm instead of {was.truth_mm:.1f} where it is known"
    elif math.isfinite(was.second_camera_mm):
        numbers = f"by {now.second_camera_mm:.1f} mm instead of {was.second_camera_mm:.1f} in the second camera"
    else:
        numbers = f"by {now.reprojection_mm:.1f} mm instead of {was.reprojection_mm:.1f}"
        numbers += f", between the frames that were given by {now.between_mm:.1f} instead of {was.between_mm:.1f}"
    more = f"{gain:.0%} less" if gain >= 0 else f"{-gain:.0%} more"
    return f"held-out footage is missed {numbers} ({more})"
