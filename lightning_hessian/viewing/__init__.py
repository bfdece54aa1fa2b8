"""The Hessian tab's page without TensorBoard: what it shows, and the file that it is written to.

Where event files are read, neither torch nor Lightning is imported.
"""

from lightning_hessian.viewing.command import view
from lightning_hessian.viewing.write import write_page

__all__ = ["view", "write_page"]
