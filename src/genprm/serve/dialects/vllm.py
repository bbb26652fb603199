"""vLLM's endpoints for reward models: `/pooling` gives a pair of probabilities per step, `/classify` one per solution.

A text is a rendered chat whose assistant's turn is the solution; steps end with `<extra_0>`, as Qwen2.5-Math-PRM
is asked, or are found in the text. A solution without a score fails the whole request, with OpenAI's error object.
`genprm.uncounted` of an answer is the engine's requests whose tokens nobody counted: `usage` is then a lower bound.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Literal

from genprm.config import ServeConfig
from genprm.errors import DataError
from genprm.serve.answers import Unknown
from genprm.serve.dialects.base import Asked, Body, Dialect, Reply, Result, failed
from genprm.serve.dialects.rendered import last_turn, plain, question_of, response_of

STEP_END = "<extra_0>"


class Inputs(Body):
    """One text or several, or one chat; `task` is `token_classify` or left out. Answers are probabilities, in JSON."""

    model: str | None = None
    input: str | tuple[str, ...] | None = None
    messages: tuple[Any, ...] | None = None
    task: str | None = None
    encoding_format: Literal["float"] = "float"
    use_activation: Literal[True] | None = None


def read(body: Inputs) -> list[Asked | Unknown]:
    """A solution per text, or the chat's."""
    if (body.input is None) == (body.messages is None):
        raise DataError("give either input or messages")
    if body.messages is not None:
        return [_asked(last_turn(body.messages, "user"), last_turn(body.messages, "assistant"))]
    assert body.input is not None
    return [_rendered(text) for text in ([body.input] if isinstance(body.input, str) else body.input)]


def read_pooling(body: Inputs) -> list[Asked | Unknown]:
    """As `read`; embeddings and the like are not to be had here."""
    if body.task not in (None, "token_classify"):
        raise DataError(f"the task '{body.task}' is not served", hint="Ask for token_classify.")
    return read(body)


def _rendered(text: str) -> Asked | Unknown:
    response = response_of(text)
    if response is None:
        return Unknown("unreadable", "the text has no assistant's turn of a known chat template")
    return _asked(question_of(text), response)


def _asked(problem: str, solution: str) -> Asked:
    if STEP_END not in solution:
        return Asked(problem, solution)
    parts = [plain(part).strip() for part in solution.split(STEP_END)]
    if not parts[-1]:
        del parts[-1]
    return Asked(problem, steps=tuple(parts))


def write_pooling(body: Inputs, results: Sequence[Result], config: ServeConfig) -> Reply:
    """[p(wrong), p(right)] of each step."""
    data = [
        {
            "index": index,
            "object": "pooling",
            "data": [[1 - reward, reward] for reward in result.rewards if reward is not None],
        }
        for index, result in enumerate(results)
    ]
    return failed(results) or _listed(body, data, results)


def write_classify(body: Inputs, results: Sequence[Result], config: ServeConfig) -> Reply:
    """[p(wrong), p(right)] of each solution, from its score."""
    data = []
    for index, result in enumerate(results):
        score = result.score(config)
        if score is not None:
            right = result.answer is not None and result.answer.verification.first_error == -1
            label = "right" if right else "wrong"
            data.append({"index": index, "label": label, "probs": [1 - score, score], "num_classes": 2})
    return failed(results) or _listed(body, data, results)


def _listed(body: Inputs, data: list[dict[str, Any]], results: Sequence[Result]) -> Reply:
    answers = [result.answer for result in results if result.answer is not None]
    usages = [answer.verification.usage for answer in answers if answer.shared == "no"]
    prompt = sum(usage.prompt_tokens for usage in usages)
    completion = sum(usage.completion_tokens for usage in usages)
    usage = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
    }
    uncounted = sum(usage.uncounted for usage in usages)
    head = {"id": f"genprm-{uuid.uuid4().hex}", "object": "list", "created": int(time.time())}
    own = {"genprm": {"uncounted": uncounted}}
    return Reply({**head, "model": body.model or "", "data": data, "usage": usage, **own})


POOLING = Dialect("pooling", "/pooling", Inputs, 170.0, read_pooling, write_pooling)
CLASSIFY = Dialect("classify", "/classify", Inputs, 170.0, read, write_classify)
