"""Texts and tables that come from outside: read from ordinary files only, and no larger than they may be."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeGuard

# A key of a thousand parts takes TOML's reader a million steps.
_MOST_PARTS = 32
_PART = r"""(?:"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'|[\w-]++)"""
# A quote behind a backslash begins nothing; begun there, each would be followed to the end of the line.
_BEGINNING = r"(?<![\w\\-])"
_DEEP_KEY = re.compile(rf"{_BEGINNING}{_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_MOST_PARTS}}}")
# All keys and headers together: each part is a table of its own, of half a kilobyte.
_DOTTED_KEY = re.compile(rf"{_BEGINNING}{_PART}(?:[ \t]*+\.[ \t]*+{_PART})++[ \t]*+[]=]")
_HEADER = re.compile(r"^[ \t]*+\[", re.MULTILINE)
_MOST_PARTS_IN_ALL, _MOST_HEADERS = 100_000, 200_000
# A few letters are a list, which takes twenty times their room.
_MOST_LISTS = 1_000_000
# Python's reader of TOML takes microseconds for each.
_MOST_COMMAS = 2_000_000


def check_ordinary(path: str | os.PathLike[str]) -> None:
    """Raise OSError for what is no ordinary file: a pipe would be waited for, and a device never ends."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not an ordinary file")


def bytes_within(path: Path, most: int) -> bytes:
    """A file's content. Raises ValueError when it has more than ``most`` bytes, OSError when it can't be read."""
    check_ordinary(path)
    with open(path, "rb") as file:
        # Python makes room for as much as is asked for, and not for as much as there is.
        content = file.read(min(most, os.fstat(file.fileno()).st_size) + 1)
    if len(content) > most:
        raise ValueError(f"it is far too large; at most {most:,} bytes are read")
    return content


def text_within(path: Path, most: int, encoding: str = "utf-8") -> str:
    """A file's text, as ``bytes_within``. Raises ValueError also when it is of another encoding."""
    return bytes_within(path, most).decode(encoding)


def toml_table(text: str) -> dict[str, Any]:
    """The table in a TOML file's text. Raises ValueError for whatever is none, or is none that people write."""
    if _DEEP_KEY.search(text):
        raise ValueError(f"it has a key of more than {_MOST_PARTS} parts")
    check_not_crowded(text)
    if text.count(",") > _MOST_COMMAS:
        raise ValueError(f"it has lists of more than {_MOST_COMMAS:,} values")
    if sum(1 for _ in _HEADER.finditer(text)) > _MOST_HEADERS:
        raise ValueError(f"it has more than {_MOST_HEADERS:,} tables")
    if sum(key.group().count(".") for key in _DOTTED_KEY.finditer(text)) > _MOST_PARTS_IN_ALL:
        raise ValueError(f"its keys have more than {_MOST_PARTS_IN_ALL:,} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("it is nested far too deeply") from None


def check_not_crowded(text: str | bytes) -> None:
    """Raise ValueError for a text, TOML or JSON, of far more lists and tables than people or Keylift write."""
    if isinstance(text, bytes):
        lists = text.count(b"[") + text.count(b"{")
    else:
        lists = text.count("[") + text.count("{")
    if lists > _MOST_LISTS:
        raise ValueError(f"it has more than {_MOST_LISTS:,} lists and tables")


def json_value(text: str | bytes) -> Any:
    """The value in a JSON file's text. Raises ValueError for whatever is no such text."""
    check_not_crowded(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested far too deeply") from None


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value of a table is a number that can be computed with: neither true or false, nor nan, nor endless."""
    return type(value) in (int, float) and -sys.float_info.max <= value <= sys.float_info.max  # type: ignore[operator]
