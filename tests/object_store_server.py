"""A real S3 server on a free port of this machine (moto), with a bucket and, where asked for, permissions."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from moto.server import ThreadedMotoServer

BUCKET = "plant-rows"
_ROOT = {"aws_access_key_id": "root-key", "aws_secret_access_key": "root-secret-of-the-test"}


@cache
def _client(address: str, service: str) -> Any:
    import boto3

    return boto3.client(service, endpoint_url=address, region_name="us-east-1", **_ROOT)


@dataclass(frozen=True)
class S3:
    """A server with one bucket."""

    address: str

    @property
    def client(self) -> Any:
        """A client that may do everything, as long as nobody asks for permissions."""
        return _client(self.address, "s3")

    def keys(self, prefix: str = "") -> list[str]:
        """Keys of all objects below a prefix."""
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return sorted(one["Key"] for one in found)

    def content(self, uri: str) -> bytes:
        """The bytes of an object."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        body: bytes = self.client.get_object(Bucket=bucket, Key=key)["Body"].read()
        return body

    def write(self, key: str, content: bytes) -> None:
        """Write an object past the product."""
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def expire(self, prefix: str = "") -> None:
        """Remove what lies below a prefix, as a lifecycle rule does."""
        for key in self.keys(prefix):
            self.client.delete_object(Bucket=BUCKET, Key=key)

    def log_in(self, patch: pytest.MonkeyPatch, actions: Sequence[str]) -> None:
        """Ask for permissions from now on, and be somebody who has these."""
        iam = _client(self.address, "iam")
        iam.create_user(UserName="trainer")
        key = iam.create_access_key(UserName="trainer")["AccessKey"]
        allowed = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [allowed] if actions else []}
        if actions:
            iam.put_user_policy(UserName="trainer", PolicyName="own", PolicyDocument=json.dumps(policy))
        patch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        patch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        httpx.post(f"{self.address}/moto-api/reset-auth", content=b"0").raise_for_status()


@contextmanager
def serving() -> Iterator[S3]:
    """Run a server; it takes half a second to stop, so that tests should share one."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield S3(f"http://{host}:{port}")
    finally:
        server.stop()


@contextmanager
def empty_bucket(s3: S3, patch: pytest.MonkeyPatch, home: Path) -> Iterator[S3]:
    """Empty the server, and let this process and its children have credentials for it and no others.

    Args:
        s3: The server.
        patch: Takes the variables back.
        home: A directory without AWS files.
    """
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        patch.delenv(name, raising=False)
    patch.setenv("AWS_ACCESS_KEY_ID", _ROOT["aws_access_key_id"])
    patch.setenv("AWS_SECRET_ACCESS_KEY", _ROOT["aws_secret_access_key"])
    patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patch.setenv("AWS_CONFIG_FILE", str(home / "no-config"))
    patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "no-credentials"))
    httpx.post(f"{s3.address}/moto-api/reset").raise_for_status()
    s3.client.create_bucket(Bucket=BUCKET)
    try:
        yield s3
    finally:
        httpx.post(f"{s3.address}/moto-api/reset-auth", content=b"inf")
