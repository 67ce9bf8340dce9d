"""The commands that the pages of the documentation tell people to type, as they stand there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from checkout import ROOT

# A line of a fenced block is a command when it begins with one of these.
PROGRAMS = "keylift python python3 blender torchrun pip openjd dask deadline deadlinecommand mkdir".split()
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHELLS = ("", "bash", "sh", "console")
# What the shell does with a command is not the command's: comments, pipes, redirections, the way on.
BEYOND = re.compile(r"\s+(?:#\s|\|\||&&|\||>|2>).*")


@dataclass(frozen=True)
class Command:
    """A line that somebody may type.

    text: as it stands there, blanks as one
    page: where it was found first, a path from the root
    """

    text: str
    page: str

    def __str__(self) -> str:
        return self.text

    @cached_property
    def program(self) -> str:
        """The word that it begins with."""
        return self.text.split()[0]


def pages() -> list[str]:
    """The pages in the order in which somebody reads them: the front page, and what the site's index lists."""
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    listed = [f"docs/{name}.md" for name in re.findall(r"^- \[[^\]]+\]\(([\w-]+)\.md\)", index, re.MULTILINE)]
    others = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
    return list(dict.fromkeys(["README.md", *listed, "CONTRIBUTING.md", *others]))


def commands_in(text: str) -> list[str]:
    """Every command of the fenced blocks of a page, in order."""
    found = []
    for _, language, block in BLOCK.findall(text):
        if language in SHELLS:
            lines = re.sub(r"\\\n\s*", "", block).splitlines()
            lines = [BEYOND.sub("", line.strip().removeprefix("$ ")) for line in lines]
            found += [" ".join(line.split()) for line in lines if line.split()[:1] and line.split()[0] in PROGRAMS]
    return found


def all_commands() -> list[Command]:
    """Each command once, where it stands first."""
    first: dict[str, str] = {}
    for page in pages():
        for text in commands_in((ROOT / page).read_text(encoding="utf-8")):
            first.setdefault(text, page)
    return [Command(text, page) for text, page in first.items()]


def said_in_passing() -> list[tuple[str, str]]:
    """(page, text) of each ``keylift ...`` in the middle of a sentence or a table."""
    return [
        (page, text)
        for page in pages()
        for text in re.findall(r"`(keylift [^`\n]+)`", (ROOT / page).read_text(encoding="utf-8").replace("\\|", "|"))
    ]
