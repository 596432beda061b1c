"""Get-or-load, in memory or in Redis: `cache = Cache("stock", open_store(url, telemetry), telemetry, ttl_s=5)`."""

from observability.cache.cache import Cache, Cached
from observability.cache.flights import LoadCancelledError
from observability.cache.opening import open_store
from observability.cache.store import Store

__all__ = ["Cache", "Cached", "LoadCancelledError", "Store", "open_store"]
