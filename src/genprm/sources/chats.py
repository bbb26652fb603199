"""Training chats made elsewhere, such as those of GenPRM-MATH-Data: `conversations` or `messages`, role and content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from genprm.config.models import Components
from genprm.identity import content_key
from genprm.records import ChatMessage, TrainingSample
from genprm.sources.counted import CountedRows, Unusable, writable
from genprm.sources.presets import row_id
from genprm.sources.row import Row, shown
from genprm.sources.rows import rows_of
from genprm.text.transcript import Turn, parse_turn

COLUMNS = frozenset({"conversations", "messages"})


def iterate_chats(path: str | Path, split: str = "train") -> CountedRows[TrainingSample]:
    """Chats of a file, of standard input (`-`) or of a hub data set (`hub:ID`), in its order.

    A chat is a list of messages with `role` (system, user, assistant) and `content`: perhaps a system turn, then user and
    assistant turns in alternation, the last one the assistant's. Every assistant turn needs its judgement, a boxed Yes
    or No behind `<output>`. What else it holds (an analysis, code, executed output) decides the sample's components. A
    row that cannot be used is left out and counted by its reason; what rows of `TrainingSample` hold is taken as it is.

    Raises:
        DataError: there is nothing to read; while iterating, a source that cannot be read or that has no usable row.
    """
    source = str(path)
    return CountedRows(source, rows_of(source, split), read_chat)


def read_chat(row: Row) -> TrainingSample:
    """The chat of a row; see `iterate_chats`.

    Raises:
        Unusable: it holds none that a verifier can be trained on.
    """
    if "schema_version" in row.values:
        return _own(row)
    messages = _messages(row)
    turns = [parse_turn(message.content) for message in messages if message.role == "assistant"]
    for number, turn in enumerate(turns, start=1):
        if turn.judgement is None:
            raise Unusable("no_judgement", f"answer {number} has no boxed Yes or No behind <output>")
    components = _components(turns)
    identifier = row_id(row) or content_key([message.model_dump() for message in messages])
    return TrainingSample(
        id=identifier,
        solution_id=identifier,
        problem_id=identifier,
        conversations=messages,
        form="direct" if components == "direct" else "rationale",
        components=components,
    )


def _own(row: Row) -> TrainingSample:
    """A row of `TrainingSample`, as `genprm export` writes them."""
    try:
        sample = TrainingSample.model_validate(dict(row.values))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unusable("no_record", f"{place}: {first['msg']}") from None
    if not any(message.role == "assistant" for message in sample.conversations):
        raise Unusable("no_chat", "the conversation holds no answer of the assistant")
    _require_order([message.role for message in sample.conversations])
    if sample.components not in get_args(Components):
        raise Unusable("unknown_components", f"the field 'components' holds {shown(sample.components)}")
    for number, message in enumerate(sample.conversations, start=1):
        if not message.content.strip():
            raise Unusable("blank_message", f"message {number} holds no text")
        writable(message.content, f"message {number}")
    for name in ("id", "solution_id", "problem_id"):
        writable(getattr(sample, name), f"field '{name}'")
    return sample


def _messages(row: Row) -> tuple[ChatMessage, ...]:
    column = row.first(sorted(COLUMNS))
    if column is None:
        raise Unusable("no_chat", f"the row has neither of the fields {' and '.join(sorted(COLUMNS))}")
    given = row.values[column]
    if not isinstance(given, list) or not given:
        raise Unusable("no_chat", f"field '{column}' is not a list of messages")
    found = tuple(_message(one, number) for number, one in enumerate(given, start=1))
    _require_order([message.role for message in found])
    return found


def in_order(roles: Sequence[str]) -> bool:
    """Whether these are perhaps a system turn, then user and assistant turns in alternation, the last the assistant's."""
    turns = list(roles[1:] if roles and roles[0] == "system" else roles)
    return bool(turns) and turns == ["user", "assistant"] * (len(turns) // 2)


def _require_order(roles: Sequence[str]) -> None:
    if not in_order(roles):
        raise Unusable("order_of_roles", f"the roles are {shown(list(roles))}")


def _message(given: Any, number: int) -> ChatMessage:
    if not isinstance(given, dict):
        raise Unusable("no_chat", f"message {number} is not an object with role and content")
    role, content = given.get("role"), given.get("content")
    if role not in ("system", "user", "assistant"):
        raise Unusable("unknown_role", f"the role of message {number} is {shown(role)}")
    if not isinstance(content, str) or not content.strip():
        raise Unusable("blank_message", f"message {number} holds no text")
    return ChatMessage(role=role, content=writable(content, f"message {number}"))


def _components(turns: Sequence[Turn]) -> Components:
    """What the answers are made of, all of them together."""
    kinds = {segment.kind for turn in turns for segment in turn.verify or ()}
    analysed = any(turn.analysis for turn in turns)
    if "code" not in kinds:
        return "cot" if analysed or kinds else "direct"
    if "output" in kinds:
        return "cot+code+execution" if analysed else "code+execution"
    return "cot+code" if analysed else "code"
