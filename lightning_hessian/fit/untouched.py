"""Is a run after a measurement the one that it was before?"""

from __future__ import annotations

from lightning.pytorch import LightningModule, Trainer

from lightning_hessian.errors import RestorationError
from lightning_hessian.fit.fingerprint import Fingerprint, fingerprint


class Untouched:
    """Knows a run by the bits of its weights and buffers, its flags, and the module's attributes.

    A measurement puts all state back; this is a second look, by other means, at what would change
    the training in silence. ``weights`` are given where they are known already.
    """

    def __init__(
        self, trainer: Trainer, module: LightningModule, weights: Fingerprint | None = None
    ) -> None:
        self._trainer = trainer
        self._module = module
        self._before = self._look(weights)

    def verify(self) -> None:
        """Look again.

        Raises:
            RestorationError: If anything is other than before: the run must not go on.
        """
        before, after = self._before, self._look()
        changed = [name for name, value in before.items() if value != after[name]]
        if changed:
            raise RestorationError(
                f"after a measurement the module has other {' and '.join(changed)} than before, "
                "from which training must not go on. The run ends; resume it from its last "
                "checkpoint."
            )

    def _look(self, weights: Fingerprint | None = None) -> dict[str, object]:
        return {
            "weights or buffers": weights or fingerprint(self._trainer, self._module),
            "training flags": [part.training for part in self._module.modules()],
            "attributes": sorted(vars(self._module)),
        }
