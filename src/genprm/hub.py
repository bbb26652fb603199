"""What a hub is asked before anything is loaded from it: one question of seconds, in place of minutes of retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

_SECONDS = 10.0
_BUSY = (408, 429)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the hub gives nothing.

    Attributes:
        reason: a clause for messages.
        reached: whether the hub itself said so; False if it could not be asked, or cannot answer now.
    """

    reason: str
    reached: bool


def hub_refusal(
    kind: Literal["model", "dataset"], name: str, revision: str | None = None
) -> Refusal | None:
    """Ask the hub once whether it has a model or a data set; None if it has. Nothing is loaded, nothing is retried.

    Args:
        name: the id, such as `org/name`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        if kind == "model":
            HfApi().model_info(name, revision=revision, timeout=_SECONDS)
        else:
            HfApi().dataset_info(name, revision=revision, timeout=_SECONDS)
    except HFValidationError as error:
        return Refusal(f"the hub does not give it: {_first_line(error)}", reached=True)
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else 0
        if status in _BUSY or status >= 500:
            return Refusal(f"the hub does not answer: {_first_line(error)}", reached=False)
        return Refusal(f"the hub does not give it: {_first_line(error)}", reached=True)
    except Exception as error:  # those of the package's HTTP client, which changes between versions
        return Refusal(f"the hub cannot be reached: {_first_line(error)}", reached=False)
    return None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
