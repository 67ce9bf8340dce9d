"""Blender's window for the tests of this folder, or a word on why there is none."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import ROOT, dev
from gui.blender_window import SIZE_PX, BlenderWindow, install_extension
from gui.blenders import Blender, chosen_blender
from gui.debian_blender import NoBlenderError
from gui.virtual_screen import screen_for

SUITE = os.environ.get("KEYLIFT_GUI_SUITE", "trixie")
EVERYTHING = os.environ.get("KEYLIFT_GUI") == "everything"
PICTURES = ROOT / "gui-output"
# A run of all tests waits less long for a Blender to be fetched than one of these alone, and does not install programs
# on somebody's machine that he never asked for.
_FETCH_S = 900 if EVERYTHING else 180
_INSTALL = EVERYTHING or bool(os.environ.get("CI"))
_WENT_WRONG = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    """What the tests here are marked with."""
    config.addinivalue_line("markers", "gui: opens Blender's window")


@pytest.fixture(scope="session")
def work() -> Iterator[Path]:
    """A folder for settings, footage and whatever the extension writes; KEYLIFT_GUI_KEEP leaves it there."""
    folder = Path(tempfile.mkdtemp(prefix="keylift-gui-"))
    yield folder
    if not os.environ.get("KEYLIFT_GUI_KEEP"):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def pictures() -> Path:
    """An empty folder for what was to be seen."""
    folder = PICTURES / (Path(os.environ["KEYLIFT_BLENDER"]).name if os.environ.get("KEYLIFT_BLENDER") else SUITE)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session")
def blender(work: Path, request: pytest.FixtureRequest) -> Blender:
    """A Blender that can open a window here; without one the tests are skipped, and say why."""
    try:
        return chosen_blender(SUITE, work, _FETCH_S, _INSTALL)
    except NoBlenderError as problem:
        pytest.skip(f"no Blender with a window: {problem}")


@pytest.fixture(scope="session")
def window(blender: Blender, work: Path, pictures: Path) -> Iterator[BlenderWindow]:
    """The window, with the extension installed from its zip."""
    try:
        screen = screen_for(*SIZE_PX)
    except NoBlenderError as problem:
        pytest.skip(f"no Blender with a window: {problem}")
    with screen:
        install_extension(blender, dev().build_extension(work / "dist"), work)
        opened = BlenderWindow(blender, screen, work, pictures)
        yield opened
        opened.close()
        pictures.mkdir(parents=True, exist_ok=True)
        (pictures / "blender.log").write_text(opened.log, encoding="utf-8")
        (pictures / "stalls.txt").write_text("\n".join(opened.longest_stalls), encoding="utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Let the fixture below know how a test went."""
    report = yield
    if report.when == "call":
        item.stash[_WENT_WRONG] = report.failed
    return report


@pytest.fixture
def one_after_the_other(request: pytest.FixtureRequest, window: BlenderWindow) -> Iterator[None]:
    """Each test goes on where the one before left the window. After one that failed, none can; it leaves a picture."""
    session = request.session.stash
    if session.get(_WENT_WRONG, False):
        pytest.skip("an earlier step in the window went wrong")
    printed = len(window.log)
    yield
    if request.node.stash.get(_WENT_WRONG, True):
        session[_WENT_WRONG] = True
        if window.alive:
            window.picture(f"failed-{request.node.name}")
    else:
        assert "Traceback" not in window.log[printed:]
