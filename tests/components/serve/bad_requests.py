"""Requests that a service must refuse, by kind: name -> arguments of `client.request`."""

from __future__ import annotations

import copy
import io
import json
from pathlib import Path

import numpy as np
import rasterio

from components.serve.tensors import HEADER
from tests.components.predict.rasters import NORTH_UP, image_of, write

INFER = "/v2/models/mobanet/infer"
SIDE = 8
WRONG = (None, True, -1, 0, 1.5, 1e308, 10**400, "x", "../../etc/passwd", [], [[]], {}, [None], ["x"], {"a": 1})
"""Values of a wrong type or range."""

Requests = dict[str, dict[str, object]]


def good() -> dict[str, object]:
    """A request that is answered."""
    image, dsm = image_of(SIDE, SIDE), np.full((SIDE, SIDE), 30.0)
    return {
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": [SIDE, SIDE, 3], "data": image.ravel().tolist()},
            {"name": "dsm", "datatype": "FP32", "shape": [SIDE, SIDE], "data": dsm.ravel().tolist()},
        ],
        "outputs": [{"name": "classes", "parameters": {"binary_data": False}}],
        "parameters": {"gsd_m": 0.05, "allow": ""},
    }


def infer(content: object, **arguments: object) -> dict[str, object]:
    return {"method": "POST", "url": INFER, "content": json.dumps(content).encode(), **arguments}


def changed(path: tuple[str | int, ...], value: object) -> dict[str, object]:
    """The good request with another value at a path."""
    content = copy.deepcopy(good())
    at = content
    for step in path[:-1]:
        at = at[step]
    at[path[-1]] = value
    return content


FIELDS: dict[tuple[str | int, ...], tuple[object, ...]] = {  # path -> values of WRONG that are right there
    ("inputs",): (),
    ("inputs", 0): (),
    ("inputs", 0, "name"): (),
    ("inputs", 0, "datatype"): (),
    ("inputs", 0, "shape"): (),
    ("inputs", 1, "shape"): (),
    ("inputs", 0, "data"): (),
    ("inputs", 1, "data"): (),
    ("inputs", 0, "parameters"): (None, {}, {"a": 1}),
    ("outputs",): (None,),
    ("outputs", 0, "name"): (),
    ("outputs", 0, "parameters"): (None, {}, {"a": 1}),
    ("parameters", "gsd_m"): (None, 1e308),
    ("parameters", "allow"): ("x", "../../etc/passwd"),
    ("id",): (None, "x", "../../etc/passwd"),
}


def wrong_json() -> Requests:
    """Fields with wrong values, and wrong JSON."""
    found = {
        f"{'.'.join(map(str, path))}: {str(value)[:20]}": infer(changed(path, value))
        for path, right in FIELDS.items()
        for value in WRONG
        if not any(type(value) is type(other) and value == other for other in right)
    }
    texts = (b"", b"{", b"[]", b"1", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000, b"<xml/>", b'"x"', b"\0")
    return found | {f"text {text[:10]!r}": infer(None) | {"content": text} for text in texts}


def wrong_arrays() -> Requests:
    """Arrays that do not fit their shapes, their types or each other."""
    found = {}
    for shape in (
        [8, 8],
        [8, 8, 4],
        [8, 3, 8],
        [192],
        [1, 1, 8, 8, 3],
        [8, 7, 3],
        [8, 8, 3, 1],
        [2, 8, 8, 3],
        [0, 8, 3],
    ):
        found[f"image of shape {shape}"] = infer(changed(("inputs", 0, "shape"), shape))
    for shape in ([8], [8, 8, 1], [7, 8], [64], [1, 1, 8, 8], [4, 16], [-8, -8], [2**40, 2**40], [8.0, 8]):
        found[f"dsm of shape {shape}"] = infer(changed(("inputs", 1, "shape"), shape))
    for value in (-1, 256, 1.5, "7", None, True, 10**30, [1, 1], float("inf")):
        data = [value] * 192
        found[f"image of {value}"] = infer(changed(("inputs", 0, "data"), data))
    for value in ("30", float("inf"), -float("inf"), 10**400, 1e300, [30, 30], {}):
        found[f"dsm of {value}"[:60]] = infer(changed(("inputs", 1, "data"), [value] * 64))
    found["a text between heights"] = infer(changed(("inputs", 1, "data"), ["x" * 20_000] + [30] * 63))
    for datatype in ("FP32", "INT8", "uint8", "BYTES", "BOOL", "FP16"):
        found[f"image as {datatype}"] = infer(changed(("inputs", 0, "datatype"), datatype))
    for datatype in ("FP64", "UINT8", "INT32", "fp32", "BYTES"):
        found[f"dsm as {datatype}"] = infer(changed(("inputs", 1, "datatype"), datatype))
    nan = [float("nan")] * 64
    found["dsm of NaN alone"] = infer({"inputs": [changed(("inputs", 1, "data"), nan)["inputs"][1]]})
    found["input twice"] = infer({"inputs": [good()["inputs"][1]] * 2})
    found["three inputs"] = infer({"inputs": [*good()["inputs"], good()["inputs"][0]]})
    found["an image that is almost black"] = infer(changed(("inputs", 0, "data"), [0, 1] * 96))
    wide = {"name": "dsm", "datatype": "FP32", "shape": [1, 300_000], "data": [30] * 300_000}
    return found | {"more pixels than the limit": infer({"inputs": [wide]})}


def wrong_binary() -> Requests:
    """Binary tensors with lying lengths."""
    image = image_of(SIDE, SIDE)

    def body(size: object, **entry: object) -> bytes:
        tensor = {"name": "image", "datatype": "UINT8", "shape": [SIDE, SIDE, 3]} | entry
        return json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}).encode()

    found = {}
    for size in (0, 1, 191, 193, -192, 192.0, "192", None, True, 10**30, [192]):
        text = body(size)
        found[f"binary_data_size {size}"] = {"content": text + image.tobytes(), "headers": {HEADER: str(len(text))}}
    text = body(192)
    for length in ("", "x", "-1", "0", "1", "1e2", str(len(text) - 1), str(len(text) + 1), "9" * 40, "٣", " 5 "):
        header = {HEADER.encode(): length.encode()}
        found[f"{HEADER} {length[:9]}"] = {"content": text + image.tobytes(), "headers": header}
    for cut in (0, 1, 100, 191, 193, 400):
        content = text + (image.tobytes() * 3)[:cut]
        found[f"{cut} bytes instead of 192"] = {"content": content, "headers": {HEADER: str(len(text))}}
    both = body(192, data=[1] * 192)
    found["data and binary"] = {"content": both + image.tobytes(), "headers": {HEADER: str(len(both))}}
    huge = body(2**40 * 3, shape=[2**20, 2**20, 3])
    found["a terabyte"] = {"content": huge, "headers": {HEADER: str(len(huge))}}
    dsm = np.full((SIDE, SIDE), np.inf, "<f4").tobytes()
    infinite = json.dumps(
        {"inputs": [{"name": "dsm", "datatype": "FP32", "shape": [8, 8], "parameters": {"binary_data_size": len(dsm)}}]}
    ).encode()
    found["infinite heights"] = {"content": infinite + dsm, "headers": {HEADER: str(len(infinite))}}
    return {name: {"method": "POST", "url": INFER, **request} for name, request in found.items()}


def upload(image: bytes, name: str = "image.tif", field: str = "image", **arguments: object) -> dict[str, object]:
    return {"method": "POST", "url": "/predict", "files": {field: (name, image, "image/tiff")}, **arguments}


def tiff(folder: Path, pixels=None, **options: object) -> bytes:
    path = folder / "made.tif"
    write(path, image_of(SIDE, SIDE) if pixels is None else pixels, **options)
    content = path.read_bytes()
    path.unlink()
    return content


def sparse(folder: Path, width: int, height: int, count: int = 3, dtype: str = "uint8", **options: object) -> bytes:
    """A GeoTIFF whose blocks were never written."""
    path = folder / "sparse.tif"
    shape = {"width": width, "height": height, "count": count, "dtype": dtype, "transform": NORTH_UP}
    with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, **shape, **options):
        pass
    return path.read_bytes()


def wrong_files(folder: Path) -> Requests:
    """Files that are no GeoTIFF, damaged ones, bombs, and references to other files."""
    plain = tiff(folder)
    vrt = b'<VRTDataset rasterXSize="8" rasterYSize="8"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>'
    vrt += b"<SourceFilename>/etc/passwd</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
    contents = {
        "empty": b"",
        "text": b"/etc/passwd",
        "VRT": vrt,
        "PNG": b"\x89PNG\r\n\x1a\n" + bytes(50),
        "JPEG": b"\xff\xd8\xff\xe0" + bytes(50),
        "zip": b"PK\3\4" + bytes(50),
        "JSON": b'{"type":"FeatureCollection"}',
        "path of GDAL": b"/vsicurl/http://169.254.169.254/",
        "directory of a TIFF": b"GTIFF_DIR:1:/etc/passwd",
        "magic alone": b"II*\0",
        "magic and zeros": b"II*\0" + bytes(100),
        "magic and noise": b"MM\0*" + bytes(range(256)),
        "BigTIFF and noise": b"II+\0" + bytes(range(256)),
        "TIFF behind text": b" " + plain,
        "IFD beyond the end": b"II*\0\xff\xff\xff\x7f" + bytes(100),
        "IFD that is the header": b"II*\0\0\0\0\0" + bytes(100),
        "magic and a VRT": b"II*\0" + vrt,
        "400 MP": sparse(folder, 20_000, 20_000, blockysize=20_000),
        "a long row": sparse(folder, 900_000, 1),
        "a long column": sparse(folder, 1, 900_000, blockysize=900_000),
        "a large block": sparse(folder, 8, 8, tiled=True, blockxsize=4096, blockysize=4096),
        "a bomb of zeros": tiff(folder, np.zeros((3000, 3000, 3), np.uint8), compress="deflate", zlevel=9),
        "64 bands": tiff(folder, np.ones((2, 2, 64), np.uint8)),
        "complex numbers": sparse(folder, 8, 8, 3, "complex128"),
        "two bands": tiff(folder, image_of(SIDE, SIDE)[..., :2]),
        "one black band": tiff(folder, np.zeros((SIDE, SIDE), np.uint8)),
        "almost black": tiff(folder, image_of(SIDE, SIDE) % 2),
        "another ground size": tiff(folder, transform=rasterio.Affine(30, 0, 369_000, 0, -30, 5_806_500)),
        "no size of a pixel": tiff(folder, transform=rasterio.Affine(0, 0, 369_000, 0, 0, 5_806_500)),
        "the name of a file": with_overviews(folder, "/etc/passwd"),
        "the URL of a file": with_overviews(folder, "/vsicurl/http://169.254.169.254/x.tif"),
    }
    found = {name: upload(content) for name, content in contents.items()}
    found |= {f"cut after {share:.0%}": upload(plain[: int(len(plain) * share)]) for share in np.arange(0.02, 1, 0.04)}
    far = tiff(folder, np.full((SIDE, SIDE), 30, np.float32), transform=rasterio.Affine(0.05, 0, 0, 0, -0.05, 0))
    both = {"image": ("i.tif", plain), "dsm": ("d.tif", far)}
    found["a DSM of another place"] = {"method": "POST", "url": "/predict", "files": both}
    found["heights in three bands"] = upload(plain, field="dsm")
    return found


def with_overviews(folder: Path, name: str) -> bytes:
    path = folder / "overviews.tif"
    write(path, image_of(SIDE, SIDE))
    with rasterio.open(path, "r+") as file:
        file.update_tags(ns="OVERVIEWS", OVERVIEW_FILE=name)
    return path.read_bytes()


def wrong_forms(folder: Path) -> Requests:
    """Requests for a map that are no form with files, and wrong query parameters."""
    plain, url = tiff(folder), "/predict"
    files = {"image": ("image.tif", plain)}
    found: Requests = {
        "no body": {},
        "text": {"content": b"x", "headers": {"content-type": "text/plain"}},
        "a raw file": {"content": plain, "headers": {"content-type": "image/tiff"}},
        "no boundary": {"content": plain, "headers": {"content-type": "multipart/form-data"}},
        "another boundary": {"content": plain, "headers": {"content-type": "multipart/form-data; boundary=x"}},
        "a path in a field": {"data": {"image": "/etc/passwd"}, "files": {"dsm": ("d.tif", plain)}},
        "an unknown file": {"files": {"label": ("image.tif", plain)}},
        "three files": {"files": [("image", ("a.tif", plain)), ("dsm", ("b.tif", plain)), ("x", ("c.tif", plain))]},
        "a file twice": {"files": [("image", ("a.tif", plain)), ("image", ("b.tif", plain))]},
        "an encoded form": {"data": {"image": "/etc/passwd"}},
        "a form cut off": cut_form(plain),
        "too large": {"files": {"image": ("image.tif", plain + bytes(4_000_000))}},
    }
    bands = ("0,1,2", "1,2", "x", "1,2,99", "-1,2,3", "1,2,3,4", "9999999999", "１,２,３")
    systems = ("/etc/passwd", "x", "EPSG:0", "EPSG:", "http://169.254.169.254/", "IGNF:1;/etc/passwd", "")
    queries = [{"bands": ["3,2,1", "1,2,3"]}, {"crs": ["EPSG:32633", "EPSG:32632"]}]
    queries += [{"bands": value} for value in bands] + [{"crs": value} for value in systems]
    for query in (*queries, {"allow": "x"}, {"output": "/tmp/x"}, {"a": "1"}):
        found[str(query)] = {"files": files, "params": query}
    return {name: {"method": "POST", "url": url, **request} for name, request in found.items()}


def cut_form(plain: bytes) -> dict[str, object]:
    body = io.BytesIO()
    body.write(b'--x\r\nContent-Disposition: form-data; name="image"; filename="i.tif"\r\n\r\n' + plain[:50])
    return {"content": body.getvalue(), "headers": {"content-type": "multipart/form-data; boundary=x"}}


PLACES = (
    "/etc/passwd",
    "file:///etc/passwd",
    "../../etc/passwd",
    "/vsicurl/http://169.254.169.254/latest",
    "/vsizip//etc/passwd",
    "GTIFF_DIR:1:/etc/passwd",
    "http://127.0.0.1:8080/x.tif",
    "http://localhost/x.tif",
    "http://[::1]/x.tif",
    "http://169.254.169.254/latest/meta-data",
    "http://10.0.0.1/x.tif",
    "http://0x7f000001/x.tif",
    "http://2130706433/x.tif",
    "https://allowed.test/other/x.tif",
    "http://allowed.test/tiles/x.tif",
    "https://allowed.test:8443/tiles/x.tif",
    "https://user:pw@allowed.test/tiles/x.tif",
    "https://allowed.test@evil.test/tiles/x.tif",
    "https://allowed.test.evil.test/tiles/x.tif",
    "https://allowed.test/tiles/../x.tif",
    "https://allowed.test/tiles/%2e%2e/x.tif",
    "https://allowed.test/tiles/%252e%252e/x.tif",
    "https://allowed.test/tiles/..%2fx.tif",
    "https://allowed.test\\@evil.test/tiles/x.tif",
    "https://allowed.test/tiles/x.tif#y",
    "https://allowed.test/tiles/ x.tif",
    "https://allowed.test/tiles/x.tif\r\nHost: evil",
    "https://allowed.test/tiles/é.tif",
    "https://allowed.test/tiles/",
    "https://allowed.test:x/tiles/x.tif",
    "https://[allowed.test/tiles/x.tif",
    "s3://bucket/x.tif",
    "ftp://allowed.test/tiles/x.tif",
    "gopher://allowed.test/tiles/x.tif",
    "data:image/tiff;base64,AAAA",
    "javascript:1",
    "",
)
"""What a client may name instead of an allowed URL; the allowed prefix is https://allowed.test/tiles/."""


def wrong_urls() -> Requests:
    """JSON that names files and addresses."""
    named = {f"{key} {place}": {key: place} for key, place in zip(("image", "dsm") * 99, PLACES, strict=False)}
    others = {
        str(value)[:30]: value for value in ({}, [], 1, None, {"image": 1}, {"image": {}}, {"url": "x"}, {"dsm": []})
    }
    long = {"a long URL": {"image": "https://allowed.test/tiles/" + "x" * 70_000}}
    contents = named | others | long | {"both null": {"image": None, "dsm": None}}
    return {name: {"method": "POST", "url": "/predict", "json": content} for name, content in contents.items()}


def wrong_routes() -> Requests:
    """Pages and methods that do not exist."""
    pages = (
        "/../etc/passwd",
        "/static/../../etc/passwd",
        "/predict",
        "/v2/models/x",
        "/v2/models/mobanet/versions/9/infer",
    )
    found = {f"GET {page}": {"method": "GET", "url": page} for page in pages}
    for method, page in (("POST", "/health"), ("DELETE", "/v2"), ("PUT", "/predict"), ("POST", "/v2/models/x/infer")):
        found[f"{method} {page}"] = {"method": method, "url": page}
    other = "/v2/models/mobanet/versions/9/infer"
    return found | {"another version": infer(good(), url=other)}
