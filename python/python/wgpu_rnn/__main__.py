"""The command line: ``python -m wgpu_rnn`` is the command ``wgpu-rnn``."""

from __future__ import annotations

import signal
import sys

from ._core import run_command


def main() -> int:
    """Runs the command with the process's arguments, and gives its exit code."""
    # It computes without asking the interpreter: Ctrl-C ends it, as it ends the command.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_command(["wgpu-rnn", *sys.argv[1:]])


if __name__ == "__main__":
    sys.exit(main())
