"""A real Chromium, driven headless by Playwright: pages are opened from disk, and must be quiet."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

Opened = Callable[..., Page]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The Chromium of the system; a test run without one fails."""
    name = os.environ.get("CHROMIUM", "chromium")
    path = shutil.which(name)
    assert path is not None, f"there is no {name}: `make test-browser` installs it, or CHROMIUM names another"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Opened]:
    """Opens a page's text from disk and waits for its charts; afterwards there was no message in the console (but one
    with `refused` in it), no dialog, and no request but the one for the file."""
    said: list[str] = []
    contexts = []

    def open_page(
        text: str, *, width: int = 1280, ready: bool = True, refused: str | None = None, **options: Any
    ) -> Page:
        path = tmp_path / "page.html"
        path.write_text(text, encoding="utf-8")
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: said.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (said.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: said.append(f"request: {request.url}"))
        page.on("download", lambda download: said.append(f"download: {download.url}"))
        page.goto(path.as_uri())
        if ready:
            page.wait_for_selector("html[data-ready]", timeout=60_000)
        assert said.pop(0) == f"request: {path.as_uri()}"
        if refused is not None:
            assert refused in said.pop(0)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
