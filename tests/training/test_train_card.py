"""`genprm.json`: a trained verifier's folder says how the model wants to be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.config import Components, SamplingConfig, VerifyConfig
from genprm.errors import ConfigError
from genprm.rewards.genprm.card import CARD, read_card, verify_values, write_card
from genprm.text.prompts import VerifierProfile, load_profile

verify_configs = st.builds(
    VerifyConfig,
    profile=st.sampled_from(["genprm", "compact"]),
    votes=st.integers(1, 9),
    threshold=st.floats(0, 1),
    max_rounds=st.integers(1, 5),
    max_tokens=st.integers(1, 4096),
    logprobs=st.integers(1, 50),
    stop_at_first_error=st.booleans(),
    components=st.sampled_from([name for name in get_args(Components) if name != "direct"]),
    sampling=st.builds(SamplingConfig, temperature=st.floats(0, 2), top_k=st.integers(0, 50)),
)


@given(verify_configs, st.sampled_from(["rationale", "direct"]))
def test_what_is_written_is_what_the_model_is_asked_with(
    tmp_path_factory: pytest.TempPathFactory,
    config: VerifyConfig,
    form: Literal["rationale", "direct"],
) -> None:
    folder = tmp_path_factory.getbasetemp()
    write_card(folder, config, form=form)
    card = read_card(str(folder))
    assert card is not None
    assert card.form == form
    profile = load_profile(config.profile, VerifierProfile)
    assert card.profile == profile
    asked = VerifyConfig(**verify_values(str(folder)))
    assert load_profile(asked.profile, VerifierProfile) == profile
    for name in ("threshold", "max_rounds", "max_tokens", "logprobs", "sampling"):
        assert getattr(asked, name) == getattr(config, name)
    assert asked.components == ("direct" if form == "direct" else config.components)
    assert (asked.votes, asked.stop_at_first_error) == (1, False), (
        "how much is asked is the caller's choice"
    )


def test_a_model_without_a_card_asks_for_nothing(tmp_path: Path) -> None:
    assert read_card(str(tmp_path)) is None
    assert verify_values(str(tmp_path)) == {}
    assert verify_values("org/model") == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"profile": {}}', b"\xff"])
def test_a_damaged_card_is_one_clear_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD).write_bytes(content)
    with pytest.raises(ConfigError, match=CARD) as caught:
        verify_values(str(tmp_path))
    assert "--profile" in caught.value.hint
