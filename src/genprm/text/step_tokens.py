"""How a problem and its steps become the tokens of a discriminative process reward model, for training and inference.

The problem, a separator, step 1, a separator, step 2, ...: every part is tokenized by itself, so that a token never
straddles two parts and a solution's beginning is always the beginning of the whole solution's tokens. A step's label
stands, and its reward is read, at the last token of the separator that follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from genprm.errors import ConfigError

KEY = "genprm_prm"
"""The entry of a model's `config.json` that holds its layout: what decides rewards belongs to the model's content."""


@dataclass(frozen=True, slots=True)
class StepTokens:
    """A solution as tokens.

    Attributes:
        ids: token ids of problem, steps and separators.
        ends: for each step the index in `ids` at which it is judged.
    """

    ids: list[int]
    ends: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class StepLayout:
    r"""What stands between the parts.

    Attributes:
        separator: follows every step.
        after_problem: follows the problem. Models of TRL's former PRM trainer have `separator="\n"`, `after_problem=""`.
    """

    separator: str = "\n\n"
    after_problem: str = "\n\n"

    def encode(self, tokenizer: Any, problem: str, steps: Sequence[str]) -> StepTokens:
        """Tokens of a problem and its steps, after the tokenizer's own BOS token if it writes one.

        Args:
            tokenizer: of transformers.

        Raises:
            ConfigError: the tokenizer has no token for the separator.
        """
        separator = _ids(tokenizer, self.separator)
        if not separator:
            raise ConfigError(
                f"the tokenizer has no token for the separator {self.separator!r}",
                hint="Choose another prm separator.",
            )
        bos = tokenizer.bos_token_id
        ids = [bos] if bos is not None and bos in tokenizer("")["input_ids"] else []
        ids += _ids(tokenizer, problem) + _ids(tokenizer, self.after_problem)
        ends = []
        for step in steps:
            ids += _ids(tokenizer, step) + separator
            ends.append(len(ids) - 1)
        return StepTokens(ids, tuple(ends))

    def facts(self) -> dict[str, str]:
        """What `layout_of` reads."""
        return asdict(self)


def layout_of(values: Any, model: str) -> StepLayout:
    """The layout that a model's config holds under `KEY`.

    Raises:
        ConfigError: there is none, or it cannot be read.
    """
    known = set(StepLayout.__dataclass_fields__)
    if not isinstance(values, dict) or set(values) != known or not all(map(_is_text, values.values())):
        raise ConfigError(
            f"{model} does not say how its steps are separated: its config.json has no usable '{KEY}'",
            hint='Give both options, for example separator="\\n" and after_problem="" for a model of TRL.',
        )
    return StepLayout(**values)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    return found
