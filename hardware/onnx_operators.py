"""What the operators of an ONNX file cost: which have MACs, which are free, and whose inputs are no parameters.

An operator that is in none of these tables is unknown: the counter names it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

STANDARD, MICROSOFT, MACHINE_LEARNING = "", "com.microsoft", "ai.onnx.ml"
Shape = tuple[int, ...]


class UnknownSizeError(Exception):
    """The size of a tensor (the argument) is not known."""


@dataclass(frozen=True)
class Sized:
    """A node with the sizes of its tensors."""

    node: Any
    shapes: Mapping[str, Shape]

    def input(self, index: int) -> Shape:
        """Size of an input.

        Raises:
            UnknownSizeError: if it is not known.
        """
        return self._shape(self.node.input[index])

    def output(self, index: int = 0) -> Shape:
        """Size of an output; raises as `input`."""
        return self._shape(self.node.output[index])

    def has(self, index: int) -> bool:
        """Whether an optional input is given."""
        return len(self.node.input) > index and bool(self.node.input[index])

    def attribute(self, name: str, default: Any) -> Any:
        """An integer, text or list attribute."""
        from onnx import helper

        found = next((entry for entry in self.node.attribute if entry.name == name), None)
        if found is None:
            return default
        value = helper.get_attribute_value(found)
        return value.decode(errors="replace") if isinstance(value, bytes) else value

    def _shape(self, name: str) -> Shape:
        if name not in self.shapes:
            raise UnknownSizeError(name)
        return self.shapes[name]


@dataclass(frozen=True)
class Product:
    """MACs of one product, and the inputs that are multiplied: a constant among them makes it a layer."""

    macs: int
    factors: tuple[int, ...] = ()


Formula = Callable[[Sized], Sequence[Product]]


def _convolution(weight: int) -> Formula:
    return lambda node: [Product(prod(node.output()) * prod(node.input(weight)[1:]), (0, weight))]


def _transposed(node: Sized) -> list[Product]:
    return [Product(prod(node.input(0)) * prod(node.input(1)[1:]), (0, 1))]


def _matrices(second: int) -> Formula:
    """Output entries x length of the summed axis."""

    def products(node: Sized) -> list[Product]:
        first = node.input(0)
        summed = first[-2] if node.attribute("transA", 0) and len(first) > 1 else first[-1]
        return [Product(prod(node.output()) * summed, (0, second))]

    return products


def _packed_matrix(node: Sized) -> list[Product]:
    return [Product(prod(node.input(0)) * node.attribute("N", 0), (0, 1))]


def _recurrent(node: Sized) -> list[Product]:
    """Every step multiplies with the weights of all gates: those of the input and those of the state."""
    steps, batch = node.input(0)[:2]
    return [Product(steps * batch * (prod(node.input(1)) + prod(node.input(2))), (0, 1, 2))]


def _einsum(node: Sized) -> list[Product]:
    inputs = [node.input(index) for index in range(len(node.node.input))]
    factors = (0, 1) if len(inputs) == 2 else tuple(range(len(inputs)))
    return [Product(einsum_macs(node.attribute("equation", ""), inputs), factors)]


def einsum_macs(equation: str, shapes: Sequence[Shape]) -> int:
    """MACs of a sum of products, worked out from left to right, two factors at a time.

    >>> einsum_macs("ij,jk->ik", [(2, 3), (3, 4)])
    24
    >>> einsum_macs("...ij,...jk", [(7, 2, 3), (7, 3, 4)])
    168
    """
    left, _, right = equation.replace(" ", "").partition("->")
    sizes: dict[Any, int] = {}
    labels = [_labels(term, shape, sizes) for term, shape in zip(left.split(","), shapes, strict=True)]
    kept = set(right.replace(".", "")) | {label for term in labels for label in term if isinstance(label, int)}
    if "->" not in equation:
        everywhere = [label for term in labels for label in term]
        kept |= {label for label in everywhere if everywhere.count(label) == 1}
    macs, product = 0, set(labels[0])
    for index, term in enumerate(labels[1:], start=2):
        product |= set(term)
        macs += prod(sizes[label] for label in product)
        later = kept.union(*map(set, labels[index:]))
        product &= later
    return macs


def _labels(term: str, shape: Shape, sizes: dict[Any, int]) -> list[Any]:
    """One label for each axis of a factor; the axes of an ellipsis are counted from the right."""
    before, _, after = term.partition("...")
    hidden = len(shape) - len(before) - len(after)
    labels = [*before, *range(-hidden, 0), *after]
    for label, size in zip(labels, shape, strict=True):
        sizes[label] = max(size, sizes.get(label, 1))
    return labels


def _attention(node: Sized) -> list[Product]:
    """ONNX 23: queries x keys and weights x values, of (batch, heads, length, size) or (batch, length, all heads)."""
    query, key, value = (node.input(index) for index in range(3))
    if len(query) == 4:
        entries, keys, per_query = prod(query), key[2], prod(query[:3]) * value[3]
    else:
        heads, of_keys = node.attribute("q_num_heads", 1), node.attribute("kv_num_heads", 1)
        entries, keys, per_query = prod(query), key[1], prod(query[:2]) * heads * (value[2] // of_keys)
    past = node.input(4)[2] if node.has(4) else 0
    return [Product((keys + past) * (entries + per_query))]


def _multi_head_attention(node: Sized) -> list[Product]:
    """com.microsoft: as ONNX's for three factors of (batch, length, all heads), or keys of four axes."""
    query, key, value = (node.input(index) for index in range(3))
    keys = key[2] if len(key) == 4 else key[1]
    past = node.input(6)[2] if node.has(6) else 0
    of_values = value[1] * value[3] if len(value) == 4 else value[2]
    return [Product((keys + past) * (prod(query) + prod(query[:2]) * of_values))]


def _grouped_attention(node: Sized) -> list[Product]:
    query, key = node.input(0), node.input(1)
    past = node.input(3)[2] if node.has(3) else 0
    return [Product(2 * (key[1] + past) * prod(query))]


def _fused_attention(node: Sized) -> list[Product]:
    """com.microsoft's Attention: the projection of queries, keys and values, and both products."""
    x, weight = node.input(0), node.input(1)
    sizes = node.attribute("qkv_hidden_sizes", [weight[1] // 3] * 3)
    products = prod(x[:2]) * x[1] * (sizes[0] + sizes[2])
    return [Product(prod(x) * weight[1], (0, 1)), Product(products)]


_MATRICES = _matrices(1)
COUNTED: dict[tuple[str, str], Formula] = {
    **{(STANDARD, name): _convolution(1) for name in ("Conv", "ConvInteger", "DeformConv")},
    (STANDARD, "QLinearConv"): _convolution(3),
    (STANDARD, "ConvTranspose"): _transposed,
    **{(STANDARD, name): _MATRICES for name in ("Gemm", "MatMul", "MatMulInteger")},
    (STANDARD, "QLinearMatMul"): _matrices(3),
    **{(STANDARD, name): _recurrent for name in ("LSTM", "GRU", "RNN")},
    (STANDARD, "Einsum"): _einsum,
    (STANDARD, "Attention"): _attention,
    (MICROSOFT, "FusedConv"): _convolution(1),
    (MICROSOFT, "QLinearConv"): _convolution(3),
    **{
        (MICROSOFT, name): _MATRICES
        for name in (
            *("FusedGemm", "FusedMatMul", "TransposeMatMul", "GemmFastGelu", "FusedMatMulActivation"),
            *("MatMulInteger16", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
        )
    },
    (MICROSOFT, "QGemm"): _matrices(3),
    **{(MICROSOFT, name): _packed_matrix for name in ("MatMulNBits", "MatMulBnb4", "MatMulFpQ4")},
    **{(MICROSOFT, name): _fused_attention for name in ("Attention", "QAttention")},
    (MICROSOFT, "MultiHeadAttention"): _multi_head_attention,
    (MICROSOFT, "GroupQueryAttention"): _grouped_attention,
}

# Operators that hold no convolution and no matrix product: their MACs are zero by definition.
FREE: dict[str, frozenset[str]] = {
    STANDARD: frozenset(
        """
        Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Bernoulli BitCast
        BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor BlackmanWindow Cast CastLike Ceil Celu CenterCropPad Clip
        Col2Im Compress Concat ConcatFromSequence Constant ConstantOfShape Cos Cosh CumProd CumSum DepthToSpace
        DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
        GatherElements GatherND Gelu GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
        GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If InstanceNormalization
        IsInf IsNaN LRN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool Max
        MaxPool MaxRoiPool MaxUnpool Mean MeanVarianceNormalization Min Mish Mod Mul Multinomial Neg
        NegativeLogLikelihoodLoss NonMaxSuppression NonZero Not OneHot Optional OptionalGetElement OptionalHasElement
        Or PRelu Pad Pow QuantizeLinear RMSNormalization RandomNormal RandomNormalLike RandomUniform
        RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
        ReduceMin ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape Resize ReverseSequence RoiAlign
        RotaryEmbedding Round Scan Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty
        SequenceErase SequenceInsert SequenceLength SequenceMap Shape Shrink Sigmoid Sign SimplifiedLayerNormalization
        Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign SpaceToDepth Split SplitToSequence Sqrt
        Squeeze StringConcat StringNormalizer StringSplit Sub Sum SwiGLU Swish Tan Tanh TensorScatter TfIdfVectorizer
        ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Upsample Where Xor
        """.split()  # noqa: SIM905 (a list of literals would take a line each)
    ),
    MICROSOFT: frozenset(
        """
        BiasAdd BiasDropout BiasGelu BiasSoftmax BiasSplitGelu CropAndResize
        DequantizeLinear DynamicQuantizeLinear EmbedLayerNormalization ExpandDims FastGelu Gelu GridSample GroupNorm
        NhwcMaxPool Pad QLinearAdd QLinearAveragePool QLinearConcat QLinearGlobalAveragePool QLinearLeakyRelu
        QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu
        RotaryEmbedding SkipGroupNorm SkipLayerNormalization SkipSimplifiedLayerNormalization Trilu Unique
        """.split()  # noqa: SIM905
    ),
    MACHINE_LEARNING: frozenset(
        """
        ArrayFeatureExtractor Binarizer CastMap CategoryMapper DictVectorizer FeatureVectorizer Imputer LabelEncoder
        Normalizer OneHotEncoder Scaler ZipMap
        """.split()  # noqa: SIM905
    ),
}
# Operators whose result is their first input in another form: no memory of its own.
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
# Inputs that say how to work rather than being learned: scales and zero points, and the sizes of a resizing.
SETTINGS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear", "Pad", "Upsample"), (1, 2, 3)),
    "Resize": (1, 2, 3),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (1, 2, 4, 5, 6, 7)),
    **dict.fromkeys(("ConvInteger", "MatMulInteger"), (2, 3)),
    "QGemm": (1, 2, 4, 5, 7, 8),
    **dict.fromkeys(("MatMulIntegerToFloat", "DynamicQuantizeMatMul"), (2, 3, 4, 5)),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (1, 2, 4, 5, 6, 7)),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), (1, 2, 3, 4)),
    **dict.fromkeys(("QLinearGlobalAveragePool", "QLinearAveragePool", "QLinearReduceMean"), (1, 2, 3, 4)),
    "QAttention": (3, 4, 6, 7),
    "MatMulNBits": (2, 3),
}
# Inputs of 32-bit integers that are learned all the same: the biases of quantised layers.
BIASES: dict[str, int] = {"DequantizeLinear": 0, "QLinearConv": 8, "QGemm": 6}


def kind_of(node: Any) -> tuple[str, str]:
    """Domain and name of a node's operator; the standard domain has two names."""
    return (STANDARD if node.domain == "ai.onnx" else node.domain), node.op_type


def is_known(node: Any) -> bool:
    """Whether a node's cost is known, be it zero."""
    domain, name = kind_of(node)
    return (domain, name) in COUNTED or name in FREE.get(domain, ())
