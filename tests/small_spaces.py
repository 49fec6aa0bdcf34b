"""Options with which each space is quick to test."""

from __future__ import annotations

DETECTOR = {"backbone": "mobilenet_0.25", "width": 8, "nodes": 3, "head_layers": 1, "lowest_level": 3, "image_size": 64}
SMALL = {
    "autofas": {"channels": 4, "layout": "RNRN", "image_size": 36, "stem_multiplier": 1},
    "pta": {"width": 0.1, "image_size": 32},
    **dict.fromkeys(("autofem-fpn", "autofem-cpm", "asfd"), DETECTOR),
    "airface": {"image_size": 32, "channels": 16, "repeats": [[1, 2], [1, 3], [1, 2]], "embeddings": [16, 32]},
    "hatfas": {"image_size": 32, "embed": [64, 128], "depth": [1, 2], "mlp_ratio": [1, 2]},
}
