"""Ed25519 by the library ``cryptography``: making keys, signing, and checking signatures."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

from ..ports.errors import MissingExtra, Permanent

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_BLOCK = re.compile(r"-----BEGIN PUBLIC KEY-----.*?-----END PUBLIC KEY-----", re.DOTALL)
_ARMOUR = re.compile(r"-----(BEGIN|END) PRIVATE KEY-----|\\n|\s")


class Ed25519Signer:
    """Signs with one private key, which appears in no message and no repr.

    Args:
        private_key: PKCS 8 in PEM, as ``generate_keys`` makes it; its frame and line ends may be missing.

    Raises:
        Permanent: It is no such key.
        MissingExtra: cryptography is not installed.
    """

    def __init__(self, private_key: str) -> None:
        self._private = _private_key(private_key)
        self.key: str = self._private.public_key().public_bytes_raw().hex()
        """The public key: 32 bytes in hex."""

    def sign(self, message: bytes) -> str:
        """Return the signature of a message, in hex."""
        return self._private.sign(message).hex()


def generate_keys() -> tuple[str, str]:
    """Make a new pair: the private key (PKCS 8) and the public key, both in PEM.

    Raises:
        MissingExtra: cryptography is not installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    except ImportError as error:
        raise MissingExtra("cryptography", "anchor") from error
    private = Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return secret.decode(), public.decode()


def public_keys(text: str) -> frozenset[str]:
    """Read public keys in PEM, one or several after another: after a change of keys both are trusted.

    Returns:
        Each as 32 bytes in hex; at least one.

    Raises:
        Permanent: There is none, or one is no Ed25519 key.
        MissingExtra: cryptography is not installed.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError as error:
        raise MissingExtra("cryptography", "anchor") from error
    keys: set[str] = set()
    for block in _BLOCK.findall(text):
        try:
            key = load_pem_public_key(block.encode())
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise Permanent("it holds a key that is no public key of Ed25519")
        keys.add(key.public_bytes_raw().hex())
    if not keys:
        raise Permanent("it holds no public key in PEM")
    return frozenset(keys)


def is_genuine(key: str, message: bytes, signature: str) -> bool:
    """Whether a signature (hex) of a message was made with a key (hex); malformed ones are not.

    Raises:
        MissingExtra: cryptography is not installed.
    """
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError as error:
        raise MissingExtra("cryptography", "anchor") from error
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), message)
    except (ValueError, InvalidSignature):
        return False
    return True


def _private_key(text: str) -> Ed25519PrivateKey:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_der_private_key
    except ImportError as error:
        raise MissingExtra("cryptography", "anchor") from error
    try:
        key = load_der_private_key(base64.b64decode(_ARMOUR.sub("", text), validate=True), password=None)
    except (ValueError, TypeError, binascii.Error, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        # Raised without the cause, which may hold parts of the key.
        raise Permanent(
            "it is no private key of Ed25519 (PKCS 8, unencrypted): autoretrain audit keygen makes one"
        )
    return key
