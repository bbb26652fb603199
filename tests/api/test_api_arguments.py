"""Wrong arguments of public calls: one `GenPRMError` that names the argument, before an engine is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import genprm
from genprm.api.models import engine_config
from genprm.errors import ConfigError, DataError


def no_reply(_: genprm.Request) -> str:
    raise AssertionError("the engine was asked")


ENGINE = genprm.ScriptedEngine(no_reply)
PROBLEM = genprm.Problem(id="a", text="What is 2 + 2?", answer="4")
SOLUTION = genprm.Solution(id="a/0", problem_id="a", steps=("It is 4.",), answer="4")
ITEM = genprm.VerifyItem(id="a", problem="What is 2 + 2?", steps=("It is 4.",))
HALF = "half \ud800"


@pytest.mark.parametrize("problem", [None, 5, b"bytes", "", " \n", HALF])
def test_a_problem_must_be_text(problem: Any) -> None:
    with pytest.raises(DataError, match="the problem"):
        genprm.verify(ENGINE, problem, ["a step"])


@pytest.mark.parametrize("steps", ["", " ", [], [""], ["a", " "], [1], b"bytes", ["a", HALF]])
def test_steps_must_be_text(steps: Any) -> None:
    with pytest.raises(DataError, match="step"):
        genprm.verify(ENGINE, "What is 2 + 2?", steps)


@pytest.mark.parametrize(
    ("call", "kind", "needle"),
    [
        (lambda: genprm.sample(ENGINE, PROBLEM, 0), ConfigError, "n must be at least 1"),
        (lambda: genprm.best_of_n(ENGINE, ENGINE, PROBLEM, -1), ConfigError, "n must be at least 1"),
        (lambda: genprm.sample(ENGINE, ""), DataError, "the problem is empty"),
        (lambda: genprm.sample(ENGINE, [PROBLEM, PROBLEM]), DataError, "the same id"),
        (lambda: genprm.best_of_n(ENGINE, ENGINE, [PROBLEM, PROBLEM]), DataError, "the same id"),
        (
            lambda: genprm.refine(ENGINE, None, [(PROBLEM, SOLUTION)], turns=0),
            ConfigError,
            "'turns' cannot be 0",
        ),
        (lambda: genprm.verify(ENGINE, "p", ["s"], votes=0), ConfigError, "'votes' cannot be 0"),
        (lambda: genprm.verify(ENGINE, "p", ["s"], votes=-1), ConfigError, "'votes' cannot be -1"),
        (lambda: genprm.verify_many(ENGINE, ["text"]), DataError, "an item cannot be 'text'"),
        (lambda: genprm.verify_many(ENGINE, [ITEM, ITEM]), DataError, "the same id"),
        (lambda: genprm.sample(ENGINE, [7]), DataError, "a problem cannot be 7"),
        (lambda: genprm.sample(ENGINE, 7), DataError, "these are no problems: 7"),
        (lambda: genprm.best_of_n(ENGINE, ENGINE, Path("x")), DataError, "these are no problems"),
        (lambda: genprm.verify(ENGINE, "p", 7), DataError, "these are no steps: 7"),
        (lambda: genprm.verify_many(ENGINE, "text"), DataError, "these are no items: 'text'"),
        (lambda: genprm.verify_many(ENGINE, ITEM), DataError, "these are no items: VerifyItem"),
        (lambda: list(genprm.verify_stream(ENGINE, None)), DataError, "these are no items: None"),
        (lambda: genprm.refine(ENGINE, None, "text"), DataError, "these are no pairs: 'text'"),
        (lambda: genprm.refine(ENGINE, None, [PROBLEM]), DataError, "pair 1 is no problem with a solution"),
        (
            lambda: genprm.refine(ENGINE, None, [(PROBLEM, SOLUTION), (PROBLEM, "text")]),
            DataError,
            "pair 2 is no problem with a solution",
        ),
        (
            lambda: genprm.refine(ENGINE, None, [("text", SOLUTION)]),
            DataError,
            "a problem cannot be 'text'",
        ),
        (
            lambda: genprm.refine(ENGINE, None, [(PROBLEM.model_copy(update={"id": "b"}), SOLUTION)]),
            DataError,
            "pair 1 has the problem 'b', but its solution 'a/0' is of the problem 'a'",
        ),
        (
            lambda: genprm.refine(ENGINE, None, [(PROBLEM, SOLUTION)], options={"turns": 1}),
            ConfigError,
            "the options of refinement cannot be",
        ),
        (
            lambda: genprm.refine(ENGINE, None, [(PROBLEM, SOLUTION)], concurrency=0),
            ConfigError,
            "concurrency must be at least 1, not 0",
        ),
        (
            lambda: genprm.sample(ENGINE, PROBLEM, concurrency=0),
            ConfigError,
            "concurrency must be at least 1, not 0",
        ),
        (lambda: genprm.sample(ENGINE, PROBLEM, "2"), ConfigError, "n must be at least 1, not '2'"),
        (lambda: genprm.sample(ENGINE, PROBLEM, 1.5), ConfigError, "n must be at least 1, not 1.5"),
        (lambda: genprm.label([], options={}), ConfigError, "the options of labelling cannot be"),
        (lambda: genprm.RewardClient(None), ConfigError, "'None' is not the URL of a server"),
        (lambda: genprm.RewardClient("http://h").verify("p", None), DataError, "a solution cannot be None"),
        (lambda: genprm.RewardClient("http://h").verify("p", [b"x"]), DataError, "a solution cannot be"),
        (lambda: genprm.Scorer(None), ConfigError, "a scorer cannot ask None"),
        (lambda: genprm.label("runs/x"), DataError, "no rows of SolutionScores: 'runs/x'"),
        (lambda: genprm.label([SOLUTION]), DataError, "row 1 is no SolutionScores"),
        (lambda: genprm.decontaminate("runs/x", {}), DataError, "no rows of Problem or LabelledSolution"),
        (lambda: list(genprm.decontaminate([SOLUTION], {})), DataError, "row 1 is no Problem"),
        (lambda: genprm.write_rows("runs/x", "x.jsonl"), DataError, "no rows of LabelledSolution"),
        (lambda: genprm.write_rows([SOLUTION], "x.jsonl"), DataError, "row 1 is no LabelledSolution"),
    ],
)
def test_counts_and_ids(
    call: Callable[[], Any],
    kind: type[Exception],
    needle: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=needle):
        call()
    assert not list(tmp_path.iterdir())


async def test_what_is_read_once_is_not_used_up_by_checks() -> None:
    engine = genprm.ScriptedEngine(lambda _: " It is \\boxed{4}.")
    options = genprm.RefineConfig(max_tokens=50)
    (trace,) = genprm.refine(
        engine, None, zip([PROBLEM], [SOLUTION], strict=True), turns=1, options=options
    )
    assert trace.solution_id == SOLUTION.id
    assert len(genprm.sample(engine, iter([PROBLEM]))) == 1
    async with genprm.MathDomain() as domain:
        assert await domain.vote_classes(iter(["4", "4.0"])) == ["4", "4"]  # type: ignore[arg-type]
        found = await domain.grade_many((answer, PROBLEM) for answer in ("4", None))  # type: ignore[arg-type]
        assert [one.equal for one in found] == [True, False]
    async with genprm.Grader() as grader:
        assert [one.equal for one in await grader.equal_many(iter([("4", "4")]))] == [True]


def test_an_evaluation_needs_data(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no data is named"):
        genprm.evaluate("processbench", {}, "builtin:verifier", tmp_path / "run")
    assert not (tmp_path / "run").exists()


LABELLED = genprm.LabelledSolution(id="a", problem="What is 2 + 2?", steps=("It is 4.",), labels=(True,))


@pytest.mark.parametrize(
    ("call", "kind", "needle", "hint"),
    [
        (
            lambda: genprm.verify(ENGINE, "p", ["s"], options={"votes": 2}),  # type: ignore[arg-type]
            ConfigError,
            "the options of a verification cannot be {'votes': 2}",
            "genprm.VerifyConfig",
        ),
        (
            lambda: genprm.verify_many(ENGINE, [ITEM], sandbox={"tier": "plain"}),  # type: ignore[arg-type]
            ConfigError,
            "the sandbox cannot be",
            "genprm.SandboxConfig",
        ),
        (
            lambda: genprm.sample(ENGINE, PROBLEM, options={"max_tokens": 9}),  # type: ignore[arg-type]
            ConfigError,
            "the options of sampling cannot be",
            "genprm.SolutionsConfig",
        ),
        (
            lambda: genprm.best_of_n(ENGINE, ENGINE, PROBLEM, verify=5),  # type: ignore[arg-type]
            ConfigError,
            "the options of a verification cannot be 5",
            "genprm.VerifyConfig",
        ),
        (
            lambda: genprm.train([], "model", {"epochs": 1}),  # type: ignore[arg-type]
            ConfigError,
            "the options of training cannot be",
            "genprm.TrainConfig",
        ),
        (
            lambda: genprm.train_prm([LABELLED], "model", {"epochs": 1}),  # type: ignore[arg-type]
            ConfigError,
            "the options of training cannot be",
            "genprm.PrmConfig",
        ),
        (
            lambda: genprm.train_grpo([LABELLED], "model", {"steps": 1}),  # type: ignore[arg-type]
            ConfigError,
            "the options of training cannot be",
            "genprm.GrpoConfig",
        ),
        (lambda: genprm.run(5, "run"), ConfigError, "a config cannot be 5", "YAML"),  # type: ignore[arg-type]
        (lambda: genprm.sample(ENGINE, 5), DataError, "these are no problems: 5", "load_problems"),  # type: ignore[arg-type]
        (lambda: genprm.verify_many(ENGINE, 5), DataError, "these are no items: 5", "VerifyItem"),  # type: ignore[arg-type]
        (lambda: genprm.verify(ENGINE, "p", 5), DataError, "these are no steps: 5", "list"),  # type: ignore[arg-type]
        (
            lambda: genprm.decontaminate("train.jsonl", {}),
            DataError,
            "these are no rows of Problem or LabelledSolution or TrainingSample: 'train.jsonl'",
            "load_labelled",
        ),
        (
            lambda: genprm.decontaminate([PROBLEM], ["gsm8k.jsonl"]),  # type: ignore[arg-type]
            DataError,
            "the evaluation sets cannot be",
            "Name each",
        ),
        (
            lambda: list(genprm.decontaminate(["text"], {})),  # type: ignore[type-var]
            DataError,
            "row 1 is no Problem",
            "load_labelled",
        ),
    ],
)
def test_what_is_of_another_kind_is_said_with_what_to_give(
    call: Callable[[], Any], kind: type[Exception], needle: str, hint: str
) -> None:
    with pytest.raises(kind) as caught:
        call()
    assert needle in caught.value.message and hint in caught.value.hint  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "needle"),
    [(5, "data cannot be 5"), ([5], "5 names no split")],
)
def test_the_data_of_an_evaluation_are_named_by_split(data: Any, needle: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=needle) as caught:
        genprm.evaluate("processbench", data, "builtin:verifier", tmp_path / "run")
    assert "gsm8k.json" in caught.value.hint


@pytest.mark.parametrize("several", [False, True])
def test_files_of_an_evaluation_need_no_names(several: bool, tmp_path: Path) -> None:
    data = str(tmp_path / "gsm8k.json")
    with pytest.raises(DataError, match=r"gsm8k\.json"):
        genprm.evaluate("processbench", [data] if several else data, "builtin:verifier", tmp_path / "run")


def test_an_engine_object_in_an_evaluation_is_told_what_to_give_instead(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the engine object <") as caught:
        genprm.evaluate("processbench", {"x": "x.json"}, ENGINE, tmp_path / "run")  # type: ignore[arg-type]
    assert "genprm.EngineConfig" in caught.value.hint and "an engine," not in caught.value.hint


@pytest.mark.parametrize(
    "model", [None, 7, 0.5, ["builtin:verifier"], b"builtin:verifier", genprm.HttpEngine]
)
def test_what_is_no_model_is_said(model: Any, tmp_path: Path) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: genprm.verify(model, "p", ["s"]),
        lambda: genprm.verify_many(model, [ITEM]),
        lambda: list(genprm.verify_stream(model, [ITEM])),
        lambda: genprm.sample(model, PROBLEM),
        lambda: genprm.best_of_n(model, ENGINE, PROBLEM),
        lambda: genprm.best_of_n(ENGINE, model, PROBLEM),
        lambda: genprm.refine(model, None, [(PROBLEM, SOLUTION)]),
        lambda: genprm.evaluate("processbench", {"x": "x.json"}, model, tmp_path / "run"),
    ]
    for call in calls:
        with pytest.raises(ConfigError, match="a model cannot be") as caught:
            call()
        assert "builtin:verifier" in caught.value.hint


@pytest.mark.parametrize("name", ["localhost:8000", "10.0.0.7:8000", "[::1]:8000", "gpu.example.org:80"])
def test_a_servers_address_needs_no_scheme(name: str) -> None:
    assert engine_config(name) == genprm.EngineConfig(kind="http", options={"base_urls": name})


def test_a_model_may_be_a_path(tmp_path: Path) -> None:
    for model in (tmp_path / "nowhere", str(tmp_path / "nowhere")):
        with pytest.raises(genprm.EngineError, match="there is no model directory at"):
            genprm.verify(model, "p", ["s"])


@pytest.mark.parametrize(
    "problem",
    [
        genprm.Problem(id="a", text="x").model_copy(update={"text": HALF}),
        genprm.Problem(id="a", text="x", answer=HALF),
    ],
)
def test_half_a_surrogate_pair_in_a_problem_is_named_before_anything_is_asked(problem: Any) -> None:
    for call in (genprm.sample, lambda engine, one: genprm.refine(engine, None, [(one, SOLUTION)])):
        with pytest.raises(DataError, match="half of a surrogate pair"):
            call(ENGINE, problem)
    broken = ITEM.model_copy(update={"steps": ("fine", HALF)})
    with pytest.raises(DataError, match="step 2 of item 'a' is not valid text"):
        genprm.verify_many(ENGINE, [broken])
    with pytest.raises(DataError, match="step 1 of the solution"):
        genprm.refine(ENGINE, None, [(PROBLEM, SOLUTION.model_copy(update={"steps": (HALF,)}))])


def test_votes_come_from_the_options_unless_they_are_given() -> None:
    engine = genprm.ScriptedEngine(lambda _: genprm.Scripted("Yes}$", yes_probs=(0.9,)))
    options = genprm.VerifyConfig(votes=8, components="direct", profile="compact")
    for votes, count in ((None, 8), (3, 3)):
        row = genprm.verify(engine, "p", ["s"], votes=votes, options=options)
        assert len(row.verdicts[0].votes) == count


def test_an_answer_with_half_a_surrogate_pair_ends_nothing() -> None:
    engine = genprm.ScriptedEngine(lambda _: f"Step 1: {HALF}\n\nStep 2: It is \\boxed{{4}}.")
    (solution,) = genprm.sample(engine, PROBLEM)
    assert solution.steps[0].endswith("half \ufffd")
    assert solution.correct is True
    assert genprm.Solution.model_validate_json(solution.model_dump_json()) == solution


def test_a_refinement_that_never_happened_is_an_error() -> None:
    def fail(_: genprm.Request) -> str:
        raise genprm.EngineTimeout("too slow")

    with pytest.raises(genprm.EngineUnavailable, match="nothing could be refined: EngineTimeout: too slow"):
        genprm.refine(genprm.ScriptedEngine(fail), None, [(PROBLEM, SOLUTION)], turns=1)
