"""Silence for the libraries that load models."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_CHATTY = r"(torch|transformers|accelerate|peft|trl|huggingface_hub|safetensors|gguf)(\.|$)"

_lock = threading.Lock()
_inside = 0
_restore = ExitStack()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing progress bars and logging below errors, and its companions from warning.

    The settings belong to the whole process. So threads that are quiet at the same time share one silence, and the
    last one to leave puts the settings back.
    """
    global _inside  # noqa: PLW0603
    with _lock:
        if not _inside:
            _silence(_restore)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                _restore.close()


def _silence(restore: ExitStack) -> None:
    """Change the settings, and note in `restore` how they were."""
    from transformers.utils import logging

    restore.callback(logging.set_verbosity, logging.get_verbosity())
    if logging.is_progress_bar_enabled():
        restore.callback(logging.enable_progress_bar)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    restore.enter_context(warnings.catch_warnings())
    warnings.filterwarnings("ignore", module=_CHATTY)


def without_length_warning(tokenizer: Any) -> Any:
    """The tokenizer, which now says nothing of texts longer than its model takes.

    It would announce indexing errors at the first one. But whoever tokenises here compares lengths with the model's
    before it is called, and says what became of a text that is too long.
    """
    # Other backends of vLLM have no such table, and do not warn.
    given = getattr(tokenizer, "deprecation_warnings", None)
    if isinstance(given, dict):
        given["sequence-length-is-longer-than-the-specified-maximum"] = True
    return tokenizer
