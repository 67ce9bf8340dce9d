"""A warm start is a start like any other, only sooner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shell_runs import begun, keylift
from warm_starts import CAN_FORK, python

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="every start is a cold one here")

TELL = """
import json, os, sys
loaded = sorted(name for name in sys.modules if name.split(".")[0] in ("keylift", "bpy"))
facts = {"argv": sys.argv, "cwd": os.getcwd(), "said": os.environ.get("SAID"), "path": sys.path[0], "loaded": loaded}
print(json.dumps(facts | {"read": sys.stdin.read(), "threads": len(os.listdir("/proc/self/task")), "pid": os.getpid()}))
print("on the other stream", file=sys.stderr)
sys.exit(7)
"""


@pytest.fixture
def told(tmp_path: Path) -> list[dict]:
    """What a script finds when it is started warm and cold."""
    script = tmp_path / "scripts" / "tell.py"
    script.parent.mkdir()
    script.write_text(TELL, encoding="utf-8")
    found = []
    for cold in (False, True):
        process = python(script, "a b", "ü", cwd=tmp_path, env={"SAID": "yes"}, cold=cold)
        out, err = process.communicate(timeout=60)
        assert process.returncode == 7 and err == "on the other stream\n"
        assert json.loads(out).pop("pid") == process.pid
        found.append({name: fact for name, fact in json.loads(out).items() if name != "pid"})
    return found


def test_a_script_finds_the_same_warm_and_cold(told: list[dict], tmp_path: Path) -> None:
    warm, cold = told
    assert warm == cold
    assert warm["cwd"] == str(tmp_path) and warm["said"] == "yes" and warm["loaded"] == [] and warm["threads"] == 1


@pytest.mark.parametrize("arguments", [["--version"], ["lift", "nowhere.npz", "-o", "x.npz"], ["lift"]])
def test_keylift_says_the_same_warm_and_cold(arguments: list[str], tmp_path: Path) -> None:
    warm, cold = (keylift(*arguments, cwd=tmp_path, cold=cold) for cold in (False, True))
    assert warm == cold and not list(tmp_path.iterdir())


def test_a_bug_is_a_traceback_and_a_code(tmp_path: Path) -> None:
    (tmp_path / "bug.py").write_text("print('so far')\n1 / 0\n", encoding="utf-8")
    process = python("-m", "bug", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "so far\n") and "ZeroDivisionError" in err


def test_it_is_waited_for_killed_and_interrupted(tmp_path: Path) -> None:
    (tmp_path / "wait.py").write_text("import time\nprint('here', flush=True)\ntime.sleep(60)\n", encoding="utf-8")
    for number, code in ((signal.SIGKILL, -signal.SIGKILL), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 1)):
        process = python("-m", "wait", cwd=tmp_path, own_session=True)
        assert process.poll() is None and os.getsid(process.pid) == process.pid
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.send_signal(number)
        assert process.wait(30) == code and process.poll() == code
    assert "KeyboardInterrupt" in process.communicate()[1]


def test_the_one_that_waits_has_loaded_nothing_of_keylift_and_ends_with_the_tests() -> None:
    started = "import sys; sys.path.insert(0, sys.argv[1]); import shell_runs; from pathlib import Path; "
    started += "print(shell_runs.begun('--version', cwd=Path.cwd()).communicate()[0]); import os; print(os.getpid())"
    tests = str(Path(__file__).parent)
    done = subprocess.run([sys.executable, "-c", started, tests], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.startswith("keylift "), done.stderr
    left = subprocess.run(["pgrep", "-P", done.stdout.split()[-1]], capture_output=True, text=True)
    assert left.stdout == ""
    assert begun("--version", cwd=Path.cwd()).communicate()[0] == done.stdout.splitlines()[0] + "\n"
