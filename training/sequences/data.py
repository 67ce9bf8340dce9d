"""The sequences that a configuration names, whatever kind of files they come from."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from ...core.errors import FileFormatError
from ...core.skeletons import SKELETONS
from . import synthetic_film
from .config import FilmedData, MocapData
from .filmed_sets import read_filmed
from .sequence import FilmedSequence, SequenceSet, Split


def read_split(data: FilmedData | MocapData, base_folder: Path, split: Split) -> SequenceSet:
    """One part of the data; empty when the configuration names nothing for it. Raises FileFormatError.

    ``train`` is what has labels and ``unlabelled`` the rest that is learnt from.
    """
    if isinstance(data, MocapData):
        return _filmed_mocap(data, base_folder, split)
    return read_filmed(data, base_folder, split)


@lru_cache(maxsize=4)
def _film(data: MocapData, base_folder: Path, files: str) -> tuple[list[FilmedSequence], str, tuple[str, ...]]:
    # Labelled and unlabelled parts are cut from one film.
    motion, seed = synthetic_film.read_mocap(data, base_folder, files)
    return synthetic_film.film(motion, data, seed), motion.sha256, motion.notes


def _filmed_mocap(data: MocapData, base_folder: Path, split: Split) -> SequenceSet:
    files = "train" if split == "unlabelled" else split
    # Whoever is labelled, the film is the same.
    sequences, sha256, notes = _film(replace(data, labelled_part=1.0, label_seed=0), base_folder, files)
    if files == "train":
        parts = synthetic_film.split_labelled(
            sequences, data.labelled_part, data.cameras, data.label_seed, data.labelled_by
        )
        if not parts[0]:
            raise FileFormatError(
                f"labelled_part in [data] is {data.labelled_part:g}, which is not a single frame of '{data.train}'. "
                "Make it larger."
            )
        sequences = parts[split == "unlabelled"]
    return SequenceSet(sequences, data.keypoint_layout, SKELETONS[data.skeleton], {getattr(data, files): sha256}, notes)


def look_through(data: MocapData, base_folder: Path) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read the motion of every part without filming it.

    returns: file -> hash, and what a person should know about how the files were read
    Raises FileFormatError.
    """
    sha256: dict[str, str] = {}
    notes: list[str] = []
    for files in ("train", "valid", "test"):
        motion, _ = synthetic_film.read_mocap(data, base_folder, files)
        sha256[getattr(data, files)] = motion.sha256
        notes += motion.notes
    return sha256, tuple(dict.fromkeys(notes))
