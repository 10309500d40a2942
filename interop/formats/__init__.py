"""One module per foreign format; see `interop` for what each of them offers."""
