"""The program of a box's interpreter: takes this package from the host, as text, and starts it.

Untrusted code will run in forks of this process and can read its command line, its modules and its frames.
So nothing of the host comes in by the command line or by file names, and `start` returns, in the process that
is to run such code, with all frames of the way there gone.
"""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any


class Parcel:
    """Finds and loads the modules that the host sent."""

    sources: dict[str, str]

    @classmethod
    def find_spec(cls, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """As the import system asks for it."""
        if name not in cls.sources:
            return None
        return ModuleSpec(name, cls, is_package=name == "box")  # type: ignore[arg-type]

    @classmethod
    def create_module(cls, spec: ModuleSpec) -> None:
        """The default will do."""

    @classmethod
    def exec_module(cls, module: ModuleType) -> None:
        """Run a module's text."""
        name = module.__name__
        exec(compile(cls.sources[name], f"<{name}>", "exec"), vars(module))


def start(host: socket.socket) -> Callable[[], object]:
    """Make the box. Returns in its zygote alone, with what is left for that to do."""
    size = int.from_bytes(host.recv(4, socket.MSG_WAITALL), "big")
    received: dict[str, Any] = json.loads(host.recv(size, socket.MSG_WAITALL) or b"null") or sys.exit(1)
    Parcel.sources = received["sources"]
    sys.meta_path.insert(0, Parcel)
    launcher = __import__("box.launcher", fromlist=["main"])
    serve: Callable[[], object] = launcher.main(received["config"], host)
    sys.meta_path.remove(Parcel)
    return serve
