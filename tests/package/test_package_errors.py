"""Errors travel between processes whole."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator

import pytest

from genprm import errors
from genprm.errors import GenPRMError, MissingExtraError, Overloaded


def kinds(root: type[GenPRMError] = GenPRMError) -> Iterator[type[GenPRMError]]:
    yield root
    for kind in root.__subclasses__():
        if kind.__module__ == errors.__name__:
            yield from kinds(kind)


def made(kind: type[GenPRMError]) -> GenPRMError:
    if kind is MissingExtraError:
        return MissingExtraError("ray", "ray", "the executor", ImportError("broken"))
    if kind is Overloaded:
        return Overloaded("full", retry_after=3.5, hint="wait")
    return kind("it failed", hint="do something", retryable=True)


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("travel", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy])
def test_an_error_arrives_as_it_was(kind: type[GenPRMError], travel: object) -> None:
    error = made(kind)
    arrived = travel(error)  # type: ignore[operator]
    assert type(arrived) is kind
    assert (str(arrived), arrived.args) == (str(error), error.args)
    assert vars(arrived) == vars(error), "message, hint, retryable and what the class adds"
    assert arrived.__notes__ == error.__notes__
