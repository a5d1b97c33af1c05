"""The smoke study with its data in an object store: the same tables, and nothing done twice."""

from collections.abc import Iterator

import pytest
from tests.end_to_end.conftest import differing, ran, tables_of
from tests.s3_server import served_bucket

pytestmark = pytest.mark.slow


@pytest.fixture(params=["local", "s3"])
def address(request, tmp_path, monkeypatch) -> Iterator[str]:
    """A folder that is treated as a store; a bucket of moto's S3 server, where it is installed."""
    if request.param == "local":
        yield f"local://{tmp_path}/store/study"
        return
    with served_bucket(monkeypatch) as bucket:
        yield f"{bucket}/smoke"


def test_the_smoke_study_in_a_store(pristine, fresh, address, tmp_path, monkeypatch):
    settings = fresh.folder / "conf" / "smoke" / "globals.yml"
    text = settings.read_text()
    settings.write_text(text.replace("data: data/smoke", f"data: {address}"))
    assert settings.read_text() != text
    protocol, _, rest = address.partition("://")

    def run_with(cache: str) -> tuple[list[str], dict[str, bytes]]:
        monkeypatch.setenv("TEMSHIFT_CACHE", str(tmp_path / cache))
        steps = ran(fresh.run())
        return steps, tables_of(tmp_path / cache / protocol / rest.strip("/"))

    steps, tables = run_with("cache")
    assert steps
    assert not differing(tables, pristine.tables())
    assert not (fresh.folder / "data").exists(), "all of it is in the store"
    assert run_with("cache")[0] == [], "a second run does nothing"
    assert run_with("cache of another machine")[0] == [], "nor on a machine that has no copy"
