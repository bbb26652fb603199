"""Every example of the documentation runs, and prints what the page shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks, differences

import genprm

RUNNER = Path(__file__).with_name("run_page.py")
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("docs/*/*.md"))]
QUICK = {"README.md", "docs/index.md"}


def has_examples(page: Path) -> bool:
    return any(
        block.directive == "run"
        or (block.language == "python" and not block.directive.startswith("not run: "))
        for block in blocks(page.read_text())
    )


def parameters() -> list[object]:
    names = [str(page.relative_to(ROOT)) for page in PAGES if has_examples(page)]
    return [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in names]


def environment(folder: Path) -> dict[str, str]:
    """The tests' own, with a `genprm` command of the tested sources before any other."""
    folder.mkdir()
    command = folder / "genprm"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m genprm "$@"\n')
    command.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}"}


@pytest.mark.parametrize("name", parameters())
def test_examples_print_what_the_page_shows(name: str, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    results = tmp_path / "results.json"
    subprocess.run(
        [sys.executable, str(RUNNER), str(ROOT / name), str(results)],
        cwd=work,
        env=environment(tmp_path / "bin"),
        check=True,
    )
    done = json.loads(results.read_text())
    assert done
    for block in done:
        assert not block["error"], f"{name}:{block['line']}\n{block['printed']}{block['error']}"
        if block["shown"] is not None:
            found = differences(block["shown"], block["printed"])
            assert not found, f"{name}:{block['line']}: shown (-) and printed (+) differ:\n" + "\n".join(
                found
            )


def test_what_is_not_run_says_why() -> None:
    for page in PAGES:
        for block in blocks(page.read_text()):
            known = ("not run: ", "save: ")
            if block.language in ("python", "sh") and block.directive not in ("", "run"):
                assert block.directive.startswith(known), f"{page}:{block.line}: {block.directive}"
                assert block.directive.split(": ", 1)[1], f"{page}:{block.line}"


def test_the_first_request_to_a_server_is_answered_as_its_pages_say() -> None:
    texts = [(ROOT / name).read_text() for name in ("README.md", "docs/howto/serve.md")]
    asked, again = (re.findall(r"curl \S+/v1/verify -d '([^']*)'", text) for text in texts)
    assert asked == again and len(asked) == 1
    request = json.loads(asked[0])
    found = genprm.verify("builtin:verifier", request["problem"], request["solution"], votes=4)
    rewards = ", ".join(f"{verdict.reward:.3f}" for verdict in found.verdicts)
    judgements = [verdict.judgement for verdict in found.verdicts]
    assert f"here {rewards}), a judgement (`{json.dumps(judgements[0])}`)" in texts[0]
    assert f'`"rewards": [{rewards}], "judgements": {json.dumps(judgements)}`' in texts[1]


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a 0.12", "a 0.1249"),
        ("a 0.12", "a 0.13"),
        ("x 3 of 4, 0.5", "x 3 of 4, 0.512"),
        ("in ... s", "in 12.7 s"),
        ("first\n...\nlast", "first\n1\n2\nlast"),
        ("step 1\n...", "step 1\nmuch\nmore"),
        ("[1/16, 2/16]", "[1/16, 2/16]  "),
    ],
)
def test_equal_output(shown: str, printed: str) -> None:
    assert differences(shown, printed) == []


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a 0.12", "a 0.14"),
        ("a 12", "a 13"),
        ("a 12", "a 12.4"),
        ("step-1", "step-2"),
        ("a", "b"),
        ("a\nb", "a"),
        ("a", "a\nb"),
        ("first\n...\nlast", "first\n1\nend"),
    ],
)
def test_other_output(shown: str, printed: str) -> None:
    assert differences(shown, printed)


def test_blocks_know_their_surroundings() -> None:
    saved = "<!-- save: a.yaml -->\n```yaml\nseed: 1\n```\n\n"
    page = f"text\n{saved}```python\nprint(1)\n```\n\n```text\n1\n```\nx\n\n```text\n2\n```\n"
    first, second, third = blocks(page)
    assert (first.directive, first.content, first.line) == ("save: a.yaml", "seed: 1\n", 4)
    assert (second.directive, second.shown, second.line) == ("", "1\n", 8)
    assert (third.language, third.shown) == ("text", None)
