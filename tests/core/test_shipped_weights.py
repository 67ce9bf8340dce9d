"""The weights that Keylift comes with: small, free for all uses, of every landmark, and good on a walker."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from keylift.core.camera import Camera
from keylift.core.lifter.lifting import LiftedBody, lift_rays, load_ray_lifter
from keylift.core.lifter.ray_windows import lifter_points
from keylift.core.metrics import p_mpjpe
from keylift.core.weights import SHIPPED_FOLDER, find_weights, read_header
from walker import camera_from_world, filmed, walk

SHIPPED = ("default", "causal")
CAMERA = Camera.guessed((1280, 720))


@pytest.fixture(scope="module")
def walker():
    view = camera_from_world(0.1, 0.0, 5.0)
    motion = walk(60, 30.0, 0.6)
    return motion, motion.positions_m @ view[:3, :3].T + view[:3, 3], filmed(motion, CAMERA, view)[1]


def lifted(name: str, track) -> LiftedBody:
    xy_px, confidence = lifter_points(track)
    return lift_rays(load_ray_lifter(find_weights(name), "cpu"), CAMERA.rays(xy_px), confidence, track.time_s)


def test_these_are_all_that_come_with_keylift():
    assert {path.stem for path in SHIPPED_FOLDER.glob("*.safetensors")} == set(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_file_is_small_and_says_what_it_may_be_used_for(name):
    path = SHIPPED_FOLDER / f"{name}.safetensors"
    header = read_header(path)
    assert path.stat().st_size <= 20_000_000
    assert "any purpose, commercial work included" in header["licence"]
    assert "mocap.cs.cmu.edu" in header["acknowledgement"]
    assert header["lifter"]["causal"] == (name == "causal")
    assert header["training"]["config"]["data"]["leave_out_sources"] == ["hdm05_amc"]
    # What a machine's folders are called is nobody's business.
    assert not any(f'"{start}' in json.dumps(header) for start in ("/", "C:", "~"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_walker_is_lifted_with_all_that_is_asked_for(name, walker):
    motion, body_m, track = walker
    body = lifted(name, track)
    known = slice(13, -13)
    assert body.positions_m.shape == body.expected_error_m.shape + (3,) == (60, 41, 3)
    assert p_mpjpe(body.positions_m[known], (body_m - body_m[:, :1])[known]) < 0.07
    stands = motion.contact > 0.5
    assert ((body.contact > 0.5) == stands)[known].mean() > 0.8
    up = body.up[known]
    assert (up[:, 1] / np.linalg.norm(up, axis=-1)).mean() < -0.97


def test_causal_weights_look_at_no_later_frame(walker):
    _, _, track = walker
    shaken = replace(track, xy_px=track.xy_px.copy())
    shaken.xy_px[40:] += 50
    for name in SHIPPED:
        moved = np.abs(lifted(name, shaken).positions_m - lifted(name, track).positions_m).max(axis=(1, 2))
        assert (moved[:40].max() < 1e-6) == (name == "causal"), name
        assert moved[40] > 1e-3
