import subprocess
import sys
import zipfile

import pytest

from footage_samples import full_model
from keylift.core import pose_model as module
from keylift.core.errors import Cancelled, DetectorError, OutputError, TryAgainError
from keylift.core.pose_model import cache_folder, find_pose_model, pose_model


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def no_network(monkeypatch):
    # A package index that nobody answers at, on this very computer.
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_CONFIG_FILE", "nul" if sys.platform == "win32" else "/dev/null")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.delenv("PIP_NO_INDEX", raising=False)
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def test_the_full_model_is_made_once_and_holds_both_networks():
    bundle = full_model()
    made = bundle.stat().st_mtime_ns
    assert pose_model("full") == bundle == find_pose_model("full") and bundle.stat().st_mtime_ns == made
    with zipfile.ZipFile(bundle) as archive:
        members = {member.filename: member for member in archive.infolist()}
        assert set(members) == {"pose_detector.tflite", "pose_landmarks_detector.tflite"}
        # MediaPipe reads them where they lie.
        assert all(member.compress_type == zipfile.ZIP_STORED for member in members.values())
        assert all(archive.read(name)[4:8] == b"TFL3" for name in members)


@pytest.mark.slow
def test_the_full_model_comes_out_of_the_package_index_the_same_every_time(empty_cache, tmp_path, monkeypatch):
    first = pose_model("full")
    assert first.is_relative_to(empty_cache)
    assert [path.name for path in first.parent.iterdir()] == [first.name]
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path / "another"))
    assert pose_model("full").read_bytes() == first.read_bytes()


def test_a_damaged_bundle_in_the_cache_is_not_used(empty_cache, no_network):
    place = empty_cache / "models" / "pose_landmarker_full.task"
    place.parent.mkdir(parents=True)
    content = bytearray(full_bundle_bytes())
    content[len(content) // 2] ^= 0xFF
    place.write_bytes(content)
    assert find_pose_model("full") is None
    with pytest.raises(TryAgainError, match="could not be fetched"):
        pose_model("full")


def full_bundle_bytes():
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("KEYLIFT_CACHE", raising=False)
        return full_model().read_bytes()


def test_without_a_network_it_says_so_and_leaves_nothing(empty_cache, no_network):
    with pytest.raises(TryAgainError, match=r"[Cc]onnect.*package index.*--detector-model FILE"):
        pose_model("full")
    assert not [path for path in empty_cache.rglob("*") if path.is_file()]


def test_other_networks_than_expected_are_not_used(empty_cache, tmp_path, monkeypatch):
    wheel = tmp_path / "mediapipe-0.10.21-x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member in module._SHA256:
            archive.writestr(member, b"not a network")
    monkeypatch.setattr(module, "_fetch_wheel", lambda folder: wheel)
    with pytest.raises(DetectorError, match="checksum"):
        pose_model("full")
    assert find_pose_model("full") is None


def test_no_pip_is_explained(empty_cache, monkeypatch):
    answer = subprocess.CompletedProcess([], 1, "", "python: No module named pip")
    monkeypatch.setattr(module.subprocess, "run", lambda *args, **kwargs: answer)
    with pytest.raises(DetectorError, match="ensurepip"):
        pose_model("full")


def test_an_index_without_the_package_is_no_matter_of_trying_again(empty_cache, no_network, monkeypatch):
    # An index that answers, and has nothing.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(DetectorError, match=r"No matching distribution found for mediapipe==0.10.21\. Check"):
        pose_model("full")


def test_pips_reason_is_told(empty_cache, monkeypatch):
    said = "WARNING: something\nERROR: 403 Client Error: Forbidden for url: x\n\n[notice] A new release of pip\n"
    answer = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr(module.subprocess, "run", lambda *args, **kwargs: answer)
    with pytest.raises(TryAgainError, match=r"\): 403 Client Error: Forbidden for url: x\. Check"):
        pose_model("full")


def test_a_cache_that_cant_be_written_is_told_with_its_setting(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(module, "_fetch_wheel", lambda folder: folder)
    monkeypatch.setattr(module, "_networks_in_wheel", lambda wheel: dict.fromkeys(module._SHA256, b""))
    monkeypatch.setattr(module, "_with_input_note", lambda network, mean, std: network)
    with pytest.raises(OutputError, match=r"Set KEYLIFT_CACHE to a folder that can be written\.$"):
        pose_model("full")


@pytest.mark.parametrize("name", ["lite", "heavy"])
def test_official_bundles_are_found_in_the_cache_or_asked_for(empty_cache, name):
    with pytest.raises(DetectorError, match=rf"pose_landmarker_{name}.task.*--detector-model FILE"):
        pose_model(name)
    place = empty_cache / "models" / f"pose_landmarker_{name}.task"
    place.parent.mkdir(parents=True)
    place.write_bytes(full_bundle_bytes())
    assert pose_model(name) == place


def test_a_bundle_can_be_named_by_its_path_or_its_folder(tmp_path):
    bundle = full_model()
    assert pose_model(str(bundle)) == bundle
    assert pose_model(str(bundle.parent)) == bundle
    with pytest.raises(DetectorError, match="There is no pose model"):
        pose_model(str(tmp_path / "nowhere.task"))
    (tmp_path / "notes.task").write_text("not a bundle")
    with pytest.raises(DetectorError, match="not a MediaPipe pose landmarker bundle"):
        pose_model(str(tmp_path / "notes.task"))


def test_it_can_be_stopped(empty_cache):
    with pytest.raises(Cancelled):
        pose_model("full", lambda done, total: False)
    assert not cache_folder().exists()
