"""A network that is cut while a set-up fetches: told, nothing that passes for whole, and gone on with afterwards."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.broken_index import Index, make_wheel, served, variables
from faults.try_network import ADVICE, begun_environment, environment_cut, model_cut


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base") / "worker"
    subprocess.run([sys.executable, "-I", "-m", "venv", str(folder)], check=True, capture_output=True)
    return folder


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    make_wheel(wheels, "one")
    make_wheel(wheels, "two", "Requires-Dist: one\n")
    make_wheel(wheels, "mediapipe", version="0.10.21")
    with served(wheels) as found:
        for name, value in (variables(found.url) | {"PIP_CACHE_DIR": str(tmp_path / "pip")}).items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.mark.parametrize("fault", ["wheel cut", pytest.param("page of somebody else", marks=pytest.mark.slow)])
def test_an_environment_goes_on_when_the_network_is_back(fault: str, index: Index, venv: Path, tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("two==1.0\n", encoding="utf-8")
    said, wrong = environment_cut(index, fault, begun_environment(venv, requirements))
    assert index.asked and not wrong and any(words in said for words in ADVICE), said
    assert fault != "wheel cut" or "cut short or changed on the way" in said


@pytest.mark.parametrize("fault", ["wheel cut", "page refused"])
def test_a_pose_model_is_whole_or_not_there(
    fault: str, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path / "cache"))
    said, wrong = model_cut(index, fault, tmp_path / "cache", whole=False)
    assert index.asked and not wrong and any(words in said for words in ADVICE), said
    assert fault != "wheel cut" or "cut short or changed on the way" in said
