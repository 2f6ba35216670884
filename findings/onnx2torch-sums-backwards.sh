#!/bin/bash
# onnx2torch turns ONNX's CumSum into a sum from the last item to the first one: it takes the attribute "reverse" for 1 where a model
# does not give it, and the standard says 0. PyTorch's exporter does not give it, so that torch.cumsum comes back the other way round
# from a model that was exported and converted. NonZero comes back transposed.
#
# Who is hurt: whoever fine-tunes or inspects a model that is at hand as ONNX only: detectors of the DETR family number the rows and
# columns of a picture by cumsum, and text towers with padding their words. All positions run backwards; shapes and types fit, and
# nothing is said.
# What Linnaea does: exports models to ONNX and converts none back (src/linnaea/model/onnx_export.py).
#
# Expected: what the model gave before. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "onnx2torch==1.5.15" "onnx==1.23.2" "onnxruntime==1.32.0" "torch==2.15.0" \
    "torchvision==0.29.2" "numpy==2.4.6"
cd "$folder"
"$folder/venv/bin/python" -W ignore - 2> log.txt <<'PYTHON' || { cat log.txt; exit 1; }
import sys
from importlib.metadata import version

import onnxruntime
import torch
from onnx2torch import convert


class Positions(torch.nn.Module):
    """The number of each row of a picture, as DETR makes it from the part that is not padding."""

    def forward(self, visible: torch.Tensor) -> torch.Tensor:
        return torch.cumsum(visible, dim=1)


visible = torch.tensor([[1.0, 1.0, 1.0, 1.0, 0.0]])
torch.onnx.export(Positions(), (visible,), "model.onnx", input_names=["visible"], opset_version=16, dynamo=False)
before = Positions()(visible).tolist()
by_onnx_runtime = onnxruntime.InferenceSession("model.onnx").run(None, {"visible": visible.numpy()})[0].tolist()
back = convert("model.onnx")(visible).tolist()
print("onnx2torch", version("onnx2torch"))
print("expected:", before, "as ONNX Runtime says:", by_onnx_runtime)
print("seen:", back)
sys.exit(0 if by_onnx_runtime == before and back == [[4, 3, 2, 1, 0]] else 1)
PYTHON
