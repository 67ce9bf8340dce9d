"""What is installed is what is in the tree: wheel, sdist and Blender extension hold the rooms, and nothing else."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from checkout import DOORS, ROOMS, ROOT, dev, room_modules

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
NOT_SOURCES = shutil.ignore_patterns(
    ".venv*",
    ".git",
    "__pycache__",
    "build",
    "dist",
    "runs",
    "demo-output",
    "*.egg-info",
    ".*_cache",
    ".hypothesis",
    "shared",
)


def data_files() -> set[str]:
    """What the package carries besides modules, as paths from the root."""
    data = {
        path
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.suffix in {".json", ".toml", ".safetensors", ".npz", ".j2"}
        or path.name.startswith("LICENSE")
        or path.name == "worker_requirements.txt"
        or (path.suffix == ".py" and "presets" in path.parts)
    }
    return {path.relative_to(ROOT).as_posix() for path in data} | {"blender_manifest.toml"}


def modules() -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in room_modules(*ROOMS)} | set(DOORS)


def test_the_package_list_is_the_tree() -> None:
    packages = {"keylift"} | {
        ".".join(["keylift", *path.parent.relative_to(ROOT).parts])
        for path in room_modules(*ROOMS)
        if path.name == "__init__.py"
    }
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(packages)
    for path in room_modules(*ROOMS):
        assert (path.parent / "__init__.py").exists(), f"{path.parent} has modules but no __init__.py"


def test_no_init_in_tests() -> None:
    # With one, pytest would load the package a second time under the checkout's name.
    assert not list((ROOT / "tests").rglob("__init__.py"))


def manifest() -> dict:
    return tomllib.loads((ROOT / "blender_manifest.toml").read_text(encoding="utf-8"))


def test_versions_agree() -> None:
    import keylift

    source = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    written = next(
        ast.literal_eval(node.value)
        for node in source.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    )
    assert written == keylift.__version__ == manifest()["version"]
    assert re.search(rf"^## {re.escape(written)}\b", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_lock_pins_everything_that_the_package_asks_for() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [line.split(";")[0].strip() for line in lines if line.strip() and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in pinned)
    names = [re.sub(r"[-_.]+", "-", line.split("==")[0]).lower() for line in pinned]
    assert len(set(names)) == len(names)
    project = PROJECT["project"]
    asked = project["dependencies"] + [need for extra in project["optional-dependencies"].values() for need in extra]
    for need in asked:
        assert re.match(r"[A-Za-z0-9_-]+", need).group().lower() in names, need  # type: ignore[union-attr]


def test_sdist_and_wheel_hold_the_rooms_and_nothing_else(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=NOT_SOURCES)
    build = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
    subprocess.run(
        [sys.executable, "-c", build, "build_sdist", str(tmp_path)], cwd=copy, check=True, capture_output=True
    )
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        in_sdist = {name.partition("/")[2] for name in sdist.getnames()}
        sdist.extractall(tmp_path / "unpacked", filter="data")
    assert modules() | data_files() <= in_sdist
    assert {
        "dev.py",
        "requirements.lock",
        "setup.py",
        "tests/checkout.py",
        "docs/file-formats.md",
        ".ci/run",
    } <= in_sdist
    assert not [name for name in in_sdist if name.startswith((".venv", "demo-output", "runs", "dist"))]

    # From the sdist, so that what the sdist lacks is missed here and not by whoever builds from it.
    unpacked = next((tmp_path / "unpacked").iterdir())
    subprocess.run(
        [sys.executable, "-c", build, "build_wheel", str(tmp_path)], cwd=unpacked, check=True, capture_output=True
    )
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        in_wheel = {name for name in wheel.namelist() if ".dist-info/" not in name}
        scripts = next(wheel.read(name).decode() for name in wheel.namelist() if name.endswith("entry_points.txt"))
    assert in_wheel == {f"keylift/{name}" for name in modules() | data_files()}
    assert "keylift = keylift.__main__:main" in scripts


def test_the_extension_holds_the_rooms_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("bpy")
    built = dev().build_extension(tmp_path)
    assert built.name == f"keylift-{manifest()['version']}.zip"
    with zipfile.ZipFile(built) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        assert archive.testzip() is None
    assert modules() | data_files() | {"LICENSE"} <= names
    beside = {"LICENSE", "README.md", "CHANGELOG.md"}
    assert names <= modules() | data_files() | beside | {name for name in names if name.startswith("core/weights/")}
    assert built.stat().st_size < 60e6
