"""The Python blocks of docs/python.md run as they stand, from the top of the repository; those with torch in python/tests_torch."""

import re

import pytest
from conftest import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(encoding="utf-8"), re.M | re.S)


@pytest.mark.parametrize("block", [block for block in BLOCKS if "torch" not in block], ids=lambda block: block.splitlines()[-1][:40])
def test_blocks_run(block, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(block, "docs/python.md", "exec"), {"__name__": "docs"})


def test_there_are_blocks():
    assert len(BLOCKS) == 6
