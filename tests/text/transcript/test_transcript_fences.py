"""Python blocks in what models write: whatever the fence looks like, the code that a reader sees is what runs."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.records import CodeStatus
from genprm.sandbox import IsolatedSandbox, Sandbox, Status
from genprm.text.transcript import Segment, Turn, find_code, format_output, parse_turn
from genprm.text.transcript.fences import _OPENING as FENCE_SEARCH
from genprm.text.transcript.fences import PYTHON_FENCE
from genprm.text.transcript.turns import _EVENT as EVENT_SEARCH


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    async with IsolatedSandbox(tier="plain", workers=1) as box:
        yield box


KINDS = {
    "indented in a list": (
        "1. Check:\n   ```python\n   x = 6*7\n   print(x)\n   ```\n2. Done",
        "x = 6*7\nprint(x)",
    ),
    "indented by a tab": ("\t```python\n\tif True:\n\t    print(1)\n\t```\n", "if True:\n    print(1)"),
    "code indented, fence not": ("```python\n    x = 1\n    print(x)\n```\n", "x = 1\nprint(x)"),
    "fence indented, code not": ("   ```python\nprint(1)\n   ```\n", "print(1)"),
    "fence behind a bullet": ("- ```python\n  print(1)\n  ```\n", "print(1)"),
    "blank before the language": ("``` python\nprint(2+2)\n```\n", "print(2+2)"),
    "upper case": ("```Python\nprint(1)\n```\n", "print(1)"),
    "shouted": ("```PYTHON\nprint(1)\n```\n", "print(1)"),
    "py": ("```py\nprint(1)\n```\n", "print(1)"),
    "python3": ("```python3\nprint(1)\n```\n", "print(1)"),
    "python with its version": ("```Python3.11\nprint(1)\n```\n", "print(1)"),
    "attributes": ('```python title="check.py" linenos\nprint(1)\n```\n', "print(1)"),
    "attributes in braces": ("```python {cmd=true}\nprint(1)\n```\n", "print(1)"),
    "braces around the language": ("```{python}\nprint(1)\n```\n", "print(1)"),
    "class in braces": ("``` {.python .numberLines}\nprint(1)\n```\n", "print(1)"),
    "file name": ("```python:check.py\nprint(1)\n```\n", "print(1)"),
    "tildes": ("~~~python\nprint('```')\n~~~\n", "print('```')"),
    "tildes around backticks": ("~~~ python\n'''\n```\n'''\n~~~\n", "'''\n```\n'''"),
    "four backticks": ("````python\n'''\n```\n'''\n````\n", "'''\n```\n'''"),
    "longer closing fence": ("```python\nprint(1)\n`````\n", "print(1)"),
    "carriage returns": ("```python\r\nx = 1\r\nprint(x)\r\n```\r\n", "x = 1\nprint(x)"),
    "quoted": ("> ```python\n> if True:\n>     print(1)\n> ```\n", "if True:\n    print(1)"),
    "quoted without blanks": (">```python\n>print(1 > 0)\n>```\n", "print(1 > 0)"),
    "quoted twice": ("> > ```python\n> > print(1)\n> > ```\n", "print(1)"),
    "quoted, one line lazy": ("> ```python\n> x = 1\nprint(x)\n> ```\n", "x = 1\nprint(x)"),
    "quoted with carriage returns": ("> ```python\r\n> print(1)\r\n> ```\r\n", "print(1)"),
    "opened twice": ("```python\n```python\nprint(1)\n```\n", "print(1)"),
    "opened twice, with a blank line": ("```python\n\n```py\nprint(1)\n```\n", "print(1)"),
    "in the middle of a line": ("So: ```python\nprint(1)\n```\n", "print(1)"),
    "nothing after the closing fence": ("```python\nprint(1)\n```", "print(1)"),
    "empty": ("```python\n```\n", ""),
    "blank lines inside": ("```python\n  a = 1\n\n  print(a)\n```\n", "a = 1\n\nprint(a)"),
    "string at the margin of indented code": (
        "```python\n  s = '''\nx'''\n  print(s)\n```\n",
        "s = '''\nx'''\nprint(s)",
    ),
}


@pytest.mark.parametrize(("text", "code"), KINDS.values(), ids=KINDS)
def test_a_block_of_every_kind_is_found_with_the_code_that_a_reader_sees(text: str, code: str) -> None:
    block = find_code(text)
    assert block is not None
    assert block.code == code
    found = parse_turn(f"<verify>\n{text}\n</verify>\n").verify
    assert found is not None
    assert [segment.text for segment in found if segment.kind == "code"] == [code]


@pytest.mark.parametrize(
    "text",
    [
        "```\nprint(1)\n```\n",
        "```pycon\n>>> 1\n1\n```\n",
        "```pyret\n1\n```\n",
        "```python-repl\n>>> 1\n```\n",
        "```python\nprint(1)\n",
        "```python\nprint(1)\n~~~\n",
        "````python\nprint(1)\n```\n",
        "`python`\nprint(1)\n```\n",
        "~~python\nprint(1)\n~~\n",
    ],
)
def test_other_blocks_are_no_code(text: str) -> None:
    assert find_code(text) is None


LINES = st.lists(st.text("ab =()+1#'", min_size=0, max_size=12), min_size=1, max_size=6)


@given(LINES, st.sampled_from(["", "  ", "    ", "\t", "> ", ">", "> > "]), st.sampled_from(["\n", "\r\n"]))
def test_wrapping_a_block_never_changes_its_code(lines: list[str], wrap: str, newline: str) -> None:
    body = [f"x{line}".rstrip() for line in lines]
    text = newline.join(wrap + line for line in ["```python", *body, "```", ""])
    block = find_code(text)
    assert block is not None
    assert block.code == "\n".join(body)


@given(st.text("`~> \t\npython\r{}.", max_size=80))
def test_a_found_block_lies_in_the_text(text: str) -> None:
    block = find_code(text)
    if block is not None:
        assert 0 <= block.start < block.end <= len(text)
        assert find_code(text, block.end) is None or find_code(text, block.end).start >= block.end  # type: ignore[union-attr]


def test_an_output_keeps_its_block_whatever_fence_the_code_has() -> None:
    text = "<verify>\n~~~python\nprint(1)\n~~~\n[Code Output]\n\n```\n1\n```\nGood.\n</verify>"
    assert parse_turn(text) == Turn(
        None, (Segment("code", "print(1)"), Segment("output", "1"), Segment("prose", "Good.")), None
    )


@pytest.mark.parametrize(
    ("text", "prints", "error"),
    [
        ("1. Check:\n   ```python\n   x = 6*7\n   print(x)\n   ```\n2. Done", "42", None),
        ("``` python\nprint(2+2)\n```\n", "4", None),
        ("```python\nprint(sum(int(c) for c in str(7**6000)))\n```\n", "23131", None),
        ("```python\nprint(len(str(10**10000)), int('9' * 5000) % 9)\n```\n", "10001 0", None),
        ("```python\nx = 5\nn = int(input('n? '))\n```\n", None, "EOFError"),
        ("```python\nimport sys\nprint(repr(sys.stdin.readline()))\n```\n", "''", None),
    ],
)
async def test_what_a_block_prints_or_the_error_that_the_model_is_shown(
    sandbox: Sandbox, text: str, prints: str | None, error: str | None
) -> None:
    block = find_code(text)
    assert block is not None
    session = await sandbox.open()
    result = await session.run(block.code)
    if error is None:
        assert (result.status, result.stdout.strip()) == (Status.OK, prints)
    else:
        assert (result.status, result.error_type) == (Status.ERROR, error)


async def test_a_last_expression_stays_unprinted_and_the_model_is_told(sandbox: Sandbox) -> None:
    block = find_code("```python\nx = 6 * 7\nx\n```\n")
    assert block is not None
    result = await (await sandbox.open()).run(block.code)
    assert (result.status, result.stdout) == (Status.OK, "")
    assert format_output(CodeStatus.OK, result.stdout, note_empty=True) == "(nothing was printed)"
    assert format_output(CodeStatus.OK, result.stdout) == ""


PIECES = [
    "```",
    "~~~~",
    "python",
    "py",
    "Python3",
    "\n",
    " ",
    "\t",
    ">",
    "[Code Output]",
    "<verify>",
    "</Verify>",
    "x",
    "{.",
    "`",
]


@given(
    text=st.lists(st.sampled_from(PIECES), max_size=14).map("".join),
    start=st.integers(0, 12),
    search=st.sampled_from([FENCE_SEARCH, EVENT_SEARCH]),
)
def test_looking_ahead_finds_the_same(text: str, start: int, search: re.Pattern[str]) -> None:
    plain = re.compile(re.sub(r"^\(\?=\[.*?[^\\]\]\)", "", search.pattern), search.flags)
    assert plain.pattern != search.pattern and PYTHON_FENCE in plain.pattern
    quick, slow = search.search(text, start), plain.search(text, start)
    assert (quick and quick.span()) == (slow and slow.span())


@given(st.text(st.sampled_from("ab \t\n\r#>"), min_size=1, max_size=20))
def test_code_that_begins_at_the_margin_is_run_as_it_stands(code: str) -> None:
    block = find_code(f"```python\nx{code}\n```\n")
    lines = f"x{code}".split("\n")
    assert block is not None and block.code == "\n".join(line.removesuffix("\r") for line in lines)


def test_a_fence_that_never_closes_hides_no_later_one_of_another_kind() -> None:
    text = "<verify>\n````python\na\n~~~py\nb\n```python\nc\n```\n~~~py\nd\n```py\ne\n```\n</verify>\n"
    turn = parse_turn(text)
    assert [one.text for one in turn.verify or () if one.kind == "code"] == ["c", "e"]
