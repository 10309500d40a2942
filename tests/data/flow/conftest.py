"""What the tests of flow share: pictures, and a wheel of photos that is none of scikit-image."""

import hashlib
import io
import zipfile

import cv2
import numpy as np
import pytest

from perceiver_jax.data.flow import photos


def picture(height=20, width=30, seed=0):
    """[height, width, 3] uint8, not smooth."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def encoded(image, ending=".png"):
    """Contents of a picture file, red first."""
    return cv2.imencode(ending, image[..., ::-1])[1].tobytes()


@pytest.fixture
def make_picture(tmp_path):
    """A function that writes a picture below tmp_path: `make_picture(path, seed=0)`."""

    def make(path, **fields):
        path = tmp_path / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(**fields), path.suffix))
        return path

    return make


@pytest.fixture
def disparity():
    """[20, 30] float32, of which one pixel is not known."""
    disparity = np.random.default_rng(0).uniform(1, 5, (20, 30)).astype(np.float32)
    disparity[3, 4] = np.inf
    return disparity


@pytest.fixture
def toy_wheel(monkeypatch, disparity):
    """A wheel of the layout of the real one; scikit-image and scikit-learn are not installed."""
    packed = io.BytesIO()
    np.savez(packed, disparity)
    contents = {
        name: packed.getvalue() if name.endswith(".npz") else encoded(picture(seed=i), ".png")
        for i, name in enumerate(sorted(photos.MEMBERS))
    }
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    monkeypatch.setattr(photos, "MEMBERS", digests)
    monkeypatch.setattr(photos, "installed", lambda package, file, digest: None)
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("skimage/__init__.py", "raise SystemExit")
        archive.writestr("../evil.txt", "x")
        for name, data in contents.items():
            archive.writestr(f"skimage/data/{name}", data)
    return wheel.getvalue()
