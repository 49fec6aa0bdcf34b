"""Cross-testing: trained and validated on one data set, tested on another."""

from __future__ import annotations

from typing import Any

from searchspaces.errors import ConfigError

from .base import FaceData


def cross_data(training: Any, testing: Any) -> FaceData:
    """The train and val splits of one data set with the test split of another; val chooses the threshold.

    Raises:
        ConfigError: if one of both is not for anti-spoofing, or they are the same set.
    """
    for data in (training, testing):
        if not isinstance(data, FaceData):
            raise ConfigError(f"The data set {data.name!r} is for another task: cross-testing is for anti-spoofing.")
    if training.name == testing.name:
        raise ConfigError(f"test_data is {testing.name!r}, and so is data: leave test_data out.")
    splits = {**training.splits, "test": testing.splits["test"]}
    cards = (training.card, testing.card)
    videos = all(card.get("unit") == "video" for card in cards)
    joined = {
        key: " ".join(str(card.get(key, "")) for card in cards).strip() for key in ("credit", "licence", "limits")
    }
    described = [
        f"{part} {data.name}: {data.card.get('description', '')}"
        for part, data in (("Train and val are of", training), ("Test is of", testing))
    ]
    card = {
        **{key: value for key, value in training.card.items() if key != "unit"},
        **{key: text for key, text in joined.items() if text},
        **({"unit": "video"} if videos else {}),
        "name": f"{training.name}, tested on {testing.name}",
        "simulated": any(card.get("simulated") for card in cards),
        "description": " ".join(described),
        "deviations": [text for card in cards for text in card.get("deviations", ())],
        "splits": {**training.card["splits"], "test": testing.card["splits"]["test"]},
        "image_size": min(training.image_size, testing.image_size),
        "sets": {"train": training.card, "test": testing.card},
    }
    return FaceData(card["name"], splits, card["image_size"], card)
