"""The lifters at hand and what each says of itself, without the libraries that it would take to run one.

Knows nothing of Blender.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ..core.errors import KeyliftError

_ENDING = ".safetensors"


class KnownWeights(NamedTuple):
    """A lifter.

    shipped: whether it came with Keylift
    parent:  what it was adapted from; "" when it was not adapted
    better:  whether it proved better than that; None where nobody compared them
    reason:  the same in words, or why the file can't be used
    usable:  whether the file is a lifter at all
    """

    name: str
    path: Path
    shipped: bool
    parent: str = ""
    better: bool | None = None
    reason: str = ""
    usable: bool = True


_Stamp = tuple[Path, int, int]
# A header is read when its file is new or has changed; some are long.
_read: dict[_Stamp, KnownWeights] = {}


def known_weights(own_folder: Path) -> tuple[KnownWeights, ...]:
    """The shipped lifters, whose names are theirs alone, and the user's own; ``default`` first, then by name."""
    # Not with the extension, whose start it would delay: with the first look at the list.
    from ..core.weights import SHIPPED_FOLDER, SHIPPED_NAMES

    stamps = {stamp[0].stem: stamp for stamp in _stamps(own_folder)}
    stamps.update({stamp[0].stem: stamp for stamp in _stamps(SHIPPED_FOLDER) if stamp[0].stem in SHIPPED_NAMES})
    for stamp in [stamp for stamp in _read if stamp not in stamps.values()]:
        del _read[stamp]
    for name, stamp in stamps.items():
        if stamp not in _read:
            _read[stamp] = _looked_at(name, stamp[0])
    return tuple(_read[stamps[name]] for name in sorted(stamps, key=lambda name: (name != "default", name)))


def _stamps(folder: Path) -> Iterable[_Stamp]:
    try:
        for path in sorted(folder.glob(f"*{_ENDING}")):
            stat = path.stat()
            # What begins with a dot is half-written, or macOS's word about a file beside it.
            if not path.name.startswith("."):
                yield path, stat.st_mtime_ns, stat.st_size
    except OSError:
        return


def _looked_at(name: str, path: Path) -> KnownWeights:
    from ..core.weights import SHIPPED_FOLDER, read_header
    from ..core.weights.adaptation_record import adaptation_of

    shipped = path.parent == SHIPPED_FOLDER
    try:
        adaptation = adaptation_of(read_header(path))
    except KeyliftError as problem:
        return KnownWeights(name, path, shipped, reason=str(problem), usable=False)
    if adaptation is None:
        return KnownWeights(name, path, shipped)
    return KnownWeights(name, path, shipped, adaptation.base_name, adaptation.better, adaptation.reason)


def remove_weights(weights: KnownWeights) -> None:
    """Remove the file. Raises KeyliftError for shipped weights, and when it can't be removed."""
    if weights.shipped:
        raise KeyliftError(f"'{weights.name}' came with Keylift and stays.")
    try:
        weights.path.unlink(missing_ok=True)
    except OSError as problem:
        raise KeyliftError(
            f"'{weights.path}' can't be removed: {problem.strerror or problem}. Stop what uses it, and try again."
        ) from problem
