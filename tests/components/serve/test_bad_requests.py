"""No request harms the service: a 4xx answer with one sentence, nothing in the log, and it answers afterwards."""

from __future__ import annotations

import json
import logging
import tracemalloc

import numpy as np
import pytest

from components.serve.refusals import RequestError
from components.serve.tensors import parse
from tests.components.serve import bad_requests
from tests.components.serve.conftest import service

FOLDER_KINDS = ("wrong_files", "wrong_forms")
KINDS = ("wrong_json", "wrong_arrays", "wrong_binary", *FOLDER_KINDS, "wrong_urls", "wrong_routes")


@pytest.fixture(scope="module")
def client(package):
    with service(package, url_prefixes=("https://allowed.test/tiles/",)) as opened:
        yield opened


@pytest.fixture(scope="module")
def requests(tmp_path_factory):
    """Kind -> name -> request."""
    folder = tmp_path_factory.mktemp("requests")
    made = {kind: getattr(bad_requests, kind) for kind in KINDS}
    return {kind: make(folder) if kind in FOLDER_KINDS else make() for kind, make in made.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_request_is_refused_with_one_sentence_and_the_service_goes_on(client, requests, caplog, kind):
    caplog.set_level(logging.WARNING)
    wrong = {}
    for name, request in requests[kind].items():
        answer = client.request(**request)
        sentence = answer.json().get("error", "") if answer.headers["content-type"] == "application/json" else ""
        one = 10 < len(sentence) < 400 and not any(text in sentence for text in ("\n", "Traceback", "/tmp"))
        if not 400 <= answer.status_code < 500 or not one or "x-model-version" not in answer.headers:
            wrong[name] = answer.status_code, sentence or answer.content[:100]
    assert not wrong
    assert not [record.getMessage() for record in caplog.records if record.exc_info or record.levelno > logging.WARNING]
    assert client.post(bad_requests.INFER, json=bad_requests.good()).status_code == 200


def test_a_long_text_between_numbers_needs_no_more_memory():
    """NumPy would store every number in as much memory as the text: 400 MB here."""
    content = bad_requests.changed(("inputs", 1, "data"), ["x" * 100_000] + [30] * 999)
    content["inputs"][1]["shape"] = [1, 1000]
    body = json.dumps(content).encode()
    tracemalloc.start()
    with pytest.raises(RequestError, match="neither numbers nor null"):
        parse(body, None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_a_json_of_millions_of_lists_is_refused_before_it_is_read():
    with pytest.raises(RequestError, match="more than 4000000 lists and objects; give flat data"):
        parse(b'{"inputs":[' + b"[]," * 4_000_000 + b"1]}", None)


def test_there_are_300_bad_requests(requests):
    assert sum(map(len, requests.values())) >= 300


def test_a_damaged_file_is_refused_or_mapped_and_never_an_error_of_the_service(client, tmp_path):
    plain, rng = bad_requests.tiff(tmp_path, compress="deflate"), np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(plain)
        for place in rng.integers(0, len(plain), 4):
            damaged[place] = rng.integers(256)
        answer = client.request(**bad_requests.upload(bytes(damaged)))
        assert answer.status_code < 500, answer.content
    assert client.request(**bad_requests.upload(plain)).status_code == 200
