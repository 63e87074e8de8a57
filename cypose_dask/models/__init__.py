"""Name or path in, verified `ModelSpec` out. Nothing here is loaded onto a device."""

from cypose_dask.models.resolve import list_models, resolve_model, resolve_restoration
from cypose_dask.models.spec import ModelSpec

__all__ = ["ModelSpec", "list_models", "resolve_model", "resolve_restoration"]
