"""Fine-tuning: it learns, ends within its budgets, survives kills, and says what is wrong."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from genprm.config import TrainConfig, VerifyConfig
from genprm.engines import Request, SamplingParams, make_engine
from genprm.errors import DataError, MissingExtraError, TrainingError
from genprm.records import ChatMessage, TrainingSample
from genprm.rewards.genprm.card import write_card
from genprm.text.prompts import VerifierProfile
from genprm.training import MARKER, TrainProgress, TrainReport, sft, trainer, training_key
from read_keys import watched

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

PROFILE = VerifierProfile(name="plain", system="Check.", first_user="{step}", strip_markers=False)
train = partial(sft.train, profile=PROFILE)


def samples(count: int, turns: int = 2) -> list[TrainingSample]:
    made = []
    for number in range(count):
        chat = [ChatMessage(role="system", content="Check.")]
        for t in range(turns):
            word = "Yes" if (number + t) % 3 else "No"
            chat.append(ChatMessage(role="user", content=f"Step {t}: {number} is {number * 7}"))
            text = f"<analyze>\n{number * 7}\n</analyze>\n<output>\n**Judgement**: $\\boxed{{{word}}}$\n</output>"
            chat.append(ChatMessage(role="assistant", content=text))
        made.append(
            TrainingSample(id=f"{number}", solution_id="s", problem_id="p", conversations=tuple(chat))
        )
    return made


def options(base: str, **changes: Any) -> TrainConfig:
    settings: dict[str, Any] = {"model": base, "learning_rate": 1e-2, "batch_size": 4, "epochs": 3}
    return TrainConfig(**(settings | changes))


def weights(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def test_it_learns_three_samples_by_heart(base: str, tmp_path: Path) -> None:
    report = train(samples(3), options(base, batch_size=3, epochs=120), tmp_path / "out", seed=0)
    assert report.loss_first > 3
    assert report.loss_last < 0.3
    assert report.steps == report.planned_steps == 120
    assert report.ended_by == "plan"


def test_the_result_is_a_model_folder_that_continues_what_it_learnt(base: str, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = samples(1, turns=1)
    train(given, options(base, batch_size=1, epochs=120), tmp_path, seed=0)
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(tmp_path),
        AutoTokenizer.from_pretrained(tmp_path),
    )
    prompt = [m.model_dump() for m in given[0].conversations[:2]]
    text = tokenizer.apply_chat_template(prompt, tokenize=False) + "<assistant>"
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
    written = model.generate(ids, do_sample=False, max_new_tokens=90, eos_token_id=tokenizer.eos_token_id)
    answer = tokenizer.decode(written[0, ids.shape[1] :])
    assert answer == given[0].conversations[2].content + "<end>"
    assert not (tmp_path / "checkpoints").exists()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.glob("*.*")} == {0o644}, (
        "whoever serves it reads it"
    )


def test_equal_seeds_give_equal_curves_and_models(base: str, tmp_path: Path) -> None:
    first, again, other = (
        train(samples(9), options(base), tmp_path / name, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first.losses == again.losses
    assert first.losses != other.losses
    for name, tensor in weights(tmp_path / "a").items():
        assert torch.equal(tensor, weights(tmp_path / "b")[name])


def test_micro_batches_change_nothing_but_rounding(base: str, tmp_path: Path) -> None:
    whole = train(samples(8), options(base, batch_size=8), tmp_path / "a", seed=1)
    cut = train(samples(8), options(base, batch_size=8, micro_batch_size=3), tmp_path / "b", seed=1)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-4)


def test_token_budget_ends_the_plan(base: str, tmp_path: Path) -> None:
    seen: list[TrainProgress] = []
    report = train(
        samples(8), options(base, epochs=100, max_tokens=3000), tmp_path, seed=0, on_progress=seen.append
    )
    assert report.ended_by == "plan"
    assert 3000 <= report.tokens < 3000 + 4 * 250
    assert [p.step for p in seen] == list(range(1, report.steps + 1))
    assert {p.total for p in seen} == {report.steps}
    assert seen[-1].tokens == report.tokens
    assert tuple(p.loss for p in seen) == report.losses


def test_time_budget_ends_training_with_a_finished_model(base: str, tmp_path: Path) -> None:
    warm = train(samples(4), options(base, epochs=1), tmp_path / "warm", seed=0)
    budget = warm.seconds + 2
    report = train(samples(4), options(base, epochs=1e4, max_seconds=budget), tmp_path / "out", seed=0)
    assert report.ended_by == "seconds"
    assert 1 <= report.steps < report.planned_steps
    assert report.seconds < budget + 60
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_learning_rate_ends_with_the_time_budget(base: str, tmp_path: Path) -> None:
    from genprm.training.batches import make_plan
    from genprm.training.trainer import Clock, Job

    def job(seconds: float, **changes: Any) -> Job:
        plan = make_plan([1] * 100, batch_size=1, epochs=1, max_tokens=None, seed=0)
        settings = options(base, warmup_ratio=0.1, schedule="linear", **changes)
        return Job(None, [], plan, settings, tmp_path, 0, Clock(0.0, agreed=seconds), 60.0)  # type: ignore[arg-type]

    assert job(0).lr_factor(0) == pytest.approx(0.05)
    assert job(0).lr_factor(54) == pytest.approx(0.5, abs=0.01)
    assert job(0).lr_factor(99) == pytest.approx(0.005, abs=0.002)
    assert job(55, max_seconds=100).lr_factor(3) == pytest.approx(0.5, abs=0.01)
    assert job(120, max_seconds=100).lr_factor(3) == 0
    late = job(52, max_seconds=100)
    late.clock.setup = 50
    assert late.lr_factor(0) == pytest.approx(0.4, abs=0.05), "setting up skips no part of the warm-up"


def test_a_finished_folder_is_not_trained_again(base: str, tmp_path: Path) -> None:
    first = train(samples(4), options(base), tmp_path, seed=0)
    stamp = (tmp_path / "model.safetensors").stat().st_mtime_ns
    again = train(samples(4), options(base), tmp_path, seed=0)
    assert again == first
    assert (tmp_path / "model.safetensors").stat().st_mtime_ns == stamp
    assert TrainReport.model_validate_json((tmp_path / MARKER).read_text()) == first


def test_a_folder_of_another_job_is_refused(base: str, tmp_path: Path) -> None:
    train(samples(4), options(base), tmp_path, seed=0)
    with pytest.raises(TrainingError, match="another training job") as caught:
        train(samples(5), options(base), tmp_path, seed=0)
    assert caught.value.hint


def test_a_job_without_samples_does_not_claim_the_folder(base: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no samples"):
        train([], options(base), tmp_path, seed=0)
    assert train(samples(4), options(base), tmp_path, seed=0).samples == 4


KILLED = """
import sys, torch
torch.set_num_threads(1)
sys.path[:0] = [{tests!r}, {helpers!r}]
from genprm.training import sft, trainer
from test_train_sft import PROFILE, options, samples
sft.CHECKPOINT_SECONDS = 0.0
trainer.SAVING_SHARE = float("inf")
sft.train(samples(9), options({base!r}, epochs=40), {out!r}, seed=1, profile=PROFILE,
          on_progress=lambda p: print(p.step, flush=True))
"""


def test_a_killed_job_resumes_and_ends_with_the_same_model(base: str, tmp_path: Path) -> None:
    """kill -9 in the middle of training: the second attempt continues from the last checkpoint."""
    out = tmp_path / "killed"
    here = Path(__file__).parent
    script = KILLED.format(tests=str(here), helpers=str(here.parent), base=base, out=str(out))
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) == 7:
            process.send_signal(signal.SIGKILL)
            break
    process.wait()
    assert not (out / MARKER).exists()
    resumed = train(samples(9), options(base, epochs=40), out, seed=1)
    whole = train(samples(9), options(base, epochs=40), tmp_path / "whole", seed=1)
    assert 5 <= resumed.resumed_from <= resumed.planned_steps // 2
    assert resumed.losses == whole.losses
    for name, tensor in weights(tmp_path / "whole").items():
        assert torch.equal(tensor, weights(out)[name]), "bit for bit"


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.pt", "trainer_state.json", "rng_state.pth"]
)
@pytest.mark.parametrize("damage", ["cut", "removed"])
def test_a_job_whose_checkpoint_is_damaged_begins_anew_and_says_so(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, damage: str
) -> None:
    monkeypatch.setattr(sft, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "SAVING_SHARE", float("inf"))

    class Stop(Exception):
        pass

    def stop(progress: TrainProgress) -> None:
        if progress.step == 3:
            raise Stop

    with pytest.raises(Stop):
        train(samples(4), options(base, epochs=3), tmp_path / "cut", seed=0, on_progress=stop)
    (checkpoint,) = (tmp_path / "cut" / "checkpoints").glob("checkpoint-*")
    if damage == "cut":
        (checkpoint / file).write_bytes((checkpoint / file).read_bytes()[:-5])
    else:
        (checkpoint / file).unlink()
    said: list[str] = []
    again = train(samples(4), options(base, epochs=3), tmp_path / "cut", seed=0, on_repair=said.append)
    whole = train(samples(4), options(base, epochs=3), tmp_path / "whole", seed=0)
    assert again.resumed_from == 0 and again.losses == whole.losses
    assert len(said) == 1 and "is damaged" in said[0]


def test_one_process_alone_trains_in_a_folder(base: str, tmp_path: Path) -> None:
    refused: list[TrainingError] = []

    def second(progress: TrainProgress) -> None:
        with pytest.raises(TrainingError, match="another process is training in") as caught:
            train(samples(4), options(base), tmp_path, seed=0)
        refused.append(caught.value)

    report = train(samples(4), options(base), tmp_path, seed=0, on_progress=second)
    assert len(refused) == report.steps and "another output folder" in refused[0].hint
    assert train(samples(4), options(base), tmp_path, seed=0) == report


def test_weights_that_are_no_numbers_are_not_saved(base: str, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"weights are not finite after training: [\d,]+, the first in model\."
    ):
        train(samples(4), options(base, learning_rate=1e38, epochs=1, batch_size=4), tmp_path, seed=0)
    assert not (tmp_path / MARKER).exists() and not (tmp_path / "model.safetensors").exists()


def test_lora_trains_adapters_and_saves_a_merged_model(base: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    report = train(samples(4), options(base, lora_rank=4, epochs=10), tmp_path, seed=0)
    assert report.loss_last < report.loss_first
    merged, before = weights(tmp_path), weights(Path(base))
    assert merged.keys() == before.keys()
    assert torch.equal(merged["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(
        merged["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"]
    )
    assert (tmp_path / "adapter" / "adapter_config.json").is_file()


async def test_the_local_engine_continues_with_merged_adapters(base: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    given = samples(1, turns=1)
    train(given, options(base, lora_rank=8, batch_size=1, epochs=20), tmp_path, seed=0)
    asked = Request(
        messages=given[0].conversations[:2], params=SamplingParams(max_tokens=20, temperature=0.0)
    )
    texts = []
    for model in (str(tmp_path), base):
        engine = make_engine("local", model=model, device="cpu")
        (answer,) = await engine.generate([asked])
        await engine.aclose()
        assert answer.error is None
        texts.append(answer.text)
    assert texts[0] != texts[1], "what was trained is in the weights that engines read"


def test_nothing_is_reported_to_the_makers_of_the_library(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trl.trainer import base_trainer

    sent: list[Any] = []
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr(base_trainer, "send_telemetry", lambda **about: sent.append(about))
    train(samples(2), options(base, epochs=1), tmp_path, seed=0)
    assert sent == []


def test_a_mixture_of_experts_trains_with_its_balancing_loss(base: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer, MixtralConfig, MixtralForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_local_experts": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    config = MixtralConfig(vocab_size=len(tokenizer), output_router_logits=True, **sizes, **heads)
    MixtralForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    given = options(str(tmp_path / "base"), epochs=5)
    whole = train(samples(4), given, tmp_path / "out", seed=0)
    assert whole.loss_last < whole.loss_first


def test_gradient_checkpointing_and_bfloat16_train(base: str, tmp_path: Path) -> None:
    report = train(
        samples(4),
        options(base, gradient_checkpointing=True, precision="mixed", epochs=10),
        tmp_path,
        seed=0,
    )
    assert report.loss_last < report.loss_first
    assert report.precision == "mixed"
    assert next(iter(weights(tmp_path).values())).dtype == torch.float32, "files keep the base's type"


def test_direct_baseline_trains_on_judgements_alone(base: str, tmp_path: Path) -> None:
    whole = train(samples(4), options(base, epochs=1), tmp_path / "rationale", seed=0)
    direct = train(samples(4), options(base, form="direct", epochs=1), tmp_path / "direct", seed=0)
    assert direct.trained_tokens < whole.trained_tokens
    assert direct.tokens < whole.tokens


def test_long_samples_are_dropped_and_counted(base: str, tmp_path: Path) -> None:
    mixed = [*samples(3, turns=1), *samples(2, turns=6)]
    report = train(mixed, options(base), tmp_path, seed=0)
    assert report.max_length == 512, "the model's own limit"
    assert (report.samples, report.dropped_too_long) == (3, 2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": ""}, "no model"),
        ({"model": "/no/such/folder"}, "cannot load"),
        ({"max_length": 10}, "no samples to train on: all 4 are longer than 10 tokens"),
        ({"learning_rate": 1e30}, "not finite"),
    ],
)
def test_what_cannot_be_trained_says_so(
    base: str, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    with pytest.raises(TrainingError, match=says) as caught:
        train(samples(4), options(base, **change), tmp_path, seed=0)
    assert caught.value.hint


def test_no_samples_is_an_error(base: str, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no samples"):
        train([], options(base), tmp_path, seed=0)


def test_a_tokenizer_larger_than_the_model_is_an_error(base: str, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = tmp_path / "model"
    shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<one-too-many>"])
    tokenizer.save_pretrained(folder)
    with pytest.raises(TrainingError, match="embeds"):
        train(samples(2), options(str(folder)), tmp_path / "out", seed=0)


def test_missing_packages_name_the_extra(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtraError, match="accelerate") as caught:
        train(samples(2), options(base), tmp_path, seed=0)
    assert "genprm[train]" in caught.value.hint


@pytest.fixture(scope="module")
def trained(base: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "out"
    train(samples(4), options(base, epochs=1), folder, seed=0)
    return folder


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": Path.unlink,
    "cut": _cut,
    "one bit": _flip,
    "empty": lambda path: path.write_bytes(b"") and None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_a_damaged_model_is_reported_and_trained_again(
    base: str, tmp_path: Path, trained: Path, name: str, damage: str
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(trained, folder)
    (folder / "notes.txt").write_text("mine")
    DAMAGES[damage](folder / name)
    told: list[str] = []
    steps: list[int] = []
    report = train(
        samples(4),
        options(base, epochs=1),
        folder,
        seed=0,
        on_progress=lambda state: steps.append(state.step),
        on_repair=told.append,
    )
    says = "is missing" if damage == "deleted" else "was changed or cut"
    assert told == [f"the trained model {folder}: {name} {says}; it is trained again"]
    assert steps == list(range(1, report.steps + 1))
    for tensor_name, tensor in weights(trained).items():
        assert torch.equal(tensor, weights(folder)[tensor_name])
    assert (folder / "notes.txt").read_text() == "mine"
    again: list[str] = []
    assert train(samples(4), options(base, epochs=1), folder, seed=0, on_repair=again.append) == report
    assert again == []


@pytest.mark.parametrize("content", [b"", b'{"job": "x"', b"\xff\xfe"], ids=["empty", "cut", "no text"])
def test_a_damaged_record_is_no_finished_model(
    base: str, tmp_path: Path, trained: Path, content: bytes
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(trained, folder)
    (folder / MARKER).write_bytes(content)
    told: list[str] = []
    train(samples(4), options(base, epochs=1), folder, seed=0, on_repair=told.append)
    assert told == [f"the trained model {folder}: {MARKER} cannot be read; it is trained again"]
    assert TrainReport.model_validate_json((folder / MARKER).read_text()).steps > 0


def test_the_report_names_every_file_of_the_model_and_the_card_is_none(
    base: str, tmp_path: Path, trained: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(trained, folder)
    report = TrainReport.model_validate_json((folder / MARKER).read_text())
    saved = {path.name for path in folder.iterdir()} - {MARKER, "genprm_job.json"}
    assert report.files.keys() == saved >= {"model.safetensors", "config.json", "tokenizer.json"}
    write_card(folder, VerifyConfig(), form="rationale")
    told: list[str] = []
    assert train(samples(4), options(base, epochs=1), folder, seed=0, on_repair=told.append) == report
    assert told == [], "how the model is asked is no part of it"


def test_a_key_names_samples_options_seed_and_the_content_of_the_model(base: str, tmp_path: Path) -> None:
    def key_of(count: int, chosen: TrainConfig, seed: int = 0, profile: VerifierProfile = PROFILE) -> str:
        return training_key(samples(count), chosen, seed, profile)

    key = key_of(3, options(base))
    copy = tmp_path / "copy"
    shutil.copytree(base, copy)
    assert key_of(3, options(str(copy))) == key, "wherever the model is stored"
    _flip(copy / "model.safetensors")
    different = {
        key,
        key_of(3, options(str(copy))),
        key_of(2, options(base)),
        key_of(3, options(base), 1),
        key_of(3, options(base, form="direct")),
        key_of(3, options("org/model")),
    }
    assert len(different) == 6
    other = PROFILE.model_copy(update={"system_direct": "Answer Yes or No."})
    assert key_of(3, options(base), profile=other) == key, "the chats hold what a profile decides"
    direct = options(base, form="direct")
    assert key_of(3, direct, profile=other) != key_of(3, direct), "but the direct form gets its system turn"


def test_rationale_form_needs_rationales(base: str, tmp_path: Path) -> None:
    direct = [s.model_copy(update={"form": "direct"}) for s in samples(2)]
    with pytest.raises(DataError, match="judgements alone"):
        train(direct, options(base), tmp_path, seed=0)


def test_every_option_of_training_has_a_reader(base: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    given = options(base, epochs=1, lora_rank=1, max_seconds=60.0)
    with watched(given) as reads:
        train(samples(2), given, tmp_path, seed=0)
    assert reads.missing() == []
