#!/bin/bash
# onnx.version_converter.convert_version() brings a model to opset 12 or lower without a word, and leaves Softmax and LogSoftmax as they
# are. From opset 13 on they run along one axis; before, all axes from that one on were one. Where the axis is not the last one, the
# model computes something else: probabilities over species for each pixel add up to 1 over the whole picture. Going up, from
# 12 to 13, is converted rightly, and models that cannot be lowered are refused.
#
# Who is hurt: whoever lowers a model for a camera or a phone whose runtime wants opset 11: maps of species (N x C x H x W), and detectors
# such as YOLO, whose boxes are means by a Softmax along the second axis. The model loads and runs.
# What Linnaea does: exports every model in one opset, 18, and converts none (src/linnaea/model/onnx_export.py).
#
# Expected: the same numbers, or an error. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnx==1.23.2" "onnxruntime==1.32.0" "numpy==2.4.6"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, version_converter

shape = [1, 3, 4, 4]  # three species for each of 16 pixels
graph = helper.make_graph(
    [helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)],
    "map of species",
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, shape)],
    [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, shape)],
)
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
lowered = version_converter.convert_version(model, 12)
onnx.checker.check_model(lowered, full_check=True)


def first_pixel(one: onnx.ModelProto) -> np.ndarray:
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return onnxruntime.InferenceSession(one.SerializeToString()).run(None, {"logits": logits})[0][0, :, 0, 0]


print("onnx", version("onnx"))
print("expected:", first_pixel(model).round(3), "for one pixel, which add up to 1")
print("seen in opset 12:", first_pixel(lowered).round(3))
sys.exit(0 if abs(first_pixel(model).sum() - 1) < 1e-5 and first_pixel(lowered).sum() < 0.2 else 1)
PYTHON
