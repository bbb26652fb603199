"""Calls every public function of genprm twice, and makes or uses every public class twice, in one process.

    python call_everything.py FOLDER

Before the first call every module of the package is imported: no import may put something in a name's place. The table
`CALLS` has exactly the names of `genprm.__all__`. Prints each name as it is done.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import pkgutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "runs"))
import sums

import genprm

OPTIONAL = {"genprm.__main__"}
"""Modules that are a program, and import nothing that others do not."""


def import_all() -> list[str]:
    """Import every module; one whose optional dependency is missing is left out and returned."""
    left_out = []
    for module in pkgutil.walk_packages(genprm.__path__, "genprm."):
        if module.name in OPTIONAL:
            continue
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("genprm"):
                raise
            left_out.append(module.name)
    return left_out


STEPS = ["Step 1: We add the numbers.", "Step 2: The answer is \\boxed{5}."]
PROBLEM = genprm.Problem(id="sum", text="What is 1 + 4?", answer="5")
COMPACT = genprm.VerifyConfig(profile="compact")
PLAIN = genprm.SandboxConfig(tier="plain", workers=1)
SHORT = genprm.SolutionsConfig(max_tokens=50)
TINY_PRM: dict[str, Any] = {"model": "builtin:base", "batch_size": 2}
TINY_RL: dict[str, Any] = {
    "model": "builtin:verifier",
    "verify": {"profile": "compact", "components": "direct", "max_tokens": 20},
}
TINY: dict[str, Any] = {"model": "builtin:base", "batch_size": 1, "max_tokens": 100, "max_length": 512}


class World:
    """What the calls are given: files in a folder, engines, rows."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems = sums.write_problems(folder / "problems.jsonl", 3)
        self.policy, self.verifier = sums.policy(), sums.verifier()
        self.solution = genprm.Solution(id="s", problem_id="sum", steps=tuple(STEPS), answer="5")
        self.item = genprm.VerifyItem(id="s", problem=PROBLEM.text, steps=tuple(STEPS))
        self.verification = genprm.verify(
            self.verifier, PROBLEM.text, STEPS, options=COMPACT, sandbox=PLAIN
        )
        (folder / "run.yaml").write_text("seed: 3\n")
        rows = [{"id": f"r{i}", "problem": PROBLEM.text, "steps": STEPS, "label": -1} for i in range(2)]
        self.solutions = folder / "processbench.jsonl"
        self.solutions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        messages = [
            {"role": "system", "content": "Check the solution step by step."},
            {"role": "user", "content": "Add.\n1 + 1 = 2"},
            {
                "role": "assistant",
                "content": "<analyze>\na\n</analyze>\n<output>\n**Judgement**: $\\boxed{Yes}$\n</output>",
            },
        ]
        self.chat = genprm.TrainingSample.model_validate(
            {"id": "c", "solution_id": "s", "problem_id": "sum", "conversations": messages}
        )
        score = {"correct": 1, "total": 2}
        self.scores = genprm.SolutionScores.model_validate(
            {"solution_id": "s", "problem_id": "sum", "start": score, "steps": [score, score]}
        )
        self.labelled = genprm.LabelledSolution(
            id="l", problem=PROBLEM.text, steps=tuple(STEPS), labels=(True, False)
        )
        self.run = folder / "run"


def pipeline(world: World) -> Any:
    result = genprm.run(sums.config(world.problems), world.run, until="labels")
    return {name: summary.rows for name, summary in result.summaries.items()}


def evaluate(world: World) -> Any:
    verifier = genprm.EngineConfig(kind="sums-verifier")
    config = genprm.RunConfig(verify=COMPACT, sandbox=PLAIN)
    report = genprm.evaluate(
        "processbench", {"gsm8k": world.solutions}, verifier, world.folder / "eval", config=config
    )
    assert report.benchmark is not None
    return report.benchmark.model_dump()


def judged(rows: list[genprm.Verification]) -> list[Any]:
    """What verifications say, whatever they cost."""
    return [(row.item_id, row.first_error, [verdict.reward for verdict in row.verdicts]) for row in rows]


def written(world: World) -> Any:
    path = world.folder / "labelled.jsonl"
    genprm.write_rows([world.labelled], path, layout="stepwise")
    return [row.labels for row in genprm.load_labelled(path)]


def chats(world: World) -> Any:
    path = world.folder / "messages.parquet"
    genprm.write_rows([world.chat], path, layout="messages")
    return [row.conversations for row in genprm.load_chats(path)]


def trained_by_dpo(world: World) -> Any:
    answers = genprm.ScriptedEngine(lambda request: ("Yes}", "No}")[request.sample])
    options = genprm.VerifyConfig(**TINY_RL["verify"], votes=2)
    item = world.item.model_copy(update={"id": world.labelled.id})
    votes = genprm.verify_many(answers, [item], options=options)
    path = world.folder / "votes.jsonl"
    path.write_text(votes[0].model_dump_json() + "\n")
    votes = genprm.load_verifications(path)
    return genprm.train_dpo(votes, [world.labelled], world.folder / "dpo", **TINY_RL).losses


def trained_by_grpo(world: World) -> Any:
    small = {"steps": 1, "solutions": 1, "paths": 2}
    return genprm.train_grpo([world.labelled], world.folder / "grpo", **TINY_RL, **small).rewards


async def use_discriminative(world: World) -> Any:
    genprm.train_prm([world.labelled], world.folder / "prm", **TINY_PRM)
    async with genprm.DiscriminativeReward(str(world.folder / "prm"), device="cpu") as reward:
        assert isinstance(reward, genprm.IncrementalReward)
        (row,) = await genprm.judge_all(reward, [world.item])
        return [verdict.reward for verdict in row.verdicts]


def many(world: World) -> Any:
    items = [world.item, world.item.model_copy(update={"id": "t"})]
    seen: list[genprm.Verification] = []
    rows = genprm.verify_many(world.verifier, items, options=COMPACT, sandbox=PLAIN, progress=seen.append)
    assert {row.item_id for row in seen} == {"s", "t"}
    return judged(rows)


def best_of_n(world: World) -> Any:
    found = genprm.best_of_n(world.policy, world.verifier, PROBLEM, 2, verify=COMPACT, sandbox=PLAIN)
    return [row.choices for row in found]


def refined(world: World) -> Any:
    pairs = [(PROBLEM, world.solution)]
    options = genprm.VerifyConfig(profile="compact", stop_at_first_error=True)
    traces = genprm.refine(world.policy, world.verifier, pairs, turns=1, verify=options, sandbox=PLAIN)
    return [turn.solution.steps for turn in traces[0].turns]


async def use_grader() -> Any:
    async with genprm.Grader(workers=1) as grader:
        return (await grader.equal("1/2", "0.5")).equal


async def use_domain() -> Any:
    async with genprm.MathDomain() as domain:
        return (await domain.grade("5", PROBLEM)).equal


async def use_sandbox(sandbox: genprm.IsolatedSandbox) -> Any:
    async with sandbox:
        assert isinstance(sandbox, genprm.Sandbox)
        session = await sandbox.open()
        return (await session.run("print(2 + 3)")).stdout


async def use_verifier(world: World) -> Any:
    async with genprm.Verifier(world.verifier, options=COMPACT, sandbox_options=PLAIN) as verifier:
        assert isinstance(verifier, genprm.IncrementalReward)
        line = verifier.open(PROBLEM.text)
        assert isinstance(line, genprm.Line)
        verdict = await line.judge(STEPS[0])
        await line.aclose()
        return verdict.reward


async def use_reward() -> Any:
    reward = genprm.ScriptedReward(lambda problem, steps, index: 0.75)
    assert isinstance(reward, genprm.StepReward)
    rows = await genprm.judge_all(reward, [genprm.VerifyItem(id="a", problem="p", steps=("Step 1: s",))])
    return [verdict.reward for verdict in rows[0].verdicts]


async def use_service() -> Any:
    reward = genprm.ScriptedReward(lambda problem, steps, index: 0.75)
    async with genprm.RewardService(reward) as service:
        return (await service.verify("p", STEPS)).verification.score.min


def use_scorer() -> Any:
    scorer = genprm.Scorer(genprm.ScriptedReward(lambda problem, steps, index: 0.75))
    (found,) = scorer.score_many_sync([("p", STEPS)])
    scorer.close()
    assert isinstance(found, genprm.Scored)
    return found.number()


@asynccontextmanager
async def reward_server() -> AsyncIterator[str]:
    """A server with a scripted reward, and its URL."""
    import uvicorn

    from genprm.serve.app import create_app

    service = genprm.RewardService(genprm.ScriptedReward(lambda problem, steps, index: 0.75))
    server = uvicorn.Server(uvicorn.Config(create_app(service), log_level="critical"))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        serving = asyncio.create_task(server.serve([listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


async def use_client() -> Any:
    async with reward_server() as url, genprm.AsyncRewardClient(url) as client:
        found = await client.verify("p", STEPS)
        assert isinstance(found, genprm.Served)
        assert isinstance(found.steps[0], genprm.ServedStep)
        return found.rewards


async def use_blocking_client() -> Any:
    def ask(url: str) -> Any:
        with genprm.RewardClient(url) as client:
            return client.verify("p", STEPS).rewards

    async with reward_server() as url:
        return await asyncio.to_thread(ask, url)


async def ask(engine: genprm.Engine) -> Any:
    assert isinstance(engine, genprm.Engine)
    try:
        params = genprm.SamplingParams(max_tokens=4, temperature=0.0)
        (answer,) = await engine.generate([genprm.Request(prompt="1 + 1 =", params=params)])
        assert isinstance(answer, genprm.Completion)
        return answer.text, type(answer.error).__name__
    finally:
        await engine.aclose()


async def closed(engine: genprm.Engine) -> Any:
    await engine.aclose()
    return engine.describe()["kind"]


def vllm() -> Any:
    try:
        return asyncio.run(closed(genprm.VllmEngine("org/model")))
    except genprm.MissingExtraError as error:
        return error.extra


def run_async(call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
    return asyncio.run(call(*arguments))


def error(name: str) -> Callable[[World], Any]:
    """Raise an error, catch it by its root, and read what it says."""

    def call(_: World) -> Any:
        kind = getattr(genprm, name)
        arguments = ("module", "train", "training") if name == "MissingExtraError" else ("it went wrong",)
        try:
            raise kind(*arguments)
        except genprm.GenPRMError as caught:
            return type(caught).__name__, caught.message, caught.retryable

    return call


ERRORS = [name for name in genprm.__all__ if isinstance(getattr(genprm, name), type)
          and issubclass(getattr(genprm, name), genprm.GenPRMError)]  # fmt: skip
LOCAL: dict[str, Any] = {"device": "cpu", "threads": 1, "deterministic": True}

CALLS: dict[str, Callable[[World], Any]] = {
    "__version__": lambda _: genprm.__version__,
    "NO_ERROR": lambda _: genprm.NO_ERROR,
    # functions
    "verify": lambda w: judged(
        [genprm.verify(w.verifier, PROBLEM.text, STEPS, votes=2, options=COMPACT, sandbox=PLAIN)]
    ),
    "verify_many": many,
    "verify_stream": lambda w: judged(
        list(genprm.verify_stream(w.verifier, [w.item], options=COMPACT, sandbox=PLAIN))
    ),
    "best_of_n": best_of_n,
    "refine": refined,
    "sample": lambda _: [row.steps for row in genprm.sample("builtin:policy", PROBLEM, 2, options=SHORT)],
    "label": lambda w: genprm.label([w.scores]),
    "run": pipeline,
    "train": lambda w: genprm.train([w.chat], w.folder / "model", verify=COMPACT, **TINY).losses,
    "train_prm": lambda w: genprm.train_prm([w.labelled], w.folder / "prm", **TINY_PRM).losses,
    "train_grpo": trained_by_grpo,
    "train_dpo": trained_by_dpo,
    "load_verifications": trained_by_dpo,
    "load_labelled": written,
    "load_chats": chats,
    "write_rows": written,
    "decontaminate": lambda _: list(genprm.decontaminate([PROBLEM, PROBLEM], {}, near_duplicates=0.8)),
    "evaluate": evaluate,
    "verdict_table": lambda w: genprm.verdict_table(w.verification),
    "judge_all": lambda _: run_async(use_reward),
    "make_engine": lambda _: run_async(
        ask, genprm.make_engine("scripted", respond=lambda request: request.prompt or "")
    ),
    "extract_answer": lambda _: genprm.extract_answer("So it is \\boxed{5}."),
    "split_steps": lambda _: genprm.split_steps("\n\n".join(STEPS)),
    "open_sandbox": lambda _: run_async(use_sandbox, genprm.open_sandbox("plain", workers=1)),
    "load_problems": lambda w: genprm.load_problems(
        w.problems, columns={"id": "n", "text": "q", "answer": "gold"}
    ),
    "load_solutions": lambda w: genprm.load_solutions(w.solutions),
    "load_config": lambda w: genprm.load_config(
        w.folder / "run.yaml", ["label.ratio=0.7"], model=genprm.RunConfig
    ),
    # protocols and what follows them
    "StepReward": lambda _: run_async(use_reward),
    "IncrementalReward": lambda w: run_async(use_verifier, w),
    "Line": lambda w: run_async(use_verifier, w),
    "Verifier": lambda w: run_async(use_verifier, w),
    "DiscriminativeReward": lambda w: run_async(use_discriminative, w),
    "ScriptedReward": lambda _: run_async(use_reward),
    "RewardService": lambda _: run_async(use_service),
    "AsyncRewardClient": lambda _: run_async(use_client),
    "RewardClient": lambda _: run_async(use_blocking_client),
    "Scored": lambda _: use_scorer(),
    "Scorer": lambda _: use_scorer(),
    "Served": lambda _: run_async(use_client),
    "ServedStep": lambda _: run_async(use_client),
    "RewardFacts": lambda _: genprm.RewardFacts(kind="scripted", name="mine"),
    "Engine": lambda _: run_async(ask, genprm.ScriptedEngine(lambda request: "2")),
    "Completion": lambda _: genprm.Completion(text="a", finish_reason="stop"),
    "Request": lambda _: genprm.Request(prompt="p"),
    "SamplingParams": lambda _: genprm.SamplingParams(temperature=0.0),
    "Scripted": lambda _: genprm.Scripted("{Yes}", (0.6,)),
    "ScriptedEngine": lambda _: run_async(ask, genprm.ScriptedEngine(lambda request: "2", name="mine")),
    "HttpEngine": lambda _: run_async(ask, genprm.HttpEngine("http://127.0.0.1:9", retries=0)),
    "LocalEngine": lambda _: run_async(ask, genprm.LocalEngine("builtin:policy", **LOCAL)),
    "ReplicatedEngine": lambda _: run_async(closed, genprm.ReplicatedEngine("builtin:policy", replicas=1)),
    "VllmEngine": lambda _: vllm(),
    "Grader": lambda _: run_async(use_grader),
    "MathDomain": lambda _: run_async(use_domain),
    "Sandbox": lambda _: run_async(use_sandbox, genprm.IsolatedSandbox("plain", workers=1)),
    "IsolatedSandbox": lambda _: run_async(use_sandbox, genprm.IsolatedSandbox("plain", workers=1)),
    "RunReader": lambda w: [row.id for row in genprm.RunReader(w.run).rows("solutions")],
    # sections and records
    "DpoConfig": lambda _: genprm.DpoConfig(model="m"),
    "GrpoConfig": lambda _: genprm.GrpoConfig(model="m"),
    "EngineConfig": lambda _: genprm.EngineConfig(kind="http", options={"model": "m"}),
    "ExecutorConfig": lambda _: genprm.ExecutorConfig(kind="ray"),
    "LabelConfig": lambda _: genprm.LabelConfig(method="hard").threshold,
    "PrmConfig": lambda _: genprm.PrmConfig(model="m"),
    "RefineConfig": lambda _: genprm.RefineConfig(turns=1),
    "RunConfig": lambda _: genprm.RunConfig(seed=1),
    "SamplingConfig": lambda _: genprm.SamplingConfig(top_k=1),
    "SandboxConfig": lambda _: genprm.SandboxConfig(workers=1),
    "ServeConfig": lambda _: genprm.ServeConfig(port=1),
    "SolutionsConfig": lambda _: genprm.SolutionsConfig(per_class=1),
    "TrainConfig": lambda _: genprm.TrainConfig(model="m"),
    "VerifyConfig": lambda _: genprm.VerifyConfig(votes=2),
    "Problem": lambda _: genprm.Problem(id="a", text="t"),
    "Solution": lambda _: genprm.Solution(id="a", problem_id="p", steps=("s",)),
    "LabelledSolution": lambda w: w.labelled.first_error,
    "SolutionLabels": lambda w: genprm.SolutionLabels.model_validate(
        genprm.label([w.scores])[0].model_dump()
    ),
    "SolutionScores": lambda w: genprm.SolutionScores.model_validate(w.scores.model_dump()),
    "StepVerdict": lambda _: genprm.StepVerdict(step=0, reward=0.5, judgement=True),
    "TrainingSample": lambda w: genprm.TrainingSample.model_validate(w.chat.model_dump()),
    "Verification": lambda w: genprm.Verification.model_validate(w.verification.model_dump()),
    "VerifyItem": lambda w: genprm.VerifyItem.model_validate(w.item.model_dump()),
    "Vote": lambda _: genprm.Vote(reward=0.5, judgement=True),
    "Selection": lambda _: genprm.Selection(problem_id="p", candidates=("a",), choices={}),
    "RefinementTrace": lambda w: genprm.RefinementTrace.model_validate(
        {
            "problem_id": "p",
            "solution_id": "s",
            "mode": "self",
            "turns": [{"turn": 0, "solution": w.solution.model_dump()}],
        }
    ),
    "Report": lambda _: (
        genprm.Report.model_validate(json.loads((_.folder / "eval" / "report.json").read_text())).title
    ),
    **{name: error(name) for name in ERRORS},
}


def main() -> None:
    left_out = import_all()
    print("without", *left_out)
    assert CALLS.keys() == set(genprm.__all__), CALLS.keys() ^ set(genprm.__all__)
    sums.register()
    world = World(Path(sys.argv[1]))
    for name, call in CALLS.items():
        first = call(world)
        second = call(world)
        assert first == second, (name, first, second)
        assert first is not None, name
        print("twice", name, flush=True)


if __name__ == "__main__":
    main()
