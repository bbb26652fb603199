"""SkyRL: an environment, a generator that puts step rewards at tokens, and an advantage estimator.

Read in skyrl-gym 0.4.0 (`envs/base_text_env.py`, `envs/registration.py`) and skyrl 0.4.0
(`train/generators/skyrl_gym_generator.py`, `train/trainer.py`, `backends/skyrl_train/utils/ppo_utils.py`).

- `GenPRMEnv`: `step(action)` verifies the response and ends the episode. Its `reward` is the score, because a SkyRL
  environment has no tokens; step rewards and what is unknown are left in `extras["genprm"]` for the generator.
- `step_generator()` is a `SkyRLGymGenerator` that overrides the hook `_post_process_agent_loop_output`: rewards become a
  list with one number per response token, which SkyRL takes as it is (`rewards: list[list[float]]`).
- The estimator `genprm` (`trainer.algorithm.advantage_estimator`) is `genprm.rl.advantages`; `register()` adds it and the
  environment.

Unknown: a SkyRL reward must be a number, and a group's mean would hold it. So an unknown one is NaN, which the estimator
`genprm` leaves out, and the generator takes the response out of the loss mask as well. An environment without the
generator raises instead.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

from genprm.errors import DataError
from genprm.rl import settings
from genprm.rl.advantages import marked, token_advantages
from genprm.rl.credit import learnable, place, step_credits
from genprm.rl.scorer import Scored
from genprm.rl.tokens import decoder, step_ends, token_ends
from genprm.serve.dialects.rendered import plain, question_of
from genprm.text.spans import step_spans

NAME = "genprm"
"""Of the environment (`env_class`) and of the estimator."""
_KEY, _TOKENS = "genprm", "genprm_tokens"


def register() -> None:
    """Make SkyRL know the environment and the estimator; call it before the trainer is made."""
    import skyrl_gym
    from skyrl.backends.skyrl_train.utils.ppo_utils import AdvantageEstimatorRegistry
    from skyrl_gym.envs.registration import registry

    if NAME not in registry:
        skyrl_gym.register(id=NAME, entry_point="genprm.rl.skyrl:GenPRMEnv")
    if NAME not in AdvantageEstimatorRegistry.list_available():
        AdvantageEstimatorRegistry.register(NAME, advantages)


class Episode:
    """What the environment does; `GenPRMEnv` is this and a `BaseTextEnv`.

    Args:
        env_config: `environment.skyrl_gym.genprm` of SkyRL's config; `url` in it names the server, instead of
            `GENPRM_URL`.
        extras: the row's columns. `question` is the problem, if there is such a column; else the prompt's last user turn.
    """

    def __init__(self, env_config: Any = None, extras: dict[str, Any] | None = None) -> None:
        super().__init__()
        self._url = (env_config or {}).get("url")
        self._extras = {} if extras is None else extras
        self._problem = self._extras.get("question")
        self._found: Scored | None = None

    def init(self, prompt: list[dict[str, str]]) -> tuple[list[dict[str, str]], dict[str, Any]]:
        """The prompt as it is; its last user turn is the problem unless a column is."""
        self._problem = self._problem or question_of(prompt)
        return prompt, {}

    def step(self, action: str) -> dict[str, Any]:
        """Verify a response.

        Raises:
            DataError: neither a column nor a prompt holds a problem.
            UnknownReward: there is no score, and no generator of ours that could leave the response out.
        """
        if not self._problem:
            raise DataError("SkyRL's row has no problem", hint="Give a column 'question', or a prompt.")
        scorer = settings.scorer(self._url)
        self._found = scorer.score_many_sync([(self._problem, plain(action))])[0]
        self._extras[_KEY] = self._found
        unknown = math.nan if self._extras.get(_TOKENS) else settings.unknown_number()
        reward = self._found.number(unknown)
        metadata = {"step_rewards": list(self._found.rewards), "unknown": self._found.unknown}
        return {"observations": [], "reward": reward, "done": True, "metadata": metadata}

    def close(self) -> None:
        """Nothing to close: the scorer is the process's."""

    def get_metrics(self) -> dict[str, Any]:
        """Whether the score is unknown, as a number that SkyRL averages."""
        return {"genprm_unknown": float(self._found is not None and self._found.unknown is not None)}

    @staticmethod
    def aggregate_metrics(metrics: list[dict[str, Any]]) -> dict[str, Any]:
        """Means over the episodes."""
        names = sorted({name for row in metrics for name in row})
        return {name: math.fsum(row.get(name, 0.0) for row in metrics) / len(metrics) for name in names}


@cache
def environment() -> type[Any]:
    """The class that SkyRL finds as `genprm.rl.skyrl:GenPRMEnv`."""
    from skyrl_gym.envs.base_text_env import BaseTextEnv

    return type("GenPRMEnv", (Episode, BaseTextEnv), {"__module__": __name__, "__doc__": Episode.__doc__})


def __getattr__(name: str) -> Any:
    if name == "GenPRMEnv":
        return environment()
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def step_generator() -> type[Any]:
    """The class of a `SkyRLGymGenerator` with step rewards, to be made and used like it."""
    from skyrl.train.generators import SkyRLGymGenerator

    class StepGenerator(SkyRLGymGenerator):  # type: ignore[misc]
        """Rewards at the tokens that end steps, and a loss mask without what is unknown."""

        def _setup_env_extras(
            self, env_class: str, env_extras: dict[str, Any], *rest: Any
        ) -> dict[str, Any]:
            given: dict[str, Any] = super()._setup_env_extras(env_class, env_extras, *rest)
            return {**given, _TOKENS: True} if env_class == NAME else given

        def _post_process_agent_loop_output(
            self, agent_loop_output: Any, env_extras: dict[str, Any], trajectory_id: Any
        ) -> Any:
            found = env_extras.get(_KEY)
            if found is not None:
                last = getattr(agent_loop_output, "step_outputs", [agent_loop_output])[-1]
                place_steps(last, found, self.tokenizer)
            return super()._post_process_agent_loop_output(agent_loop_output, env_extras, trajectory_id)

    return StepGenerator


def place_steps(output: Any, found: Scored, tokenizer: Any) -> None:
    """Put a response's step rewards into SkyRL's `TrajectoryOutput`: `reward` per token, and `loss_mask`.

    Args:
        output: has `response_ids`, `reward` and `loss_mask`, which is 0 after this where the return is unknown.
        found: the verification of the response's text.
        tokenizer: of the policy.
    """
    ids = output.response_ids
    text = decoder(tokenizer)(ids)
    if found.steps:
        ends = step_ends(token_ends(tokenizer, ids), step_spans(text, found.steps))
        given = step_credits(found.rewards, settings.credit_rule())
        output.reward = marked(place(given, ends, len(ids)), ends)
        known = learnable(given, ends, len(ids))
    else:
        output.reward = [0.0] * (len(ids) - 1) + [math.nan] if ids else []
        known = [False] * len(ids)
    output.loss_mask = [mask * keep for mask, keep in zip(output.loss_mask, known, strict=True)]


def advantages(
    token_level_rewards: Any, response_mask: Any, index: Any, grpo_norm_by_std: bool = True, **_: Any
) -> tuple[Any, Any]:
    """The estimator `genprm`: advantages and returns, equal tensors (B, T). See `genprm.rl.advantages`."""
    found = token_advantages(token_level_rewards, response_mask, index, by_deviation=grpo_norm_by_std)
    return found, found
