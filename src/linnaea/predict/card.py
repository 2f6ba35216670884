"""The card of a model (``README.md``) in the form of the hub: a header of YAML, then text."""

import json

from linnaea.model.load import TaxonModel
from linnaea.predict.calibration import read_calibration
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import RANK_LABELS


def make_card(model: TaxonModel, bank: LabelBank, name: str, licence: str) -> str:
    """Return the card of a packed model; strings in its header are JSON, which is valid YAML.

    Without a ``licence`` the card says that none was stated, since the one who packs may not be the author.
    """
    header = ["---", f"license: {json.dumps(licence.lower() or 'other')}"]
    if not licence:
        header += ["license_name: not-stated"]
    header += ["library_name: open_clip", "pipeline_tag: zero-shot-image-classification", "tags:", "- biology",
               "- taxonomy", "- clip", "- linnaea", f"model_name: {json.dumps(name)}", "---"]  # fmt: skip
    counts = ", ".join(
        f"{bank.taxa.filter(bank.taxa[label] != '')[label].n_unique():,} at {label}" for label in RANK_LABELS
    )
    calibration = read_calibration(bank.facts, model.facts)
    sure = (f"Its probabilities are calibrated with {calibration.n_images:,} photographs." if calibration is not None
            else "Its probabilities are not calibrated: they are the raw scores of the model.")  # fmt: skip
    side, mode = model.preprocess.image_size, model.preprocess.resize_mode
    facts = {key: value for key, value in model.facts.items() if isinstance(value, str | int | float)}
    rows = "\n".join(f"| {key} | {str(value).replace('|', ' ')} |" for key, value in sorted(facts.items()))
    return f"""{chr(10).join(header)}

# {name}

A CLIP model of {model.parameter_count():,} parameters that names organisms on photographs. It takes pictures of
{side} x {side} pixels (mode "{mode}"), and answers over {len(bank):,} taxa ({counts} rank) in `labels/`. {sure}

```
linnaea predict photographs/ --model FOLDER
```

```python
import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
```

Fingerprint of the weights: `{model.fingerprint}`.

## Licence

{licence or "Not stated. Ask the authors before you use or share the weights."}

## About the training

| fact | |
|---|---|
{rows}

Made with Linnaea.
"""
