"""Nothing looks upstream: which room may import which, and what none may do."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from checkout import DOORS, ROOMS, ROOT, product_modules, room_modules

BLENDER = {"bpy", "bmesh", "mathutils", "addon_utils", "gpu", "blf", "bpy_extras", "bl_math"}
HEAVY = {"torch", "mediapipe", "cv2", "scipy", "av", "safetensors"}

# The rooms that each room may import, and the packages that it may not.
ALLOWED_ROOMS = {
    "core": {"core"},
    "rig_mapping": {"core", "rig_mapping"},
    "training": {"core", "training"},
    "addon": {"core", "rig_mapping", "addon", "shell"},
    "shell": set(ROOMS),
}
FORBIDDEN_PACKAGES = {
    "core": BLENDER,
    "rig_mapping": BLENDER | {"torch", "mediapipe", "cv2", "av"},
    "training": BLENDER,
    "addon": {"torch", "mediapipe", "cv2"},
    "shell": BLENDER,
}


def imports(module: Path) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    """Each import statement and what it imports; our own modules as a dotted path that begins with keylift."""
    package = module.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            if node.level == 0:
                yield node, node.module or ""
                continue
            base = package[: len(package) - node.level + 1]
            for alias in node.names:
                yield node, ".".join(["keylift", *base, *([node.module] if node.module else []), alias.name])


def where(module: Path, node: ast.stmt) -> str:
    return f"{module.relative_to(ROOT).as_posix()}:{node.lineno}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_lies_downstream(room: str) -> None:
    astray = []
    for module in room_modules(room):
        for node, name in imports(module):
            top, *rest = name.split(".")
            if top == "keylift" and rest[0] in ROOMS and rest[0] not in ALLOWED_ROOMS[room]:
                astray.append(f"{where(module, node)} imports the room {rest[0]}")
            if top in FORBIDDEN_PACKAGES[room]:
                astray.append(f"{where(module, node)} imports {top}")
    assert not astray


def test_only_the_headless_command_of_the_addon_reaches_the_shell() -> None:
    reaching = {
        module.relative_to(ROOT).as_posix()
        for module in room_modules("addon")
        for _, name in imports(module)
        if name.startswith("keylift.shell")
    }
    assert reaching == {"addon/headless.py"}


def test_imports_are_relative_and_never_name_the_package() -> None:
    # As a Blender extension the package is called bl_ext.<repository>.keylift.
    absolute = [
        where(module, node)
        for module in product_modules()
        for node, name in imports(module)
        if not (isinstance(node, ast.ImportFrom) and node.level) and name.split(".")[0] in {"keylift", *ROOMS}
    ]
    assert not absolute


def test_relative_imports_stay_inside_the_package() -> None:
    outside = [
        where(module, node)
        for module in product_modules()
        for node, _ in imports(module)
        if isinstance(node, ast.ImportFrom) and node.level > len(module.relative_to(ROOT).parts)
    ]
    assert not outside


def test_the_doors_import_nothing_heavy_at_module_level() -> None:
    for door in DOORS:
        for node in ast.parse((ROOT / door).read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not (isinstance(node, ast.ImportFrom) and node.level), f"{door}:{node.lineno}"
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                assert not {name.split(".")[0] for name in names} & (BLENDER | HEAVY | {"numpy"}), (
                    f"{door}:{node.lineno}"
                )


def called(node: ast.Call) -> str:
    """The dotted name that is called, as far as it is one."""
    return ast.unparse(node.func)


def test_no_module_unpickles_runs_a_shell_or_keys_one_by_one() -> None:
    found = []
    for module in product_modules():
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            name = called(node)
            given = {word.arg: ast.unparse(word.value) for word in node.keywords}
            # keyframe_insert is super-linear; the bulk writer takes its place, and the bench shows by how much.
            if name.endswith("keyframe_insert") and module != ROOT / "addon" / "retarget_bench.py":
                found.append(f"{where(module, node)} {name}")
            if given.get("allow_pickle", "False") != "False" or given.get("shell", "False") != "False":
                found.append(f"{where(module, node)} {name}")
            if name in {"torch.load", "load"} and given.get("weights_only") != "True" and "torch" in name:
                found.append(f"{where(module, node)} {name} without weights_only=True")
            if name.split(".")[0] in {"pickle", "marshal", "shelve", "dill", "joblib"} or name in {
                "eval",
                "exec",
                "os.system",
            }:
                found.append(f"{where(module, node)} {name}")
    assert not found


def test_no_module_prints_exits_or_changes_directory_outside_the_shell() -> None:
    found = []
    for module in room_modules("addon", "core", "rig_mapping", "training"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and called(node) in {"print", "sys.exit", "exit", "quit", "os.chdir"}:
                found.append(f"{where(module, node)} {called(node)}")
    assert not found
