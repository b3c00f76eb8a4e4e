"""What can go wrong. Every exception of this package is an :class:`Error`; the classes follow the kinds of the Rust library."""

from __future__ import annotations

__all__ = [
    "DTypeError",
    "DeviceError",
    "DeviceLostError",
    "Error",
    "FileError",
    "LimitError",
    "MismatchError",
    "NoAdapterError",
    "OrderError",
    "StreamError",
    "StreamFullError",
    "UnsupportedError",
]


class Error(Exception):
    """The base of all exceptions of this package."""


class MismatchError(Error, ValueError):
    """A shape, value or count that does not fit: ``x: expected [T, B, I] = [100, 8, 64], got [100, 8, 63]``."""

    what: str = ""
    """The argument, tensor or field."""
    expected: str = ""
    """What would have been right."""
    got: str = ""
    """What was given."""


class DTypeError(MismatchError, TypeError):
    """An array of another type than the layer's, or something that is no array."""


class OrderError(MismatchError):
    """A call in the wrong order: ``backward`` without a call of the layer before it."""


class LimitError(Error):
    """A request beyond what the device, the machine or the library offers; the message says what would help."""

    what: str = ""
    """The slot or request."""


class FileError(Error, OSError):
    """A file that cannot be read, or does not hold what it should."""

    path: str = ""
    """The file."""


class DeviceError(Error, RuntimeError):
    """The GPU's interface refused something."""


class DeviceLostError(DeviceError):
    """The device is gone, and so are the layers on it: make new ones."""


class NoAdapterError(DeviceError):
    """No GPU, or none of the kind that was asked for."""


class StreamError(Error, ValueError):
    """What a :class:`wgpu_rnn.StreamPool` refuses a stream. Nothing has changed then."""


class StreamFullError(StreamError):
    """No room for frames: tick and pull first, or push fewer at once."""


class UnsupportedError(Error, NotImplementedError):
    """A combination that there is not; it is never silently replaced by another."""

    what: str = ""
    """What was asked for."""
