"""Certificates that live as long as a test: an authority, a server's for 127.0.0.1, and a client's."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """Files of a certificate and its private key, both PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    authority: Path
    server: Pair
    client: Pair


def make_certificates(folder: Path) -> Certificates:
    """Make an authority, and what it has signed for a server on 127.0.0.1 and for a client."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("an authority of the tests")
    basic = x509.BasicConstraints(ca=True, path_length=0)
    authority = _builder(name, name, key.public_key()).add_extension(basic, critical=True)
    file = folder / "authority.pem"
    file.write_bytes(authority.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return Certificates(file, _signed(folder, "server", name, key), _signed(folder, "client", name, key))


def _signed(folder: Path, whose: str, issuer: x509.Name, issuer_key: ec.EllipticCurvePrivateKey) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = _builder(_name(whose), issuer, key.public_key()).add_extension(here, critical=False)
    pair = Pair(folder / f"{whose}.pem", folder / f"{whose}.key")
    pem = serialization.Encoding.PEM
    pair.certificate.write_bytes(builder.sign(issuer_key, hashes.SHA256()).public_bytes(pem))
    plain = serialization.NoEncryption()
    pair.key.write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return pair


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
