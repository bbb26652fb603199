"""A plan costs nothing, ends where it was asked to, and its expectations keep to their bounds."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, get_args

import pytest
import sums
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm.config import RunConfig, load_config
from genprm.config.models import Components
from genprm.engines import Engine, Request, ScriptedEngine, register_engine
from genprm.errors import ConfigError, DataError
from genprm.runs import STAGES, Assumptions, StagePlan, chain_until, plan_run, run_pipeline
from genprm.store import RunReader


def config(*overrides: str, problems: int = 10) -> RunConfig:
    base: dict[str, Any] = {
        "problems": {"source": "arithmetic", "limit": problems},
        "train": {"model": "org/model"},
        "roles": {"verifier": {"kind": "http"}},
    }
    return load_config(None, overrides, model=RunConfig, base=base)


@pytest.mark.parametrize("until", STAGES)
def test_a_plan_names_the_stages_that_the_run_has(until: str) -> None:
    names = [stage.name for stage in chain_until(config(), until).stages]
    plan = plan_run(config(), until, Assumptions())
    assert [stage.stage for stage in plan] == names + (["train"] if until == "train" else [])


@settings(max_examples=50, deadline=None)
@given(
    pass_rate=st.floats(0, 1),
    steps=st.floats(1, 30),
    problems=st.integers(1, 50),
    until=st.sampled_from(STAGES),
    estimator=st.sampled_from(["fixed", "dynamic", "sequential", "binary"]),
)
def test_expected_calls_stay_under_the_bound(
    pass_rate: float, steps: float, problems: int, until: str, estimator: str
) -> None:
    assume = Assumptions(pass_rate=pass_rate, steps=steps)
    for stage in plan_run(config(f"montecarlo.estimator={estimator}", problems=problems), until, assume):
        assert 0 <= stage.calls <= stage.calls_at_most, stage
        assert stage.tokens >= 0
        assert stage.items >= 0


def test_problems_are_counted_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(f'{{"problem": "p{i}", "answer": "{i}"}}\n' for i in range(7)))
    for limit, count in (("null", 7), ("3", 3)):
        plan = plan_run(
            config(f"problems.source={path}", f"problems.limit={limit}"), "solutions", Assumptions()
        )
        assert plan[0].items == count


def test_more_of_everything_costs_more() -> None:
    def cost(stage: str, *overrides: str, assume: Assumptions | None = None) -> int:
        plan = plan_run(config(*overrides), stage, assume or Assumptions())
        return next(one.tokens for one in plan if one.stage == stage)

    assert cost("solutions", assume=Assumptions(pass_rate=0.02)) > cost("solutions")
    assert cost("solutions", "solutions.max_tokens=10") < cost("solutions")
    assert cost("montecarlo", "montecarlo.k_start=100") > cost("montecarlo")
    assert cost("montecarlo", "montecarlo.k_medium=100") > cost("montecarlo")
    assert cost("montecarlo", "montecarlo.estimator=sequential") < 0.5 * cost("montecarlo")
    assert cost("montecarlo", "montecarlo.estimator=binary") < cost(
        "montecarlo", "montecarlo.estimator=sequential"
    )
    assert cost("montecarlo", "montecarlo.estimator=fixed") < cost("montecarlo")
    assert cost("rationales", "rationales.samples=3") == 3 * cost("rationales")
    assert cost("verifications", "verify.votes=4") == 4 * cost("verifications")
    assert cost("train", "train.epochs=2") > cost("train")
    assert cost("train", "train.max_tokens=1000") == 1000
    assert sum(stage.tokens for stage in plan_run(config(problems=20), "chats", Assumptions())) == sum(
        2 * stage.tokens for stage in plan_run(config(problems=10), "chats", Assumptions())
    )


def test_a_plan_names_the_engines(tmp_path: Path) -> None:
    plan = plan_run(
        config("roles.completer={kind: vllm, options: {model: m}}", "roles.teacher.kind=tutor"),
        "train",
        Assumptions(),
    )
    assert {stage.stage: stage.engine for stage in plan} == {
        "solutions": "http",
        "montecarlo": "vllm",
        "labels": "",
        "rationales": "tutor",
        "consensus": "",
        "chats": "",
        "train": "org/model",
    }


@pytest.mark.parametrize(
    ("overrides", "until", "says", "hint"),
    [
        (["roles.teacher.kind=tutr"], "chats", "unknown engine kind 'tutr'", "tutor"),
        (["roles.policy.options={modle: m}"], "chats", "no option 'modle'", "model"),
        (["roles.verifier=null"], "verifications", "needs a verifier", "roles.verifier"),
        (["train.model=''"], "train", "no model to train", "train.model"),
        (["train.model=./nowhere"], "train", "there is no folder", "hub id"),
        ([], "rationale", "no stage 'rationale'", "rationales"),
        (["problems.source=''"], "chats", "no problems are named", "problems.source"),
    ],
)
def test_what_cannot_run_is_said_before_anything_is_called(
    overrides: list[str], until: str, says: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plan_run(config(*overrides), until, Assumptions())
    assert says in caught.value.message
    assert hint in caught.value.hint


def test_problems_that_cannot_be_read_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        plan_run(config(f"problems.source={tmp_path / 'nowhere.jsonl'}"), "chats", Assumptions())


async def test_what_an_earlier_run_finished_costs_nothing(tmp_path: Path) -> None:
    sums.register()
    problems = sums.write_problems(tmp_path / "problems.jsonl", 6)

    def chosen(*overrides: str) -> RunConfig:
        return load_config(None, overrides, model=RunConfig, base=sums.config(problems))

    def left(settings: RunConfig) -> dict[str, tuple[float, int]]:
        plan = plan_run(settings, "chats", Assumptions(), tmp_path / "run")
        return {stage.stage: (round(stage.finished, 2), stage.calls) for stage in plan}

    fresh = left(chosen())
    assert {finished for finished, _ in fresh.values()} == {0.0}
    await run_pipeline(chosen(), tmp_path / "run", until="montecarlo")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    after = left(chosen())
    assert after["solutions"] == after["montecarlo"] == (1.0, 0)
    assert after["rationales"] == fresh["rationales"]
    changed = left(chosen("montecarlo.k_easy=8"))
    assert (changed["solutions"], changed["montecarlo"][0]) == ((1.0, 0), 0.0)
    next((tmp_path / "run" / "stages" / "montecarlo").glob("000001-*.json")).unlink()
    assert left(chosen())["montecarlo"] == (0.67, round(fresh["montecarlo"][1] / 3))
    more = sums.write_problems(tmp_path / "problems.jsonl", 8)
    assert left(load_config(None, model=RunConfig, base=sums.config(more)))["solutions"][0] == 0.75
    assert {path for path in before if not path.exists()} == {
        path for path in before if path.name.startswith("000001-") and path.suffix == ".json"
        and path.parent.name == "montecarlo"
    }  # fmt: skip


def rambling() -> Engine:
    """A teacher that writes code without end, judges only when made to, and never comes to an index."""

    def respond(request: Request) -> str:
        judging = request.prefix.endswith("\\boxed{")
        return "Yes}$\n</output>\n" if judging else "```python\nprint(1)\n```\n"

    return ScriptedEngine(respond, name="rambling")


def any_form() -> Engine:
    """A verifier that has one code round where it is asked for code, and always agrees."""

    def respond(request: Request) -> str:
        if request.prefix.endswith("\\boxed{"):
            return "Yes}$\n</output>\n"
        if "print(1)" in request.prefix:
            return "</verify>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>\n"
        return "print(1)\n```\n" if "<verify>" in request.prefix else "It is so.\n</analyze>\n"

    return ScriptedEngine(respond, name="any form")


def planned_and_made(config: RunConfig, folder: Path) -> dict[str, tuple[StagePlan, int]]:
    """By stage its plan, with the steps that solutions of the scripted policy have, and the calls that were made."""
    plan = plan_run(config, "verifications", Assumptions(steps=2))
    with contextlib.suppress(DataError):  # nothing is kept of what a rambling teacher says
        asyncio.run(run_pipeline(config, folder, until="verifications"))
    made = {one.stage: one for one in RunReader(folder).stages()}
    return {one.stage: (one, made[one.stage].usage.requests) for one in plan}


@pytest.mark.parametrize("start", ["k_hard", "k_medium", "k_easy"])
@pytest.mark.parametrize("teacher", ["sums-teacher", "rambling-teacher"])
def test_a_run_makes_the_calls_that_were_planned(teacher: str, start: str, tmp_path: Path) -> None:
    """The completer's Pass@1 is high, low and middling, for two problems of six each."""
    sums.register()
    register_engine("rambling-teacher", "test_runs_plan:rambling")
    chosen = [f"roles.teacher.kind={teacher}", f"montecarlo.{start}=30", "rationales.max_rounds=1"]
    base = sums.config(sums.write_problems(tmp_path / "problems.jsonl", 6))
    config = load_config(None, chosen, model=RunConfig, base=base)
    stages = planned_and_made(config, tmp_path / "run")
    for one, made in stages.values():
        assert made <= one.calls_at_most, one
    assert stages["montecarlo"][0].calls_at_most >= 6 * 30
    rationales, made = stages["rationales"]
    assert (made == rationales.calls) == (teacher == "sums-teacher")
    verifications, made = stages["verifications"]
    assert 2 * made == verifications.calls, (
        "solutions of this policy are two by two the same, and verified once"
    )


@pytest.mark.parametrize("components", get_args(Components))
def test_verifications_by_their_components_take_the_calls_that_were_planned(
    components: str, tmp_path: Path
) -> None:
    sums.register()
    register_engine("any-form", "test_runs_plan:any_form")
    base = sums.config(sums.write_problems(tmp_path / "problems.jsonl", 2))
    chosen = ["roles.verifier.kind=any-form", f"verify.components={components}"]
    config = load_config(None, chosen, model=RunConfig, base=base)
    planned, made = planned_and_made(config, tmp_path / "run")["verifications"]
    assert 2 * made == planned.calls
