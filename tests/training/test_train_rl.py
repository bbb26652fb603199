"""GRPO and DPO of a verifier: what they change, what they refuse, and that they resume."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_train_prompt_check import LAST_TURN_MARKED
from typer.testing import CliRunner

import genprm
from genprm.aio import derive_seed, run_sync
from genprm.api.rl import with_card
from genprm.cli.main import app
from genprm.config import DpoConfig, GrpoConfig, VerifyConfig
from genprm.engines import Request, ScriptedEngine
from genprm.errors import ConfigError, DataError, GenPRMError, MissingExtraError, TrainingError
from genprm.records import LabelledSolution, Usage, Verification, VerifyItem, VoteStatus
from genprm.rewards import Verifier, judge_all
from genprm.rewards.genprm.card import verify_values
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training.rl import dpo, grpo, preference_pairs
from genprm.training.rl.grpo import make_job, make_plan, warning_of
from genprm.view.model_card import model_card
from genprm.worlds.arithmetic.tiny import verifier_checkpoint

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

COMPACT = load_profile("compact", VerifierProfile)
SHORT = VerifyConfig(profile="compact", votes=4, max_tokens=60, components="cot")


def labelled(number: int, *labels: bool | None) -> LabelledSolution:
    steps = tuple(f"{number} + {place} = {number + place}" for place in range(len(labels)))
    return LabelledSolution(id=f"s{number}", problem="Add.", steps=steps, labels=labels)


def voting(*words: str | None) -> Callable[[Request], str]:
    """A model whose paths judge each step by these words, one per path; None stands for no verdict."""

    def respond(request: Request) -> str:
        word = words[request.sample]
        if not request.prefix.endswith("\\boxed{"):
            return f"path {request.sample}\n</analyze>\n"
        return "perhaps}" if word is None else f"{word}}}"

    return respond


def verified(rows: list[LabelledSolution], *words: str | None, **verify: Any) -> list[Verification]:
    options = VerifyConfig.model_validate({**SHORT.model_dump(), "votes": len(words), **verify})
    items = [VerifyItem(id=row.id, problem=row.problem, steps=row.steps) for row in rows]
    return run_sync(judge_all(Verifier(ScriptedEngine(voting(*words)), options=options), items))


# ---------------------------------------------------------------- pairs


def test_pairs_are_made_where_votes_disagree_on_a_right_path() -> None:
    rows = [labelled(1, True, True), labelled(2, False, True), labelled(3, None, True), labelled(4, None)]
    found = preference_pairs(
        verified(rows, "Yes", "No", "Yes", None), rows, COMPACT, DpoConfig(verify=SHORT)
    )
    by_id = {pair.id: pair for pair in found.rows}
    # Of solution 1, the path that said No to step 1 is no path to judge step 2 on; on step 2 of solution 3 it is.
    assert list(by_id) == ["s1:1", "s2:1", "s3:2"]
    assert "Yes" in by_id["s1:1"].chosen and "No" in by_id["s1:1"].rejected
    assert "No" in by_id["s2:1"].chosen and "Yes" in by_id["s2:1"].rejected
    assert [turn.role for turn in by_id["s3:2"].prompt] == ["system", "user", "assistant", "user"]
    assert "path 0" in by_id["s3:2"].prompt[2].content and "path 0" in by_id["s3:2"].chosen
    assert found.counts == {"paired": 3, "agreed": 1, "unlabelled": 2, "malformed": 5, "off_path": 1}
    two = DpoConfig(verify=SHORT, pairs_per_step=2)
    assert len(preference_pairs(verified(rows[:1], "Yes", "No", "Yes", "No"), rows, COMPACT, two).rows) == 2


def test_pairs_of_votes_that_shared_a_history_follow_the_leading_path() -> None:
    rows = [labelled(1, True, True), labelled(2, False, True), labelled(3, True, True, True)]
    votes = verified(rows[:2], "No", "Yes", "Yes", history="shared")
    assert {row.history for row in votes} == {"shared"}
    found = preference_pairs(votes, rows, COMPACT, DpoConfig(verify=SHORT))
    # Path 1 is the first that judged as the majority did, so path 0 judges step 2 after the turn of path 1.
    assert [pair.id for pair in found.rows] == ["s1:1", "s1:2", "s2:1"]
    after = found.rows[1].prompt
    assert (
        "path 1" in after[2].content
        and "path 1" in found.rows[1].chosen
        and "path 0" in found.rows[1].rejected
    )
    assert found.counts == {"paired": 3}
    # A majority against the label leads all paths off, also those that were right.
    wrong = verified(rows[:1], "No", "No", "Yes", history="shared")
    found = preference_pairs(wrong, rows, COMPACT, DpoConfig(verify=SHORT))
    assert [pair.id for pair in found.rows] == ["s1:1"]
    assert found.counts == {"paired": 1, "unknown": 1, "off_path": 3}
    # An earlier version did not write whether paths shared a history: what they wrote before a step is not known.
    old = [row.model_copy(update={"history": None}) for row in votes]
    found = preference_pairs(old, rows, COMPACT, DpoConfig(verify=SHORT))
    assert [pair.id for pair in found.rows] == ["s1:1", "s2:1"]
    assert found.counts == {"paired": 2, "unknown": 1, "unseen": 3}


def test_votes_behind_a_step_that_adaptive_voting_did_not_ask_about_are_unseen() -> None:
    def respond(request: Request) -> str:
        if not request.prefix.endswith("\\boxed{"):
            return f"path {request.sample}\n</analyze>\n"
        later = len(request.messages) > 2
        return "No}" if later and request.sample % 2 else "Yes}"

    row = labelled(1, True, True)
    options = VerifyConfig.model_validate({**SHORT.model_dump(), "votes": 8, "voting": "exact"})
    item = VerifyItem(id=row.id, problem=row.problem, steps=row.steps)
    (verification,) = run_sync(judge_all(Verifier(ScriptedEngine(respond), options=options), [item]))
    first, second = (len(verdict.votes) for verdict in verification.verdicts)
    assert first < second
    found = preference_pairs([verification], [row], COMPACT, DpoConfig(verify=SHORT))
    assert found.counts == {"agreed": 1, "paired": 1, "unseen": second - first}
    assert [pair.id for pair in found.rows] == ["s1:2"]


def test_a_verification_that_is_given_twice_gives_no_pair_again() -> None:
    rows = [labelled(1, True).model_copy(update={"source": "a rule"}), labelled(2, False)]
    votes, options = verified(rows, "Yes", "No"), DpoConfig(verify=SHORT)
    once = preference_pairs(votes, rows, COMPACT, options)
    slower = [row.model_copy(update={"usage": Usage(engine_seconds=9.0)}) for row in votes]
    again = preference_pairs([*votes, *slower], rows, COMPACT, options)
    assert again.rows == once.rows and again.counts == {**once.counts, "repeated": 2}
    assert again.sources == ("a rule",)
    other = verified(rows, "No", "Yes")
    assert len(preference_pairs([*votes, *other], rows, COMPACT, options).rows) == 4


def test_no_pair_has_the_remedy_of_what_kept_votes_out() -> None:
    for counts, remedy in (
        ({"agreed": 1, "malformed": 2}, "verify.voting=all"),
        ({"unseen": 9, "unknown": 2}, "verify.voting=all"),
        ({"off_path": 9, "unknown": 3}, "verify.history=independent"),
        ({"lost": 1}, "genprm doctor"),
        ({}, "several votes"),
    ):
        assert remedy in dpo._remedy(Counter(counts))


def test_ties_faults_and_strangers_give_no_pair() -> None:
    rows = [labelled(1, True)]
    options = DpoConfig(verify=SHORT)
    assert preference_pairs(verified(rows, "No", "No"), rows, COMPACT, options).counts["disagreed"] == 1
    assert preference_pairs(verified(rows, None, None), rows, COMPACT, options).counts["unknown"] == 1
    (row,) = verified(rows, "Yes", "No")
    lost = row.verdicts[0].votes[1].model_copy(update={"status": VoteStatus.SANDBOX_FAILED, "reward": None})
    verdict = row.verdicts[0].model_copy(update={"votes": (row.verdicts[0].votes[0], lost)})
    found = preference_pairs([row.model_copy(update={"verdicts": (verdict,)})], rows, COMPACT, options)
    assert (found.rows, found.counts["lost"], found.counts["agreed"]) == ((), 1, 1)
    assert preference_pairs([row], [labelled(2, True)], COMPACT, options).counts == {"unmatched": 1}
    with pytest.raises(DataError, match="other steps"):
        preference_pairs([row], [labelled(1, True, True)], COMPACT, options)
    with pytest.raises(DataError, match=r"set verify\.components=cot") as caught:
        preference_pairs([row], rows, COMPACT, DpoConfig())
    assert caught.value.hint.endswith("components=cot")


# ---------------------------------------------------------------- DPO

DPO: dict[str, Any] = {
    "verify": SHORT.model_dump(mode="json"),
    "learning_rate": 2e-3,
    "batch_size": 4,
    "micro_batch_size": 3,
    "epochs": 4,
}
ROWS = [labelled(number, number % 2 == 0) for number in range(8)]


def test_dpo_raises_the_margin_on_its_pairs_and_leaves_a_verifier(base: str, tmp_path: Path) -> None:
    right = [labelled(number, True) for number in range(8)]
    votes = verified(right, "Yes", "No")
    genprm.write_rows(right, tmp_path / "rows.jsonl")
    (tmp_path / "votes.jsonl").write_text("".join(row.model_dump_json() + "\n" for row in votes))
    (tmp_path / "dpo.yaml").write_text(json.dumps({**DPO, "model": base}))
    folder = tmp_path / "model"
    command = ["train-dpo", "rows.jsonl", "--votes", "votes.jsonl", "-c", "dpo.yaml"]
    paths = [str(tmp_path / part) if "." in part else part for part in command]
    result = CliRunner().invoke(app, [*paths, "-o", str(folder)])
    assert result.exception is None and "8 pairs (8 paired; 0 too long, 0 unfit)" in result.output

    report = genprm.train_dpo(votes, right, folder, model=base, **DPO)  # is done: the same job
    assert report.steps == 8 and report.pairs == 8 and report.resumed_from == 0
    assert report.margins[0] == pytest.approx(0, abs=1e-4)
    assert report.losses[0] == pytest.approx(0.6931, abs=1e-3)
    assert min(report.margins[4:]) > 0.05 and report.losses[-1] < report.losses[0]
    assert json.loads((folder / "genprm.json").read_text())["profile"]["name"] == "compact"
    assert "DPO, beta 0.1" in (folder / "README.md").read_text()
    (row,) = genprm.verify_many(folder, [VerifyItem(id="i", problem="Add.", steps=("1 + 1 = 2",))])
    assert len(row.verdicts) == 1
    with pytest.raises(TrainingError, match="another training job"):
        genprm.train_dpo(votes[:4], right, folder, model=base, **DPO)


KILLED = """
import sys, torch
torch.set_num_threads(1)
sys.path[:0] = [{tests!r}, {helpers!r}]
import genprm
from test_train_rl import DPO, ROWS, verified
genprm.train_dpo(verified(ROWS, "Yes", "No"), ROWS, {out!r}, model={base!r}, **DPO,
                 progress=lambda state: print(state.step, flush=True))
"""


@pytest.mark.slow
def test_dpo_that_is_killed_resumes_and_ends_with_the_same_model(base: str, tmp_path: Path) -> None:
    out, here = tmp_path / "killed", Path(__file__).parent
    script = KILLED.format(tests=str(here), helpers=str(here.parent), base=base, out=str(out))
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        next(line for line in process.stdout if line.strip() == "5")
        process.send_signal(signal.SIGKILL)
    votes = verified(ROWS, "Yes", "No")
    resumed = genprm.train_dpo(votes, ROWS, out, model=base, **DPO)
    whole = genprm.train_dpo(votes, ROWS, tmp_path / "whole", model=base, **DPO)
    assert 0 < resumed.resumed_from < resumed.steps and resumed.losses == whole.losses
    other = weights(tmp_path / "whole")
    assert all(torch.equal(tensor, other[name]) for name, tensor in weights(out).items()), "bit for bit"


def test_dpo_says_why_there_is_no_pair(base: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"no pair \(agreed 4, disagreed 4"):
        genprm.train_dpo(verified(ROWS, "Yes", "Yes"), ROWS, tmp_path / "model", model=base, **DPO)
    with pytest.raises(TrainingError, match="all 8 pairs are longer than 20 tokens"):
        few = {**DPO, "max_length": 20}
        genprm.train_dpo(verified(ROWS, "Yes", "No"), ROWS, tmp_path / "model", model=base, **few)
    assert not (tmp_path / "model").exists()


def test_a_turn_that_does_not_fit_costs_its_pair_and_no_more(base: str, tmp_path: Path) -> None:
    """The model's own text may hold what no training chat may, here its control token."""
    options = DpoConfig.model_validate({**DPO, "model": base, "epochs": 1})
    pairs = preference_pairs(verified(ROWS[:3], "Yes", "No"), ROWS, COMPACT, options)
    odd = dataclasses.replace(pairs.rows[0], chosen=pairs.rows[0].chosen.replace("path", "<end>"))
    some = dataclasses.replace(pairs, rows=(odd, *pairs.rows[1:]))
    report = dpo.train_dpo(some, options, tmp_path / "some", seed=0)
    assert (report.pairs, report.dropped_too_long, report.dropped_unfit) == (2, 0, 1)
    assert "| pairs | 2, 0 more were too long, 1 did not fit the prompts |" in model_card(tmp_path / "some")
    with pytest.raises(TrainingError, match=r"none of 1 pairs .*; 1 do not fit, the first because .*<end>"):
        dpo.train_dpo(dataclasses.replace(pairs, rows=(odd,)), options, tmp_path / "none", seed=0)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("rows", "words", "says", "hint"),
    [
        ([labelled(9, True)], ("Yes", "No"), "unmatched 2", "item_id is the id of its labels"),
        (ROWS[:2], ("Yes", "Yes"), "agreed 1, disagreed 1", "more votes"),
        (ROWS[:2], (None, None), "malformed 4", "verify.max_tokens"),
        ([labelled(0, None), labelled(1, None)], ("Yes", "No"), "unlabelled 2", "labels that are known"),
        ([labelled(0, True)], (), "there are none", "give verifications"),
    ],
)
def test_dpo_without_a_pair_names_what_helps(
    base: str, tmp_path: Path, rows: list[LabelledSolution], words: tuple[str], says: str, hint: str
) -> None:
    votes = verified(ROWS[:2] if rows[0].id == "s9" else rows, *words) if words else []
    with pytest.raises(TrainingError, match=f"no pair .*{says}") as caught:
        genprm.train_dpo(votes, rows, tmp_path / "model", model=base, **DPO)
    assert hint in caught.value.hint


def test_verifications_are_read_from_what_verify_prints(tmp_path: Path) -> None:
    rows = verified(ROWS[:2], "Yes", "No")
    file = tmp_path / "votes.jsonl"
    file.write_text("".join(row.model_dump_json() + "\n" for row in rows))
    assert genprm.load_verifications(file) == rows
    file.write_text('{"item_id": "a"}\n')
    with pytest.raises(DataError, match=r"votes\.jsonl:1: this is not a verification: problem"):
        genprm.load_verifications(file)


# ---------------------------------------------------------------- refusals


def attempts(model: str, folder: Path) -> list[Callable[[], object]]:
    """Both ways of training from a model."""
    votes = verified(ROWS[:2], "Yes", "No")
    once = {"verify": {**DPO["verify"]}, "steps": 1}
    return [
        lambda: genprm.train_grpo(ROWS[:2], folder, model=model, **once),
        lambda: genprm.train_dpo(votes, ROWS[:2], folder, model=model, **DPO),
    ]


@pytest.mark.parametrize("way", [0, 1], ids=["grpo", "dpo"])
def test_what_cannot_be_trained_is_refused_before_anything_is_written(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: int
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    def refused(
        kind: type[GenPRMError], message: str, model: str = base, folder: Path = tmp_path / "new"
    ) -> None:
        with pytest.raises(kind, match=message):
            attempts(model, folder)[way]()
        assert not (tmp_path / "new").exists()

    refused(TrainingError, "no model to train is set", "")
    refused(TrainingError, "cannot load the tokenizer of './nowhere'", "./nowhere")
    marked = tmp_path / "marked"
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = LAST_TURN_MARKED
    tokenizer.save_pretrained(marked)
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(marked)
    refused(TrainingError, "is not what a verifier will be asked with", str(marked))
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    refused(TrainingError, "is not empty", folder=taken)
    with monkeypatch.context() as patch:
        patch.setenv("WORLD_SIZE", "2")
        patch.setenv("LOCAL_RANK", "0")
        refused(TrainingError, "in one process")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "trl", None)
        refused(MissingExtraError, "trl")


def test_grpo_needs_labels_and_a_budget_that_fits(base: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="none of 1 solutions has a label"):
        genprm.train_grpo([labelled(1, None, None)], tmp_path / "model", model=base)
    with pytest.raises(ConfigError, match=r"verify\.max_tokens is 2048"):
        genprm.train_grpo(ROWS, tmp_path / "model", model=base, verify={"profile": "compact"})
    with pytest.raises(ConfigError, match="malformed <= wrong < right"):
        genprm.train_grpo(ROWS, tmp_path / "model", model=base, malformed=2)
    assert not (tmp_path / "model").exists()


def test_one_key_of_a_section_leaves_the_others_as_the_model_asks_for_them() -> None:
    model = "builtin:verifier"
    asked = VerifyConfig(**verify_values(str(verifier_checkpoint())))
    assert (asked.sampling.top_p, asked.sampling.top_k) != (1.0, 0)
    wanted = asked.sampling.model_copy(update={"temperature": 0.9})
    one_key: dict[str, Any] = {"model": model, "verify": {"sampling": {"temperature": 0.9}}}
    for section in (GrpoConfig, DpoConfig):
        for options, changes in ((None, one_key), (section.model_validate(one_key), {})):
            found = with_card(section, options, changes).verify
            assert (found.sampling, found.max_tokens) == (wanted, asked.max_tokens)
        below = section.model_validate({"model": model, "verify": {"max_tokens": 7}})
        found = with_card(section, below, {"verify": {"sampling": {"temperature": 0.9}}}).verify
        assert (found.sampling, found.max_tokens) == (wanted, 7)
        found = with_card(section, below, {"verify": VerifyConfig(max_tokens=9)}).verify
        assert found == asked.model_copy(update={"max_tokens": 9}), (
            "what it does not set is the model's own"
        )


def test_the_commands_name_what_is_missing(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    genprm.write_rows(ROWS, rows)
    result = CliRunner().invoke(app, ["train-dpo", str(rows), "-o", str(tmp_path / "m")])
    assert isinstance(result.exception, ConfigError) and "--votes" in result.exception.hint
    result = CliRunner().invoke(
        app, ["train-grpo", str(rows), "-o", str(tmp_path / "m"), "--set", "patsh=2"]
    )
    assert isinstance(result.exception, ConfigError) and "paths" in str(result.exception.hint)


@pytest.mark.parametrize(
    "change",
    [
        {"votes": 8},
        {"voting": "sequential", "error_bound": 0.2},
        {"history": "shared"},
        {"stop_at_first_error": True, "token_budget": 9},
        {"every_path_to_its_error": True},
        {"threshold": 0.7},
        {"sampling": {"temperature": 0.9, "top_p": 0.5, "top_k": 3}},
    ],
)
def test_what_no_rollout_reads_makes_no_other_job(base: str, change: dict[str, Any]) -> None:
    def keys(verify: dict[str, Any]) -> list[str]:
        asked = {"profile": "compact", "components": "cot", **verify}
        pairs = preference_pairs([], [], COMPACT, DpoConfig())
        return [
            grpo._job_key(ROWS, GrpoConfig.model_validate({"model": base, "verify": asked}), 0),
            dpo._job_key(pairs, DpoConfig.model_validate({"model": base, "verify": asked}), 0),
        ]

    assert keys(change) == keys({})
    assert keys({"max_tokens": 9})[0] != keys({})[0]
    assert all(one != other for one, other in zip(keys({"components": "code"}), keys({}), strict=True))


# ---------------------------------------------------------------- GRPO

GRPO: dict[str, Any] = {
    "model": "builtin:verifier",
    "steps": 2,
    "solutions": 3,
    "beta": 0.01,
    "paths": 4,
    "micro_batch_size": 4,
    "learning_rate": 2e-4,
}


def arithmetic(count: int) -> list[LabelledSolution]:
    """Solutions of the arithmetic world with true labels: their first two steps."""
    import random

    from genprm.worlds.arithmetic import generate_problems, judge_solution
    from genprm.worlds.arithmetic.grammar import parse_problem
    from genprm.worlds.arithmetic.writer import POLICY_HABITS, write_solution

    rows, rng = [], random.Random(1)
    for problem in generate_problems("train", count, seed=7):
        steps = tuple(write_solution(parse_problem(problem.text), rng, POLICY_HABITS))[:2]
        labels = tuple(truth.correct for truth in judge_solution(problem, steps))
        rows.append(LabelledSolution(id=problem.id, problem=problem.text, steps=steps, labels=labels))
    return rows


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


@given(st.integers(1, 30), st.integers(1, 10), st.integers(1, 12))
def test_the_plan_takes_every_solution_equally_often(count: int, each: int, steps: int) -> None:
    plan = make_plan(count, GrpoConfig(solutions=each, steps=steps), seed=1)
    assert len(plan) == steps and {len(step) for step in plan} == {min(each, count)}
    assert all(len(set(step)) == len(step) for step in plan)
    per_pass = count // min(each, count)
    for start in range(0, steps, per_pass):
        drawn = [number for step in plan[start : start + per_pass] for number in step]
        assert len(set(drawn)) == len(drawn)


def test_grpo_that_learns_nothing_says_so(base: str, tmp_path: Path) -> None:
    """A random model gives no verdict, so that all of its paths are rewarded alike."""
    genprm.write_rows(ROWS[:2], tmp_path / "rows.jsonl")
    asked = {**DPO["verify"], "max_tokens": 4}
    options = {"steps": 2, "solutions": 1, "paths": 2, "model": base, "verify": asked}
    (tmp_path / "grpo.yaml").write_text(json.dumps(options))
    arguments = ["train-grpo", str(tmp_path / "rows.jsonl"), "-c", str(tmp_path / "grpo.yaml")]
    done = CliRunner().invoke(app, [*arguments, "-o", str(tmp_path / "model")])
    assert done.exception is None, done.output
    assert (
        "warning: rewards taught nothing in 2 of 2 steps: all paths of a group were rewarded" in done.output
    )
    report = genprm.train_grpo(ROWS[:2], tmp_path / "model", **options)
    assert report.contrasts == (0, 0) and report.warning is not None and report.rewards == (-1, -1)
    assert report.warning in (tmp_path / "model" / "README.md").read_text()


@pytest.mark.parametrize(
    ("rewards", "contrasts", "says"),
    [
        ((0.5, 0.5), (1, 2), None),
        ((0.5, 0.5, 1.0), (1, 2, 0), None),
        ((0.5, 1.0), (1, 0), "in 1 of 2 steps: all paths of a group were rewarded alike"),
        ((None,), (0,), "in 1 of 1 step: no turn had a reward"),
    ],
)
def test_steps_that_teach_nothing_are_counted(
    rewards: tuple[float | None, ...], contrasts: tuple[int, ...], says: str | None
) -> None:
    found = warning_of(rewards, contrasts)
    assert found is None if says is None else says in str(found)


@pytest.mark.slow
def test_grpo_reinforces_what_was_right_and_resumes(tmp_path: Path) -> None:
    rows = arithmetic(6)
    folder = tmp_path / "model"
    report = genprm.train_grpo(rows, folder, seed=3, **GRPO)
    assert report.steps == 2 and report.solutions == 6 and report.dropped_unlabelled == 0
    assert all(step["lost"] == 0 and step["right"] + step["wrong"] > 12 for step in report.outcomes)
    assert all(reward is not None and -1 <= reward <= 1 for reward in report.rewards)
    assert min(report.contrasts) > 0 and report.warning is None
    before, after = weights(verifier_checkpoint()), weights(folder)
    assert before.keys() == after.keys()
    assert sum(not torch.equal(before[name], after[name]) for name in before) > len(before) // 2
    gain = reinforced(rows, verifier_checkpoint(), folder)
    assert gain > 0
    (row,) = genprm.verify_many(folder, [VerifyItem(id="i", problem=rows[0].problem, steps=rows[0].steps)])
    assert all(verdict.reward is not None for verdict in row.verdicts)
    assert "GRPO, 4 paths per solution" in (folder / "README.md").read_text()

    class Killed(BaseException):
        pass

    def kill(state: Any) -> None:
        if state.step == 2:
            raise Killed

    other = tmp_path / "other"
    with pytest.raises(Killed):
        genprm.train_grpo(rows, other, seed=3, progress=kill, **GRPO)
    resumed = genprm.train_grpo(rows, other, seed=3, **GRPO)
    assert resumed.resumed_from == 1 and resumed.outcomes == report.outcomes
    again = weights(other)
    assert all(torch.allclose(after[name], again[name], atol=1e-6) for name in after)


def reinforced(rows: list[LabelledSolution], before: Path, after: Path) -> float:
    """By how much training raised the sum of advantage times log-probability over the first step's rollouts."""
    from transformers import AutoModelForCausalLM

    from genprm.training.rl.grpo_trainer import token_advantages

    options = with_card(GrpoConfig, None, GRPO)
    job = make_job(rows, options, Path("unused"), 3, lambda _: None)
    try:
        wanted = [rows[number] for number in job.plan[0]]
        groups = run_sync(job.roller.roll_out(wanted, derive_seed(3, "rollout", 0)))
    finally:
        run_sync(job.aclose())
    models = [
        AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (before, after)
    ]
    total = 0.0
    for group in groups:
        for rollout, values in zip(group, token_advantages(group), strict=True):
            ids = torch.tensor([rollout.ids])
            weight = torch.tensor(values)
            with torch.inference_mode():
                old, new = (model(ids).logits[0, :-1].log_softmax(-1) for model in models)
            target = ids[0, rollout.start :, None]
            change = (new - old)[rollout.start - 1 :].gather(-1, target)[:, 0]
            total += float((weight * change).sum())
    return total


@pytest.mark.slow
def test_grpo_trains_adapters_and_the_engine_samples_with_them(tmp_path: Path) -> None:
    from genprm.training.rl.grpo_trainer import trained_weights

    rows = arithmetic(3)
    options = {**GRPO, "steps": 1, "solutions": 9, "lora_rank": 4, "learning_rate": 5e-3}
    folder = tmp_path / "model"
    genprm.train_grpo(rows, folder, seed=3, **options)
    before, after = weights(verifier_checkpoint()), weights(folder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("_proj" in name for name in changed)

    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(verifier_checkpoint(), dtype=torch.float32)
    adapted = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True)
    with trained_weights(adapted) as found:
        assert all(
            torch.allclose(found[name], after[name].float(), rtol=1e-2, atol=1e-3) for name in changed
        )
    job = make_job(rows, GrpoConfig(**GRPO, verify=SHORT), Path("unused"), 3, lambda _: None)
    try:
        with trained_weights(adapted) as found:
            job.engine.take_weights(found)
        prompt = Request(
            prompt="<|user|>", params=genprm.SamplingParams(max_tokens=1, temperature=0, logprobs=1)
        )
        (said,) = run_sync(job.engine.generate([prompt]))
        ids = torch.tensor([job.engine.prompt_ids("<|user|>")])
        with torch.inference_mode():
            expected = adapted(ids).logits[0, -1].log_softmax(-1).max().item()
        assert said.tokens[0].logprob == pytest.approx(expected, abs=1e-4)
    finally:
        run_sync(job.aclose())
