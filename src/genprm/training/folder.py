"""The folder of a training job: whose it is, whether it is finished, and whether its files are intact."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
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
OTHER_FOLDER = "give another output folder, or remove this one to train anew"
"""The hint of every refusal."""


def finished(folder: Path, job: str, on_repair: Callable[[str], None] | None) -> TrainReport | None:
    """The report of a finished and intact job, None otherwise; a damaged model is removed.

    Nothing is made: a folder that is not there, or is empty, stays so until `claim`.

    Raises:
        TrainingError: the folder belongs to another job, holds anything else, or cannot be written.
    """
    with _folder_errors(folder):
        report = _read_report(folder / MARKER)
        if report is not None and report.job != job:
            raise TrainingError(
                f"{folder} holds the finished model of another training job", hint=OTHER_FOLDER
            )
        if not (folder / MARKER).exists():
            if not _is_of_job(folder, job):
                require_free(folder)
            return None
        damage = _damage(folder, report)
        if report is not None and not damage:
            return report
        _is_of_job(folder, job)
        if on_repair is not None:
            on_repair(f"the trained model {folder}: {', '.join(damage)}; it is trained again")
        # The record first: without one, a folder that keeps other files besides would be refused the next time.
        foreign = checksums(folder).keys() - report.files.keys() if report is not None else set()
        _record(folder, job, sorted(foreign | _foreign(folder)))
        _clear(folder, report)
    return None


def claim(folder: Path, job: str) -> None:
    """Note whose checkpoints the folder is about to hold; only now, since a job without samples leaves nothing."""
    with _folder_errors(folder):
        if not _is_of_job(folder, job):
            _record(folder, job)


def require_free(folder: Path) -> None:
    """Raise unless the folder is empty, or can be made.

    Raises:
        TrainingError: files are in it, which training would overwrite.
        OSError: it cannot be written, or is no folder.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise TrainingError(f"the output folder {folder} is not empty", hint=OTHER_FOLDER)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))


def _is_of_job(folder: Path, job: str) -> bool:
    """Whether the folder was claimed for this job; an error if it was for another one."""
    record = folder / _JOB
    if not record.exists():
        return False
    if json.loads(record.read_text(encoding="utf-8")).get("job") != job:
        raise TrainingError(f"{folder} holds the checkpoints of another training job", hint=OTHER_FOLDER)
    return True


def _record(folder: Path, job: str, foreign: Sequence[str] = ()) -> None:
    """Note whose folder it is, and which files in it are no part of the model."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / _JOB, json.dumps({"job": job, "foreign": foreign}).encode())


def _foreign(folder: Path) -> set[str]:
    try:
        return set(json.loads((folder / _JOB).read_text(encoding="utf-8")).get("foreign", ()))
    except (FileNotFoundError, ValueError):  # a finished model does not depend on the record
        return set()


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(f"cannot write to the output folder {folder}: {error.strerror}") from error
    except (ValueError, AttributeError) as error:
        raise TrainingError(
            f"{folder} holds a damaged record of a training job", hint=OTHER_FOLDER
        ) from error


def _read_report(marker: Path) -> TrainReport | None:
    """The report of a finished job; None if there is none, or none that can be read."""
    try:
        return TrainReport.model_validate_json(marker.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValidationError, UnicodeDecodeError):
        return None


def checksums(folder: Path) -> dict[str, str]:
    """Checksums of every file of a saved model; checkpoints, records of the job and foreign files are left out."""
    others = {MARKER, _JOB, CARD, *_foreign(folder)}
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in paths}
    return {
        name: file_checksum(path)
        for name, path in names.items()
        if name not in others and not name.startswith((".", f"{CHECKPOINTS}/", f"{LOGS}/"))
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
    for name in report.files if report is not None else ():
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint; incomplete ones, left by a kill, are removed."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))
    for path in reversed(found):
        try:  # the state is written after everything else
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            shutil.rmtree(path)
            continue
        return path
    return None
