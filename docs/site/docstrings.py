"""Docstrings of this project as reStructuredText.

They are plain text: sentences, lines such as ``time_s: (F,) seconds`` one below the other, and indented examples. Each
becomes what it looks like, and nothing in them is taken for markup except ``names of code``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

# "xy_px:  (F, K, 2) pixels", "subset, downsample: ...", "*_subjects: ...".
ENTRY = re.compile(r"([*\w]+(?:, [*\w]+)*):\s+(\S.*)")
CODE = re.compile(r"(``[^`]+``|`[^`\s][^`]*`)")


def rendered(lines: list[str]) -> list[str]:
    """The lines of a docstring as lines of reStructuredText."""
    result: list[str] = []
    for block in blocks(lines):
        result += [*block, ""]
    return result


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Each paragraph, list of entries or example, as reStructuredText."""
    rest = [line.rstrip() for line in lines]
    while rest:
        if not rest[0]:
            rest.pop(0)
        elif rest[0].startswith(" "):
            yield ["::", "", *(("    " + line).rstrip() for line in taken(rest, indented_or_empty))]
        elif ENTRY.fullmatch(rest[0]):
            entry = [rest.pop(0), *taken(rest, indented)]
            yield definition(entry)
        else:
            # What may go wrong stands by itself, wherever it was written.
            yield [plain(line) for line in [rest.pop(0), *taken(rest, goes_on)]]


def taken(rest: list[str], wanted: object) -> list[str]:
    """Take lines off the front of ``rest`` for as long as they are wanted."""
    count = 0
    while count < len(rest) and wanted(rest[count]):  # type: ignore[operator]
        count += 1
    lines, rest[:] = rest[:count], rest[count:]
    return lines


def indented(line: str) -> bool:
    """True for a line that belongs to the entry above."""
    return line.startswith(" ")


def indented_or_empty(line: str) -> bool:
    """True for a line that belongs to an example."""
    return not line or line.startswith(" ")


def goes_on(line: str) -> bool:
    """True for a line that belongs to the same paragraph."""
    return bool(line) and not line.startswith((" ", "Raises ")) and not ENTRY.fullmatch(line)


def definition(entry: list[str]) -> list[str]:
    """One entry of a definition list: names, and what they are."""
    found = ENTRY.fullmatch(entry[0])
    assert found is not None
    names, text = found.groups()
    return [f"``{names}``", *("    " + plain(line.strip()) for line in [text, *entry[1:]])]


def plain(text: str) -> str:
    """A line in which only ``code`` is markup."""
    parts = CODE.split(text)
    for index, part in enumerate(parts):
        if index % 2:
            parts[index] = f"``{part.strip('`')}``"
            # Markup ends where a blank or a stop follows; anything else needs an empty escape between.
            if index + 1 < len(parts) and parts[index + 1][:1].isalnum():
                parts[index] += "\\ "
        else:
            parts[index] = re.sub(r"([\\*_`|<>])", r"\\\1", part)
    line = "".join(parts)
    # A dash or a number at the start would begin a list, which the lines after it would not go on with.
    return re.sub(r"^([-+•#]|\w+[.)])(?=\s)", r"\\\1", line)
