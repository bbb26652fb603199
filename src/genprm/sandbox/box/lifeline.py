"""A pipe by which the kernel itself kills a box whose supervisor has ended, in whatever way.

Without a pid namespace nothing inherits a box, and its stopped snapshots cannot notice that they were left alone.
So the supervisor alone holds the writing end of a pipe, and signals about the reading end, which launcher and zygote
hold, go to the supervisor's process group: when the writer is gone the kernel sends all of it SIGKILL at once, forks
under way included. Code in a snapshot can neither leave the group nor reach the pipe.
"""

from __future__ import annotations

import fcntl
import os
import signal


def tie(reading_end: int) -> None:
    """Have the kernel kill this process's group as soon as nobody holds the pipe's writing end.

    It holds for as long as any process has the reading end open, and for members of the group that this process's
    user may signal.
    """
    fcntl.fcntl(reading_end, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(reading_end, fcntl.F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(reading_end, fcntl.F_GETFL)
    fcntl.fcntl(reading_end, fcntl.F_SETFL, flags | os.O_ASYNC)
