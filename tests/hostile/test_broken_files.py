"""Sound files broken at random, and those that once did harm: each reads or is refused in words, in bounded time."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostile_mutations import mutated
from hostile_samples import KINDS, little_asked_for, outcome, samples_of, within_bounds
from keylift.core.errors import KeyliftError

CORPUS = Path(__file__).parent / "corpus"
# Native code reads these, and it may take Python down with it: ``fuzz.py`` breaks more of them, in a process each.
NATIVE = ("c3d", "video", "matroska", "picture")
# What a run of all tests has time for.
TRIES, TRIES_OF_SLOW_ONES = 40, 15
SLOW = ("takes", "jobs", "jobs_json", "weights", *NATIVE)


def told(name: str, content: bytes) -> KeyliftError | None:
    """What comes of reading it. Whatever is no KeyliftError comes through."""
    with within_bounds():
        return outcome(KINDS[name], content)


@pytest.mark.parametrize("name", KINDS)
def test_the_sound_ones_are_read(name: str) -> None:
    # The first of BVH's is a rig that nobody knows.
    problems = [outcome(KINDS[name], content) for content in samples_of(name)]
    assert problems[-1] is None, problems[-1]


@pytest.mark.parametrize("name", KINDS)
def test_broken_ones_read_or_are_refused(name: str) -> None:
    samples = samples_of(name)
    outcome(KINDS[name], samples[0])

    @settings(max_examples=TRIES_OF_SLOW_ONES if name in SLOW else TRIES, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(seed=st.integers(0, 2**32 - 1), which=st.integers(0, len(samples) - 1))
    def check(seed: int, which: int) -> None:
        problem = told(name, mutated(samples[which], Random(seed)))
        assert problem is None or str(problem).strip()

    check()


@pytest.mark.parametrize("name", sorted(set(KINDS) - set(NATIVE)))
def test_any_bytes_read_or_are_refused(name: str) -> None:
    outcome(KINDS[name], samples_of(name)[0])

    @settings(max_examples=8, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(content=st.binary(max_size=200))
    def check(content: bytes) -> None:
        told(name, content)

    check()


@pytest.mark.parametrize("file", sorted(path.name for path in CORPUS.iterdir() if not path.name.startswith(".")))
def test_what_once_did_harm_does_none(file: str) -> None:
    name, content = file.rpartition("-")[0], (CORPUS / file).read_bytes()
    told(name, content)
    with little_asked_for():
        outcome(KINDS[name], content)


def test_the_corpus_is_small() -> None:
    assert sum(path.stat().st_size for path in CORPUS.iterdir()) < 200_000
