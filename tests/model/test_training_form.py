"""The training form computes the function of open_clip's towers, with open_clip's weights under open_clip's names."""

import copy
from typing import Any

import open_clip
import pytest
import torch
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor, nn
from torch.nn.functional import normalize

from linnaea.model.preprocess import Preprocess
from linnaea.model.text import encode_text
from linnaea.model.training_form import Buckets, CaptionForm, caption_form, take_training_form, takes_bytes

PREPROCESS = Preprocess(image_size=24)
LENGTHS = (3, 18, 5, 9, 2, 18, 11)
END = 299

IMAGE_OPTIONS: list[dict[str, Any]] = [
    {},
    {"ls_init_value": 0.3},
    {"pool_type": "avg"},
    {"pool_type": "avg", "final_ln_after_pool": True},
    {"final_ln_after_pool": True, "no_ln_pre": True},
    {"patch_size": 16, "image_size": 40},  # the last pixels belong to no patch
    {"layers": 1},
]
TEXT_OPTIONS: list[dict[str, Any]] = [{}, {"ls_init_value": 0.3}, {"proj_bias": True}, {"proj_type": "none"}]


def make_clip(
    *, image: dict[str, Any] | None = None, text: dict[str, Any] | None = None, own_text: bool = False, seed: int = 0,
    **options: Any,
) -> Any:  # fmt: skip
    torch.manual_seed(seed)
    vision_cfg = {"image_size": 24, "layers": 3, "width": 32, "patch_size": 8, "head_width": 8} | (image or {})
    text_cfg = {"context_length": 20, "vocab_size": 300, "width": 24, "heads": 3, "layers": 2} | (text or {})
    kind = CustomTextCLIP if own_text else CLIP
    clip = kind(embed_dim=24, vision_cfg=vision_cfg, text_cfg=text_cfg, **options).train()
    with torch.no_grad():
        for parameter in clip.parameters():
            if parameter.ndim == 1:  # gains and biases that do something
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return clip


def make_bytes(side: int = 24) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (5, side, side, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)


def make_tokens() -> Tensor:
    tokens = torch.randint(1, 200, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(2))
    for row, length in enumerate(LENGTHS):
        tokens[row, length - 1], tokens[row, length:] = END, 0
    return tokens


def to_pixels(pixels: Tensor, dtype: torch.dtype) -> Tensor:
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (PREPROCESS.mean, PREPROCESS.std))
    return pixels.to(dtype).div_(255).sub_(mean).div_(std)


def measure(clip: Any, *, bf16: bool = False) -> dict[str, Tensor]:
    """Return vectors and gradients: of the training form if the model has it, else of open_clip's code."""
    clip.zero_grad()
    dtype, pixels = clip.logit_scale.dtype, make_bytes(clip.visual.image_size[0])
    form = caption_form(clip)
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        image = clip.encode_image(pixels if takes_bytes(clip) else to_pixels(pixels, dtype))
        text = encode_text(clip, make_tokens()) if form is None else form.encode(clip, make_tokens())
    unit = [normalize(part.to(torch.promote_types(part.dtype, torch.float32)), dim=-1) for part in (image, text)]
    sum((part.exp() * torch.linspace(0, 1, part.numel()).view_as(part)).sum() for part in unit).backward()  # type: ignore[union-attr]
    gradients = {name: p.grad.double() for name, p in clip.named_parameters() if p.grad is not None}
    return {"image": unit[0].detach().double(), "text": unit[1].detach().double()} | gradients


def in_form(clip: Any, form: CaptionForm | None = None) -> Any:
    changed = copy.deepcopy(clip)
    take_training_form(changed, PREPROCESS, compiled=False)
    assert takes_bytes(changed) and caption_form(changed) is not None
    if form is not None:
        changed.caption_form = form
    return changed


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm().clamp(min=1e-12))


@pytest.mark.parametrize("quick", [False, True])
@pytest.mark.parametrize("image", IMAGE_OPTIONS)
def test_images_have_the_same_vectors_and_gradients(image: dict[str, Any], quick: bool) -> None:
    clip = make_clip(image=image, quick_gelu=quick)
    assert_same(clip, in_form(clip))


@pytest.mark.parametrize("own_text", [False, True])
@pytest.mark.parametrize("text", TEXT_OPTIONS)
def test_captions_have_the_same_vectors_and_gradients(text: dict[str, Any], own_text: bool) -> None:
    clip = make_clip(text=text, own_text=own_text)
    assert_same(clip, in_form(clip))


def test_captions_that_fill_a_pack_change_nothing() -> None:
    clip = make_clip()
    assert_same(clip, in_form(clip, CaptionForm(captions=Buckets(), rows=Buckets())))


def assert_same(clip: Any, changed: Any) -> None:
    """In float64 to 1e-10, in float32 to 1e-5."""
    assert list(clip.state_dict()) == list(changed.state_dict())
    for dtype, bound in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        expected, found = measure(clip.to(dtype)), measure(changed.to(dtype))
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            assert distance(found[name], value) <= bound or (found[name] - value).abs().max() <= bound / 100, name


@pytest.mark.parametrize("quick", [False, True])
def test_bf16_is_no_farther_from_float32_than_autocast(quick: bool) -> None:
    """In the mean over twelve models: that of one differs by a sixth, and with the number of threads."""
    ratios, distances = [], []
    for seed in range(12):
        clip = make_clip(image={"layers": 6}, text={"layers": 6}, seed=seed, quick_gelu=quick)
        exact, autocast, found = measure(clip), measure(clip, bf16=True), measure(in_form(clip), bf16=True)
        names = [name for name in exact if exact[name].norm() > 1e-6]
        pair = torch.tensor([[distance(one[name], exact[name]) for name in names] for one in (found, autocast)])
        assert found["image"].isfinite().all() and pair[0].mean() > 1e-4
        distances.append(pair)
        ratios.append(float(pair[0].mean() / pair[1].mean()))
    ours, theirs = torch.stack(distances).mean(dim=0)
    assert sum(ratios) / len(ratios) < 1.2 and (ours < 2 * theirs + 0.01).all()


def test_checkpointed_blocks_have_the_same_gradients() -> None:
    clip = make_clip()
    changed = in_form(clip)
    changed.set_grad_checkpointing(True)
    assert_same(clip, changed)


def test_evaluation_is_open_clips_bit_for_bit() -> None:
    clip = make_clip().eval()
    changed = copy.deepcopy(clip)
    take_training_form(changed, PREPROCESS, compiled=False)
    images = to_pixels(make_bytes(), torch.float32)
    assert not takes_bytes(changed) and caption_form(changed) is None
    with torch.inference_mode():
        assert torch.equal(changed.encode_image(images), clip.encode_image(images))
        assert torch.equal(encode_text(changed, make_tokens()), encode_text(clip, make_tokens()))


def test_frozen_layers_get_no_gradient() -> None:
    clip = make_clip()
    for name, parameter in clip.named_parameters():
        parameter.requires_grad_("resblocks.0" not in name and "embedding" not in name)
    assert_same(clip, in_form(clip))


@pytest.mark.parametrize(
    "options",
    [
        {"image": {"patch_dropout": 0.5}},
        {"image": {"attentional_pool": True}},
        {"image": {"output_tokens": True}},
        {"image": {"qk_norm": True}},
        {"text": {"no_causal_mask": True}},
        {"text": {"qk_norm": True}},
        {"text": {"pool_type": "last"}},
    ],
)
def test_other_towers_keep_open_clips_code(options: dict[str, Any]) -> None:
    clip = make_clip(own_text=True, **options)
    take_training_form(clip, PREPROCESS, compiled=False)
    assert takes_bytes(clip) == ("image" not in options)
    assert (caption_form(clip) is None) == ("text" in options)
    tower = clip.visual if "image" in options else clip.text
    assert not any("Training" in type(module).__name__ for module in tower.modules())


def test_a_pack_holds_every_token_once_and_no_padding() -> None:
    tokens = make_tokens().numpy()
    packed, positions, starts, ends = CaptionForm().pack(tokens)
    assert len(packed) == sum(LENGTHS) and list(starts) == [0, *torch.tensor(LENGTHS).cumsum(0).tolist()]
    for row, (begin, end) in enumerate(zip(starts[:-1], ends, strict=True)):
        assert list(packed[begin : end + 1]) == list(tokens[row, : LENGTHS[row]])
        assert list(positions[begin : end + 1]) == list(range(LENGTHS[row]))
        assert packed[end] == END


def test_packs_of_similar_batches_have_one_size() -> None:
    generator, form, sizes = torch.Generator().manual_seed(0), CaptionForm(captions=Buckets(), rows=Buckets()), set()
    for _ in range(100):
        n = int(torch.randint(330, 370, (1,), generator=generator))
        lengths = torch.randint(8, 21, (n,), generator=generator)
        tokens = torch.where(torch.arange(20) < lengths[:, None] - 1, 7, 0)
        tokens[torch.arange(n), lengths - 1] = END
        packed, positions, starts, ends = form.pack(tokens.numpy())
        assert (starts[1:] > starts[:-1]).all() and positions.max() < 20
        assert len(packed) == starts[-1] <= 2 * int(lengths.sum())
        sizes.add((len(packed), len(ends)))
    assert len(sizes) == 1


def test_every_plain_tower_of_open_clip_takes_the_form() -> None:
    """ViT-S to ViT-bigG, with and without quick_gelu; one layer each, without memory for weights."""
    kinds = {"timm_model_name", "hf_model_name", "hf_tokenizer_name"}
    taken = []
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        towers = config["vision_cfg"], config["text_cfg"]
        is_vit = isinstance(towers[0].get("layers"), int) and not kinds & {*towers[0], *towers[1]}
        if not is_vit or "multimodal_cfg" in config or config.pop("custom_text", False):
            continue
        for tower in towers:
            tower["layers"] = 1
        with torch.device("meta"):
            clip = CLIP(**config).train()
            take_training_form(clip, PREPROCESS, compiled=False)
        assert takes_bytes(clip) and caption_form(clip) is not None, name
        taken.append(name)
    assert {"ViT-S-16", "ViT-B-16", "ViT-B-32-quickgelu", "ViT-L-14", "ViT-H-14-378", "ViT-bigG-14"} <= {*taken}


def test_layers_that_were_replaced_are_not_plain() -> None:
    clip = make_clip()
    clip.visual.transformer.resblocks[1].mlp.gelu = nn.ReLU()
    take_training_form(clip, PREPROCESS, compiled=False)
    assert not takes_bytes(clip) and caption_form(clip) is not None
