"""Bone names as people and programs write them: the side they say, and what is left without the spelling."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

_LEFT = frozenset({"l", "left", "lt", "lft"})
_RIGHT = frozenset({"r", "right", "rt", "rgt"})
_SIDE_BEFORE = re.compile(r"(left|right)(?=[a-z]{2})")
# LeftUpLeg, LHipJoint, IKHand, spine01: a word ends where the case or the kind of character says so.
_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[^\W\d_A-Z]+|[A-Z]+|\d+")
# What all bones of such rigs begin with and what says nothing: Mixamo, Biped, the .blend rigs of SMPL.
_FAMILY_PREFIX = re.compile(r"^(mixamorig\d*|bip\d+|[mf]_avg)(?=[^a-z]|[A-Z])[ ._\-]*", re.IGNORECASE)
_GLUED_PREFIX = re.compile(r"^mixamorig\d*(?=[a-z])", re.IGNORECASE)
# A beginning that this share of the bones have in common belongs to the rig and not to the bone.
_COMMON_SHARE = 0.6
_NAMESPACE = re.compile(r"^.*[:|]")


@lru_cache(maxsize=1 << 14)
def name_words(bone: str) -> tuple[str, ...]:
    """The words of a bone's name, lower case, without namespace and family prefix; numbers without leading zeros."""
    name = _NAMESPACE.sub("", bone) or bone
    for prefix in (_FAMILY_PREFIX, _GLUED_PREFIX):
        name = prefix.sub("", name) or name
    words = []
    for word in _WORD.findall(name):
        word = word.casefold()
        words.append(word.lstrip("0") or "0" if word.isdecimal() else word)
    if not any(word in _LEFT | _RIGHT for word in words):
        # "LEFTARM" and "rightfoot" have no seam.
        words = [part for word in words for part in _SIDE_BEFORE.sub(r"\1 ", word, count=1).split()]
    return tuple(words)


@lru_cache(maxsize=1 << 14)
def side_and_stem(bone: str) -> tuple[str, tuple[str, ...]]:
    """What the name says about the side (``l``, ``r`` or nothing), and the other words.

    ``upper_arm.L``, ``UpperArm_l``, ``LeftUpperArm`` and ``Bip01 L UpperArm`` say the same.
    """
    words = name_words(bone)
    for place, word in enumerate(words):
        side = "l" if word in _LEFT else "r" if word in _RIGHT else ""
        if side and len(words) > 1:
            return side, words[:place] + words[place + 1 :]
    return "", words


@lru_cache(maxsize=1 << 14)
def normalised_name(bone: str) -> str:
    """A bone's name without what exporters and tastes change: namespace, separators, case, where the side stands.

    The number after a separator counts without leading zeros, so ``spine.001`` and ``spine_1`` are the same.
    """
    side, words = side_and_stem(bone)
    stem = ""
    for word in words:
        stem += "." + word if stem and stem[-1].isdecimal() and word.isdecimal() else word
    return (f"{stem}.{side}" if side else stem) or bone.casefold()


@lru_cache(maxsize=1 << 14)
def spelled_through(bone: str) -> str:
    """The name as one lower-case word: what is left of ``lShldrBend`` when a program drops its capitals."""
    return "".join(name_words(bone)) or bone.casefold()


def without_common_prefix(bones: Iterable[str]) -> dict[str, str]:
    """Bone -> its name without the beginning that most of the bones share, as ``Hero_`` or ``CC_Base_``."""
    bones = list(bones)
    # Only whole words in front count, and a side is never a part of it.
    beginnings = [re.match(r"^(?:[A-Za-z0-9]+?[ ._\-:|]+)+", bone) for bone in bones]
    counted: dict[str, int] = {}
    for beginning in beginnings:
        parts = re.findall(r"[A-Za-z0-9]+[ ._\-:|]+", beginning[0]) if beginning else []
        so_far = ""
        for part in parts:
            if part.strip(" ._-:|").casefold() in _LEFT | _RIGHT:
                break
            so_far += part
            counted[so_far] = counted.get(so_far, 0) + 1
    common = [prefix for prefix, count in counted.items() if count >= _COMMON_SHARE * len(bones)]
    longest = max(common, key=len, default="")
    return {bone: bone[len(longest) :] if bone.startswith(longest) else bone for bone in bones}
