"""The typed forms of prompt profiles. Templates hold `{name}` slots and are filled in one pass."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from genprm.config.models import Components
from genprm.records import ChatMessage
from genprm.text.paragraphs import strip_marker
from genprm.text.transcript import Thinking

_SLOT = re.compile(r"\{([a-z]+)\}")


def fill(template: str, **values: object) -> str:
    """Put values into a template's `{name}` slots.

    One pass: braces inside values are never read as slots, and slots without a value (`\\boxed{a}`)
    stay as they are.
    """
    return _SLOT.sub(lambda m: str(values[m[1]]) if m[1] in values else m[0], template)


class Profile(BaseModel):
    """What all profiles share.

    Attributes:
        kind: which of the subclasses this is.
        name: the profile's name, recorded with a run.
        version: changes whenever the rendered text changes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    kind: str
    name: str
    version: int = 1
    description: str = ""


class ParagraphProfile(Profile):
    """A profile that shows a solution's steps to a model, as numbered paragraphs.

    Attributes:
        strip_markers: show a step without the `Step k:` that it opens with (`genprm.text.paragraphs`). What a model
            was trained on decides; the released checkpoints never saw the markers.
        note_empty_output: answer code that printed nothing with `(nothing was printed)`, not with an empty block.
    """

    strip_markers: bool = True
    note_empty_output: bool = True

    def shown(self, step: str) -> str:
        """The paragraph that the model reads for a step."""
        return strip_marker(step) if self.strip_markers else step


class VerifierProfile(ParagraphProfile):
    """The chat format of a verifier (method, part 5).

    Attributes:
        system: the system turn; none if empty.
        system_direct: the system turn of the direct form, which answers Yes or No alone; `system` unless given.
        first_user, user: user turns, with the slots `problem` and `step`.
        add_generation_prompt: whether the chat template opens the assistant turn.
        analyze_open: what an analysis is forced to start with; slot `t` is the paragraph, from 1.
        analyze_stop: the string that ends an analysis.
        verify_open: what a code check is forced to start with, up to and including the opened fence.
        finish: the strings that end a turn.
        forced_output: what is appended where the verifier must give its judgement at once.
        turn_end: white space that follows `</output>` at the end of a finished turn, in training and in the history.
        sandbox_tier: packages that the verifier's code expects; those of the subject unless given.
    """

    kind: Literal["verifier"] = "verifier"
    system: str
    system_direct: str | None = None
    first_user: str = "{problem}\n{step}"
    user: str = "{step}"
    add_generation_prompt: bool = True
    analyze_open: str = "<analyze>\n"
    analyze_stop: str = "</analyze>\n"
    verify_open: str = "<verify>\n```python\n"
    finish: tuple[str, ...] = Field(default=("</output>\n",), min_length=1)
    forced_output: str = "<output>\n**Judgement**: $\\boxed{"
    turn_end: str = ""
    sandbox_tier: Literal["plain", "sympy", "numpy", "scipy"] | None = None

    @field_validator("analyze_open")
    @classmethod
    def _analyze_tag(cls, value: str) -> str:
        if not value.startswith("<analyze>\n"):
            raise ValueError("must start with '<analyze>' and a line break")
        return value

    @field_validator("verify_open")
    @classmethod
    def _verify_tag(cls, value: str) -> str:
        if not (value.startswith("<verify>\n") and value.endswith("```python\n")):
            raise ValueError(
                "must start with '<verify>' and a line break, and end with '```python' and one"
            )
        return value

    @field_validator("forced_output")
    @classmethod
    def _output_tag(cls, value: str) -> str:
        if not re.search(r"<output>.*\\boxed\{?$", value, re.DOTALL):
            raise ValueError("must contain '<output>' and end with '\\boxed' or '\\boxed{'")
        return value

    @field_validator("turn_end")
    @classmethod
    def _blank(cls, value: str) -> str:
        if value.strip():
            raise ValueError("must be white space or empty")
        return value

    def system_turn(self, components: Components) -> tuple[ChatMessage, ...]:
        """The system turn for a set of components; empty if there is none."""
        text = self.system_direct if components == "direct" else None
        text = self.system if text is None else text
        return (ChatMessage(role="system", content=text),) if text else ()

    def user_turn(self, problem: str, steps: Sequence[str], index: int) -> ChatMessage:
        """The user turn that presents step `index` (from 0)."""
        template = self.first_user if index == 0 else self.user
        step = self.shown(steps[index])
        return ChatMessage(role="user", content=fill(template, problem=problem, step=step))

    def opening(self, index: int, components: Components) -> str:
        """What the assistant's turn on step `index` (from 0) is forced to start with."""
        if components == "direct":
            return self.forced_output
        return fill(self.analyze_open, t=index + 1) if "cot" in components else self.verify_open

    def messages(
        self,
        problem: str,
        steps: Sequence[str],
        index: int,
        answers: Sequence[str],
        *,
        components: Components = "cot+code+execution",
    ) -> tuple[ChatMessage, ...]:
        """The chat up to the user turn of step `index`; `answers` are the assistant's turns before it."""
        chat = [*self.system_turn(components)]
        for t in range(index):
            chat.append(self.user_turn(problem, steps, t))
            chat.append(ChatMessage(role="assistant", content=answers[t]))
        chat.append(self.user_turn(problem, steps, index))
        return tuple(chat)


class TeacherProfile(ParagraphProfile):
    """The single exchange in which a teacher reviews a whole solution (method, part 3).

    Attributes:
        user: slots `problem` and `paragraphs`.
        paragraph: one tagged paragraph; slots `t` (from 1) and `step`.
        prefix: what the assistant turn is forced to start with; may be empty.
        thinking: what the teacher's thinking is. `none`: it does not think before it writes. `strip`: it thinks first,
            and the review is what follows `</think>`. `review`: the thinking itself is the review, to which `prefix`
            forces it; `</think>` ends it.
        index_open: the text that comes right before the final index. Generation pauses there, so that
            a model which does not know how to end cannot go on writing.
        forced_output: appended where a paragraph has used up its code rounds.
    """

    kind: Literal["teacher"] = "teacher"
    system: str
    user: str
    paragraph: str
    paragraph_separator: str = "\n\n"
    prefix: str = ""
    thinking: Thinking = "none"
    add_generation_prompt: bool = True
    index_open: str = "The first wrong paragraph is \\boxed{"
    forced_output: str = "</verify>\n<output>\n**Judgement**: $\\boxed{"

    def messages(self, problem: str, steps: Sequence[str]) -> tuple[ChatMessage, ...]:
        """System and user turn for one solution."""
        paragraphs = self.paragraph_separator.join(
            fill(self.paragraph, t=t, step=self.shown(step)) for t, step in enumerate(steps, start=1)
        )
        user = fill(self.user, problem=problem, paragraphs=paragraphs)
        return ChatMessage(role="system", content=self.system), ChatMessage(role="user", content=user)


class PolicyProfile(Profile):
    """How a policy or a completer is asked for a solution (method, part 1).

    Attributes:
        user: slot `problem`.
        prefix: step forcing; a continuation's prefix takes its place.
    """

    kind: Literal["policy"] = "policy"
    system: str
    user: str = "{problem}"
    prefix: str = "Step 1:"
    add_generation_prompt: bool = True

    def messages(self, problem: str) -> tuple[ChatMessage, ...]:
        """System and user turn for one problem."""
        chat = [ChatMessage(role="system", content=self.system)] if self.system else []
        return (*chat, ChatMessage(role="user", content=fill(self.user, problem=problem)))


class RefineProfile(Profile):
    """What the policy is told about its last solution (method, policy test-time scaling).

    Attributes:
        critic: slots `t` (from 1), `paragraph` and `analysis`.
        self_: the feedback of the self-refinement baseline; `self` in the file.
    """

    kind: Literal["refine"] = "refine"
    critic: str
    self_: str = Field(alias="self")

    def critic_feedback(self, index: int, paragraph: str, analysis: str) -> str:
        """The user turn that quotes step `index` (from 0) and what the critic wrote about it."""
        return fill(self.critic, t=index + 1, paragraph=paragraph, analysis=analysis)
