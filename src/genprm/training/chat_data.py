"""Training samples: from a kept solution and its rationale to token ids with a loss mask.

Method, part 4: a sample is a multi-turn chat (system; problem and step 1; rationale and judgement;
step 2; ...). The loss is on what the assistant writes itself, its end-of-turn token included, and not on
`[Code Output]` blocks, which the interpreter writes: from the marker to the line break after the closing
fence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from genprm.config.models import Components
from genprm.errors import DataError, TrainingError
from genprm.records import (
    NO_ERROR,
    ChatMessage,
    Problem,
    Rationale,
    Solution,
    StepRationale,
    TrainingSample,
)
from genprm.sources.chats import in_order
from genprm.text.prompts import VerifierProfile
from genprm.text.transcript import Turn, output_spans, parse_turn, render_turn
from genprm.training.control import UnfitText, control_tokens, refuse_control_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TEMPLATE_HINT = (
    "fine-tune a model whose chat template copies every message unchanged, or set another `chat_template` "
    "in its tokenizer_config.json. A template that only strips white space fits a prompt profile with an empty `turn_end`"
)


def build_samples(
    solution: Solution,
    problem: Problem,
    rationale: Rationale,
    *,
    profile: VerifierProfile,
    components: Components = "cot+code+execution",
) -> TrainingSample:
    """The chat on which a verifier learns to judge this solution.

    Steps after the first wrong one are not used. Every assistant turn is written in the profile's
    layout with the chosen components; `direct` keeps the judgement alone (the baseline's form). All turns are those that
    inference renders: the system turn of the components, and the paragraphs as the profile shows them.

    Raises:
        DataError: the records are about different solutions, or the rationale has no final index, lacks
            a step, or judges a step otherwise than its own index says.
    """
    turns = _judged_steps(solution, problem, rationale)
    messages = [*profile.system_turn(components)]
    for index, step in enumerate(turns):
        answer = render_turn(step, profile, index=index, components=components)
        messages.append(profile.user_turn(problem.text, solution.steps, index))
        messages.append(ChatMessage(role="assistant", content=answer))
    return TrainingSample(
        id=f"{solution.id}:{rationale.sample}:{components}",
        solution_id=solution.id,
        problem_id=problem.id,
        conversations=tuple(messages),
        form="direct" if components == "direct" else "rationale",
        components=components,
    )


def _judged_steps(solution: Solution, problem: Problem, rationale: Rationale) -> tuple[StepRationale, ...]:
    where = f"rationale {rationale.sample} of solution '{solution.id}'"
    if rationale.solution_id != solution.id or solution.problem_id != problem.id:
        raise DataError(
            f"{where} belongs to solution '{rationale.solution_id}', of problem '{solution.problem_id}'; "
            f"problem '{problem.id}' was given"
        )
    first = rationale.first_error
    if first is None:
        raise DataError(f"{where} has no final index", hint="use rationales that passed the filter")
    needed = len(solution.steps) if first == NO_ERROR else first + 1
    if needed > min(len(rationale.steps), len(solution.steps)):
        raise DataError(f"{where} judges {len(rationale.steps)} steps where {needed} are needed")
    steps = rationale.steps[:needed]
    for index, step in enumerate(steps):
        if step.judgement is not (index != first):
            said = "no step is wrong" if first == NO_ERROR else f"step {first + 1} is the first wrong one"
            raise DataError(f"{where}: the judgement of step {index + 1} contradicts its end, that {said}")
    return steps


def as_form(
    sample: TrainingSample, form: Literal["rationale", "direct"], profile: VerifierProfile
) -> TrainingSample:
    """The sample in the form that a training job asks for.

    A rationale can be reduced to its judgements, under the system turn of the direct form; the way back does not exist.

    Raises:
        DataError: a `direct` sample where `rationale` is asked for, or a turn without a judgement.
    """
    if sample.form == form:
        return sample
    if form == "rationale":
        raise DataError(
            f"sample '{sample.id}' holds judgements alone; a rationale cannot be made of it",
            hint="train with form=direct, or give samples in the rationale form",
        )
    turns = [message for message in sample.conversations if message.role != "system"]
    return sample.model_copy(
        update={
            "id": f"{sample.id}:direct",
            "form": "direct",
            "components": "direct",
            "conversations": (
                *profile.system_turn("direct"),
                *(_judgement_only(sample, message, profile) for message in turns),
            ),
        }
    )


def require_order(sample: TrainingSample) -> None:
    """Raise if the turns of a chat with answers do not alternate: verdicts would be learned about other steps.

    Raises:
        TrainingError: naming the chat and its roles.
    """
    roles = [message.role for message in sample.conversations]
    if "assistant" in roles and not in_order(roles):
        raise TrainingError(
            f"chat '{sample.id}' has turns of {', '.join(roles)}",
            hint="a chat is perhaps a system turn, then user and assistant in alternation, the last turn the assistant's",
        )


def _judgement_only(sample: TrainingSample, message: ChatMessage, profile: VerifierProfile) -> ChatMessage:
    if message.role != "assistant":
        return message
    judgement = parse_turn(message.content).judgement
    if judgement is None:
        raise DataError(
            f"sample '{sample.id}' has an assistant turn without a judgement",
            hint="leave this chat out, or train with form=rationale",
        )
    turn = Turn(judgement=judgement)
    return ChatMessage(role="assistant", content=render_turn(turn, profile, index=0, components="direct"))


@dataclass(frozen=True, slots=True, eq=False)
class EncodedSample:
    """A sample as tokens.

    Attributes:
        input_ids: [length] token ids of the whole chat, int32.
        loss_mask: [length] True for the tokens that the model is trained to write.
    """

    input_ids: NDArray[np.int32]
    loss_mask: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.input_ids)


def encode(sample: TrainingSample, tokenizer: Any, max_length: int | None = None) -> EncodedSample | None:
    """Tokens and loss mask of one sample; None where it is longer than `max_length` tokens.

    See `ChatEncoder`, which is quicker for many samples.
    """
    return ChatEncoder(tokenizer).encode(sample, max_length)


@dataclass(slots=True)
class ChatEncoder:
    """Turns chats into token ids and exact loss masks, for any chat template that copies contents.

    What the template puts around the contents is found by rendering the same roles with placeholders for
    contents. The real rendering must then be those pieces and the contents in alternation, character by
    character; a template that trims, drops or rewrites a content is refused instead of trained wrongly.

    A token is trained if its first character lies in a trained span. A token that straddles the end of a
    span is therefore trained, one that straddles the start is not: at inference that token is already
    there, written by the template or by the interpreter.

    Args:
        tokenizer: a fast tokenizer of transformers, with a chat template.
    """

    tokenizer: Any
    _pieces: dict[tuple[str, ...], list[str]] = field(default_factory=dict)
    _specials: tuple[str, ...] = ()
    _control: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not getattr(self.tokenizer, "is_fast", False):
            raise TrainingError(
                "the model's tokenizer gives no character offsets, which the loss mask needs",
                hint="use a model with a fast tokenizer (tokenizer.json)",
            )
        if not getattr(self.tokenizer, "chat_template", None):
            raise TrainingError(
                "the model's tokenizer has no chat template",
                hint="use an instruction-tuned model, or set `chat_template` in tokenizer_config.json",
            )

    def encode(self, sample: TrainingSample, max_length: int | None = None) -> EncodedSample | None:
        """Tokens and loss mask of one sample; None where it is longer than `max_length` tokens.

        Raises:
            UnfitText: the chat template rewrites the chat's contents, or a message holds a control token of the model.
            TrainingError: the template rejects its roles, or an assistant's turn holds nothing to learn.
        """
        return self.encode_many([sample], max_length)[0]

    def encode_many(
        self, samples: Sequence[TrainingSample], max_length: int | None = None
    ) -> list[EncodedSample | None]:
        """See `encode`. Samples that are tokenised together use all cores.

        Raises:
            TrainingError: as for `encode`.
        """
        rendered = [self.spans_of(sample) for sample in samples]
        encoded = self.tokenizer(
            [text for text, _ in rendered], add_special_tokens=False, return_offsets_mapping=True
        )
        rows = zip(rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True)
        return [
            None
            if max_length is not None and len(ids) > max_length
            else self._masked(text, spans, ids, offsets)
            for (text, spans), ids, offsets in rows
        ]

    def _masked(
        self, text: str, spans: list[tuple[int, int]], ids: list[int], offsets: list[tuple[int, int]]
    ) -> EncodedSample:
        import numpy as np

        wanted = np.zeros(len(text) + 1, dtype=np.bool_)
        for start, end in spans:
            wanted[start:end] = True
        return EncodedSample(np.asarray(ids, dtype=np.int32), wanted[self._starts(text, ids, offsets)])

    def spans_of(self, sample: TrainingSample) -> tuple[str, list[tuple[int, int]]]:
        """See `trained_spans`; errors name the sample. Raises as `encode`."""
        _require_own_words(sample)
        try:
            return self.trained_spans(sample.conversations)
        except UnfitText as error:
            raise UnfitText(
                f"chat '{sample.id}': {error.message}", error.reason, hint=error.hint
            ) from error
        except TrainingError as error:
            raise TrainingError(f"chat '{sample.id}': {error.message}", hint=error.hint) from error

    def trained_spans(self, messages: Sequence[ChatMessage]) -> tuple[str, list[tuple[int, int]]]:
        """The rendered chat, and the character spans of it that carry the loss, in order.

        Raises:
            TrainingError: as for `encode`.
        """
        text, starts, pieces = self._placed(messages)
        spans: list[tuple[int, int]] = []
        for message, start, after in zip(messages, starts, pieces[1:], strict=True):
            if message.role == "assistant":
                end = start + len(message.content) + self._end_of_turn(after)
                spans += _own_spans(message.content, start, end)
        return text, spans

    def content_starts(self, messages: Sequence[ChatMessage]) -> tuple[str, list[int]]:
        """The rendered chat, and where each message's content begins in it.

        Raises:
            TrainingError: as for `encode`.
        """
        text, starts, _ = self._placed(messages)
        return text, starts

    def owners(
        self, text: str, spans: Sequence[tuple[int, int]]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Token ids of a rendered chat, and for each the number of the span in which it starts, -1 outside of all."""
        import numpy as np

        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        owner = np.full(len(text) + 1, -1, dtype=np.int32)
        for number, (start, end) in enumerate(spans):
            owner[start:end] = number
        ids = encoded["input_ids"]
        return np.asarray(ids, dtype=np.int32), owner[self._starts(text, ids, encoded["offset_mapping"])]

    def _placed(self, messages: Sequence[ChatMessage]) -> tuple[str, list[int], list[str]]:
        """The rendered chat, where each content begins in it, and what the template puts around them."""
        self._refuse_control_tokens(messages)
        pieces = self._scaffold(tuple(message.role for message in messages))
        text = self._render([{"role": m.role, "content": m.content} for m in messages])
        parts = [pieces[0]]
        starts = []
        position = len(pieces[0])
        for message, after in zip(messages, pieces[1:], strict=True):
            starts.append(position)
            parts += [message.content, after]
            position += len(message.content) + len(after)
        if "".join(parts) != text:
            raise UnfitText(
                "the chat template rewrites the contents of messages", "rewritten", hint=_TEMPLATE_HINT
            )
        return text, starts, pieces

    def _refuse_control_tokens(self, messages: Sequence[ChatMessage]) -> None:
        """Raise where a content spells a control token: turns would seem to end and begin in the middle of it."""
        if self._control is None:
            self._control = control_tokens(self.tokenizer)
        for number, message in enumerate(messages, start=1):
            refuse_control_tokens(message.content, self._control, f"message {number}", "chat")

    def _scaffold(self, roles: tuple[str, ...]) -> list[str]:
        if roles in self._pieces:
            return self._pieces[roles]
        marks = [f"@@content-{index}-of-{len(roles)}@@" for index in range(len(roles))]
        rest = self._render([{"role": r, "content": m} for r, m in zip(roles, marks, strict=True)])
        pieces = []
        for mark in marks:
            before, found, rest = rest.partition(mark)
            if not found or mark in rest:
                raise TrainingError(
                    "the chat template drops, repeats or reorders messages",
                    hint=_TEMPLATE_HINT,
                )
            pieces.append(before)
        self._pieces[roles] = [*pieces, rest]
        return self._pieces[roles]

    def _render(self, messages: list[dict[str, str]]) -> str:
        try:
            return str(self.tokenizer.apply_chat_template(messages, tokenize=False))
        except Exception as error:  # a template is a program that its author wrote; it may raise anything
            roles = ", ".join(dict.fromkeys(message["role"] for message in messages))
            raise TrainingError(
                f"the chat template rejects a chat of the roles {roles}: {error}", hint=_TEMPLATE_HINT
            ) from error

    def _end_of_turn(self, after: str) -> int:
        """Length of the end-of-turn mark at the start of `after`: 0 where the template has none.

        Any special token that follows the content at once is one; after white space only the
        tokenizer's own end token is, because others may open the next turn there.
        """
        if not self._specials:
            added = {str(t) for t in self.tokenizer.added_tokens_decoder.values() if t.special}
            self._specials = tuple({*self.tokenizer.all_special_tokens, *added} - {""})
        found = [len(token) for token in self._specials if after.startswith(token)]
        if found:
            return max(found)
        lead = len(after) - len(after.lstrip())
        eos = self.tokenizer.eos_token
        return lead + len(eos) if eos and after.startswith(eos, lead) else 0

    def _starts(self, text: str, ids: list[int], offsets: list[tuple[int, int]]) -> NDArray[np.intp]:
        """Where each token starts, counting a leading blank that some tokenizers leave out of offsets."""
        import numpy as np

        starts = np.asarray([start for start, _ in offsets], dtype=np.intp)
        ends = np.asarray([0, *(end for _, end in offsets[:-1])], dtype=np.intp)
        for index in np.flatnonzero(ends < starts):
            token = self.tokenizer.convert_ids_to_tokens(ids[index])
            if token.startswith(("Ġ", "▁", "Ċ", " ")) and text[ends[index] : starts[index]].isspace():
                starts[index] = ends[index]
        return starts


def _require_own_words(sample: TrainingSample) -> None:
    """Raise if an assistant's turn holds nothing but executed output."""
    answers = [message.content for message in sample.conversations if message.role == "assistant"]
    for number, content in enumerate(answers, start=1):
        if not any(content[start:end].strip() for start, end in _own_spans(content, 0, len(content))):
            raise TrainingError(
                f"chat '{sample.id}': turn {number} of the assistant holds nothing to learn, at most executed output",
                hint="leave this chat out, or give the turn its analysis, code and judgement",
            )


def _own_spans(content: str, start: int, end: int) -> list[tuple[int, int]]:
    """The span [start, end) of a rendered turn, without the executed outputs inside its content."""
    spans = []
    position = start
    for first, last in output_spans(content):
        spans.append((position, start + first))
        position = start + last
    spans.append((position, end))
    return [span for span in spans if span[0] < span[1]]
