"""Stubs and docstrings: mypy's stubtest compares `_core.pyi` with the extension module, mypy checks the package, and everything public
has a docstring."""

import doctest
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import wgpu_rnn
from wgpu_rnn import errors, files, layers, network, streams

PACKAGE = Path(wgpu_rnn.__file__).parent


def test_the_package_says_that_it_has_types():
    assert (PACKAGE / "py.typed").exists() and (PACKAGE / "_core.pyi").exists()


def test_stubs_are_the_modules_signatures(tmp_path):
    command = [sys.executable, "-m", "mypy.stubtest", *(f"wgpu_rnn.{of}" for of in ("_core", "files", "layers", "network", "streams"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_is_typed(tmp_path):
    # Torch is not there: what it has is not looked at.
    names = [path.stem for path in sorted(PACKAGE.glob("*.py")) if path.stem not in ("__init__", "torch", "onnx_backend", "sklearn")]
    modules = [part for name in names for part in ("-m", f"wgpu_rnn.{name}")]
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", *modules], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("module", [wgpu_rnn, errors, files, layers, network, streams])
def test_what_is_public_has_a_docstring(module):
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.ismodule(value):
            continue
        assert inspect.getdoc(value), name
        if inspect.isclass(value):
            for member, of in inspect.getmembers(value, inspect.isfunction):
                if not member.startswith("_") and of.__module__.startswith("wgpu_rnn"):
                    assert inspect.getdoc(of), f"{name}.{member}"


def test_examples_in_docstrings():
    assert doctest.testmod(wgpu_rnn) == (0, 5)


def test_torch_is_not_imported():
    code = "import sys, wgpu_rnn; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
