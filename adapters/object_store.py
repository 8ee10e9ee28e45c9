"""Files in an S3-compatible object store, each under the name of its digest, through pyarrow's file systems.

What has such a name never changes, so that putting it twice is putting it once, and whoever reads it can
tell whether it is what was meant. Credentials are those of the AWS environment (variables, profile, role),
never ours.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from ..ports.errors import AutoRetrainError, MissingExtra, Permanent, Temporary
from .object_store_errors import Absent, Unexplained, translated

SCHEME = "s3://"
PROBE = "autoretrain-probe"
_CHUNK = 4 << 20
_DEFAULT_REGION = "us-east-1"
"""What stores that know no regions take a signature for."""


@dataclass(frozen=True, slots=True)
class Connection:
    """How a store is reached.

    Attributes:
        endpoint: ``http(s)://host[:port]`` of the store; ``None`` takes ``AWS_ENDPOINT_URL_S3`` or
            ``AWS_ENDPOINT_URL``, else AWS.
        region: ``None`` takes ``AWS_REGION`` or ``AWS_DEFAULT_REGION``, else what the AWS profile says.
        connect_timeout: Seconds until a connection stands.
        request_timeout: Seconds in which nothing arrives.
        attempts: How often a request is tried, all in all.
    """

    endpoint: str | None = None
    region: str | None = None
    connect_timeout: float = 5.0
    request_timeout: float = 30.0
    attempts: int = 3

    @property
    def place(self) -> str:
        """Address of the store; empty for AWS."""
        given = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        return self.endpoint or given or ""

    @property
    def variables(self) -> dict[str, str]:
        """The AWS variables with which another process reaches the same store. No credentials."""
        named = {"AWS_ENDPOINT_URL_S3": self.endpoint, "AWS_REGION": self.region}
        return {name: value for name, value in named.items() if value}

    def file_system(self) -> Any:
        """Open it. Nothing is sent yet.

        Raises:
            MissingExtra: pyarrow is not installed.
            Permanent: The endpoint is no address.
        """
        try:
            from pyarrow import fs
        except ImportError as error:
            raise MissingExtra("pyarrow", "storage") from error
        options: dict[str, Any] = {}
        if self.place:
            address = urlsplit(self.place)
            if address.scheme not in ("http", "https") or not address.netloc or "@" in address.netloc:
                raise Permanent("the endpoint of the object store is not http(s)://host[:port]")
            options = {"scheme": address.scheme, "endpoint_override": address.netloc}
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return fs.S3FileSystem(
            region=region or (_DEFAULT_REGION if self.place else None),
            connect_timeout=self.connect_timeout,
            request_timeout=self.request_timeout,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=self.attempts),
            allow_delayed_open=True,  # a small file is one request, not the three of a multipart upload
            **options,
        )


class ObjectStore:
    """Files by their digest: ``<url>/<kind>/<sha256>.parquet``, and a local copy of what was read.

    Args:
        url: ``s3://bucket/prefix``. What is read may lie elsewhere.
        cache: Directory of local copies; created when missing, for the owner only.
        connection: How the store is reached.
    """

    def __init__(self, url: str, cache: Path, connection: Connection = Connection()) -> None:
        self.url = url.rstrip("/")
        self._cache = cache.absolute()
        self._connection = connection
        self._opened: Any = None
        self._lock = threading.Lock()
        self._intact: dict[Path, tuple[int, int, int]] = {}

    def put(self, file: Path, kind: str, sha256: str) -> str:
        """Put a local file into the store, unless it is there.

        Args:
            file: The file. It becomes its own local copy where the file systems allow a hard link.
            kind: Folder below the prefix (``snapshots``).
            sha256: Its digest (hex).

        Returns:
            Its address there.

        Raises:
            Temporary: The store cannot be reached now.
            Permanent: The file is gone or has another digest, there is no such bucket, or a permission is
                missing.
        """
        uri = f"{self.url}/{kind}/{sha256}.parquet"
        try:
            size = file.stat().st_size
            with _explained(self._files(), uri, self._connection.place):
                there = self._files().get_file_info(_path(uri))
            # An object is there as a whole or not at all; only an upload whose file could not be read to its
            # end leaves a shorter one, which is replaced.
            if not there.is_file or there.size != size:
                self._upload(file, uri, sha256)
            self._adopt(file, sha256)
        except FileNotFoundError:
            raise Permanent(f"{file} is gone, and cannot be put into the object store") from None
        return uri

    def fetch(self, uri: str, sha256: str) -> Path:
        """Give a local file with the content of an object.

        Args:
            uri: Address of the object; it need not lie below ``url``.
            sha256: The digest that it must have.

        Returns:
            The local copy, not to be changed.

        Raises:
            Temporary: The store cannot be reached now, or the disk is full.
            Absent: The object is not there: expired or deleted.
            Permanent: It has another digest, or a permission is missing.
        """
        copy = self._copy(sha256)
        if not self._is_intact(copy, sha256):
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            download(self._files(), uri, copy, sha256, self._connection.place)
            self._intact[copy] = _signature(copy)
        return copy

    def examine(self) -> Iterator[tuple[str, AutoRetrainError | None]]:
        """Do what will have to be done, with a small object below the prefix, and take that away again.

        Yields:
            Each permission, with the error where it is missing. Nothing follows a ``Temporary``.
        """
        probe = f"{self.url}/{PROBE}"
        for permission, do in self._deeds(probe).items():
            fault: AutoRetrainError | None = None
            try:
                with _explained(self._files(), probe, self._connection.place):
                    do()
            except Absent:
                pass  # allowed to look, and nothing was there
            except AutoRetrainError as error:
                fault = error
            yield permission, fault
            if isinstance(fault, Temporary):
                return

    def _deeds(self, probe: str) -> dict[str, Callable[[], object]]:
        files, path = self._files(), _path(probe)
        from pyarrow.fs import FileSelector

        def put() -> None:
            with files.open_output_stream(path) as stream:
                stream.write(b"written by autoretrain doctor\n")

        return {
            "s3:PutObject": put,
            "s3:GetObject": lambda: files.open_input_stream(path).read(),
            "s3:ListBucket": lambda: files.get_file_info(FileSelector(_path(self.url), allow_not_found=True)),
            "s3:DeleteObject": lambda: files.delete_file(path),
        }

    def _files(self) -> Any:
        with self._lock:
            if self._opened is None:
                self._opened = self._connection.file_system()
            return self._opened

    def _upload(self, file: Path, uri: str, sha256: str) -> None:
        if _digest(file) != sha256:
            raise Permanent(f"{file} was altered: it no longer has the digest {sha256[:12]}…")
        kind = {"Content-Type": "application/vnd.apache.parquet"}
        with (
            translated(uri, self._connection.place),
            file.open("rb") as source,
            self._files().open_output_stream(_path(uri), metadata=kind) as target,
        ):
            while chunk := source.read(_CHUNK):
                target.write(chunk)

    def _copy(self, sha256: str) -> Path:
        return self._cache / f"{sha256}.parquet"

    def _adopt(self, file: Path, sha256: str) -> None:
        """Make a file that was put its own local copy; where that cannot be, it is downloaded when needed."""
        copy = self._copy(sha256)
        if copy.exists():
            return
        scratch = _scratch(copy)
        try:
            self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.link(file, scratch)
            os.replace(scratch, copy)
        except OSError:
            scratch.unlink(missing_ok=True)

    def _is_intact(self, copy: Path, sha256: str) -> bool:
        """Whether a copy is there and undamaged; it is read once, and again when it has been touched."""
        try:
            signature = _signature(copy)
            if self._intact.get(copy) != signature:
                if _digest(copy) != sha256:
                    return False
                self._intact[copy] = signature
        except OSError:
            return False
        return True


def download(files: Any, uri: str, target: Path, sha256: str, endpoint: str = "") -> None:
    """Read an object into a file, which appears as a whole or not at all.

    Args:
        files: ``Connection.file_system()``.
        uri: Address of the object.
        target: The file, in a directory that exists.
        sha256: The digest that it must have; empty takes whatever is there.
        endpoint: Address of the store, for messages.

    Raises:
        Temporary: The store cannot be reached now, or the disk is full.
        Absent: The object is not there.
        Permanent: It has another digest, or a permission is missing.
    """
    scratch, found = _scratch(target), hashlib.sha256()
    try:
        with (
            _explained(files, uri, endpoint),
            files.open_input_stream(_path(uri)) as source,
            scratch.open("wb") as file,
        ):
            while chunk := source.read(_CHUNK):
                found.update(chunk)
                file.write(chunk)
        if sha256 and found.hexdigest() != sha256:
            raise Permanent(
                f"{uri} is damaged: it does not have the digest {sha256[:12]}…; delete it and start a new job"
            )
        os.replace(scratch, target)
    finally:
        scratch.unlink(missing_ok=True)


@contextmanager
def _explained(files: Any, uri: str, endpoint: str) -> Iterator[None]:
    """Translate errors; where a refusal does not say why, ask something whose refusal does."""
    try:
        with translated(uri, endpoint):
            yield
    except Unexplained as refused:
        _ask_why(files, uri, endpoint, refused)


def _ask_why(files: Any, uri: str, endpoint: str, refused: Unexplained) -> NoReturn:
    """Raise why a request was refused: expired credentials are temporary, a missing permission is not."""
    from pyarrow.fs import FileSelector

    try:
        with translated(uri, endpoint):
            files.get_file_info(FileSelector(_path(uri), allow_not_found=True))
    except AutoRetrainError as error:
        if "access denied" not in str(error):
            raise
    raise refused


def is_stored(uri: str) -> bool:
    """Whether an address is one of an object."""
    return uri.startswith(SCHEME)


def _path(uri: str) -> str:
    return uri.removeprefix(SCHEME)


def _scratch(target: Path) -> Path:
    return target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}")


def _signature(file: Path) -> tuple[int, int, int]:
    about = file.stat()
    return about.st_ino, about.st_size, about.st_mtime_ns


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
