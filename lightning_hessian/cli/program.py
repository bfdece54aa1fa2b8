"""Command line: ``analyze`` and ``search`` beside Lightning's own subcommands."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import lightning.pytorch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from typing_extensions import override

from lightning_hessian.analysis import analyze, find_checkpoints, read_checkpoint, search
from lightning_hessian.callbacks import (
    HAS_EVERY_PARSER,
    CriticalPoint,
    HessianSpectrum,
    LossDifference,
    refuse,
    refuse_wrong_options,
)
from lightning_hessian.cli.fixed_classes import classes_first, what_is_missing, with_class
from lightning_hessian.cli.guides import analyze_guide, search_guide
from lightning_hessian.cli.help import BriefHelp
from lightning_hessian.configurations import named_code, register_mode
from lightning_hessian.errors import NonFiniteError, RefusedError, UnreadableCheckpointError
from lightning_hessian.options import Loss, WeightDecay
from lightning_hessian.records import Mode, Weights
from lightning_hessian.studies import FoundPoint

MEASURED: dict[str, type[HessianSpectrum] | type[LossDifference] | type[CriticalPoint]] = {
    "spectrum": HessianSpectrum,
    "loss_difference": LossDifference,
    "critical_point": CriticalPoint,
}
SOME_HAVE_NO_NUMBERS = NOT_FOUND = 3
"""Code that the program ends with; 2 is taken by errors of the command line."""
GUIDES = {"analyze": analyze_guide, "search": search_guide}
OURS = ("analyze", "search")
NOT_OF_THE_ANALYSIS = {"every_n_epochs", "every_n_train_steps", "at_checkpoints", "verbose"}

if TYPE_CHECKING:
    from lightning.pytorch import Trainer as HostTrainer
    from lightning.pytorch.cli import LightningCLI as HostCLI
else:
    # the same code stands on the classes of `lightning.pytorch` and of `pytorch_lightning`
    HostTrainer = HostCLI = object


class CheckpointMethods(HostTrainer):
    """Gives a Trainer the methods behind the subcommands ``analyze`` and ``search``."""

    def analyze(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | list[str] | None = None,
        weights: Weights = "current",
        sidecar: bool = True,
        weights_only: bool | None = None,
        measure: Literal["spectrum", "loss_difference", "critical_point"] = "spectrum",
        spectrum: HessianSpectrum | None = None,
        loss_difference: LossDifference | None = None,
        critical_point: CriticalPoint | None = None,
    ) -> list[Any]:
        """Measure the training loss at the weights of existing checkpoints.

        Args:
            model: Of the class that was trained.
            datamodule: Whose training set the loss is measured on.
            ckpt_path: A checkpoint, a folder of them, or a quoted pattern such as
                "runs/*/last.ckpt". To be given after --config.
            weights: "current", those that the optimiser moves, or "averaged", of a weight
                averaging.
            sidecar: Write each report beside its checkpoint, as <checkpoint>.<name>.json.
            weights_only: False to read also files that hold more than tensors and primitives, which
                runs code: only for files that you trust.
            measure: "spectrum" of the Hessian, "loss_difference" when samples are added, or
                "critical_point" for what kind of point the weights are.
            spectrum: What to measure of the spectrum, on which samples.
            loss_difference: What to measure of the loss difference, on which samples.
            critical_point: What to measure of the kind of point, on which samples.

        Returns:
            A report for each checkpoint.

        Raises:
            ValueError: If no checkpoint is given.
        """
        if ckpt_path is None:
            raise ValueError(
                "`ckpt_path` must name checkpoints, got None. Give `--ckpt_path`, and give it "
                "after `--config`, as a saved configuration holds an empty one."
            )
        given = {
            "spectrum": spectrum,
            "loss_difference": loss_difference,
            "critical_point": critical_point,
        }
        callback = given[measure] or MEASURED[measure]()
        return analyze(
            model,
            ckpt_path,
            datamodule=datamodule,
            weights=weights,
            callback=callback,
            trainer=self,
            sidecar=sidecar,
            weights_only=weights_only is not False,
        )

    def search(
        self,
        model: LightningModule,
        datamodule: LightningDataModule | None = None,
        ckpt_path: str | None = None,
        target: Literal["minimum", "nearest"] | int = "minimum",
        weight_decay: WeightDecay = "none",
        tolerance: float = 1e-8,
        max_hvps: int = 10_000,
        num_samples: int | Literal["all"] | None = None,
        mode: Mode = "eval",
        loss: Loss = Loss(),  # noqa: B008
        seed: int = 0,
        weights: Weights = "current",
        save: bool | str = True,
        weights_only: bool | None = None,
    ) -> FoundPoint:
        """Search for a critical point of the training loss from the weights of a checkpoint.

        Args:
            model: Of the class that was trained.
            datamodule: Whose training set the loss is measured on.
            ckpt_path: A checkpoint, or what a search wrote, to go on with it. To be given after
                --config.
            target: "minimum"; "nearest" for any critical point very near; or the index of a saddle,
                up to 2,000 parameters.
            weight_decay: What of it is part of the loss: "none"; "optimizer" for what the optimiser
                adds to its gradients; or a number, w.w times half of which is added.
            tolerance: Norm of the gradient at which the search has converged.
            max_hvps: Hessian-vector products that may be spent.
            num_samples: Training samples that the loss averages; null for 2,048, "all" for all.
            mode: "eval" (dropout off, running statistics) or "train" (fixed masks).
            loss: Which loss, by which parameters; its precision is 64.
            seed: Of the samples and of random numbers inside the step.
            weights: "current", those that the optimiser moves, or "averaged", of a weight
                averaging.
            save: Where the point is kept: true for <target>-of-<checkpoint>, in its folder; a path
                that ends in .ckpt; or false.
            weights_only: False to read also files that hold more than tensors and primitives, which
                runs code: only for files that you trust.

        Returns:
            The point found.

        Raises:
            ValueError: If no checkpoint is given.
        """
        if ckpt_path is None:
            raise ValueError(
                "`ckpt_path` must name a checkpoint, got None. Give `--ckpt_path`, and give it "
                "after `--config`, as a saved configuration holds an empty one."
            )
        return search(
            model,
            ckpt_path,
            target=target,
            datamodule=datamodule,
            weights=weights,
            weight_decay=weight_decay,
            tolerance=tolerance,
            max_hvps=max_hvps,
            num_samples=num_samples,
            mode=mode,
            loss=loss,
            seed=seed,
            trainer=self,
            save=save,
            weights_only=weights_only is not False,
        )


class CheckpointSubcommands(HostCLI):
    """Gives a LightningCLI ``analyze`` and ``search``, run by a :class:`CheckpointMethods`."""

    analysis_trainer: type[Trainer]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("trainer_class", self.analysis_trainer)
        trainer_class = kwargs["trainer_class"]
        if not all(hasattr(trainer_class, name) for name in OURS):
            raise ValueError(
                "`trainer_class` must have the methods `analyze` and `search`, got "
                f"{getattr(trainer_class, '__name__', trainer_class)}. Derive it from "
                "`lightning_hessian.cli.AnalysisTrainer`."
            )
        super().__init__(*args, **kwargs)

    @override
    def init_parser(self, **kwargs: Any) -> Any:
        return super().init_parser(**{"parser_mode": register_mode()} | kwargs)

    @staticmethod
    @override
    def subcommands() -> dict[str, set[str]]:
        ours = {"analyze": {"model", "datamodule", *MEASURED}, "search": {"model", "datamodule"}}
        return LightningCLI.subcommands() | ours

    @override
    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> Any:
        if subcommand not in OURS:
            return super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        guide = GUIDES[subcommand](self.parser.prog, has_classes=not self.subclass_mode_model)
        kwargs = {"usage": guide.usage} | kwargs | {"add_help": False}
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.add_argument("-h", "--help", action=BriefHelp, guide=guide)
        return parser

    @override
    def setup_parser(self, add_subcommands: bool, *args: Any, **kwargs: Any) -> None:
        super().setup_parser(add_subcommands, *args, **kwargs)
        if add_subcommands:
            for key, kind in MEASURED.items():
                self._subcommand_parsers["analyze"].add_class_arguments(
                    kind, key, skip=NOT_OF_THE_ANALYSIS
                )

    @override
    def parse_arguments(self, parser: Any, args: Any) -> None:
        self._parse(parser, args)
        configured = self._configured()
        if configured:
            # a second time, so that what the command line says stands above the training's options
            self._subcommand_parsers["analyze"].set_defaults(configured)
            self._parse(parser, args)

    @override
    def before_instantiate_classes(self) -> None:
        """Leave out what is of the training run and would act, or write, beside ours."""
        super().before_instantiate_classes()
        if not HAS_EVERY_PARSER:
            refuse_wrong_options(self.parser)
        if self.subcommand not in OURS:
            return
        trainer = self.config[self.subcommand]["trainer"]
        trainer["callbacks"] = None
        if self.subcommand == "search":
            trainer["logger"] = False  # there is nothing to log
            return
        loggers = trainer.get("logger")
        is_list = isinstance(loggers, list)
        kept = [each for each in (loggers if is_list else [loggers]) if not _overwrites(each)]
        if len(kept) < (len(loggers) if is_list else 1):
            rank_zero_info("The CSVLogger of the configuration is left out: it would start anew.")
            trainer["logger"] = kept or True

    def _parse(self, parser: Any, args: Any) -> None:
        """Parse, so that a configuration of a program with fixed classes is understood."""
        arguments = sys.argv[1:] if args is None else args
        command = next((name for name in OURS if name in arguments), None)
        fixed = {"model": self.model_class, "data": self.datamodule_class}
        open_keys = [key for key, kind in fixed.items() if kind is None]
        if command is None or not open_keys or not isinstance(arguments, list):
            super().parse_arguments(parser, args)
            return
        missing = what_is_missing(arguments, open_keys)
        if missing is not None:
            refuse(missing)
        self.config = parser.parse_args(classes_first(arguments, command, open_keys))

    def analyze(self, **arguments: Any) -> None:
        """Run the subcommand; end the program with the reason if some have no numbers.

        Args:
            arguments: Of the Trainer's method.

        Raises:
            SystemExit: With the reason, and so with code 1, if nothing could be analysed; with
                code 3 if some of several checkpoints have no numbers.
        """
        self._refuse_without_data()
        callbacks = {key: self.config_init["analyze"][key] for key in MEASURED}
        try:
            reports = self.trainer.analyze(**callbacks, **arguments)  # type: ignore[attr-defined]
        except ValueError as error:
            _refuse_ours(error)
        except UnreadableCheckpointError as error:
            raise SystemExit(f"error: {error}") from error
        reasons = {report.failure for report in reports}
        if None not in reasons:
            raise SystemExit(f"error: no checkpoint could be analysed: {'; '.join(reasons)}")
        # an ending other than that of the first process would look like a crash to the launcher
        if len(reasons) > 1 and self.trainer.is_global_zero:
            raise SystemExit(SOME_HAVE_NO_NUMBERS)

    def search(self, **arguments: Any) -> None:
        """Run the subcommand; end the program with the reason if nothing could be searched.

        Args:
            arguments: Of the Trainer's method.

        Raises:
            SystemExit: With the reason, and so with code 1, if there was no search; with code 3 if
                it has not found what was looked for.
        """
        self._refuse_without_data()
        try:
            found = self.trainer.search(**arguments)  # type: ignore[attr-defined]
        except ValueError as error:
            _refuse_ours(error)
        except (UnreadableCheckpointError, RefusedError, NonFiniteError) as error:
            raise SystemExit(f"error: {error}") from error
        if not found.report.is_target:
            raise SystemExit(NOT_FOUND)

    def _refuse_without_data(self) -> None:
        """Before a fit is begun that would have nothing to measure on."""
        for source in filter(None, (self.datamodule, self.model)):
            if not type(source).train_dataloader.__module__.endswith(".core.hooks"):
                return
        name = type(self.datamodule or self.model).__name__
        refuse(
            "`data` must name the LightningDataModule with the training set, as "
            f"{name} has no `train_dataloader` of its own, got {self.datamodule and name}. "
            "Give `--data your_package.Data`."
        )

    @override
    def _parse_ckpt_path(self) -> None:
        """Lightning takes a model's hyperparameters from the file, if it is one file."""
        subcommand = self.config.get("subcommand")
        if subcommand not in OURS:
            super()._parse_ckpt_path()
            return
        path = self.config[subcommand].get("ckpt_path")
        if path and not self.config[subcommand].get("config"):
            # there is nothing else to tell them, and the files of a run agree
            path = find_checkpoints(path)[0]
        try:
            content = read_checkpoint(str(path), weights_only=True, only_survey=True)
        except UnreadableCheckpointError:
            return
        model = self.config[subcommand].get("model")
        given = set(named_code(model))
        named = with_class(content, model) if self.subclass_mode_model else None
        if named is None:
            super()._parse_ckpt_path()
        else:
            try:
                self.config = self.parser.parse_object({subcommand: {"model": named}}, self.config)
            except SystemExit:
                sys.stderr.write(
                    f"The hyperparameters in {path} do not fit {named['class_path']}: give the "
                    "class that was trained as `--model`, or its arguments by `--config`.\n"
                )
                raise
        added = set(named_code(self.config[subcommand].get("model"))) - given
        if added:
            raise SystemExit(
                f"error: the hyperparameters in {path} name code that the configuration does not "
                f"({', '.join(sorted(added))}), and a checkpoint is not to say what is run. If it "
                "is right, name it by `--config` or `--model`."
            )

    def _configured(self) -> dict[str, Any]:
        """What a training's configuration says of our callbacks, by the keys of ``analyze``."""
        if self.config.get("subcommand") != "analyze":
            return {}
        callbacks = self.config["analyze"]["trainer"].get("callbacks") or []
        keys = {kind.__name__: key for key, kind in MEASURED.items()}
        found: dict[str, dict[str, Any]] = {}
        for callback in callbacks if isinstance(callbacks, list) else [callbacks]:
            key = keys.get(callback["class_path"].rpartition(".")[2])
            if key is not None:
                found.setdefault(key, callback["init_args"].as_dict())
        if not found:
            return {}
        defaults: dict[str, Any] = {"measure": next(iter(found))}
        for key, options in found.items():
            for name, value in options.items():
                if name == "loss":
                    # a group, whose options have a default each
                    defaults |= {f"{key}.loss.{part}": each for part, each in value.items()}
                elif name not in NOT_OF_THE_ANALYSIS:
                    defaults[f"{key}.{name}"] = value
        return defaults


class AnalysisTrainer(CheckpointMethods, Trainer):
    """A Trainer with the methods ``analyze`` and ``search``."""


class HessianCLI(CheckpointSubcommands, LightningCLI):
    """A ``LightningCLI`` with ``analyze`` and ``search`` beside ``fit`` and the others.

    Takes the arguments of ``LightningCLI``; a ``trainer_class`` must derive from
    :class:`AnalysisTrainer`. Of a configuration that a training saved, callbacks are left out, but
    the options of ours among them are the defaults of the analysis, and the first of them is what
    measures.
    """

    analysis_trainer = AnalysisTrainer


def cli_of(package: str) -> type[LightningCLI]:
    """The command line for modules of one of the two names of Lightning.

    Args:
        package: ``lightning.pytorch`` or ``pytorch_lightning``.

    Returns:
        :class:`HessianCLI`, or its like for the other package.
    """
    if package == lightning.pytorch.__name__:
        return HessianCLI
    host = importlib.import_module(package)
    host_cli = importlib.import_module(f"{package}.cli")
    trainer = type("AnalysisTrainer", (CheckpointMethods, host.Trainer), {})
    bases = (CheckpointSubcommands, host_cli.LightningCLI)
    return type("HessianCLI", bases, {"analysis_trainer": trainer})


def _refuse_ours(error: ValueError) -> NoReturn:
    """End the program with what one of ours says, which begins with the option's name."""
    if not str(error).startswith("`"):
        raise error
    refuse(error)


def _overwrites(logger: Any) -> bool:
    """Whether a logger of a configuration would delete the files of the run that saved it."""
    path = logger.get("class_path", "") if hasattr(logger, "get") else ""
    return path.rpartition(".")[2] == "CSVLogger"
