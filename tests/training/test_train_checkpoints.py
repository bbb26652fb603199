"""Which checkpoint a job resumes from, whatever lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from test_train_sft import options, samples, train, weights

from genprm.errors import TrainingError
from genprm.training import TrainProgress, sft, trainer
from genprm.training.checkpoints import last_checkpoint, seal, step_of

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")


def made(folder: Path, step: int, *, complete: bool = True) -> Path:
    """A checkpoint in name and records."""
    checkpoint = folder / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
    (checkpoint / "optimizer.pt").write_bytes(b"moments")
    if complete:
        seal(checkpoint)
    return checkpoint


@pytest.mark.parametrize("damaged", ["__0_0.distcp", ".metadata"])
def test_seals_cover_the_folders_of_sharded_checkpoints(tmp_path: Path, damaged: str) -> None:
    checkpoint = made(tmp_path, 4, complete=False)
    sharded = checkpoint / "pytorch_model_fsdp_0"
    sharded.mkdir()
    for name in ("__0_0.distcp", "__1_0.distcp", ".metadata"):
        (sharded / name).write_bytes(b"part")
    seal(checkpoint)
    assert last_checkpoint(tmp_path) == checkpoint
    (sharded / damaged).write_bytes(b"par")
    said: list[str] = []
    assert last_checkpoint(tmp_path, said.append) is None
    assert len(said) == 1 and "checkpoint-4 is damaged" in said[0]


def test_half_written_checkpoints_are_passed_over(tmp_path: Path) -> None:
    made(tmp_path, 3)
    (made(tmp_path, 10) / "optimizer.pt").write_bytes(b"momen")
    made(tmp_path, 12, complete=False)
    (tmp_path / "checkpoint-notes").mkdir()
    said: list[str] = []
    assert last_checkpoint(tmp_path, said.append) == tmp_path / "checkpoint-3"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint-3", "checkpoint-notes"]
    assert len(said) == 1 and "checkpoint-10 is damaged" in said[0]
    assert last_checkpoint(tmp_path / "none") is None


def test_what_only_has_the_name_of_a_checkpoint_is_none(tmp_path: Path) -> None:
    newest = made(tmp_path, 5)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "checkpoint-9").write_text("a file")
    (tmp_path / "checkpoint-99").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "checkpoint-999").symlink_to(tmp_path / "nowhere")
    (tmp_path / "checkpoint-²").mkdir()
    assert last_checkpoint(tmp_path) == newest
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["checkpoint-5", "checkpoint-²", "elsewhere"], "trainers would count the others"


def test_a_checkpoint_that_was_renamed_counts_as_the_step_it_is_of(tmp_path: Path) -> None:
    made(tmp_path, 5).rename(tmp_path / "checkpoint-13")
    newest = made(tmp_path, 10)
    assert last_checkpoint(tmp_path) == newest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-5"]
    assert [step_of(path) for path in sorted(tmp_path.iterdir())] == [10, 5]


def test_a_job_says_from_which_step_it_resumed_and_not_from_which_name(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sft, "CHECKPOINT_SECONDS", 0.0)
    monkeypatch.setattr(trainer, "SAVING_SHARE", float("inf"))

    def stop(progress: TrainProgress) -> None:
        if progress.step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(samples(4), options(base, epochs=5), tmp_path / "cut", seed=0, on_progress=stop)
    (checkpoint,) = (tmp_path / "cut" / "checkpoints").glob("checkpoint-*")
    assert checkpoint.name == "checkpoint-3"
    checkpoint.rename(checkpoint.with_name("checkpoint-999"))
    resumed = train(samples(4), options(base, epochs=5), tmp_path / "cut", seed=0)
    whole = train(samples(4), options(base, epochs=5), tmp_path / "whole", seed=0)
    assert (resumed.resumed_from, resumed.losses) == (3, whole.losses)
    assert all(
        torch.equal(tensor, weights(tmp_path / "cut")[name])
        for name, tensor in weights(tmp_path / "whole").items()
    )


def test_a_file_in_the_place_of_checkpoints_is_named(base: str, tmp_path: Path) -> None:
    report = train(samples(2), options(base, epochs=1), tmp_path, seed=0)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "checkpoints").write_text("mine")
    with pytest.raises(TrainingError, match="checkpoints is no folder") as caught:
        train(samples(2), options(base, epochs=1), tmp_path, seed=0)
    assert caught.value.hint.startswith("move it away")
    assert (tmp_path / "checkpoints").read_text() == "mine"
    (tmp_path / "checkpoints").unlink()
    assert train(samples(2), options(base, epochs=1), tmp_path, seed=0).files == report.files
