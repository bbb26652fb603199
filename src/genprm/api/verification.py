"""Verifying solutions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager

from genprm.aio import iterate_sync, run_sync
from genprm.api.given import several
from genprm.api.models import Model, given_section, is_engine, named, opened, shortened, verify_options
from genprm.config import SandboxConfig, VerifyConfig
from genprm.errors import DataError
from genprm.records import StepVerdict, Verification, VerifyItem
from genprm.rewards import StepReward, Verifier, judge_all, raise_if_all_failed
from genprm.rewards.table import is_reward, make_reward
from genprm.text.checked import checked_text
from genprm.text.steps import split_steps

_NO_ITEMS = "these are no items"
_ITEMS_HINT = "Give genprm.VerifyItem objects."


def verify(
    model: Model,
    problem: str,
    steps: Sequence[str] | str,
    *,
    votes: int | None = None,
    options: VerifyConfig | None = None,
    sandbox: SandboxConfig | None = None,
    seed: int = 0,
    on_step: Callable[[StepVerdict], None] | None = None,
) -> Verification:
    """Verify one solution.

    Args:
        model: the verifier: an engine, a server's URL, `builtin:verifier`, a folder or a hub id; the folder of a
            discriminative reward model judges without words.
        problem: the problem x.
        steps: the T paragraphs of the solution, at least one; a text is split into its steps, at `Step k:`, sections,
            paragraphs or lines (see `split_steps`).
        votes: N, the verification paths for each step (equations 6, 7); one unless given.
        options: everything else. What they do not set is as the model's folder says, if it is a packaged model or one
            that genprm trained, given by name or as an engine of this process.
        sandbox: where the verifier's code runs.
        seed: with an engine that honours seeds, equal seeds give equal rewards.
        on_step: called with each verdict as soon as it stands, from another thread.

    Returns:
        One verdict for each step, `first_error`, and the solution's scores.

    Raises:
        ConfigError, DataError: a wrong argument.
        EngineUnavailable, SandboxError: nothing could be verified at all; failures of single votes are in the
            verdicts.
    """
    item = VerifyItem(id="solution", problem=checked_text(problem, "the problem"), steps=as_steps(steps))

    def report(_: str, verdict: StepVerdict) -> None:
        if on_step is not None:
            on_step(verdict)

    chosen = verify_options(model, options, votes=votes)

    async def body() -> list[Verification]:
        async with opened_verifier(model, chosen, sandbox, seed, 256) as verifier:
            return await judge_all(verifier, [item], on_step=report)

    rows = run_sync(body())
    raise_if_all_failed(rows)
    return rows[0]


def verify_many(
    model: Model,
    items: Iterable[VerifyItem],
    *,
    votes: int | None = None,
    options: VerifyConfig | None = None,
    sandbox: SandboxConfig | None = None,
    seed: int = 0,
    concurrency: int = 256,
    progress: Callable[[Verification], None] | None = None,
) -> list[Verification]:
    """Verify many solutions at once; the answer has the items' order. See `verify`.

    Args:
        concurrency: requests in flight.
        progress: called with each verification as it finishes.
    """
    wanted = [checked_item(item) for item in several(items, _NO_ITEMS, _ITEMS_HINT)]
    if len({item.id for item in wanted}) < len(wanted):
        raise DataError(
            "two items have the same id", hint="Results are matched by id: give each item its own."
        )
    found = {}
    for row in verify_stream(
        model, wanted, votes=votes, options=options, sandbox=sandbox, seed=seed, concurrency=concurrency
    ):
        found[row.item_id] = row
        if progress is not None:
            progress(row)
    rows = [found[item.id] for item in wanted]
    raise_if_all_failed(rows)
    return rows


def verify_stream(
    model: Model,
    items: Iterable[VerifyItem],
    *,
    votes: int | None = None,
    options: VerifyConfig | None = None,
    sandbox: SandboxConfig | None = None,
    seed: int = 0,
    concurrency: int = 256,
) -> Iterator[Verification]:
    """Verify any number of solutions and yield each result as it finishes; `items` is read as fast as needed.

    See `verify_many`. Stop iterating at any time: what is in flight is cancelled.
    """
    chosen = verify_options(model, options, votes=votes)
    given = several(items, _NO_ITEMS, _ITEMS_HINT)

    async def stream() -> AsyncIterator[Verification]:
        async with opened_verifier(model, chosen, sandbox, seed, concurrency) as verifier:
            async for row in verifier.judge(map(checked_item, given)):
                yield row

    return iterate_sync(stream())


@asynccontextmanager
async def opened_verifier(
    model: Model, options: VerifyConfig, sandbox: SandboxConfig | None, seed: int, concurrency: int
) -> AsyncIterator[StepReward]:
    """A verifier on a model, or the reward that the model is; what was made for it is closed at the end."""
    sandbox = given_section(sandbox, SandboxConfig, "the sandbox")
    if not is_engine(model) and is_reward(named(model)):
        async with aclosing(make_reward(named(model), options, concurrency)) as reward:
            await reward.check()
            yield reward
        return
    async with (
        opened(model, ("verify.max_tokens", options.max_tokens)) as engine,
        Verifier(
            engine, options=options, sandbox_options=sandbox, seed=seed, concurrency=concurrency
        ) as verifier,
    ):
        yield verifier


def checked_item(item: VerifyItem) -> VerifyItem:
    """The item itself.

    Raises:
        DataError: one of its texts is blank, no text, or holds half of a surrogate pair; or it is no item at all.
    """
    if not isinstance(item, VerifyItem):
        raise DataError(f"an item cannot be {shortened(item)}", hint=_ITEMS_HINT)
    checked_text(item.problem, f"the problem of item '{item.id}'")
    for number, step in enumerate(item.steps, start=1):
        checked_text(step, f"step {number} of item '{item.id}'")
    return item


def as_steps(steps: Sequence[str] | str) -> tuple[str, ...]:
    """Steps as given, or split from a text.

    Raises:
        DataError: no step, a blank one, or one that is not text.
    """
    if isinstance(steps, str):
        found = split_steps(steps)
    else:
        found = tuple(several(steps, "these are no steps", "Give a list of texts, or one text to split."))
    if not found:
        raise DataError("a solution needs at least one step")
    return tuple(checked_text(step, f"step {number}") for number, step in enumerate(found, start=1))
