"""The made-up detector: perfect when nothing is wrong, as bad as a real one as it comes, and open about its doubts."""

from dataclasses import fields, replace

import numpy as np
import pytest

from keylift.core.skeletons import LIFTER_21_NAMES
from keylift.training.views.detector_noise import NoiseSettings, observe

BATCH, FRAMES, POINTS = 400, 27, len(LIFTER_21_NAMES)
PERFECT = replace(
    NoiseSettings(), scale=0.0, **{field.name: 0.0 for field in fields(NoiseSettings) if field.name.endswith("chance")}
)
INDEX = {name: number for number, name in enumerate(LIFTER_21_NAMES)}


def seen_by(settings, seed=0):
    """Errors (B, T, 21) in parts of the box, NaN where missing, and confidence, of points in a row."""
    rays = np.zeros((BATCH, FRAMES, POINTS, 2), np.float32)
    rays[..., 0] = np.arange(POINTS)
    truth = rays.copy()
    depth = np.zeros((BATCH, FRAMES, POINTS), np.float32)
    box = np.full(BATCH, 2.0, np.float32)
    found, confidence = observe(np.random.default_rng(seed), rays, depth, box, settings)
    return np.linalg.norm(found - truth, axis=-1) / 2.0, confidence


def test_with_nothing_wrong_everything_is_seen_as_it_is():
    error, confidence = seen_by(PERFECT)
    # What is cut off by the picture's edge is a matter of chance too, so all that is left is a tremble of confidence.
    assert error.max() == 0 and confidence.min() > 0.7


def test_the_same_numbers_give_the_same_noise():
    for one, other in zip(seen_by(NoiseSettings(), 3), seen_by(NoiseSettings(), 3), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("joint", "median_pct", "far_pct"),
    # Measured on rendered people, see docs/rendered-people.md: medians, and samples beyond 10 % of the box.
    [("nose", 1.4, 0.2), ("wrist", 1.6, 6.9), ("knee", 1.7, 6.8), ("ankle", 1.4, 5.1), ("heel", 2.0, 7.2)],
)
def test_it_errs_as_much_as_the_real_one(joint, median_pct, far_pct):
    names = [joint] if joint in INDEX else [f"l_{joint}", f"r_{joint}"]
    # Exchanged sides are counted apart in the measurement.
    settings = replace(NoiseSettings(), body_swap_chance=0.0, limb_swap_chance=0.0)
    error = 100 * seen_by(settings)[0][:, :, [INDEX[name] for name in names]]
    error = error[np.isfinite(error)]
    assert np.median(error) == pytest.approx(median_pct, rel=0.35)
    assert 100 * (error > 10).mean() == pytest.approx(far_pct, rel=0.6, abs=0.6)


def test_a_lost_limb_goes_as_one_and_its_end_goes_farthest():
    error, confidence = seen_by(replace(PERFECT, burst_chance=1.0))
    knee, ankle, toe = (error[:, :, INDEX[f"l_{name}"]] for name in ("knee", "ankle", "big_toe"))
    lost = (knee > 0.02) & (ankle > 0.02) & (toe > 0.02)
    assert lost.mean() > 0.15
    assert np.median(knee[lost]) < np.median(ankle[lost]) < np.median(toe[lost])
    # A third of those that are far off still say that they are sure; the others say so.
    far = error[:, :, INDEX["l_wrist"]] > 0.10
    unsure = confidence[:, :, INDEX["l_wrist"]] < 0.7
    assert unsure[far].mean() > 0.4 and unsure[~far].mean() < 0.2


def test_doubt_says_nothing_of_error():
    error, confidence = seen_by(replace(PERFECT, doubt_chance=1.0))
    assert error.max() == 0 and (confidence[:, :, INDEX["l_wrist"]] < 0.8).mean() > 0.2
    assert (confidence[:, :, INDEX["l_hip"]] > 0.9).all()


def test_what_is_missing_is_not_trusted():
    error, confidence = seen_by(replace(PERFECT, missing_chance=1.0))
    missing = np.isnan(error)
    assert missing.any() and not missing[:, FRAMES // 2].any() and (confidence[missing] == 0).all()
