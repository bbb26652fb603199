from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genprm.config import LabelConfig, RunConfig, dump_config, load_config
from genprm.errors import ConfigError


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
    assert (config.seed, config.concurrency, config.label.ratio) == (3, 9, 0.7)


def test_a_dumped_config_reads_back_equal(tmp_path: Path) -> None:
    config = load_config(
        None, ["train.model=x", "filter.component_shares={cot: 0.5, direct: 0.5}"], model=RunConfig
    )
    # A mapping override adds to the default's keys only where the default is given in a base.
    assert load_config(write(tmp_path, dump_config(config)), model=RunConfig) == config


@pytest.mark.parametrize(
    ("text", "needle", "hint"),
    [
        ("montecarlos: {}\n", "unknown key 'montecarlos'", "montecarlo"),
        ("label: {ration: 0.8}\n", "unknown key 'label.ration'", "ratio"),
        ("solutions: {sampling: {temprature: 1}}\n", "solutions.sampling.temprature", "temperature"),
        ("roles: {completer: {kynd: http}}\n", "roles.completer.kynd", "kind"),
        ("label: {ratio: high}\n", "'label.ratio' cannot be 'high'", ""),
        ("seed: [1\n", "not valid YAML", ""),
        ("- 1\n", "not a mapping", ""),
        ("filter: {component_shares: {cot: 0.5}}\n", "sum to 1", ""),
    ],
)
def test_mistakes_name_the_place_and_the_remedy(tmp_path: Path, text: str, needle: str, hint: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path, model=RunConfig)
    assert needle in caught.value.message
    assert str(path) in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("override", ["label", "=3", "a..b=1", ".a=1", "seed=[1"])
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
