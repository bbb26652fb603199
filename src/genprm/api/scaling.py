"""Test-time scaling of a policy: sampling, Best-of-N, refinement."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from genprm.aio import run_sync
from genprm.api.given import several
from genprm.api.models import Model, checked, given_section, opened, shortened, verify_options
from genprm.api.verification import opened_verifier
from genprm.config import RefineConfig, SandboxConfig, SolutionsConfig, VerifyConfig
from genprm.domains import load_domain
from genprm.engines import Engine
from genprm.errors import ConfigError, ContextOverflow, DataError, EngineUnavailable
from genprm.records import Problem, RefinementTrace, Selection, Solution, StageOutput, VerifyItem
from genprm.rewards import judge_all, raise_if_all_failed
from genprm.rewards.faults import fault_hint
from genprm.search.refinement import fault_of, refine_with_critic, self_refine
from genprm.search.selection import choose
from genprm.synth.solutions import sample_solutions
from genprm.text.checked import checked_text
from genprm.text.prompts import PolicyProfile, load_profile

Problems = Sequence[Problem | str] | Problem | str
"""Problems or their texts, or one of them."""

_PROBLEMS_HINT = "Give texts or genprm.Problem objects; genprm.load_problems reads them from a file."


def sample(
    policy: Model,
    problems: Problems,
    n: int = 1,
    *,
    options: SolutionsConfig | None = None,
    seed: int = 0,
    domain: str = "math",
    concurrency: int = 256,
) -> list[Solution]:
    """`n` solutions of a policy for every problem, with step forcing (method, part 1).

    Args:
        policy: an engine, a server's URL, `builtin:policy`, a folder or a hub id.
        problems: a reference answer is not needed; without one `Solution.correct` is None.
        options: sampling, token budget, prompt profile.

    Returns:
        The solutions in the problems' order. An empty completion gives none; one that is cut or has no answer
        is marked `invalid`.

    Raises:
        ConfigError, DataError: a wrong argument.
        EngineUnavailable: the engine failed on all samples of a problem.
    """

    chosen = _sampling(options)

    async def body() -> list[Solution]:
        async with opened(policy, ("solutions.max_tokens", chosen.max_tokens)) as engine:
            return await _sample(engine, as_problems(problems), n, chosen, seed, domain, concurrency)

    return run_sync(body())


def best_of_n(
    policy: Model,
    verifier: Model,
    problems: Problems,
    n: int = 8,
    *,
    votes: int | None = None,
    options: SolutionsConfig | None = None,
    verify: VerifyConfig | None = None,
    sandbox: SandboxConfig | None = None,
    seed: int = 0,
    domain: str = "math",
    concurrency: int = 256,
) -> list[Selection]:
    """Sample `n` solutions of every problem, verify them, and choose (method, policy test-time scaling).

    Args:
        policy, verifier: see `sample` and `genprm.verify`.
        votes: verification paths for each step.
        options, verify: of the sampling and of the verification, which judges all steps.

    Returns:
        For every problem what each rule chooses: by solution score, by majority, by weighted majority.
    """
    chosen = verify_options(verifier, verify, votes=votes, stop_at_first_error=False)
    sampling = _sampling(options)

    async def body() -> list[Selection]:
        wanted = as_problems(problems)
        async with opened(policy, ("solutions.max_tokens", sampling.max_tokens)) as engine:
            solutions = await _sample(engine, wanted, n, sampling, seed, domain, concurrency)
        texts = {problem.id: problem.text for problem in wanted}
        items = [
            VerifyItem(id=row.id, problem=texts[row.problem_id], steps=row.steps, problem_id=row.problem_id)
            for row in solutions
        ]
        async with opened_verifier(verifier, chosen, sandbox, seed, concurrency) as reward:
            rows = await judge_all(reward, items)
        raise_if_all_failed(rows)
        scores = {row.item_id: row.score for row in rows}
        pools: dict[str, list[Solution]] = {problem.id: [] for problem in wanted}
        for row in solutions:
            pools[row.problem_id].append(row)
        subject = load_domain(domain)
        try:
            return [
                choose(
                    problem,
                    pool,
                    [scores[row.id] for row in pool],
                    await subject.vote_classes([row.answer for row in pool]),
                )
                for problem, pool in pools.items()
            ]
        finally:
            await subject.aclose()

    return run_sync(body())


def refine(
    policy: Model,
    verifier: Model | None,
    pairs: Iterable[tuple[Problem, Solution]],
    *,
    turns: int | None = None,
    votes: int | None = None,
    options: RefineConfig | None = None,
    verify: VerifyConfig | None = None,
    profile: str = "policy",
    sandbox: SandboxConfig | None = None,
    seed: int = 0,
    domain: str = "math",
    concurrency: int = 256,
    progress: Callable[[RefinementTrace], None] | None = None,
) -> list[RefinementTrace]:
    """Refine solutions over turns with the verifier as critic (method, policy test-time scaling).

    Args:
        verifier: the critic; None for the baseline in which the policy looks again by itself.
        pairs: problems with the solutions to start from, for example from `sample`.
        turns: T; three unless given.
        profile: the policy's prompt profile.
        progress: called with each trace at the end.

    Returns:
        One trace for each pair, with turns 0 to T. Faults are reasons in the turns.

    Raises:
        ConfigError, DataError: a wrong argument.
        EngineUnavailable, ContextOverflow: a fault met every trace, and nothing was rewritten.
    """
    refining = given_section(options, RefineConfig, "the options of refinement") or RefineConfig()
    _check_concurrency(concurrency)
    if turns is not None:
        refining = checked(RefineConfig, {**refining.model_dump(), "turns": turns})
    asked = load_profile(profile, PolicyProfile)
    given = _checked_pairs(pairs)

    async def body() -> list[RefinementTrace]:
        subject = load_domain(domain)
        try:
            async with opened(policy, ("refine.max_tokens", refining.max_tokens)) as writer:
                if verifier is None:
                    return await self_refine(
                        given, writer, subject, refining, seed=seed, profile=asked, concurrency=concurrency
                    )
                chosen = verify_options(verifier, verify, votes=votes, stop_at_first_error=True)
                async with opened_verifier(verifier, chosen, sandbox, seed, concurrency) as critic:
                    return await refine_with_critic(
                        given,
                        writer,
                        critic,
                        subject,
                        refining,
                        seed=seed,
                        profile=asked,
                        concurrency=concurrency,
                    )
        finally:
            await subject.aclose()

    traces = run_sync(body())
    _raise_if_nothing_was_refined(traces)
    for trace in traces:
        if progress is not None:
            progress(trace)
    return traces


def _check_concurrency(concurrency: int) -> None:
    if concurrency < 1:
        raise ConfigError(
            f"concurrency must be at least 1, not {concurrency}", hint="It counts the requests in flight."
        )


def _sampling(options: SolutionsConfig | None) -> SolutionsConfig:
    return given_section(options, SolutionsConfig, "the options of sampling") or SolutionsConfig()


def as_problems(problems: Problems) -> list[Problem]:
    """Problems as a list; a text becomes a problem without a reference answer.

    Raises:
        DataError: no problems at all, an empty text, or two problems with the same id.
    """
    if isinstance(problems, str):
        return [Problem(id="problem", text=checked_text(problems, "the problem"))]
    given = (
        [problems]
        if isinstance(problems, Problem)
        else several(problems, "these are no problems", _PROBLEMS_HINT)
    )
    wanted = [
        Problem(id=f"problem-{number}", text=checked_text(one, f"problem {number}"))
        if isinstance(one, str)
        else _checked_problem(one)
        for number, one in enumerate(given)
    ]
    if len({problem.id for problem in wanted}) < len(wanted):
        raise DataError(
            "two problems have the same id", hint="Results are matched by id: give each problem its own."
        )
    return wanted


def _checked_pairs(pairs: object) -> list[tuple[Problem, Solution]]:
    """The pairs as a list, which can be read more than once. Raises `DataError` if one is none."""
    hint = "Give (problem, solution) pairs of genprm.Problem and genprm.Solution objects."
    found: list[tuple[Problem, Solution]] = []
    for place, pair in enumerate(several(pairs, "these are no pairs", hint), start=1):
        if not isinstance(pair, tuple | list) or len(pair) != 2 or not isinstance(pair[1], Solution):
            raise DataError(f"pair {place} is no problem with a solution: {shortened(pair)}", hint=hint)
        problem, solution = pair
        for number, step in enumerate(solution.steps, start=1):
            checked_text(step, f"step {number} of the solution '{solution.id}'")
        if _checked_problem(problem).id != solution.problem_id:
            raise DataError(
                f"pair {place} has the problem '{problem.id}', but its solution '{solution.id}' is of the problem "
                f"'{solution.problem_id}'",
                hint="Find each solution's problem by its id: {p.id: p for p in problems}[solution.problem_id].",
            )
        found.append((problem, solution))
    return found


def _checked_problem(problem: Problem) -> Problem:
    """The problem itself. Raises `DataError` if it is none, or if a text of it is none that a file can hold."""
    if not isinstance(problem, Problem):
        raise DataError(f"a problem cannot be {shortened(problem)}", hint=_PROBLEMS_HINT)
    checked_text(problem.text, f"the problem '{problem.id}'")
    if problem.answer:
        checked_text(problem.answer, f"the answer of the problem '{problem.id}'")
    return problem


def _raise_if_nothing_was_refined(traces: Sequence[RefinementTrace]) -> None:
    faults = [fault_of(trace) for trace in traces if not any(turn.changed for turn in trace.turns)]
    first = faults[0] if faults else None
    if first is None or None in faults or len(faults) < len(traces):
        return
    kind, detail, retryable = first
    told = f"nothing could be refined: {kind}: {detail}"
    if kind == ContextOverflow.__name__:
        raise ContextOverflow(told, hint="Lower refine.max_tokens: genprm.RefineConfig(max_tokens=...).")
    raise EngineUnavailable(told, hint=fault_hint(kind, retryable=retryable), retryable=retryable)


async def _sample(
    engine: Engine,
    problems: list[Problem],
    n: int,
    options: SolutionsConfig,
    seed: int,
    domain: str,
    concurrency: int,
) -> list[Solution]:
    if type(n) is not int or n < 1:
        raise ConfigError(
            f"n must be at least 1, not {shortened(n)}", hint="It counts the solutions of each problem."
        )
    _check_concurrency(concurrency)
    subject = load_domain(domain)
    try:
        made: StageOutput[Solution] = await sample_solutions(
            problems, engine, subject, n, options, seed=seed, concurrency=concurrency
        )
    finally:
        await subject.aclose()
    if made.lost:
        first = made.lost[0]
        told = f"{len(made.lost)} of {len(problems)} problems could not be sampled: {first.detail}"
        if first.reason == ContextOverflow.__name__:
            raise ContextOverflow(told, hint="Lower max_tokens: genprm.SolutionsConfig(max_tokens=...).")
        hint = "Check the engine with 'genprm doctor --url URL'."
        raise EngineUnavailable(told, hint=hint, retryable=first.retryable)
    return list(made.rows)
