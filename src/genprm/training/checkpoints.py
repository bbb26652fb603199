"""Checkpoints of a training job: when one counts, and which one a job resumes from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from genprm.errors import TrainingError
from genprm.identity import content_key, model_identity
from genprm.store import write_atomic
from genprm.training.folder import OnRepair

SEAL = "genprm_checkpoint.json"
"""Written last into a checkpoint; holds keys of its files."""
_STATE = "trainer_state.json"
_NAME = re.compile(r"checkpoint-[0-9]+")


def seal(checkpoint: Path) -> None:
    """Mark a checkpoint as complete, when all of its files are written."""
    write_atomic(checkpoint / SEAL, json.dumps(_contents(checkpoint)).encode())


def last_checkpoint(folder: Path, on_repair: OnRepair | None = None) -> Path | None:
    """The newest complete and intact checkpoint; others, left by a kill or damaged since, are removed.

    One that was renamed gets its name back: trainers tell by the names which checkpoints are older.

    Args:
        on_repair: called with one sentence about each checkpoint that was complete and is damaged.

    Raises:
        TrainingError: a checkpoint cannot be read or removed.
    """
    intact: dict[Path, int] = {}
    try:
        for path in sorted(folder.glob("checkpoint-*")):
            if _NAME.fullmatch(path.name) is None:
                continue
            sealed = _sealed(path)
            if sealed is not None and sealed == _contents(path):
                step = step_of(path)
                right = path.with_name(f"checkpoint-{step}")
                intact[path if right.exists() else path.rename(right)] = step
                continue
            if sealed is not None and on_repair is not None:
                on_repair(
                    f"the checkpoint {path} is damaged; training resumes from an earlier one, or begins anew"
                )
            _remove(path)
    except OSError as error:
        raise TrainingError(
            f"the checkpoints in {folder} cannot be read: {error.strerror or error}",
            hint="give yourself the right to read and write them, or remove them to train anew",
        ) from error
    return max(intact, key=intact.__getitem__, default=None)


def step_of(checkpoint: Path) -> int:
    """How many optimizer steps were done when an intact checkpoint was made, whatever it is called."""
    return int(json.loads((checkpoint / _STATE).read_text(encoding="utf-8"))["global_step"])


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _contents(checkpoint: Path) -> dict[str, str]:
    """A key of a checkpoint's own files, and one of those in its folders, where sharded weights lie."""
    deeper = [
        [path.relative_to(checkpoint).as_posix(), model_identity(str(path))]
        for path in sorted(checkpoint.glob("*/**/*"))
        if path.is_file()
    ]
    own = {"files": model_identity(str(checkpoint))}
    return own | {"folders": content_key(deeper)} if deeper else own


def _sealed(checkpoint: Path) -> dict[str, str] | None:
    """The keys of a checkpoint's files when it was made; None if it was never finished."""
    try:
        found = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
