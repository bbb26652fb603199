"""The section `serve`: the reward server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from genprm.config.models import Section


class StrategyConfig(Section):
    """How a model name of `/v1/chat/completions` answers: which search over `roles.policy` stands behind it.

    Sampling, token budgets and prompt profiles are those of the sections `solutions` and `refine`.

    Attributes:
        kind: `best_of_n` answers with the sampled solution of the highest score, `weighted` with the first solution of
            the answer class with the largest sum of `mean` scores, `refine` with a solution that the verifier as
            critic has had rewritten.
        turns: of `refine`: rewritings at most; `refine.turns` unless given.
    """

    kind: Literal["best_of_n", "weighted", "refine"]
    n: int = Field(
        default=8, gt=0, le=1024, description="solutions to sample; `refine` starts from one and ignores it"
    )
    score: Literal["last", "mean", "min", "prod"] = Field(
        default="min", description="of `best_of_n`: the solution score that counts"
    )
    turns: int | None = Field(default=None, gt=0)


class KeyLimits(Section):
    """What one API key may use; beyond it, requests are refused with 429 and `Retry-After`.

    Attributes:
        requests_per_minute: requests; unused ones are kept for one minute at most.
        tokens_per_minute: tokens, prompts and completions together, of the work that the key's requests begin. They are
            charged when it is done, so that a key may run into debt, which has to pass before it may ask again.
        concurrency: requests at the same time.
    """

    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    concurrency: int | None = Field(default=None, gt=0)


MOST_ENTRIES = 10_000
"""Of a list in a request to the reward server."""


class ServeConfig(Section):
    """The reward server, `genprm serve`.

    Attributes:
        api_keys: from a name, which metrics and logs show, to the SHA-256 of a key (`genprm serve --new-key NAME`).
            Without any, no key is asked for.
        api_keys_file: a YAML file of further keys, in the same form. It is read again when it has changed, and on
            SIGHUP; a file that cannot be used changes nothing, and is reported.
        open_without_keys: listen on other addresses than loopback although no key is asked for. Dangerous.
        limits: what each key may use, by its name; `*` stands for each key that is not named, and for all callers
            together if no key is asked for.
        in_work: verifications in work at the same time; `concurrency` bounds their engine requests.
        queue: verifications that wait for that; any further one is refused with 429.
        deadline_seconds: after so long a caller is answered with what is known; dialects have shorter ones of their own.
        linger_seconds: how long a verification continues after its last caller's deadline, so that the caller's retry
            can join it.
        recent: finished verifications that are kept for equal requests.
        busy_voting: the votes are taken by this rule (as `verify.voting`) when more than `busy_above` verifications
            wait; every answer that it decided says so.
        score: the number that dialects with one number per solution are given.
        openrlhf_unknown: the number that OpenRLHF is given for a solution without a score, counted in
            `extra_logs.genprm_unknown`. Unless given, such a request fails, which ends the training.
        strategies: the models of `/v1/chat/completions`, by name; `roles.policy` writes the solutions.
        history: an SQLite file to which every finished verification is added: time, key, rewards, tokens.
        history_content: keep problems, steps and what the verifier wrote there too.
    """

    host: str = Field(
        default="127.0.0.1", min_length=1, description="address to listen on, IPv6 in brackets or not"
    )
    port: int = Field(default=8400, ge=0, le=65535, description="port to listen on; 0: any free one")
    api_keys: dict[str, str] = Field(default_factory=dict)
    api_keys_file: str | None = None
    open_without_keys: bool = False
    limits: dict[str, KeyLimits] = Field(default_factory=dict)
    max_body_bytes: int = Field(default=4_000_000, gt=0, description="largest request")
    body_seconds: float = Field(default=30.0, gt=0, description="time in which a request must have arrived")
    max_steps: int = Field(default=256, gt=0, le=MOST_ENTRIES, description="steps per solution")
    max_items: int = Field(default=256, gt=0, le=MOST_ENTRIES, description="solutions per request")
    in_work: int = Field(default=64, gt=0)
    queue: int = Field(default=1024, ge=0)
    deadline_seconds: float = Field(default=600.0, gt=0)
    linger_seconds: float = Field(default=300.0, ge=0)
    recent: int = Field(default=1024, ge=0)
    recent_seconds: float = Field(default=600.0, ge=0, description="and for how long they are kept")
    drain_seconds: int = Field(
        default=30, ge=0, description="time that running requests have after SIGTERM to finish"
    )
    busy_voting: Literal["exact", "sequential"] | None = None
    busy_above: int = Field(default=64, ge=0, description="see `busy_voting`")
    score: Literal["last", "mean", "min", "prod"] = "min"
    openrlhf_unknown: float | None = None
    strategies: dict[str, StrategyConfig] = Field(default_factory=dict)
    searches: int = Field(
        default=16, gt=0, description="chats answered at the same time; any further one is refused with 429"
    )
    history: str | None = None
    history_content: bool = False
    history_days: float = Field(default=30.0, gt=0, description="older entries are deleted")

    @field_validator("host")
    @classmethod
    def _without_brackets(cls, host: str) -> str:
        return host[1:-1] if host.startswith("[") and host.endswith("]") else host
