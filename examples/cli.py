"""Train anything that a configuration describes; nothing in here knows of Hessians.

``python -m examples.cli fit --config configs/demo.yaml``, and afterwards, for what it saved,
``python -m lightning_hessian analyze --config runs/demo/version_0/config.yaml --ckpt_path
runs/demo/version_0``.
"""

from __future__ import annotations

from lightning.pytorch.cli import LightningCLI


def main() -> None:
    """Lightning's own command line, for any module and any data."""
    LightningCLI()


if __name__ == "__main__":
    main()
