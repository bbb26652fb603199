"""trl's `GRPOTrainer` on rollouts made here, with an advantage for each token instead of each completion.

Read in trl 1.16: `rollout_func` gives token ids and a mask (`env_mask`) for a batch of prompts, one per row; the loss
takes advantages of the shape [rows, tokens] if a subclass provides them. `environment_factory` is no way here: it asks
for tool calls in the chat template's own form, and a verifier's code stands in its text. A prompt in the data set is
only the number of a solution, since rows carry nothing else to the rollouts.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genprm.aio import derive_seed, run_sync
from genprm.config import GrpoConfig
from genprm.engines.local import LocalEngine
from genprm.errors import ContextOverflow, TrainingError
from genprm.records import LabelledSolution
from genprm.training.finite import require_finite_loss
from genprm.training.models import Loaded
from genprm.training.rl.credit import OUTCOMES, advantages
from genprm.training.rl.rollout import Roller, Rollout
from genprm.training.rl.shared import arguments, trainer_like


@dataclass(frozen=True, slots=True)
class StepFigures:
    """What the rollouts of one optimizer step were.

    Attributes:
        step: from 1, of `total`.
        reward: mean reward of the turns with one; None if there was none.
        outcomes: turns by outcome, see `genprm.training.rl.credit`.
        tokens: that the model wrote and that carried the loss.
        contrasts: steps of solutions on which the paths of a group were rewarded unlike each other; only these teach
            anything.
    """

    step: int
    total: int
    reward: float | None
    outcomes: Mapping[str, int]
    tokens: int
    contrasts: int


@dataclass
class GrpoJob:
    """Everything that one job needs.

    Attributes:
        plan: for each optimizer step the numbers of its solutions.
        engine: runs copies of the weights that are being trained.
        checkpoints: folder for them.
    """

    loaded: Loaded
    solutions: Sequence[LabelledSolution]
    plan: Sequence[Sequence[int]]
    options: GrpoConfig
    engine: LocalEngine
    roller: Roller
    checkpoints: Path
    seed: int
    on_step: Callable[[StepFigures], None]

    async def aclose(self) -> None:
        """End engine and sandbox."""
        await self.engine.aclose()
        if self.roller.context.sandbox is not None:
            await self.roller.context.sandbox.aclose()


def make_trainer(job: GrpoJob) -> Any:
    """The trainer of a job, before its first step."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOTrainer

    class VerifierTrainer(trainer_like(GRPOTrainer, job.options, len(job.plan))):  # type: ignore[misc]
        """Rolls out verification paths, and rewards each of their turns by itself."""

        def __init__(self) -> None:
            self.groups: list[list[Rollout]] = []
            super().__init__(
                model=job.loaded.model,
                reward_funcs=_mean_reward,
                args=_arguments(job),
                train_dataset=Dataset.from_dict(
                    {"prompt": [str(number) for step in job.plan for number in step]}
                ),
                processing_class=job.loaded.tokenizer,
                peft_config=job.loaded.adapters,
                rollout_func=self.roll_out,
            )
            self.remove_callback(PrinterCallback)

        def roll_out(self, prompts: list[str], _: Any) -> dict[str, list[Any]]:
            """See `rollout_func` of trl: `prompts` has every solution's number once per path."""
            paths = job.options.paths
            wanted = [job.solutions[int(number)] for number in prompts[::paths]]
            step = self.state.global_step
            with trained_weights(self.accelerator.unwrap_model(self.model)) as weights:
                job.engine.take_weights(weights)
            self.groups = run_sync(job.roller.roll_out(wanted, derive_seed(job.seed, "rollout", step)))
            _require_some(self.groups, step + 1)
            rows = [rollout for group in self.groups for rollout in group]
            return {
                "prompt_ids": [
                    list(row.ids[: row.start]) or [self._tokenizer.pad_token_id] for row in rows
                ],
                "completion_ids": [list(row.ids[row.start :]) for row in rows],
                "logprobs": [[0.0] * (len(row.ids) - row.start) for row in rows],  # read with vLLM alone
                "env_mask": [mask_of(row) for row in rows],
                "step_rewards": [[one.value for one in row.credits] for row in rows],
            }

        def _generate_and_score_completions(self, inputs: Any) -> Any:
            import torch

            batch = super()._generate_and_score_completions(inputs)
            rows = [row for group in self.groups for row in token_advantages(group)]
            width = batch["completion_ids"].shape[1]
            padded = [row + [0.0] * (width - len(row)) for row in rows]
            batch["advantages"] = torch.tensor(padded, device=batch["advantages"].device)
            return batch

        def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
            if "loss" not in logs:  # the summary at the end
                super().log(logs, start_time)
                return
            require_finite_loss(logs["loss"], self.state.global_step)
            found = figures(self.groups, self.state.global_step, len(job.plan))
            kept: dict[str, float | None] = {
                f"genprm_{name}": value for name, value in found.outcomes.items()
            }
            kept |= {
                "genprm_reward": found.reward,
                "genprm_tokens": found.tokens,
                "genprm_contrasts": found.contrasts,
            }
            super().log({**logs, **kept}, start_time)
            job.on_step(found)

    with warnings.catch_warnings():
        # That `rollout_func` may change is why trl is pinned.
        warnings.filterwarnings("ignore", message=".*rollout_func", category=UserWarning)
        return VerifierTrainer()


def mask_of(rollout: Rollout) -> list[int]:
    """1 for each token of the completion that carries the loss: written by the model, in a turn with a known reward."""
    known = {step for step, one in enumerate(rollout.credits) if one.value is not None}
    return [int(step in known) for step in rollout.steps[rollout.start :]]


def token_advantages(group: Sequence[Rollout]) -> list[list[float]]:
    """For each rollout of a group the advantage of each token of its completion; 0 where the mask is.

    The turns of one step are compared with each other, whatever the paths had written before.
    """
    by_step = [advantages(rewards) for rewards in rewards_by_step(group)]
    return [
        [(by_step[step][row] or 0.0) if step >= 0 else 0.0 for step in rollout.steps[rollout.start :]]
        for row, rollout in enumerate(group)
    ]


def rewards_by_step(group: Sequence[Rollout]) -> list[list[float | None]]:
    """For each step of a solution the rewards of the group's turns on it; None for paths that have none there."""
    return [
        [row.credits[step].value if step < len(row.credits) else None for row in group]
        for step in range(max(len(row.credits) for row in group))
    ]


def figures(groups: Sequence[Sequence[Rollout]], step: int, total: int) -> StepFigures:
    """The figures of an optimizer step's rollouts."""
    rows = [rollout for group in groups for rollout in group]
    turns = [one for rollout in rows for one in rollout.credits]
    known = [one.value for one in turns if one.value is not None]
    return StepFigures(
        step=step,
        total=total,
        reward=math.fsum(known) / len(known) if known else None,
        outcomes={name: sum(one.outcome == name for one in turns) for name in OUTCOMES},
        tokens=sum(sum(mask_of(rollout)) for rollout in rows),
        contrasts=sum(
            len({value for value in rewards if value is not None}) > 1
            for group in groups
            for rewards in rewards_by_step(group)
        ),
    )


@contextmanager
def trained_weights(model: Any) -> Any:
    """The weights of a model by their names; adapters are added to what they adapt, which itself stays as it is."""
    import torch

    if not hasattr(model, "peft_config"):
        yield dict(model.named_parameters())
        return
    from peft.tuners.lora import LoraLayer

    base = model.get_base_model()
    found = {
        name.replace(".base_layer.", "."): parameter
        for name, parameter in base.named_parameters()
        if ".lora_" not in name
    }
    with torch.no_grad():
        for name, module in base.named_modules():
            if isinstance(module, LoraLayer):
                weight = module.get_base_layer().weight
                found[f"{name}.weight"] = weight + module.get_delta_weight("default").to(weight.dtype)
    yield found


def _mean_reward(*, step_rewards: Sequence[Sequence[float | None]], **_: Any) -> list[float | None]:
    """Each path's mean reward, None if it has none: for trl's figures; `token_advantages` decides what is learned."""
    known = [[value for value in row if value is not None] for row in step_rewards]
    return [math.fsum(row) / len(row) if row else None for row in known]


def _require_some(groups: Sequence[Sequence[Rollout]], step: int) -> None:
    """Raise if faults have taken every turn of a step: an outage, from which nothing can be learned."""
    turns = [one for group in groups for rollout in group for one in rollout.credits]
    if all(one.outcome == "lost" for one in turns):
        raise TrainingError(
            f"every rollout of step {step} was lost: {turns[0].reason}", hint=_remedy(turns[0].reason)
        )


def _remedy(reason: str) -> str:
    """What helps against a fault that took all turns; `reason` begins with its error class (`failure_text`)."""
    if reason.startswith(f"{ContextOverflow.__name__}: "):
        return (
            "Prompt and answer must fit max_length tokens together, and the model's context: raise max_length, lower "
            "verify.max_tokens, or leave long solutions out. The same options end the same way."
        )
    return "Run 'genprm doctor'; the same command resumes the job from its last checkpoint."


def _arguments(job: GrpoJob) -> Any:
    from trl import GRPOConfig

    options = job.options
    rows = len(job.plan[0]) * options.paths
    micro = max(n for n in range(1, options.micro_batch_size + 1) if rows % n == 0)
    return arguments(
        GRPOConfig,
        options,
        job.loaded,
        job.checkpoints,
        job.seed,
        steps=len(job.plan),
        micro=micro,
        accumulation=rows // micro,
        num_generations=options.paths,
        shuffle_dataset=False,
        temperature=options.temperature,
        beta=options.beta,
        loss_type="dapo",
    )
