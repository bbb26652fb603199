"""What decides a stage's rows, key by key. A new config key or stage field without an entry here fails."""

from __future__ import annotations

import dataclasses
import pickle
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Any

import pytest
import yaml
from identity_table import JUDGES, TABLE
from pydantic import BaseModel

from genprm.config import EngineConfig, LabelConfig, RunConfig, SolutionsConfig, VerifyConfig, load_config
from genprm.identity import Decides, content_key, model_identity, rows_digest, shard_key
from genprm.records import Problem, Usage
from genprm.runs import Stage, stages, synthesis_chain
from genprm.runs.ledger import Ledger
from genprm.runs.stages import (
    BestOfNStage,
    GivenLabelsStage,
    GivenSolutionsStage,
    ProblemsStage,
    RefineStage,
    SampleStage,
)
from genprm.store import RunStore
from genprm.text.prompts import VerifierProfile, load_profile
from genprm.training import training_key

ENGINE = {"kind": "http", "options": {"base_urls": "http://x", "model": "m"}}
BASE: dict[str, Any] = {
    "roles": dict.fromkeys(("policy", "completer", "teacher", "verifier"), ENGINE),
    "train": {"model": "org/model", "lora_rank": 8},
}
PROFILES = {
    "solutions.profile": "policy",
    "montecarlo.profile": "policy",
    "rationales.profile": "teacher",
    "verify.profile": "genprm",
    "refine.profile": "refine",
}


def config(changes: dict[str, Any] | None = None) -> RunConfig:
    overrides = [f"{key}={yaml.safe_dump(value)}" for key, value in (changes or {}).items()]
    return load_config(None, overrides, model=RunConfig, base=BASE)


def all_stages(config: RunConfig) -> dict[str, Stage]:
    """Every stage of the library, made from one config."""
    roles, seed, domain = config.roles, config.seed, config.domain
    return {
        "problems": ProblemsStage(),
        **{stage.name: stage for stage in synthesis_chain(config).stages},
        "samples": SampleStage(config.solutions, roles.policy, 4, seed, domain),
        "given": GivenSolutionsStage(domain=domain),
        "given-labels": GivenLabelsStage(),
        "refinements": RefineStage(
            config.refine,
            roles.policy,
            config.solutions.profile,
            config.sandbox,
            seed,
            roles.verifier,
            config.verify,
            domain,
        ),
        "best-of-n": BestOfNStage(domain=domain),
    }


def digests(config: RunConfig) -> dict[str, str]:
    found = {name: stage.decides().digest() for name, stage in all_stages(config).items()}
    profile = load_profile(config.verify.profile, VerifierProfile)
    return found | {"train": training_key([], config.train, config.seed, profile)}


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before if before[name] != after[name]}


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        parts = (*typing.get_args(field.annotation), field.annotation)
        inner = [part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)]
        if inner and typing.get_origin(field.annotation) is not dict:
            yield from leaves(inner[0], f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def test_every_config_key_is_in_the_table() -> None:
    assert set(leaves(RunConfig)) == TABLE.keys()


def test_every_stage_of_the_library_is_in_the_test() -> None:
    classes = {getattr(stages, name) for name in stages.__all__}
    assert {type(stage) for stage in all_stages(config()).values()} == classes


def edited_profile(key: str, folder: Path, **changes: str) -> str:
    """A user's own profile file: the content of the built-in one for this key, with changes."""
    profile = load_profile(PROFILES[key]).model_dump(mode="json", by_alias=True)
    path = folder / f"{key}.yaml"
    path.write_text(yaml.safe_dump(profile | changes))
    return str(path)


@pytest.mark.parametrize("key", TABLE)
def test_a_key_decides_the_stages_that_it_should(key: str, tmp_path: Path) -> None:
    value, wanted = TABLE[key]
    if value == "EDITED":
        value = edited_profile(key, tmp_path, name="edited")
    assert changed(digests(config()), digests(config({key: value}))) == wanted


@pytest.mark.parametrize("key", PROFILES)
def test_a_profiles_content_decides_and_its_path_does_not(key: str, tmp_path: Path) -> None:
    default = PROFILES[key]
    builtin = digests(config({key: default}))
    assert digests(config({key: edited_profile(key, tmp_path)})) == builtin
    (tmp_path / "elsewhere").mkdir()
    elsewhere = edited_profile(key, tmp_path / "elsewhere")
    assert digests(config({key: elsewhere})) == builtin
    edited_profile(key, tmp_path / "elsewhere", name="edited")
    assert changed(builtin, digests(config({key: elsewhere}))) == TABLE[key][1], "edited at the same path"


def test_the_thresholds_of_other_label_rules_decide_nothing() -> None:
    bounds = {"label.false_above", "label.true_up_to", "label.undecided"}
    for method, own in (
        ("ratio", {"label.ratio"}),
        ("difference", {"label.difference"}),
        ("hard", set()),
        ("posterior", {"label.ratio", *bounds}),
    ):
        before = digests(config({"label.method": method}))
        for key in ("label.ratio", "label.difference", *bounds):
            after = digests(config({"label.method": method, key: TABLE[key][0]}))
            assert changed(before, after) == ({"labels"} if key in own else set())


@pytest.mark.parametrize("estimator", ["sequential", "binary"])
def test_an_estimator_that_samples_for_a_rule_is_decided_by_the_rule(estimator: str) -> None:
    base = {"montecarlo.estimator": estimator, "label.method": "posterior"}
    before = digests(config(base))
    for key in ("montecarlo.batch", "montecarlo.confidence"):
        assert changed(before, digests(config(base | {key: TABLE[key][0]}))) == {"montecarlo"}
    for key in ("label.method", "label.ratio", "label.false_above", "label.undecided"):
        assert changed(before, digests(config(base | {key: TABLE[key][0]}))) == {"montecarlo", "labels"}
    assert not changed(before, digests(config(base | {"label.difference": 0.1})))


def test_one_k_for_all_states_is_decided_by_that_alone() -> None:
    base = {"montecarlo.estimator": "fixed"}
    before = digests(config(base))
    for key in ("k_hard", "k_medium", "k_easy", "hard_below", "easy_from", "batch", "confidence"):
        assert not changed(
            before, digests(config(base | {f"montecarlo.{key}": TABLE[f"montecarlo.{key}"][0]}))
        )
    assert changed(before, digests(config(base | {"montecarlo.k_start": 3}))) == {"montecarlo"}


@pytest.mark.parametrize("key", [key for key in TABLE if key.startswith("sandbox.")])
def test_a_sandbox_decides_only_where_code_runs(key: str) -> None:
    quiet = {"verify.components": "cot"}
    wanted = TABLE[key][1] - JUDGES
    assert changed(digests(config(quiet)), digests(config(quiet | {key: TABLE[key][0]}))) == wanted


@pytest.mark.parametrize(
    ("kind", "options", "neutral", "deciding"),
    [
        (
            "http",
            {"base_urls": "http://x", "model": "m"},
            {"base_urls": "http://y", "timeout": 5, "retries": 2, "max_concurrency": 3},
            {"model": "n", "api": "chat"},
        ),
        (
            "replicated",
            {"model": "org/m", "deterministic": True},
            {"replicas": 2, "batch_size": 3},
            {"model": "org/n", "dtype": "float32"},
        ),
    ],
)
def test_engine_options_decide_if_they_change_completions(
    kind: str, options: dict[str, Any], neutral: dict[str, Any], deciding: dict[str, Any]
) -> None:
    def solutions(**changes: Any) -> str:
        engine = {"kind": kind, "options": options | changes}
        return digests(config({"roles.policy": engine}))["solutions"]

    before = solutions()
    for name, value in neutral.items():
        assert solutions(**{name: value}) == before, name
    for name, value in deciding.items():
        assert solutions(**{name: value}) != before, name


def test_a_model_that_is_trained_again_at_the_same_path_is_another_engine(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"first")
    changes = {"roles.verifier": {"kind": "local", "options": {"model": str(tmp_path)}}}
    before = digests(config(changes))
    assert digests(config(changes)) == before
    (tmp_path / "model.safetensors").write_bytes(b"other")
    assert changed(before, digests(config(changes))) == JUDGES


# ---------------------------------------------------------------- the fields of the stages

STRUCTURE = {"name", "needs", "row_type", "solutions", "verifications"}
"""Fields that say where a stage stands: they are in a shard's key through its stage's name and its parents."""
OTHER: dict[str, Any] = {
    "seed": 9,
    "n": 9,
    "domain": "physics",
    "profile": "EDITED",
    "policy_profile": "EDITED",
    "engine": EngineConfig(kind="http", options={"base_urls": "http://x", "model": "z"}),
    "policy": EngineConfig(kind="http", options={"base_urls": "http://x", "model": "z"}),
    "verifier": None,
    "verify": VerifyConfig(votes=9),
    "rule": LabelConfig(method="hard"),
}
"""Another value for every field that decides."""


@pytest.mark.parametrize("name", all_stages(config()))
def test_every_field_of_a_stage_decides_or_says_where_it_stands(name: str, tmp_path: Path) -> None:
    stage = all_stages(config())[name]
    assert dataclasses.is_dataclass(stage)
    for field in dataclasses.fields(stage):
        if field.name in STRUCTURE:
            continue
        value = OTHER.get(field.name)
        if field.name in ("options", "sandbox"):
            continue  # key by key in the table above
        if field.name in ("profile", "policy_profile"):
            kind = "verify.profile" if name == "chats" else "solutions.profile"
            value = edited_profile(kind, tmp_path, name="edited")
        else:
            assert field.name in OTHER, f"{field.name} of the stage '{name}' has no entry here"
        if field.name == "rule":  # what a fixed number of samples is called later decides nothing here
            stage = dataclasses.replace(
                stage, options=stage.options.model_copy(update={"estimator": "sequential"})
            )
        other = dataclasses.replace(stage, **{field.name: value})
        assert other.decides().digest() != stage.decides().digest(), field.name


@pytest.mark.parametrize("name", all_stages(config()))
def test_stages_are_values_that_travel(name: str) -> None:
    stage = all_stages(config())[name]
    assert isinstance(stage, Stage)
    copy = pickle.loads(pickle.dumps(stage))
    assert copy == stage
    assert copy.decides().digest() == stage.decides().digest()
    with pytest.raises(dataclasses.FrozenInstanceError):
        stage.name = "other"  # type: ignore[misc]


def test_the_options_of_samples_that_choose_among_them_do_not_decide_single_samples() -> None:
    decisive = {"min_steps", "max_tokens", "sampling", "profile"}
    for key in SolutionsConfig.model_fields:
        full = [name for name in TABLE if name.startswith(f"solutions.{key}")]
        assert ("samples" in TABLE[full[0]][1]) == (key in decisive)


def test_keys_follow_the_parents_and_the_stage() -> None:
    one, two = Decides(options=1), Decides(options=2)
    keys = {
        shard_key("a", one, ["p", "q"]),
        shard_key("b", one, ["p", "q"]),
        shard_key("a", two, ["p", "q"]),
        shard_key("a", one, ["q", "p"]),
        shard_key("a", one, ["pq"]),
        shard_key("a", one, []),
    }
    assert len(keys) == 6
    assert shard_key("a", Decides(options=1), ["p", "q"]) in keys


def test_a_changed_label_rule_costs_no_teacher_anything(tmp_path: Path) -> None:
    """Which stages a change recomputes, all that follows included."""

    class Quiet:
        def begin(self, *_: Any) -> None: ...
        def advance(self, *_: Any, **__: Any) -> None: ...
        def end(self, *_: Any) -> None: ...
        def note(self, *_: Any) -> None: ...

    def recipes(store: RunStore, changes: dict[str, Any]) -> dict[str, str]:
        chain = synthesis_chain(config(changes))
        ledger = Ledger(chain, store, Quiet())
        return {stage.name: ledger.recipe(stage.name) for stage in chain.stages}

    with RunStore(tmp_path / "run") as store:
        before = recipes(store, {})
        affected = {
            "label.ratio": {"labels", "consensus", "chats"},
            "chats.component_shares": {"chats"},
            "rationales.samples": {"rationales", "consensus", "chats"},
            "montecarlo.k_easy": {"montecarlo", "labels", "rationales", "consensus", "chats"},
            "verify.votes": {"verifications"},
            "solutions.batch": set(before),
            "concurrency": set(),
        }
        for key, wanted in affected.items():
            assert changed(before, recipes(store, {key: TABLE[key][0]})) == wanted, key


# ---------------------------------------------------------------- costs are no part of an identity


def examples(annotation: Any, seed: int) -> Any:
    """A value of an annotation in which everything is there; another one for another seed."""
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return examples(args[0], seed)
    if origin is typing.Literal:
        return args[seed % len(args)]
    if origin is tuple:
        return tuple(examples(args[0], seed) for _ in range(2))
    if origin is dict:
        return {"a": examples(args[1], seed), "b": examples(args[1], seed)}
    if args and NoneType in args:
        return examples(next(part for part in args if part is not NoneType), seed)
    if args:
        return examples(args[0], seed)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return annotation(
            **{name: _field(annotation, name, field.annotation, seed) for name, field in fields}
        )
    if isinstance(annotation, type) and issubclass(annotation, str) and annotation is not str:
        return list(annotation)[seed % len(list(annotation))]  # type: ignore[call-overload]
    plain = {bool: bool(seed % 2), int: seed, float: seed / 8, str: f"text {seed}", Any: f"any {seed}"}
    return plain[annotation]


def _field(model: type[BaseModel], name: str, annotation: Any, seed: int) -> Any:
    return 1 if name == "schema_version" else examples(annotation, seed)


def variants(value: Any, annotation: Any) -> Iterator[tuple[str, Any]]:
    """The value with one leaf changed at a time, and the leaf's place."""
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            for place, changed_value in variants(getattr(value, name), field.annotation):
                where = f"{type(value).__name__}.{name}" + (f" > {place}" if place else "")
                yield where, value.model_copy(update={name: changed_value})
        return
    if isinstance(value, tuple) and value:
        for place, changed_value in variants(value[1], None):
            yield place, (value[0], changed_value)
        return
    if isinstance(value, dict):
        for place, changed_value in variants(value["b"], None):
            yield place, {**value, "b": changed_value}
        return
    match value:
        case bool():
            yield "", not value
        case int():
            yield "", value + 1
        case float():
            yield "", value / 2
        case str():
            yield "", type(value)(value) if type(value) is not str else value + "x"
        case None:
            return


ROW_TYPES = sorted(
    {stage.row_type for stage in all_stages(config()).values()}, key=lambda row: row.__name__
)


@pytest.mark.parametrize("row_type", ROW_TYPES, ids=lambda row_type: row_type.__name__)
def test_equal_rows_with_other_costs_have_one_digest(row_type: type[BaseModel]) -> None:
    row = examples(row_type, 1)
    before = rows_digest([row])
    costs = 0
    for place, other in variants(row, row_type):
        if other == row:
            continue  # an enumeration's other members are tried below
        is_cost = "Usage." in place or place.endswith(".seconds")
        costs += is_cost
        assert (rows_digest([other]) == before) == is_cost, place
    assert rows_digest([row, row]) != before
    if "usage" in row_type.model_fields:
        assert costs >= len(Usage.model_fields)


def test_enumerations_count_in_a_digest() -> None:
    for row_type in ROW_TYPES:
        assert rows_digest([examples(row_type, 1)]) != rows_digest([examples(row_type, 2)])


def test_the_order_of_rows_counts_in_a_digest() -> None:
    a, b = Problem(id="a", text="t"), Problem(id="b", text="t")
    assert rows_digest([a, b]) != rows_digest([b, a])
    assert rows_digest([]) != rows_digest([a])


# ---------------------------------------------------------------- what names a model


def test_a_models_name_is_the_content_of_its_files(tmp_path: Path) -> None:
    def folder(name: str, **files: str) -> Path:
        made = tmp_path / name
        made.mkdir()
        for file, text in files.items():
            (made / file.replace("_", ".")).write_text(text)
        return made

    first = folder("a", model_bin="weights", config_json="{}")
    copy = folder("b", model_bin="weights", config_json="{}")
    assert model_identity(str(first)) == model_identity(str(copy))
    cards = ("README.md", "README.earlier.md", "README.earlier.2.md")
    for extra in ("genprm.json", "genprm_training.json", ".cache", *cards):
        (copy / extra).write_text("x")
    (copy / "checkpoints").mkdir()
    assert model_identity(str(first)) == model_identity(str(copy)), "records of the library do not count"
    (copy / "README.md").write_text("other words")
    assert model_identity(str(first)) == model_identity(str(copy))
    (copy / "tokenizer.json").write_text("{}")
    others = [
        copy,
        folder("c", model_bin="weightS", config_json="{}"),
        folder("d", model_bin="{}", config_json="weights"),
        folder("e", model_bin="weights"),
    ]
    assert len({model_identity(str(path)) for path in [first, *others]}) == 5
    assert model_identity(str(first / "model.bin")) == model_identity(str(tmp_path / "e")), (
        "a model of one file"
    )
    assert model_identity("org/model") == "org/model"


def test_a_large_models_blocks_are_spread_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genprm.identity._BLOCK", 64)
    monkeypatch.setattr("genprm.identity._READ_WHOLE", 1000)
    path = tmp_path / "model.gguf"
    size = 64 * 4096
    data = bytearray(size)
    path.write_bytes(data)
    seen = {model_identity(str(path))}
    for place in (0, size - 1, (size - 64) * 511 // 1023):
        data[place] = 1
        path.write_bytes(data)
        seen.add(model_identity(str(path)))
        data[place] = 0
    path.write_bytes(data + b"\0")
    seen.add(model_identity(str(path)))
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("left", "right"),
    [(["ab"], ["a", "b"]), ([1], ["1"]), ([None], [0]), ([{"a": 1}], [["a", 1]]), ([[]], [])],
)
def test_keys_tell_contents_apart(left: list[Any], right: list[Any]) -> None:
    assert content_key(*left) != content_key(*right)
    assert content_key(left) != content_key(right)
    assert content_key({"a": 1, "b": 2}) == content_key({"b": 2, "a": 1})
    assert content_key(config()) == content_key(config().model_dump(mode="json"))
