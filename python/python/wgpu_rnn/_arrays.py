"""Arrays of other libraries, types and layouts, made such that the extension module reads them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError

Array = np.ndarray[Any, np.dtype[Any]]


def mismatch(what: str, expected: str, got: str) -> DTypeError:
    """A :class:`DTypeError` with its fields."""
    error = DTypeError(f"{what}: expected {expected}, got {got}")
    error.what, error.expected, error.got = what, expected, got
    return error


def array_of(what: str, value: object) -> Array:
    """The NumPy array of an array, or of an object with ``__dlpack__`` (a tensor of torch, jax or mlx) in the CPU's memory."""
    if isinstance(value, np.ndarray):
        if isinstance(value, np.ma.MaskedArray):
            raise mismatch(what, "an array without a mask", "a masked array (fill it first)")
        return value
    if hasattr(value, "__dlpack__"):
        # A tensor of torch that gradients are asked of is not exported; its values are.
        if getattr(value, "requires_grad", False) and hasattr(value, "detach"):
            value = value.detach()
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError, TypeError) as error:
            raise mismatch(what, "a tensor in the CPU's memory", f"{type(value).__name__} ({error})") from error
    raise mismatch(what, "a NumPy array, or an object with __dlpack__", type(value).__name__)


def prepare(value: object, what: str, dtype: str) -> Array:
    """The values row by row, of that type: a copy where they lie otherwise. Another type is refused and not converted, as PyTorch does."""
    array = array_of(what, value)
    if array.dtype != np.dtype(dtype):
        raise mismatch(what, dtype, f"{array.dtype} (use .astype(np.{dtype}))")
    return np.array(array, dtype=dtype, order="C")
