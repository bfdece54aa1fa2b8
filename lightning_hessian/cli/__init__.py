"""Command line: ``analyze`` and ``search`` beside Lightning's own subcommands."""

from lightning_hessian.cli.program import AnalysisTrainer, HessianCLI, cli_of

__all__ = ["AnalysisTrainer", "HessianCLI", "cli_of"]
