"""A layer imports only from those below it, as the picture in CONTRIBUTING.md shows."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import cellfeat

PACKAGE = Path(cellfeat.__file__).parent
LEVELS = {
    "cli": 8,
    "view": 7,
    "workflows": 7,
    "reporting": 6,
    "evaluation": 5,
    "methods": 5,
    "autoencoder": 4,
    "detection": 3,
    "store": 3,
    "data": 2,
    "core": 1,
    "errors": 0,
}
# Modules at the root that only hand names on: public addresses of what lies in a package.
FACES = {"cellfeat", "cellfeat.__main__", "cellfeat.config", "cellfeat.import_aecfe"}


def module_name(path: Path) -> str:
    return ".".join(("cellfeat", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


@cache
def imports(module: str) -> tuple[str, ...]:
    """Every module of cellfeat that a module imports: at the top, within functions and for types alone."""
    return tuple(_imports(module))


def _imports(module: str) -> Iterator[str]:
    path = MODULES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "cellfeat")
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            if source.partition(".")[0] == "cellfeat":
                names = [f"{source}.{alias.name}" for alias in node.names]
                yield from (name if name in MODULES else source for name in names)


def room(module: str) -> str:
    return module.split(".")[1]


def arrows() -> Iterator[tuple[str, str]]:
    for module in MODULES:
        if module not in FACES:
            yield from ((module, found) for found in imports(module))


def test_every_room_has_a_level():
    assert {room(module) for module in MODULES if module not in FACES} <= set(LEVELS)


def test_imports_run_one_way():
    wrong = [
        f"{module} imports {found}"
        for module, found in arrows()
        if found not in ("cellfeat", module)
        and (found in FACES or (room(module) != room(found) and LEVELS[room(module)] <= LEVELS[room(found)]))
    ]
    assert wrong == []


def test_no_module_imports_itself_by_way_of_others():
    graph = {module: {found for found in imports(module) if found != module} for module in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a cycle: {' → '.join(error.args[1])}")
