"""What is imported when: `import genprm` is cheap, and each public call loads what it needs and no more."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import genprm
from genprm import errors

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "genprm"
HEAVY = (
    "accelerate",
    "aiohttp",
    "antlr4",
    "datasets",
    "math_verify",
    "matplotlib",
    "numpy",
    "peft",
    "pyarrow",
    "scipy",
    "sympy",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "vllm",
)


def loaded_after(code: str) -> set[str]:
    """The modules of genprm's and the heavy packages that a fresh process has after some code."""
    show = f"import sys; print(*[m for m in sys.modules if m.startswith('genprm') or m in {HEAVY!r}])"
    answer = subprocess.run(
        [sys.executable, "-c", f"{code}\n{show}"], capture_output=True, text=True, check=True
    )
    return set(answer.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {name.split(".")[1] for name in modules if name.startswith("genprm.")}


def test_importing_genprm_loads_nothing_but_itself() -> None:
    assert loaded_after("import genprm") == {"genprm"}


def test_the_command_line_loads_nothing_heavy() -> None:
    assert not loaded_after("import genprm.cli.main").intersection(HEAVY)


def test_verifying_loads_neither_synthesis_nor_training_nor_runs() -> None:
    code = """
import genprm
steps = ["Step 1: 1 + 1 = 2."]
engine = genprm.ScriptedEngine(lambda request: "Yes")
genprm.verify(engine, "What is 1 + 1?", steps, options=genprm.VerifyConfig(components="direct"))
"""
    loaded = loaded_after(code)
    assert not loaded.intersection(HEAVY)
    unwanted = {"synth", "training", "runs", "search", "evals", "store", "sources", "view", "worlds", "cli"}
    assert packages(loaded) & unwanted <= {"worlds"}, "worlds may register its plugin, and no more"
    assert {name for name in loaded if name.startswith("genprm.worlds")} <= {
        "genprm.worlds",
        "genprm.worlds.arithmetic",
        "genprm.worlds.arithmetic.plugin",
    }


def test_a_trainer_that_asks_a_server_needs_three_packages() -> None:
    """Its environment pins other versions of what the rest of genprm needs (docs/howto/rl-trainers.md)."""
    code = """
import sys
import genprm, genprm.rl.trl, genprm.rl.slime, genprm.rl.settings
scorer = genprm.Scorer("http://127.0.0.1:9", deadline=1)
assert scorer.score_many_sync([("What is 1 + 1?", "Step 1: 1 + 1 = 2.")])[0].score is None
scorer.close()
core = ("pydantic", "yaml", "aiohttp", "typer", "rich", "msgspec", "jinja2", "pygments", "pyarrow", "math_verify",
        "sympy", "numpy", "antlr4")
found = {name for name in core if name in sys.modules}
assert found == {"pydantic", "yaml", "aiohttp"}, found
"""
    loaded_after(code)


@pytest.mark.parametrize("module", sorted(genprm._MODULES))
def test_the_modules_behind_the_public_names_load_nothing_heavy(module: str) -> None:
    assert not loaded_after(f"import {module}").intersection(HEAVY)


def test_every_public_name_is_there_and_typed() -> None:
    """`genprm.__all__`, the table of lazy names and what type checkers see are one list."""
    for name in genprm.__all__:
        assert getattr(genprm, name) is not None
    exported = ast.parse((SOURCE / "_exports.py").read_text())
    typed = {
        alias.asname: f"{node.module}"
        for node in exported.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == genprm._HOMES
    assert set(dir(genprm)) >= set(genprm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'verfy'"):
        _ = genprm.verfy  # type: ignore[attr-defined]


def test_no_package_shares_a_name_with_a_public_name() -> None:
    """Importing a package would put it in the place of the function: `genprm.verify` worked once."""
    entries = {path.name.removesuffix(".py") for path in SOURCE.iterdir()}
    assert not entries.intersection(genprm.__all__)


def test_every_error_class_is_exported() -> None:
    found = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.GenPRMError)
    }
    assert found <= set(genprm.__all__)
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or "")) | {"GenPRMError"}
    assert drawn == found, "the tree in the docstring"


def test_python_dash_m_genprm_is_the_command() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "genprm", "--version"], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == genprm.__version__
    with (ROOT / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["version"] == genprm.__version__


MODULES = {
    "pyyaml": "yaml",
    "math-verify": "math_verify",
    "prometheus-client": "prometheus_client",
    "opentelemetry-api": "opentelemetry",
}
HOSTS = {"areal", "roll", "skyrl", "skyrl_gym", "slime", "verl"}
"""Trainers that call `genprm.rl`, so that they are there when it imports them."""
BROUGHT = {
    "markupsafe": "jinja2",
    "starlette": "fastapi",
    "tokenizers": "transformers",
    "huggingface_hub": "transformers",
}
"""Packages that another one is built on and always brings."""


def dependencies() -> set[str]:
    """Everything that genprm or one of its extras for users of the library installs."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    extras = [
        names for extra, names in project["optional-dependencies"].items() if extra not in ("dev", "docs")
    ]
    wanted = [*project["dependencies"], *(name for names in extras for name in names)]
    return {re.split(r"[\[>=<; ]", one)[0] for one in wanted} - {"genprm"}


def test_every_import_is_a_dependency() -> None:
    imported = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add((node.module or "").partition(".")[0])
    declared = {MODULES.get(name, name) for name in dependencies()}
    declared |= {brought for brought, by in BROUGHT.items() if by in declared}
    assert imported - sys.stdlib_module_names - {"genprm"} - declared == HOSTS


def test_every_dependency_is_imported() -> None:
    names = dependencies()
    listed = (SOURCE / "runs" / "facts.py", SOURCE / "cli" / "doctor.py")
    text = "\n".join(path.read_text() for path in SOURCE.rglob("*.py") if path not in listed)
    for name in sorted(names):
        module = MODULES.get(name, name)
        assert re.search(rf"(?m)^\s*(import|from) {module}\b|[\"']{module}[\"']", text), name


@pytest.mark.parametrize(
    ("cause", "says", "hint"),
    [
        (None, "is not installed", "pip install 'genprm[local]'"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            "is not installed",
            "pip install 'genprm[",
        ),
        (
            ModuleNotFoundError("No module named 'typing_extensions'", name="typing_extensions"),
            "cannot be imported here: No module named 'typing_extensions'",
            "--force-reinstall",
        ),
        (
            ImportError("undefined symbol: cublasLt\nmore"),
            "here: undefined symbol: cublasLt",
            "--force-reinstall",
        ),
        (
            OSError("libcudart.so.12: cannot open shared object file"),
            "libcudart.so.12",
            "--force-reinstall",
        ),
    ],
)
def test_a_package_that_fails_to_import_is_not_called_missing(
    cause: Exception | None, says: str, hint: str
) -> None:
    error = errors.MissingExtraError("torch", "local", "the local engine", cause)
    assert says in error.message and "\n" not in error.message
    assert hint in error.hint
