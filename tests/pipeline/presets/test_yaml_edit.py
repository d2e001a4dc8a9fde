from __future__ import annotations

import pytest

from pipeline.presets.yaml_edit import with_values

TEXT = """# first

a:                 # section
  one: 1           # unit
  two: {x: 1}      # braces
  three: [1, 2]  # close
  deep:
    text: "a # b"  # quoted
    bare: null
b:
  last: 1.0e-3     # end"""


def test_only_the_values_change_and_comments_keep_their_columns():
    changes = "v:\n  a: {one: 2.0e-4, three: [], deep: {text: x}}\n  b:\n    last: yes   # other\n"
    expected = (
        TEXT.replace("one: 1           #", "one: 2.0e-4      #")
        .replace("three: [1, 2]  #", "three: []      #")
        .replace('text: "a # b"  #', "text: x        #")
        .replace("last: 1.0e-3     #", "last: yes        #")
    )
    assert with_values(TEXT, changes, "v") == expected


def test_a_long_value_moves_its_comment_and_no_other():
    found = with_values(TEXT, "v: {a: {one: a_value_of_many_letters, deep: {bare: 7}}}", "v")
    assert found == TEXT.replace("one: 1           #", "one: a_value_of_many_letters  #").replace("null", "7")


def test_braces_are_replaced_and_not_merged():
    assert "two: {y: 2}      # braces" in with_values(TEXT, "v: {a: {two: {y: 2}}}", "v")


def test_no_change_is_the_same_text():
    assert with_values(TEXT, "v: {}", "v") == TEXT


def test_an_unknown_key_is_named_with_its_section():
    with pytest.raises(KeyError, match="a.deep.nowhere"):
        with_values(TEXT, "v: {a: {deep: {nowhere: 1}}}", "v")
