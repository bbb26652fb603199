"""AReaL: a rollout workflow whose reward waits as long as a verification takes. Read in areal 1.0.4.

AReaL calls a reward function in a pool of processes, gives it 15 seconds and four tries, and then goes on with reward 0
(`areal/api/reward_api.py`). `GenPRMWorkflow` is AReaL's own `RLVRWorkflow` (`areal/workflow/rlvr.py`) that asks the
scorer on its event loop instead:

    PPOTrainer(...).train(workflow="genprm.rl.areal.GenPRMWorkflow", workflow_kwargs={"gconfig": ..., "tokenizer": ...})

It takes the same arguments, `reward_fn` excepted. The problem is the last user turn of `data["messages"]`, or the column
`question`. A trajectory has one reward; AReaL knows none for steps.

Unknown: `arun_episode` returns None, with which AReaL rejects a trajectory.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from genprm.errors import DataError
from genprm.rl import settings
from genprm.serve.dialects.rendered import last_turn, plain


class _Unknown(Exception):
    """Ends an episode whose reward is unknown."""


class Episode:
    """What `GenPRMWorkflow` does differently from `RLVRWorkflow`."""

    tokenizer: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(no_reward, *args, **kwargs)  # type: ignore[call-arg]

    async def arun_episode(self, engine: Any, data: dict[str, Any]) -> dict[str, Any] | None:
        """One trajectory, or None if its reward is unknown."""
        try:
            found: dict[str, Any] = await super().arun_episode(engine, data)  # type: ignore[misc]
        except _Unknown:
            return None
        return found

    async def _compute_rewards(self, resp: Any, prompt_str: str, task_data: dict[str, Any]) -> float:
        problem = task_data.get("question") or last_turn(task_data.get("messages") or [], "user")
        if not problem:
            raise DataError(
                "AReaL's row has no problem", hint="Give 'messages' with a user's turn, or 'question'."
            )
        found = await settings.scorer().score(problem, plain(self.tokenizer.decode(resp.output_tokens)))
        if found.score is None:
            raise _Unknown(found.reason)
        return found.score


def no_reward(*_: Any, **__: Any) -> float:
    """Stands in the place of the reward function that AReaL would call in another process.

    Raises:
        AssertionError: always: nobody calls it.
    """
    raise AssertionError("GenPRMWorkflow has no reward function")


@cache
def workflow() -> type[Any]:
    """The class that AReaL finds as `genprm.rl.areal.GenPRMWorkflow`."""
    from areal.workflow.rlvr import RLVRWorkflow

    return type("GenPRMWorkflow", (Episode, RLVRWorkflow), {"__module__": __name__, "__doc__": __doc__})


def __getattr__(name: str) -> Any:
    if name == "GenPRMWorkflow":
        return workflow()
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
