"""The page about a batch: what it says, survives, and does in a browser; pictures and figures of takes."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from footage_samples import numbered_pictures, real_clip, remuxed, write_video
from keylift.core.camera import Camera
from keylift.core.detector_sites import detector_sites
from keylift.core.errors import FileFormatError, OutputError
from keylift.core.footage import open_footage
from keylift.core.preview import _LEFT, _RIGHT
from keylift.core.track_files import read_pose
from keylift.core.tracks import Change, KeypointTrack, PoseTrack
from keylift.shell.batching import takes_report, thumbnail
from keylift.shell.batching.take_quality import quality_of
from keylift.shell.batching.takes_report import SLIDE_MM_S, duration, write_takes_report
from keylift.shell.batching.thumbnail import SIZE_PX, _frame_around, _photograph, write_thumbnail
from walker import camera_from_world, filmed, walk

GOLDEN_POSE = Path(__file__).parents[1] / "golden" / "cam03.pose.npz"
HOSTILE = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">\"'&"
QUALITY = {"seen": 240, "bridged": 0, "doubtful": 0, "exchanged": 0, "slide_mm_s": 8.0}


# ---- A batch's folder -----------------------------------------------------------------------------------------------


def take(out: Path, name: str, **changes: Any) -> dict[str, Any]:
    """Write a take's manifest, and files as small as can be."""
    outputs = changes.pop("outputs", [f"{name}.bvh", f"{name}.blend"])
    manifest: dict[str, Any] = {
        "schema_version": 1,
        "take": name,
        "job": name,
        "clip": f"{name}.mp4",
        "person": 1,
        "person_name": "",
        "frames": 240,
        "fps": 24.0,
        "outputs": [{"file": file, "bytes": 1, "sha256": "0" * 64} for file in outputs],
        "seconds": {"detect": 3.0, "lift": 1.0, "retarget": 0.5},
        "warnings": [],
        "quality": QUALITY,
        "thumbnail": None,
    }
    manifest |= changes
    for file in outputs:
        if isinstance(file, str) and re.fullmatch(r"[\w.-]+", file):
            (out / file).touch()
    (out / f"{name}.take.json").write_text(json.dumps(manifest), encoding="utf-8")
    return manifest


def record(out: Path, name: str, status: str, **changes: Any) -> None:
    """Write a job's record."""
    folder = out / ".keylift" / "jobs"
    folder.mkdir(parents=True, exist_ok=True)
    values = {"schema_version": 1, "job": name, "clip": f"/shots/{name}.mp4", "status": status, "takes": []}
    (folder / f"{name}.json").write_text(json.dumps(values | {"failure": None, "attempts": 1} | changes))


def failure(message: str, stage: str = "detect", kind: str = "FootageError") -> dict[str, Any]:
    """What a record says about a job that failed."""
    return {"stage": stage, "message": message, "kind": kind, "exit_code": 1}


def page_of(out: Path) -> str:
    """The page's text."""
    return write_takes_report(out).read_text(encoding="utf-8")


class Page(HTMLParser):
    """What a browser would find in a page: elements with their attributes, and the text of each row."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[dict[str, Any]] = []
        self.table_ended = self.in_name = False
        self.title = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag == "tr" and "data-state" in dict(attrs):
            self.rows.append(dict(attrs) | {"name": "", "text": "", "links": [], "pictures": []})
        self.in_name = self.rows != [] and tag == "bdi" and not self.rows[-1]["name"]
        if self.rows and tag == "a":
            self.rows[-1]["links"].append(dict(attrs)["href"])
        if self.rows and tag == "img":
            self.rows[-1]["pictures"].append(dict(attrs))

    def handle_data(self, data: str) -> None:
        if not self.title and self.elements[-1:] == [("title", {})]:
            self.title = data
        if self.rows and not self.table_ended:
            self.rows[-1]["name"] += data if self.in_name else ""
            self.in_name = False
            self.rows[-1]["text"] = " ".join([*self.rows[-1]["text"].split(), *data.split()])

    def handle_endtag(self, tag: str) -> None:
        self.table_ended |= tag == "tbody"

    def row(self, name: str) -> dict[str, Any]:
        """The row whose text has ``name``."""
        return next(row for row in self.rows if name in row["text"])


def rows_of(out: Path) -> Page:
    """The page of a folder, taken apart."""
    return Page(page_of(out))


# ---- What the page says ---------------------------------------------------------------------------------------------


def test_a_take_is_told_in_words_with_links_to_its_files(tmp_path: Path) -> None:
    quality = {"seen": 200, "bridged": 6, "doubtful": 12, "exchanged": 3, "slide_mm_s": 41.7}
    take(tmp_path, "duet-anna", person_name="anna", quality=quality, warnings=["The toes have no bone."])
    row = rows_of(tmp_path).row("duet-anna")
    assert row["data-state"] == "look"
    for words in (
        "person lost for 14 %",
        "doubtful in 12 frames (5 %)",
        "bridged over 6 frames (2 %)",
        "sides exchanged back in 3 frames (1 %)",
        "standing feet slide by 42 mm/s",
        "The toes have no bone.",
        "240",
        "10 s at 24 fps",
        "4.5 s",
        "detect 3.0 s",
        "retarget 0.5 s",
    ):
        assert words in row["text"], words
    assert row["links"] == ["./duet-anna.bvh", "./duet-anna.blend"]


@pytest.mark.parametrize(
    "changes, state",
    [
        ({}, "done"),
        ({"doubtful": 23}, "done"),
        ({"doubtful": 24}, "look"),
        ({"seen": 229}, "done"),
        ({"seen": 228}, "look"),
        ({"seen": 216, "bridged": 24}, "look"),
        ({"exchanged": 24}, "look"),
        ({"slide_mm_s": SLIDE_MM_S}, "done"),
        ({"slide_mm_s": SLIDE_MM_S + 1}, "look"),
    ],
)
def test_only_a_take_with_much_of_something_is_worth_a_look(tmp_path: Path, changes: dict, state: str) -> None:
    take(tmp_path, "a", quality=QUALITY | changes)
    assert rows_of(tmp_path).row("a")["data-state"] == state


def test_failures_come_first_with_their_message_and_what_may_pass_is_marked(tmp_path: Path) -> None:
    take(tmp_path, "fine")
    take(tmp_path, "slides", quality=QUALITY | {"slide_mm_s": 99})
    record(tmp_path, "empty", "failed", failure=failure("Nobody was found. Choose other frames.", "detect"))
    record(tmp_path, "full", "retry", failure=failure("The disk is full.", "retarget", "TryAgainError"), attempts=3)
    record(tmp_path, "fine", "done", takes=["fine"], seconds=4.5)
    page = rows_of(tmp_path)
    assert [row["data-state"] for row in page.rows] == ["failed", "retry", "look", "done"]
    failed, retry = page.rows[:2]
    assert "Nobody was found. Choose other frames." in failed["text"] and "in detect" in failed["text"]
    assert "fails again as it is" in failed["text"]
    assert "may be retried" in retry["text"] and "tried 3 times" in retry["text"]
    assert "run the same command again" in retry["text"]


def test_a_job_without_takes_says_why_and_a_take_that_is_gone_is_missed(tmp_path: Path) -> None:
    record(tmp_path, "detected", "done")
    record(tmp_path, "lost", "done", takes=["lost-1"])
    take(tmp_path, "cut", outputs=["cut.bvh"])
    (tmp_path / "cut.bvh").unlink()
    take(tmp_path, "older")
    record(tmp_path, "older", "failed", failure=failure("It broke."))
    page = rows_of(tmp_path)
    assert "earlier stage" in page.row("detected")["text"]
    assert page.row("lost-1")["data-state"] == "unreadable" and "is gone" in page.row("lost-1")["text"]
    assert "cut.bvh is gone" in page.row("cut")["text"] and page.row("cut")["data-state"] == "look"
    of_earlier = [row for row in page.rows if "older" in row["text"]]
    assert [row["data-state"] for row in of_earlier] == ["failed", "look"]
    assert "of an earlier run" in of_earlier[1]["text"]


def test_the_summary_counts_a_clip_of_two_people_once(tmp_path: Path) -> None:
    for person in ("anna", "ben"):
        take(tmp_path, f"duet-{person}", job="duet", frames=24 * 1800)
    record(tmp_path, "bad", "failed", failure=failure("No."), seconds={"detect": 60})
    page = page_of(tmp_path)
    figures = dict(re.findall(r"<dt>([^<]+)</dt><dd>([^<]+)</dd>", page))
    # Detected once in 3 s, lifted and retargeted twice in 1.5 s, and a minute for what failed.
    assert figures == {
        "takes done": "2",
        "failed": "1",
        "may be retried": "0",
        "worth a look": "2",
        "of footage": "30 min 0 s",
        "of computing": "1 min 6 s",
    }
    assert 'aria-label="Computing time by stage: detect 95 %, lift 3 %, retarget 2 %"' in page


def test_durations_are_told_as_people_do() -> None:
    told = [duration(seconds) for seconds in (0, 0.44, 9.96, 59.4, 59.6, 200, 3599.7, 3600 * 5 + 7 * 60, 3600 * 4000)]
    assert told == [
        "0.0 s",
        "0.4 s",
        "10.0 s",
        "59 s",
        "1 min 0 s",
        "3 min 20 s",
        "1 h 0 min",
        "5 h 7 min",
        "4,000 h 0 min",
    ]


def test_an_empty_folder_has_a_page_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    assert "Nothing has been made here yet" in page_of(tmp_path)
    with pytest.raises(FileFormatError, match="no folder"):
        write_takes_report(tmp_path / "nowhere")


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take(tmp_path, "a")
    before = page_of(tmp_path)
    assert page_of(tmp_path) == before
    take(tmp_path, "b")

    def stops(*_: Any) -> Any:
        raise RuntimeError("in the middle of it")

    monkeypatch.setattr(takes_report, "_pictures", stops)
    with pytest.raises(RuntimeError):
        write_takes_report(tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == before
    monkeypatch.undo()
    (tmp_path / "report.html").unlink()
    (tmp_path / "report.html").mkdir()
    with pytest.raises(OutputError):
        write_takes_report(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".keylift-")]


# ---- What it survives -----------------------------------------------------------------------------------------------


def is_inert(page: str) -> None:
    """Fail where anything but our own script, styles and pictures is in a page."""
    elements = Page(page).elements
    assert [tag for tag, _ in elements].count("script") == 1
    for tag, attributes in elements:
        assert tag not in {"iframe", "object", "embed", "base", "link", "svg", "audio", "video"}
        assert not [name for name in attributes if name.startswith("on")], attributes
        address = attributes.get("src") or attributes.get("href") or ""
        assert not address or address.startswith(("data:image/png;base64,", "./")), address
        assert tag != "img" or address.startswith("data:image/png;base64,")


def test_hostile_words_stay_words(tmp_path: Path) -> None:
    take(
        tmp_path,
        "a",
        take=HOSTILE,
        job=HOSTILE,
        clip=f"/x/{HOSTILE}",
        person_name=HOSTILE,
        warnings=[HOSTILE, "x" * 10_000, {"a": 1}] * 30,
        outputs=[f"{HOSTILE}.bvh", "javascript:alert(1)", "//evil.example/a.bvh", "../../etc/passwd", "C:\\a.bvh", 7],
        thumbnail="../../../etc/passwd",
    )
    record(tmp_path, "b", "failed", failure=failure(HOSTILE, HOSTILE, HOSTILE), clip=HOSTILE)
    page = page_of(tmp_path)
    is_inert(page)
    assert html.escape("<script>document.title", quote=False) in page and len(page) < 60_000
    row = Page(page).row("worth a look")
    # None of these names a file that is there and that is inside.
    assert row["links"] == [] and row["text"].count("outside this folder") == 4


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_files_of_any_name_are_linked_as_they_are_called(tmp_path: Path) -> None:
    name = "<script>alert(1)<\\script> 50% #1 ünï 🕺"
    file = f"{name}.bvh"
    (tmp_path / file).touch()
    take(tmp_path, name, outputs=[file])
    raw = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / f"{raw}.bvh").touch()
    except OSError:
        pytest.skip("this file system wants UTF-8")
    take(tmp_path, raw, outputs=[f"{raw}.bvh"])
    page = page_of(tmp_path)
    is_inert(page)
    rows = Page(page).rows
    assert len(rows) == 2
    # A backslash in a manifest may be a path of Windows, so such a file is not linked.
    assert [row["links"] for row in rows if "alert" in row["text"]] == [[]]
    assert [row["links"] for row in rows if "alert" not in row["text"]] == [["./caf%E9.bvh"]]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe\x00",
        b'{"schema_version": "1"}',
        b'{"schema_version": true}',
        b"[" * 200_000,
        b'{"schema_version": ' + b"9" * 5000 + b"}",
        b" " * (5 << 20),
    ],
    ids=lambda content: f"{content[:24]!r}",
)
def test_a_damaged_file_is_a_row_that_says_so(tmp_path: Path, content: bytes) -> None:
    take(tmp_path, "fine")
    record(tmp_path, "fine", "done", takes=["fine"])
    (tmp_path / "torn.take.json").write_bytes(content)
    (tmp_path / ".keylift" / "jobs" / "ripped.json").write_bytes(content)
    page = rows_of(tmp_path)
    assert {row["data-state"] for row in page.rows} == {"unreadable", "done"} and len(page.rows) == 3
    for name in ("torn", "ripped"):
        assert re.search("is damaged|far too large|newer", page.row(name)["text"])
        assert "run the same command again" in page.row(name)["text"].lower()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.take.json")
    (tmp_path / "folder.take.json").mkdir()
    (tmp_path / "dangling.take.json").symlink_to(tmp_path / "nowhere")
    assert [row["data-state"] for row in rows_of(tmp_path).rows] == ["unreadable"] * 3


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = "take job clip person person_name frames fps outputs seconds warnings quality thumbnail".split()
INNER = "seen bridged doubtful exchanged slide_mm_s detect lift retarget file stage message kind".split()


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), JSON | st.dictionaries(st.sampled_from(INNER), JSON)),
    st.dictionaries(
        st.sampled_from(["clip", "status", "takes", "failure", "attempts", "seconds"]),
        JSON | st.sampled_from(["done", "failed", "retry", "busy"]) | st.dictionaries(st.sampled_from(INNER), JSON),
    ),
)
def test_whatever_the_values_there_is_a_page(tmp_path_factory: Any, manifest: dict, noted: dict) -> None:
    out = tmp_path_factory.mktemp("out")
    (out / ".keylift" / "jobs").mkdir(parents=True)
    # Numbers that are none go through as JavaScript writes them.
    (out / "a.take.json").write_text(json.dumps({"schema_version": 1, **manifest}))
    (out / ".keylift" / "jobs" / "b.json").write_text(json.dumps({"schema_version": 1, **noted}))
    page = page_of(out)
    is_inert(page)
    assert len(Page(page).rows) >= 2
    shutil.rmtree(out)


def test_pictures_come_from_this_folder_and_are_pictures(tmp_path: Path) -> None:
    out = tmp_path / "out"
    thumbs = out / ".keylift" / "thumbs"
    thumbs.mkdir(parents=True)
    _, encoded = cv2.imencode(".png", np.zeros((180, 320, 3), np.uint8))
    png = encoded.tobytes()
    (thumbs / "good.png").write_bytes(png)
    (thumbs / "text.png").write_bytes(b"secret words")
    (thumbs / "huge.png").write_bytes(png + b"\0" * 300_000)
    (tmp_path / "outside.png").write_bytes(png)
    for name in ("good", "text", "huge", "gone"):
        take(out, name, thumbnail=f".keylift/thumbs/{name}.png")
    take(out, "outside", thumbnail="../outside.png")
    if sys.platform != "win32":
        (thumbs / "link.png").symlink_to(tmp_path / "outside.png")
        take(out, "link", thumbnail=".keylift/thumbs/link.png")
    page = rows_of(out)
    assert [row["name"] for row in page.rows if row["pictures"]] == ["good"]
    assert "good" in page.row("good")["pictures"][0]["alt"]


# ---- Many takes -----------------------------------------------------------------------------------------------------


def thousand(out: Path, picture: bytes = b"") -> None:
    """A night's work: 1,000 takes, 5 failed jobs, 3 that may be retried."""
    if picture:
        (out / ".keylift" / "thumbs").mkdir(parents=True)
    for number in range(1000):
        name = f"shot_{number}"
        thumbnail = f".keylift/thumbs/{name}.png" if picture else None
        if thumbnail:
            (out / thumbnail).write_bytes(picture)
        quality = QUALITY | {"doubtful": number % 30, "slide_mm_s": 5 + number % 28}
        take(out, name, frames=240 + number, quality=quality, thumbnail=thumbnail, warnings=["A note."] * (number % 3))
        record(out, name, "done", takes=[name])
    for number in range(8):
        status = "failed" if number < 5 else "retry"
        record(out, f"bad_{number}", status, failure=failure("It is cut off. Copy it again."))


def test_a_thousand_takes_are_told_in_seconds(tmp_path: Path) -> None:
    thousand(tmp_path)
    began = time.process_time()
    page = write_takes_report(tmp_path)
    assert time.process_time() - began < 5
    assert page.stat().st_size < 3_000_000
    assert len(Page(page.read_text(encoding="utf-8")).rows) == 1008


def test_pictures_leave_the_page_small_enough(tmp_path: Path) -> None:
    # Of twice the usual size; those of the last takes don't fit.
    thousand(tmp_path, b"\x89PNG\r\n\x1a\n" + os.urandom(50_000))
    page = write_takes_report(tmp_path)
    assert page.stat().st_size < 40_000_000
    assert 400 < page.read_text(encoding="utf-8").count("<img ") < 1000


def test_rows_beyond_the_most_are_those_that_need_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(takes_report, "MOST_ROWS", 3)
    for number in range(5):
        take(tmp_path, f"take{number}")
    record(tmp_path, "zzz", "failed", failure=failure("No."))
    page = page_of(tmp_path)
    assert [row["data-state"] for row in Page(page).rows] == ["failed", "done", "done"]
    assert "3 rows more than a page can hold" in page


# ---- In a browser ---------------------------------------------------------------------------------------------------

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")


class Browser:
    """A headless Chromium with an empty profile."""

    def __init__(self, program: str, profile: Path) -> None:
        self.program, self.profile = program, profile

    def dom(self, page: Path, fragment: str = "") -> Page:
        """The page as it is after its script ran. Fails when anything was written to the console."""
        words = "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update"
        command = [self.program, *(f"--{word}" for word in words.split()), "--disable-sync", "--enable-logging=stderr"]
        command += [f"--user-data-dir={self.profile}", "--dump-dom", page.as_uri() + fragment]
        answer = subprocess.run(command, capture_output=True, timeout=120)
        said = answer.stderr.decode(errors="replace")
        assert "CONSOLE" not in said, said
        return Page(answer.stdout.decode(errors="replace"))


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    program = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if program is None:
        pytest.skip("a browser opens the page in this test, and there is none")
    profile = tmp_path / "profile"
    profile.mkdir()
    return Browser(program, profile)


@pytest.fixture
def night(tmp_path: Path) -> Path:
    """A page about takes of every state, with hostile words in it."""
    out = tmp_path / "a night's work"
    out.mkdir()
    take(out, "take10", frames=500, quality=QUALITY | {"seen": 500})
    take(out, "take9", frames=40, quality=QUALITY | {"seen": 40})
    take(out, "take1", frames=9000, quality=QUALITY | {"seen": 9000}, clip="duet.mp4", warnings=[HOSTILE])
    take(out, "slides", quality=QUALITY | {"slide_mm_s": 99})
    (out / "torn.take.json").write_text("{")
    record(out, "empty", "failed", failure=failure("Nobody was found." + HOSTILE))
    record(out, "full", "retry", failure=failure("The disk is full."))
    return write_takes_report(out)


def shown(page: Page) -> list[str]:
    """Names of the rows that are not hidden, in their order."""
    return [row["name"] for row in page.rows if "hidden" not in row]


def test_a_browser_filters_by_state_and_by_words(browser: Browser, night: Path) -> None:
    everything = ["empty", "full", "torn", "slides", "take1", "take9", "take10"]
    for fragment, names in {
        "#state=failed": ["empty"],
        "#state=done": ["slides", "take1", "take9", "take10"],
        "#state=nonsense": everything,
        "#find=FOUND+nobody": ["empty"],
        "#state=done&find=slide": ["slides"],
    }.items():
        page = browser.dom(night, fragment)
        assert shown(page) == names, fragment
        # Nothing that came from outside was run.
        assert page.title == "a night's work: 4 takes"


def test_a_browser_sorts_by_a_column(browser: Browser, night: Path) -> None:
    for fragment, names in {
        "#state=done&sort=-take": ["take10", "take9", "take1", "slides"],
        "#state=done&sort=frames": ["take9", "slides", "take10", "take1"],
        "#state=done&sort=clip": ["take1", "slides", "take9", "take10"],
    }.items():
        page = browser.dom(night, fragment)
        assert shown(page) == names, fragment
        way = [attributes["aria-sort"] for tag, attributes in page.elements if "aria-sort" in attributes]
        assert way == ["descending" if "=-" in fragment else "ascending"]


def test_without_scripts_it_is_a_plain_table(browser: Browser, night: Path) -> None:
    text = night.read_text(encoding="utf-8")
    night.write_text(re.sub("<script>.*</script>", "", text, flags=re.S), encoding="utf-8")
    page = browser.dom(night, "#state=failed")
    assert len(shown(page)) == 7
    tools = next(attributes for tag, attributes in page.elements if attributes.get("class") == "tools")
    assert "hidden" in tools
    assert not [tag for tag, _ in page.elements if tag == "button"]


def test_a_browser_opens_a_thousand_takes(browser: Browser, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    thousand(out)
    assert (
        shown(browser.dom(write_takes_report(out), "#state=failed&sort=-take")) == [f"bad_{n}" for n in range(5)][::-1]
    )


def test_headings_are_headings_and_colours_can_be_read(night: Path) -> None:
    text = night.read_text(encoding="utf-8")
    page = Page(text)
    scopes = [attributes.get("scope") for tag, attributes in page.elements if tag == "th"]
    assert scopes == ["col"] * 6 + ["row"] * 7
    assert dict(page.elements)["html"]["lang"] == "en"
    assert all(attributes.get("alt") for tag, attributes in page.elements if tag == "img")
    schemes = [
        dict(re.findall(r"--([a-z]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", text, re.S)
    ]
    assert len(schemes) == 2
    for colours in schemes:
        for ink in ("ink", "soft", "link", "done", "look", "retry", "failed", "unreadable"):
            for ground in ("card", "paper"):
                assert contrast(colours[ink], colours[ground]) > 4.5, (ink, ground)


def contrast(one: str, other: str) -> float:
    """Ratio of two colours' luminances, as WCAG 2 has it."""

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        light = np.array([int(digits[at : at + 2], 16) for at in (0, 2, 4)]) / 255
        light = np.where(light <= 0.04045, light / 12.92, ((light + 0.055) / 1.055) ** 2.4)
        return float(light @ [0.2126, 0.7152, 0.0722])

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


# ---- Figures of a take ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walked() -> tuple[PoseTrack, KeypointTrack]:
    """Two seconds of walking towards the camera."""
    return filmed(walk(60, heading_rad=0.0), Camera.guessed((640, 480)), camera_from_world())


def test_quality_counts_frames_of_each_kind(walked: tuple[PoseTrack, KeypointTrack]) -> None:
    pose, track = walked
    assert quality_of(pose, track) == {"seen": 60, "bridged": 0, "doubtful": 0, "exchanged": 0, "slide_mm_s": 0.0}
    xy_px, confidence, changes = track.xy_px.copy(), pose.confidence.copy(), track.changes.copy()
    filled = track.filled.copy()
    xy_px[50:], confidence[50:] = np.nan, 0.0
    filled[40:44] = True
    confidence[10:15] = 0.3
    changes[20:27, 5] = Change.LIMB_EXCHANGED
    changes[:, 6] = Change.DROP_OUT_BRIDGED
    lost = replace(
        track, xy_px=xy_px, confidence=np.where(np.isnan(xy_px[..., 0]), 0, 1.0), filled=filled, changes=changes
    )
    quality = quality_of(replace(pose, confidence=confidence), lost)
    assert {**quality, "slide_mm_s": 0} == {"seen": 46, "bridged": 4, "doubtful": 5, "exchanged": 7, "slide_mm_s": 0}


def test_quality_tells_how_fast_standing_feet_go_along_the_floor(walked: tuple[PoseTrack, KeypointTrack]) -> None:
    pose, track = walked
    from_world = np.linalg.inv(pose.world_from_camera[:3, :3])
    along, up = from_world @ np.array([0.05, 0.0, 0.0]), from_world @ np.array([0.0, 0.0, 0.5])
    drifting = replace(pose, positions_m=pose.positions_m + (along + up) * pose.time_s[:, None, None])
    assert quality_of(drifting, track)["slide_mm_s"] == pytest.approx(50, abs=0.2)
    assert "slide_mm_s" not in quality_of(replace(pose, contact=np.zeros_like(pose.contact)), track)


# ---- The picture of a take ------------------------------------------------------------------------------------------


def thumbnail_of(path: Path) -> np.ndarray:
    """(H, W, 3) RGB of a PNG."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture[..., ::-1]


def where_is(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """(N, 2) x and y of pixels that are nearly of a colour."""
    y, x = (np.abs(picture.astype(int) - colour).sum(axis=-1) < 90).nonzero()
    return np.stack([x, y], axis=-1)


def grey_film(path: Path, frames: int, **how: Any) -> Path:
    """Each picture is brighter than the one before."""
    return write_video(path, numbered_pictures(frames, 640, 480), **how)


def test_the_person_and_the_figure_are_upright_and_not_mirrored(
    walked: tuple[PoseTrack, KeypointTrack], tmp_path: Path
) -> None:
    pose, track = walked
    write_thumbnail(pose, track, open_footage(grey_film(tmp_path / "a.mp4", 60)), tmp_path / "a.png")
    picture = thumbnail_of(tmp_path / "a.png")
    assert picture.shape == (SIZE_PX[1], SIZE_PX[0], 3)
    photo, figure = picture[:, :135], picture[:, 135:]
    # Who comes towards the camera has the left side on the picture's right; seen from the side the left is nearer.
    assert where_is(photo, _LEFT)[:, 0].mean() > where_is(photo, _RIGHT)[:, 0].mean() + 5
    limbs = np.concatenate([where_is(figure, _LEFT), where_is(figure, _RIGHT)])
    assert limbs[:, 1].min() > 5 and limbs[:, 1].max() < SIZE_PX[1] - 3
    assert np.ptp(limbs[:, 1]) > 0.5 * SIZE_PX[1]


@pytest.mark.parametrize("how", ["plain", "late keys", "uneven clock", "begins late", "counted evenly", "no clock"])
def test_the_photograph_is_of_the_moment_of_the_skeleton(
    walked: tuple[PoseTrack, KeypointTrack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    pose, track = walked
    settings: dict[str, Any] = {
        "plain": {"fps": 30},
        "late keys": {"fps": 30, "options": {"g": "17", "bf": "3"}},
        "uneven clock": {"ticks": [int(n * 33 + 15 * (n % 3)) for n in range(60)], "ticks_per_s": 1000},
        "begins late": {
            "ticks": [n * 33 + 5000 for n in range(60)],
            "ticks_per_s": 1000,
            "options": {"g": "10", "bf": "0", "sc_threshold": "0"},
        },
        "counted evenly": {"fps": 30, "options": {"g": "17", "bf": "3"}},
        "no clock": {"fps": 30},
    }[how]
    if how == "begins late":
        # No more than a few frames are decoded after a key frame.
        monkeypatch.setattr(thumbnail, "_DECODED_PX", 12 * 640 * 480)
    path = grey_film(tmp_path / ("a.mkv" if how == "begins late" else "a.mp4"), 60, **settings)
    if how == "no clock":
        path = remuxed(path, tmp_path / "a.h264", container_format="h264")
    footage = open_footage(path, 120 if how == "counted evenly" else None)
    frames = list(footage.frames())
    time_s = np.array([frame.time_s for frame in frames])
    # Seen late in the clip only.
    here = (np.arange(60) >= 40)[:, None]
    pose = replace(pose, time_s=time_s, confidence=np.where(here, pose.confidence, 0.0))
    track = replace(
        track,
        time_s=time_s,
        xy_px=np.where(here[..., None], track.xy_px, np.nan),
        confidence=np.where(here, track.confidence, 0.0),
    )
    found = _photograph(footage, pose, track, 50)
    assert found is not None
    row, photo = found
    assert 40 <= row <= 51
    assert abs(float(np.median(photo)) - float(np.median(frames[row].rgb))) < 1.5


def test_a_person_far_away_is_brought_near_and_numbered_pictures_are_footage(
    walked: tuple[PoseTrack, KeypointTrack], tmp_path: Path
) -> None:
    pose, track = walked
    small = replace(track, xy_px=track.xy_px / 8 + [3000, 1200], size_px=(3840, 2160))
    (tmp_path / "shot").mkdir()
    for number in range(31):
        picture = np.zeros((2160, 3840, 3), np.uint8)
        picture[1150:1300, 2950:3150] = (40, 160, 40)
        picture[1150:1300, 3050:3150] = (160, 40, 160)
        cv2.imwrite(str(tmp_path / "shot" / f"{number:03}.png"), picture) if number in (0, 30) else (
            tmp_path / "shot" / f"{number:03}.png"
        ).write_bytes(b"never read")
    write_thumbnail(pose, small, open_footage(tmp_path / "shot"), tmp_path / "a.png")
    photo = thumbnail_of(tmp_path / "a.png")[:, :135]
    left, right = where_is(photo, (40, 160, 40)), where_is(photo, (160, 40, 160))
    assert len(left) + len(right) > 0.6 * photo.shape[0] * photo.shape[1]
    assert left[:, 0].mean() + 30 < right[:, 0].mean()


def test_without_footage_that_can_be_read_the_figure_has_the_picture(
    walked: tuple[PoseTrack, KeypointTrack], tmp_path: Path
) -> None:
    pose, track = walked
    film = grey_film(tmp_path / "a.mp4", 60)
    footage = open_footage(film)
    film.write_bytes(film.read_bytes()[:200])
    nobody = replace(track, xy_px=np.full_like(track.xy_px, np.nan), confidence=np.zeros_like(track.confidence))
    write_thumbnail(pose, track, None, tmp_path / "none.png")
    write_thumbnail(pose, track, footage, tmp_path / "broken.png")
    write_thumbnail(pose, nobody, footage, tmp_path / "nobody.png")
    alone = thumbnail_of(tmp_path / "none.png")
    assert len(where_is(alone, _LEFT)) > 200
    assert (alone == thumbnail_of(tmp_path / "broken.png")).all()
    assert (alone == thumbnail_of(tmp_path / "nobody.png")).all()
    write_thumbnail(replace(pose, confidence=0 * pose.confidence), track, None, tmp_path / "gone.png")
    write_thumbnail(pose, track.of(slice(5, 6)), None, tmp_path / "one.png")
    with pytest.raises(OutputError):
        (tmp_path / "folder.png").mkdir()
        write_thumbnail(pose, track, None, tmp_path / "folder.png")


@pytest.mark.alone
def test_a_real_clip_makes_a_small_picture_quickly(tmp_path: Path) -> None:
    pose = read_pose(GOLDEN_POSE)
    xy_px = pose.camera.project(detector_sites(pose.positions_m))
    track = KeypointTrack(
        xy_px, np.ones(xy_px.shape[:2]), pose.time_s, pose.frame_index, "lifter21", pose.camera.size_px,
        np.zeros(len(xy_px), bool),
    )  # fmt: skip
    footage = open_footage(real_clip("cam03.mp4"))
    taken_s = []
    for _ in range(3):
        began = time.process_time()
        write_thumbnail(pose, track, footage, tmp_path / "a.png")
        taken_s.append(time.process_time() - began)
    assert min(taken_s) < 0.3
    assert 5_000 < (tmp_path / "a.png").stat().st_size < 25_000


@given(
    st.tuples(st.integers(16, 4096), st.integers(16, 4096)),
    st.lists(st.tuples(st.floats(-0.3, 1.3), st.floats(-0.3, 1.3)), min_size=1, max_size=8),
)
def test_a_frame_around_somebody_lies_in_the_picture_and_has_a_shape_that_fits(
    size_px: tuple[int, int], shares: list[tuple[float, float]]
) -> None:
    xy_px = np.array(shares) * size_px
    left, top, right, bottom = _frame_around(xy_px, size_px)
    assert 0 <= left < right <= size_px[0] and 0 <= top < bottom <= size_px[1]
    wide, tall = right - left, bottom - top
    if min(size_px) > 200 and size_px[1] < 1.3 * size_px[0] and size_px[0] < size_px[1]:
        assert 0.7 < wide / tall < 1.1
