import pytest
from store_helpers import smear, write


@pytest.fixture
def path(tmp_path):
    """A small store with empty and unreadable images, in several shards."""
    return write(tmp_path / "store", smear())
