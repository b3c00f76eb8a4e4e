"""The blocks of docs/python.md that need torch."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


def test_blocks_with_torch_run():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    with_torch = [block for block in blocks if "torch" in block]
    assert len(with_torch) == 1
    for block in with_torch:
        exec(compile(block, str(PAGE), "exec"), {"__name__": "docs"})
