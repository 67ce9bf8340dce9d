"""One way to read FILE[:OBJECT], for the shell that checks it and for Blender that opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from keylift.rig_mapping.rig_address import RIG_ENDINGS, split_rig_address


@pytest.mark.parametrize(
    ("address", "file", "named"),
    [
        ("hero.blend", "hero.blend", None),
        ("hero.blend:Hero", "hero.blend", "Hero"),
        ("hero.blend:", "hero.blend", None),
        ("HERO.FBX:Hero:Left", "HERO.FBX", "Hero:Left"),
        ("C:\\rigs\\hero.blend:Hero", "C:\\rigs\\hero.blend", "Hero"),
        ("C:\\rigs\\hero.blend", "C:\\rigs\\hero.blend", None),
        # Blender's importers call an armature as the file was called.
        ("hero.blend:walk.bvh", "hero.blend", "walk.bvh"),
        ("hero.blend:walk.fbx:1", "hero.blend", "walk.fbx:1"),
        ("hero.fbx.blend:Hero", "hero.fbx.blend", "Hero"),
        ("rigs.fbx/hero.glb", "rigs.fbx/hero.glb", None),
    ],
)
def test_file_and_object(address: str, file: str, named: str | None) -> None:
    assert split_rig_address(address) == (Path(file), named)


@pytest.mark.parametrize("ending", RIG_ENDINGS)
def test_every_kind_of_rig_file_may_name_an_object(ending: str) -> None:
    assert split_rig_address(f"a{ending}:b") == (Path(f"a{ending}"), "b")


@pytest.mark.parametrize("address", ["rigify_metarig", "", "hero", "hero.txt", "hero.blends", ".blend", "a.txt:Hero"])
def test_what_is_no_rig_file(address: str) -> None:
    assert split_rig_address(address) is None
