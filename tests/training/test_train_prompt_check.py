"""A verifier is trained on the text that it will be asked with, for every template, or not trained at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

import pytest
from tiny_tokenizers import byte_tokenizer, word_tokenizer

from genprm.config import Components, RunConfig, TrainConfig
from genprm.errors import TrainingError
from genprm.records import ChatMessage, TrainingSample
from genprm.runs import run_pipeline
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.text.transcript import Segment, Turn, render_turn
from genprm.training import ChatEncoder, PromptCheck, check_model, train

pytest.importorskip("transformers")

COMPACT = load_profile("compact", VerifierProfile)
GENPRM = load_profile("genprm", VerifierProfile)
STEPS = ("Step 1: 2 + 3 = 5", "Step 2: 5 + 4 = 8")
TURNS = (
    Turn("It is 5.", (Segment("code", "print(2 + 3)"), Segment("output", "5")), True),
    Turn("It is 9.", (Segment("code", "print(5 + 4)"), Segment("output", "9")), False),
)

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA = (
    "<bos>{% for m in messages %}<|start|>{{ m['role'] }}<|end|>\n\n{{ m['content'] | trim }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|end|>\n\n{% endif %}"
)
DEEPSEEK = (
    "<bos>{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}<|User|>{{ m['content'] }}"
    "{% else %}<|Assistant|>{{ m['content'].split('</think>')[-1] }}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|Assistant|>THINK{% endif %}"
)
R1, R1_OPENS_THINKING = DEEPSEEK.replace("THINK", ""), DEEPSEEK.replace("THINK", "<think>\n")
# Newer reasoning models: an empty thought before the last answer, none before earlier ones.
EMPTY_THOUGHT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{% if m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HISTORY_IN_SHORT = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n"
    "{{ m['content'].split('</analyze>\n')[-1] if m['role'] == 'assistant' and not loop.last else m['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAST_TURN_MARKED = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}{% if loop.last %} final{% endif %}\n{{ m['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_HEADER_FOR_THE_FIRST = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt and messages | length > 2 %}<|im_start|>assistant\n{% endif %}"
)


def sample(profile: VerifierProfile, components: Components = "cot+code+execution") -> TrainingSample:
    answers = [render_turn(turn, profile, index=t, components=components) for t, turn in enumerate(TURNS)]
    chat = [*profile.messages("What is 2 + 3 + 4?", STEPS, 1, answers[:1], components=components)]
    chat.append(ChatMessage(role="assistant", content=answers[1]))
    return TrainingSample(
        id="one", solution_id="s", problem_id="p", conversations=tuple(chat), components=components
    )


def check(tokenizer: Any, profile: VerifierProfile, given: TrainingSample) -> None:
    text, _ = ChatEncoder(tokenizer).trained_spans(given.conversations)
    PromptCheck(tokenizer, profile).check(given, text)


@pytest.mark.parametrize("components", get_args(Components))
@pytest.mark.parametrize(
    ("template", "profile"),
    [(CHATML, COMPACT), (CHATML, GENPRM), (LLAMA, COMPACT), (R1, COMPACT), (R1, GENPRM)],
    ids=["chatml-compact", "chatml-genprm", "llama-compact", "r1-compact", "r1-genprm"],
)
def test_what_is_trained_is_what_is_asked(
    template: str, profile: VerifierProfile, components: Components
) -> None:
    for tokenizer in (byte_tokenizer(template), word_tokenizer(template)):
        check(tokenizer, profile, sample(profile, components))


@pytest.mark.parametrize(
    ("template", "profile", "inference", "training"),
    [
        (R1_OPENS_THINKING, GENPRM, "<think>", "<analyze>"),
        (EMPTY_THOUGHT, COMPACT, "assistant\\n<analyze>", "assistant\\n<think>"),
        (LAST_TURN_MARKED, COMPACT, "user final", "userWhat"),
        (NO_HEADER_FOR_THE_FIRST, COMPACT, "<|im_end|>\\n<analyze>", "<|im_end|>\\n<|im_start|>assistant"),
        (R1, GENPRM.model_copy(update={"add_generation_prompt": False}), "5<analyze>", "5<|Assistant|>"),
    ],
    ids=["opens thinking", "empty thought", "last turn marked", "header missing", "profile without header"],
)
def test_a_template_that_asks_otherwise_than_it_trains_is_refused_and_both_are_shown(
    template: str, profile: VerifierProfile, inference: str, training: str
) -> None:
    with pytest.raises(TrainingError, match="is not what a verifier will be asked with") as caught:
        check(byte_tokenizer(template), profile, sample(profile))
    ours, _, theirs = caught.value.message.partition("the training text has")
    assert inference in ours
    assert training in theirs
    assert caught.value.hint


@pytest.mark.parametrize(
    ("template", "content"),
    [
        (HISTORY_IN_SHORT, None),
        (R1, "<think>\nhm\n</think>\n<analyze>\na\n</analyze>\n"),
        (LLAMA, "<analyze>\na\n</analyze>\n \n"),
    ],
    ids=["drops earlier analyses", "cuts earlier thinking", "strips"],
)
def test_a_template_that_rewrites_earlier_turns_is_refused(template: str, content: str | None) -> None:
    given = sample(COMPACT)
    if content is not None:
        turns = [*given.conversations]
        turns[2] = ChatMessage(role="assistant", content=content)
        given = given.model_copy(update={"conversations": tuple(turns)})
    with pytest.raises(TrainingError):
        check(byte_tokenizer(template), COMPACT, given)


def test_a_template_that_strips_does_not_fit_turns_that_end_with_a_line_break() -> None:
    with pytest.raises(TrainingError, match="rewrites") as caught:
        check(byte_tokenizer(LLAMA), GENPRM, sample(GENPRM))
    assert "turn_end" in caught.value.hint


@pytest.mark.parametrize(
    ("made_with", "asked_with", "what"),
    [
        (COMPACT, GENPRM, "the system turn"),
        (GENPRM, COMPACT, "the system turn"),
        (load_profile("genprm-eval", VerifierProfile), GENPRM, "user turn 1"),
        (GENPRM.model_copy(update={"strip_markers": False}), GENPRM, "user turn 1"),
        (GENPRM.model_copy(update={"analyze_open": "<analyze>\n"}), GENPRM, "turn 1"),
        (GENPRM.model_copy(update={"system": ""}), GENPRM, "the system turn"),
        (COMPACT, COMPACT.model_copy(update={"system": ""}), "the system turn"),
    ],
)
def test_chats_made_with_another_profile_are_refused(
    made_with: VerifierProfile, asked_with: VerifierProfile, what: str
) -> None:
    with pytest.raises(TrainingError, match=f"^{what} of chat 'one'") as caught:
        check(byte_tokenizer(CHATML), asked_with, sample(made_with))
    assert caught.value.hint.startswith("Set verify.profile"), "the chat template has nothing to do with it"


def test_the_direct_form_is_asked_with_its_own_system_turn() -> None:
    direct = sample(GENPRM, "direct")
    check(byte_tokenizer(CHATML), GENPRM, direct)
    wrong = direct.model_copy(
        update={"conversations": (sample(GENPRM).conversations[0], *direct.conversations[1:])}
    )
    with pytest.raises(TrainingError, match="the system turn"):
        check(byte_tokenizer(CHATML), GENPRM, wrong)


def test_a_token_that_joins_prompt_and_answer_is_found() -> None:
    """The text agrees, the tokens do not: what the model is asked with it never saw in training."""
    check(byte_tokenizer(CHATML, ["analyze"]), COMPACT, sample(COMPACT))
    with pytest.raises(TrainingError, match="the tokens of turn 1") as caught:
        check(byte_tokenizer(CHATML, [">\nIt"]), COMPACT, sample(COMPACT))
    assert "It" in caught.value.message


def test_a_blank_that_a_tokenizer_joins_with_the_next_word_is_no_difference() -> None:
    check(byte_tokenizer(CHATML, [" It"]), GENPRM, sample(GENPRM))


def test_training_is_refused_before_its_first_step(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = byte_tokenizer(EMPTY_THOUGHT)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    steps: list[Any] = []
    options = TrainConfig(model=str(tmp_path / "base"))
    with pytest.raises(TrainingError, match="Inference renders"):
        train(
            [sample(COMPACT)], options, tmp_path / "out", profile=COMPACT, seed=0, on_progress=steps.append
        )
    assert steps == []
    assert not list((tmp_path / "out").glob("*.safetensors"))


@pytest.mark.parametrize("form", ["rationale", "direct"])
def test_a_model_is_checked_by_its_template_alone(
    tmp_path: Path, form: Literal["rationale", "direct"]
) -> None:
    options = TrainConfig(model=str(tmp_path), form=form)
    byte_tokenizer(CHATML).save_pretrained(tmp_path)
    for profile in (COMPACT, GENPRM):
        check_model(options, profile)
    byte_tokenizer(R1_OPENS_THINKING).save_pretrained(tmp_path)
    with pytest.raises(TrainingError, match="Inference renders"):
        check_model(options, GENPRM)


async def test_a_run_finds_out_before_its_first_stage(tmp_path: Path) -> None:
    byte_tokenizer(R1_OPENS_THINKING).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "config.json").write_text('{"model_type": "llama"}')
    (tmp_path / "problems.jsonl").write_text('{"problem": "What is 2 + 3?", "answer": "5"}\n')
    config = RunConfig.model_validate(
        {
            "problems": {"source": str(tmp_path / "problems.jsonl")},
            "train": {"model": str(tmp_path / "model")},
        }
    )
    with pytest.raises(TrainingError, match="Inference renders"):
        await run_pipeline(config, tmp_path / "run")
    assert not (tmp_path / "run").exists(), "nothing was called, nothing written"
