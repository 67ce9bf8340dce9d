"""How many frames a second footage has, told from its presentation times."""

from __future__ import annotations

import numpy as np

# Film, PAL, NTSC and their multiples.
_USUAL_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 48.0, 50.0, 60000 / 1001, 60.0, 100.0, 120.0, 240.0)


def frame_rate(time_s: np.ndarray) -> float:
    """Frames a second of (F,) presentation times; 30 for a single frame.

    Clocks that count milliseconds round every time, so one difference says little and the whole clip says it well.
    Pauses and dropped frames count as the frames that would have been there.
    """
    steps = np.diff(time_s)
    if len(steps) == 0:
        return 30.0
    periods = np.maximum(np.round(steps / np.median(steps)), 1)
    measured = periods.sum() / (time_s[-1] - time_s[0])
    nearest = min(_USUAL_RATES, key=lambda rate: abs(rate - measured))
    # As near as millisecond clocks can tell over this clip.
    return float(nearest if abs(nearest - measured) * (time_s[-1] - time_s[0]) < 0.001 * nearest + 1e-6 else measured)
