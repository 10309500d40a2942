"""Fetching a file through an index's simple page, from a server on this machine."""

import base64
import http.server
import subprocess
import sys
import threading

import pytest

from perceiver_jax.data import DatasetError, package_index

FILE = b"the archive"


@pytest.fixture
def index(monkeypatch):
    """A server, and what it was asked for: [(path, authorization)]."""
    pages = {
        "/simple/thing/": b'<a href="../../files/other-1.0.tar.gz">no</a> <A class=x '
        b'href="../../files/a%20b/thing-1.0.tar.gz#sha256=00">yes</A>',
        "/files/a%20b/thing-1.0.tar.gz": FILE,
    }
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            found = self.path in pages
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(pages.get(self.path, b""))

        def log_message(self, format, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    for name in ("http_proxy", "HTTP_PROXY", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple")
    yield f"127.0.0.1:{server.server_port}", asked, pages
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_file_is_found_on_the_projects_page(index):
    assert package_index.fetch("thing", "thing-1.0.tar.gz") == FILE
    assert [path for path, _ in index[1]] == ["/simple/thing/", "/files/a%20b/thing-1.0.tar.gz"]


def test_credentials_of_the_index_go_along_and_are_not_shown(index, monkeypatch):
    host, asked, _ = index
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:p%40ss@{host}/simple/")
    assert package_index.fetch("thing", "thing-1.0.tar.gz") == FILE
    token = base64.b64encode(b"me:p@ss").decode()
    assert {authorization for _, authorization in asked} == {f"Basic {token}"}
    with pytest.raises(DatasetError) as error:
        package_index.fetch("other", "other.tar.gz")
    assert "p%40ss" not in str(error.value) and host in str(error.value)


def test_credentials_do_not_go_to_another_host(index, monkeypatch):
    host, asked, pages = index
    elsewhere = host.replace("127.0.0.1", "localhost")
    pages["/simple/thing/"] = f'<a href="http://{elsewhere}/files/a%20b/thing-1.0.tar.gz">'.encode()
    monkeypatch.setenv("PIP_INDEX_URL", f"http://me:secret@{host}/simple/")
    assert package_index.fetch("thing", "thing-1.0.tar.gz") == FILE
    assert [authorization is None for _, authorization in asked] == [False, True]


def test_a_page_without_the_file_is_an_error(index):
    with pytest.raises(DatasetError, match="has no thing-2.0.tar.gz; fetch it elsewhere"):
        package_index.fetch("thing", "thing-2.0.tar.gz")


def test_a_project_that_is_not_there_is_an_error(index):
    with pytest.raises(DatasetError, match="cannot be fetched: .*404.*check the network"):
        package_index.fetch("nothing", "nothing-1.0.tar.gz")


def test_links_to_local_files_are_not_followed(index):
    index[2]["/simple/thing/"] = b'<a href="file:///etc/thing-1.0.tar.gz">'
    with pytest.raises(DatasetError, match="expected an address of http or https"):
        package_index.fetch("thing", "thing-1.0.tar.gz")


def test_what_is_too_long_is_refused(index, monkeypatch):
    monkeypatch.setattr(package_index, "MAX_BYTES", 200)
    index[2]["/files/a%20b/thing-1.0.tar.gz"] = b"x" * 201
    with pytest.raises(DatasetError, match="is longer than 200 bytes"):
        package_index.fetch("thing", "thing-1.0.tar.gz")


def test_the_index_is_that_of_pip(monkeypatch, tmp_path):
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = https://example.org/simple\n")
    assert package_index.index_url() == "https://example.org/simple"
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    usual = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--help"], capture_output=True, text=True
    )
    found = package_index.index_url()
    assert found.startswith("https://")
    assert found in usual.stdout.replace(" ", "").replace("\n", "")


def test_a_pip_that_does_not_tell_its_index_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "pip._internal.models.index", None)
    with pytest.raises(DatasetError, match="name one in PIP_INDEX_URL"):
        package_index._public_index()
