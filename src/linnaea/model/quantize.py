"""Write an image tower in 8 bits, calibrated on photographs (post-training quantisation). Imports onnx when called.

Inputs of convolutions, of products with weights and of sums are rounded to 256 steps between the means of the smallest
and largest values of single photographs (Jacob et al., arXiv 1712.05877). Weights have a scale for each output channel,
such that the products of two of them can be added in 16 bits: processors without VNNI do that, and their answers would
else be worse than those of others. What rounding adds to the mean of each output channel is taken off its bias (Nagel
et al., arXiv 1906.04721). The first convolutions of a convolutional tower stay in float32.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.storage import atomic_path

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

STEPS = 255
LARGEST_WEIGHT = 127
LARGEST_PAIR = 128
"""The largest sum of two weights whose products a processor without VNNI adds in 16 bits: 255 x 128 < 2^15."""
KEPT_CONVOLUTIONS = 3
"""Stem, first depthwise and first pointwise convolution, which carry most of the error of EfficientNets."""


def quantise(source: Path, target: Path, pixels: UInt8[ndarray, "B 3 S S"]) -> None:
    """Write the graph ``source``, whose weights are in the file, in 8 bits, calibrated on ``pixels``."""
    import onnx

    with atomic_path(target) as partial:
        _optimise(source, partial)
        model = onnx.load(str(partial))
        _Quantiser(model, _find_products(model.graph)).run(pixels)
        onnx.save(model, str(partial))


def _optimise(source: Path, target: Path) -> None:
    """Fold constants and batch normalisation, so that every convolution has its final weights."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _find_products(graph: "GraphProto") -> "list[NodeProto]":
    """Return the nodes that multiply by weights and are to be in 8 bits."""
    weights = {weight.name for weight in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in weights]
    products = [node for node in graph.node if node.op_type in ("MatMul", "Gemm") and node.input[1] in weights]
    if len(convolutions) > KEPT_CONVOLUTIONS:
        return convolutions[KEPT_CONVOLUTIONS:]  # the projection stays in float32
    return products[:-1]


def _is_transposed(node: "NodeProto") -> bool:
    """Tell whether a ``Gemm`` has its weights as (outputs, inputs)."""
    return any(attribute.name == "transB" and attribute.i == 1 for attribute in node.attribute)


def _scale_of(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scale of each output channel, which is the first axis; the second are input channels.

    Two input channels beside one another make a pair. In depthwise convolutions any two positions may.
    """
    channels = weights.reshape(len(weights), weights.shape[1], -1)
    if weights.shape[1] == 1:  # depthwise
        sides = np.stack([channels[:, 0], -channels[:, 0]]).clip(0)
        pairs = np.sort(sides, axis=2)[..., -2:].sum(axis=2).max(axis=0)
    else:
        even = channels[:, : weights.shape[1] // 2 * 2]
        pairs = np.abs(even[:, ::2] + even[:, 1::2]).max(axis=(1, 2), initial=0)
    single = np.abs(channels).max(axis=(1, 2))
    scale = np.maximum(single / LARGEST_WEIGHT, pairs / LARGEST_PAIR)
    return np.asarray(np.maximum(scale, 1e-12), np.float32)


class _Quantiser:
    """Changes a model in place."""

    def __init__(self, model: "ModelProto", products: "Sequence[NodeProto]") -> None:
        from onnx import numpy_helper

        self.model, self.graph, self.products = model, model.graph, products
        self.values = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
        self.sums = [node for node in self.graph.node if self._adds_activations(node)]
        self.rounded: dict[str, str] = {}
        self.means: dict[str, NDArray[np.float64]] = {}
        self.after: dict[str, list[NodeProto]] = {}
        self.first: list[NodeProto] = []

    def _adds_activations(self, node: "NodeProto") -> bool:
        is_convolutional = any(product.op_type == "Conv" for product in self.products)
        return is_convolutional and node.op_type == "Add" and not any(name in self.values for name in node.input)

    def run(self, pixels: UInt8[ndarray, "B 3 S S"]) -> None:
        inputs = {node.input[0] for node in self.products} | {name for node in self.sums for name in node.input}
        ranges = self._observe(sorted(inputs), pixels)
        for node in self.products:
            self._round_weights(node)
        for name, (low, high) in ranges.items():
            self._round_activation(name, low, high)
        for node in self.products:
            node.input[0] = self.rounded[node.input[0]]
        for node in self.sums:
            for number, name in enumerate(node.input):
                node.input[number] = self.rounded[name]
        self._insert()

    def _observe(self, names: Sequence[str], pixels: UInt8[ndarray, "B 3 S S"]) -> Mapping[str, tuple[float, float]]:
        """Return the means of photographs' smallest and largest values; keep the mean of each channel."""
        import onnx
        import onnxruntime

        watched = onnx.ModelProto()
        watched.CopyFrom(self.model)
        for name in names:
            watched.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
        session = onnxruntime.InferenceSession(watched.SerializeToString(), providers=["CPUExecutionProvider"])
        low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
        of_channel: dict[str, Any] = dict.fromkeys(names, 0.0)
        for one in pixels.astype(np.float32):  # alone: rows of some products are tokens of all photographs
            for name, values in zip(names, session.run(list(names), {"pixels": one[None]}), strict=True):
                low[name] += float(values.min())
                high[name] += float(values.max())
                axes = (0, *range(2, values.ndim)) if values.ndim == 4 else tuple(range(values.ndim - 1))
                of_channel[name] = of_channel[name] + values.mean(axis=axes, dtype=np.float64)
        self.means = {name: of_channel[name] / len(pixels) for name in names}
        return {name: (low[name] / len(pixels), high[name] / len(pixels)) for name in names}

    def _round_weights(self, node: "NodeProto") -> None:
        """Store the weights of a product as integers, and correct the bias by the shift of the mean."""
        from onnx import helper

        name, is_convolution = node.input[1], node.op_type == "Conv"
        weights = self.values[name]
        axis = 0 if is_convolution or _is_transposed(node) else weights.ndim - 1
        shape = tuple(-1 if number == axis else 1 for number in range(weights.ndim))
        scale = _scale_of(np.moveaxis(weights, axis, 0))
        whole = np.rint(weights / scale.reshape(shape)).astype(np.int8)
        error = whole * scale.reshape(shape) - weights
        mean = self.means[node.input[0]]
        if not is_convolution:
            shift = error @ mean if axis == 0 else mean @ error
        elif weights.shape[1] == 1 and len(mean) == len(weights):  # depthwise
            shift = error.sum(axis=(1, 2, 3)) * mean
        else:
            shift = error.sum(axis=(2, 3)) @ mean if weights.shape[1] == len(mean) else np.zeros(len(weights))
        self._replace(name, {"int8": whole, "scale": scale, "zero": np.zeros(len(scale), np.int8)})
        parts = [f"{name}.{part}" for part in ("int8", "scale", "zero")]
        self.first.append(helper.make_node("DequantizeLinear", parts, [f"{name}.float"], axis=axis))
        node.input[1] = f"{name}.float"
        self._shift_bias(node, shift.astype(np.float32))

    def _shift_bias(self, node: "NodeProto", shift: NDArray[np.float32]) -> None:
        from onnx import numpy_helper

        if node.op_type != "MatMul":
            biases = list(node.input[2:3])
        else:
            users = [user for user in self.graph.node if node.output[0] in user.input and user.op_type == "Add"]
            biases = [name for user in users for name in user.input if name in self.values]
        for weight in self.graph.initializer:
            if weight.name in biases[:1] and self.values[weight.name].shape == shift.shape:
                weight.CopyFrom(numpy_helper.from_array(self.values[weight.name] - shift, weight.name))

    def _round_activation(self, name: str, low: float, high: float) -> None:
        from onnx import helper

        low, high = min(low, 0.0), max(high, 1e-6)
        scale = np.float32((high - low) / STEPS)
        zero = np.uint8(np.clip(round(-low / float(scale)), 0, STEPS))
        self._replace("", {f"{name}.scale": np.asarray(scale), f"{name}.zero": np.asarray(zero)})
        small, back = f"{name}.uint8", f"{name}.rounded"
        parts = [f"{name}.scale", f"{name}.zero"]
        self.after[name] = [helper.make_node("QuantizeLinear", [name, *parts], [small]),
                            helper.make_node("DequantizeLinear", [small, *parts], [back])]  # fmt: skip
        self.rounded[name] = back

    def _replace(self, name: str, parts: Mapping[str, NDArray[Any]]) -> None:
        from onnx import numpy_helper

        for weight in [weight for weight in self.graph.initializer if weight.name == name]:
            self.graph.initializer.remove(weight)
        prefix = f"{name}." if name else ""
        self.graph.initializer.extend(numpy_helper.from_array(value, prefix + part) for part, value in parts.items())

    def _insert(self) -> None:
        """Put the new nodes into the graph, each after the nodes that it reads."""
        nodes = list(self.graph.node)
        del self.graph.node[:]
        self.graph.node.extend(self.first)
        self.graph.node.extend(self._with_rounding(nodes))
        del self.model.graph.value_info[:]

    def _with_rounding(self, nodes: "Iterable[NodeProto]") -> "Iterable[NodeProto]":
        for node in nodes:
            yield node
            for name in node.output:
                yield from self.after.get(name, ())
