"""Perceiver IO on ImageNet with learned positions: 62,255,848 parameters.

python -m perceiver_jax.train.main --config=configs/imagenet_learned.py
python -m perceiver_jax.train.main --config=configs/imagenet_learned.py:smoke

- The recipe is that of `imagenet_a`, assumed: DeepMind published it for the Fourier model.
- Hardware and options as there; 8.1 hours of products at peak on eight H200 (`train.plan`), where
  by its estimate remat=dots just does not fit; take remat=full, or more devices.
- Published top-1 accuracy 72.7 (Perceiver IO table 7), not reproduced here.
"""

from configs.imagenet_a import experiment
from perceiver_jax.config import to_config_dict
from perceiver_jax.models import imagenet_learned
from perceiver_jax.train.config import is_smoke


def get_config(variant: str | None = None):
    """The run; variant `smoke` is a small one on synthetic images."""
    return to_config_dict(experiment(imagenet_learned(), smoke=is_smoke(variant)))
