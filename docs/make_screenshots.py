"""Takes the pictures of ``docs/tab.md``: ``python -m docs.make_screenshots``.

Three trainings of a small network on scikit-learn's digits, by plain SGD of different learning
rates, a few minutes; then TensorBoard on their logs in Chromium, whose cards are photographed.
``--logs`` keeps the logs in a folder, and takes those that are there already.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from contextlib import ExitStack
from io import BytesIO
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import nn

from examples.board import served
from examples.browser import CARDS, SIZE, Visit, chromium_browser, visiting
from examples.demo import DigitsClassifier, digits
from lightning_hessian import CriticalPoint, HessianSpectrum, Krylov, LossDifference, Surface

PICTURES = Path(__file__).parent.parent / "examples" / "pictures"
RATES = (0.03, 0.1, 0.3)
ROOM = 600
"""Above the page, and for what a card grows by."""
COLOURS = 128
"""Of the pictures, which are flat: a third of the bytes."""


class Digits(DigitsClassifier):
    """With tanh, whose loss has curvature everywhere, trained by plain SGD."""

    def __init__(self, lr: float) -> None:
        super().__init__()
        self.lr = lr
        self.network = nn.Sequential(
            nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)
        )

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD."""
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def train(folder: Path, lr: float) -> None:
    """A fit with everything that the tab shows."""
    when: dict[str, Any] = {"max_overhead": None, "every_n_epochs": 4, "custom_scalars": False}
    sweep = Krylov(max_hvps=40)
    callbacks: list[pl.Callback] = [
        HessianSpectrum(
            edge=True,
            parameter_blocks="modules",
            eigenvalues_per_block=1,
            num_samples=128,
            solver=sweep,
            **when,
        ),
        CriticalPoint(num_samples=128, solver=sweep, **when),
        LossDifference(num_samples=512, thresholds=[1e-4], surface=Surface(), solver=sweep, **when),
    ]
    pl.seed_everything(0, verbose=False)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=24,
        callbacks=callbacks,
        logger=TensorBoardLogger(folder, name=None, version=f"lr_{lr}"),
        log_every_n_steps=5,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Digits(lr), digits())


def keep(picture: bytes, name: str) -> None:
    """Write it with few colours."""
    image = Image.open(BytesIO(picture)).convert("RGB").quantize(COLOURS)
    image.save(PICTURES / f"{name}.png", optimize=True)


def photograph(visit: Visit) -> None:
    """The page, each of its cards, and the page in the dark."""
    visit.open_tab()
    visit.page.wait_for_timeout(500)
    keep(visit.page.screenshot(), "tab")
    # all of it at once: what is scrolled to would stand under TensorBoard's bar
    height = visit.frame.evaluate("() => document.documentElement.scrollHeight")
    visit.page.set_viewport_size({"width": SIZE["width"], "height": height + ROOM})
    for card in CARDS:
        place = visit.card(card)
        if card == "loss-difference" and (show := place.locator("button.show")).count():
            show.first.click()
            visit.wait_for(lambda place=place: place.locator("canvas").count(), "surface")
            visit.page.mouse.move(0, 0)
            visit.page.wait_for_timeout(1500)
        keep(place.screenshot(), f"tab_{card}")
    visit.page.set_viewport_size(SIZE)
    visit.page.get_by_label("Menu for changing light or dark theme").click()
    visit.page.get_by_role("menuitem", name="Dark", exact=True).click()
    visit.page.wait_for_timeout(800)
    visit.frame.evaluate("() => scrollTo(0, 0)")
    keep(visit.page.screenshot(), "tab_dark")


def main() -> None:
    """Train, start TensorBoard and Chromium, take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--logs", type=Path, help="where they are, or are to be")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        logs = options.logs or scratch / "logs"
        if not logs.exists():
            for rate in RATES:
                train(logs, rate)
        board = stack.enter_context(served(logs, scratch))
        board.wait_for(lambda it: it.get("data/plugin/hessian/series"), "data")
        browser = stack.enter_context(chromium_browser())
        photograph(stack.enter_context(visiting(browser, board.url)))


if __name__ == "__main__":
    main()
