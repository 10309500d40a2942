"""Perceiver IO on ImageNet on a convolutional stem: 48,646,522 parameters.

python -m perceiver_jax.train.main --config=configs/imagenet_conv.py
python -m perceiver_jax.train.main --config=configs/imagenet_conv.py:smoke

- The recipe is that of `imagenet_a`, assumed: DeepMind published it for the Fourier model.
- Hardware and options as there; 5.8 hours of products at peak on eight H200 (`train.plan`).
- Published top-1 accuracy 82.1 (Perceiver IO table 7), not reproduced here.
"""

from configs.imagenet_a import experiment
from perceiver_jax.config import to_config_dict
from perceiver_jax.models import imagenet_conv
from perceiver_jax.train.config import is_smoke


def get_config(variant: str | None = None):
    """The run; variant `smoke` is a small one on synthetic images."""
    return to_config_dict(experiment(imagenet_conv(), smoke=is_smoke(variant)))
