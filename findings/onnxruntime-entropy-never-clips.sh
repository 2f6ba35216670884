#!/bin/bash
# ONNX Runtime's quantize_static(calibrate_method=CalibrationMethod.Entropy) gives activations the range from their smallest
# to their largest value, as MinMax does, however rare the largest are. The search for a better range begins at
# 128 bins, and the histogram has 128 by default, so that one candidate is left; quantize_static has no option for more.
#
# Who is hurt: whoever takes a tower to 8 bits, whose activations have outliers (vision transformers), and chooses Entropy for
# that. The slower calibration runs, and the model is the one of MinMax: here each step is 6 times too wide.
# What Linnaea does: has a quantiser of its own, whose range is the mean over photographs of the smallest and largest value
# (src/linnaea/model/quantize.py).
#
# Expected: a range that leaves out the one activation in a thousand that is 20 times as large, as the calibrator finds it
# with 2,048 bins. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnxruntime==1.32.0" "onnx==1.23.2" "numpy==2.4.6"
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import contextlib
import io
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static
from onnxruntime.quantization.calibrate import create_calibrator

folder = sys.argv[1]
rng = np.random.default_rng(0)
batches = [rng.normal(size=(64, 64)).astype(np.float32) for _ in range(10)]
for batch in batches:
    batch[rng.random(batch.shape) < 0.001] *= 20
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in "xy"]
weights = numpy_helper.from_array(np.eye(64, dtype=np.float32), "w")
graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "layer", values[:1], values[1:], [weights])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), f"{folder}/layer.onnx")


class Batches(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        batch = next(self.left, None)
        return None if batch is None else {"x": batch}


def width(method: CalibrationMethod) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(f"{folder}/layer.onnx", f"{folder}/small.onnx", Batches(), calibrate_method=method)
    stored = {one.name: numpy_helper.to_array(one) for one in onnx.load(f"{folder}/small.onnx").graph.initializer}
    return 255 * float(stored["x_scale"])


with contextlib.redirect_stdout(io.StringIO()):
    fine = create_calibrator(f"{folder}/layer.onnx", ["MatMul"], f"{folder}/augmented.onnx", CalibrationMethod.Entropy,
                             extra_options={"num_bins": 2048})
    fine.collect_data(Batches())
    low, high = (float(np.ravel(end)[0]) for end in fine.compute_data().data["x"].range_value)
widths = {method.name: width(method) for method in (CalibrationMethod.MinMax, CalibrationMethod.Entropy)}
print("onnxruntime", onnxruntime.__version__)
print(f"expected: MinMax covers {widths['MinMax']:.1f}; Entropy much less, as with 2,048 bins ({high - low:.1f})")
print(f"seen: Entropy covers {widths['Entropy']:.1f}")
sys.exit(0 if abs(widths["Entropy"] / widths["MinMax"] - 1) < 0.01 and high - low < widths["MinMax"] / 3 else 1)
PYTHON
