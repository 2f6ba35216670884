"""The card of a model (``README.md``) in the form of the hub: a header of YAML, then text."""

import json

from linnaea.counting import count
from linnaea.model.load import TaxonModel
from linnaea.predict.calibration import read_calibration
from linnaea.predict.cut import CUT
from linnaea.predict.labels import LabelBank
from linnaea.taxonomy.ranks import RANK_LABELS

_OPEN_CLIP_CODE = """import open_clip

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")"""
_ONNX_CODE = """import json, numpy, onnxruntime, polars

about = json.load(open("FOLDER/onnx.json"))
taxa = polars.read_parquet("FOLDER/labels/taxa.parquet")
(image,) = onnxruntime.InferenceSession("FOLDER/image.onnx").run(None, {"pixels": pixels})  # uint8 [B, 3, S, S]
image /= numpy.linalg.norm(image, axis=1, keepdims=True)
cosines = image @ numpy.load("FOLDER/labels/embeddings.npy").astype("float32").T
if "offset" in taxa.columns:
    cosines += taxa["offset"].to_numpy()
logits = about["logit_scale"] * cosines"""


def make_card(model: TaxonModel, bank: LabelBank, name: str, licence: str, *, image_only: bool = False) -> str:
    """Return the card of a packed model; strings in its header are JSON, which is valid YAML.

    With ``image_only`` the folder holds the image tower as ONNX. Without a ``licence`` the card says that none was
    stated, since the one who packs may not be the author.
    """
    header = ["---", f"license: {json.dumps(licence.lower() or 'other')}"]
    if not licence:
        header += ["license_name: not-stated"]
    library, task = ("onnx", "image-classification") if image_only else ("open_clip", "zero-shot-image-classification")
    header += [f"library_name: {library}", f"pipeline_tag: {task}", "tags:", "- biology",
               "- taxonomy", "- clip", "- linnaea", f"model_name: {json.dumps(name)}", "---"]  # fmt: skip
    counts = ", ".join(
        f"{bank.taxa.filter(bank.taxa[label] != '')[label].n_unique():,} at {label}" for label in RANK_LABELS
    )
    calibration = read_calibration(bank.facts, model.facts)
    sure = (f"Its probabilities are calibrated with {count(calibration.n_images, 'photograph')}."
            if calibration is not None
            else "Its probabilities are not calibrated: they are the raw scores of the model.")  # fmt: skip
    side, mode = model.preprocess.image_size, model.preprocess.resize_mode
    facts = {key: value for key, value in model.facts.items() if isinstance(value, str | int | float)}
    rows = "\n".join(f"| {key} | {str(value).replace('|', ' ')} |" for key, value in sorted(facts.items()))
    return f"""{chr(10).join(header)}

# {name}

{_tell_kind(model, image_only=image_only)} that names organisms on photographs. It takes pictures of
{side} x {side} pixels (mode "{mode}"), and answers over {len(bank):,} taxa ({counts} rank) in `labels/`. {sure}
{_tell_cut(bank)}
```
linnaea predict photographs/ --model FOLDER
```

```python
{_ONNX_CODE if image_only else _OPEN_CLIP_CODE}
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


def _tell_kind(model: TaxonModel, *, image_only: bool) -> str:
    if not image_only:
        return f"A CLIP model of {model.parameter_count():,} parameters"
    n_parameters = sum(parameter.numel() for parameter in model.image_tower.parameters())
    return f"The image tower of a CLIP model, {n_parameters:,} parameters, as ONNX,"


def _tell_cut(bank: LabelBank) -> str:
    cut = bank.facts.get(CUT)
    if not cut:
        return ""
    return (f"The labels are those of {', '.join(cut['within'])} among {cut['of']:,}. {cut['groups']:,} more rows, one"
            f" for each {cut['group_rank']} of other taxa, keep the probability of what was cut.\n")  # fmt: skip
