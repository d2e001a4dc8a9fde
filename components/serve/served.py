"""One model that the service has open: its network, its identity, and who uses it.

A thread of its own opens and closes the network, because the precision of torch belongs to a thread.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from components.common.inference.modelfile import load_model
from components.common.inference.stored_crops import FILE as CROPS
from components.common.inference.stored_crops import require_same_logits
from components.common.predictors.models import open_model
from components.common.predictors.predictor import ModelIdentity, Predictor
from components.common.tracking.packages import MODEL_FILE, package_digest, read_record, verify_files
from components.common.trust.config import TrustConfig
from components.common.trust.signature_check import UNCHECKED, check_package
from components.predict.config import PredictConfig


@dataclass(frozen=True, slots=True)
class Identity:
    """Which model answered."""

    name: str  # of the registered model; of a folder: LOCAL
    version: str  # of the registered model; of a folder: the start of the package's checksum
    sha256: str  # of model.safetensors
    package_sha256: str  # of all files of the package

    @property
    def headers(self) -> dict[str, str]:
        """Headers of an answer that name the model."""
        return {"X-Model-Name": self.name, "X-Model-Version": self.version, "X-Model-Sha256": self.sha256}


LOCAL = "mobanet"
"""Name of a model that is served from a package folder."""


class Served:
    """An open model. It closes after `retire`, once nobody uses it."""

    def __init__(
        self,
        package: Path,
        registered: tuple[str, str] | None,
        config: PredictConfig,
        device: torch.device,
        trust: TrustConfig = UNCHECKED,
    ) -> None:
        """Check a package, run its stored crops and open its network; the folder can be deleted afterwards.

        Args:
            package: folder that the export step wrote.
            registered: name and version in the registry; None: not registered.
            config: section `predict`.
            device: device to compute on.
            trust: section `trust`: whose packages are served.

        Raises:
            TrustError: the signature of the package is wrong, or missing although it is required.
            DataError: the package is damaged.
            WeightsError: the network cannot be used, or it computes other logits than at the export.
            ParamsError: `config` does not fit the model.
        """
        verify_files(package)
        check_package(package, trust)
        record = read_record(package)
        _check_crops(package, float(record["parity"]["tolerance"]))
        package_sha256 = package_digest(record["sha256"])
        name, version = registered or (LOCAL, package_sha256[:12])
        self.identity = Identity(name, version, record["sha256"][MODEL_FILE], package_sha256)
        self.config = config
        self._settings = package / MODEL_FILE, device
        self._uses, self._retired = 0, False
        self._changed = threading.Condition()
        self._opened: Predictor | BaseException | None = None
        self._thread = threading.Thread(target=self._keep, args=(registered,), name=f"model-{version}", daemon=True)
        self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: self._opened is not None)
        if isinstance(self._opened, BaseException):
            raise self._opened

    @property
    def predictor(self) -> Predictor:
        """The network."""
        assert self._opened is not None and not isinstance(self._opened, BaseException), "not open"
        return self._opened

    def use(self) -> bool:
        """Begin to use the model; False: it has been retired."""
        with self._changed:
            self._uses += not self._retired
            return not self._retired

    def release(self) -> None:
        """End what `use` began."""
        with self._changed:
            self._uses -= 1
            self._changed.notify_all()

    def retire(self) -> None:
        """Refuse further uses, and close the network after the last one. Does not wait."""
        with self._changed:
            self._retired = True
            self._changed.notify_all()

    def _keep(self, registered: tuple[str, str] | None) -> None:
        path, device = self._settings
        try:
            with open_model(str(path), device, self.config.window_px, self.config.precision) as predictor:
                if registered is not None:
                    uri = "models:/{}/{}".format(*registered)
                    predictor.identity = ModelIdentity(uri, registered[1], self.identity.sha256)
                self._report(predictor)
                with self._changed:
                    self._changed.wait_for(lambda: self._retired and not self._uses)
                    self._opened = None
        except Exception as error:
            self._report(error)

    def _report(self, opened: Predictor | BaseException) -> None:
        with self._changed:
            self._opened = opened
            self._changed.notify_all()


def _check_crops(package: Path, tolerance: float) -> None:
    """Check that this machine computes the stored logits from the stored crops."""
    network, facts = load_model(package / MODEL_FILE)
    require_same_logits(package / CROPS, network, facts, tolerance, str(package))
