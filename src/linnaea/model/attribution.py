"""Attribute a model's score to places of a picture: integrated gradients (Sundararajan et al., ICML 2017, section 3).

The score's gradient is averaged over pictures between a blurred one, on which no organism can be told, and the picture
itself, and multiplied by their difference. What is the same in both pictures counts for nothing, and the values of all
pixels sum to the difference of the two scores. It needs gradients only, so it is the same for transformers,
convolutional towers and any other.
"""

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.errors import LinnaeaError
from linnaea.model.encoder import Encoder

if TYPE_CHECKING:
    from linnaea.model.load import TaxonModel

N_STEPS = 16
"""Pictures between the blurred one and the picture itself."""
AT_ONCE = 4
"""Pictures that pass through the tower at once."""
BLUR, SMOOTH = 0.1, 0.04
"""Standard deviations of the blur of the first picture and of the map, as shares of the picture's side."""


def attribute(model: Encoder, pixels_3SS: NDArray[Any], direction_E: Float32[ndarray, " E"]) -> Float32[ndarray, "S S"]:
    """Return how much each place of a picture adds to the cosine with a direction: 0 to 1, 1 at the strongest.

    Args:
        model: A model in PyTorch.
        pixels_3SS: The picture as :meth:`Preprocess.pixels` makes it.
        direction_E: The direction in the joint space; the difference of two taxa's vectors tells what speaks for the
            first and against the second.

    Raises:
        LinnaeaError: the model is an exported one, which has no gradients.
    """
    gradients_3SS, difference_3SS = _integrate(_with_gradients(model), np.asarray(pixels_3SS, np.float32), direction_E)
    each = (gradients_3SS * difference_3SS).sum(axis=0)
    heat = np.maximum(cv2.GaussianBlur(each, (0, 0), SMOOTH * len(each)), 0)  # neighbours of opposite sign cancel
    return np.asarray(heat / max(float(heat.max()), 1e-12), np.float32)


def _with_gradients(model: Encoder) -> "TaxonModel":
    from linnaea.model.load import TaxonModel
    from linnaea.model.onnx import GraphModel

    if isinstance(model, GraphModel):  # a packed model encodes with its graph, and has its weights beside it
        return model.whole
    if not isinstance(model, TaxonModel):
        raise LinnaeaError(f"{model.name}: an exported model has no gradients; explain with the PyTorch model")
    return model


def _integrate(
    model: "TaxonModel", pixels_3SS: Float32[ndarray, "3 S S"], direction_E: Float32[ndarray, " E"]
) -> tuple[Float32[ndarray, "3 S S"], Float32[ndarray, "3 S S"]]:
    """Return the mean gradient on the way from the blurred picture, and the difference between the two."""
    import torch

    side = pixels_3SS.shape[-1]
    blurred = cv2.GaussianBlur(pixels_3SS.transpose(1, 2, 0), (0, 0), BLUR * side).transpose(2, 0, 1)
    difference = np.ascontiguousarray(pixels_3SS - blurred)
    start, way, direction = (torch.tensor(np.ascontiguousarray(one), device=model.device)
                             for one in (blurred, difference, direction_E))  # fmt: skip
    mean, std = (torch.tensor(one, device=model.device).view(3, 1, 1)
                 for one in (model.preprocess.mean, model.preprocess.std))  # fmt: skip
    clip: Any = model.clip.eval()
    total = torch.zeros_like(start)
    for first in range(0, N_STEPS, AT_ONCE):
        shares = (torch.arange(first, min(first + AT_ONCE, N_STEPS), device=model.device) + 0.5) / N_STEPS
        images = (start + shares.view(-1, 1, 1, 1) * way).requires_grad_()
        features = clip.encode_image((images / 255 - mean) / std).float()
        score = (torch.nn.functional.normalize(features, dim=-1) @ direction).sum()
        (gradient,) = torch.autograd.grad(score, images)
        total += gradient.sum(dim=0)
    return np.asarray((total / N_STEPS).cpu().numpy(), np.float32), np.asarray(difference, np.float32)
