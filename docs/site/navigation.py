"""The site's table of contents, and the pages that lie outside of docs/.

Pages are written for GitHub first. What the site needs besides is told from what they show anyway.
"""

from __future__ import annotations

import re
from pathlib import Path

LINK = re.compile(r"^- \[[^\]]+\]\(([\w/-]+)\.md\)", re.MULTILINE)
# Pages whose lists of links are tables of contents too.
WITH_CONTENTS = ("index", "api")
# Pages of the checkout's root that the site has under a name of its own.
ON_THE_SITE = {
    "CHANGELOG.md": "changes.md",
    "CONTRIBUTING.md": "contributing.md",
    "README.md": "index.md",
    "SECURITY.md": "security.md",
}
LINK_OUT = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([\w./-]+\.md)\)")
OUTSIDE_PAGE = re.compile(r"<!-- the site shows (\S+) here -->.*", re.DOTALL)


def put_contents(text: str, page: str) -> str:
    """Each section's list of pages as a part of the table of contents as well."""
    if page not in WITH_CONTENTS:
        return text
    head, *sections = re.split(r"(?m)^(?=## )", text)
    return head + "".join(section + contents(section) for section in sections)


def contents(section: str) -> str:
    """A table of contents of the pages that a section lists, under the section's name."""
    pages = LINK.findall(section)
    if not pages:
        return ""
    caption = section.splitlines()[0].removeprefix("## ")
    return "\n".join(
        ["", "```{toctree}", ":hidden:", ":titlesonly:", f":caption: {caption}", "", *pages, "```", "", ""]
    )


def put_outside_page(text: str, docs: Path) -> str:
    """A page of the checkout's root in place of the link to it that GitHub shows."""
    found = OUTSIDE_PAGE.search(text)
    if not found:
        return text
    outside = (docs / found.group(1)).resolve()
    return text[: found.start()] + for_docs(outside.read_text(encoding="utf-8"))


def for_docs(text: str) -> str:
    """A page of the root as it reads from docs/: without its title, links one folder down."""
    body = re.sub(r"\A# .*\n", "", text)
    return re.sub(r"\]\((?!\w+:|#)([^)]+)\)", lambda link: f"]({one_folder_down(link.group(1))})", body)


def one_folder_down(target: str) -> str:
    """A relative path from docs/ for one from the root."""
    return target.removeprefix("docs/") if target.startswith("docs/") else f"../{target}"


def put_links_out(text: str) -> str:
    """Links to pages outside of docs/: to the site's own form of them, or to the file itself."""
    return LINK_OUT.sub(lambda link: link_out(*link.groups()), text)


def link_out(said: str, up: str, target: str) -> str:
    """One link out of docs/, ``up`` being one folder up or several."""
    if target in ON_THE_SITE:
        return f"[{said}]({up.removeprefix('../')}{ON_THE_SITE[target]})"
    return f"[{said}](path:{up}{target})"
