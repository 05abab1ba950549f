"""``python -m crm_assets.up.launch PID PROGRAM …``: becomes the program, after tying its life to the process PID.

Done here and not between fork and exec of the starter, which has threads by then. The starter has to be the main
thread: the kernel means the thread when it says parent. Elsewhere than on Linux what a killed starter left behind is
stopped at the next start.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(0)  # it ended before it could be asked
    os.execvp(program[0], program)


if __name__ == "__main__":
    main()
