"""How the pages of this folder become a site: ``python dev.py docs``. GitHub shows the same pages as they are.

Nothing is asked of a network, and nothing is fetched by whoever reads the site.
"""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS / "site"))

from api_pages import put_modules, source_of  # noqa: E402
from navigation import put_contents, put_links_out, put_outside_page  # noqa: E402

from keylift import __version__  # noqa: E402

project = "Keylift"
author = "Keylift contributors"
copyright = "2026 Keylift contributors, GPL-3.0-or-later"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.viewcode"]
root_doc = "index"
exclude_patterns = ["site"]

# The names that GitHub gives to headings, so that links to them work in both places.
myst_heading_anchors = 4
myst_links_external_new_tab = False

maximum_signature_line_length = 90
# Three dots and two dashes are what people type.
smartquotes = False
add_module_names = False
# Every page carries the contents of all; with each function in them, building takes twice as long.
toc_object_entries = False

# Sources are read, not imported.
viewcode_follow_imported_members = False

html_theme = "furo"
html_title = "Keylift"
html_static_path = ["site/static"]
html_css_files = ["keylift.css"]
html_copy_source = False
html_show_sourcelink = False
# Blue and orange are the person's left and right wherever Keylift draws somebody.
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#1c6ba8", "color-brand-content": "#1c6ba8"},
    "dark_css_variables": {"color-brand-primary": "#7cc0f2", "color-brand-content": "#7cc0f2"},
}


def put_what_github_shows_otherwise(app: object, page: str, source: list[str]) -> None:
    """Replace the marks in a page, which GitHub does not show, by what the site has there."""
    text = put_outside_page(source[0], DOCS)
    text = put_modules(put_links_out(text))
    source[0] = put_contents(text, page)


def find_source(app: object, module: str) -> tuple[str, dict[str, tuple[str, int, int]]] | None:
    """What a module's page of source shows, and where its classes and functions are in it."""
    return source_of(module)


def setup(app: object) -> None:
    """Sphinx calls this."""
    app.connect("source-read", put_what_github_shows_otherwise)  # type: ignore[attr-defined]
    app.connect("viewcode-find-source", find_source)  # type: ignore[attr-defined]
