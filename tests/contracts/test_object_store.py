"""Files in object storage, on a real S3 server; and the ports whose files lie there."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from local_http import Reply, local_server
from object_store_server import BUCKET, S3, empty_bucket, serving

from autoretrain.adapters.data_duckdb import DuckdbDataSource, Table
from autoretrain.adapters.inspector_duckdb import DuckdbInspector
from autoretrain.adapters.object_store import Connection, ObjectStore
from autoretrain.adapters.object_store_errors import Absent
from autoretrain.adapters.object_store_ports import StoredDataSource, StoredInspector, StoredScorer
from autoretrain.adapters.scorer_sklearn import SklearnScorer
from autoretrain.entrypoints.testing.data import MODEL, DataSourceContract, Row, request, row
from autoretrain.ports.data import DataSource, Snapshot
from autoretrain.ports.errors import AutoRetrainError, Permanent, Temporary
from autoretrain.ports.inspector import InspectionTask
from autoretrain.ports.predictor import Predictions
from autoretrain.ports.scorer import ScoringTask

URL = f"s3://{BUCKET}/fleet/boilers"
BIG = b"rows " * 3_000_000
"""More than one part of an upload."""


@pytest.fixture(scope="module")
def server() -> Iterator[S3]:
    with serving() as running:
        yield running


@pytest.fixture
def s3(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    with empty_bucket(server, monkeypatch, tmp_path) as empty:
        yield empty


def connection(server: S3) -> Connection:
    return Connection(server.address, connect_timeout=2, request_timeout=5, attempts=2)


def store_of(server: S3, folder: Path, url: str = URL) -> ObjectStore:
    return ObjectStore(url, folder / "cache", connection(server))


@pytest.fixture
def store(s3: S3, tmp_path: Path) -> ObjectStore:
    return store_of(s3, tmp_path)


def file_of(folder: Path, content: bytes = b"rows") -> tuple[Path, str]:
    digest = hashlib.sha256(content).hexdigest()
    file = folder / f"local-{digest[:8]}"
    file.write_bytes(content)
    return file, digest


class TestStore:
    @pytest.mark.parametrize("content", [b"rows", b"", BIG], ids=["small", "empty", "several parts"])
    def test_what_was_put_is_read_elsewhere(
        self, s3: S3, store: ObjectStore, tmp_path: Path, content: bytes
    ) -> None:
        file, digest = file_of(tmp_path, content)
        uri = store.put(file, "snapshots", digest)
        assert uri == f"{URL}/snapshots/{digest}.parquet"
        assert s3.content(uri) == content
        elsewhere = store_of(s3, tmp_path / "elsewhere").fetch(uri, digest)
        assert elsewhere.read_bytes() == content
        assert [one.name for one in elsewhere.parent.iterdir()] == [f"{digest}.parquet"]

    def test_what_is_there_is_not_written_again(self, s3: S3, store: ObjectStore, tmp_path: Path) -> None:
        file, digest = file_of(tmp_path)
        uri = store.put(file, "snapshots", digest)
        [key] = s3.keys()
        first = s3.client.head_object(Bucket=BUCKET, Key=key)["LastModified"]
        s3.write(key, b"WORD")  # of the same length: were it put again, it would read as before
        assert store.put(file, "snapshots", digest) == uri
        assert s3.content(uri) == b"WORD"
        assert s3.client.head_object(Bucket=BUCKET, Key=key)["LastModified"] >= first

    def test_what_was_cut_off_is_put_again(self, s3: S3, store: ObjectStore, tmp_path: Path) -> None:
        file, digest = file_of(tmp_path)
        uri = store.put(file, "snapshots", digest)
        s3.write(s3.keys()[0], b"ro")
        store.put(file, "snapshots", digest)
        assert s3.content(uri) == b"rows"

    def test_a_file_that_was_altered_is_not_put(self, s3: S3, store: ObjectStore, tmp_path: Path) -> None:
        file, digest = file_of(tmp_path)
        file.write_bytes(b"other")
        with pytest.raises(Permanent, match="was altered"):
            store.put(file, "snapshots", digest)
        assert s3.keys() == []

    def test_a_damaged_object_is_not_read(self, s3: S3, store: ObjectStore, tmp_path: Path) -> None:
        s3.write(f"fleet/boilers/snapshots/{'0' * 64}.parquet", b"rows")
        with pytest.raises(Permanent, match="damaged: it does not have the digest 000000000000…"):
            store.fetch(f"{URL}/snapshots/{'0' * 64}.parquet", "0" * 64)
        assert list((tmp_path / "cache").iterdir()) == []

    def test_what_expired_is_told_with_its_address(self, store: ObjectStore) -> None:
        uri = f"{URL}/snapshots/{'0' * 64}.parquet"
        with pytest.raises(
            Absent, match=re.escape(uri) + " is not there: it has expired by a lifecycle rule"
        ):
            store.fetch(uri, "0" * 64)

    def test_the_local_copy_outlives_the_object(self, s3: S3, store: ObjectStore, tmp_path: Path) -> None:
        file, digest = file_of(tmp_path)
        uri = store.put(file, "snapshots", digest)
        s3.expire()
        assert store.fetch(uri, digest).read_bytes() == b"rows"

    def test_a_damaged_local_copy_is_replaced(self, s3: S3, store: ObjectStore, tmp_path: Path) -> None:
        file, digest = file_of(tmp_path)
        uri = store.put(file, "snapshots", digest)
        copy = store.fetch(uri, digest)
        copy.unlink()
        copy.write_bytes(b"oops")
        assert store.fetch(uri, digest).read_bytes() == b"rows"

    def test_a_bucket_that_is_not_there(self, s3: S3, tmp_path: Path) -> None:
        store = store_of(s3, tmp_path, "s3://no-such-bucket/x")
        file, digest = file_of(tmp_path)
        with pytest.raises(
            Permanent, match="there is no bucket 'no-such-bucket': create it, or correct storage"
        ):
            store.put(file, "snapshots", digest)

    def test_a_server_that_is_away(self, s3: S3, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
        nobody = Connection(f"http://127.0.0.1:{port}", connect_timeout=1, attempts=1)
        store = ObjectStore(URL, tmp_path / "cache", nobody)
        file, digest = file_of(tmp_path)
        said = set()
        for _ in range(2):
            with pytest.raises(Temporary, match=f"cannot be reached at http://127.0.0.1:{port}") as caught:
                store.put(file, "snapshots", digest)
            said.add(str(caught.value))
        assert len(said) == 1  # a reason that changes by itself would look like news

    def test_a_server_that_never_answers(self, s3: S3, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as silent:
            address = f"http://127.0.0.1:{silent.getsockname()[1]}"
            slow = Connection(address, connect_timeout=1, request_timeout=1, attempts=1)
            with pytest.raises(Temporary, match="cannot be reached"):
                ObjectStore(URL, tmp_path / "cache", slow).fetch(f"{URL}/x", "0" * 64)

    @pytest.mark.parametrize(
        ("allowed", "lacks"),
        [
            (["s3:GetObject", "s3:ListBucket"], "s3:PutObject"),
            (["s3:PutObject"], "s3:GetObject and s3:ListBucket"),
        ],
    )
    def test_a_permission_that_is_missing_is_named(
        self, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: list[str], lacks: str
    ) -> None:
        s3.log_in(monkeypatch, allowed)
        file, digest = file_of(tmp_path)
        with pytest.raises(Permanent, match=f"access denied: allow {lacks}") as caught:
            store_of(s3, tmp_path).put(file, "snapshots", digest)
        assert caught.value.__cause__ is None

    def test_refused_credentials_are_told_without_them(
        self, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s3.log_in(monkeypatch, ["s3:*"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "quite-another-secret")
        findings = dict(store_of(s3, tmp_path).examine())
        said = str(findings["s3:PutObject"])
        assert "the credentials were refused (SIGNATURE_DOES_NOT_MATCH): check the usual AWS cred" in said
        assert "quite-another-secret" not in said

    @pytest.mark.parametrize(
        ("status", "code", "kind", "says"),
        [
            (503, "SlowDown", Temporary, "answered UNKNOWN (HTTP status 503) to HeadObject"),
            (429, "TooManyRequests", Temporary, "HTTP status 429"),
            (502, "", Temporary, "HTTP status 502"),
            (400, "ExpiredToken", Temporary, "the credentials have expired: renew the usual AWS credentials"),
            (403, "ExpiredToken", Temporary, "the credentials have expired"),
            (403, "RequestTimeTooSkewed", Temporary, "REQUEST_TIME_TOO_SKEWED"),
            (403, "InvalidAccessKeyId", Permanent, "the credentials were refused (INVALID_ACCESS_KEY_ID)"),
            (403, "AccessDenied", Permanent, "allow s3:GetObject and s3:ListBucket"),
            (
                400,
                "KMS.DisabledException",
                Permanent,
                "the bucket's key cannot be used: KMS.DisabledException",
            ),
            (301, "PermanentRedirect", Permanent, "in another region: set storage.region"),
            (400, "AuthorizationHeaderMalformed", Permanent, "in another region: set storage.region"),
        ],
    )
    def test_what_a_store_answers(
        self, s3: S3, tmp_path: Path, status: int, code: str, kind: type[AutoRetrainError], says: str
    ) -> None:
        body = (
            f"<Error><Code>{code}</Code><Message>why</Message><RequestId>7</RequestId></Error>"
            if code
            else ""
        )
        with local_server() as other:
            other.answer = lambda asked: Reply(
                status,
                b"" if asked.method == "HEAD" else body.encode(),
                {"Content-Type": "application/xml"},
            )
            store = ObjectStore(URL, tmp_path / "cache", Connection(other.url, attempts=1))
            with pytest.raises(kind, match=re.escape(says)) as caught:
                store.fetch(f"{URL}/x", "0" * 64)
        assert type(caught.value) is kind or kind is Permanent
        assert "Request ID" not in str(caught.value)

    def test_a_key_that_encrypts_the_bucket_and_may_not_be_used(self, tmp_path: Path) -> None:
        said = (
            "User: arn:aws:iam::123456789012:user/trainer is not authorized to perform: kms:GenerateDataKey "
            "on resource: arn:aws:kms:eu-central-1:123456789012:key/1 because no identity-based policy "
            "allows the kms:GenerateDataKey action"
        )
        body = f"<Error><Code>AccessDenied</Code><Message>{said}</Message><RequestId>7</RequestId></Error>"
        with local_server() as other:
            other.answer = lambda asked: Reply(403, body.encode(), {"Content-Type": "application/xml"})
            store = ObjectStore(URL, tmp_path / "cache", Connection(other.url, attempts=1))
            fault = dict(store.examine())["s3:PutObject"]
        assert "allow kms:GenerateDataKey on the key that encrypts the bucket" in str(fault)
        assert "allow s3:PutObject" not in str(fault)

    def test_all_permissions_are_tried_and_nothing_is_left(self, s3: S3, store: ObjectStore) -> None:
        assert set(dict(store.examine()).values()) == {None}
        assert not [key for key in s3.keys() if key.endswith("probe")]  # noqa: SIM118 - no dictionary

    def test_what_each_permission_is_missing_for(
        self, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        s3.log_in(monkeypatch, ["s3:PutObject", "s3:GetObject"])
        found = dict(store_of(s3, tmp_path).examine())
        assert {name for name, fault in found.items() if fault} == {"s3:ListBucket", "s3:DeleteObject"}
        assert "allow s3:ListBucket" in str(found["s3:ListBucket"])


class TestStoredSnapshots(DataSourceContract):
    @pytest.fixture(autouse=True)
    def _server(self, s3: S3) -> None:
        self.s3 = s3

    def make_source(self, folder: Path, rows: Sequence[Row]) -> DataSource:
        columns = {
            "ts": pa.array([r.ts for r in rows], pa.timestamp("us", "UTC")),
            "x": pa.array([r.x for r in rows], pa.float64()),
            "y": pa.array([r.y for r in rows], pa.int64()),
        }
        pq.write_table(pa.table(columns), folder / "rows.parquet")
        table = Table("rows.parquet", time="ts", label="y")
        self.local = DuckdbDataSource({MODEL: table}, folder / "snapshots", base=folder)
        return StoredDataSource(self.local, store_of(self.s3, folder))

    def read(self, snapshot: Snapshot) -> list[Row]:
        if not snapshot.rows:
            return []
        content = self.s3.content(snapshot.uri)
        assert hashlib.sha256(content).hexdigest() == snapshot.sha256
        records = pq.read_table(pa.BufferReader(content)).to_pylist()
        return [Row(record["ts"], record["x"], record.get("y")) for record in records]

    def test_it_differs_from_a_local_one_in_its_address_alone(self, source: DataSource) -> None:
        stored, local = source.snapshot(request(0, 3)), self.local.snapshot(request(0, 3))
        assert stored.uri == f"{URL}/snapshots/{local.sha256}.parquet"
        assert replace(stored, uri=local.uri) == local


def test_rows_and_predictions_are_scored_from_the_store(s3: S3, tmp_path: Path) -> None:
    maker = TestStoredSnapshots()
    maker.s3 = s3
    snapshot = maker.make_source(tmp_path, [row(0, 1.0, 0), row(1, 2.0, 1)]).snapshot(request(0, 3))
    pq.write_table(pa.table({"prediction": [0, 0]}), tmp_path / "answers.parquet")
    digest = hashlib.sha256((tmp_path / "answers.parquet").read_bytes()).hexdigest()
    uri = store_of(s3, tmp_path).put(tmp_path / "answers.parquet", "predictions", digest)
    scorer = StoredScorer(SklearnScorer(), store_of(s3, tmp_path / "another"))
    scores = scorer.score(ScoringTask("classification"), snapshot, Predictions(uri, digest, 2))
    assert scores.candidate["accuracy"] == 0.5
    inspector = StoredInspector(DuckdbInspector(), store_of(s3, tmp_path / "a-third"))
    task = InspectionTask("classification", repeated=True)
    found = inspector.inspect(task, snapshot, snapshot, Predictions(uri, digest, 2))
    assert (found.repeated, found.candidate.high) == (2, 0.0)
