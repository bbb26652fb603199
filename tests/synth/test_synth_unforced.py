"""Policies that are not step-forced: paragraphs are steps, and continuations force no marker on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from genprm.config.models import MonteCarloConfig, SolutionsConfig
from genprm.domains.math import Grader, MathDomain
from genprm.engines import Request, ScriptedEngine
from genprm.records import Problem
from genprm.synth.montecarlo import estimate
from genprm.synth.solutions import generate_solutions
from genprm.text.prompts import PolicyProfile, load_profile

PROBLEM = Problem(id="p", text="What is 2 * (2 + 3)?", answer="10")
PARAGRAPHS = ("First the sum: 2 + 3 = 5.", "Twice that is 10.", "So the answer is \\boxed{10}.")


@pytest.fixture
def profile(tmp_path: Path) -> str:
    values = load_profile("policy").model_dump(mode="json") | {"name": "plain", "prefix": ""}
    path = tmp_path / "plain.yaml"
    path.write_text(yaml.safe_dump(values))
    return str(path)


class Policy:
    """Writes the paragraphs, every other time with a wrong end; remembers the texts that it continued."""

    def __init__(self) -> None:
        self.prefixes: set[str] = set()
        self.engine = ScriptedEngine(self._respond)

    def _respond(self, request: Request) -> str:
        self.prefixes.add(request.prefix)
        text = "\n\n".join(PARAGRAPHS)
        assert text.startswith(request.prefix), request.prefix
        rest = text[len(request.prefix) :]
        return rest if request.sample % 2 == 0 else rest.replace("\\boxed{10}", "\\boxed{11}")


async def test_unforced_solutions_are_split_on_blank_lines_and_continued_as_they_are(profile: str) -> None:
    policy = Policy()
    options = SolutionsConfig(per_class=1, batch=2, max_samples=4, profile=profile)
    scoring = MonteCarloConfig(k_start=4, k_hard=4, k_medium=4, k_easy=4)
    async with MathDomain(Grader(workers=1)) as domain:
        made = await generate_solutions([PROBLEM], policy.engine, domain, options, seed=0)
        assert policy.prefixes == {""}
        wrong = (*PARAGRAPHS[:2], PARAGRAPHS[2].replace("10", "11"))
        assert sorted(row.steps for row in made.rows) == sorted([PARAGRAPHS, wrong])
        scores = await estimate(
            [(PROBLEM, made.rows)],
            policy.engine,
            domain,
            scoring,
            seed=0,
            profile=load_profile(profile, PolicyProfile),
        )
    assert_continued(policy.prefixes, PARAGRAPHS)
    assert [(row.steps[0].correct, row.steps[0].total) for row in scores.rows] == [(2, 4), (2, 4)]


def assert_continued(prefixes: set[str], paragraphs: Sequence[str]) -> None:
    """Every continuation began behind some of the paragraphs, and nothing was put in front of the next."""
    ends = {"\n\n".join(paragraphs[:count]) for count in range(len(paragraphs))}
    assert {prefix.rstrip("\n") for prefix in prefixes} == ends
    assert not any("Step" in prefix for prefix in prefixes)
