"""Trained models as artifacts that run without this library: `python -m perceiver_jax.export`.

- An artifact is a folder: a program of `jax.export`, its weights, and what both need to be used,
  told in JSON and in a README.
- From Python: `artifact.export_run(workdir)`, and `artifact.export_release` for any other model.
"""
