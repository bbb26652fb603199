"""The folder of a training job: whose it is, whether it is finished, and whether it still is what it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from pydantic import BaseModel, ValidationError

from genprm.errors import TrainingError
from genprm.store import file_checksum, write_atomic
from genprm.text.prompts import CARD
from genprm.training.folder import CHECKPOINTS, OTHER_FOLDER, require_free

MODEL_CARD = "README.md"


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
        job: names what is trained.
        report: the type of the report that marks a finished folder.
        kind: of training: `prm`, `grpo` or `dpo`.
    """

    def __init__(self, path: Path, job: str, report: type[ReportT], *, kind: str) -> None:
        self._marker = path / f"genprm_{kind}_training.json"  # written last; holds the report
        self._record = path / f"genprm_{kind}_job.json"
        self.path = path
        self.job = job
        self.checkpoints = path / CHECKPOINTS
        self._report = report

    def finished(self) -> ReportT | None:
        """The report of a finished and unchanged folder; None if the job is still to be done.

        Raises:
            TrainingError: the folder holds anything else, was changed since, or cannot be written.
        """
        with self._errors():
            if self._marker.is_file():
                return self._intact()
            if self._record.is_file():
                owner = json.loads(self._record.read_text(encoding="utf-8"))["job"]
                if owner != self.job:
                    raise TrainingError(f"{self.path} holds another training job", hint=OTHER_FOLDER)
            else:
                require_free(self.path)
        return None

    def claim(self) -> None:
        """Note whose checkpoints the folder is about to hold; only now, so that a wrong call leaves nothing."""
        with self._errors():
            self.path.mkdir(parents=True, exist_ok=True)
            write_atomic(self._record, json.dumps({"job": self.job}).encode())

    def finish(self, report: ReportT) -> None:
        """Mark the folder as finished, and remove the checkpoints."""
        with self._errors():
            write_atomic(self._marker, report.model_dump_json(indent=1).encode())
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def checksums(self) -> dict[str, str]:
        """Checksums of the saved files by name; records, cards and checkpoints are left out."""
        files = sorted(path for path in self.path.iterdir() if path.is_file())
        return {
            path.name: file_checksum(path)
            for path in files
            if path.name not in (self._marker.name, self._record.name, CARD, MODEL_CARD)
            and not path.name.startswith(".")
        }

    def _intact(self) -> ReportT:
        report_type: type[BaseModel] = self._report  # type: ignore[assignment]
        report: ReportT = report_type.model_validate_json(  # type: ignore[assignment]
            self._marker.read_text(encoding="utf-8")
        )
        if report.job != self.job:
            raise TrainingError(
                f"{self.path} holds the finished model of another training job", hint=OTHER_FOLDER
            )
        found = self.checksums()
        changed = [name for name, value in report.files.items() if found.get(name) != value]
        if changed:
            raise TrainingError(
                f"the trained model {self.path} is damaged: {', '.join(changed)} is missing or was changed",
                hint=OTHER_FOLDER,
            )
        return report

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise TrainingError(
                f"cannot write to the output folder {self.path}: {error.strerror}"
            ) from error
        except (ValidationError, ValueError, KeyError, TypeError) as error:
            raise TrainingError(
                f"{self.path} holds a damaged record of a training job", hint=OTHER_FOLDER
            ) from error
