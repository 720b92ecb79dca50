"""Between graphkit and others: formats read and written without loss, and PyG's explainers."""

from __future__ import annotations

from ..errors import need

need("torch_geometric")

from .attributed import MISSING, Attributed, EdgeType, Hetero  # noqa: E402
from .data import (  # noqa: E402
    from_data,
    from_hypergraph_data,
    to_data,
    to_hypergraph_data,
)
from .dgl_graphs import from_dgl, to_dgl  # noqa: E402
from .edges import (  # noqa: E402
    from_edge_index,
    from_pyg_edge_index,
    to_edge_index,
    to_pyg_edge_index,
)
from .explain import MessagePassingLayer, as_message_passing  # noqa: E402
from .hetero import from_hetero_data, to_hetero_data  # noqa: E402
from .networks import from_networkx, to_networkx  # noqa: E402
from .pyg_functions import PygFunctions, use_in_pyg  # noqa: E402
from .sparse import (  # noqa: E402
    from_scipy,
    from_sparse_tensor,
    from_torch_sparse,
    to_scipy,
    to_sparse_tensor,
    to_torch_sparse,
)
from .tables import from_pandas, to_pandas  # noqa: E402

__all__ = [
    "Attributed",
    "EdgeType",
    "Hetero",
    "MISSING",
    "MessagePassingLayer",
    "PygFunctions",
    "as_message_passing",
    "from_data",
    "from_dgl",
    "from_edge_index",
    "from_hetero_data",
    "from_hypergraph_data",
    "from_networkx",
    "from_pandas",
    "from_pyg_edge_index",
    "from_scipy",
    "from_sparse_tensor",
    "from_torch_sparse",
    "to_data",
    "to_dgl",
    "to_edge_index",
    "to_hetero_data",
    "to_hypergraph_data",
    "to_networkx",
    "to_pandas",
    "to_pyg_edge_index",
    "to_scipy",
    "to_sparse_tensor",
    "to_torch_sparse",
    "use_in_pyg",
]
