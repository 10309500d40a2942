"""Compiled programs kept on disk, so that a command that is run again starts without compiling.

- Commands switch this on; importing the library never does.
- JAX's own settings go first: `JAX_COMPILATION_CACHE_DIR` names another folder, and
  `JAX_ENABLE_COMPILATION_CACHE=false` does without.
- Machines may share the folder: JAX finds a program by what it computes, its own version, the
  compiler's flags and the instructions that the processor has.
"""

import os

import jax

from perceiver_jax.user_cache import user_cache

MAX_BYTES = 2**30
"""Size that the cache is kept under: what was not used for longest goes first."""


def enable() -> None:
    """Keeps compiled programs in `perceiver_jax/xla` of the user's cache folder.

    Nothing happens where JAX was told about its cache already, or where there is no such folder to
    write to: then programs are compiled each time.
    """
    settings = jax.config.values
    if settings["jax_compilation_cache_dir"] is not None:
        return
    if not settings["jax_enable_compilation_cache"]:
        return
    try:
        folder = user_cache() / "xla"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: there is no home
        return
    if not os.access(folder, os.W_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ:
        jax.config.update("jax_compilation_cache_max_size", MAX_BYTES)
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        # Many programs of a small model compile in less than JAX's threshold of one second.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
