"""ONNX's own backend tests (`onnx.backend.test`): every node test of RNN, GRU, LSTM, LinearAttention and CausalConvWithState on
`wgpu_rnn.onnx_backend`. Prints the counts; fails where a test does that is not in `NOT_RUN`. `python
python/tests_onnx/onnx_backend_test.py`
"""

from __future__ import annotations

import collections
import re
import sys
import unittest
import warnings

import onnx
import onnx.backend.test
from onnx.backend.test.loader import load_model_tests

import wgpu_rnn
from wgpu_rnn import onnx_backend

OPERATORS = {
    "RNN": r"^test_(simple_)?rnn_",
    "GRU": r"^test_gru_",
    "LSTM": r"^test_lstm_",
    "LinearAttention": r"^test_linear_attention_",
    "CausalConvWithState": r"^test_causal_conv_with_state_",
}
# Tests that do not pass, with their reasons.
NOT_RUN = {
    # ONNX tests an operator twice, once as the function that defines it: a Scan with a body of its own, or a convolution by run-time
    # weights.
    "_expanded$": "functions of Scan, CastLike and convolutions are no networks; the operators themselves are run",
}


def main() -> int:
    warnings.simplefilter("ignore")
    names = {case.name for case in load_model_tests(kind="node")}
    tests = onnx.backend.test.BackendTest(onnx_backend, __name__)
    tests.include("|".join(OPERATORS.values()))
    suite = unittest.TestSuite()
    for case in tests.test_cases.values():
        suite.addTests(test for test in unittest.defaultTestLoader.loadTestsFromTestCase(case) if "_cpu" in test.id())
    result = unittest.TextTestRunner(stream=sys.stderr, verbosity=0).run(suite)
    of = lambda test: test.id().split(".")[-1].removesuffix("_cpu")
    wrong = {of(test): reason.strip().splitlines()[-1] for test, reason in [*result.failures, *result.errors]}
    print(f"onnx {onnx.__version__}, onnx.backend.test, node tests on wgpu_rnn {wgpu_rnn.__version__}:")
    unexpected = []
    for operator, pattern in OPERATORS.items():
        all_of = sorted(name for name in names if re.search(pattern, name))
        for what, some in (
            ("", [n for n in all_of if not n.endswith("_expanded")]),
            (" as functions", [n for n in all_of if n.endswith("_expanded")]),
        ):
            if some:
                print(f"  {operator + what:34} {sum(name not in wrong for name in some):2} of {len(some):2} passed")
        for name in all_of:
            if name in wrong:
                known = next((reason for of_name, reason in NOT_RUN.items() if re.search(of_name, name)), None)
                if known is None:
                    print(f"    {name}: {wrong[name][:200]}")
                    unexpected.append(name)
    for reason, count in collections.Counter(re.sub(r".*model.onnx: (\S+) .*?: ", r"\1: ", text)[:90] for text in wrong.values()).items():
        print(f"  not run: {count:2} {reason}")
    print(f"  {'all':34} {result.testsRun - len(wrong) - len(result.skipped)} of {result.testsRun} passed, {len(result.skipped)} skipped")
    return 1 if unexpected or result.testsRun == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
