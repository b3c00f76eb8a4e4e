"""What there is to run on."""

from __future__ import annotations

import os
from dataclasses import dataclass

from . import _core


@dataclass(frozen=True, slots=True)
class Device:
    """A device of this machine."""

    name: str
    """What a layer's ``device`` says: ``"cpu"``, ``"gpu:0"``, ..."""
    description: str
    """Its name and kind."""
    backend: str
    """``cpu``, ``vulkan``, ``metal`` or ``dx12``."""
    driver: str
    """The driver and its version."""
    software: bool
    """A GPU's interface that a CPU stands behind (lavapipe, WARP); ``"auto"`` never takes it."""
    f16: bool
    """Whether it stores numbers in 16 bits."""


def devices() -> list[Device]:
    """The CPU, and every GPU of this machine, real ones first. Asks the drivers, which takes a moment."""
    return [Device(**device) for device in _core.devices()]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.forked)
