"""Published data sets in their official layout; each reader gives what a manifest would."""

from cdjax.data.published.collect import Collected, collect, manual_download
from cdjax.data.published.datasets import DATASETS

__all__ = ["DATASETS", "Collected", "collect", "manual_download"]
