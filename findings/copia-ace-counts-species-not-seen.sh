#!/bin/bash
# copia's diversity(method="ace") counts species with a count of 0 among the rare ones. Chao1, the jackknife and the empirical richness
# leave them out, so that the same sample has 12 to 13 species by these, and 53 by ACE if its row comes from a table with 30 species
# more that other sites have. The "- 1" of the estimate's coefficient of variation is never taken off either, so that it is not that of
# Chao and Lee (1992), which the docstring names, without zeros.
#
# Who is hurt: whoever estimates the species of several sites from one table of counts: the richer the region, the richer each site.
# What Linnaea does: estimates no richness.
#
# Expected: one number, 13.1, for the three vectors. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "copia==0.1.4" "numpy==2.4.6" "scipy==1.17.1"
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from importlib.metadata import version

import numpy as np
from copia.richness import diversity


def chao_and_lee(counts: np.ndarray, limit: int = 10) -> float:
    """Return the estimate of Chao and Lee (1992) by abundance, with species up to `limit` as rare ones."""
    seen = counts[counts > 0]
    rare = seen[seen <= limit]
    coverage = 1 - (rare == 1).sum() / rare.sum()
    pairs = (rare * (rare - 1)).sum() / (rare.sum() * (rare.sum() - 1))
    variation = max(len(rare) / coverage * pairs - 1, 0)
    return (seen > limit).sum() + len(rare) / coverage + (rare == 1).sum() / coverage * variation


sample = np.array([1, 1, 1, 2, 2, 3, 5, 8, 13, 40])
print("copia", version("copia"))
seen, same = [], []
for others in (0, 10, 30):
    counts = np.append(sample, np.zeros(others, dtype=int))
    seen.append(float(diversity(counts, method="ace")))
    same.append([float(diversity(counts, method=method)) for method in ("empirical", "chao1", "jackknife")])
    print(f"{others} species of other sites: expected {chao_and_lee(counts):.2f}, seen {seen[-1]:.2f};", end=" ")
    print("empirical, Chao1 and jackknife:", *(f"{number:.1f}" for number in same[-1]))
sys.exit(0 if same[0] == same[1] == same[2] and np.allclose(seen, [12.64, 25.95, 52.55], atol=0.01) else 1)
PYTHON
