"""Corrupted and hostile `.safetensors` files."""

from __future__ import annotations

import json
import pickle
import struct
from collections.abc import Callable

from tests.components.common.predictors.hostile import Canary, Change, saved_pickle, truncated


def header(edit: Callable[[dict], None]) -> Change:
    """Change the header of a safetensors file; the tensors stay."""

    def change(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        content = json.loads(data[8 : 8 + size])
        edit(content)
        text = json.dumps(content).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + data[8 + size :]

    return change


def facts(**changes) -> Change:
    def edit(content: dict) -> None:
        known = json.loads(content["__metadata__"]["mobanet"])
        for name, value in changes.items():
            outer, _, inner = name.partition("__")
            if inner:
                known[outer][inner] = value
            else:
                known[outer] = value
        content["__metadata__"]["mobanet"] = json.dumps(known)

    return header(edit)


WEIGHT = "decoder.classifier.1.weight"


def entry(**changes) -> Change:
    return header(lambda content: content[WEIGHT].update(changes))


def length(value: int | Callable[[int], int]) -> Change:
    def change(data: bytes) -> bytes:
        old = struct.unpack("<Q", data[:8])[0]
        return struct.pack("<Q", value(old) if callable(value) else value) + data[8:]

    return change


def raw_header(text: bytes) -> Change:
    return lambda data: struct.pack("<Q", len(text)) + text


def weights(value: float) -> Change:
    def change(data: bytes) -> bytes:
        size = struct.unpack("<Q", data[:8])[0]
        start = json.loads(data[8 : 8 + size])[WEIGHT]["data_offsets"][0] + 8 + size
        return data[:start] + struct.pack("<f", value) + data[start + 4 :]

    return change


def extra_tensor(content: dict) -> None:
    end = max(value["data_offsets"][1] for name, value in content.items() if name != "__metadata__")
    content["stranger"] = {"dtype": "F32", "shape": [0], "data_offsets": [end, end]}


SAFETENSORS: dict[str, Change] = {
    **dict(truncated((0, 0.00001, 0.001, 0.01, 0.1, 0.5, 0.9))),
    "length-0": length(0),
    "length-1": length(1),
    "length-short": length(lambda old: old - 1),
    "length-long": length(lambda old: old + 1),
    "length-2**31": length(2**31),
    "length-2**63": length(2**63),
    "length-2**64": length(2**64 - 1),
    "header-list": raw_header(b"[1, 2, 3]"),
    "header-deep": raw_header(b"[" * 100_000),
    "header-pickle": lambda data: raw_header(pickle.dumps(Canary()))(data),
    "pickle": lambda data: pickle.dumps(Canary()),
    "pickle-of-torch": saved_pickle,
    "trailing": lambda data: data + b"more",
    "type-unknown": entry(dtype="CANARY"),
    "type-longer": entry(dtype="F64"),
    "type-whole": entry(dtype="I32"),
    "shape-huge": entry(shape=[2**40, 2**20]),
    "shape-overflow": entry(shape=[2**62, 2**62]),
    "shape-negative": entry(shape=[-6, 16, 1, 1]),
    "shape-other": entry(shape=[16, 6, 1, 1]),
    "offsets-beyond": entry(data_offsets=[0, 2**40]),
    "offsets-reversed": entry(data_offsets=[400, 0]),
    "metadata-none": header(lambda content: content.pop("__metadata__")),
    "metadata-no-json": header(lambda content: content["__metadata__"].update(mobanet="{")),
    "metadata-list": header(lambda content: content["__metadata__"].update(mobanet="[]")),
    "tensor-more": header(extra_tensor),
    "tensor-less": header(lambda content: content.update(renamed=content.pop(WEIGHT))),
    "weights-nan": weights(float("nan")),
    "weights-infinite": weights(float("inf")),
    "classes-count": facts(classes=["a", "b"]),
    "classes-network": facts(network__num_classes=7),
    "classes-types": facts(classes=[1, 2, 3, 4, 5, 6]),
    "palette": facts(palette=[[0, 0, 300]] * 6),
    "bands": facts(bands=["red"]),
    "depth": facts(network__backbone_args={"patch_size": 8, "img_size": 64, "depth": 60_000}),
    "device": facts(network__backbone_args={"patch_size": 8, "img_size": 65_536, "device": "cpu"}),
    "checkpoint": facts(network__backbone_args={"checkpoint_path": "/tmp/evil.pth"}),
    "backbone": facts(network__backbone="hf-hub:evil/evil"),
    "range": facts(image_range=[255, 0]),
    "heights": facts(heights__scale_m=0),
    "clip": facts(heights__clip=["low", "high"]),
    "window": facts(window_px=2**40),
    "field": facts(surprise=1),
}
