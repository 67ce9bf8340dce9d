"""``keylift bench`` runs through and compares like with like."""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from footage_samples import real_clip, write_video
from keylift.core import detection, detection_spans
from keylift.core.footage import open_footage
from keylift.core.lifter.dense_inference import DenseLifter
from keylift.core.lifter.folding import fold
from keylift.core.lifter.network import LifterConfig, TemporalLifter
from keylift.core.rotations import normalised
from keylift.core.segments import SEGMENT_NAMES, SEGMENTS
from keylift.core.skeletons import LANDMARKS_41
from keylift.rig_mapping.bone_map import BoneMap
from keylift.rig_mapping.bone_motion import fk
from keylift.rig_mapping.rest_pose import RestPose
from keylift.rig_mapping.rig_body import rig_body
from keylift.rig_mapping.solve import RetargetOptions, solve
from keylift.rig_mapping.synthetic_rigs import rig_of_22_bones, rig_of_60_bones
from keylift.rig_mapping.synthetic_walk import synthetic_walk
from keylift.shell import bench, main
from keylift.shell.benching import detection_bench
from keylift.shell.reporting import Reporter
from keylift.training.bench import _MIRROR, PlainLifter, compared, in_turn, operations, peak_memory_bytes
from shell_runs import keylift


def test_a_quick_bench_measures_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # A sixteenth of the pixels, and parts that begin sooner: how long it all takes proves nothing here.
    for module in (detection, detection_spans):
        monkeypatch.setattr(module, "SHORTEST_CUT", 60)
    monkeypatch.setattr(detection_bench, "QUICK", replace(detection_bench.QUICK, frames=(20, 70)))
    film = tmp_path / "small.mp4"
    write_video(film, [frame.rgb[::4, ::4] for frame in open_footage(real_clip("cam03.mp4")).frames()], fps=60)
    out = str(tmp_path / "figures")
    code = main(["bench", "--quick", "--json", "--device", "cpu", "--footage", str(film), "-o", out])
    run = capfd.readouterr()
    assert code == 0, run.err
    measured = json.loads(run.out.splitlines()[-1])
    assert measured["quick"] and measured["device"] == "cpu"
    figures = [measured["inference"]["float32"], *measured["training"]]
    assert all(figure["ratio"] > 0 and math.isfinite(figure["ratio"]) for figure in figures)
    assert measured["inference"]["float32"]["largest_difference_m"] < 1e-5
    assert measured["streaming"]["receptive_fields"] == [9, 27]
    assert measured["memory"]["frames"] == [100, 1000] and min(measured["memory"]["peak_mb"]) > 20
    assert measured["memory"]["more_mb"] < 300
    assert measured["views"]["channels"] == 16 and 0 < measured["views"]["making_share"] < 1
    (lifted,) = measured["lift"]
    assert lifted["frames"] == 40 and lifted["fit_vs_realtime"] == pytest.approx(40 / 30 / lifted["seconds"])
    # Seven rounds or fewer of some millions of operations a frame.
    assert 40 * 4 * 4e-3 < lifted["fit_gflop"] < 40 * 7 * 6e-3 and measured["limits"]["gflops_exact"] > 0.5
    found, starts = measured["detect"], measured["start"]
    assert found["frames"] == [20, 70] and found["people"] == 1 and found["size_px"] == [272, 480]
    # Up to the seam in the middle all is as in one go; after it, nearly.
    assert 0 <= found["parts_off_px"] < found["parts_off_px_after_seam"] < 5
    assert sum(found["where_ms"].values()) > 2 and found["lift_share"] > 0
    assert 0 < starts["python_s"] < starts["cli_help_s"]
    assert [cost["frames"] for cost in measured["length"]] == [36, 72]
    assert measured["limits"]["gflops"] > 1 and measured["machine"]["cores"] >= 1
    watched = [
        "detect_overhead", "two_core_speedup", "lift_vs_plain", "train_vs_plain", "fit_vs_realtime", "cli_help_s",
    ]  # fmt: skip
    if importlib.util.find_spec("bpy") is None:
        assert measured["retarget"] is None and "not measured" in run.err
    else:
        watched += ["keyframe_insert_ratio", "extension_enable_ms"]
    assert all(measured[name] > 0 for name in watched)
    assert json.loads((tmp_path / "figures" / "bench.json").read_text()) == measured
    page = (tmp_path / "figures" / "bench.md").read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in page for name in watched) and "tiny sizes" in page
    assert "| fitting, 40 frames |" in page
    assert (tmp_path / "figures" / "bench.png").read_bytes().startswith(b"\x89PNG")


def test_multiplications_are_counted() -> None:
    a, b = torch.rand(30, 40), torch.rand(40, 50)
    assert operations(lambda: a @ b) == 2 * 30 * 40 * 50


def test_what_could_not_be_measured_is_said_and_the_rest_goes_on(tmp_path: Path) -> None:
    there = {"KEYLIFT_CACHE": str(tmp_path / "empty")}
    alone = keylift("bench", "detect", "--quick", cwd=tmp_path, env=there)
    assert alone.code == 1 and "--footage" in alone.err
    taken = keylift("bench", "start", "--quick", "-o", "film.mp4", cwd=tmp_path, env=there)
    assert taken.code == 0 and (tmp_path / "film.mp4" / "bench.md").is_file()
    (tmp_path / "taken").write_text("")
    assert "is a file" in keylift("bench", "start", "--quick", "-o", "taken", cwd=tmp_path).err


def test_a_bench_of_retargeting_alone_says_what_it_measured(tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    run = keylift("bench", "retarget", "--quick", "--json", cwd=tmp_path, cold=True)
    assert run.code == 0, run.err
    (line,) = run.out.splitlines()
    measured = json.loads(line)
    many, mixamo, euler = measured["takes"]
    assert measured["quick"] and measured["rounds"] == 1 and measured["blender"].count(".") >= 1
    for key, take, shape in (
        ("seconds_60_bones_3000_frames", many, (60, 3000)),
        ("seconds_22_bones_1000_frames", mixamo, (22, 1000)),
    ):
        assert (take["keyed_bones"], take["frames"]) == shape
        # Every bone turns on every frame, and one of them moves.
        assert take["curves"] == 4 * take["keyed_bones"] + 3 and take["keys"] == take["curves"] * take["frames"]
        assert 0 < take["solve_seconds"] < take["seconds"] == measured[key]
        assert take["share_of_frames_with_contact"] > 0.5 and take["world_scale"] != pytest.approx(1.0, abs=0.05)
    assert mixamo["bone_map"] == "mixamo"
    assert euler["rotation_mode"] == "XYZ" and euler["curves"] == 3 * 60 + 3 and euler["seconds"] > 0
    inserted = measured["keyframe_insert"]
    assert 0 < measured["keyframe_insert_ratio"] < measured["keyframe_insert_ratio_write_alone"]
    # Both sides wrote the very same keys, or they could not be compared.
    assert inserted["curves"] == 243 and inserted["largest_difference"] == 0.0
    assert measured["memory_bytes_per_frame"] > 60 * 4 * 8 and 0.8 < measured["memory_ratio"] < 1.25
    reduced = measured["reduced"]
    assert 0 < reduced["share_of_keys"] < 0.6 and reduced["largest_errors"][0] <= reduced["tolerance"]["angle_deg"]


def test_without_blender_retargeting_alone_fails_and_says_how_to_get_it(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "bpy.py").write_text("raise ImportError('hidden', name='bpy')", encoding="utf-8")
    run = keylift("bench", "retarget", "--quick", "--json", cwd=tmp_path, env={"PYTHONPATH": str(hidden)})
    assert run.code == 1 and "keylift[blender]" in run.err
    assert json.loads(run.out.splitlines()[-1])["kind"] == "BlenderMissingError"


def test_without_blender_a_whole_bench_leaves_retargeting_out_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing() -> None:
        raise bench.BlenderMissingError("There is no Blender.")

    monkeypatch.setattr(bench, "check_blender", missing)
    for section in set(bench.SECTIONS) - {bench.RETARGET}:
        monkeypatch.setitem(bench._SECTIONS, section, (lambda options, reporter: {}, lambda found: ["measured"]))
    chosen = {"what": "all", "quick": True, "device": "cpu", "output": None}
    for as_json in (True, False):
        assert bench.run(argparse.Namespace(**chosen), Reporter(as_json=as_json)) == 0
        out, err = capsys.readouterr()
        assert "not measured. There is no Blender." in err
        if as_json:
            assert json.loads(out)["retarget"] is None and json.loads(out)["keyframe_insert_ratio"] is None
        else:
            assert out.splitlines() == ["measured", "retargeting: not measured", *["measured"] * 3]


def test_the_walk_stands_where_it_says_and_is_the_same_every_time() -> None:
    pose = synthetic_walk(200)
    np.testing.assert_array_equal(pose.positions_m, synthetic_walk(200).positions_m)
    positions = pose.positions_world_m()
    for heel, column in (("l_heel", 0), ("r_heel", 2)):
        stands = pose.contact[:, column] > 0.5
        ankles = positions[:, LANDMARKS_41.index(heel.replace("heel", "ankle"))]
        still = stands[1:] & stands[:-1]
        assert 0.2 < stands.mean() < 0.8
        assert np.abs(np.diff(ankles, axis=0)[still, :2]).max() < 1e-9
        assert np.abs(positions[stands, LANDMARKS_41.index(heel), 2]).max() < 1e-9
    # A walk goes somewhere.
    assert np.linalg.norm(positions[-1, 0] - positions[0, 0]) > 2.0


@pytest.mark.parametrize("rig, bones", [(rig_of_60_bones, 60), (rig_of_22_bones, 22)])
def test_the_rigs_are_keyed_on_every_bone_and_follow_the_walk(
    rig: Callable[[], tuple[RestPose, BoneMap]], bones: int
) -> None:
    rest, bone_map = rig()
    pose = synthetic_walk(60)
    motion = solve(pose, rest, bone_map, RetargetOptions(plant_feet=False))
    assert len(rest) == len(motion.keyed) == bones
    body = rig_body(rest, bone_map)
    positions = pose.positions_world_m()
    for start, end in (("l_thigh", "l_shank"), ("r_upperarm", "r_forearm"), ("l_forearm", "l_hand")):
        posed = fk(rest, motion, [body.chains[start][0], body.chains[end][0]])[..., :3, 3]
        joints = [LANDMARKS_41.index(SEGMENTS[SEGMENT_NAMES.index(name)].joint) for name in (start, end)]
        np.testing.assert_allclose(
            normalised(posed[:, 1] - posed[:, 0]),
            normalised(positions[:, joints[1]] - positions[:, joints[0]]),
            atol=1e-6,
        )


def test_the_plain_network_is_the_same_network() -> None:
    torch.manual_seed(0)
    network = TemporalLifter(LifterConfig(17, 2, 17, channels=16, widths=(3, 5, 3))).eval()
    plain, strided = PlainLifter((3, 5, 3), 16).eval(), PlainLifter((3, 5, 3), 16, strided=True).eval()
    for one in (plain, strided):
        one.load_state_dict(network.state_dict())
    keypoints = np.random.default_rng(0).uniform(-1, 1, (60, 17, 2)).astype(np.float32)
    lifted = plain.lift(keypoints)
    np.testing.assert_allclose(lifted, DenseLifter(fold(network, _MIRROR), torch.device("cpu"))(keypoints), atol=1e-6)
    window = torch.from_numpy(keypoints[None, :45])
    with torch.no_grad():
        np.testing.assert_allclose(strided(window), network.forward_window(window), atol=1e-6)


def test_sides_are_timed_in_turn_and_compared_round_by_round() -> None:
    told: list[str] = []
    seconds = in_turn(lambda: told.append("a"), lambda: told.append("b"), rounds=2)
    assert told == ["a", "b"] * 3 and [len(taken) for taken in seconds] == [2, 2]
    assert compared([1.0, 2.0, 1.0], [2.0, 6.0, 2.5])["ratio"] == pytest.approx(2.5)


# In a process that has done other work the peak may lie behind it.
@pytest.mark.alone
def test_memory_that_was_used_is_seen() -> None:
    before = peak_memory_bytes()
    used = np.ones(30_000_000)
    assert peak_memory_bytes() > before + used.nbytes // 4 or before > 1e9
