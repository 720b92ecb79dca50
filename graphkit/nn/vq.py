"""Vector quantisation, and VQGraph's tokenizer of local structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..errors import ConfigError, GraphError
from ..graph import Adj, Graph, as_graph
from ..ops import NegativeSampler, relu_dropout, spmm
from ..structure.directed import once
from .distill import Divergence, soft_divergence
from .gcn import GCNConv
from .linear import reset
from .sage import SAGEConv
from .sparse import sparse_if_few

Metric = Literal["cosine", "euclidean"]
Recon = Literal["official", "paper"]
_METRICS = ("cosine", "euclidean")
_CONVS = {"gcn": GCNConv, "sage": SAGEConv}
# up to so many nodes the edge term reads every pair
DENSE_NODES = 4096
# and beyond that so many edges, and as many pairs without
EDGE_SAMPLES = 65536


def code_affinity(h: Tensor, codebook: Tensor, metric: Metric = "cosine") -> Tensor:
    """How near each row of ``h [N, D]`` is to each code of ``codebook [K, D]``: ``[N, K]``.

    The cosine, or with ``euclidean`` the distance with a minus.
    """
    if metric == "cosine":
        return functional.normalize(h, dim=1) @ functional.normalize(codebook, dim=1).t()
    return -torch.cdist(h, codebook)


def code_divergence(
    student: Tensor, teacher: Tensor, tau: float = 1.0, divergence: Divergence = "correct"
) -> Tensor:
    r"""How far the student's assignment to codes is from the teacher's.

    :math:`\tau^2 \operatorname{mean}_v \mathrm{KL}(\operatorname{softmax}(a_v / \tau) \,\|\,
    \operatorname{softmax}(a^s_v / \tau))` of affinities ``[N, K]`` (:func:`code_affinity`), or the
    form of the released code (:func:`soft_divergence`). Permuting the codes changes nothing.
    """
    return tau**2 * soft_divergence(student / tau, teacher / tau, 1.0, divergence)


class VectorQuantize(nn.Module):
    r"""The nearest of K learnt codes for each row, `Neural discrete representation learning
    <https://arxiv.org/abs/1711.00937>`_, as VQGraph uses it.

    ``forward(h [N, D])`` returns ``(quantised [N, D], index [N], commit_loss, affinity [N, K])``.
    The index is that of the nearest code, by the cosine or the Euclidean distance; ``quantised`` is
    the stored code, through which gradients pass as if it were ``h``; the commitment loss is
    :math:`\beta \operatorname{mean} (h - \mathrm{sg}(e))^2`. Affinities have no gradient.

    Codes learn by moving averages, in training alone: :math:`e \leftarrow \gamma e + (1 - \gamma)
    m`, with :math:`m` the mean of the rows that chose the code. For the cosine rows are normalised
    before the mean and the mean is after; a code that no row chose drifts towards its own
    direction at unit length. Codes may thus be shorter than 1, and are normalised for the search.

    Args:
        num_codes: K.
        dim: D.
        decay: :math:`\gamma`, in [0, 1].
        commitment: :math:`\beta`, at least 0.
        metric: ``cosine`` or ``euclidean``.
        dead_threshold: codes that in a moving average were chosen by fewer rows become rows drawn
            from torch's global generator; 0 never.

    ``codebook [K, D]`` and ``usage [K]``, the moving average of counts, are buffers. Sums over rows
    go by a graph from rows to codes: the same bits on every run. Memory: N K numbers.

    Raises :class:`ConfigError` for options out of range, :class:`GraphError` for another width.
    """

    def __init__(
        self,
        num_codes: int,
        dim: int,
        decay: float = 0.8,
        commitment: float = 0.25,
        metric: Metric = "cosine",
        dead_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        fits = num_codes >= 1 and dim >= 1 and 0 <= decay <= 1
        if not (fits and commitment >= 0 and dead_threshold >= 0 and metric in _METRICS):
            raise ConfigError(
                f"VectorQuantize: num_codes={num_codes}, dim={dim}, decay={decay}, "
                f"commitment={commitment}, metric={metric!r}, dead_threshold={dead_threshold}; "
                "codes and widths of at least 1, a decay in [0, 1], cosine or euclidean, and at "
                "least 0 for the others are expected."
            )
        self.num_codes, self.dim = num_codes, dim
        self.decay, self.commitment = decay, commitment
        self.metric: Metric = metric
        self.dead_threshold = dead_threshold
        self.register_buffer("codebook", torch.empty(num_codes, dim))
        self.register_buffer("usage", torch.zeros(num_codes))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        codebook = self.get_buffer("codebook")
        nn.init.kaiming_uniform_(codebook)
        if self.metric == "cosine":
            codebook.copy_(functional.normalize(codebook, dim=1))
        self.get_buffer("usage").zero_()

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if h.dim() != 2 or h.size(1) != self.dim:
            raise GraphError(
                f"VectorQuantize: rows have shape {list(h.shape)}, but [N, {self.dim}] is expected."
            )
        codebook = self.get_buffer("codebook")
        affinity = code_affinity(h.detach(), codebook.to(h.dtype), self.metric)
        index = affinity.argmax(dim=1)
        code = codebook[index].to(h.dtype)
        quantised = h + (code - h).detach()
        commit = self.commitment * functional.mse_loss(h, code)
        if self.training:
            self._learn(h.detach(), index)
        return quantised, index, commit, affinity

    @torch.no_grad()
    def _learn(self, h: Tensor, index: Tensor) -> None:
        """Move the codes towards the rows that chose them."""
        codebook, usage = self.get_buffer("codebook"), self.get_buffer("usage")
        rows = (functional.normalize(h, dim=1) if self.metric == "cosine" else h).to(codebook.dtype)
        pairs = torch.stack([torch.arange(len(index), device=index.device), index])
        chosen = Graph.from_edge_index(
            pairs, num_src=len(index), num_dst=self.num_codes, transpose=False
        )
        mean, count = spmm(chosen, rows, reduce="mean"), chosen.in_degree()
        if self.metric == "cosine":
            mean = functional.normalize(torch.where(count[:, None] > 0, mean, codebook), dim=1)
        else:
            mean = torch.where(count[:, None] > 0, mean, codebook)
        codebook.mul_(self.decay).add_(mean, alpha=1 - self.decay)
        usage.mul_(self.decay).add_(count.to(usage.dtype), alpha=1 - self.decay)
        dead = usage < self.dead_threshold
        if self.dead_threshold > 0 and len(rows) and bool(dead.any()):
            drawn = torch.randint(len(rows), (int(dead.sum()),)).to(rows.device)
            codebook[dead] = rows[drawn]
            usage[dead] = self.dead_threshold

    def extra_repr(self) -> str:
        return f"num_codes={self.num_codes}, dim={self.dim}, metric={self.metric}"


@dataclass(frozen=True)
class CodeUsage:
    """How many of the codes are in use: ``counts [K]`` of rows.

    ``share`` is that of codes with a row, ``perplexity`` the exponential of the entropy of the
    counts: as many codes, used evenly, would be as hard to guess.
    """

    counts: Tensor
    share: float
    perplexity: float


def code_usage(index: Tensor, num_codes: int) -> CodeUsage:
    """The usage of ``num_codes`` codes by rows that chose ``index [N]``."""
    counts = torch.bincount(index, minlength=num_codes)
    p = counts.double() / max(1, len(index))
    perplexity = torch.special.xlogy(p, p).sum().neg().exp().item()
    return CodeUsage(counts, (counts > 0).double().mean().item(), perplexity)


class Tokens(NamedTuple):
    """What :meth:`GraphTokenizer.tokens` finds out: for N nodes, K codes of width D."""

    logits: Tensor
    h: Tensor
    index: Tensor
    affinity: Tensor
    commit: Tensor
    edge: Tensor
    node: Tensor


class GraphTokenizer(nn.Module):
    r"""VQGraph's teacher, `VQGraph: rethinking graph representation space for bridging GNNs and
    MLPs <https://arxiv.org/abs/2308.02117>`_: a code for the local structure of every node.

    .. math::
        h = \mathrm{Drop}(\mathrm{ReLU}(\mathrm{conv}_1(x))), \quad q = \mathrm{VQ}(h), \quad
        \hat e = W_e q + b_e, \quad \hat n = W_n q + b_n

        \mathrm{logits} = W\, \mathrm{ReLU}(\mathrm{conv}_2(\hat e)) + b

    Beside the cross-entropy it is trained on :meth:`auxiliary`: the commitment, and the edges and
    features that codes are to bring back. With ``recon="official"``, what the released code does,
    these are :math:`\lambda_n\, \mathrm{MSE}(h, \hat n)` and :math:`\lambda_e \sqrt{\mathrm{MSE}(A,
    \hat A)}` with :math:`\hat A` the products :math:`\hat e_u \cdot \hat e_v` scaled to [0, 1] by
    their extremes; with ``recon="paper"`` they are :math:`\lambda_n \operatorname{mean} (1 -
    \cos(x, \hat n))^2` and :math:`\lambda_e\, \mathrm{MSE}(A, \sigma(\hat e \hat e^\top))`.

    Args:
        in_channels, hidden_channels, out_channels: widths of x, of conv_2, of the classes.
        num_codes: K.
        code_channels: D; as wide as x if not given, as in the released code.
        conv: ``gcn`` or ``sage``. What the released code calls SAGE are GCN's convolutions.
        dropout: behind conv_1, and on what the classifier reads.
        lambda_node, lambda_edge: the weights above.
        recon: ``official`` or ``paper``.
        edge_samples: the edge term reads so many edges, drawn anew each time, and as many pairs
            without an edge, which weigh the same; 0 reads all N x N pairs. Not given, that is so
            up to 4,096 nodes, and 65,536 edges are drawn beyond.
        decay, commitment, dead_threshold: of :class:`VectorQuantize`.

    ``forward(x [N, F], edge_index)`` returns logits ``[N, C]``. Where all products are equal,
    :math:`\hat A` is 0 instead of NaN. Drawn edges and pairs come from torch's global generator.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        num_codes: int = 5000,
        code_channels: int | None = None,
        conv: Literal["gcn", "sage"] = "gcn",
        dropout: float = 0.5,
        lambda_node: float = 1e-3,
        lambda_edge: float = 3e-2,
        recon: Recon = "official",
        edge_samples: int | None = None,
        decay: float = 0.8,
        commitment: float = 0.25,
        dead_threshold: float = 0.0,
    ) -> None:
        super().__init__()
        if conv not in _CONVS or recon not in ("official", "paper"):
            raise ConfigError(
                f"GraphTokenizer: conv={conv!r} and recon={recon!r}, but gcn or sage, and official "
                "or paper are expected."
            )
        width = in_channels if code_channels is None else code_channels
        self.first = _CONVS[conv](in_channels, width)
        self.quantize = VectorQuantize(
            num_codes, width, decay, commitment, dead_threshold=dead_threshold
        )
        self.edge_decoder = nn.Linear(width, width)
        self.node_decoder = nn.Linear(width, in_channels if recon == "paper" else width)
        self.second = _CONVS[conv](width, hidden_channels)
        self.classifier = nn.Linear(hidden_channels, out_channels)
        self.dropout, self.edge_samples = dropout, edge_samples
        self.recon: Recon = recon
        self.lambda_node, self.lambda_edge = lambda_node, lambda_edge

    def reset_parameters(self) -> None:
        for module in self.children():
            reset(module)

    def forward(self, x: Tensor, edge_index: Adj) -> Tensor:
        return self.tokens(x, edge_index).logits

    def tokens(self, x: Tensor, edge_index: Adj) -> Tokens:
        """Logits, codes and what the decoders make of them; moves the codes in training."""
        graph = as_graph(edge_index, x.size(0), x.size(0))
        first = sparse_if_few(x) if isinstance(self.first, GCNConv) else x
        h = relu_dropout(self.first(first, graph), self.dropout, self.training)
        code, index, commit, affinity = self.quantize(h)
        edge = self.edge_decoder(code)
        top = relu_dropout(self.second(edge, graph), self.dropout, self.training)
        logits = self.classifier(top)
        return Tokens(logits, h, index, affinity, commit, edge, self.node_decoder(code))

    def auxiliary(self, tokens: Tokens, x: Tensor, graph: Graph) -> Tensor:
        """What is added to the cross-entropy of the training nodes."""
        if self.recon == "paper":
            cosine = functional.cosine_similarity(x, tokens.node, dim=1)
            node = (1 - cosine).square().mean()
        else:
            node = functional.mse_loss(tokens.node, tokens.h)
        edge = edge_error(tokens.edge, graph, self.recon, self.edge_samples)
        return self.lambda_node * node + self.lambda_edge * edge + tokens.commit


def edge_error(
    edge: Tensor,
    graph: Graph,
    recon: Recon = "official",
    edge_samples: int | None = None,
) -> Tensor:
    """How badly products of rows of ``edge [N, D]`` tell edges: as :class:`GraphTokenizer` says."""
    if edge_samples is None:
        edge_samples = 0 if graph.num_dst <= DENSE_NODES else EDGE_SAMPLES
    if edge_samples == 0:
        score, known = edge @ edge.t(), edge.new_zeros(graph.num_dst, graph.num_src)
        src, dst = graph.edge_index()
        known[dst, src] = 1.0
    else:
        score, known = _sampled(edge, graph, edge_samples)
    if score.numel() == 0:
        return edge.sum() * 0
    if recon == "paper":
        return functional.mse_loss(score.sigmoid(), known)
    low, high = torch.aminmax(score)
    span = high - low
    scaled = (score - low) / torch.where(span > 0, span, 1.0)
    # the root has no gradient at 0
    return (functional.mse_loss(scaled, known) + torch.finfo(edge.dtype).tiny).sqrt()


def _sampled(edge: Tensor, graph: Graph, count: int) -> tuple[Tensor, Tensor]:
    """Products of the ends of drawn edges, then of pairs that are none; and 1 and 0 for these."""
    count = min(count, graph.num_edges)
    if count == 0:
        return edge.new_empty(0), edge.new_empty(0)
    sampler = once(graph, "negatives", lambda: NegativeSampler(graph))
    some = torch.randint(graph.num_edges, (count,)).to(edge.device)
    seed = int(torch.randint(2**31, ()))
    pairs = torch.cat([graph.edge_index()[:, some], sampler(count, (seed, 0, 0))], dim=1)
    score = (edge[pairs[0]] * edge[pairs[1]]).sum(dim=1)
    return score, (torch.arange(2 * count, device=edge.device) < count).to(edge.dtype)
