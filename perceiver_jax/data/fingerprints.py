"""Keys of prepared data: from everything that shaped it."""

import hashlib
import json
from typing import Any


def fingerprint(*parts: Any) -> str:
    """SHA-256 of what can be written as JSON, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
