from dataclasses import dataclass
from typing import Literal

import pytest

from components.common.errors import ParamsError
from components.common.params import from_mapping, section, subset


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    share: float

    def __post_init__(self):
        if not 0 <= self.share <= 1:
            raise ValueError(f"share is {self.share}; expected a share in 0..1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    steps: int
    rate: float
    name: str
    fast: bool
    method: Literal["a", "b"]
    taps: tuple[int, ...] | None
    clip: tuple[float, float]
    inner: Inner
    extra: str = "kept"


GOOD = """
demo:
  steps: 3
  rate: 1
  name: x
  fast: true
  method: b
  taps: [1, 2, 3]
  clip: [-0.5, 2]
  inner: {share: 0.5}
"""


@pytest.fixture
def read(tmp_path):
    def read(text, name="demo"):
        (tmp_path / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return section(tmp_path / "params.yaml", name, Outer)

    return read


def test_a_section_becomes_its_dataclass_with_exact_types(read):
    got = read(GOOD)
    assert got == Outer(
        steps=3, rate=1.0, name="x", fast=True, method="b", taps=(1, 2, 3), clip=(-0.5, 2.0), inner=Inner(share=0.5)
    )
    assert [type(value) for value in (got.rate, *got.clip)] == [float] * 3
    assert read(GOOD.replace("[1, 2, 3]", "null")).taps is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (
            "steps: 3",
            "steps: 3\n  stepz: 4",
            "demo.stepz is unknown (given: 4); expected one of clip, extra",
        ),
        ("share: 0.5", "share: 0.5, shard: 1", "demo.inner.shard is unknown (given: 1); expected one of share"),
        ("  steps: 3\n", "", "demo.steps is missing; expected a whole number"),
        ("{share: 0.5}", "{}", "demo.inner.share is missing; expected a number"),
        ("steps: 3", "steps: true", "demo.steps is True (true or false); expected a whole number"),
        ("steps: 3", "steps: 3.5", "demo.steps is 3.5 (a number); expected a whole number"),
        ("rate: 1", "rate: fast", "demo.rate is 'fast' (a string); expected a number"),
        ("rate: 1", "rate: 1e-3", "demo.rate is '1e-3' (a string); expected a number"),
        ("rate: 1", "rate: true", "demo.rate is True (true or false); expected a number"),
        ("name: x", "name: 7", "demo.name is 7 (a whole number); expected a string"),
        ("name: x", "name: null", "demo.name is None (null); expected a string"),
        ("fast: true", "fast: 1", "demo.fast is 1 (a whole number); expected true or false"),
        ("method: b", "method: c", "demo.method is 'c' (a string); expected a or b"),
        ("[1, 2, 3]", "[1, two]", "demo.taps[1] is 'two' (a string); expected a whole number"),
        ("[1, 2, 3]", "5", "demo.taps is 5 (a whole number); expected a list, each a whole number"),
        ("[-0.5, 2]", "[1]", "demo.clip is [1] (a list); expected a list of 2, each a number"),
        ("{share: 0.5}", "0.5", "demo.inner is 0.5; expected a mapping with the keys share"),
        ("share: 0.5", "share: 2", "demo.inner.share is 2.0; expected a share in 0..1"),
    ],
)
def test_a_wrong_key_or_value_is_one_sentence_with_key_given_and_expected(read, tmp_path, old, new, sentence):
    assert old in GOOD
    with pytest.raises(ParamsError) as caught:
        read(GOOD.replace(old, new))
    assert str(caught.value).startswith(f"{tmp_path / 'params.yaml'}: {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("other: {}", ": the section demo is missing"),
        ("- a", ": not a mapping of names to values"),
        ("", ": not a mapping of names to values"),
        ("demo:", ": demo is None; expected a mapping with the keys"),
        ("demo:\n  a: [1,\n  b: }", ":3: not valid YAML"),
        (b"demo: \xff\xfe", ": not valid YAML"),
    ],
)
def test_a_broken_file_says_where(read, tmp_path, text, sentence):
    with pytest.raises(ParamsError) as caught:
        read(text)
    assert str(caught.value).startswith(f"{tmp_path / 'params.yaml'}{sentence}")
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_what_to_pass(tmp_path):
    with pytest.raises(ParamsError, match="none.yaml: no such file; run the command in the project folder"):
        section(tmp_path / "none.yaml", "demo", Outer)


def test_a_mapping_from_elsewhere_is_checked_the_same_way():
    with pytest.raises(ParamsError, match="run.share is 'x'"):
        from_mapping(Inner, {"share": "x"}, "run")


def test_a_subset_reads_its_own_keys_and_leaves_the_others_alone():
    assert subset({"demo": {"share": 1, "other": object()}}, "demo", Inner) == Inner(share=1.0)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ({}, "the section demo is missing"),
        ({"demo": None}, "the section demo is missing"),
        ({"demo": {"other": 1}}, "demo.share is missing"),
        ({"demo": {"share": "x"}}, "demo.share is 'x'"),
        ({"demo": {"share": 2}}, "demo.share is 2.0; expected a share in 0..1"),
    ],
)
def test_a_subset_that_does_not_fit_is_one_sentence(document, sentence):
    with pytest.raises(ParamsError) as caught:
        subset(document, "demo", Inner)
    assert str(caught.value).startswith(sentence)
