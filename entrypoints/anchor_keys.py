"""The keys of anchors: made, read from where the settings say, and used to check signatures."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from ..adapters.signing_ed25519 import Ed25519Signer, generate_keys, is_genuine, public_keys
from ..domain.anchors import Anchor, Evidence
from ..ports.anchors import AnchorKeeper
from ..ports.errors import ConfigurationError, MissingExtra, Permanent, Problem
from .settings import Secrets, Settings

_T = TypeVar("_T")

KEY_VARIABLE = "AUTORETRAIN_AUDIT_KEY"
PUBLIC_SUFFIX = ".pub"


def write_keys(private: Path) -> Path:
    """Make a pair of keys: the private one for its owner alone (0600), the public one beside it.

    Returns:
        File of the public key.

    Raises:
        ConfigurationError: One of the files is there already, or cannot be written.
        MissingExtra: cryptography is not installed.
    """
    secret, public = generate_keys()
    beside = private.with_name(private.name + PUBLIC_SUFFIX)
    for path in (private, beside):
        if path.exists():
            fix = "is there already, and is not overwritten: name another file, or move it away"
            raise ConfigurationError([Problem("audit.key", str(path), fix)])
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        _write_new(private, secret, 0o600)
        _write_new(beside, public, 0o644)
    except OSError as error:
        fix = f"cannot be written: {error.strerror}"
        raise ConfigurationError([Problem("audit.key", str(error.filename or private), fix)]) from None
    return beside


def read_signer(settings: Settings) -> Ed25519Signer:
    """Read the private key: the file ``audit.key``, or else the environment.

    Raises:
        ConfigurationError: There is none, it is none, or others can read its file.
        MissingExtra: cryptography is not installed.
    """
    if settings.audit.key is not None:
        file = settings.located(settings.audit.key)
        where, given, text = "audit.key", str(file), _private_text(file)
    else:
        secret = Secrets().audit_key
        if secret is None:
            fix = f"is missing; 'autoretrain audit keygen FILE' makes one, or set {KEY_VARIABLE}"
            raise ConfigurationError([Problem("audit.key", "", fix)])
        where, given, text = KEY_VARIABLE, "", secret.get_secret_value()
    return _understood(lambda: Ed25519Signer(text), where, given)


def public_key_file(settings: Settings) -> Path | None:
    """File of the public keys that the settings name; ``None`` when they name none."""
    audit = settings.audit
    if audit.public_key is not None:
        return settings.located(audit.public_key)
    return None if audit.key is None else settings.located(audit.key + PUBLIC_SUFFIX)


def trusted_keys(file: Path, where: str = "audit.public_key") -> frozenset[str]:
    """Read the public keys that anchors may be signed with.

    Args:
        file: One or several keys in PEM.
        where: What named the file, for messages.

    Raises:
        ConfigurationError: It cannot be read, or holds no such key.
        MissingExtra: cryptography is not installed.
    """
    text = _text(file, where)
    return _understood(lambda: public_keys(text), where, str(file))


def objection(keys: frozenset[str]) -> Callable[[Anchor], str]:
    """What is wrong with an anchor's signature, by the keys that are trusted; empty when nothing is."""

    def said(anchor: Anchor) -> str:
        if anchor.key not in keys:
            return f"it is signed with another key than yours ({anchor.key[:16]})"
        genuine = is_genuine(anchor.key, anchor.statement, anchor.signature)
        return "" if genuine else "its signature does not fit: it was edited, or forged"

    return said


def evidence_of(settings: Settings, keeper: AnchorKeeper) -> Evidence:
    """All anchors of a keeper, checked with the keys that the settings name.

    Raises:
        ConfigurationError: They name none, or none that can be used.
        MissingExtra: cryptography is not installed.
        Temporary: The keeper's place is away.
    """
    file = public_key_file(settings)
    if file is None:
        raise ConfigurationError([Problem("audit.public_key", "", "is missing; anchors are checked with it")])
    evidence = Evidence(objection(trusted_keys(file)))
    for text in keeper.kept():
        evidence.add(text)
    return evidence


def _private_text(file: Path) -> str:
    text = _text(file, "audit.key")
    if stat.S_IMODE(file.stat().st_mode) & 0o077:
        raise ConfigurationError([Problem("audit.key", str(file), "others can read it: chmod 600")])
    return text


def _text(file: Path, where: str) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        fix = "there is no such file; 'autoretrain audit keygen FILE' makes a pair of keys"
    except UnicodeDecodeError:
        fix = "it holds no key in PEM"
    except OSError as error:
        fix = f"cannot be read: {error.strerror}"
    raise ConfigurationError([Problem(where, str(file), fix)])


def _understood(read: Callable[[], _T], where: str, given: str) -> _T:
    try:
        return read()
    except MissingExtra:
        raise
    except Permanent as error:
        raise ConfigurationError([Problem(where, given, str(error))]) from None


def _write_new(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, mode)
        file.write(text)
        file.flush()
        os.fsync(descriptor)
