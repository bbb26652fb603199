"""How a verifier is trained further by its own rollouts (GRPO) and its own votes (DPO)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from genprm.config.models import SandboxConfig, Section, VerifyConfig


class FurtherTraining(Section):
    """What both ways of training a verifier further have in common."""

    model: str = Field(
        default="",
        description="the fine-tuned verifier to start from: a folder, or a hub id, which is downloaded if it is not here",
    )
    learning_rate: float = Field(default=1e-6, gt=0, description="at its peak")
    micro_batch_size: int = Field(
        default=8,
        gt=0,
        description="rows at once, at most; the largest divisor of an optimizer step's rows is taken",
    )
    max_length: int = Field(
        default=4096, gt=0, description="tokens per chat; the model's own limit if that is lower"
    )
    warmup_ratio: float = Field(
        default=0.05, ge=0, lt=1, description="share of the steps in which the rate rises"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="the learning rate after the warm-up"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    lora_rank: int = Field(default=0, ge=0, description="rank of LoRA adapters; 0: full fine-tuning")
    lora_alpha: float = Field(default=32.0, gt=0, description="scale of LoRA adapters")
    precision: Literal["auto", "float32", "mixed", "bfloat16"] = Field(
        default="auto", description="as `train.precision`"
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory, more computation")
    verify: VerifyConfig = Field(
        default=VerifyConfig(),
        description="how the verifier is asked: profile, components, bounds (votes and voting count for nothing here); "
        "what the model's folder asks for unless given",
    )


class GrpoConfig(FurtherTraining):
    """GRPO of a verifier on step labels: its verdicts are its rewards."""

    steps: int = Field(default=100, gt=0, description="optimizer steps; each has rollouts of its own")
    solutions: int = Field(
        default=16, gt=0, description="labelled solutions per optimizer step; all if there are fewer"
    )
    paths: int = Field(default=8, gt=1, description="verification paths per solution: the group")
    temperature: float = Field(
        default=1.0, gt=0, description="of the rollouts; top_p and top_k of `verify.sampling` are not used"
    )
    beta: float = Field(
        default=0.0, ge=0, description="weight of the KL term to the model started from; 0: no such term"
    )
    right: float = Field(default=1.0, description="the reward of a turn whose one verdict is the label")
    wrong: float = Field(default=0.0, description="the reward of a turn whose one verdict is not the label")
    malformed: float = Field(
        default=-1.0,
        description="the reward of a turn without a verdict of its own, or with more than one",
    )
    concurrency: int = Field(default=256, gt=0, description="engine requests in flight")
    sandbox: SandboxConfig = Field(default=SandboxConfig(), description="where the rollouts' code runs")

    @model_validator(mode="after")
    def _rewards_in_order(self) -> GrpoConfig:
        if not self.malformed <= self.wrong < self.right:
            raise ValueError("rewards must be in this order: malformed <= wrong < right")
        return self


class DpoConfig(FurtherTraining):
    """DPO of a verifier on pairs of its own votes: one that agrees with the label, one that does not."""

    epochs: float = Field(default=1.0, gt=0, le=1e6, description="passes over the pairs")
    batch_size: int = Field(default=32, gt=0, description="pairs per optimizer step")
    beta: float = Field(
        default=0.1, gt=0, description="how strongly the model is held to the one started from"
    )
    pairs_per_step: int = Field(
        default=1, gt=0, description="pairs from one step of a solution, at most; no vote is in two of them"
    )
