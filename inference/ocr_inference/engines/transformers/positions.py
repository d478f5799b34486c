"""Positions of models whose pictures take fewer of them than tokens (M-RoPE), as the model itself remembers them."""

from typing import Any

from transformers import PreTrainedModel


def shifts(model: PreTrainedModel, rows: int) -> list[int]:
    """Return the offset of each row that was read in last; a model without any has 0."""
    owner = _owner(model)
    if owner is None or owner.rope_deltas is None:
        return [0] * rows
    return [int(each) for each in owner.rope_deltas.reshape(-1).tolist()]


def forget(model: PreTrainedModel) -> None:
    """Reset it: a page without a picture would get the shift of the page before it."""
    if (owner := _owner(model)) is not None:
        owner.rope_deltas = None


def _owner(model: PreTrainedModel) -> Any:
    """Return the module that remembers, from prefill to decoding, the offset of positions to the cache."""
    for module in (model.base_model, model):
        if hasattr(module, "rope_deltas"):
            return module
    return None
