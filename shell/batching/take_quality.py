"""What a take is worth, in the few figures that tell which of a thousand to look at."""

from __future__ import annotations

import numpy as np

from ...core.doubtful_frames import doubtful_frames
from ...core.keypoint_repair import repair_counts
from ...core.motion_metrics import CONTACT_POINTS, contact_slide
from ...core.tracks import KeypointTrack, PoseTrack


def quality_of(pose: PoseTrack, track: KeypointTrack) -> dict[str, float | int]:
    """Figures of one person's take, for its manifest.

    pose:  as it was lifted, of the 41 landmarks
    track: what it was lifted from, repaired

    - ``seen``: frames in which the person was detected; ``bridged``: frames without, whose keypoints come from those
      around them. In all others the person is lost.
    - ``doubtful``: frames that ``core.doubtful_frames`` would have looked at. Where the person is lost there is nothing
      to look at, so those frames don't count.
    - ``exchanged``: frames in which sides were exchanged back.
    - ``slide_mm_s``: mean speed along the floor of feet in contact; left out when no foot ever stands.
    """
    has_keypoints = track.seen
    here = pose.confidence.max(axis=1) > 0
    quality: dict[str, float | int] = {
        "seen": int((has_keypoints & ~track.filled).sum()),
        "bridged": int((has_keypoints & track.filled).sum()),
        "doubtful": int((doubtful_frames(pose.confidence) & here).sum()),
        "exchanged": repair_counts(track)["frames_exchanged"],
    }
    up = pose.world_from_camera[2, :3]
    slide_m_s = contact_slide(pose.positions_m[:, CONTACT_POINTS], pose.contact, pose.time_s, up)
    if np.isfinite(slide_m_s):
        quality["slide_mm_s"] = round(1000 * slide_m_s, 1)
    return quality
