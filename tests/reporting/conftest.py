import pytest
from tests import synthetic_study as synthetic


@pytest.fixture(scope="session")
def content():
    """A report's content made once from the published pattern."""
    return synthetic.report_content()
