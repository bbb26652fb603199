"""The imports of `src/genprm` go one way. The table here is the one in docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "genprm"

LAYERS: dict[str, int] = {
    "errors": 0,
    "records": 0,
    "config": 0,
    "plugins": 0,
    "text": 1,
    "domains": 1,
    "identity": 1,
    "hub": 1,
    "aio": 2,
    "engines": 2,
    "sandbox": 2,
    "store": 2,
    "sources": 2,
    "generate": 3,
    "labels": 3,
    "synth": 4,
    "rewards": 4,
    "training": 4,
    "search": 5,
    "evals": 6,
    "runs": 7,
    "serve": 7,
    "rl": 7,
    "view": 7,
    "worlds": 8,
    "api": 9,
    "cli": 10,
}
TOP = {"__init__", "__main__", "_exports"}
"""Modules of the package itself: names and the command, from everything below."""
# Packages of one layer that may import each other, importer first.
SIBLINGS = {
    ("records", "errors"),
    ("config", "errors"),
    ("config", "records"),
    ("plugins", "errors"),
    ("domains", "text"),
    ("engines", "aio"),
    ("sandbox", "aio"),
    ("sources", "aio"),
    ("rl", "serve"),
    ("training", "rewards"),
    ("runs", "view"),
}


def package_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def modules() -> list[Path]:
    return [path for path in sorted(SOURCE.rglob("*.py")) if package_of(path) not in TOP]


def imported_packages(path: Path) -> set[tuple[str, int]]:
    """Packages of genprm that a module imports anywhere, inside functions too, with the line."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level == 1:
                continue
            assert node.level == 0, f"{path}:{node.lineno} leaves its folder by a relative import"
            names = [node.module or ""]
            if node.module == "genprm":
                names = [f"genprm.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {(name.split(".")[1], node.lineno) for name in names if name.startswith("genprm.")}
    return found


def test_every_package_has_a_layer() -> None:
    assert {package_of(path) for path in modules()} == LAYERS.keys()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_down(path: Path) -> None:
    package = package_of(path)
    wrong = []
    for target, line in imported_packages(path):
        if target in (package, "__version__"):
            continue
        allowed = LAYERS[target] < LAYERS[package] or (package, target) in SIBLINGS
        if not allowed:
            wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    assert not wrong, "; ".join(wrong)


def test_engines_and_sandbox_never_meet() -> None:
    for package, other in (("engines", "sandbox"), ("sandbox", "engines")):
        for path in modules():
            if package_of(path) == package:
                assert other not in {target for target, _ in imported_packages(path)}, path


def test_synthesis_stages_never_import_each_other() -> None:
    stages = {path.stem for path in (SOURCE / "synth").glob("*.py")} - {"__init__"}
    for path in (SOURCE / "synth").glob("*.py"):
        text = path.read_text()
        for other in stages - {path.stem}:
            if not other.startswith("_"):
                assert f"genprm.synth.{other}" not in text, f"{path.name} imports {other}"


def test_only_the_store_touches_run_directories() -> None:
    for path in modules():
        if package_of(path) != "store":
            assert '"stages"' not in path.read_text(), path
            assert 'stage.json"' not in path.read_text(), path


def test_the_table_is_the_documented_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for package, layer in LAYERS.items():
        rows = [
            line for line in text.splitlines() if line.startswith(f"| {layer} |") and f"`{package}`" in line
        ]
        assert rows, f"docs/architecture.md has no row of layer {layer} with `{package}`"
