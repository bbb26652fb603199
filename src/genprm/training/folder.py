"""The folder of a training job: whose it is, whether it is finished, and whether its files are intact."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import IO, Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from genprm.errors import TrainingError
from genprm.identity import is_card
from genprm.store import file_checksum, write_atomic
from genprm.text.prompts import CARD

MARKER = "genprm_training.json"
"""Written last into a finished folder of `sft.train`; holds the report."""
PRM_MARKER = "genprm_prm_training.json"
"""The same, of `prm.train_discriminative`."""
GRPO_MARKER = "genprm_grpo_training.json"
DPO_MARKER = "genprm_dpo_training.json"
"""The same, of `rl.train_grpo` and `rl.train_dpo`."""
CHECKPOINTS = "checkpoints"
LOCK = ".genprm_training.lock"
LOGS = "logs"
"""Written by experiment trackers; no part of the model."""
MODEL_CARD = "README.md"
EARLIER_CARD = "README.earlier.md"
"""What the card of a model that was damaged becomes when it is trained again; its owner may have written in it. The next
one is `README.earlier.2.md`, and so on.
"""

_SPARED = {LOCK, LOGS}
"""Names that may stand in a folder which no job has claimed."""
_RECORDS = {
    MARKER: "genprm_job.json",
    PRM_MARKER: "genprm_prm_job.json",
    GRPO_MARKER: "genprm_grpo_job.json",
    DPO_MARKER: "genprm_dpo_job.json",
}
_FULL = ("No space left", "unexpected pos", "PytorchStreamWriter", "iostream error")
"""What libraries say of a full disk: safetensors names it, torch finds a file shorter than what it wrote."""
OTHER_FOLDER = "give another output folder, or remove this one to train anew"
"""The hint of every refusal."""
OnRepair = Callable[[str], None]


class _Report(Protocol):
    """What a job's report must say about its folder."""

    @property
    def job(self) -> str: ...
    @property
    def files(self) -> dict[str, str]: ...
    def model_dump_json(self, *, indent: int | None = None) -> str: ...


ReportT = TypeVar("ReportT", bound=_Report)


class JobFolder(Generic[ReportT]):
    """An output folder that belongs to one job.

    Args:
        path: made by `claimed`, not before.
        job: names what is trained.
        marker: the name of the file that marks a finished folder.
        report: the type of the report in it.

    Raises:
        TrainingError: an empty path, which would be the current folder.
    """

    def __init__(self, path: str | Path, job: str, marker: str, report: type[ReportT]) -> None:
        if not str(path).strip():
            raise TrainingError("the output folder has no name", hint="'.' is the current folder")
        path = Path(path)
        self.path = path
        self.job = job
        self.checkpoints = path / CHECKPOINTS
        self._marker = path / marker
        self._record = path / _RECORDS[marker]
        self._report = report

    def finished(self) -> ReportT | None:
        """The report of a finished and intact job, None otherwise.

        Nothing is changed, whatever is found: whether a damaged model can be trained again is not known yet, and other
        processes may work in the folder. See `claimed`.

        Raises:
            TrainingError: the folder belongs to another job, holds anything else, or cannot be written; or a folder has
                the name of one of the model's files.
        """
        with self._errors():
            report, damage = self._found()
        return None if damage else report

    @contextmanager
    def claimed(self, on_repair: OnRepair | None = None) -> Iterator[ReportT | None]:
        """Note whose checkpoints the folder is about to hold, and keep other processes out of it meanwhile.

        Only now, since a job without samples leaves nothing. It may be long since `finished` was asked: what is yielded
        is the report of a process that has finished the job meanwhile, or None. A damaged model is removed. A job that
        ends before its first checkpoint, by an error or by the user, leaves the folder free for another one.

        Args:
            on_repair: called if a model is damaged, with one sentence about it.

        Raises:
            TrainingError: another process is training in the folder, it belongs to another job or cannot be written, or
                no space is left.
        """
        with self._errors():
            made = not self.path.is_dir()
            lock = self._lock()
        with lock:
            try:
                with self._errors():
                    report, damage = self._found()
                    if damage:
                        self._remove_damaged(report, damage, on_repair)
                done = None if damage else report
                if done is None:
                    self._claim()
                yield done
            except BaseException as error:
                self._release(made=made)
                if not _is_full(error):
                    raise
                raise TrainingError(
                    f"no space is left for {self.path}",
                    hint="free some disk space; the same command resumes from the last checkpoint, if there is one",
                ) from error
            finally:
                if self._marker.exists():
                    (self.path / LOCK).unlink(missing_ok=True)

    def finish(self, report: ReportT) -> None:
        """Mark a saved model as finished, remove what only resuming needed, and set aside an earlier training's card."""
        with self._errors():
            self._set_card_aside()
            self._let_others_read(report.files)
            write_atomic(self._marker, report.model_dump_json(indent=1).encode())
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def checksums(self) -> dict[str, str]:
        """Checksums of every file of a saved model; checkpoints, cards, records and foreign files are left out."""
        others = {self._marker.name, self._record.name, CARD, *self._foreign()}
        paths = sorted(path for path in self.path.rglob("*") if path.is_file())
        names = {path.relative_to(self.path).as_posix(): path for path in paths}
        return {
            name: file_checksum(path)
            for name, path in names.items()
            if name not in others
            and not is_card(path.name)
            and not name.startswith((".", f"{CHECKPOINTS}/", f"{LOGS}/"))
        }

    def _set_card_aside(self) -> None:
        if not (self.path / MODEL_CARD).is_file():
            return
        later = (f"{Path(EARLIER_CARD).stem}.{number}.md" for number in count(2))
        names = chain([EARLIER_CARD], later)
        free = next(path for path in map(self.path.joinpath, names) if not os.path.lexists(path))
        (self.path / MODEL_CARD).replace(free)

    def _let_others_read(self, names: Iterable[str]) -> None:
        """Give files the rights of the user's new files: safetensors lets nobody but their owner read weights."""
        rights = stat.S_IMODE((self.path / LOCK).stat().st_mode)
        for name in names:
            with suppress(PermissionError):  # file systems without rights of their own
                (self.path / name).chmod(rights)

    def _claim(self) -> None:
        with self._errors():
            if not self._is_claimed():
                self._note()
            self._require_place_for_checkpoints()

    def _is_claimed(self) -> bool:
        """Whether the folder was claimed for this job; an error if it was for another one."""
        if not self._record.exists():
            return False
        if json.loads(self._record.read_text(encoding="utf-8")).get("job") != self.job:
            raise TrainingError(
                f"{self.path} holds the checkpoints of another training job", hint=OTHER_FOLDER
            )
        return True

    def _require_place_for_checkpoints(self) -> None:
        there = self.checkpoints.exists() or self.checkpoints.is_symlink()
        if there and not self.checkpoints.is_dir():
            raise TrainingError(
                f"{self.checkpoints} is no folder", hint="move it away: checkpoints are written there"
            )

    def _require_files(self, report: ReportT | None) -> None:
        names = report.files if report is not None else ()
        taken = next((self.path / name for name in names if (self.path / name).is_dir()), None)
        if taken is not None:
            raise TrainingError(
                f"{taken} is a folder, where a file of the trained model belongs",
                hint="move it away; the same command then trains the model again",
            )

    def _lock(self) -> IO[bytes]:
        """The file of the lock, locked.

        Whoever held the lock removes its file if the job is finished; a lock on a file that is gone keeps nobody out.
        """
        path = self.path / LOCK
        while True:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = path.open("ab")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                raise TrainingError(
                    f"another process is training in {self.path}",
                    hint="wait until it has finished, or give another output folder",
                ) from None
            if _is_at(path, lock):
                return lock
            lock.close()

    def _note(self, foreign: Sequence[str] = ()) -> None:
        """Note whose folder it is, and which files in it are no part of the model."""
        write_atomic(self._record, json.dumps({"job": self.job, "foreign": foreign}).encode())

    def _release(self, *, made: bool) -> None:
        """Leave the folder as it was found, if there is nothing in it to resume from.

        Args:
            made: whether there was no folder before.
        """
        with suppress(OSError, TrainingError), self._errors():
            others = {path.name for path in self.path.iterdir()} - {
                self._record.name,
                CHECKPOINTS,
                *_SPARED,
            }
            if others or any(self.checkpoints.glob("*")):
                return
            if self._is_claimed():
                self._record.unlink()
            if self.checkpoints.is_dir():
                self.checkpoints.rmdir()
            (self.path / LOCK).unlink()
            if made:
                self.path.rmdir()

    def _foreign(self) -> set[str]:
        try:
            return set(json.loads(self._record.read_text(encoding="utf-8")).get("foreign", ()))
        except (FileNotFoundError, ValueError):  # a finished model does not depend on the record
            return set()

    def _read(self) -> ReportT | None:
        """The report of a finished job; None if there is none, or it is damaged.

        Raises:
            TrainingError: a whole report that says other things than this version's.
        """
        model: type[BaseModel] = self._report  # type: ignore[assignment]
        try:
            values = json.loads(self._marker.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None
        try:
            # In the mode of JSON, where a list may be a tuple.
            found: ReportT = model.model_validate_json(json.dumps(values))  # type: ignore[assignment]
        except ValidationError:
            if not isinstance(values, dict) or "job" not in values:
                return None
            raise TrainingError(
                f"{self._marker} was written by another version of genprm", hint=OTHER_FOLDER
            ) from None
        return found

    def _found(self) -> tuple[ReportT | None, list[str]]:
        """The report of a finished job, if there is one that can be read, and what is wrong with the model."""
        report = self._read()
        if report is not None and report.job != self.job:
            raise TrainingError(
                f"{self.path} holds the finished model of another training job", hint=OTHER_FOLDER
            )
        if not self._marker.exists():
            if not self._is_claimed():
                require_free(self.path)
            return None, []
        damage = self._damage(report)
        if damage:
            self._is_claimed()
            self._require_files(report)
        return report, damage

    def _remove_damaged(
        self, report: ReportT | None, damage: Sequence[str], on_repair: OnRepair | None
    ) -> None:
        if on_repair is not None:
            on_repair(f"the trained model {self.path}: {', '.join(damage)}; it is trained again")
        # The record first: without one, a folder that keeps other files besides would be refused the next time.
        foreign = self.checksums().keys() - report.files.keys() if report is not None else set()
        self._note(sorted(foreign | self._foreign()))
        self._clear(report)

    def _damage(self, report: ReportT | None) -> list[str]:
        """What is wrong with a finished folder, file by file."""
        if report is None:
            return [f"{self._marker.name} cannot be read"]
        found, given = self.checksums(), _without_cards(report.files)
        missing = [f"{name} is missing" for name in given if name not in found]
        changed = [
            f"{name} was changed or cut"
            for name, checksum in given.items()
            if found.get(name, checksum) != checksum
        ]
        return missing + changed

    def _clear(self, report: ReportT | None) -> None:
        """Remove what a training job left in a damaged folder, and nothing else that may lie there."""
        self._marker.unlink()
        for name in _without_cards(report.files) if report is not None else ():
            (self.path / name).unlink(missing_ok=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"cannot write to the output folder {self.path}: {error.strerror}",
                hint="give another output folder, or the right to write to this one",
            ) from error
        except (ValueError, AttributeError) as error:
            raise TrainingError(
                f"{self.path} holds a damaged record of a training job", hint=OTHER_FOLDER
            ) from error


def _without_cards(files: dict[str, str]) -> dict[str, str]:
    """A model's files without the cards, which reports of earlier versions hold: an owner may write in them."""
    return {name: checksum for name, checksum in files.items() if not is_card(PurePosixPath(name).name)}


def _is_full(error: BaseException) -> bool:
    """Whether a disk was full, whatever library came upon it."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return any(mark in str(error) for mark in _FULL)


def _is_at(path: Path, file: IO[bytes]) -> bool:
    """Whether an open file is the one under this path."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def require_free(folder: Path) -> None:
    """Raise unless the folder is empty, or can be made.

    Raises:
        TrainingError: files are in it, which training would overwrite; the logs of a job that ended early are spared.
        OSError: it cannot be written, or is no folder.
    """
    if folder.is_symlink() and not folder.exists():
        raise TrainingError(
            f"the output folder {folder} is a link to {folder.readlink()}, which is not there",
            hint="make that folder, remove the link, or give another output folder",
        )
    if folder.is_dir() and any(path.name not in _SPARED for path in folder.iterdir()):
        raise TrainingError(f"the output folder {folder} is not empty", hint=OTHER_FOLDER)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
