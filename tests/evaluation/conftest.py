"""The small store and embeddings that these tests share."""

from store_fixtures import embedding_files, store  # noqa: F401
