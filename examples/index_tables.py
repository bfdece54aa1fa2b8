"""What the study of index and energy prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from examples.band_claims import Floats, bootstrap, correlation
from examples.index_claims import FEWEST, PowerLaw, rank_correlation
from examples.index_minimisers import Minimisers
from examples.index_points import FAKE, PASSES, IndexPoint

WANTED = 500
"""Distinct saddles, before an exponent says much."""


def outcomes_line(name: str, outcomes: Counter[str], found: Sequence[IndexPoint]) -> str:
    """How some searches ended."""
    ends = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    return f"{name}: {sum(outcomes.values())} starts, {ends}; {len(found)} distinct critical points"


def gradients_line(points: Sequence[IndexPoint]) -> str:
    """How many pass for critical, and how many are."""
    passing = [each for each in points if each.passes]
    return (
        f"descents of |g|, no weight decay: {len(points)} starts, {len(passing)} of |g|^2 < "
        f"{PASSES:g}, of these {sum(each.is_critical for each in passing)} critical, "
        f"{sum(each.is_fake for each in passing)} fakes with r(1 %) > {FAKE:g}"
    )


def correlation_table(groups: Mapping[str, Floats]) -> str:
    """A line for each kind of point: Pearson's and Spearman's, with intervals."""
    lines = [f"{'index and energy':<42} {'points':>6}  {'correlation':<22} of ranks"]
    for name, pairs in groups.items():
        if len(pairs) >= FEWEST:
            both = (bootstrap(pairs, correlation), bootstrap(pairs, rank_correlation))
            cells = "  ".join(f"{f'{each:.2f}':<22}" for each in both)
            lines.append(f"{name:<42} {len(pairs):>6}  {cells}".rstrip())
    return "\n".join(lines)


def law_table(
    laws: Mapping[str, PowerLaw], fixed: Mapping[str, PowerLaw], curves: Mapping[str, PowerLaw]
) -> str:
    """A line for each fit, with its exponent free and with that of the theory.

    Args:
        laws: Fits to points, by what these are.
        fixed: The same with the exponent given.
        curves: Fits to a curve, which has no errors.
    """
    lines = [
        f"{'power law over':<46} {'points':>6}  {'exponent':<20} {'critical energy':<24} "
        f"{'residual':>8}  {'critical energy with 3/2':<24} {'residual':>8}  3/2"
    ]
    for name, law in laws.items():
        given = fixed[name]
        exponent = law.exponent
        verdict = (
            "possible" if exponent.low <= given.exponent.value <= exponent.high else "excluded"
        )
        lines.append(
            f"{name:<46} {law.num_points:>6}  {f'{exponent:.2f}':<20} "
            f"{f'{law.critical_energy:.3f}':<24} {law.residual:>8.4f}  "
            f"{f'{given.critical_energy:.3f}':<24} {given.residual:>8.4f}  {verdict}"
        )
    for name, law in curves.items():
        lines.append(
            f"{name:<46} {'':>6}  {f'{law.exponent.value:.2f}':<20} "
            f"{f'{law.critical_energy.value:.3f}':<24} {law.residual:>8.4f}"
        )
    return "\n".join(lines)


def minimum_table(minima: Sequence[Minimisers]) -> str:
    """A line for each ratio and decay."""
    lines = [
        f"{'phi':>6} {'decay':>6} {'(1 - phi)^2 / 2':>16} {'measured':>20} {'off by':>8}  "
        "|g| at most"
    ]
    for each in minima:
        ends = ", ".join(f"{count} {name}" for name, count in Counter(each.outcomes).most_common())
        lines.append(
            f"{each.ratio:>6.3f} {each.decay:>6g} {each.law:>16.4f} "
            f"{f'{each.mean:.4f} +- {each.standard_error:.4f}':>20} "
            f"{each.mean / each.law - 1:>+8.0%}  {max(each.gradient_norms):.0e} ({ends})"
        )
    return "\n".join(lines)


def how_many(count: int) -> str:
    """Whether there are enough of them."""
    verdict = "enough for a statement" if count >= WANTED else "too few for a statement"
    return f"{count} distinct saddles: {verdict}, for which {WANTED} are wanted"
