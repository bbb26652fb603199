"""What every copy of a local model imports. The process that copies are forked from imports it once, for all of them.

What cannot be imported is no matter here: each copy then says so itself, as an error with a remedy.
"""

from __future__ import annotations

import contextlib
import signal


def _import_all() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

    from genprm.engines._local import loading, scheduler, vocab

    # transformers imports most of its modules when a name of theirs is first asked for.
    del AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast
    del loading, scheduler, vocab


def _import_undisturbed() -> None:
    """Import without being ended by Ctrl-C, which reaches every process of a terminal and is meant for the parent."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The parent keeps it blocked until here; what came meanwhile is dropped.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        with contextlib.suppress(Exception):
            _import_all()
    finally:
        signal.signal(signal.SIGINT, before)


_import_undisturbed()
