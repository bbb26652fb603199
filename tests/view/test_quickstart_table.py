"""What the quickstart prints in the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import reports

from genprm.cli.quickstart import print_report


def test_each_form_stands_with_its_own_votes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    print_report(reports.quickstart_report(), Path("runs/quickstart"))
    lines = [" ".join(line.replace("│", " ").split()) for line in capsys.readouterr().out.splitlines()]
    rows = {line.split()[0]: line for line in lines if line}
    assert rows["direct"].split("]")[1].split()[0] == "1"
    assert "] 4 73.5" in rows["cot"] and "] 4 78.0" in rows["cot+code"]
    assert "] 8 88.4" in rows["cot+code+execution"]
