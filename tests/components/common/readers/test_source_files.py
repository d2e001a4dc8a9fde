"""Names of rasters: files of any driver, globs, VRTs, and remote files behind a server that fails."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import rasterio
from rasterio import Affine

from components.common.errors import DataError, TemporaryError
from components.common.rasterfiles import servers
from components.common.rasterfiles.position import position_of
from components.common.rasterfiles.rasters import Rejected
from components.common.rasterfiles.source_files import expanded, open_source
from tests.components.common.readers.conftest import HERE, PLACED, write

RGB = np.random.default_rng(0).integers(1, 255, (3, 60, 80), dtype=np.uint8)
VRT = (
    '<VRTDataset rasterXSize="80" rasterYSize="60"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    '<SourceFilename relativeToVRT="1">{}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>'
)
LARGE = np.random.default_rng(1).integers(1, 255, (1, 700, 900), dtype=np.uint8)


def pixels(*names):
    with ExitStack() as stack:
        file = open_source([str(name) for name in names], stack)
        return file.read(range(1, file.header.bands + 1))


class Server(ThreadingHTTPServer):
    """Serves a folder in ranges; `faults` are used up one by one: a status, "dropped" or "cut"."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.faults, self.requests = folder, [], []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append((self.path, self.headers["Range"]))
        fault = self.server.faults.pop(0) if self.server.faults else None
        path = self.server.folder / self.path[1:]
        if fault == "dropped":
            return
        if isinstance(fault, int) or not path.is_file():
            self.send_error(fault or 404)
            return
        content = path.read_bytes()
        start, end = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
        part = content[start : end + 1]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{start + len(part) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[: len(part) // 2] if fault == "cut" else part)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(servers, "PAUSES_S", (0.01, 0.02))
    with Server(tmp_path) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@contextmanager
def fails(words, kind=DataError):
    with pytest.raises(kind) as caught:
        yield
    assert words in str(caught.value), caught.value
    assert len(str(caught.value).splitlines()) == 1


def test_a_file_is_read_as_it_is(tmp_path):
    assert np.array_equal(pixels(write(tmp_path / "a.tif", RGB, **PLACED)), RGB)


def test_a_file_of_a_driver_that_data_sets_do_not_use_is_read(tmp_path):
    path = write(tmp_path / "a.kea.gen", RGB, **PLACED)  # a TIFF whose name has a suffix that says nothing
    assert np.array_equal(pixels(path), RGB)


def test_a_vrt_may_name_files_anywhere(tmp_path):
    source = write(tmp_path / "elsewhere" / "a.tif", RGB, **PLACED)
    (tmp_path / "vrt").mkdir()
    vrt = tmp_path / "vrt" / "a.vrt"
    vrt.write_text(VRT.format(source).replace('relativeToVRT="1"', ""))
    assert np.array_equal(pixels(vrt), RGB[:1])


def test_a_world_file_gives_a_file_of_any_suffix_its_position(tmp_path):
    path = write(tmp_path / "a.img.bin", RGB)
    path.with_suffix(".bnw").write_text("0.5\n0\n0\n-0.5\n366000.25\n5806999.75\n")
    with ExitStack() as stack:
        assert position_of(open_source([str(path)], stack), None).transform == HERE


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("none.tif", "none.tif: no such file; correct the name"),
        ("none*.tif", "none*.tif: no file matches; correct the name, and put it in quotes"),
        ("text.tif", "text.tif: not a readable TIFF"),
    ],
)
def test_a_name_that_leads_to_no_raster_is_one_sentence(tmp_path, name, words):
    (tmp_path / "text.tif").write_text("no raster")
    with fails(words):
        pixels(tmp_path / name)


def test_a_glob_gives_its_files_sorted_and_an_existing_file_with_brackets_is_no_glob(tmp_path):
    for name in ("b.tif", "a.tif", "c[1].tif"):
        write(tmp_path / name, RGB, **PLACED)
    assert expanded(f"{tmp_path}/?.tif") == [f"{tmp_path}/a.tif", f"{tmp_path}/b.tif"]
    assert expanded(f"{tmp_path}/c[1].tif") == [f"{tmp_path}/c[1].tif"]


def test_names_of_gdal_and_urls_stand_for_the_same_remote_file():
    assert expanded("/vsis3/bucket/a.tif") == ["s3://bucket/a.tif"]
    assert expanded("/vsicurl/https://example.org/a.tif?x=[1]") == ["https://example.org/a.tif?x=[1]"]


def test_a_remote_file_and_its_sidecars_are_read_as_on_disk(tmp_path, server):
    hidden = np.zeros((60, 80), bool)
    hidden[:9, 5:] = True
    write(tmp_path / "a.tif", RGB, hidden_HW=hidden, own_mask=True)
    (tmp_path / "a.tfw").write_text("0.5\n0\n0\n-0.5\n366000.25\n5806999.75\n")
    for name in (str(tmp_path / "a.tif"), f"{server.url}/a.tif"):
        with ExitStack() as stack:
            file = open_source([name], stack)
            assert position_of(file, None).transform == HERE
            assert np.array_equal(file.read((1, 2, 3)), RGB)
            assert np.array_equal(file.hidden((1, 2, 3)), hidden)


def test_failing_requests_are_repeated_and_the_pixels_are_right(tmp_path, server):
    write(tmp_path / "a.tif", LARGE, **PLACED, tiled=True, blockxsize=128, blockysize=128)
    with ExitStack() as stack:
        file = open_source([f"{server.url}/a.tif"], stack)
        server.faults[:] = [503, "dropped", "cut", 429, 500, "cut"]
        assert np.array_equal(file.read((1,)), LARGE)
    assert server.faults == []


def test_a_file_read_in_order_needs_few_requests(tmp_path, server):
    write(tmp_path / "a.tif", LARGE, **PLACED)
    with ExitStack() as stack:
        file = open_source([f"{server.url}/a.tif"], stack)
        server.requests.clear()
        for row in range(0, 700, 20):
            assert np.array_equal(file.read((1,), slice(row, row + 20))[0], LARGE[0, row : row + 20])
    assert len(server.requests) <= 6


def test_a_server_that_stays_down_is_a_temporary_error_after_a_while(tmp_path, server, monkeypatch):
    monkeypatch.setattr(servers, "PATIENCE_S", 0.1)
    write(tmp_path / "a.tif", LARGE, **PLACED)
    with ExitStack() as stack:
        file = open_source([f"{server.url}/a.tif"], stack)
        server.faults[:] = [503] * 1000
        with fails("a.tif: the server does not answer (503 Service Unavailable); run the same command", TemporaryError):
            file.read((1,))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "the server refuses access (403 Forbidden); check the address"),
        (404, "the server has no such file; correct the name"),
    ],
)
def test_a_refusal_is_final(tmp_path, server, status, words):
    write(tmp_path / "a.tif", RGB, **PLACED)
    server.faults[:] = [status] * 3
    with fails(words):
        pixels(f"{server.url}/a.tif")
    assert len(server.requests) == 1


def test_a_remote_file_that_is_no_raster_is_one_sentence(tmp_path, server):
    (tmp_path / "a.tif").write_text("<html>Please log in</html>")
    with fails("a.tif: not a readable TIFF"):
        pixels(f"{server.url}/a.tif")


@pytest.mark.parametrize("names", [("a.tif",), ("a.tif", "b.tif"), ("a.vrt",)], ids=["file", "mosaic", "vrt"])
def test_remote_files_are_read_in_another_thread_than_they_were_opened_in(tmp_path, server, names):
    for name in ("a.tif", "b.tif"):
        write(tmp_path / name, RGB, **PLACED)
    (tmp_path / "a.vrt").write_text(VRT.format("a.tif"))
    with ThreadPoolExecutor(1) as reader, ExitStack() as stack:
        file = open_source([f"{server.url}/{name}" for name in names], stack)
        assert np.array_equal(reader.submit(file.read, (1,)).result(), RGB[:1])


def test_a_mosaic_of_remote_files_is_read(tmp_path, server):
    for n in (0, 1):
        write(tmp_path / f"{n}.tif", RGB, crs="EPSG:32633", transform=HERE @ Affine.translation(80 * n, 0))
    assert np.array_equal(pixels(f"{server.url}/0.tif", f"{server.url}/1.tif"), np.concatenate([RGB, RGB], axis=2))


def test_a_remote_vrt_reads_its_sources_from_the_same_server(tmp_path, server):
    write(tmp_path / "a.tif", RGB, **PLACED)
    (tmp_path / "a.vrt").write_text(VRT.format("a.tif"))
    assert np.array_equal(pixels(f"{server.url}/a.vrt"), RGB[:1])


def test_s3_settings_of_boto3_reach_gdal_for_the_remote_sources_of_a_vrt(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000/")
    with ExitStack() as stack:
        open_source([str(write(tmp_path / "a.tif", RGB, **PLACED))], stack)
        options = rasterio.env.getenv()
    assert {key: options[key] for key in ("AWS_S3_ENDPOINT", "AWS_HTTPS", "AWS_VIRTUAL_HOSTING")} == {
        "AWS_S3_ENDPOINT": "127.0.0.1:9000",
        "AWS_HTTPS": "NO",
        "AWS_VIRTUAL_HOSTING": "FALSE",
    }


def test_without_a_file_nothing_is_opened(tmp_path):
    with fails("no such file", Rejected):
        pixels(tmp_path / "a.tif", tmp_path / "b.tif")
