"""How much curvature a running optimiser can stand: one diagonal and one threshold.

Near a minimum of a quadratic with Hessian ``H`` an optimiser whose preconditioner stands still is a
linear map. With its step sizes in a diagonal ``D`` and its weight decay in ``W`` it is stable where

    ``lambda_max(D^(1/2) (H + W) D^(1/2)) < c``.

Cohen et al. (2021), "Gradient descent on neural networks typically occurs at the edge of
stability", arXiv 2103.00065, and (2022), "Adaptive gradient methods at the edge of stability",
arXiv 2207.14484; here for what PyTorch's optimisers do, with all their settings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, NAdam, Optimizer, RMSprop

from lightning_hessian.errors import RefusedError

Group = Mapping[str, Any]
SAME = 1e-2
"""By how much the thresholds of groups may differ, relatively, to be given as one, the least."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class StabilityEdge:
    """What an optimiser's next step makes of curvature.

    Attributes:
        steps: ``(n,)`` ``D``, for each parameter; zero where none is taken.
        decay: ``(n,)`` ``W``, zero where weight decay is decoupled.
        threshold: ``c``.
        sign: -1 where the optimiser ascends, so that ``-H`` takes the place of ``H``; else 1.
        optimizer: Its kind and settings, in words.
    """

    steps: Tensor
    decay: Tensor
    threshold: float
    sign: int
    optimizer: str

    @property
    def is_uniform(self) -> bool:
        """Whether all parameters have one step size and one decay.

        ``D^(1/2) (H + W) D^(1/2)`` has then the eigenvalues ``d (lambda + w)`` of a Hessian's.
        """
        return all(bool(each.min() == each.max()) for each in (self.steps, self.decay))


@dataclass(frozen=True, slots=True)
class _Law:
    """One group's part: its threshold, its decay, and a parameter's step sizes.

    ``step`` is the one of all parameters, where they do not hang on the optimiser's state.
    """

    threshold: float
    decay: float
    steps: Callable[[Tensor, Mapping[str, Any]], Tensor]
    step: float | None = None


def stability_edge(optimizer: Optimizer, parameters: Sequence[Tensor]) -> StabilityEdge:
    """Read step sizes, weight decay and threshold off an optimiser, for its next step.

    ==================  ===============================================  =======================
    optimiser           ``D``                                            ``c``
    ==================  ===============================================  =======================
    SGD                 ``lr``                                           ``2``
    SGD, momentum       ``lr (1 - dampening)``                           ``2 (1 + b)``
    SGD, Nesterov       ``lr``                                           ``(2 + 2b) / (1 + 2b)``
    RMSprop             ``lr / (sqrt(v) + eps)``                         ``2 (1 + b)``
    Adam                ``lr (1 - b1) / (1 - b1^t) / (sqrt(v) + eps)``   ``2 (1 + b1)``
    AdamW               as Adam                                          ``(2 - lr wd) (1 + b1)``
    NAdam               ``lr (1 - b1) / (sqrt(v) + eps)``                see the code
    ==================  ===============================================  =======================

    ``v`` is the second moment as it stands, corrected for its own bias, centred or the largest so
    far where the optimiser has it so; ``t`` counts the next step. A frozen preconditioner is meant:
    before some ``2 / (1 - b2)`` steps it still moves.

    Args:
        optimizer: Of one of these classes, having made a step if it adapts.
        parameters: In the order of the Hessian's rows; real ones, or complex ones as pairs.

    Returns:
        All on the device of the parameters, in float64.

    Raises:
        RefusedError: If the class is another, an adaptive optimiser has made no step, groups have
            different thresholds, or some ascend and others descend.

    Example:
        >>> import torch
        >>> weight = torch.nn.Parameter(torch.ones(2))
        >>> edge = stability_edge(torch.optim.SGD([weight], lr=0.1, momentum=0.9), [weight])
        >>> edge.steps.tolist(), edge.threshold
        ([0.1, 0.1], 3.8)
    """
    law_of = _LAWS.get(type(optimizer))
    if law_of is None:
        known = ", ".join(kind.__name__ for kind in _LAWS)
        raise RefusedError(
            f"the edge of stability is known for {known}, got {type(optimizer).__name__}. Leave "
            "the option out."
        )
    group_of = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    own = [group for p in parameters if (group := group_of.get(id(p))) is not None]
    if not own:
        raise RefusedError(
            f"none of the measured parameters is stepped by the {type(optimizer).__name__}. Select "
            "parameters that are trained."
        )
    laws = {id(group): law_of(group, optimizer) for group in own}
    law_at = [
        laws[id(group)] if (group := group_of.get(id(p))) is not None and p.requires_grad else None
        for p in parameters
    ]
    steps, decays = _same_of_all(parameters, law_at) or _of_each(parameters, law_at, optimizer)
    return StabilityEdge(
        steps=steps,
        decay=decays,
        threshold=_one_threshold([law.threshold for law in laws.values()]),
        sign=_one_sign(own),
        optimizer=_words(optimizer, own[0]),
    )


def _same_of_all(
    parameters: Sequence[Tensor], law_at: Sequence[_Law | None]
) -> tuple[Tensor, Tensor] | None:
    """One step size and one decay seen as vectors, which take no memory; None if there are more."""
    pairs = {None if law is None else (law.step, law.decay) for law in law_at}
    (pair,) = pairs if len(pairs) == 1 else (None,)
    if pair is None or pair[0] is None:
        return None
    count = sum(_reals(parameter).numel() for parameter in parameters)
    step, decay = torch.tensor(pair, dtype=torch.float64, device=parameters[0].device)
    return step.expand(count), decay.expand(count)


def _of_each(
    parameters: Sequence[Tensor], law_at: Sequence[_Law | None], optimizer: Optimizer
) -> tuple[Tensor, Tensor]:
    """The step sizes and decays of parameters, zero where none is taken."""
    steps, decays = [], []
    for parameter, law in zip(parameters, law_at, strict=True):
        size = torch.zeros_like(_reals(parameter), dtype=torch.float64)
        state = optimizer.state.get(parameter, {})
        steps.append(size if law is None else law.steps(size, state))
        decays.append(torch.full_like(size, 0.0 if law is None else law.decay))
    return torch.cat(steps), torch.cat(decays)


def _sgd(group: Group, _: Optimizer) -> _Law:
    momentum, lr = group["momentum"], float(group["lr"])
    # without momentum there is no buffer, and dampening has no meaning
    scale = lr * (1 - group["dampening"]) if momentum else lr
    threshold = 2 * (1 + momentum) / (1 + 2 * momentum if group["nesterov"] else 1)
    return _Law(threshold, group["weight_decay"], lambda size, _: size + scale, step=scale)


def _rmsprop(group: Group, optimizer: Optimizer) -> _Law:
    _refuse_before_first_step(optimizer)

    def steps(size: Tensor, state: Mapping[str, Any]) -> Tensor:
        if not state:
            return size
        square = _reals(state["square_avg"]).double()
        if group["centered"]:
            square = square - _reals(state["grad_avg"]).double().square()
        scaled: Tensor = float(group["lr"]) / (square.clamp_min(0).sqrt() + group["eps"])
        return scaled

    return _Law(2 * (1 + group["momentum"]), group["weight_decay"], steps)


def _adam(group: Group, optimizer: Optimizer) -> _Law:
    _refuse_before_first_step(optimizer)
    lr, (beta, _), decay = float(group["lr"]), map(float, group["betas"]), group["weight_decay"]

    def steps(size: Tensor, state: Mapping[str, Any]) -> Tensor:
        if not state:
            return size
        moment = "max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"
        factor = (1 - beta) / (1 - beta ** (float(state["step"]) + 1))
        scaled: Tensor = lr * factor / _adaptation(state, moment, group)
        return scaled

    # of older versions of torch only the class tells
    if group.get("decoupled_weight_decay", isinstance(optimizer, AdamW)):
        return _Law((2 - lr * decay) * (1 + beta), 0.0, steps)
    return _Law(2 * (1 + beta), decay, steps)


def _nadam(group: Group, optimizer: Optimizer) -> _Law:
    _refuse_before_first_step(optimizer)
    lr, (beta, _), decay = float(group["lr"]), map(float, group["betas"]), group["weight_decay"]
    # x' = a x - lr (p g + q m') / (sqrt(v) + eps), m' = b m + (1 - b) g: an eigenvalue of -1 where
    # lr h (p (1 + b) + q (1 - b)) = (1 + a) (1 + b)
    direct, averaged = _nesterov_weights(group, optimizer)
    scale = 1 - beta
    retained = 1 - lr * decay if group["decoupled_weight_decay"] else 1.0
    threshold = (1 + retained) * (1 + beta) * scale / (direct * (1 + beta) + averaged * scale)

    def steps(size: Tensor, state: Mapping[str, Any]) -> Tensor:
        return lr * scale / _adaptation(state, "exp_avg_sq", group) if state else size

    return _Law(threshold, 0.0 if group["decoupled_weight_decay"] else decay, steps)


def _nesterov_weights(group: Group, optimizer: Optimizer) -> tuple[float, float]:
    """By which NAdam's next step takes the gradient and its mean, of a group's first state."""
    state = next(s for p in group["params"] if (s := optimizer.state.get(p)))
    beta, number = float(group["betas"][0]), float(state["step"]) + 1

    def momentum(at: float) -> float:
        return float(beta * (1 - 0.5 * 0.96 ** (at * group["momentum_decay"])))

    product = float(state["mu_product"]) * momentum(number)
    after = momentum(number + 1)
    return (1 - momentum(number)) / (1 - product), after / (1 - product * after)


def _adaptation(state: Mapping[str, Any], moment: str, group: Group) -> Tensor:
    """``sqrt(v) + eps``, corrected for the bias of a short mean."""
    correction = 1 - float(group["betas"][1]) ** float(state["step"])
    length: Tensor = (_reals(state[moment]).double() / correction).sqrt()
    return length + float(group["eps"])


_LAWS: dict[type[Optimizer], Callable[[Group, Optimizer], _Law]] = {
    SGD: _sgd,
    RMSprop: _rmsprop,
    Adam: _adam,
    AdamW: _adam,
    NAdam: _nadam,
}


def _refuse_before_first_step(optimizer: Optimizer) -> None:
    if not any(optimizer.state.values()):
        raise RefusedError(
            f"the step sizes of {type(optimizer).__name__} are not defined before its first step. "
            "They are from the next report on."
        )


def _one_threshold(thresholds: Sequence[float]) -> float:
    least, most = min(thresholds), max(thresholds)
    if most > (1 + SAME) * least:
        raise RefusedError(
            "groups of different momentum have no common edge of stability: their thresholds are "
            f"{least:.4g} to {most:.4g}. Measure each group by `parameters=`."
        )
    return least


def _one_sign(groups: Sequence[Group]) -> int:
    signs = {-1 if group["maximize"] else 1 for group in groups}
    if len(signs) > 1:
        raise RefusedError(
            "groups that ascend and groups that descend have no common edge of stability. Measure "
            "each group by `parameters=`."
        )
    return signs.pop()


def _reals(tensor: Tensor) -> Tensor:
    held = tensor.detach()
    return (torch.view_as_real(held) if held.is_complex() else held).reshape(-1)


def _words(optimizer: Optimizer, group: Group) -> str:
    momentum = group["betas"][0] if "betas" in group else group["momentum"]
    extra = f", momentum {float(momentum):g}" if momentum else ""
    return f"{type(optimizer).__name__}, learning rate {float(group['lr']):g}{extra}"
