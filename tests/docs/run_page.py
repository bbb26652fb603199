"""Runs the blocks of one page in order, in one namespace and one folder; what each printed goes to a JSON file.

    python run_page.py PAGE RESULTS

Python blocks run unless `<!-- not run: reason -->` is directly above them; `await` works in them as in a notebook.
Shell blocks run if `<!-- run -->` is above them, and a block under `<!-- save: NAME -->` is written to that file. The
first block that fails ends the page.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from doc_pages import Block, blocks


def main(page: Path, results: Path) -> None:
    namespace: dict[str, Any] = {"__name__": "__page__"}
    done = []
    for block in blocks(page.read_text()):
        outcome = _run(block, namespace, page)
        if outcome is None:
            continue
        printed, error = outcome
        done.append({"line": block.line, "shown": block.shown, "printed": printed, "error": error})
        if error:
            break
    results.write_text(json.dumps(done))


def _run(block: Block, namespace: dict[str, Any], page: Path) -> tuple[str, str] | None:
    if block.directive.startswith("save: "):
        Path(block.directive.removeprefix("save: ")).write_text(block.content)
        return "", ""
    if block.language == "python" and not block.directive.startswith("not run: "):
        return _python(block, namespace, page)
    if block.language == "sh" and block.directive == "run":
        return _shell(block)
    return None


def _python(block: Block, namespace: dict[str, Any], page: Path) -> tuple[str, str]:
    output = io.StringIO()
    # Blank lines in front give tracebacks the page's own line numbers.
    source = "\n" * (block.line - 1) + block.content
    try:
        code = compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        with contextlib.redirect_stdout(output):
            waiting = eval(code, namespace)
            if inspect.iscoroutine(waiting):
                asyncio.run(waiting)
    except Exception:
        return output.getvalue(), traceback.format_exc()
    return output.getvalue(), ""


def _shell(block: Block) -> tuple[str, str]:
    done = subprocess.run(["bash", "-euc", block.content], capture_output=True, text=True, check=False)
    return done.stdout, "" if done.returncode == 0 else f"exit {done.returncode}\n{done.stderr}"


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
