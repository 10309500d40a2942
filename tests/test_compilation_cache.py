"""Commands keep compiled programs in the user's cache folder, and do without where they cannot."""

import json

import pytest

COMMAND = """
import json
import jax
from perceiver_jax.command import run_command

events = []
jax.monitoring.register_event_listener(lambda event, **_: events.append(event.rpartition("/")[2]))
code = run_command(lambda: jax.jit(lambda x: x + 1)(41).block_until_ready() and None)
print(json.dumps([code, events.count("cache_hits"), events.count("cache_misses")]))
"""
UNUSED = [0, 0, 0]


@pytest.fixture
def command(run_python, tmp_path):
    """A function that runs a command of one program: [exit code, programs found, programs written].

    Args: a line to go before; variables of the environment, in which the user's cache folder is new
    and JAX's own settings are those that it has by itself.
    """

    def run(before="", **environment):
        usual = {"JAX_ENABLE_COMPILATION_CACHE": "true", "XDG_CACHE_HOME": str(tmp_path)}
        return json.loads(run_python(before + COMMAND, **(usual | environment)))

    return run


def programs(folder):
    return {path.name for path in folder.glob("*-cache")}


def test_the_second_command_finds_what_the_first_compiled(command, tmp_path):
    folder = tmp_path / "perceiver_jax" / "xla"
    code, found, written = command()
    assert (code, found) == (0, 0) and written > 0
    assert folder.stat().st_mode & 0o777 == 0o700
    kept = programs(folder)
    assert len(kept) == written
    assert command() == [0, written, 0]
    assert programs(folder) == kept


def test_the_folder_is_under_home_where_no_other_is_named(command, tmp_path):
    assert command(XDG_CACHE_HOME="", HOME=str(tmp_path / "home"))[2] > 0
    assert programs(tmp_path / "home" / ".cache" / "perceiver_jax" / "xla")


def test_the_size_of_the_cache_is_bounded(command, tmp_path):
    """With so small a bound, none of the programs stays."""
    small = "import perceiver_jax.compilation_cache as c; c.MAX_BYTES = 10\n"
    code, found, written = command(small)
    assert (code, found) == (0, 0) and written > 0
    assert not programs(tmp_path / "perceiver_jax" / "xla")


@pytest.mark.parametrize(
    "obstacle",
    [
        "import os; open(os.environ['XDG_CACHE_HOME'] + '/perceiver_jax', 'w').close()",
        "import os; os.access = lambda *_: False",
        "import os, pathlib; os.environ['XDG_CACHE_HOME'] = ''\n"
        "def home(): raise RuntimeError('Could not determine home directory.')\n"
        "pathlib.Path.home = home",
    ],
    ids=["a file in the way", "a folder that is read-only", "no home"],
)
def test_without_a_folder_to_write_to_a_command_compiles(command, obstacle):
    assert command(obstacle + "\n") == UNUSED


def test_settings_of_jax_go_first(command, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    usual = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    assert command(JAX_COMPILATION_CACHE_DIR=str(elsewhere), **usual)[2] > 0
    assert programs(elsewhere)
    assert command(JAX_ENABLE_COMPILATION_CACHE="false") == UNUSED
    assert not (tmp_path / "perceiver_jax").exists()


def test_single_settings_of_jax_go_first(command):
    assert command(JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="1000") == UNUSED


def test_a_relative_cache_folder_is_ignored(command, tmp_path):
    assert command(XDG_CACHE_HOME="relative", HOME=str(tmp_path))[2] > 0
    assert programs(tmp_path / ".cache" / "perceiver_jax" / "xla")


def test_importing_changes_no_setting(run_python, tmp_path):
    printed = run_python(
        """
        import jax
        before = dict(jax.config.values)
        import interop.__main__, perceiver_jax.compilation_cache, perceiver_jax.models
        import perceiver_jax.run, perceiver_jax.train.evaluate, perceiver_jax.train.main
        after = dict(jax.config.values)
        names = [name for name in after if "cache" in name]
        print(names == [n for n in names if n in before and before[n] == after[n]], len(names))
        """,
        JAX_ENABLE_COMPILATION_CACHE="true",
        XDG_CACHE_HOME=str(tmp_path),
    )
    same, num_names = printed.split()
    assert same == "True" and int(num_names) > 5
    assert not (tmp_path / "perceiver_jax").exists()
