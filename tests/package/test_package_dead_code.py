"""Nothing that nobody uses, and no module that nobody can read in one sitting."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "genprm"
LINES = 400

FOR_CALLERS = {
    # Used from outside the repository's own programs: the library's functions on figures of one's own.
    "pass_at_1",
    "pass_at_n",
    "share_ungraded",
    # What trainers find by its path, or are given.
    "GenPRM",
    "GenPRMAsyncORM",
    "GenPRMORM",
    "GenPRMOutcome",
    "GenPRMProcess",
    "GenPRMReward",
    "GenPRMRewardManager",
    "compute_score",
    "post_process",
    "step_generator",
    "use",
    # What tests of the built-in world take its problems apart with.
    "scene_of",
    "skeleton_of",
    # Named in tables as "module:name", or called by Python itself.
    "__dir__",
    "__getattr__",
    "AnnouncedMathDomain",
    "LastNumberMathDomain",
    "recording",
    "sums",
    "tutor",
    "verifier_checkpoint",
}


def test_no_function_class_or_import_is_unused() -> None:
    vulture = pytest.importorskip("vulture")
    finder = vulture.Vulture()
    finder.scavenge([str(SOURCE), str(ROOT / "recipes"), str(ROOT / "benchmarks")])
    unused = {
        item.name: f"{item.filename.relative_to(ROOT)}:{item.first_lineno}"
        for item in finder.get_unused_code(min_confidence=60)
        if item.typ in ("function", "class", "import", "unreachable_code")
    }
    assert {name: place for name, place in unused.items() if name not in FOR_CALLERS} == {}
    assert unused.keys() >= FOR_CALLERS, "an entry above that is used by now"


@pytest.mark.parametrize("folder", ["src", "tests", "recipes", "benchmarks"])
def test_modules_are_short(folder: str) -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in (ROOT / folder).rglob("*.py")
        if (count := len(path.read_text().splitlines())) > (LINES if folder != "tests" else 600)
    }
    assert long == {}
