"""A tower that answers with its class token says the same when only that token goes through its last block."""

from typing import Any

import pytest
import torch
from open_clip.transformer import VisionTransformer

from linnaea.model.last_block import end_with_class_token
from linnaea.model.pointwise import multiply_pointwise


def make_tower(**options: Any) -> VisionTransformer:
    torch.manual_seed(0)
    size: dict[str, Any] = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "heads": 2, "mlp_ratio": 4.0}
    return VisionTransformer(**size, output_dim=16, **options).eval()


PIXELS = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"ls_init_value": 0.3}, {"final_ln_after_pool": True}])
@pytest.mark.parametrize("pointwise", [False, True])
@torch.inference_mode()
def test_the_vectors_are_the_same(options: dict[str, Any], pointwise: bool) -> None:
    tower = make_tower(**options)
    expected = tower(PIXELS)
    end_with_class_token(tower)
    if pointwise:
        multiply_pointwise(tower)
    asked: list[int] = []
    tower.transformer.resblocks[-1].mlp.register_forward_hook(lambda _, inputs, __: asked.append(inputs[0].shape[1]))
    torch.testing.assert_close(tower(PIXELS), expected, rtol=1e-5, atol=1e-5)
    assert asked == [1]


def test_who_asks_for_gradients_sees_every_token() -> None:
    tower = make_tower()
    expected = tower(PIXELS)
    end_with_class_token(tower)
    tokens: list[int] = []
    tower.transformer.resblocks[-1].register_forward_hook(lambda _, __, output: tokens.append(output.shape[1]))
    found = tower(PIXELS)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert tokens == [17] and found.requires_grad


@pytest.mark.parametrize("options", [{"pool_type": "avg"}, {"attentional_pool": True}, {"output_tokens": True}])
@torch.inference_mode()
def test_towers_that_read_more_stay_as_they_are(options: dict[str, Any]) -> None:
    tower = make_tower(**options)
    expected = tower(PIXELS)
    end_with_class_token(tower)
    torch.testing.assert_close(tower(PIXELS), expected, rtol=0, atol=0)
    assert type(tower.transformer.resblocks[-1]) is type(tower.transformer.resblocks[0])
