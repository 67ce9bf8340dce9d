import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from keylift.core.detection_spans import SHORTEST_CUT, WARM_UP_FRAMES, looked_at_once, spans_of


@given(st.integers(0, 5000), st.integers(1, 40_000), st.integers(1, 400))
def test_parts_hold_every_frame_once_and_warm_up_before(first, count, group):
    last = first + count - 1
    spans = spans_of(first, last, np.arange(0, last + 1, group))
    assert spans[0].first == spans[0].seam == first and spans[-1].last == last
    assert all(after.seam == before.last + 1 for before, after in zip(spans, spans[1:], strict=False))
    assert all(span.seam - span.first == WARM_UP_FRAMES for span in spans[1:])
    assert (len(spans) == 1) == (count <= SHORTEST_CUT)
    # Two cores have as much to do as each other, within what a cut may move.
    assert len(spans) in (1, 2, 4, 8, 16, 32)
    believed = [span.last + 1 - span.seam for span in spans]
    assert max(believed) <= 1.25 * count / len(spans) + 1


def test_cuts_go_where_no_picture_is_decoded_in_vain():
    spans = spans_of(0, 599, np.array([0, 250, 290, 500]))
    assert [span.first for span in spans] == [0, 290]
    spans = spans_of(0, 599, np.array([0, 100]))
    assert [span.first for span in spans] == [0, 300 - WARM_UP_FRAMES]


def test_as_many_at_once_as_the_process_may_use(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert looked_at_once(8) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    assert looked_at_once(1) == 1 and 1 <= looked_at_once(100) <= 8
