"""Signed profiles: Ed25519 keys, and the word of their owner for a profile until a given time.

The private key stays in a file that its owner alone can read; whoever loads profiles needs the public
key and nothing else. Both are PEM files, as other tools write them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from soma_bench.errors import ConfigError
from soma_bench.files import read_text, write_atomically
from soma_bench.routing.profile import Profile, Signature, signed_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_MAX_KEY_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The key that signatures are checked with."""

    raw: bytes
    """Its 32 bytes."""

    @property
    def id(self) -> str:
        """``sha256:...`` of the key."""
        return f"sha256:{sha256(self.raw).hexdigest()}"

    def has_signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the owner of the private key has signed exactly this message."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except (InvalidSignature, ValueError):
            return False
        return True


class PrivateKey:
    """The key that profiles are signed with; it shows itself in no text."""

    __slots__ = ("_key",)

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    @property
    def public(self) -> PublicKey:
        """The key that its signatures are checked with."""
        return PublicKey(self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"PrivateKey(public={self.public.id})"


def make_keys(private: Path, public: Path) -> PublicKey:
    """Write a new pair of keys; the private file can be read by its owner alone.

    Raises:
        ConfigError: one of the files is there already, which is never replaced, or cannot be
            written.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if public.exists():
        raise ConfigError(f"{public}: is there already; name another file for the new key")
    key = Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        # Made readable by its owner alone, and never anything else for a moment.
        handle = os.open(private, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(secret)
    except FileExistsError as error:
        raise ConfigError(f"{private}: is there already; name another file") from error
    except OSError as error:
        raise ConfigError(f"{private}: cannot be written: {error.strerror or error}") from error
    told = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_atomically(public, told)
    return PrivateKey(key).public


def read_private_key(path: Path) -> PrivateKey:
    """The private key in a file.

    Raises:
        ConfigError: it cannot be read, others can read it too, or it holds no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    text = _key_text(path)
    if os.name == "posix" and stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise ConfigError(f"{path}: can be read by others; run: chmod 600 {path}")
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The reason is left out: nothing of what stands in the file belongs in a message.
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(
            f"{path}: holds no Ed25519 private key; make one by soma-bench profile keygen"
        ) from None
    return PrivateKey(key)


def read_public_key(path: Path) -> PublicKey:
    """The public key in a file.

    Raises:
        ConfigError: it cannot be read, or holds no such key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(_key_text(path).encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path}: holds no Ed25519 public key; name the .pub file of the signer")
    return PublicKey(key.public_bytes_raw())


def sign_profile(profile: Profile, key: PrivateKey, valid_until: datetime) -> Profile:
    """The same profile, sealed and signed; it is to be refused from ``valid_until`` on.

    Raises:
        ConfigError: the time has no zone or lies in the past.
    """
    if valid_until.utcoffset() is None or valid_until <= datetime.now(UTC):
        raise ConfigError(f"valid_until: {valid_until.isoformat()} is no time to come, with a zone")
    until = valid_until.astimezone(UTC).isoformat(timespec="seconds")
    plain = profile.model_copy(update={"valid_until": until, "signature": None}).sealed()
    signature = Signature(key=key.public.id, value=key.sign(signed_bytes(plain)).hex())
    return plain.model_copy(update={"signature": signature})


def _key_text(path: Path) -> str:
    text = read_text(path)
    if len(text) > _MAX_KEY_CHARACTERS:
        raise ConfigError(f"{path}: is too long for a key")
    return text
