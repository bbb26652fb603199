"""A machine whose hub cannot be reached."""

from __future__ import annotations

import pytest


def cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub is at a port where nobody listens."""
    huggingface_hub = pytest.importorskip("huggingface_hub")

    class Unreachable(huggingface_hub.HfApi):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__(endpoint="http://127.0.0.1:9")

    monkeypatch.setattr(huggingface_hub, "HfApi", Unreachable)
