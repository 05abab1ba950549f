"""``python -m crm_assets.up.watch HOME``: outlives a killed ``up`` by a moment and ends what that left behind.

The kernel asks the children to stop when their parent dies; what those have started themselves (Dagster's code
servers and runs) may go on working. This process holds the other end of a pipe: it closes when ``up`` ends, however
that happens. An ``up`` that ends in order says so first.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from crm_assets.up.child import end, recorded

_BYE = b"bye"
_GRACE_S = 5.0


class Watch:
    """The watching process of this ``up``."""

    def __init__(self, home: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "crm_assets.up.watch", str(home)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=home,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """There is nothing left to watch."""
        try:
            self._process.communicate(_BYE, timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def main() -> None:
    if sys.stdin.buffer.read() != _BYE:
        # Those of now: the next `up` may be starting its own already.
        end(recorded(Path(sys.argv[1])), _GRACE_S)


if __name__ == "__main__":
    main()
