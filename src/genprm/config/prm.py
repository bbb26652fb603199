"""How a discriminative process reward model is trained."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from genprm.config.models import Section


class PrmConfig(Section):
    """Training of a discriminative process reward model: two classes at each step's last token."""

    model: str = Field(
        default="",
        description="the model to start from: a folder, or a hub id, which is downloaded if it is not here",
    )
    separator: str = Field(default="\n\n", min_length=1, description="follows the problem and every step")
    steps: Literal["all", "to_first_error"] = Field(
        default="all",
        description="which labels carry the loss: all known ones, or those up to the first wrong step",
    )
    learning_rate: float = Field(default=1e-5, gt=0, description="at its peak")
    batch_size: int = Field(default=64, gt=0, description="solutions per optimizer step")
    micro_batch_size: int = Field(
        default=8,
        gt=0,
        description="solutions at once, at most; the largest divisor of batch_size is taken",
    )
    epochs: float = Field(default=1.0, gt=0, le=1e6, description="passes over the solutions")
    max_length: int = Field(
        default=4096, gt=0, description="tokens per solution; steps beyond are cut off and counted"
    )
    warmup_ratio: float = Field(
        default=0.05, ge=0, lt=1, description="share of the steps in which the rate rises"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="cosine", description="the learning rate after the warm-up"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    lora_rank: int = Field(default=0, ge=0, description="rank of LoRA adapters; 0: full fine-tuning")
    lora_alpha: float = Field(default=32.0, gt=0, description="scale of LoRA adapters")
    precision: Literal["auto", "float32", "mixed"] = Field(
        default="auto",
        description="mixed: weights and optimizer in float32, products in bfloat16 (with LoRA the frozen base is in "
        "bfloat16, too); auto: mixed on a GPU, float32 on a CPU",
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory, more computation")
