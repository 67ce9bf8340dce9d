"""The conversation between Blender and its worker, line by line."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keylift.core.worker_messages import (
    MAX_LINE_BYTES,
    Cancel,
    Failed,
    Finished,
    Noted,
    Progressed,
    Ready,
    Request,
    WorkerMessageError,
    decode_event,
    decode_request,
    encode,
)

numbers = st.integers(0, 10**9)
texts = st.text(max_size=50)


@given(numbers, st.lists(texts, max_size=8))
def test_requests_arrive_as_they_were_sent(job: int, argv: list[str]) -> None:
    line = encode(Request(job, tuple(argv)))
    assert line.count(b"\n") == 1 and line.isascii()
    assert decode_request(line) == Request(job, tuple(argv))
    assert decode_request(encode(Cancel(job))) == Cancel(job)


@given(numbers, texts, st.none() | numbers)
def test_events_arrive_as_they_were_sent(job: int, text: str, total: int | None) -> None:
    for event in (
        Ready(1, text, text),
        Progressed(job, text, text, job, total),
        Noted(job, text),
        Finished(job, {"frames": job, "text": text}),
        Failed(job, text, text, 75),
    ):
        assert decode_event(encode(event)) == event


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_whatever_else_arrives_is_refused(line: bytes) -> None:
    for decode in (decode_event, decode_request):
        with pytest.raises(WorkerMessageError):
            decode(line)


@pytest.mark.parametrize(
    "content",
    [
        {"say": "request", "job": "1", "argv": []},
        {"say": "request", "job": 1, "argv": "rm"},
        {"say": "request", "job": 1, "argv": [1]},
        {"say": "request", "job": True, "argv": []},
        {"say": "request", "job": 1, "argv": ["x"] * 2000},
        {"say": "request", "job": 1},
        {"say": "request", "job": 1, "argv": [], "more": "x"},
        {"say": "ready", "protocol": 1, "version": "1", "python": "3"},
        {"say": []},
        [],
        "[" * 100_000,
    ],
)
def test_requests_of_another_shape_are_refused(content: object) -> None:
    line = content.encode() if isinstance(content, str) else json.dumps(content).encode()
    with pytest.raises(WorkerMessageError):
        decode_request(line)


def test_a_line_without_an_end_is_not_read_to_it() -> None:
    with pytest.raises(WorkerMessageError, match="too long"):
        decode_event(b"x" * (MAX_LINE_BYTES + 1))
    with pytest.raises(WorkerMessageError, match="longer"):
        encode(Noted(1, "x" * MAX_LINE_BYTES))
