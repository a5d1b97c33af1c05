"""An S3 server on this machine, where moto is installed (docs/scale.md says how)."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest


@contextmanager
def served_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the address of an empty bucket; this process and its children reach it."""
    why = "needs s3fs and moto[server], which are not in the lock file (docs/scale.md)"
    s3fs = pytest.importorskip("s3fs", reason=why)
    server = pytest.importorskip("moto.server", reason=why)
    moto = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        for key, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ACCESS_KEY_ID": "testing",
            "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(key, value)
        store = s3fs.S3FileSystem(skip_instance_cache=True)
        if store.exists("study"):  # moto keeps its buckets as long as the process lives
            store.rm("study", recursive=True)  # the bucket too
        store.mkdir("study")
        yield "s3://study"
    finally:
        moto.stop()
