"""Where in a scene the things are that Keylift makes to look at: one collection, so that they can be hidden at once."""

from __future__ import annotations

import bpy

COLLECTION_NAME = "Keylift"
_MARK = "keylift_collection"


def own_collection(scene: bpy.types.Scene) -> bpy.types.Collection:
    """The scene's collection for Keylift's figures and cameras; made when there is none yet."""
    for collection in scene.collection.children_recursive:
        if _MARK in collection and collection.library is None:
            return collection
    collection = bpy.data.collections.new(COLLECTION_NAME)
    # Known by its mark: the artist may rename it.
    collection[_MARK] = True
    scene.collection.children.link(collection)
    return collection


def remove_if_empty(scene: bpy.types.Scene) -> None:
    """Take the collection out of the file when nothing is left in it."""
    for collection in scene.collection.children_recursive:
        if _MARK in collection and not len(collection.objects) and not len(collection.children):
            bpy.data.collections.remove(collection)
            return
