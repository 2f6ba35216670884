#!/bin/bash
# torch._int_mm, PyTorch's product of 8-bit integers, gives wrong integers on processors without VNNI (before 2019, and many
# virtual machines): sums of two products are kept in 16 bits, which saturate in silence. Which integers are wrong depends
# on which matrix comes first. Documentation and result (int32) promise exact sums.
#
# Who is hurt: whoever compares vectors or runs layers in int8 on a CPU, and tests it on a newer one. Nearly all of the sums
# below are wrong, some by more than a typical sum.
# What Linnaea does: the vectors of photographs, as the second matrix, have integers of at most 64, which cannot saturate
# (src/linnaea/predict/int8.py); a product of the largest integers tells whether a machine needs that.
#
# ONEDNN_MAX_CPU_ISA=AVX2 rehearses such a processor on a newer one. Expected: the exact product. Exits with 1 if the
# behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "torch==2.15.0" "numpy==2.4.6"
ONEDNN_MAX_CPU_ISA=AVX2 "$folder/venv/bin/python" - <<'PYTHON'
import sys

import numpy as np
import torch

rng = np.random.default_rng(0)
few, many = (rng.integers(-127, 128, (n, 512), dtype=np.int8) for n in (64, 4096))
exact = few.astype(np.int64) @ many.astype(np.int64).T
first = torch._int_mm(torch.from_numpy(few), torch.from_numpy(many).T).numpy()
second = torch._int_mm(torch.from_numpy(many), torch.from_numpy(few).T).numpy().T
wrong = [int((found != exact).sum()) for found in (first, second)]
worst = [int(np.abs(found - exact).max()) for found in (first, second)]
print(f"torch {torch.__version__}: expected {exact.size} exact sums; wrong {wrong[0]} (by up to {worst[0]}), and the other")
print(f"way round {wrong[1]} (by up to {worst[1]}); a typical sum is {np.abs(exact).mean():.0f}")
sys.exit(0 if all(wrong) else 1)
PYTHON
