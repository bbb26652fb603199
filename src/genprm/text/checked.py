"""Text that can be used at all."""

from __future__ import annotations

from genprm.errors import DataError


def checked_text(text: str, what: str) -> str:
    """The text itself.

    Args:
        what: names it in messages.

    Raises:
        DataError: it is blank, no text, or holds half of a surrogate pair, which no file can hold.
    """
    if not isinstance(text, str):
        raise DataError(f"{what} is not text: {text!r}")
    if not text.strip():
        raise DataError(f"{what} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"{what} is not valid text: character {error.start + 1} is half of a surrogate pair",
            hint="It may have been read in another encoding than UTF-8.",
        ) from None
    return text
