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
