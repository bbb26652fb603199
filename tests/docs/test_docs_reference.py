"""The reference says what the code says."""

from __future__ import annotations

import importlib.util
import re
from types import ModuleType

from doc_pages import ROOT

import genprm

REFERENCE = ROOT / "docs/reference"


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_reference", REFERENCE / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    stale = [name for name, text in generator().pages().items() if (REFERENCE / name).read_text() != text]
    assert not stale, "run: python docs/reference/generate.py"


def test_the_api_page_has_every_public_name_once() -> None:
    listed = re.findall(r"^::: genprm\.(\w+)$", (REFERENCE / "api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(set(genprm.__all__) - {"__version__"})


def test_statuses_and_reasons_are_explained() -> None:
    from genprm.records import CodeStatus, Rationale, StepVerdict, VoteStatus
    from genprm.synth.consensus import REASONS

    text = (REFERENCE / "statuses.md").read_text()
    known = [*VoteStatus, *CodeStatus, *REASONS]
    for record in (StepVerdict, Rationale):
        known += record.model_fields["status"].annotation.__args__  # type: ignore[union-attr]
    assert not [status for status in known if f"`{status}`" not in text]


def test_the_stages_of_a_run_drop_what_the_page_of_reasons_explains() -> None:
    """Both pages have the same reasons for each stage; those of samples and of faults are written once."""
    statuses = (REFERENCE / "statuses.md").read_text()
    titles = {
        "Problems": "problems", "Solutions": "solutions", "Monte-Carlo scores": "montecarlo",
        "Consensus": "consensus", "Chats": "chats",
    }  # fmt: skip
    explained = {
        titles[part.partition("\n")[0]]: set(_codes(re.findall(r"^\| (`.*?) \|", part, re.MULTILINE)))
        for part in re.split(r"^##+ ", statuses, flags=re.MULTILINE)
        if part.partition("\n")[0] in titles
    }
    table = re.findall(
        r"^\| `(\w+)` \| `\w+` \|.*\| (.*) \|$", (REFERENCE / "run-directory.md").read_text(), re.MULTILINE
    )
    listed = {stage: set(_codes([cell])) for stage, cell in table}
    for stage, reasons in explained.items():
        assert listed[stage] == {one for one in reasons if not one.startswith("sample_")}, stage


def test_why_imported_rows_are_left_out_is_explained() -> None:
    page = (ROOT / "docs/howto/step-labels.md").read_text()
    for name in ("labelled", "counted", "importing", "chats"):
        code = (ROOT / f"src/genprm/sources/{name}.py").read_text()
        reasons = re.findall(r'(?:Unusable\(|_reject\(|text_of\(row, "\w+",)\s*"(\w+)"', code)
        assert not [reason for reason in reasons if f"`{reason}`" not in page], name


def test_what_gave_no_preference_pair_is_explained() -> None:
    from genprm.training.rl.dpo import DpoReport
    from genprm.training.rl.pairs import Pairs

    page = (ROOT / "docs/howto/train-further.md").read_text()
    counts = set(re.findall(r"`(\w+)`", (Pairs.__doc__ or "").partition("counts:")[2])) - {"item_id"}
    dropped = {name for name in DpoReport.model_fields if name.startswith("dropped_")}
    assert counts >= {"paired", "unseen"} and dropped
    assert not [name for name in sorted(counts | dropped) if f"`{name}`" not in page]


def _codes(cells: list[str]) -> list[str]:
    return [code for cell in cells for code in re.findall(r"`(\w+)`", cell)]
