"""What the help of each subcommand begins and ends with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

CONFIG = "config.yaml, as a LightningCLI saves it beside the training's logs"
TRAINER = "accelerator, devices, precision and all else that a Trainer takes"
LOADED = "options of the LightningModule that was trained"
DATA = "options of the LightningDataModule with its training set"


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What is said of a subcommand beside its parser's own texts.

    Attributes:
        usage: How it is called.
        entries: Options that are shown, and what to say of them; where it is empty the parser's.
        groups: First parts of options, and what they are about.
        listed: Groups whose options are shown by name.
        other_names: By which groups are known too.
        examples: Whole commands.
        codes: What the program ends with.
    """

    usage: str
    entries: Mapping[str, str]
    groups: Mapping[str, str]
    listed: Collection[str]
    other_names: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[str]
    codes: str


def analyze_guide(program: str, *, has_classes: bool) -> Guide:
    """Of ``analyze``.

    Args:
        program: How it is called.
        has_classes: Whether it fixes those of module and data.

    Returns:
        The guide.
    """
    config = "" if has_classes else " --config CONFIG"
    command = f"{program} analyze"
    run = "" if has_classes else " --config run/config.yaml"
    return Guide(
        usage=f"{command}{config} --ckpt_path CHECKPOINTS [options]",
        entries=_classes(has_classes)
        | dict.fromkeys(("ckpt_path", "measure", "weights", "sidecar", "weights_only"), ""),
        groups={
            "spectrum": "what to measure of the spectrum:",
            "loss_difference": "what to measure of the loss difference:",
            "critical_point": "what to measure of the kind of point:",
            "trainer": f"{TRAINER}.",
            "model": f"{LOADED}.",
            "data": f"{DATA}.",
        },
        listed=("spectrum", "loss_difference", "critical_point"),
        other_names={
            "HessianSpectrum": "spectrum",
            "LossDifference": "loss_difference",
            "CriticalPoint": "critical_point",
        },
        examples=(
            f"{command}{run} --ckpt_path run",
            f'{command}{run} --ckpt_path "run/*/last.ckpt" \\',
            "    --weights averaged --spectrum.num_samples 512",
        ),
        codes=(
            "Ends with 0 if all checkpoints were measured, 3 if only some were, 1 if none was, and "
            "2 if an option is wrong."
        ),
    )


def search_guide(program: str, *, has_classes: bool) -> Guide:
    """Of ``search``.

    Args:
        program: How it is called.
        has_classes: Whether it fixes those of module and data.

    Returns:
        The guide.
    """
    config = "" if has_classes else " --config CONFIG"
    command = f"{program} search"
    run = "" if has_classes else " --config run/config.yaml"
    shown = "ckpt_path target weight_decay tolerance max_hvps num_samples mode seed weights save "
    shown += "weights_only"
    return Guide(
        usage=f"{command}{config} --ckpt_path CHECKPOINT --target TARGET [options]",
        entries=_classes(has_classes) | dict.fromkeys(shown.split(), ""),
        groups={
            "loss": "which loss, by which parameters, on which batches:",
            "trainer": f"{TRAINER}.",
            "model": f"{LOADED}.",
            "data": f"{DATA}.",
        },
        listed=("loss",),
        examples=(
            f"{command}{run} --ckpt_path last.ckpt \\",
            "    --target minimum --weight_decay optimizer",
            f"{command}{run} --ckpt_path minimum-of-last.ckpt  # goes on",
        ),
        codes=(
            "Ends with 0 if what was looked for was found, 3 if not, 1 if there was no search, and "
            "2 if an option is wrong."
        ),
    )


def _classes(has_classes: bool) -> dict[str, str]:
    """How module and data are given to a program that does not fix them."""
    if has_classes:
        return {"config": "YAML, for options that would be many here"}
    model = "class path of the module, without a configuration or where that has none"
    return {"config": CONFIG, "model": model, "data": "class path of the data, likewise"}
