"""Names that weights may have: such as are a file's name on every system, and are told apart on every disk."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from ..errors import WeightsError

MAX_NAME = 100
# With its ending, a name must fit into the 255 bytes that file systems give it.
MAX_NAME_BYTES = 200
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"
}
_SEPARATORS = '<>:"/\\|?*'
# Controls, halves of characters, and what breaks lines. Joined emoji have none of these.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")


def alike(name: str) -> str:
    """The same text for names that some disk takes for the same: capitals, and accents written in two ways."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def why_no_name(name: str) -> str:
    """What is wrong with ``name`` as a file's name on some system; empty when nothing is."""
    if not name.strip():
        return "it is empty"
    if any(unicodedata.category(letter) in _UNPRINTABLE for letter in name):
        return "it has characters that can't be shown"
    if len(name) > MAX_NAME or len(name.encode()) > MAX_NAME_BYTES:
        return f"it is longer than {MAX_NAME} characters or {MAX_NAME_BYTES} bytes"
    if wrong := sorted(set(name) & set(_SEPARATORS)):
        return f"it has {' '.join(wrong)} in it"
    if name[0] in ".- " or name[-1] in ". ":
        return "it begins with a dot, a dash or a space, or ends with a dot or a space"
    if name.lower().endswith(".safetensors"):
        return "it ends like a file; leave .safetensors out"
    if name.split(".")[0].rstrip().lower() in _DEVICES:
        return "Windows keeps it for a device"
    return ""


def check_free(name: str, shipped: Iterable[str], taken: Iterable[str], *, replace: bool) -> None:
    """Raise WeightsError when new weights can't have the name.

    shipped: names that are never given anew
    taken:   names of the user's own weights
    replace: the same name may be taken already, but not one that only some disks tell apart
    """
    if why := why_no_name(name):
        raise WeightsError(f"{name!r} can't be the name of weights: {why}. Choose another name, such as 'studio'.")
    if alike(name) in map(alike, shipped):
        raise WeightsError(f"'{name}' is the name of weights that come with Keylift. Choose another name.")
    rivals = sorted(other for other in taken if alike(other) == alike(name))
    for other in rivals:
        if other != name:
            raise WeightsError(
                f"There are weights named '{other}' already, and on some disks '{name}' is the same file. Choose "
                f"another name, or write it as '{other}'."
            )
    if rivals and not replace:
        raise WeightsError(
            f"There are weights named '{name}' already. Choose another name, or remove them first with "
            f'`keylift weights remove "{name}"`.'
        )
