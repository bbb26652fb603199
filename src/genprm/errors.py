"""The one error tree of genprm.

Three things that look alike are kept apart on purpose: the engine failed, the sandbox failed, and the
checked code failed. Only the first two are errors; code that fails is a *result*
(`genprm.sandbox.base.ExecResult`) and may influence a judgement.

    GenPRMError
    ├── ConfigError            a wrong key, type or value in a config or a flag
    ├── DataError              a broken file, a missing column, an empty field
    ├── MissingExtraError      an optional dependency is not installed, or cannot be imported
    ├── StoreError             a run directory cannot be read, written or resumed
    ├── RunIncomplete          problems of a run are pending           (retryable)
    ├── ClusterError           a cluster cannot be reached or used, or its actors die
    ├── TrainingError          a training job cannot start or continue
    ├── GraderError            the processes that compare answers cannot be started
    ├── Overloaded             a reward service has too much to do       (retryable)
    ├── UnknownReward          a solution has no score, and its asker takes nothing but numbers
    ├── EngineError            a language model engine did not answer as it should
    │   ├── EngineUnavailable      unreachable, refused, overloaded   (retryable)
    │   ├── EngineTimeout          no answer in time                  (retryable)
    │   ├── EngineProtocolError    an answer that cannot be read
    │   ├── EngineRequestError     the engine rejected the request
    │   └── ContextOverflow        prompt and budget exceed the model's context
    └── SandboxError           the box itself is gone or cannot be made
        ├── SandboxUnavailable     the isolation asked for cannot be reached here
        └── SandboxDied            a session was lost                 (retryable)
"""

from __future__ import annotations

from typing import Any


class GenPRMError(Exception):
    """Root of every error that genprm raises.

    Args:
        message: what went wrong and where, in one sentence.
        hint: what the user can do about it; shown by the command line under the message.
        retryable: whether the same call may succeed later without a change. The class decides
            unless given.
    """

    retryable_by_default = False

    def __init__(self, message: str, *, hint: str = "", retryable: bool | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if hint:
            self.add_note(f"hint: {hint}")
        self.retryable = self.retryable_by_default if retryable is None else retryable

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors travel between processes whole: message, hint, and what a class adds, whatever its arguments are.
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[GenPRMError], args: tuple[Any, ...], state: dict[str, Any]) -> GenPRMError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigError(GenPRMError):
    """A wrong key, type or value in a config file, an override or a flag."""


class DataError(GenPRMError):
    """Input data that cannot be used; the message names the file, the row and the field."""


class MissingExtraError(GenPRMError):
    """An optional dependency is missing, or is there and cannot be imported; the hint is the pip command.

    Args:
        module: the package.
        extra: of genprm that brings it.
        purpose: begins the message.
        cause: what importing it raised. If that was not its own absence, the message says so.
    """

    def __init__(self, module: str, extra: str, purpose: str, cause: Exception | None = None) -> None:
        absent = cause is None or (isinstance(cause, ModuleNotFoundError) and cause.name in (None, module))
        state = "is not installed"
        hint = f"pip install 'genprm[{extra}]'"
        if not absent:
            state = (
                f"cannot be imported here: {(str(cause).strip() or type(cause).__name__).splitlines()[0]}"
            )
            hint = f"pip install --force-reinstall 'genprm[{extra}]', in an environment without other versions of it"
        super().__init__(f"{purpose} needs the Python package '{module}', which {state}", hint=hint)
        self.module = module
        self.extra = extra


class StoreError(GenPRMError):
    """A run directory that cannot be read, written or resumed."""


class RunIncomplete(GenPRMError):
    """Faults that may pass kept some problems of a run from being settled; all others are kept."""

    retryable_by_default = True


class ClusterError(GenPRMError):
    """A cluster that cannot be reached or used, or whose actors die."""


class TrainingError(GenPRMError):
    """A training job that cannot start or continue."""


class GraderError(GenPRMError):
    """The processes that compare answers cannot be started; says nothing about any answer."""


class Overloaded(GenPRMError):
    """A reward service has as much to do as it takes on, or is shutting down.

    Args:
        retry_after: seconds after which to try again.
    """

    retryable_by_default = True

    def __init__(self, message: str, *, retry_after: float = 1.0, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class UnknownReward(GenPRMError):
    """A solution has no score, and whoever asks for one takes nothing but numbers."""


class EngineError(GenPRMError):
    """A language model engine did not answer as it should."""


class EngineUnavailable(EngineError):
    """The engine cannot be reached, refuses connections or is overloaded."""

    retryable_by_default = True


class EngineTimeout(EngineError):
    """The engine did not answer in time."""

    retryable_by_default = True


class EngineProtocolError(EngineError):
    """The engine answered with something that cannot be read."""


class EngineRequestError(EngineError):
    """The engine understood the request and rejected it."""


class ContextOverflow(EngineRequestError):
    """The prompt, or the prompt and the token budget together, exceed the model's context."""


class SandboxError(GenPRMError):
    """The sandbox itself failed; says nothing about the code that was to run."""


class SandboxUnavailable(SandboxError):
    """The isolation level asked for cannot be reached on this machine."""


class SandboxDied(SandboxError):
    """A session, or the process that keeps it, was lost; replaying its prefix may succeed."""

    retryable_by_default = True
