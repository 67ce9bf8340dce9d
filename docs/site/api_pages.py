"""The reference of the API: which modules a page is about stands in it, the rest is read from their sources.

Read, not imported: it takes a tenth of the time, and signatures look as they were written.
"""

from __future__ import annotations

import ast
import copy
import functools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from docstrings import rendered

ROOT = Path(__file__).resolve().parents[2]
# | [`core/footage.py`](../../core/footage.py) | what it is about |
MODULE = re.compile(r"^\| \[`((?:core|rig_mapping|training)/[\w/]+)\.py`\]\(\.\./\.\./[\w/]+\.py\).*$", re.MULTILINE)
TABLE = re.compile(r"(?ms)^\| module \|.*?\n(?!\|)")
ROOMS = ("core", "rig_mapping", "training")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def put_modules(text: str) -> str:
    """The page with what is public in each module of its table below it; other pages as they are."""
    # The table is for GitHub, where it leads to the sources; here the sections below say it all.
    return TABLE.sub("", text) + "".join(section(path) for path in MODULE.findall(text))


def section(path: str) -> str:
    """One module: a heading, its own words, and what is public in it."""
    module = path.removesuffix("/__init__").replace("/", ".")
    tree = parsed(ROOT / f"{path}.py")
    lines = [f".. py:module:: keylift.{module}", "", *words(tree)]
    for thing in tree.body:
        if isinstance(thing, ast.ClassDef) and is_told(thing):
            lines += described_class(thing)
        elif isinstance(thing, Function) and is_told(thing):
            lines += described("function", called(thing.name, thing), thing)
    full_names = full_names_in(module, tree)
    fenced = "\n".join(told_apart(line, full_names) if ".. py:" in line else line for line in lines)
    return f"\n\n## `{module}`\n\n```````{{eval-rst}}\n{fenced}\n```````\n"


@functools.cache
def parsed(file: Path) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(file.read_text(encoding="utf-8"))


@functools.cache
def names_of_several() -> frozenset[str]:
    """Classes that are not the only ones of their name."""
    files = [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]
    names = Counter(thing.name for file in files for thing in parsed(file).body if isinstance(thing, ast.ClassDef))
    return frozenset(name for name, count in names.items() if count > 1)


def told_apart(signature: str, full_names: dict[str, str]) -> str:
    """A signature that says of which module a class is, where its name alone does not."""
    for name, full_name in full_names.items():
        signature = re.sub(rf"(?<![\w.]){name}\b(?! *[:(])", f"~{full_name}", signature)
    return signature


def full_names_in(module: str, tree: ast.Module) -> dict[str, str]:
    """Classes that a module imports and that are not the only ones of their name, with their full names."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = ["keylift", *module.split(".")[: -node.level], *filter(None, [node.module])]
            found |= {a.name: ".".join([*above, a.name]) for a in node.names if a.name in names_of_several()}
    return found


@functools.cache
def source_of(module: str) -> tuple[str, dict[str, tuple[str, int, int]]] | None:
    """A module's text, and the lines of each class and function in it; None where there is no such module."""
    place = ROOT.joinpath(*module.split(".")[1:])
    file = next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
    if file is None:
        return None
    return file.read_text(encoding="utf-8"), dict(places(parsed(file).body))


def places(body: list[ast.stmt], inside: str = "") -> Iterator[tuple[str, tuple[str, int, int]]]:
    """The name of each class and function, with what it is, its first line and its last."""
    for thing in body:
        if isinstance(thing, ast.ClassDef | Function):
            first = min([thing.lineno, *(decorator.lineno for decorator in thing.decorator_list)])
            kind = "class" if isinstance(thing, ast.ClassDef) else "def"
            yield inside + thing.name, (kind, first, thing.end_lineno or first)
            yield from places(thing.body, f"{inside}{thing.name}.")


def is_told(thing: ast.ClassDef | Function) -> bool:
    """True for what is public and says what it does."""
    return not thing.name.startswith("_") and ast.get_docstring(thing) is not None


def words(thing: ast.Module | ast.ClassDef | Function) -> list[str]:
    """What a module, class or function says of itself."""
    return rendered((ast.get_docstring(thing) or "").splitlines())


def described(kind: str, signature: str, thing: ast.ClassDef | Function, *more: str) -> list[str]:
    """A directive of Sphinx's Python domain for one thing, with ``more`` lines in it."""
    inside = [*words(thing), *more]
    return [f".. py:{kind}:: {signature}", "", *("   " + line for line in inside), ""]


def described_class(thing: ast.ClassDef) -> list[str]:
    """A class with how it is made and its public methods."""
    bases = [ast.unparse(base) for base in thing.bases]
    members = [line for member in thing.body for line in described_member(member, "Enum" in "".join(bases))]
    if thing.name.endswith("Error") or bases == ["KeyliftError"]:
        kind_of = [f"A kind of :py:class:`{base}`." for base in bases if base != "Exception"]
        return described("exception", thing.name, thing, *kind_of, "", *members)
    return described("class", thing.name + made_of(thing), thing, *members)


def described_member(member: ast.stmt, of_enum: bool) -> list[str]:
    """A method, property, or one of an enumeration's values; nothing where there is nothing to tell."""
    if of_enum and isinstance(member, ast.Assign):
        return [f".. py:attribute:: {ast.unparse(member.targets[0])}", f"   :value: {ast.unparse(member.value)}", ""]
    if not isinstance(member, Function) or not is_told(member):
        return []
    decorators = {ast.unparse(decorator).rpartition(".")[2] for decorator in member.decorator_list}
    if decorators & {"property", "cached_property"}:
        lines = described("property", member.name, member)
        returned = [f"   :type: {ast.unparse(member.returns)}"] if member.returns else []
        return [lines[0], *returned, *lines[1:]]
    lines = described("method", called(member.name, member, bound="staticmethod" not in decorators), member)
    marks = [f"   :{mark}:" for mark in ("classmethod", "staticmethod") if mark in decorators]
    return [lines[0], *marks, *lines[1:]]


def called(name: str, function: Function, bound: bool = False) -> str:
    """How a function is called, as it was written; without ``self``, when it is bound."""
    arguments = function.args
    if bound:
        first = "posonlyargs" if arguments.posonlyargs else "args"
        arguments = copy.copy(arguments)
        setattr(arguments, first, getattr(arguments, first)[1:])
    returned = f" -> {ast.unparse(function.returns)}" if function.returns else ""
    return f"{name}({ast.unparse(arguments)}){returned}".replace("\\", "\\\\")


def made_of(thing: ast.ClassDef) -> str:
    """The arguments that a class is made with: those of ``__init__``, or its fields."""
    for member in thing.body:
        if isinstance(member, Function) and member.name == "__init__":
            return called("", member, bound=True).removesuffix(" -> None")
    fields = ", ".join(fields_of(thing))
    return f"({fields})" if fields else ""


def fields_of(thing: ast.ClassDef) -> Iterator[str]:
    """The fields of a dataclass or named tuple, as arguments."""
    for member in thing.body:
        if isinstance(member, ast.AnnAssign) and not ast.unparse(member.annotation).startswith("ClassVar"):
            default = "" if member.value is None else f" = {made_by(member.value)}"
            yield f"{ast.unparse(member.target)}: {ast.unparse(member.annotation)}{default}"


def made_by(value: ast.expr) -> str:
    """The default of a field; one that is made anew for each is shown as what makes it."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) in ("field", "dataclasses.field"):
        made = {keyword.arg: ast.unparse(keyword.value) for keyword in value.keywords}
        return made.get("default") or made.get("default_factory", "...").removeprefix("lambda: ")
    return ast.unparse(value)
