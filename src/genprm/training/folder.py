"""The folder of a training job: whose it is, whether it is finished, and whether its files are intact."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import ValidationError

from genprm.errors import TrainingError
from genprm.store import file_checksum, write_atomic
from genprm.text.prompts import CARD
from genprm.training.report import TrainReport

MARKER = "genprm_training.json"
"""Written last into a finished output folder; holds the `TrainReport`."""
CHECKPOINTS = "checkpoints"
LOGS = "logs"
"""Written by experiment trackers; no part of the model."""

_JOB = "genprm_job.json"
_OTHER_FOLDER = "give another output folder, or remove this one to train anew"


def finished(folder: Path, job: str, on_repair: Callable[[str], None] | None) -> TrainReport | None:
    """The report of a finished and intact job, None otherwise; a damaged model is removed.

    Raises:
        TrainingError: the folder belongs to another job, or cannot be written.
    """
    marker = folder / MARKER
    with _folder_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        report = _read_report(marker)
        if report is not None and report.job != job:
            raise TrainingError(
                f"{folder} holds the finished model of another training job", hint=_OTHER_FOLDER
            )
        damage = _damage(folder, report) if marker.exists() else []
        if report is not None and not damage:
            return report
        if damage:
            if on_repair is not None:
                on_repair(f"the trained model {folder}: {', '.join(damage)}; it is trained again")
            _clear(folder, report)
        _refuse_other_job(folder, job)
    return None


def claim(folder: Path, job: str) -> None:
    """Note whose checkpoints the folder is about to hold; only now, since a job without samples leaves nothing."""
    with _folder_errors(folder):
        _refuse_other_job(folder, job)
        write_atomic(folder / _JOB, json.dumps({"job": job}).encode())


def _refuse_other_job(folder: Path, job: str) -> None:
    record = folder / _JOB
    if record.exists() and json.loads(record.read_text(encoding="utf-8")).get("job") != job:
        raise TrainingError(f"{folder} holds the checkpoints of another training job", hint=_OTHER_FOLDER)


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"cannot write to the output folder {folder}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise TrainingError(
            f"{folder} holds a damaged record of a training job", hint=_OTHER_FOLDER
        ) from error


def _read_report(marker: Path) -> TrainReport | None:
    """The report of a finished job; None if there is none, or none that can be read."""
    try:
        return TrainReport.model_validate_json(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValidationError, UnicodeDecodeError):
        return None


def checksums(folder: Path) -> dict[str, str]:
    """Checksums of every file of a saved model, checkpoints and records of the job left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: file_checksum(path)
        for name, path in names.items()
        if name not in (MARKER, _JOB, CARD) and not name.startswith((".", f"{CHECKPOINTS}/", f"{LOGS}/"))
    }


def _damage(folder: Path, report: TrainReport | None) -> list[str]:
    """What is wrong with a finished folder, file by file."""
    if report is None:
        return [f"{MARKER} cannot be read"]
    found = checksums(folder)
    missing = [f"{name} is missing" for name in report.files if name not in found]
    changed = [
        f"{name} was changed or cut"
        for name in report.files
        if found.get(name, report.files[name]) != report.files[name]
    ]
    return missing + changed


def _clear(folder: Path, report: TrainReport | None) -> None:
    """Remove what a training job left in a damaged folder, and nothing else that may lie there."""
    (folder / MARKER).unlink()
    (folder / _JOB).unlink(missing_ok=True)
    for name in report.files if report is not None else ():
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
