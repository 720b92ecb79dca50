"""Between graphkit and PyG. (opt: torch_geometric)"""

from __future__ import annotations

import copy
import inspect
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError, need

need("torch_geometric")

from torch_geometric.nn import MessagePassing  # noqa: E402

__all__ = ["MessagePassingLayer", "as_message_passing"]


class MessagePassingLayer(MessagePassing):
    """A graphkit layer that PyG recognises as message passing; made by :func:`as_message_passing`.

    Called exactly like the layer it holds. While PyG explains a model, the explainer's edge mask
    multiplies the layer's messages.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.in_channels = getattr(layer, "in_channels", None)
        self.out_channels = getattr(layer, "out_channels", None)

    def reset_parameters(self) -> None:
        self.layer.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, x: Any, edge_index: Any, *args: Any, **kwargs: Any) -> Any:
        if self.explain:
            kwargs["edge_mask"] = self._explainer_mask()
        return self.layer(x, edge_index, *args, **kwargs)

    def _explainer_mask(self) -> Tensor:
        mask = self._edge_mask
        if mask is None:
            raise ConfigError(
                "This layer is in PyG's explain mode without an edge mask. "
                "Run it through torch_geometric.explain.Explainer."
            )
        return mask.sigmoid() if self._apply_sigmoid else mask

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.layer!r})"


def as_message_passing(module: nn.Module) -> nn.Module:
    """``module`` for the parts of PyG that look for ``MessagePassing``: explainers, ``to_hetero``.

    A layer comes back wrapped. A model comes back as a copy in which every graphkit layer is
    wrapped; it shares its parameters with the original, which stays as it was. Unwrapped layers
    have no place for PyG's edge masks: its explainers then stop for want of a gradient.

    Raises :class:`ConfigError` if there is nothing to wrap.
    """
    if isinstance(module, MessagePassingLayer):
        return module
    if _takes_edge_mask(module):
        return MessagePassingLayer(module)
    shared = {id(t): t for t in (*module.parameters(), *module.buffers())}
    module = copy.deepcopy(module, shared)
    wrapped = 0
    for parent in list(module.modules()):
        if isinstance(parent, MessagePassingLayer):
            continue
        for name, child in list(parent.named_children()):
            if _takes_edge_mask(child):
                setattr(parent, name, MessagePassingLayer(child))
                wrapped += 1
    if wrapped == 0:
        raise ConfigError(
            f"as_message_passing: {type(module).__name__} holds no layer whose forward takes "
            "edge_mask. Give your own layer that keyword and multiply its messages by it."
        )
    return module


def _takes_edge_mask(module: nn.Module) -> bool:
    return "edge_mask" in inspect.signature(module.forward).parameters
