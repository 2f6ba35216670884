#!/bin/bash
# torchsampler's ImbalancedDatasetSampler(dataset, labels, indices) sorts its weights by index and then reads them in the order in which
# the indices were given. With the shuffled indices of a random split, each photograph is drawn with the weight of another
# one, so that rare species are as rare as before. Sorted indices, and a whole data set, are right.
#
# Who is hurt: whoever balances species within the training part of a split (random_split, a permutation, scikit-learn's
# train_test_split): training goes on as if without a sampler, and the rare species stay unlearnt. Nothing is said.
# What Linnaea does: takes each photograph as often as its own species asks for (balanced_counts in src/linnaea/train/batches.py).
#
# The few names that the module takes from PyTorch are made here, so that it is not needed (with PyTorch 2.15.0 the shares are the
# same). Expected: both species equally often. Exits with 1 if the behaviour changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check "pandas==3.1.1"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps "torchsampler==0.1.2"
"$folder/venv/bin/python" - <<'PYTHON'
import random
import sys
import types
from importlib.metadata import version

random.seed(0)
for name in ("torch", "torch.utils", "torch.utils.data", "torch.utils.data.sampler", "torchvision"):
    sys.modules[name] = types.ModuleType(name)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, sys.modules[name])
sys.modules["torch.utils.data.sampler"].Sampler = object
sys.modules["torch"].DoubleTensor = list
sys.modules["torch"].multinomial = lambda weights, n, replacement: random.choices(range(len(weights)), weights, k=n)
from torchsampler import ImbalancedDatasetSampler  # noqa: E402

species = ["sparrow"] * 180 + ["shrike"] * 20
training = random.sample(range(200), 160)  # a random split, as of torch.utils.data.random_split


def share_of_shrikes(indices: list[int]) -> float:
    labels = [species[n] for n in indices]
    sampler = ImbalancedDatasetSampler(range(200), labels=labels, indices=indices, num_samples=10_000)
    return sum(species[n] == "shrike" for n in sampler) / 10_000


print("torchsampler", version("torchsampler"))
shuffled, ordered = share_of_shrikes(training), share_of_shrikes(sorted(training))
print(f"expected: 50% shrikes, of {sum(species[n] == 'shrike' for n in training) / 160:.0%} without the sampler")
print(f"seen: {shuffled:.0%}, from sorted indices {ordered:.0%}")
sys.exit(0 if shuffled < 0.25 and 0.45 < ordered < 0.55 else 1)
PYTHON
