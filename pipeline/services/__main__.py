"""`make services` and `make services-stop`: prints the variables of MLflow's clients as `export` lines to stdout."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from components.common.entrypoints.dvc import exit_code
from pipeline.services.local_servers import Services

FOLDER = Path(".services")


def start() -> None:
    """Start the servers that are not running, and print how to use them."""
    services = Services(FOLDER)
    services.start()
    print(f"MLflow: {services.accounts.url}, files and passwords in {FOLDER}; copy these lines:", file=sys.stderr)
    for name, value in services.accounts.of_clients().items():
        print(f"export {name}={value}")


def stop() -> None:
    """Stop the servers that are running."""
    stopped = Services(FOLDER).stop() if FOLDER.is_dir() else []
    message = f"stopped: {', '.join(stopped)}; data stays in {FOLDER}" if stopped else "no server was running"
    print(message, file=sys.stderr)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m pipeline.services", description=__doc__)
    parser.add_argument("action", choices=("start", "stop"))
    sys.exit(exit_code({"start": start, "stop": stop}[parser.parse_args().action]))
