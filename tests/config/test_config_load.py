from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.config import (
    EngineConfig,
    GrpoConfig,
    LabelConfig,
    RunConfig,
    SamplingConfig,
    ServeConfig,
    StrategyConfig,
    VerifyConfig,
    dump_config,
    load_config,
)
from genprm.config.models import Section
from genprm.errors import ConfigError
from genprm.text.prompts import load_profile


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    return path


def test_defaults_are_the_papers() -> None:
    config = load_config(model=RunConfig)
    assert config.label.method == "ratio"
    assert config.label.threshold == 0.8
    assert (config.montecarlo.k_hard, config.montecarlo.k_medium, config.montecarlo.k_easy) == (128, 64, 32)
    assert (config.verify.sampling.temperature, config.verify.sampling.top_k) == (0.6, 20)
    assert config.train.learning_rate == 2e-6


def test_overrides_win_over_the_file_and_the_file_over_the_base(tmp_path: Path) -> None:
    path = write(tmp_path, "seed: 3\nlabel: {ratio: 0.5}\n")
    config = load_config(path, ["label.ratio=0.7"], model=RunConfig, base={"seed": 1, "concurrency": 9})
    as_text = load_config(
        str(path), ["label.ratio=0.7"], model=RunConfig, base={"seed": 1, "concurrency": 9}
    )
    assert as_text == config
    assert (config.seed, config.concurrency, config.label.ratio) == (3, 9, 0.7)


def test_a_mapping_replaces_the_one_below_it(tmp_path: Path) -> None:
    base = {"roles": {"policy": {"kind": "local", "options": {"model": "a", "device": "cpu"}}}}
    path = write(tmp_path, "roles: {policy: {options: {model: b}}}\n")
    config = load_config(path, model=RunConfig, base=base)
    assert config.roles.policy == EngineConfig(kind="local", options={"model": "b"})
    config = load_config(path, ["roles.policy.options={model: c}"], model=RunConfig, base=base)
    assert config.roles.policy == EngineConfig(kind="local", options={"model": "c"})
    shares = load_config(None, ["chats.component_shares={cot: 1.0}"], model=RunConfig)
    assert shares.chats.component_shares == {"cot": 1.0}


def test_sections_merge_key_by_key(tmp_path: Path) -> None:
    base = {"solutions": {"per_class": 3, "sampling": {"temperature": 0.5, "top_p": 0.9}}}
    path = write(tmp_path, "solutions: {batch: 5, sampling: {top_p: 0.8}}\n")
    found = load_config(path, ["solutions.sampling.top_k=7"], model=RunConfig, base=base).solutions
    assert (found.per_class, found.batch) == (3, 5)
    assert found.sampling == SamplingConfig(temperature=0.5, top_p=0.8, top_k=7)


def test_a_role_that_is_not_there_by_default_can_be_set_key_by_key() -> None:
    config = load_config(
        None, ["roles.verifier.kind=local", "roles.verifier.options.model=v"], model=RunConfig
    )
    assert config.roles.verifier == EngineConfig(kind="local", options={"model": "v"})


def test_an_override_may_name_one_key_of_a_mapping() -> None:
    base = {"roles": {"policy": {"options": {"model": "a", "device": "cpu"}}}}
    config = load_config(None, ["roles.policy.options.model=b"], model=RunConfig, base=base)
    assert config.roles.policy.options == {"model": "b", "device": "cpu"}
    assert base["roles"]["policy"]["options"]["model"] == "a", "the base is not changed"
    config = load_config(None, ["problems.columns.answer=gold", "problems.columns.id=n"], model=RunConfig)
    assert config.problems.columns == {"answer": "gold", "id": "n"}


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["train.model=x", "chats.component_shares={cot: 0.5, direct: 0.5}", "roles.verifier.kind=http"],
        [
            "problems.source=hub:é",
            "verify.token_budget=5",
            "sandbox.tier=scipy",
            "train.learning_rate=1e-7",
        ],
    ],
)
def test_a_dumped_config_reads_back_equal(tmp_path: Path, overrides: list[str]) -> None:
    config = load_config(None, overrides, model=RunConfig)
    assert load_config(write(tmp_path, dump_config(config)), model=RunConfig) == config


@pytest.mark.parametrize(
    ("model", "override", "says", "hint"),
    [
        (RunConfig, "epochs=1", "the override 'epochs=1': unknown key 'epochs'", "mean 'train.epochs'?"),
        (RunConfig, "max_tokens=1", "unknown key 'max_tokens'", "'solutions.max_tokens' or "),
        (LabelConfig, "label.ratio=0.7", "the override 'label.ratio=0.7'", "Leave out 'label'"),
        (RunConfig, "label.ratio=far", "the override 'label.ratio=far': 'label.ratio' cannot be", ""),
    ],
)
def test_an_override_that_belongs_elsewhere_is_named_with_the_right_key(
    tmp_path: Path, model: type[RunConfig], override: str, says: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, ""), [override], model=model)
    assert says in caught.value.message and "run.yaml" not in caught.value.message
    assert hint in caught.value.hint


def test_mistakes_of_a_file_and_of_an_override_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "sed: 3\n"), ["seed=2", "seed=x"], model=RunConfig)
    said = caught.value.message
    assert said.startswith(str(tmp_path / "run.yaml")) and "\n  " in said
    assert "the override 'seed=x': 'seed' cannot be 'x'" in said and "unknown key 'sed'" in said


@pytest.mark.parametrize(
    ("text", "overrides", "says"),
    [
        (
            "",
            ["train.lora_4bit=true", "train.model=m"],
            "the override 'train.lora_4bit=true': train: lora_4bit needs",
        ),
        ("train: {lora_4bit: true}", ["train.model=m"], "run.yaml: train: lora_4bit needs adapters"),
        (
            "train: {lora_rank: 8, lora_4bit: true}",
            ["train.lora_rank=0"],
            "the override 'train.lora_rank=0': train:",
        ),
        ("", ["train={lora_4bit: true}"], "the override 'train={lora_4bit: true}': train: lora_4bit needs"),
        (
            "",
            ["label.method=hard", "label.true_up_to=0.99"],
            "the override 'label.true_up_to=0.99': label: true_up_to",
        ),
        (
            "",
            ["chats.component_shares.cot=0.3"],
            "the override 'chats.component_shares.cot=0.3': chats: component_",
        ),
    ],
)
def test_a_rule_of_a_section_is_said_plainly_of_whoever_broke_it(
    tmp_path: Path, text: str, overrides: list[str], says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, text), overrides, model=RunConfig)
    assert says in caught.value.message and "{'" not in caught.value.message


def test_a_rule_of_the_whole_names_its_override() -> None:
    with pytest.raises(ConfigError, match=r"^the override 'wrong=2': rewards must be in this order"):
        load_config(None, ["wrong=2", "steps=3"], model=GrpoConfig)


def test_a_date_is_text(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, "problems: {source: 2024-12-24}\n"), model=RunConfig)
    assert config.problems.source == "2024-12-24"


def test_a_merged_mapping_is_no_key_twice(tmp_path: Path) -> None:
    text = "solutions: &s {max_tokens: 9, batch: 2}\nroles: {policy: {options: {<<: *s, batch: 3}}}\n"
    config = load_config(write(tmp_path, text), model=RunConfig)
    assert config.roles.policy.options == {"max_tokens": 9, "batch": 3}


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xef\xbb\xbfseed: 4\n")
    assert load_config(path, model=RunConfig).seed == 4


def test_all_mistakes_of_a_file_are_listed_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
        sed: 3
        label: {ration: 0.8, difference: far}
        solutions: {sampling: {temprature: 1, top_p: 2}}
        chats: {component_shares: {cot: 0.5}}
        roles: {verifier: {kind: http, cach: true}}
        """,
    )
    with pytest.raises(ConfigError, match="8 mistakes") as caught:
        load_config(path, ["train.epochs=-1"], model=RunConfig)
    for part in (
        "unknown key 'sed'",
        "unknown key 'label.ration'",
        "'label.difference' cannot be 'far'",
        "unknown key 'solutions.sampling.temprature'",
        "'solutions.sampling.top_p' cannot be 2",
        "sum to 1",
        "'roles.verifier.cach'",
        "'train.epochs' cannot be -1",
    ):
        assert part in caught.value.message
    lines = caught.value.message.splitlines()
    assert len(lines) == 1 + 8
    for wrong, near in (
        ("sed", "seed"),
        ("label.ration", "ratio"),
        ("temprature", "temperature"),
        ("cach", "cache"),
    ):
        assert any(f"{wrong}' (Did you mean '{near}'?)" in line for line in lines), near


@pytest.mark.parametrize(
    ("role", "key"),
    [
        ("policy", "solutions.profile"),
        ("policy", "montecarlo.profile"),
        ("teacher", "rationales.profile"),
        ("verifier", "verify.profile"),
        ("refine", "refine.profile"),
    ],
)
def test_every_role_has_a_prompt_profile(role: str, key: str) -> None:
    section, _, name = key.partition(".")
    config = load_config(None, [f"{key}=my.yaml"], model=RunConfig)
    assert getattr(getattr(config, section), name) == "my.yaml"
    default = getattr(getattr(RunConfig(), section), name)
    if default is not None:
        assert load_profile(default).kind == role


@pytest.mark.parametrize(
    ("text", "needle", "hint"),
    [
        ("montecarlos: {}\n", "unknown key 'montecarlos'", "montecarlo"),
        ("label: {ration: 0.8}\n", "unknown key 'label.ration'", "ratio"),
        ("solutions: {sampling: {temprature: 1}}\n", "solutions.sampling.temprature", "temperature"),
        ("roles: {completer: {kynd: http}}\n", "roles.completer.kynd", "kind"),
        ("label: {ratio: high}\n", "'label.ratio' cannot be 'high'", ""),
        ("label: 3\n", "'label' cannot be 3", ""),
        ("label: null\n", "'label' cannot be None", ""),
        ("1: 2\n", "unknown key '1'", ""),
        ("seed: [1\n", "not valid YAML", ""),
        ("[" * 10_000, "nested too deeply", ""),
        ("- 1\n", "not a mapping", ""),
        ("seed: 1\nseed: 2\n", "the key 'seed' stands twice", ""),
        ("train: {model: a}\ntrain: {epochs: 2}\n", "the key 'train' stands twice", ""),
        ("roles: {policy: {options: &o {again: *o}}}\n", "recursive", ""),
        ("seed: " + "9" * 5000 + "\n", "thousands of digits", ""),
        ("seed: 2024-02-30\n", "'seed' cannot be '2024-02-30'", ""),
        ("roles: {policy: {options: {names: !!set {a, b}}}}\n", "not valid YAML", ""),
        ("train: {epochs: .inf}\n", "'train.epochs' cannot be inf", ""),
        (
            f"store: {{shard_size: {2**63}}}\n",
            f"'store.shard_size' cannot be {2**63}: it must be at most 9,223,372,036,854,775,807",
            "",
        ),
        (f"problems: {{limit: {10**40}}}\n", "it must be at most 9,223,372,036,854,775,807", ""),
        ("chats: {component_shares: {cot: .nan}}\n", "cannot be nan", ""),
        ("chats: {component_shares: {cot: 0.5}}\n", "sum to 1", ""),
    ],
)
def test_mistakes_name_the_place_and_the_remedy(tmp_path: Path, text: str, needle: str, hint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, model=RunConfig)
    assert needle in caught.value.message
    assert str(path) in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("override", ["label", "=3", "a..b=1", ".a=1", "seed=[1", "seed=" + "1" * 5000])
def test_malformed_overrides_are_named(override: str) -> None:
    with pytest.raises(ConfigError, match="override"):
        load_config(None, [override], model=RunConfig)


def test_a_missing_file_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the config file"):
        load_config(tmp_path / "absent.yaml", model=RunConfig)


@given(st.sampled_from(["hard", "difference", "ratio"]), st.floats(0.1, 2.0), st.floats(-1, 1))
def test_the_threshold_belongs_to_the_method(method: str, ratio: float, difference: float) -> None:
    config = LabelConfig(method=method, ratio=ratio, difference=difference)
    assert config.threshold == {"hard": 0.0, "ratio": ratio, "difference": difference}[method]


@pytest.mark.parametrize(
    ("make", "said", "hint"),
    [
        (lambda: VerifyConfig(vots=1), "VerifyConfig: unknown key 'vots'", "Did you mean 'votes'?"),
        (lambda: LabelConfig(method="x"), "'method' cannot be 'x': it must be 'hard', 'difference'", ""),
        (lambda: EngineConfig(options=3), "'options' cannot be 3: it must be a mapping", ""),
        (StrategyConfig, "StrategyConfig: 'kind' is missing", ""),
        (
            lambda: RunConfig(seed="x", train={"epochs": -1, "epoch": 2}),
            "3 mistakes:\n  'seed' cannot be 'x': it must be a whole number\n  'train.epochs' cannot be -1: it must be "
            "greater than 0\n  unknown key 'train.epoch' (Did you mean 'epochs'?)",
            "",
        ),
        (
            lambda: RunConfig(serve={"limits": {"a": {"concurency": 1}}}),
            "unknown key 'serve.limits.a.concurency'",
            "Did you mean 'concurrency'?",
        ),
    ],
)
def test_wrong_arguments_of_a_section_are_one_error_with_a_hint(
    make: Callable[[], object], said: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        make()
    assert said in refused.value.message and refused.value.hint == hint


def test_every_section_is_checked_by_its_constructor() -> None:
    kinds, found = [Section], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        found.add(kind)
        with pytest.raises(ConfigError, match="unknown key 'no_such_key'"):
            kind(no_such_key=1)
    assert {RunConfig, ServeConfig, VerifyConfig} <= found
