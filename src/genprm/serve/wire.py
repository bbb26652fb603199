"""The native interface's requests and answers."""

from __future__ import annotations

import asyncio
import difflib
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from genprm.config import VerifyConfig
from genprm.config.explain import Mistake, cut_short, known_keys, mistakes_of, nearest
from genprm.config.serve import MOST_ENTRIES
from genprm.errors import DataError
from genprm.records import SolutionScore, StepVerdict, Usage, Vote
from genprm.serve.answers import Answer, UnknownKind, why_missing
from genprm.text.checked import checked_text
from genprm.text.spans import step_spans

ModelT = TypeVar("ModelT", bound=BaseModel)
Split = Callable[[str], tuple[str, ...]]


class Solution(BaseModel):
    """A solution to verify: `steps`, or one text `solution` that is split into its steps."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    problem: str
    steps: tuple[str, ...] | None = None
    solution: str | None = None
    id: str | None = Field(default=None, max_length=512, description="given back with the answer")


class Options(BaseModel):
    """How a request is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    deadline_seconds: float | None = Field(
        default=None, gt=0, description="answer with what is known by then; never more than the server's"
    )
    rationales: bool = Field(default=True, description="send what the verifier wrote and its code printed")


class VerifyRequest(Solution, Options):
    """`POST /v1/verify`."""

    stream: bool = Field(
        default=False, description="server-sent events: `step` for each step, then `result`"
    )


class BatchRequest(Options):
    """`POST /v1/verify/batch`."""

    items: tuple[Solution, ...] = Field(min_length=1)


class ServedStep(BaseModel):
    """The verdict on one step; see `StepVerdict` for the fields that both have.

    Attributes:
        text: the step.
        span: start and end of the step in the text `solution`, in characters (code points); None if steps were given.
        unknown: why there is no reward; None if there is one.
    """

    model_config = ConfigDict(frozen=True)

    step: int
    text: str
    span: tuple[int, int] | None = None
    reward: float | None
    judgement: bool | None
    status: Literal["ok", "unparsed", "failed", "skipped"]
    reason: str | None = None
    unknown: UnknownKind | None = None
    votes: tuple[Vote, ...] = ()


class Served(BaseModel):
    """The answer about one solution.

    Attributes:
        id: as in the request.
        steps: one entry for each step.
        rewards, judgements: of the steps, in order; None is unknown.
        first_error: index of the first step judged wrong, -1 if none is, None if that is not known.
        scores: of the whole solution; None if a step has no reward.
        unknown: why the solution has no scores; None if it has.
        retry: whether the same request may get an answer later.
        shared: whether the verification was another call's too (`joined`), or finished before (`recent`).
        policy: the load policy that chose how it was verified.
        usage: what the verification cost; calls that share it show the same.
        seconds: that it took.
    """

    model_config = ConfigDict(frozen=True)

    id: str | None = None
    steps: tuple[ServedStep, ...]
    rewards: tuple[float | None, ...]
    judgements: tuple[bool | None, ...]
    first_error: int | None
    scores: SolutionScore
    unknown: UnknownKind | None = None
    reason: str | None = None
    retry: bool = False
    verifier: str
    shared: Literal["no", "joined", "recent"]
    policy: str | None = None
    usage: Usage
    seconds: float


class ServedBatch(BaseModel):
    """The answers of a batch, in the order of its items."""

    model_config = ConfigDict(frozen=True)

    results: tuple[Served, ...]


class Failure(BaseModel):
    """What is wrong with a request, in words; `type`, `code` and `param` are what OpenAI's clients look at."""

    message: str
    hint: str = ""
    kind: str
    type: str
    code: str
    param: str | None = None


class Refusal(BaseModel):
    """The body of every answer that is not 200."""

    error: Failure


_MISTAKES = 3
_LOOKED_AT = 50
_ANYTHING: TypeAdapter[Any] = TypeAdapter(Any)
_LONG = 50_000
_MOST_MISTAKES = 1000
_NO_REQUEST = "It may be no request of this kind at all."
_OTHER_FORM = {
    "steps": "A list of texts; one text goes into 'solution', which the server splits into steps.",
    "solution": "One text, which the server splits into steps; a list goes into 'steps'.",
}
_OF_THE_SERVER = ("model", "temperature", "max_tokens", *VerifyConfig.model_fields)

_TYPES = {401: "authentication_error", 429: "rate_limit_error"}


def failure(status: int, kind: str, message: str, hint: str = "", param: str | None = None) -> Failure:
    """What is wrong, for an answer with this status."""
    type_ = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    return Failure(message=message, hint=hint, kind=kind, type=type_, code=kind, param=param)


class Readout:
    """A solution as it was asked about: its problem, its steps, and where they stand."""

    def __init__(self, asked: Solution, split: Split, max_steps: int, place: str = "") -> None:
        self.id = asked.id
        self.problem = checked_text(asked.problem, f"{place}problem")
        if (asked.steps is None) == (asked.solution is None):
            raise DataError(f"{place}give either steps or solution", hint="A solution is split into steps.")
        if asked.solution is not None:
            self.steps = split(checked_text(asked.solution, f"{place}solution"))
            self.spans: tuple[tuple[int, int] | None, ...] = step_spans(asked.solution, self.steps)
        else:
            assert asked.steps is not None
            if not asked.steps:
                raise DataError(f"{place}a solution needs at least one step")
            self.steps = tuple(
                checked_text(step, f"{place}step {number}") for number, step in enumerate(asked.steps, 1)
            )
            self.spans = (None,) * len(self.steps)
        if len(self.steps) > max_steps:
            raise DataError(
                f"{place}the solution has {len(self.steps)} steps, more than {max_steps}",
                hint="The server's config sets this bound: serve.max_steps.",
            )

    def step(self, verdict: StepVerdict, *, rationales: bool) -> ServedStep:
        """A verdict as it is sent."""
        votes = verdict.votes
        if not rationales:
            votes = tuple(vote.model_copy(update={"rationale": None}) for vote in votes)
        return ServedStep(
            step=verdict.step,
            text=self.steps[verdict.step],
            span=self.spans[verdict.step],
            reward=verdict.reward,
            judgement=verdict.judgement,
            status=verdict.status,
            reason=verdict.reason,
            unknown=None if verdict.reward is not None else why_missing(verdict).kind,
            votes=votes,
        )

    def served(self, answer: Answer, *, rationales: bool) -> Served:
        """An answer as it is sent."""
        row, unknown = answer.verification, answer.unknown
        return Served(
            id=self.id,
            steps=tuple(self.step(verdict, rationales=rationales) for verdict in row.verdicts),
            rewards=tuple(verdict.reward for verdict in row.verdicts),
            judgements=tuple(verdict.judgement for verdict in row.verdicts),
            first_error=row.first_error,
            scores=row.score,
            unknown=unknown.kind if unknown else None,
            reason=unknown.detail if unknown else None,
            retry=unknown.transient if unknown else False,
            verifier=row.verifier,
            shared=answer.shared,
            policy=answer.policy,
            usage=row.usage,
            seconds=row.seconds,
        )


async def read_out(asked: Solution, split: Split, max_steps: int, place: str = "") -> Readout:
    """A `Readout`; a long text is split in a thread, so that nobody waits for it.

    Raises:
        DataError: the solution cannot be verified.
    """
    if len(asked.solution or "") < _LONG:
        return Readout(asked, split, max_steps, place)
    return await asyncio.to_thread(Readout, asked, split, max_steps, place)


def read(model: type[ModelT], body: bytes, most: int = MOST_ENTRIES) -> ModelT:
    """A request's body.

    Args:
        most: entries of a list. One of empty entries costs little to send, and much to say what is wrong with each.

    Raises:
        DataError: it is not JSON, or not what the model says; the message does not repeat the content.
    """
    if len(body) > most:
        _check_lists(model, body, most)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        if error.error_count() > _MOST_MISTAKES:  # making words of them all would hold up everyone else
            raise DataError(f"the body has {error.error_count()} mistakes", hint=_NO_REQUEST) from None
        first = error.errors(include_url=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise DataError(f"the body is not JSON: {first['ctx']['error']}") from None
        mistakes = mistakes_of(error, model, most=_LOOKED_AT)
        said = [_said(mistake) for mistake in mistakes[:_MISTAKES]]
        hints = dict.fromkeys(_hint(mistake, model) for mistake in mistakes[:_MISTAKES])
        said += ["and more"] if len(mistakes) > _MISTAKES else []
        raise DataError("; ".join(said), hint=" ".join(filter(None, hints))) from None


def _check_lists(model: type[BaseModel], body: bytes, most: int) -> None:
    """Refuse long lists in the keys of a model; other keys, as of a trainer's row, are let through as they are."""
    try:
        whole = _ANYTHING.validate_json(body)
    except ValidationError:  # whoever reads it says why
        return
    for name, value in _named(whole):
        if name not in model.model_fields:
            continue
        for part in [value, *(inner for entry in _listed(value)[:most] for _, inner in _named(entry))]:
            if len(_listed(part)) > most:
                raise DataError(f"'{cut_short(name)}' has a list of {len(part)} entries, more than {most}")


def _named(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _said(mistake: Mistake) -> str:
    if not mistake.place:
        return mistake.rule or f"the body {mistake.problem}"
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in mistake.place)
    shown = f"'{cut_short(place.removeprefix('.'))}'"
    if mistake.unknown:
        return f"unknown key {shown}"
    return f"{shown}: {mistake.rule}" if mistake.rule else f"{shown} {mistake.problem}"


def _hint(mistake: Mistake, model: type[BaseModel]) -> str:
    if not mistake.place:
        return ""
    key = str(mistake.place[-1])
    if not mistake.unknown:
        return _OTHER_FORM.get(key, "") if mistake.problem != "is missing" else ""
    if model is VerifyRequest and key == "items":
        return "Several solutions go to /v1/verify/batch."
    if model is BatchRequest and len(mistake.place) == 1 and key in Solution.model_fields:
        return "Each of 'items' has its own problem, and steps or a solution."
    known = known_keys(model, mistake.place[:-1])
    near = difflib.get_close_matches(key[:100], [*known, *_OF_THE_SERVER], n=1, cutoff=0.7)
    if near and near[0] not in known:
        return "A request does not choose how it is verified; the server's config does."
    return nearest(model, mistake)
