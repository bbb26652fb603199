"""The GSM8K recipe: truth from annotations, mistakes with a known place, a tutor whose code says what is true."""

from __future__ import annotations

import contextlib
import io
import json
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from genprm.config import SandboxConfig
from genprm.evals.processbench import ProcessBenchItem
from genprm.records import NO_ERROR, StepVerdict, Verification
from genprm.sandbox import make_sandbox
from genprm.text.prompts import VerifierProfile, load_profile

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "gsm8k_smollm2"
sys.path.insert(0, str(RECIPE))

from annotated.building import Made, make_solutions, write_chats  # noqa: E402
from annotated.corrupting import KINDS  # noqa: E402
from annotated.figures import best_threshold, read_covered  # noqa: E402
from annotated.files import PROFILE  # noqa: E402
from annotated.numbers import as_fraction, evaluate, reduced, tokens_of  # noqa: E402
from annotated.overlap import Benchmark  # noqa: E402
from annotated.quoting import clause_for, numbers_in  # noqa: E402
from annotated.reading import Worked, gsm8k_rows, read_worked  # noqa: E402
from annotated.tutor import Rates, check_code, derivation  # noqa: E402

ROWS = [
    (
        "Lena has 24 beads. She buys half as many more at the fair, and then 5 friends share all her beads with her "
        "equally. How many beads does each of the 6 get?",
        "Lena buys 24/2 = <<24/2=12>>12 beads.\nShe then has 24 + 12 = <<24+12=36>>36 beads.\n"
        "Each of them gets 36/6 = <<36/6=6>>6 beads.\n#### 6",
    ),
    (
        "A baker sells 3 trays of rolls per hour. A tray holds 40 rolls and a roll costs $0.50. How much does he earn in "
        "8 hours?",
        "In an hour he sells 3 trays x 40 rolls = <<3*40=120>>120 rolls.\n"
        "That is 120 * 0.50 = $<<120*0.5=60>>60 per hour.\nIn 8 hours he earns 8*60=$<<8*60=480>>480.\n#### 480",
    ),
    (
        "Omar reads 15 pages on Monday, 20 on Tuesday and 25 on Wednesday. His book has 100 pages. How many pages are "
        "left?",
        "He reads 15+20+25=<<15+20+25=60>>60 pages.\nSo 100-60 = <<100-60=40>>40 pages are left.\n#### 40",
    ),
    (
        "A tank holds 1,200 liters. A pump fills 20% of it in an hour. How many liters are missing after 3 hours?",
        "The pump fills 1200*20/100 = <<1200*20/100=240>>240 liters in an hour.\n"
        "After 3 hours it has filled 3 * 240 = <<3*240=720>>720 liters.\n"
        "So 1,200 - 720 = <<1200-720=480>>480 liters are missing.\n#### 480",
    ),
    (
        "Mina walks 30 minutes to school and 30 minutes back, 5 days a week. How many hours does she walk in 4 weeks?",
        "She walks 30+30=<<30+30=60>>60 minutes a day.\nThat is 60/60=<<60/60=1>>1 hour.\n"
        "A week has 5 such days.\nIn 4 weeks she walks 5*4*1=<<5*4*1=20>>20 hours.\n#### 20",
    ),
    (
        "Three shelves hold 14 books each. 9 books are lent and 12 are bought. How many books are there now?",
        "At first there are 3*14=<<3*14=42>>42 books.\nThen 42-9=<<42-9=33>>33 remain.\n"
        "In the end there are 33+12=<<33+12=45>>45 books.\n#### 45",
    ),
    (
        "A ticket costs $12, and children pay $7. How much do 2 adults and 3 children pay?",
        "The adults pay 2*12=$<<2*12=24>>24.\nThe children pay 3*7=$<<3*7=21>>21.\n"
        "Together they pay 24+21=$<<24+21=45>>45.\n#### 45",
    ),
    (
        "Ivo saves $35 a month and spends $10 of his savings in every second month. How much has he saved after 12 "
        "months?",
        "In 12 months he saves 12*35=$<<12*35=420>>420.\nHe spends in 12/2=<<12/2=6>>6 months.\n"
        "He spends 6*10=$<<6*10=60>>60.\nSo he has 420-60=$<<420-60=360>>360.\n#### 360",
    ),
]
UNPROVED = [
    ("How old is Ed, who is twice as old as 4?", "He is 2*4 = 8 years old.\n#### 8"),
    ("How many are 2 and 3?", "There are 2+3=<<2+3=6>>6.\n#### 6"),
    ("How many are 2 and 3?", "There are 2+3=<<2+3=5>>5.\nThen x = 5.\n#### 5"),
    ("How many are 2 and 4?", "There are 2+4=<<2+4=6>>6.\n#### 7"),
    ("How many are 2 and 4?", "There are 6 because 2+4=<<2+4=6>>6.\n#### 6"),
]


@pytest.fixture(scope="module")
def problems() -> list[Worked]:
    return list(read_worked((f"row-{i}", question, answer) for i, (question, answer) in enumerate(ROWS)))


@pytest.fixture(scope="module")
def solutions(problems: list[Worked]) -> list[Made]:
    return list(make_solutions(problems, 25, seed=1))


def test_only_proved_solutions_are_read(problems: list[Worked], tmp_path: Path) -> None:
    assert [len(one.calculations) for one in problems] == [3, 3, 2, 3, 3, 3, 3, 4]
    assert [one.answer for one in problems] == ["6", "480", "40", "480", "20", "45", "45", "360"]
    assert list(read_worked(("x", *row) for row in UNPROVED)) == []
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in ROWS))
    assert [one.question for one in read_worked(gsm8k_rows(str(path)))] == [q for q, _ in ROWS]


def test_a_sentence_is_read_without_its_calculation(problems: list[Worked]) -> None:
    line = problems[1].lines[0]
    assert (line.before, line.tokens, line.result) == ("In an hour he sells ", ("3", "*", "40"), "120")
    assert problems[1].lines[1].currency and problems[1].lines[1].tokens == ("120", "*", "0.5")


@pytest.mark.parametrize(
    ("text", "value"),
    [("1,200*20/100", "240"), ("(3+4)*.5", "3.5"), ("2-", None), ("2**9", None), ("1/0", None)],
)
def test_expressions_have_exact_values(text: str, value: str | None) -> None:
    tokens = tokens_of(text)
    found = evaluate(tokens) if tokens else None
    assert found == (None if value is None else as_fraction(value))


@pytest.mark.parametrize(
    ("text", "rest"),
    [("2+3+4", "5+4"), ("1200*20/100", "24000/100"), ("9-2*3", "9-6"), ("2/3*6", None), ("2*3", None)],
)
def test_one_operation_of_an_expression_is_done(text: str, rest: str | None) -> None:
    tokens = tokens_of(text)
    assert tokens is not None
    assert reduced(tokens) == (None if rest is None else tokens_of(rest))


def test_half_of_the_solutions_have_one_known_first_error(solutions: list[Made]) -> None:
    kinds = Counter(one.kind or "correct" for one in solutions)
    assert set(kinds) == {*KINDS, "correct"}
    assert kinds["correct"] == 25 * len(ROWS)
    assert 0.45 < kinds["correct"] / len(solutions) < 0.6
    for one in solutions:
        assert (one.first_error == NO_ERROR) == (one.kind is None)
        assert len(one.solution.steps) == len(one.paragraphs)
    assert list(make_solutions([], 1, 0)) == []


def test_solutions_follow_from_the_seed_alone(problems: list[Worked], solutions: list[Made]) -> None:
    again = list(make_solutions(problems, 25, seed=1))
    assert [one.solution for one in again] == [one.solution for one in solutions]
    other = list(make_solutions(problems, 25, seed=2))
    assert [one.solution for one in other] != [one.solution for one in solutions]


def test_manners_are_those_of_real_solutions(solutions: list[Made]) -> None:
    texts = [step for one in solutions for step in one.solution.steps]
    for manner in (
        r"^Step 1: ",
        r"^First, ",
        r"\\\[ .* = .* \\\]",
        r"\\frac\{",
        r"\\boxed\{",
        r"\. .*\. ",
        r"= .* = \d",
    ):
        assert any(re.search(manner, text) for text in texts), manner


def test_the_tutors_code_says_what_is_true(solutions: list[Made]) -> None:
    """Run the code of every judged paragraph: it prints one comparison per claim, each as true as the claim."""
    for one in solutions:
        last = len(one.paragraphs) if one.first_error == NO_ERROR else one.first_error + 1
        for part in one.paragraphs[:last]:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(check_code(part.checks), {})
            printed = [word for word in out.getvalue().split() if word in ("True", "False")]
            assert printed == [str(check.holds) for check in part.checks], (
                part.text,
                check_code(part.checks),
            )


def test_the_derivation_does_not_look_at_the_claim(solutions: list[Made]) -> None:
    """A corrupted paragraph and its right version are derived alike: nothing of the claim is in it."""
    seen = 0
    for one in solutions:
        if one.kind not in ("slip", "operation", "doubled"):
            continue
        wrong = next(check for check in one.paragraphs[one.first_error].checks if not check.holds)
        told = derivation([wrong])
        known = {
            *numbers_in(one.problem.text),
            *numbers_in(" ".join(one.solution.steps[: one.first_error])),
        }
        if wrong.claim not in known:
            seen += 1
            assert wrong.claim not in numbers_in(told), told
    assert seen > 50


def test_a_calculation_is_traced_to_the_words_of_the_problem() -> None:
    question = ROWS[0][0]
    assert clause_for(question, ["24", "2"], "Lena buys beads") in (
        "Lena has 24 beads",
        "She buys half as many more at the fair",
    )
    assert clause_for(question, ["6"], "each of them gets") == "How many beads does each of the 6 get"
    assert clause_for(question, ["17"], "nothing") is None


async def test_the_consensus_keeps_what_the_tutor_reads_rightly(solutions: list[Made]) -> None:
    some = random.Random(0).sample(solutions, 24)
    profile = load_profile(str(PROFILE), VerifierProfile)
    sandbox = make_sandbox(SandboxConfig(workers=1), "plain")
    try:
        kept, dropped = await write_chats(
            some, sandbox, profile, rates=Rates(misread=0.0, faulty_code=0.3), seed=0
        )
        assert len(kept) == len(some) and not dropped
        failed = [
            chat for chat in kept if any("has to be fixed" in turn.content for turn in chat.conversations)
        ]
        assert failed and all("NameError" in str(chat.conversations) for chat in failed)
        kept, dropped = await write_chats(some, sandbox, profile, rates=Rates(misread=1.0), seed=0)
        assert dropped["disagree"] > len(some) // 2
    finally:
        await sandbox.aclose()
    by_id = {one.solution.id: one for one in some}
    for chat in kept:
        turns = [turn.content for turn in chat.conversations if turn.role == "assistant"]
        first = by_id[chat.solution_id].first_error
        assert ("\\boxed{No}" in turns[-1]) == (first != NO_ERROR)
        assert all("\\boxed{Yes}" in turn for turn in turns[:-1])


def test_shared_runs_of_words_are_found() -> None:
    words = " ".join(f"word{i}" for i in range(20))
    benchmark = Benchmark([words, "Too short to have a run."])
    assert benchmark.overlaps(f"Before, {words[:120].upper()}!")
    assert not benchmark.overlaps(" ".join(words.split()[:12]))
    assert benchmark.overlaps("too short to have a RUN")


def _judged(name: str, rewards: list[float]) -> Verification:
    verdicts = tuple(
        StepVerdict(step=i, reward=reward, judgement=reward >= 0.5, status="ok")
        for i, reward in enumerate(rewards)
    )
    return Verification(item_id=name, problem="p", steps=tuple("ab"[: len(rewards)]), verdicts=verdicts)


def test_what_was_covered_ends_before_the_first_unfinished_solution(tmp_path: Path) -> None:
    items = [ProcessBenchItem(id=f"i{k}", problem="p", steps=("a", "b"), label=NO_ERROR) for k in range(8)]
    shares = [tmp_path / "0", tmp_path / "1", tmp_path / "2"]
    shares[0].write_text("\n".join(_judged(f"i{k}", [1.0, 1.0]).model_dump_json() for k in (6, 0)))
    shares[1].write_text(_judged("i1", [1.0, 1.0]).model_dump_json())
    covered = read_covered(items, shares)
    assert [item.id for item, _ in covered.pairs] == ["i0", "i1"]
    assert covered.total == 8


def test_the_threshold_is_the_best_of_the_dev_set() -> None:
    wrong = ProcessBenchItem(id="w", problem="p", steps=("a", "b"), label=1)
    right = ProcessBenchItem(id="r", problem="p", steps=("a", "b"), label=NO_ERROR)
    pairs = [(wrong, _judged("w", [0.6, 0.2])), (right, _judged("r", [0.4, 0.6]))]
    assert 0.2 < best_threshold(pairs) <= 0.4
    assert best_threshold(pairs[:1]) == 0.5


@pytest.mark.slow
def test_the_whole_recipe_with_a_tiny_model(tmp_path: Path) -> None:
    """Build, train both forms, measure both, fill the table: on a CPU, with a model that knows nothing."""
    train, bench = tmp_path / "train.jsonl", tmp_path / "bench.json"
    train.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in ROWS))
    rows = [
        {
            "id": f"b-{label}",
            "problem": "What is 2 + 3, times 2?",
            "steps": ["2 + 3 = 5.", step],
            "label": label,
        }
        for label, step in ((NO_ERROR, "5 * 2 = 10."), (1, "5 * 2 = 25."))
    ]
    bench.write_text(json.dumps(rows))
    data, out = tmp_path / "data", tmp_path / "out"
    _tiny_model(tmp_path / "base")
    built = _run("build.py", train, data, "--against", bench, "--copies", 1, "--held-out", 2)
    assert json.loads(built)["solutions"] == 8
    assert json.loads(
        _run("build.py", train, data, "--against", bench, "--copies", 1, "--held-out", 2)
    ) == json.loads(built), "a finished build is kept"
    small = ["--replicas", 1, "--votes", 2, "--boxes", 1, "--batch-size", 4, "--epochs", 1, "--limit", 2]
    command = ("run_gpu.py", data, bench, "--out", out, "--base", tmp_path / "base", *small)
    _run(*command, "--seconds", 900)
    result = json.loads((out / "result.json").read_text())
    for model in ("genprm", "direct"):
        assert result[f"train-{model}"]["state"] == "done", result
        part = result["figures"][model]["processbench-gsm8k"]
        assert (part["covered"], part["of"]) == (2, 2)
        assert part["figures"]["pass@1"]["failed"]["value"] == 0
        assert (out / f"examples-{model}.txt").read_text().count("=====") == 2
    rows = (out / "work" / "rows-genprm-0-of-1.jsonl").read_text()
    assert len(rows.splitlines()) == 6
    (out / "work" / "rows-genprm-0-of-1.jsonl").write_text("".join(rows.splitlines(keepends=True)[:4]))
    _run(*command, "--seconds", 600)
    again = json.loads((out / "result.json").read_text())
    assert again["train-genprm"] == result["train-genprm"], "a trained model is kept"
    assert again["figures"] == result["figures"], "what was missing is verified, with the same seeds"
    with pytest.raises(AssertionError, match="made with another --votes"):
        _run(*command, "--votes", 3)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- results -->\nold\n<!-- /results -->\nafter\n")
    table = _run("table.py", out / "result.json", "--readme", readme)
    assert "| GenPRM | ProcessBench gsm8k | maj@2 |" in table
    assert readme.read_text() == f"before\n<!-- results -->\n{table.rstrip()}\n<!-- /results -->\nafter\n"


def _run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(RECIPE / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def _tiny_model(folder: Path) -> None:
    """A transformer of some thousand parameters over bytes, with SmolLM2's chat template."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from training.tiny_tokenizers import byte_tokenizer

    template = (
        "{% for message in messages %}"
        "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer = byte_tokenizer(template)
    tokenizer.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=8192,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


def test_what_cannot_be_read_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_text(json.dumps({"question": UNPROVED[0][0], "answer": UNPROVED[0][1]}) + "\n")
    for script, arguments, said in (
        ("build.py", (path, tmp_path / "data"), "too few problems"),
        ("build.py", (tmp_path / "none.jsonl", tmp_path / "data"), "none.jsonl"),
        ("run_gpu.py", (tmp_path / "data", path, "--out", tmp_path / "out"), "steps"),
    ):
        done = subprocess.run(
            [sys.executable, str(RECIPE / script), *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 1
        assert said in done.stderr and "Traceback" not in done.stderr, done.stderr
