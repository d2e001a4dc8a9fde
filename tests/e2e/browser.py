"""Debian's Chromium without a screen, driven by Playwright."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
NEEDED = pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is not installed: apt-get install chromium")
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
SLOW_MS = 120_000

SCREENSHOTS = os.environ.get("MOBANET_SCREENSHOTS")
"""Folder for pictures of the pages, for the documentation; None: none are kept."""


@contextmanager
def browser_page(width: int = 1280, height: int = 800) -> Iterator[tuple[Page, list[str]]]:
    """An empty page, and the list to which its console errors are added."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(ARGUMENTS))
        page = browser.new_page(viewport={"width": width, "height": height}, accept_downloads=True)
        page.set_default_timeout(SLOW_MS)
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        yield page, errors
        browser.close()


def drop(page: Page, selector: str, file: Path) -> None:
    """Drop a file on an element, as with a mouse."""
    content = base64.b64encode(file.read_bytes()).decode()
    transfer = page.evaluate_handle(
        """([content, name]) => {
            const transfer = new DataTransfer();
            const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
            transfer.items.add(new File([bytes], name, { type: 'image/tiff' }));
            return transfer;
        }""",
        [content, file.name],
    )
    page.dispatch_event(selector, "drop", {"dataTransfer": transfer})


def keep(page: Page, name: str) -> None:
    """Save a picture of the page, if a folder is given for them."""
    if SCREENSHOTS:
        page.screenshot(path=Path(SCREENSHOTS) / name)
