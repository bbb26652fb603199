"""Executed rationales, the consensus on them, and the chats made of both (method, parts 3 and 4)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from genprm.records.base import NO_ERROR, Part, Record, Usage


class CodeStatus(StrEnum):
    """How an executed snippet ended. Mirrors `genprm.sandbox.base.Status`, plus `NOT_RUN`."""

    OK = "ok"
    ERROR = "error"
    TIMEOUT = "timeout"
    KILLED = "killed"
    OUTPUT_LIMIT = "output_limit"
    DIED = "died"
    NOT_RUN = "not_run"


class CodeRound(Part):
    """One generate -> execute round.

    Attributes:
        code: the Python that the model wrote.
        output: the text shown to the model after `[Code Output]`; None where nothing was executed.
        status: how the execution ended.
        seconds: wall time of the execution.
    """

    code: str
    output: str | None = None
    status: CodeStatus = CodeStatus.NOT_RUN
    seconds: float = 0.0


class StepRationale(Part):
    """What a teacher or a verifier wrote about one step.

    Attributes:
        text: the complete assistant text, tags and executed output included.
        analysis: the inside of `<analyze>`; of a verifier, without the lead that its prompt profile forces.
        rounds: the code rounds of `<verify>`, in order.
        judgement: the boxed Yes / No; None where there is none.
    """

    text: str
    analysis: str = ""
    rounds: tuple[CodeRound, ...] = ()
    judgement: bool | None = None


class Rationale(Record):
    """A teacher's rationale for one solution (method, part 3).

    Attributes:
        steps: one entry for each step that the teacher judged, in order.
        first_error: the teacher's own final index (see the module's conventions).
        status: `ok`, or what kept the rationale from being complete.
        teacher: the engine's name; a scripted tutor says so in its name.
    """

    solution_id: str
    problem_id: str
    steps: tuple[StepRationale, ...] = ()
    first_error: int | None = None
    status: Literal["ok", "no_index", "truncated", "engine_failed", "sandbox_failed"] = "ok"
    reason: str | None = None
    teacher: str = ""
    sample: int = 0
    usage: Usage = Usage()


class Consensus(Record):
    """A solution that Monte-Carlo labels and a teacher's rationale agree on (method, part 4).

    Attributes:
        first_error: the index that both give, or NO_ERROR.
        rationale_sample: `Rationale.sample` of the rationale that agrees.
    """

    solution_id: str
    problem_id: str
    first_error: int = Field(ge=NO_ERROR)
    rationale_sample: int = 0


class ChatMessage(Part):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class TrainingSample(Record):
    """A multi-turn chat on which a verifier is trained (method, part 4).

    Attributes:
        conversations: system, then user and assistant turns in alternation.
        form: `rationale` for GenPRM, `direct` for the Yes / No baseline.
        components: which parts of a rationale the assistant turns contain.
    """

    id: str
    solution_id: str
    problem_id: str
    conversations: tuple[ChatMessage, ...]
    form: Literal["rationale", "direct"] = "rationale"
    components: str = "cot+code+execution"
