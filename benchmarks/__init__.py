"""What this library costs, in time and memory, beside other implementations of the same models.

- `python -m benchmarks` compares with them, see `benchmarks.__main__`; a case is an entry of
  `benchmarks.cases`.
- `python -m benchmarks.input_size` measures the cross-attention over the size of its input.
- `python -m benchmarks.decoding` measures a new token over the length of the sequence before it.
- Run from the root of the repository; the other implementations come with `make test`.
"""
