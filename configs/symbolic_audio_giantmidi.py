"""The model of piano performances on GiantMIDI-Piano: 134,840,832 parameters.

python -m perceiver_jax.train.main --config=configs/symbolic_audio_giantmidi.py --workdir=runs/sam

- Needs the MIDI files of GiantMIDI-Piano in `data/giantmidi`, and `…_split.csv` beside them, which
  says what the 'validation' split is. Without that list, add --config.data.eval_split=test.
- Published recipe, two GPUs: twice 8 rows on each for an update. The published validation loss is
  1.944, on a split of its own; it was not reproduced here.
- Source: krasserm/perceiver-io `examples/training/sam/giantmidi`.
"""

from configs.symbolic_audio_maestro import SMALL, experiment
from perceiver_jax.config import to_config_dict
from perceiver_jax.models import symbolic_audio_giantmidi
from perceiver_jax.train.config import is_smoke


def get_config(variant: str | None = None):
    """The run; variant `smoke` takes three steps of a small model on synthetic tunes."""
    smoke = is_smoke(variant)
    model = symbolic_audio_giantmidi(**(SMALL if smoke else {}))
    return to_config_dict(
        experiment(
            model,
            smoke=smoke,
            dataset="giantmidi:data/giantmidi",
            batch_size=32,
            min_seq_len=2048,
        )
    )
