from __future__ import annotations

import pytest

from components.check.config import CheckConfig
from components.check.findings import CODES
from components.common.errors import ParamsError
from components.common.params import from_mapping

LIMITS = {"max_dsm_missing_share": 0.5, "max_disagreement_share": 0.02, "max_class_share_deviation": 5.0, "workers": 0}


def config(accept):
    return from_mapping(CheckConfig, LIMITS | {"accept": accept}, "check")


def test_tiles_or_all_can_be_accepted():
    accepted = config({"dsm-constant": ["2_10"], "duplicate": "all"}).accepted
    assert accepted.covers("dsm-constant", "2_10") and not accepted.covers("dsm-constant", "2_11")
    assert accepted.covers("duplicate", "2_11") and accepted.covers("duplicate", None)


def test_tile_ids_are_compared_in_unicode_nfc():
    assert config({"dsm-constant": ["Ko\u0308ln"]}).accepted.covers("dsm-constant", "K\u00f6ln")


@pytest.mark.parametrize(
    ("accept", "words"),
    [
        ({"dsm-flat": "all"}, "check.accept.dsm-flat is unknown"),
        ({"unreadable": "all"}, "check.accept.unreadable is not a code of an error that can be accepted"),
        ({"image-black": "all"}, "check.accept.image-black is not a code of an error that can be accepted"),
        ({"dsm-constant": [210]}, "check.accept.dsm-constant is [210]; expected a list of tile ids in quotes"),
        ({"dsm-constant": "2_10"}, "check.accept.dsm-constant is '2_10'"),
        ({"dsm-constant": []}, "check.accept.dsm-constant is []"),
        (None, "check.accept is null"),
    ],
)
def test_what_cannot_be_accepted_is_one_sentence(accept, words):
    with pytest.raises(ParamsError) as caught:
        config(accept)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_sentence_names_every_code_that_can_be_accepted():
    with pytest.raises(ParamsError) as caught:
        config({"unreadable": "all"})
    names = str(caught.value).split("expected one of ")[1].split(", ")
    assert set(names) == {code for code, about in CODES.items() if about.acceptable}


def test_only_errors_can_be_accepted():
    assert {about.severity for about in CODES.values() if about.acceptable} == {"error"}
