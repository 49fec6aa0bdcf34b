"""Layers of libraries that need not be installed, known by name: library.Class, wherever in the library it lives."""

from __future__ import annotations

# Layers without a convolution or a matrix product: norms, scales, activations, pooling and what only moves entries.
FREE_LAYERS = frozenset(
    f"{library}.{name}"
    for library, names in {
        "timm": """
            Affine AdaptiveAvgMaxPool2d AdaptiveCatAvgMaxPool2d AvgPool2dSame BiasLayer BlurAvgPool
            DropBlock2d DropPath EvoNorm2dB0 EvoNorm2dB1 EvoNorm2dB2 EvoNorm2dS0 EvoNorm2dS0a EvoNorm2dS1 EvoNorm2dS1a
            EvoNorm2dS2 EvoNorm2dS2a FastAdaptiveAvgPool FilterResponseNormAct2d FilterResponseNormTlu2d Flat Format
            FrozenBatchNormAct2d GELU GELUTanh GlobalResponseNorm HardMish HardMishMe
            HardSigmoidMe HardSwishMe HardSigmoid HardSwish LayerScale LayerScale2d LearnableScale LearnableScale2d
            MaxPool2dSame Mish MishMe PReLU PatchDropout PosEmbedRel QuickGELU RadixSoftmax RelPosBias RelPosBiasTf
            Reroll RmsNorm RmsNorm2d RmsNormFp32 RotaryEmbedding RotaryEmbeddingCat RotaryEmbeddingMixed
            RotaryEmbeddingDinoV3 Scale ScaleBiasLayer SelectSeq Sigmoid SimpleNorm SimpleNorm2d SimpleNormFp32
            SimpleNorm2dFp32 SpaceToDepth DepthToSpace SquaredReLU StarReLU Swish SwishMe Tanh
            Transpose Unroll
        """,
        "torchvision": """
            AnchorGenerator DefaultBoxGenerator FrozenBatchNorm2d ImageList MultiScaleRoIAlign Permute PSRoIAlign
            PSRoIPool PositionalEncoding RoIAlign RoIPool StochasticDepth LastLevelMaxPool
        """,
    }.items()
    for name in names.split()
)
CONVOLUTIONS_LIKE = frozenset({"torchvision.DeformConv2d"})
"""Layers that multiply every output entry with a kernel, as a convolution does, from positions of their own."""


def library_name(kind: type) -> str:
    """The name that the tables above use: without the modules in between, which change with the versions."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__qualname__}"
