"""Pictures and pages for those loggers beside TensorBoard's that take such."""

from lightning_hessian.show.media.pages import give_page
from lightning_hessian.show.media.pictures import PictureWriter
from lightning_hessian.show.media.weights_and_biases import histograms

__all__ = ["PictureWriter", "give_page", "histograms"]
