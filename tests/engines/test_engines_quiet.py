"""Loading a model prints nothing, and takes no settings away from the user."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import warnings

import pytest

pytest.importorskip("torch")


@pytest.mark.parametrize("kind", ["local", "replicated"])
def test_loading_and_answering_prints_nothing(kind, tiny_model):
    code = f"""
        from genprm.aio import run_sync
        from genprm.engines import Request, SamplingParams, make_engine

        if __name__ == "__main__":
            options = {{"replicas": 1}} if {kind!r} == "replicated" else {{}}
            with make_engine({kind!r}, model={str(tiny_model)!r}, **options) as engine:
                run_sync(engine.check())
                (found,) = run_sync(engine.generate([Request(prompt="3", params=SamplingParams(max_tokens=3))]))
                assert found.ok, found.error
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_quiet_silences_the_libraries_and_nobody_else():
    from transformers.utils import logging

    from genprm.engines._common.quiet import quiet

    before = logging.get_verbosity(), logging.is_progress_bar_enabled(), list(warnings.filters)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet():
            assert logging.get_verbosity() == logging.ERROR
            assert not logging.is_progress_bar_enabled()
            warnings.warn_explicit("x", UserWarning, "file", 1, module="torch.nn.modules")
            warnings.warn_explicit("mine", UserWarning, "file", 1, module="torchless")
    assert [str(one.message) for one in heard] == ["mine"]
    assert before == (logging.get_verbosity(), logging.is_progress_bar_enabled(), list(warnings.filters))


def test_threads_that_are_quiet_together_put_the_settings_back():
    from transformers.utils import logging

    from genprm.engines._common.quiet import quiet

    before = logging.get_verbosity()
    entered, leave = threading.Event(), threading.Event()

    def other() -> None:
        with quiet():
            entered.set()
            leave.wait(30)

    thread = threading.Thread(target=other)
    with quiet():
        thread.start()
        assert entered.wait(30)
    assert logging.get_verbosity() == logging.ERROR, "the other thread is still quiet"
    leave.set()
    thread.join()
    assert logging.get_verbosity() == before
