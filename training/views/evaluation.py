"""How good a lifter is on synthetic views of motion that it never saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...core.lifter.network import TemporalLifter
from ...core.metrics import mpjpe, n_mpjpe, p_mpjpe
from ...core.skeletons import LANDMARKS_41
from ..motion.motion_set import MotionSet
from .synthetic_views import ViewMaker, ViewSettings

BATCH = 512
LIMB_JOINTS = LANDMARKS_41.indices(
    *(f"{side}_{name}" for side in "lr" for name in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"))
)


def evaluate_on_views(
    lifter: TemporalLifter, motion: MotionSet, settings: ViewSettings, windows: int, seed: int, device: torch.device
) -> dict[str, float]:
    """Errors in millimetres over ``windows`` synthetic views, one frame each, and the F1 score of contacts.

    Joints are not turned and arms not exchanged, whatever ``settings`` say: bodies are held as people held them.
    """
    settings = replace(settings, turn_chance=0.0, leg_turn_chance=0.0, arm_mix_chance=0.0)
    maker = ViewMaker(motion, settings, seed)
    lifter.eval()
    predicted, truth, contact_said, contact_true = [], [], [], []
    with torch.inference_mode():
        for number in range(-(-windows // BATCH)):
            views = maker.batch(number, min(BATCH, windows))
            positions, extras = lifter.window_with_extras(torch.from_numpy(views.inputs).to(device))
            assert extras is not None
            predicted.append(positions[:, 0].cpu().numpy())
            truth.append(views.targets_m)
            contact_said.append(extras[:, 0, :4].cpu().numpy() > 0)
            contact_true.append(views.contact > 0.5)
    p = np.concatenate(predicted)
    # The pelvis is 0 by definition of the target; the lifter's own pelvis is not used either.
    p = (p - p[:, :1]).astype(np.float64)
    t = np.concatenate(truth).astype(np.float64)
    said, true = np.concatenate(contact_said), np.concatenate(contact_true)
    hits = (said & true).sum()
    return {
        "mpjpe_mm": 1000 * mpjpe(p, t),
        "p_mpjpe_mm": 1000 * p_mpjpe(p, t),
        "n_mpjpe_mm": 1000 * n_mpjpe(p, t),
        "limbs_mpjpe_mm": 1000 * mpjpe(p[:, LIMB_JOINTS], t[:, LIMB_JOINTS]),
        "limbs_p_mpjpe_mm": 1000 * p_mpjpe(p[:, LIMB_JOINTS], t[:, LIMB_JOINTS]),
        "contact_f1": float(2 * hits / max(said.sum() + true.sum(), 1)),
    }
