"""A person with a browser before TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

CHROMIUM = "/usr/bin/chromium"
OPTIONS = ["--no-sandbox", "--enable-unsafe-swiftshader", "--disable-dev-shm-usage"]
SECONDS = 30
SIZE = {"width": 1400, "height": 1000}
CARDS = (
    "largest-eigenvalue",
    "trace",
    "by-layer",
    "spectral-density",
    "kind-of-point",
    "loss-difference",
    "cost",
    "any-quantity",
)


@dataclass
class Visit:
    """A page of TensorBoard, and all that went wrong in it."""

    page: Any
    wrong: list[str] = field(default_factory=list)
    """Errors in the console, broken scripts, dialogs, and what a security policy forbade."""

    def __post_init__(self) -> None:
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        self.page.on("dialog", self._refuse)

    @property
    def names(self) -> list[str]:
        """Of the tabs that are listed."""
        listed = self.page.locator("[role=tab]:visible")
        listed.first.wait_for()
        return [name.strip().upper() for name in listed.all_inner_texts()]

    @property
    def frame(self) -> Any:
        """Of the Hessian tab."""
        return self.page.frame(url=lambda url: "plugin_entry" in url and "hessian" in url)

    def open_tab(self) -> None:
        """Click on it, and wait until it has read its data."""
        self.page.locator("[role=tab]", has_text="Hessian").click()
        self.wait_for(lambda: self.frame is not None, "frame")
        self.wait_for(self._is_drawn, "drawn tab")

    def begin_anew(self) -> None:
        """Load the tab again, in a TensorBoard that stays."""
        self.wrong.clear()
        self.page.mouse.move(0, 0)
        self.frame.goto(self.frame.url)
        self.wait_for(self._is_drawn, "drawn tab")

    def rows(self, card: str) -> list[dict[str, Any]]:
        """The numbers that a chart shows."""
        return self.frame.evaluate("id => globalThis.hessianPage.rows()[id]", card)

    def card(self, name: str) -> Any:
        """Where a chart stands."""
        return self.frame.locator(f"#{name}")

    def wait_for(self, condition: Callable[[], Any], what: str) -> Any:
        """Until that is true; a page draws when it finds time."""
        end = time.monotonic() + SECONDS
        while not (found := condition()):
            assert time.monotonic() < end, f"no {what}: {self.wrong}"
            self.page.wait_for_timeout(50)
        return found

    def _is_drawn(self) -> bool:
        return bool(
            self.frame.evaluate(
                "() => globalThis.hessianPage !== undefined && "
                "!document.body.innerText.includes('loading …')"
            )
        )

    def _hear(self, message: Any) -> None:
        if message.type == "error" or "Content Security Policy" in message.text:
            self.wrong.append(f"console: {message.text}")

    def _refuse(self, dialog: Any) -> None:
        self.wrong.append(f"dialog: {dialog.message}")
        dialog.dismiss()


@contextmanager
def chromium_browser() -> Iterator[Any]:
    """Debian's Chromium, without a window; playwright drives it, and brings none of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def visiting(browser: Any, url: str, **options: Any) -> Iterator[Visit]:
    """A page of its own, with no memory of others."""
    context = browser.new_context(viewport=SIZE, **options)
    visit = Visit(context.new_page())
    try:
        visit.page.goto(url)
        yield visit
    finally:
        context.close()


def steps_shown(visit: Visit, card: str) -> set[int]:
    """Those at which a chart that follows the pointer shows its numbers."""
    rows = visit.rows(card)
    return {row["step"] for row in rows if row.get("shown", 1)}


def downloaded(visit: Visit, card: str, button: str) -> tuple[str, str]:
    """Name and content of the file that a card's button gives."""
    with visit.page.expect_download() as waiting:
        visit.card(card).get_by_role("button", name=button, exact=True).click()
    download = waiting.value
    with open(download.path(), encoding="utf8", newline="") as file:
        return download.suggested_filename, file.read()
