from typing import Annotated, Literal

import pytest
from pydantic import Field
from pydantic.dataclasses import dataclass

from components.common.errors import ParamsError
from components.common.params import STRICT, Text, from_mapping, section, subset
from components.common.yaml_files import dump_yaml, parse_yaml


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Inner:
    share: Annotated[float, Field(gt=0, le=1)]

    def __post_init__(self):
        if self.share == 0.3:
            raise ValueError("share is 0.3; expected another number")


@dataclass(frozen=True, kw_only=True, slots=True, config=STRICT)
class Outer:
    steps: Annotated[int, Field(ge=1, le=9)]
    rate: float
    name: Text
    fast: bool
    method: Literal["a", "b"]
    taps: tuple[Annotated[int, Field(ge=0)], ...] | None
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
        ("steps: 3", "steps: true", "demo.steps is true; expected a whole number"),
        ("steps: 3", "steps: 3.5", "demo.steps is 3.5 (a number); expected a whole number"),
        ("rate: 1", "rate: fast", "demo.rate is 'fast' (a string); expected a number"),
        ("rate: 1", "rate: '1e-3'", "demo.rate is '1e-3' (a string); expected a number"),
        ("rate: 1", "rate: .nan", "demo.rate is nan; expected a finite number"),
        ("rate: 1", "rate: -.inf", "demo.rate is -inf; expected a finite number"),
        ("rate: 1", "rate: 1e999", "demo.rate is inf; expected a finite number"),
        ("fast: true", "fast: yes", "demo.fast is 'yes' (a string); expected true or false"),
        ("steps: 3", "steps: 2024-01-01", "demo.steps is '2024-01-01' (a string); expected a whole number"),
        ("steps: 3", "steps: 0", "demo.steps is 0; expected a whole number from 1 to 9"),
        ("steps: 3", "steps: 10", "demo.steps is 10; expected a whole number from 1 to 9"),
        ("name: x", "name: 2024-01-01\n  new: [1]", "demo.new is unknown (given: [1]); expected one of clip, extra"),
        ("name: x", "name: ''", "demo.name is ''; expected a string of one line without spaces at its ends"),
        ("name: x", r'name: "a\nb"', r"demo.name is 'a\nb'; expected a string of one line"),
        ("name: x", r'name: "\ud800"', "demo has a character that is not valid Unicode; remove it"),
        ("[1, 2, 3]", "[1, -2]", "demo.taps[1] is -2; expected a whole number of 0 or more"),
        ("[-0.5, 2]", "[1, 2, 3]", "demo.clip is [1, 2, 3] (a list); expected a list of 2, each a number"),
        ("{share: 0.5}", "{[1]: 2}", "demo has a value of an unknown kind (keys must be"),
        ("{share: 0.5}", "!!binary aGk=", "demo has a value of an unknown kind (Object of type bytes"),
        ("{share: 0.5}", "{share: 0}", "demo.inner.share is 0; expected a number above 0 and up to 1"),
        ("rate: 1", "rate: true", "demo.rate is true; expected a number"),
        ("name: x", "name: 7", "demo.name is 7 (a whole number); expected a string"),
        ("name: x", "name: null", "demo.name is null; expected a string"),
        ("fast: true", "fast: 1", "demo.fast is 1 (a whole number); expected true or false"),
        ("method: b", "method: c", "demo.method is 'c' (a string); expected a or b"),
        ("[1, 2, 3]", "[1, two]", "demo.taps[1] is 'two' (a string); expected a whole number"),
        (
            "[1, 2, 3]",
            "5",
            "demo.taps is 5 (a whole number); expected a list, each a whole number of 0 or more",
        ),
        ("[-0.5, 2]", "[1]", "demo.clip is [1] (a list); expected a list of 2, each a number"),
        ("{share: 0.5}", "0.5", "demo.inner is 0.5 (a number); expected a mapping with the keys share"),
        ("share: 0.5", "share: 2", "demo.inner.share is 2; expected a number above 0 and up to 1"),
        ("share: 0.5", "share: 0.3", "demo.inner.share is 0.3; expected another number"),
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
        ("demo:", ": demo is null; expected a mapping with the keys"),
        ("demo: 1\nother: 2\ndemo: 3", ":3: the key demo is given twice; remove one of them"),
        ("demo:\n  steps: 1\n  rate: 2\n  steps: 3", ":4: the key steps is given twice; remove one of them"),
        ("demo: {}\n---\ndemo: {}", ":2: not valid YAML (but found another document)"),
        ("demo: &a [*a]", ": demo has a value of an unknown kind (Circular reference detected)"),
        ("demo: !!python/object:os.system x", ":1: not valid YAML (could not determine a constructor for the tag"),
        (f"demo: {'9' * 5000}", ": not valid YAML (Exceeds the limit (4300 digits)"),
        ("{" * 3000, ": not valid YAML (too many nested brackets)"),
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
        ({"demo": {"share": 2}}, "demo.share is 2; expected a number above 0"),
    ],
)
def test_a_subset_that_does_not_fit_is_one_sentence(document, sentence):
    with pytest.raises(ParamsError) as caught:
        subset(document, "demo", Inner)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("written", ["5e-05", "5e-5", "5E-5", "0.00005", "5.0e-05"])
def test_the_numbers_that_dvc_writes_are_numbers(read, written):
    assert read(GOOD.replace("rate: 1", f"rate: {written}")).rate == 5e-5


def test_a_long_value_is_shortened(read):
    with pytest.raises(ParamsError) as caught:
        read(GOOD.replace("method: b", f"method: {'b' * 5000}"))
    assert len(str(caught.value)) < 400


def test_what_is_written_is_read_back_in_the_same_order():
    document = {
        "z": 5e-05,
        "b": [1, None],
        "a": {"yes": "on", "date": "2024-01-01", "id": "2_10"},
        "e": "1e5",
        "n": 1e20,
    }
    for one_line in (False, True):
        text = dump_yaml(document, one_line=one_line)
        assert list(parse_yaml(text, "it").items()) == list(document.items())
        assert text.count("\n") == 1 or not one_line


def test_every_scalar_can_be_read_as_a_string():
    assert parse_yaml("a: 2_10\nb: [1e3, yes, null]", "it", strings=True) == {"a": "2_10", "b": ["1e3", "yes", "null"]}


def test_a_section_that_no_step_reads_is_an_error(tmp_path):
    (tmp_path / "params.yaml").write_text("train: {steps: 4}\ntraining: {steps: 9}\n")
    with pytest.raises(ParamsError, match=r"params.yaml: the section 'training' is unknown; expected one of data, .*"):
        section(tmp_path / "params.yaml", "train", Outer)
