"""The documentation becomes a site without a single warning and without a network, and GitHub shows the same pages."""

from __future__ import annotations

import ast
import re
import shutil
import sys
from collections import Counter
from html import unescape
from pathlib import Path
from types import ModuleType

import pytest

from checkout import ROOT, dev, room_modules

DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(DOCS.rglob("*.md"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "site"
    assert dev().build_site(folder) == 0, "Sphinx has said why, above"
    return folder


@pytest.fixture
def docstrings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(DOCS / "site"))
    import docstrings

    return docstrings


def test_every_page_is_there(site: Path) -> None:
    for page in DOCS.rglob("*.md"):
        html = (site / page.relative_to(DOCS)).with_suffix(".html")
        assert html.is_file() and "</article>" in html.read_text(encoding="utf-8"), html


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(
            r"<(?:script|img|iframe|source)[^>]+src=\"(?:https?:)?//[^\"]+|<link[^>]+href=\"(?:https?:)?//", text
        )
        assert not fetched, (page, fetched)
    for sheet in site.rglob("*.css"):
        assert not re.findall(r"url\(\s*['\"]?(?:https?:)?//|@import\s+url", sheet.read_text(encoding="utf-8")), sheet


def test_the_reference_says_shapes_errors_and_leads_to_the_source(site: Path) -> None:
    types = (site / "api" / "types.html").read_text(encoding="utf-8")
    assert 'id="keylift.core.tracks.KeypointTrack"' in types
    told = unescape(re.sub(r"<[^>]+>", "", types))
    assert "(F, K, 2) pixels of the upright picture, origin top-left, +y down, NaN = unseen" in told
    assert "A kind of KeyliftError." in told and "multiply(a: np.ndarray, b: np.ndarray) → np.ndarray" in told
    assert 'href="../_modules/keylift/core/tracks.html#KeypointTrack"' in types
    source = (site / "_modules" / "keylift" / "core" / "tracks.html").read_text(encoding="utf-8")
    assert 'id="KeypointTrack"' in source and "__post_init__" in source


def test_pages_of_the_root_are_on_the_site(site: Path) -> None:
    assert "Adding a detector" in (site / "contributing.html").read_text(encoding="utf-8")
    assert "Unreleased" in (site / "changes.html").read_text(encoding="utf-8")


def test_a_warning_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    docs = tmp_path / "docs"
    shutil.copytree(DOCS / "site", docs / "site", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(DOCS / "conf.py", docs)
    monkeypatch.setattr(dev(), "ROOT", tmp_path)
    (docs / "index.md").write_text("# Page\n\nSee [another](index.md#nowhere).\n", encoding="utf-8")
    assert dev().build_site(tmp_path / "site") != 0
    said = capfd.readouterr().err
    assert "nowhere" in said and said.count("WARNING") == 1


def public_modules() -> list[str]:
    """Modules of the three rooms with anything public that says what it does."""
    found = []
    for path in room_modules("core", "rig_mapping", "training"):
        for thing in ast.parse(path.read_text(encoding="utf-8")).body:
            named = isinstance(thing, ast.ClassDef | ast.FunctionDef) and not thing.name.startswith("_")
            if named and ast.get_docstring(thing):  # type: ignore[arg-type]
                found.append(path.relative_to(ROOT).as_posix())
                break
    return found


def test_every_public_module_is_on_one_page_of_the_reference() -> None:
    listed = Counter(
        name
        for page in (DOCS / "api").glob("*.md")
        for name in re.findall(
            r"^\| \[`([\w/]+\.py)`\]\(\.\./\.\./\1\)", page.read_text(encoding="utf-8"), re.MULTILINE
        )
    )
    assert sorted(listed) == sorted(public_modules()), "put the module into the table of a page in docs/api/"
    assert set(listed.values()) == {1}


def headings(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    plain = [
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    ]
    return set(plain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_work_where_the_page_lies(page: Path) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"\w+:", target):
            continue
        place, _, heading = target.partition("#")
        linked = (page.parent / place).resolve() if place else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not heading or heading in headings(linked), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What it does to *a* and ``b``.", ["What it does to \\*a\\* and ``b``.", ""]),
        (
            "xy_px:  (F, 2) pixels\n        of the picture\nfps:    rate",
            ["``xy_px``", "    (F, 2) pixels", "    of the picture", "", "``fps``", "    rate", ""],
        ),
        ("One.\n\n    python -c 'x'\n\nTwo.", ["One.", "", "::", "", "        python -c 'x'", "", "", "Two.", ""]),
        ("a: what\nRaises X when it fails.", ["``a``", "    what", "", "Raises X when it fails.", ""]),
        ("Said.\nRaises X.", ["Said.", "", "Raises X.", ""]),
        (
            "*_subjects: who\ntrain, valid: parts",
            ["``*_subjects``", "    who", "", "``train, valid``", "    parts", ""],
        ),
        ("``x``s of |a| <b>_", ["``x``\\ s of \\|a\\| \\<b\\>\\_", ""]),
        ("It is 5\n1. of many\n- a dash", ["It is 5", "\\1. of many", "\\- a dash", ""]),
    ],
)
def test_docstrings_stay_what_they_look_like(text: str, expected: list[str], docstrings: ModuleType) -> None:
    assert docstrings.rendered(text.splitlines()) == expected


def test_the_command_builds_the_site_and_opens_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script, opened, codes = dev(), [], [0, 0, 1]
    monkeypatch.setattr(script, "run_with_python_that_fits", lambda arguments: None)
    monkeypatch.setattr(script, "ensure_venv", lambda: Path(sys.executable))
    monkeypatch.setattr(script, "build_site", lambda site, python: codes.pop(0))
    monkeypatch.setattr(script.webbrowser, "open", opened.append)
    assert script.main(["docs"]) == 0 and not opened
    assert script.main(["docs", "--open"]) == 0 and opened[0].startswith("file:") and opened[0].endswith("index.html")
    assert script.main(["docs", "--open"]) == 1 and len(opened) == 1
    assert "FAILED: the documentation" in capfd.readouterr().out
