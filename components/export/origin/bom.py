"""Software as CycloneDX 1.6: the packages of an environment, their licences, checksums and what they need.

In: packages. Out: JSON without time and without random numbers; the serial number follows from the content.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from functools import cache
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from components.export.origin.software import Package, installed_packages

SERIAL = uuid.UUID("6d6f6261-6e65-5470-8970-656c696e6500")
"""Name space of the serial numbers of this project."""

Json = dict[str, Any]


def environment_bom(name: str, version: str, packages: Iterable[Package]) -> Json:
    """The bill of materials of an application, for example of a release with the packages of `requirements.lock`.

    Args:
        name: of the application; what it needs is taken from its installed version, else it needs all packages.
        version: of the application.
        packages: its environment; an entry with its name is left out.
    """
    others = tuple(package for package in packages if package.name != name)
    own = next((package for package in installed_packages() if package.name == name), None)
    needed = [package for package in others if own is None or package.name in own.requires]
    content = software(others)
    component = {
        "type": "application",
        "bom-ref": f"{name}=={version}",
        "name": name,
        "version": version,
        "purl": PackageURL("pypi", None, name, version).to_string(),
        **licences(own.licence if own else None),
    }
    edge = {"ref": component["bom-ref"], "dependsOn": sorted(map(reference, needed))}
    return document(component, content | {"dependencies": [edge, *content["dependencies"]]})


def document(component: Json, content: Json) -> Json:
    """A complete document.

    Args:
        component: what it is about.
        content: what `software` returns, with further components and dependencies.
    """
    body = {"metadata": {"component": component}, **{key: content[key] for key in ("components", "dependencies")}}
    serial = uuid.uuid5(SERIAL, json.dumps(body, sort_keys=True, allow_nan=False))
    head = {key: content[key] for key in ("$schema", "bomFormat", "specVersion")}
    return head | {"serialNumber": f"urn:uuid:{serial}", "version": 1} | body


def software(packages: tuple[Package, ...]) -> Json:
    """The packages as components, and which of them each needs."""
    content: Json = json.loads(_written(packages))
    return {"components": [], "dependencies": []} | content


def reference(package: Package) -> str:
    """What other components call a package."""
    return f"{package.name}=={package.version}"


def licences(words: str | None, text: str = "") -> Json:
    """The key `licenses` of a component; nothing if no licence is known.

    Args:
        words: an SPDX expression, or the name of a licence.
        text: its text; then `words` is a name.
    """
    if not words:
        return {}
    if text:
        return {"licenses": [{"license": {"name": words, "text": {"content": text}}}]}
    found = Component(name="", licenses=[LicenseFactory().make_from_string(words)])
    content = json.loads(JsonV1Dot6(Bom(components=[found])).output_as_string())
    return {"licenses": content["components"][0]["licenses"]}


def properties(**values: object) -> list[Json]:
    """Facts for which CycloneDX has no key."""
    return [{"name": f"mobanet:{name}", "value": str(value)} for name, value in values.items()]


@cache
def _written(packages: tuple[Package, ...]) -> str:
    """JSON of the packages as the library of CycloneDX writes it; sorting thousands of checksums takes a second."""
    known: dict[str, list[Package]] = {}
    for package in packages:
        known.setdefault(package.name, []).append(package)
    bom = Bom(components=[_library(package) for package in packages])
    library = {component.bom_ref.value: component.bom_ref for component in bom.components}
    for package in packages:
        needed = [reference(found) for name in package.requires for found in known.get(name, ())]
        bom.dependencies.add(Dependency(library[reference(package)], [Dependency(library[ref]) for ref in needed]))
    return JsonV1Dot6(bom).output_as_string()


def _library(package: Package) -> Component:
    """A package; checksums belong to the reference to its files, because a lock allows a file for each platform."""
    hashes = [HashType(alg=HashAlgorithm.SHA_256, content=sha256) for sha256 in package.sha256]
    url = XsUri(f"https://pypi.org/project/{package.name}/{package.version}/#files")
    places = [ExternalReference(type=ExternalReferenceType.DISTRIBUTION, url=url, hashes=hashes)] if hashes else []
    return Component(
        type=ComponentType.LIBRARY,
        bom_ref=reference(package),
        name=package.name,
        version=package.version,
        purl=PackageURL("pypi", None, package.name, package.version),
        licenses=[LicenseFactory().make_from_string(package.licence)] if package.licence else [],
        external_references=places,
    )
