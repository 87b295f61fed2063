"""Keys that take no time to derive, for repositories that live for seconds.

restic makes the derivation as slow as half a second allows, and each process of it pays that. The
parameters stand in the key's file, which is named after its own hash; what they lead to encrypts
the repository's master key (restic's doc/design.rst, "Keys, Encryption and MAC").
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB
from cryptography.hazmat.primitives.poly1305 import Poly1305

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEAST = {"N": 2, "r": 1, "p": 1}
"""The smallest parameters that scrypt, and every restic, takes."""
_MEMORY = 1 << 28
_NONCE, _TAG = 16, 16


def make_quick(repository: str, password: str) -> None:
    """Replace the only key of a repository by one with the same password."""
    (old,) = Path(repository, "keys").iterdir()
    key: dict[str, Any] = json.loads(old.read_bytes())
    master = _opened(_derived(key, password), base64.b64decode(key["data"]))
    key.update(_LEAST)
    sealed = _sealed(_derived(key, password), master)
    content = json.dumps({**key, "data": base64.b64encode(sealed).decode()}).encode()
    new = old.with_name(hashlib.sha256(content).hexdigest())
    new.write_bytes(content)
    shutil.copymode(old, new)
    old.unlink()


def _derived(key: Mapping[str, Any], password: str) -> bytes:
    """Return 32 bytes for AES-256, and 16 each for the two parts of Poly1305-AES."""
    salt = base64.b64decode(key["salt"])
    n, r, p = (key[name] for name in _LEAST)
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=64)


def _opened(key: bytes, sealed: bytes) -> bytes:
    nonce, content, tag = sealed[:_NONCE], sealed[_NONCE:-_TAG], sealed[-_TAG:]
    Poly1305.verify_tag(_one_time(key, nonce), content, tag)
    return _counted(key, nonce, content)


def _sealed(key: bytes, plain: bytes) -> bytes:
    nonce = os.urandom(_NONCE)
    content = _counted(key, nonce, plain)
    return nonce + content + Poly1305.generate_tag(_one_time(key, nonce), content)


def _counted(key: bytes, nonce: bytes, content: bytes) -> bytes:
    return Cipher(AES(key[:32]), CTR(nonce)).encryptor().update(content)


def _one_time(key: bytes, nonce: bytes) -> bytes:
    # One block, and never the same one: what ECB is known for does not come up.
    encrypted = Cipher(AES(key[32:48]), ECB()).encryptor().update(nonce)  # noqa: S305
    return key[48:64] + encrypted
