"""How the command line words what it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from genprm.cli.console import Bars, sentence, show_error, task_title
from genprm.cli.flags import engine_flags
from genprm.cli.scaling import _config
from genprm.errors import ConfigError
from genprm.text.counts import counted


@pytest.mark.parametrize(
    ("hint", "shown"),
    [
        ("set train.model", "Set train.model"),
        ("Set train.model", "Set train.model"),
        ("did you mean 'http'?", "Did you mean 'http'?"),
        ("known: train, eval", "Known: train, eval"),
        ("problems.source names a file", "problems.source names a file"),
        ("pip install 'genprm[hub]'", "pip install 'genprm[hub]'"),
        ("genprm export RUN chats", "genprm export RUN chats"),
        ("auto, completions or chat", "auto, completions or chat"),
        ("'genprm export' prints them", "'genprm export' prints them"),
        ("", ""),
    ],
)
def test_hints_begin_alike(hint: str, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert sentence(hint) == shown
    show_error(ConfigError("wrong", hint=hint))
    assert capsys.readouterr().err == "error: wrong\n" + (f"hint:  {shown}\n" if shown else "")


@pytest.mark.parametrize(
    ("task", "title"),
    [
        ("montecarlo", "montecarlo"),
        ("problems", "problems"),
        ("train-prm", "train-prm"),
        ("best-of-n", "best-of-n"),
        ("best-of-n-verifications", "best-of-n, verifications"),
        ("gsm8k-problems", "gsm8k, problems"),
    ],
)
def test_stages_of_a_chain_are_shown_with_its_name_apart(
    task: str, title: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert task_title(task) == title
    with Bars() as bars:
        bars.begin(task, None)
        bars.end(task, "done")
    assert capsys.readouterr().err == f"{title}: done\n"


def test_one_of_a_kind_is_in_the_singular() -> None:
    assert [counted(count, "row") for count in (0, 1, 2, 1000)] == [
        "0 rows",
        "1 row",
        "2 rows",
        "1,000 rows",
    ]


def test_hints_name_the_packaged_model_of_the_role() -> None:
    for what, model, other in (
        ("", "builtin:verifier", "policy"),
        ("policy", "builtin:policy", "verifier"),
    ):
        with pytest.raises(ConfigError) as caught:
            engine_flags(None, None, what)
        assert model in caught.value.hint and f"builtin:{other}" not in caught.value.hint


def test_a_preset_and_a_limit_of_the_config_count_unless_flags_are_given(tmp_path: Path) -> None:
    override = ["problems.preset=gsm8k", "problems.limit=7", "problems.columns.text=q"]
    given = ("rows.jsonl", None, None, None, override, "builtin:policy", None)
    found = _config(*given, seed=None).problems
    assert (found.preset, found.limit, found.columns) == ("gsm8k", 7, {"text": "q"})
    flags = ("rows.jsonl", "math", 3, None, override, "builtin:policy", None)
    found = _config(*flags, seed=None).problems
    assert (found.preset, found.limit) == ("math", 3)
    assert (
        _config("rows.jsonl", None, None, None, None, "builtin:policy", None, seed=None).problems.preset
        == "plain"
    )
