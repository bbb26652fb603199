"""The typed sections of a run's config. Every default is the paper's, where the paper names one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from genprm.config.explain import config_error

Components = Literal["cot", "code", "code+execution", "cot+code", "cot+code+execution", "direct"]
"""What a verifier writes about a step: analysis (`cot`), code, whether that is executed; or its judgement (`direct`)."""
LARGEST = 2**63 - 1
"""The largest number that counts and sizes of Python can have."""
LabelMethod = Literal["hard", "difference", "ratio", "posterior"]
EstimatorName = Literal["fixed", "dynamic", "sequential", "binary"]


class Section(BaseModel):
    """Base of all config sections: immutable; unknown keys and numbers that are not finite are errors.

    Raises:
        ConfigError: wrong arguments, all of them in one error. `model_validate` is pydantic's own and raises its error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if not TYPE_CHECKING:  # the fields make the signature

        def __init__(self, /, **values: Any) -> None:
            try:
                super().__init__(**values)
            except ValidationError as error:
                raise config_error(error, type(self), type(self).__name__) from None

        # pydantic's mark of a plain constructor: sections inside of others are checked without it, and all mistakes of a
        # file stay one error.
        __init__.__pydantic_base_init__ = True

    @field_validator("*")
    @classmethod
    def _countable(cls, value: Any) -> Any:
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ValueError(
                f"it must be at most {LARGEST:,}" if value > 0 else f"it must be at least -{LARGEST:,}"
            )
        return value


class EngineConfig(Section):
    """Which engine plays a role.

    Attributes:
        kind: a name in `genprm.engines`: `http`, `vllm`, `local`, `replicated`, `tutor` (the built-in
            arithmetic teacher), or one that a plugin registers. For `roles.verifier` also `discriminative`: a
            token-classification reward model takes the generative verifier's place.
        options: passed to the engine's constructor, for example `model` or `base_urls`.
        cache: keep completions in the run directory and reuse them.
    """

    kind: str = "http"
    options: dict[str, Any] = Field(default_factory=dict)
    cache: bool = False


class SamplingConfig(Section):
    """How one role samples."""

    temperature: float = Field(default=0.7, ge=0, description="0: greedy")
    top_p: float = Field(default=1.0, gt=0, le=1, description="probability mass to sample from")
    top_k: int = Field(default=0, ge=0, description="most likely tokens to sample from; 0: no limit")


class SandboxConfig(Section):
    """The sandbox in which verification code runs.

    Attributes:
        tier: packages that the code may import; each tier holds the ones before it. The domain's own unless given.
        soft_seconds: after this a `TimeoutError` is raised inside the code.
        hard_seconds: after this the code is killed from outside; also its bound on processor time.
        memory_mb: memory of one execution.
        workers: boxes that execute at the same time; one per core unless given.
        allow_unsandboxed: run code without isolation if the machine offers none. Dangerous.
    """

    tier: Literal["plain", "sympy", "numpy", "scipy"] | None = None
    soft_seconds: float = Field(default=5.0, gt=0)
    hard_seconds: float = Field(default=6.0, gt=0)
    memory_mb: int = Field(default=1024, gt=0)
    workers: int | None = Field(default=None, gt=0)
    allow_unsandboxed: bool = False


class ProblemsConfig(Section):
    """Where problems come from.

    Attributes:
        source: a file (JSONL, JSON, CSV, TSV, Parquet), `hub:ID` or `hub:ID@REVISION`, or `arithmetic` for the
            built-in world.
        preset: column mapping and answer extraction of a known data set: `gsm8k`, `math`, `svamp`, `plain`. Or
            `labelled`: solutions with step labels in any layout of `genprm import`, from which a run goes straight to
            rationales.
        columns: column names for `id`, `text` and `answer`, in place of the preset's.
        split: for hub data sets and the built-in world.
        limit: at most so many problems, the first ones.
        decontaminate: evaluation sets, a name and a file or `hub:ID` for each: a problem that has 13 words in a row in
            common with one of theirs is left out and counted as `contaminated`; shorter ones are compared whole.
        near_duplicates: leave out a problem, counted as `near_duplicate`, if its runs of five words are those of an
            earlier one to this share (Jaccard similarity, estimated by MinHash); none is left out unless given.
    """

    source: str = ""
    preset: str = "plain"
    columns: dict[str, str] = Field(default_factory=dict)
    split: str = "train"
    limit: int | None = Field(default=None, gt=0)
    decontaminate: dict[str, str] = Field(default_factory=dict)
    near_duplicates: float | None = Field(default=None, ge=0.1, le=0.95)


class SolutionsConfig(Section):
    """Solution generation with step forcing (method, part 1)."""

    per_class: int = Field(
        default=8, gt=0, description="correct paths to keep per problem, and as many incorrect ones"
    )
    batch: int = Field(
        default=16, gt=0, description="samples drawn at once, until there are enough of both kinds"
    )
    max_samples: int = Field(default=2048, gt=0, description="most samples per problem")
    min_steps: int = Field(default=2, gt=0, description="a solution with fewer steps is invalid")
    require_both: bool = Field(default=True, description="drop problems without correct or incorrect paths")
    duplicates: Literal["drop", "keep"] = Field(
        default="drop",
        description="drop: a sample with the steps of an earlier one of its problem is counted, and another is drawn",
    )
    profile: str = Field(default="policy", description="the policy's prompt profile")
    max_tokens: int = Field(default=2048, gt=0, description="tokens per solution")
    keep_examples: int = Field(
        default=2, ge=0, description="texts of dropped samples to keep for each reason in a shard"
    )
    sampling: SamplingConfig = SamplingConfig()


class MonteCarloConfig(Section):
    """Monte-Carlo reward estimation (equations 8, 9).

    Attributes:
        estimator: which states are sampled, and how often. `fixed`: every state, `k_start` times. `dynamic`: every
            state, K times, K chosen by Pass@1; the problem alone at least K times as well. `sequential`: as
            dynamic, but a state's samples are drawn in batches until the label that the rule of `label` gives is
            decided, and a solution's states up to its first error only. `binary`: the same, but of solutions with
            a wrong answer only the states that a binary search for the first error asks for.
        batch: completions that `sequential` and `binary` draw of a state at once.
        confidence: a label of these two is decided if the samples left of its K would keep it with at least this
            chance; 1 draws all that could change it.
        k_start: completions from the problem alone, which estimate the completer's Pass@1.
        k_hard: K if Pass@1 is below `hard_below`.
        k_medium: K if it lies between.
        k_easy: K if it is at least `easy_from`.
        hard_below, easy_from: the bounds on Pass@1.
        profile: the completer's prompt profile; that of `solutions` unless given.
    """

    estimator: EstimatorName = "dynamic"
    batch: int = Field(default=8, gt=0)
    confidence: float = Field(default=0.98, gt=0.5, le=1)
    k_start: int = Field(default=32, gt=0)
    k_hard: int = Field(default=128, gt=0)
    k_medium: int = Field(default=64, gt=0)
    k_easy: int = Field(default=32, gt=0)
    hard_below: float = Field(default=0.1, ge=0, le=1)
    easy_from: float = Field(default=0.9, ge=0, le=1)
    profile: str | None = None
    max_tokens: int = Field(default=2048, gt=0, description="tokens per completion")
    keep_completions: int = Field(
        default=0, ge=0, description="completions to keep in each step's score, the first ones of its K"
    )
    keep_examples: int = Field(
        default=2,
        ge=0,
        description="completions to keep for each reason in a shard if solutions are dropped",
    )
    sampling: SamplingConfig = SamplingConfig()

    @property
    def rule_decides(self) -> bool:
        """Whether the label rule decides what is sampled."""
        return self.estimator in ("sequential", "binary")


class LabelConfig(Section):
    """Relative Progress Estimation and its variants (equations 10, 11)."""

    method: LabelMethod = Field(
        default="ratio",
        description="what is compared: MC after / MC before, MC after - MC before, MC after > 0, or (posterior) how "
        "likely the true ratio is below `ratio`, given the counts",
    )
    ratio: float = Field(default=0.8, gt=0, description="a ratio of at least this is progress")
    difference: float = Field(
        default=-0.3, ge=-1, le=1, description="a difference of at least this is progress"
    )
    false_above: float = Field(
        default=0.95,
        gt=0,
        lt=1,
        description="posterior: a larger chance of too little progress is False, as is a step that no completion "
        "reaches the answer from",
    )
    true_up_to: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="posterior: a chance of at most this is True, and one between the bounds is no label; "
        "`false_above` unless given",
    )
    undecided: Literal["drop", "keep"] = Field(
        default="drop",
        description="posterior: what the filter does with a solution if a step lies between the bounds; keep: it takes "
        "the teacher's word for that step",
    )

    @model_validator(mode="after")
    def _bounds_in_order(self) -> LabelConfig:
        if self.true_up_to is not None and self.true_up_to > self.false_above:
            raise ValueError(f"true_up_to must be at most false_above ({self.false_above:g})")
        return self

    @property
    def threshold(self) -> float:
        """The threshold that `method` compares with."""
        if self.method == "hard":
            return 0.0
        return self.difference if self.method == "difference" else self.ratio

    @property
    def true_bound(self) -> float:
        """The chance of too little progress up to which `posterior` says True."""
        return self.false_above if self.true_up_to is None else self.true_up_to

    def deciding(self) -> dict[str, Any]:
        """What decides labels: the rule and its own settings, not those of other rules."""
        own = {"method": self.method, "threshold": self.threshold}
        if self.method != "posterior":
            return own
        bounds = {"false_above": self.false_above, "true_up_to": self.true_bound}
        # The rule once read a count without a right completion like any other: those labels have another key.
        return {**own, **bounds, "undecided": self.undecided, "zero_is_false": True}


class RationaleConfig(Section):
    """Rationale synthesis by a teacher (method, part 3)."""

    samples: int = Field(default=1, gt=0, description="rationales per solution")
    max_rounds: int = Field(default=3, gt=0, description="code rounds per paragraph")
    max_tokens: int = Field(default=16384, gt=0, description="tokens per solution")
    profile: str = Field(
        default="teacher",
        description="the teacher's prompt profile: `teacher-reasoning` or `teacher-thinking` for models that think first",
    )
    sampling: SamplingConfig = SamplingConfig(temperature=0.6, top_p=0.95, top_k=40)


class ChatsConfig(Section):
    """The training chats made of what the consensus keeps (method, part 4).

    Attributes:
        component_shares: the share of kept solutions that is rendered with each set of components, so that a
            verifier also learns the reduced forms; the shares must sum to 1. With `train.form: direct` they
            play no part.
    """

    component_shares: dict[Components, float] = {"cot+code+execution": 1.0}

    @model_validator(mode="after")
    def _sum_to_one(self) -> ChatsConfig:
        total = sum(self.component_shares.values())
        if abs(total - 1.0) > 1e-6 or min(self.component_shares.values()) < 0:
            raise ValueError(f"component_shares must be non-negative and sum to 1, not {total:g}")
        return self


class TrainConfig(Section):
    """Supervised fine-tuning (method, part 4)."""

    model: str = Field(
        default="",
        description="the model to start from: a folder, `builtin:base`, or a hub id, which is downloaded if it is not "
        "here",
    )
    form: Literal["rationale", "direct"] = Field(
        default="rationale", description="GenPRM, or the baseline that answers Yes or No alone"
    )
    learning_rate: float = Field(default=2e-6, gt=0, description="at its peak")
    batch_size: int = Field(default=64, gt=0, description="chats per optimizer step")
    micro_batch_size: int = Field(
        default=0, ge=0, description="chats at once on one device at most; 0: bounded by tokens alone"
    )
    micro_batch_tokens: int = Field(
        default=0,
        ge=0,
        description="tokens at once on one device at most, padding included; 0: 8192 on a GPU, 1024 on a CPU. "
        "A longer chat stands alone",
    )
    epochs: float = Field(default=1.0, gt=0, le=1e6, description="passes over the chats at most")
    max_tokens: int | None = Field(default=None, gt=0, description="stop after so many input tokens")
    max_seconds: float | None = Field(default=None, gt=0, description="stop after so many seconds")
    max_length: int = Field(
        default=8192, gt=0, description="tokens per chat; longer chats are left out and counted"
    )
    warmup_ratio: float = Field(
        default=0.05, ge=0, le=1, description="share of the steps in which the rate rises"
    )
    schedule: Literal["constant", "linear", "cosine"] = Field(
        default="cosine", description="the learning rate after the warm-up"
    )
    weight_decay: float = Field(default=0.0, ge=0, description="of AdamW")
    lora_rank: int = Field(default=0, ge=0, description="rank of LoRA adapters; 0: full fine-tuning")
    lora_alpha: float = Field(default=32.0, gt=0, description="scale of LoRA adapters")
    lora_4bit: bool = Field(
        default=False, description="keep the base that adapters are trained on in 4 bits (QLoRA)"
    )
    precision: Literal["auto", "float32", "mixed", "bfloat16"] = Field(
        default="auto",
        description="mixed: weights and optimizer in float32, products in bfloat16; bfloat16: all in bfloat16, which "
        "loses updates below 1/512 of a weight; auto: mixed on a GPU, float32 on a CPU",
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory, more computation")
    report_to: tuple[Literal["trackio", "wandb", "tensorboard"], ...] = Field(
        default=(), description="experiment trackers that get the figures of every step"
    )

    @model_validator(mode="after")
    def _adapters_on_four_bits(self) -> TrainConfig:
        if self.lora_4bit and not self.lora_rank:
            raise ValueError("lora_4bit needs adapters to train: set lora_rank")
        return self


class VerifyConfig(Section):
    """GenPRM at inference (method, parts 5 and 6).

    Attributes:
        components: what the verifier writes about a step: an analysis (`cot`), a check by `code`, and whether that is
            executed; `direct` is the baseline that answers Yes or No alone.
        stop_at_first_error: leave the steps after the first one judged wrong unverified.
        every_path_to_its_error: with it, continue until every path by itself has judged a step wrong too,
            so that each path's own first error (Pass@1) can be read off.
        voting: `all` takes every vote on every step; `exact` stops when the remaining votes cannot
            change the decision, `sequential` when they change it with a chance of at most
            `error_bound` (see `genprm.rewards.adaptive`).
        history: `independent` gives every path its own earlier verdicts and interpreter (equations 6,
            7); `shared` lets all paths continue from those of one path that agrees with the decision.
        token_budget: completion tokens for one solution; once they are spent no further vote is asked
            for, and steps without a vote are `skipped`.
    """

    profile: str = Field(default="genprm", description="the verifier's prompt profile: a name or a file")
    votes: int = Field(default=1, gt=0, description="verification paths per step (equations 6, 7)")
    components: Components = "cot+code+execution"
    threshold: float = Field(
        default=0.5, ge=0, le=1, description="a step whose reward reaches it is judged right"
    )
    max_rounds: int = Field(default=3, gt=0, description="code rounds per step and path")
    max_tokens: int = Field(default=2048, gt=0, description="tokens per step and path")
    stop_at_first_error: bool = False
    every_path_to_its_error: bool = False
    voting: Literal["all", "exact", "sequential"] = "all"
    error_bound: float = Field(default=0.08, gt=0, lt=0.5, description="of sequential voting")
    history: Literal["independent", "shared"] = "independent"
    token_budget: int | None = Field(default=None, gt=0)
    logprobs: int = Field(default=20, gt=0, description="alternatives to ask for at the judgement's token")
    sampling: SamplingConfig = SamplingConfig(temperature=0.6, top_p=0.95, top_k=20)

    @model_validator(mode="after")
    def _paths_that_end(self) -> VerifyConfig:
        if self.every_path_to_its_error and (self.voting != "all" or self.history == "shared"):
            raise ValueError("every_path_to_its_error needs voting: all and history: independent")
        return self


class RefineConfig(Section):
    """Critic refinement (method, policy test-time scaling)."""

    turns: int = Field(default=3, gt=0, description="rewritings at most")
    mode: Literal["dialogue", "restart"] = Field(
        default="dialogue",
        description="show the policy its solution and the critique, or let it continue from the steps before the "
        "quoted one",
    )
    profile: str = Field(default="refine", description="the feedback's prompt profile")
    max_tokens: int = Field(default=2048, gt=0, description="tokens per rewriting")
    sampling: SamplingConfig = SamplingConfig()
