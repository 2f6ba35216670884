"""The measurements of ``gpu.py`` that need a process of their own; each prints its rows as it finds them.

python benchmarks/gpu_tasks.py parts|profile|loss|predict|bank|graphs|pybioclip|model SIZE    # SIZE: gpu.Size as JSON
"""

import importlib.util
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import normalize, scaled_dot_product_attention

from linnaea.data.shards import DataSet
from linnaea.model.load import TaxonModel, load_folder
from linnaea.model.text import encode_by_length, make_token_table
from linnaea.model.training_blocks import image_block
from linnaea.model.training_form import caption_form, take_training_form
from linnaea.model.transfer import pinned_pixels
from linnaea.train.batches import Batch, Loader, empty_pixels
from linnaea.train.losses import choose_rows_at_once, info_nce
from linnaea.train.objectives import compute_loss, normalise_pixels
from linnaea.train.parallel import clip_gradients
from linnaea.train.recipe import Descent, Feed
from linnaea.train.tuning import compile_towers, make_optimizer, tuned_device

TOY_MODEL = {
    "embed_dim": 32,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2},
}


def report(what: str, value: float | None, unit: str, note: str = "") -> None:
    print("ROW " + json.dumps({"what": what, "value": value, "unit": unit, "note": note}), flush=True)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def measure(what: str, work: Callable[[], Any], size: dict[str, Any], per: int = 0, note: str = "") -> None:
    """Report the median time of some work, and rates ``per`` second; a failure becomes a row."""
    device = torch.device(size["device"])
    n_warm, n_times = (3, 8) if device.type == "cuda" else (1, 2)
    try:
        for _ in range(n_warm):
            work()
        wait(device)
        seconds = []
        for _ in range(n_times):
            began = time.perf_counter()
            work()
            wait(device)
            seconds.append(time.perf_counter() - began)
    except Exception as error:  # the other parts go on
        report(what, None, "", f"failed: {str(error).splitlines()[0][:120]}")
        return
    middle = statistics.median(seconds)
    report(what, middle * 1e3, "ms", "; ".join(filter(None, [note, f"{per / middle:,.0f}/s" if per else ""])))


def make_model(size: dict[str, Any], form: str = "") -> TaxonModel:
    """Load the model of the benchmark; ``form`` is "", "eager" or "compiled": the training form."""
    model = load_folder(Path("model"), torch.device(size["device"]))
    model.clip.train()
    is_toy = model.device.type == "cpu"  # compiling for a CPU takes minutes, and is not what is measured
    if form == "compiled" and not is_toy and (why_not := compile_towers(model)):
        report("compiler", None, "", why_not)
    if form == "eager" or (form and is_toy):
        take_training_form(model.clip, model.preprocess, compiled=False)
    return model


def make_folder(size: dict[str, Any]) -> None:
    """Write the model's folder with random weights."""
    torch.manual_seed(0)
    toy = size["model"] == "toy"
    config = TOY_MODEL if toy else open_clip.get_model_config(size["model"])
    clip = open_clip.model.CLIP(**{k: dict(v) if isinstance(v, dict) else v for k, v in config.items()})
    folder = Path("model")
    folder.mkdir(exist_ok=True)
    preprocess = {"mean": list(open_clip.OPENAI_DATASET_MEAN), "std": list(open_clip.OPENAI_DATASET_STD)}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    from safetensors.torch import save_file

    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")


def load_batch(model: TaxonModel, n: int, size: dict[str, Any]) -> tuple[Batch, Any]:
    dataset = DataSet.open(Path("data")).split("train")
    table = make_token_table(model.tokenizer, dataset.taxa_list)
    allocate = pinned_pixels if size["device"] == "cuda" else empty_pixels
    loader = Loader(
        dataset, Feed(batch_size=n), model.preprocess.image_size, 0, n_workers=size["threads"], allocate=allocate
    )
    return next(iter(loader.iter_batches(0, 1))), table


def find_parts(size: dict[str, Any]) -> None:
    """Report the time of each part of a step: towers in every form, attention, copies, optimiser."""
    n, device = size["batch"] // 2, torch.device(size["device"])
    for form in ("compiled", "eager", ""):
        model = make_model(size, form)
        batch, table = load_batch(model, n, size)
        name = {"": "open_clip's", "eager": "ours, eager", "compiled": "ours, compiled"}[form]
        pixels = torch.from_numpy(batch.pixels).to(device)
        images = pixels if form else normalise_pixels(model, pixels)
        tokens, _ = table.batch(batch.taxon_ids, batch.text_types)
        captions = caption_form(model.clip)
        encode_image: Callable[[Any], Any] = model.clip.encode_image
        measure(f"image tower, {name}", passes(model, encode_image, images), size, n)
        if captions is None:
            padded = passes(model, lambda t, m=model: encode_by_length(m.clip, t), tokens.to(device))
            measure("text tower, open_clip's, captions padded to the longest", padded, size, len(tokens))
        else:
            packed = passes(model, lambda t, m=model, c=captions: c.encode(m.clip, t), tokens)
            measure(f"text tower, {name}, captions packed", packed, size, len(tokens), f"{tokens.shape[1]} at most")
        if form == "":
            optimizer = make_optimizer(model.clip, Descent())
            for parameter in model.clip.parameters():
                parameter.grad = torch.zeros_like(parameter)
            measure("AdamW", optimizer.step, size)
            measure("norm of the gradient", lambda m=model: clip_gradients(m.clip.parameters(), float("inf")), size)
    find_attention(size, n)
    find_copies(size, batch, model)


def passes(model: TaxonModel, encode: Callable[[Any], Any], inputs: Any) -> Callable[[], None]:
    """Return a function that runs a tower forward and backward in bf16."""
    device = model.device

    def run() -> None:
        model.clip.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16):
            out = encode(inputs)
        out.float().square().mean().backward()

    return run


def find_attention(size: dict[str, Any], n: int) -> None:
    q = torch.randn(n, 12, 197, 64, device=size["device"], dtype=torch.bfloat16, requires_grad=True)
    for backend in ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION"):

        def run(backend: str = backend) -> None:
            with sdpa_kernel(getattr(SDPBackend, backend)):
                scaled_dot_product_attention(q, q, q).sum().backward()

        measure(f"attention of one layer, {backend.lower()}", run, size)


def find_copies(size: dict[str, Any], batch: Batch, model: TaxonModel) -> None:
    device = torch.device(size["device"])
    pageable = torch.from_numpy(np.ascontiguousarray(batch.pixels.transpose(0, 2, 3, 1)))
    measure("pixels to the device, pageable", lambda: pageable.to(device), size)
    if device.type == "cuda":
        pinned = pageable.pin_memory()
        measure("pixels to the device, pinned", lambda: pinned.to(device, non_blocking=True), size)
    moved = torch.from_numpy(batch.pixels).to(device)
    measure("pixels normalised apart (open_clip's path)", lambda: normalise_pixels(model, moved), size)


def take_step(model: TaxonModel, batch: Batch, table: Any, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    compute_loss(model, batch, table, Descent(precision="bf16")).backward()
    clip_gradients(model.clip.parameters(), float("inf"))
    optimizer.step()


def find_profile(size: dict[str, Any]) -> None:
    """Report the kernels of one step and the time in which none runs, before and after: eager open_clip's and ours."""
    from torch.profiler import ProfilerActivity, profile

    cuda = size["device"] == "cuda"
    for form in ("", "compiled"):
        model = make_model(size, form)
        batch, table = load_batch(model, size["batch"] if cuda else size["small"], size)
        optimizer = make_optimizer(model.clip, Descent())

        for _ in range(4):
            take_step(model, batch, table, optimizer)
        wait(model.device)
        kind = ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU
        began = time.perf_counter()
        with profile(activities=[kind]) as found:
            take_step(model, batch, table, optimizer)
            wait(model.device)
        wall = (time.perf_counter() - began) * 1e3
        times = {row.key: (row.self_device_time_total if cuda else row.self_cpu_time_total) / 1e3
                 for row in found.key_averages()}  # fmt: skip
        total, name = sum(times.values()), "ours, compiled" if form else "open_clip's towers"
        report(
            f"step, {name}", wall, "ms", f"kernels {total:.1f} ms, gaps {max(wall - total, 0):.1f} ms (with profiler)"
        )
        for key, milliseconds in sorted(times.items(), key=lambda one: -one[1])[:10]:
            report(f"{name}: {key[:70]}", milliseconds, "ms", f"{milliseconds / total:.1%}")


def find_graphs(size: dict[str, Any]) -> None:
    """Report the image tower with the blocks' kernels in CUDA graphs and without, at a large and a small batch."""
    for n in (size["batch"] // 2, size["small"]):
        model = make_model(size, "compiled")
        images = torch.from_numpy(load_batch(model, n, size)[0].pixels).to(model.device)
        run, clip = passes(model, model.clip.encode_image, images), model.clip  # type: ignore[arg-type]

        def replay(run: Callable[[], None] = run) -> None:
            torch.compiler.cudagraph_mark_step_begin()
            run()

        measure(f"image tower at {n}, compiled", run, size, n)
        if model.device.type == "cuda":
            clip.visual.compute = torch.compile(image_block, dynamic=False, mode="reduce-overhead")  # type: ignore[union-attr]
        measure(f"image tower at {n}, compiled, CUDA graphs", replay, size, n)


def find_loss(size: dict[str, Any]) -> None:
    """Report time and memory of the loss: ours in blocks, ours as one matrix, and open_clip's."""
    device = torch.device(size["device"])
    for n in size["logits"]:
        generator = torch.Generator(device).manual_seed(0)
        image, text = (
            normalize(torch.randn(n, 512, device=device, generator=generator), dim=-1).requires_grad_()
            for _ in range(2)
        )
        scale, own = torch.tensor(50.0, device=device, requires_grad=True), torch.arange(n, device=device)
        rows = choose_rows_at_once(n, n, device)
        ways: dict[str, Callable[[], Any]] = {
            f"ours, {rows} rows at once": lambda: info_nce(image, text, own, scale, rows_at_once=rows),  # noqa: B023
            "ours, one matrix": lambda: info_nce(image, text, own, scale),  # noqa: B023
            "open_clip's ClipLoss": lambda: open_clip.ClipLoss()(image, text, scale),  # noqa: B023
        }
        for products in ("highest", "high"):
            torch.set_float32_matmul_precision(products)
            for way, loss in ways.items():
                note = f"{'TF32' if products == 'high' else 'float32'}{measure_peak(loss, device)}"
                measure(f"loss at {n:,}, {way}", lambda loss=loss: loss().backward(), size, note=note)


def measure_peak(loss: Callable[[], Any], device: torch.device) -> str:
    """Return the peak memory above the features, as a note."""
    if device.type != "cuda":
        return ""
    with suppress(torch.cuda.OutOfMemoryError):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        loss().backward()
        return f", peak {(torch.cuda.max_memory_allocated() - before) / 2**20:,.0f} MiB above the features"
    return ", out of memory"


def find_predict(size: dict[str, Any]) -> None:
    """Report photographs per second of prediction over many labels, from files to the five likeliest species."""
    from linnaea.cli import main
    from linnaea.predict.label_lists import taxa_of_checklist
    from linnaea.predict.labels import LabelBank
    from linnaea.taxonomy.checklists.store import load_checklist

    model = load_folder(Path("model"), torch.device("cpu"))
    taxa = taxa_of_checklist(load_checklist("inat"))
    n_labels = min(size["labels"], taxa.height)
    vectors = np.random.default_rng(0).standard_normal((n_labels, model.width), np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kept = np.sort(np.random.default_rng(0).choice(taxa.height, n_labels, replace=False))
    folder = Path("labels")
    folder.mkdir(exist_ok=True)
    facts = {"model": model.fingerprint, "text_type": "taxon_com", "templates": ["{}"]}
    LabelBank(taxa[kept], vectors, facts).save(folder, dtype=np.float16)
    n = sum(1 for _ in Path("drawn").rglob("*.jpg"))
    for precision in ("bf16", "float32"):
        began = time.perf_counter()
        words = ["predict", "drawn", "--model", "model", "--labels", "labels", "--device", size["device"],
                 "--precision", precision, "--output", f"answers-{precision}.csv"]  # fmt: skip
        if code := main(words):
            report(f"predict, {precision}", None, "", f"failed with exit code {code}")
            continue
        seconds = time.perf_counter() - began
        note = f"{n:,} photographs in {seconds:.1f} s, with loading the model and the labels"
        report(f"predict, {n_labels:,} labels, {precision}", n / seconds, "images/s", note)


def find_pybioclip(size: dict[str, Any]) -> None:
    """Report photographs per second of pybioclip with the model and the labels of the stage ``predict``."""
    if importlib.util.find_spec("bioclip") is None:
        report("pybioclip", None, "", "pybioclip is not installed")
        return
    from bioclip.predict import Rank, TreeOfLifeClassifier

    from linnaea.predict.labels import LabelBank
    from linnaea.predict.published import write_published_bank

    if not Path("labels/bank.json").exists():
        find_predict(size)
    folder = Path("published")
    array = write_published_bank(LabelBank.open(Path("labels")), folder)
    names = json.loads((folder / "txt_emb_species.json").read_text())

    class Peer(TreeOfLifeClassifier):  # type: ignore[misc]  # it fetches its labels from the hub
        def get_txt_emb(self) -> Any:
            return torch.from_numpy(np.load(array)).to(self.device)

        def get_txt_names(self) -> Any:
            return names

    began = time.perf_counter()
    peer = Peer(model_str="local-dir:model", device=size["device"])
    photographs = [str(path) for path in sorted(Path("drawn").rglob("*.jpg"))[: 32 * size["parts"]]]
    loaded = time.perf_counter()
    rows = peer.predict(photographs, Rank.SPECIES, callback=lambda done, total: None)
    seconds = time.perf_counter() - loaded
    note = f"{len(photographs):,} photographs in {seconds:.1f} s, after {loaded - began:.1f} s of loading"
    assert len({row["file_name"] for row in rows}) == len(photographs)
    report(f"pybioclip, {len(names):,} labels, float32", len(photographs) / seconds, "images/s", note)


def find_bank(size: dict[str, Any]) -> None:
    """Report captions per second when a bank of labels is encoded."""
    from linnaea.data.shards import taxa_from_table
    from linnaea.predict.label_lists import taxa_of_checklist
    from linnaea.taxonomy.checklists.store import load_checklist
    from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TextType

    model = load_folder(Path("model"), torch.device(size["device"]))
    taxa = taxa_from_table(taxa_of_checklist(load_checklist("inat"))[: size["captions"]])
    captions = [taxon.caption(TextType.TAXON_COM, PHOTO_TEMPLATE) for taxon in taxa]
    began = time.perf_counter()
    model.encode_captions(captions, lambda done, total: None)
    wait(model.device)
    seconds = time.perf_counter() - began
    report(f"text bank, {len(captions):,} taxa", len(captions) / seconds, "captions/s", f"{seconds:.1f} s, float32")


def kill_at(step: int) -> None:
    """Make this process kill itself with -9 when training has taken so many steps."""
    from linnaea.train.fit import Learner

    take_step = Learner.take_step

    def counted(self: Learner, batches: Any, number: int, n_steps: int) -> None:
        take_step(self, batches, number, n_steps)
        if number + 1 == step:
            os.kill(os.getpid(), signal.SIGKILL)

    Learner.take_step = counted  # type: ignore[method-assign]


TASKS = {"parts": find_parts, "profile": find_profile, "loss": find_loss, "predict": find_predict, "bank": find_bank,
         "graphs": find_graphs, "pybioclip": find_pybioclip, "model": make_folder}  # fmt: skip


_AS_IN_TRAINING = ("parts", "profile", "loss", "graphs")


def main(name: str, size: dict[str, Any]) -> None:
    """Run one measurement; those of training compute as a run does: with its attention, TF32 and compiler."""
    tuned = tuned_device(torch.device(size["device"]), Descent(precision="bf16"), Path("code"))
    with tuned if name in _AS_IN_TRAINING else nullcontext():
        TASKS[name](size)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
