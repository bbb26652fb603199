"""The check that a verifier is trained on the text that it will be asked with.

At inference the model continues a prompt: the chat so far in the model's template, then what the prompt profile forces.
If a training text does not begin with that prompt, token for token, the model learns to answer something that nobody
asks: a template that opens the assistant's turn with `<think>`, that treats the last turn unlike earlier ones, or a
profile other than the one that the chats were made with. No loss curve shows it, so it is looked for before training.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

from genprm.config.models import Components
from genprm.engines._common.chats import ChatTokenizer
from genprm.engines.base import Request
from genprm.errors import TrainingError
from genprm.records import ChatMessage, TrainingSample
from genprm.text.prompts import VerifierProfile
from genprm.text.transcript import Segment, Turn, render_turn
from genprm.training.chat_data import ChatEncoder
from genprm.training.processes import refusal

_SHOWN = 60
_TEMPLATE_HINT = (
    "The chat template renders a turn in another way when it is asked than when it is trained. Train a model with "
    "another template, set `chat_template` in its tokenizer_config.json, or take a prompt profile that fits "
    "(verify.profile)."
)
_PROFILE_HINT = "Set verify.profile to the prompt profile that the chats were made with."
_MERGED_HINT = (
    "The tokenizer joins the end of the prompt with what follows. Take a prompt profile whose openings end elsewhere "
    "(verify.profile)."
)


@dataclass(frozen=True, slots=True)
class PromptCheck:
    """Compares training texts with the prompts that inference renders from the same turns.

    Args:
        tokenizer: of transformers, with a chat template.
        profile: the prompt profile with which the trained model will be asked.
    """

    tokenizer: Any
    profile: VerifierProfile

    def check(self, sample: TrainingSample, text: str) -> None:
        """Check every assistant turn of a sample whose training text is `text`.

        A blank at the end of a forced opening is left out of the comparison of tokens: tokenizers join it with the
        word that follows.

        Raises:
            TrainingError: a turn's prompt is not how the training text begins; the message shows both.
        """
        self.check_many([(sample, text)])

    def check_many(self, pairs: Sequence[tuple[TrainingSample, str]]) -> None:
        """See `check`, for samples with their texts. What is tokenised together uses all cores.

        Raises:
            TrainingError: as for `check`.
        """
        prompts = [self._prompts(sample, text) for sample, text in pairs]
        together = [part for (_, text), own in zip(pairs, prompts, strict=True) for part in (text, *own)]
        if together:
            ids = iter(self.tokenizer(together, add_special_tokens=False)["input_ids"])
            for (sample, _), own in zip(pairs, prompts, strict=True):
                self._compare_tokens(sample, next(ids), [next(ids) for _ in own])

    def _prompts(self, sample: TrainingSample, text: str) -> list[str]:
        """What each assistant turn of a sample is asked with, the blank at its end left out.

        Raises:
            TrainingError: the text does not begin with one of them.
        """
        asked = self._as_asked(sample)
        components = cast("Components", sample.components)
        prompts: list[str] = []
        for place, message in enumerate(asked):
            if message.role == "assistant":
                opening = self.profile.opening(len(prompts), components)
                if not message.content.startswith(opening):
                    begins = message.content[:_SHOWN]
                    raise self._mismatch(sample, f"turn {len(prompts) + 1}", opening, begins, _PROFILE_HINT)
                prompt = self._render(asked[:place], opening)
                self._compare_text(sample, len(prompts) + 1, prompt, text)
                prompts.append(prompt.rstrip(" "))
        return prompts

    def _as_asked(self, sample: TrainingSample) -> list[ChatMessage]:
        """The chat with system and user turns as the profile writes them.

        Raises:
            TrainingError: the sample's own turns read otherwise.
        """
        given = list(sample.conversations)
        system = self.profile.system_turn(cast("Components", sample.components))
        turns = given[1:] if given and given[0].role == "system" else given
        if given[: len(given) - len(turns)] != list(system):
            ours = system[0].content if system else "no system turn"
            theirs = given[0].content if len(turns) < len(given) else "no system turn"
            raise self._mismatch(sample, "the system turn", ours, theirs, _PROFILE_HINT)
        asked: list[ChatMessage] = [*system]
        count = 0
        for message in turns:
            if message.role == "user":
                asked.append(self._user_turn(sample, message.content, count))
                count += 1
            else:
                asked.append(message)
        return asked

    def _user_turn(self, sample: TrainingSample, content: str, index: int) -> ChatMessage:
        template = self.profile.first_user if index == 0 else self.profile.user
        found = _template_pattern(template).fullmatch(content)
        what = f"user turn {index + 1}"
        if found is None:
            raise self._mismatch(sample, what, template, content, _PROFILE_HINT)
        values = found.groupdict()
        steps = [""] * index + [values.get("step") or ""]
        turn = self.profile.user_turn(values.get("problem") or "", steps, index)
        if turn.content != content:
            raise self._mismatch(sample, what, turn.content, content, _PROFILE_HINT)
        return turn

    def _render(self, messages: Sequence[ChatMessage], opening: str) -> str:
        from jinja2 import TemplateError

        request = Request(
            messages=tuple(messages),
            prefix=opening,
            add_generation_prompt=self.profile.add_generation_prompt,
        )
        try:
            return ChatTokenizer(self.tokenizer, "the model").render(request)
        except TemplateError as error:
            raise TrainingError(
                f"the chat template cannot render the prompt of a verifier: {error}", hint=_TEMPLATE_HINT
            ) from error

    def _compare_text(self, sample: TrainingSample, turn: int, prompt: str, text: str) -> None:
        if not text.startswith(prompt):
            at = next(
                (i for i, (a, b) in enumerate(zip(prompt, text, strict=False)) if a != b),
                min(len(prompt), len(text)),
            )
            raise self._mismatch(
                sample, f"turn {turn}", _around(prompt, at), _around(text, at), _TEMPLATE_HINT
            )

    def _compare_tokens(
        self, sample: TrainingSample, whole: Sequence[int], prompts: Sequence[Sequence[int]]
    ) -> None:
        for turn, ids in enumerate(prompts, start=1):
            if list(ids) != list(whole[: len(ids)]):
                at = next(
                    (i for i, (a, b) in enumerate(zip(ids, whole, strict=False)) if a != b), len(whole)
                )
                shown = (
                    self.tokenizer.convert_ids_to_tokens(list(row[max(0, at - 4) : at + 4]))
                    for row in (ids, whole)
                )
                ours, theirs = (" ".join(map(str, tokens)) for tokens in shown)
                raise self._mismatch(sample, f"the tokens of turn {turn}", ours, theirs, _MERGED_HINT)

    @staticmethod
    def _mismatch(sample: TrainingSample, what: str, ours: str, theirs: str, hint: str) -> TrainingError:
        return TrainingError(
            f"{what} of chat '{sample.id}' is not what a verifier will be asked with. "
            f"Inference renders {ours!r}; the training text has {theirs!r}",
            hint=hint,
        )


def require_components(
    samples: Sequence[TrainingSample], form: Literal["rationale", "direct"], asked: Components
) -> None:
    """Raise unless a verifier will be asked for components that some of its chats have.

    The direct form has components of its own.

    Raises:
        TrainingError: naming those that the chats have; in the first process.
        ReportedElsewhere: in the others.
    """
    found = Counter(sample.components for sample in samples)
    # `as_form` refuses direct chats.
    if form == "direct" or not found or asked in found or "direct" in found:
        return
    counts = found.most_common()
    theirs = ", ".join(f"'{name}' ({count})" for name, count in counts)
    raise refusal(
        f"the verifier will be asked for '{asked}', and no chat has these components: they have {theirs}",
        hint=f"set verify.components={counts[0][0]}",
    )


def check_template(
    tokenizer: Any, profile: VerifierProfile, form: Literal["rationale", "direct"] = "rationale"
) -> None:
    """Check a chat template alone, on a made-up chat of two steps: so that it is known before any chat exists.

    Raises:
        TrainingError: the template rewrites turns, or asks otherwise than it trains.
    """
    components: Components = "direct" if form == "direct" else "cot+code+execution"
    check = (Segment("code", "print(1)"), Segment("output", "1"))
    answers = [
        render_turn(Turn("It holds.", check, right), profile, index=step, components=components)
        for step, right in enumerate((True, False))
    ]
    asked = profile.messages("A problem.", ("A step.", "Another."), 1, answers[:1], components=components)
    sample = TrainingSample(
        id="made up for this check",
        solution_id="",
        problem_id="",
        conversations=(*asked, ChatMessage(role="assistant", content=answers[1])),
        form=form,
        components=components,
    )
    text, _ = ChatEncoder(tokenizer).trained_spans(sample.conversations)
    PromptCheck(tokenizer, profile).check(sample, text)


def _around(text: str, at: int) -> str:
    return text[max(0, at - _SHOWN) : at + _SHOWN]


def _template_pattern(template: str) -> re.Pattern[str]:
    """A pattern of what a user template can be filled to, with its slots as groups."""
    known: set[str] = set()
    pattern = ""
    for part in re.split(r"(\{(?:problem|step)\})", template):
        name = part.strip("{}")
        if part not in ("{problem}", "{step}"):
            pattern += re.escape(part)
        elif name in known:
            pattern += f"(?P={name})"
        else:
            known.add(name)
            pattern += f"(?P<{name}>.*)"
    return re.compile(pattern, re.DOTALL)
