"""What a student learns from a teacher's outputs: soft labels, codes, reliable hyperedges."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import ConfigError, GraphError
from ..graph import Graph
from ..ops import spmm

Divergence = Literal["correct", "official"]
"""The form of the divergence; what ``official`` stands for, :func:`soft_divergence` says."""

_DIVERGENCES = ("correct", "official")


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    y: Tensor,
    train_mask: Tensor,
    lam: float = 0.0,
    tau: float = 1.0,
    divergence: Divergence = "correct",
    beyond: Tensor | None = None,
) -> Tensor:
    r"""The loss of `GLNN <https://arxiv.org/abs/2110.08727>`_ and `LightHGNN
    <https://arxiv.org/abs/2402.04296>`_: labels where they are known, the teacher everywhere.

    .. math::
        \lambda \operatorname*{mean}_{v \in \text{train}} \mathrm{CE}(s_v, y_v)
        + (1 - \lambda) (L_\text{soft} + L_\text{beyond})

    with :math:`L_\text{soft}` the :func:`soft_divergence` over all rows, and
    :math:`L_\text{beyond}` what a method adds, such as :func:`hyperedge_divergence` of LightHGNN+.

    Shapes: logits ``student [N, C]`` and ``teacher [N, C]`` of the nodes that are seen, classes
    ``y [N]``, bool ``train_mask [N]``. No gradient goes to the teacher. Without training rows the
    first term is 0.

    Raises :class:`GraphError` for logits of two shapes or labels that do not fit them, and
    :class:`ConfigError` for ``lam`` outside [0, 1], ``tau`` not above 0, an unknown divergence.
    """
    _check_share(lam)
    soft = soft_divergence(student, teacher, tau, divergence)
    soft = soft if beyond is None else soft + beyond
    if lam == 0:
        return soft
    if y.shape != student.shape[:1] or train_mask.shape != y.shape:
        raise GraphError(
            f"distillation_loss: y has shape {list(y.shape)} and train_mask "
            f"{list(train_mask.shape)}, but [{len(student)}] is expected, a place for each row of "
            "the logits."
        )
    hard = functional.cross_entropy(student[train_mask], y[train_mask], reduction="sum")
    return lam * hard / train_mask.sum().clamp(min=1) + (1 - lam) * soft


def soft_divergence(
    student: Tensor, teacher: Tensor, tau: float = 1.0, divergence: Divergence = "correct"
) -> Tensor:
    r"""The mean divergence of the student's distributions from the teacher's.

    .. math::
        \frac{\tau^2}{N} \sum_v \mathrm{KL}(\operatorname{softmax}(t_v / \tau) \,\|\,
        \operatorname{softmax}(s_v / \tau))

    It is 0 exactly where both say the same. ``official`` is what the released code of LightHGNN
    and VQGraph minimises, :math:`\sum_c e^{p_c} (p_c - \log q_c)` with :math:`p` and :math:`q` the
    probabilities over :math:`\tau`: it hands probabilities to a function that expects their
    logarithms, is least at :math:`q = \operatorname{softmax}(p)`, and never 0. It is here for
    comparison with published figures.

    Shapes: logits ``[N, C]``; returns a number, 0 for no rows. No gradient goes to the teacher.
    """
    _check_pair("soft_divergence", student, teacher)
    _check_form(tau, divergence)
    s, t = _float(student), _float(teacher.detach())
    if divergence == "official":
        return _divergence_of(s.softmax(dim=1), t.softmax(dim=1), tau, divergence)
    log_q, log_p = (s / tau).log_softmax(dim=1), (t / tau).log_softmax(dim=1)
    each = (log_p.exp() * (log_p - log_q)).sum(dim=1)
    return tau**2 * each.sum() / max(1, len(each))


def hyperedge_divergence(
    student: Tensor,
    teacher: Tensor,
    hypergraph: Graph,
    chosen: Tensor,
    tau: float = 1.0,
    divergence: Divergence = "correct",
) -> Tensor:
    r"""What LightHGNN+ adds: the divergence of what hyperedges say, over those ``chosen``.

    A hyperedge says the mean of its members' distributions, :math:`q_e = \operatorname{mean}_{v
    \in e} \operatorname{softmax}(s_v / \tau)`. The temperature divides logits, and the mean is
    scaled by :math:`\tau^2`; for :math:`\tau = 1` this is the paper's form. ``official`` divides
    the means by it, as its code does.

    Shapes: logits ``[N, C]``, ``hypergraph`` from M hyperedges (sources) to N nodes, ``chosen
    [M]`` bool, such as :func:`sample_hyperedges` draws; returns a number, 0 where no hyperedge with
    a member is chosen.
    """
    _check_pair("hyperedge_divergence", student, teacher)
    _check_form(tau, divergence)
    if student.size(0) != hypergraph.num_dst or chosen.shape != (hypergraph.num_src,):
        raise GraphError(
            f"hyperedge_divergence: {len(student)} rows of logits and chosen {list(chosen.shape)} "
            f"for a hypergraph of {hypergraph.num_dst} nodes and {hypergraph.num_src} hyperedges. "
            "Give a row for each node, and bool [M]."
        )
    at = 1.0 if divergence == "official" else tau
    members, rows = hypergraph.t(), chosen & (hypergraph.out_degree() > 0)
    q, p = (
        spmm(members, (_float(logits) / at).softmax(dim=1), reduce="mean")[rows]
        for logits in (student, teacher.detach())
    )
    return _divergence_of(q, p, tau, divergence)


@torch.no_grad()
def hyperedge_reliability(
    teacher: Callable[[Tensor, Graph], Tensor],
    x: Tensor,
    hypergraph: Graph,
    generator: torch.Generator | None = None,
    noise: float = 1.0,
    draws: int = 1,
) -> Tensor:
    r"""How little a hyperedge's prediction wavers when features do: a number in [0, 1] for each.

    With :math:`\eta_e` the mean entropy of the teacher's predictions for the members of :math:`e`,
    and :math:`\eta'_e` the same for features :math:`x (1 + \sigma \epsilon)`, :math:`\epsilon \sim
    N(0, 1)`:

    .. math::
        \rho_e = 1 - \delta_e / \max_e \delta_e, \qquad \delta_e = | \eta'_e - \eta_e |

    The least reliable hyperedge has 0. Where nothing wavers, and without noise, all have 1.

    Args:
        teacher: the model, called as ``teacher(x, hypergraph)`` for logits ``[N, C]``; in
            evaluation mode.
        noise: :math:`\sigma`; the released code multiplies the noisy features by it instead.
        draws: of the noise, over which the entropies are averaged. The paper writes an expectation,
            its code draws once.

    Shapes: ``x [N, F]``, ``hypergraph`` from M hyperedges to N nodes; returns ``[M]`` in float32
    (float64 for float64). Empty hyperedges have 1, and say nothing. The released code drops a
    node's entropy where one of its probabilities is 0; here 0 log 0 is 0.

    Raises :class:`GraphError` if the teacher's logits do not have a row for each node,
    :class:`ConfigError` for a noise below 0 or no draw.
    """
    if not 0 <= noise < float("inf") or draws < 1:
        raise ConfigError(
            f"hyperedge_reliability: noise={noise} and draws={draws}, but at least 0 and at least "
            "1 are expected."
        )
    plain = hyperedge_entropy(teacher(x, hypergraph), hypergraph)
    shaken = torch.zeros_like(plain)
    for _ in range(draws):
        # drawn on the CPU: the same numbers on every device
        epsilon = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        shaken += hyperedge_entropy(teacher(x * (1 + noise * epsilon), hypergraph), hypergraph)
    delta = (shaken / draws - plain).abs()
    most = delta.max() if len(delta) else delta.sum()
    return torch.where(most > 0, 1 - delta / torch.where(most > 0, most, 1.0), 1.0)


def hyperedge_entropy(logits: Tensor, hypergraph: Graph) -> Tensor:
    """The mean entropy in nats of the predictions ``logits [N, C]`` in each hyperedge, ``[M]``."""
    if logits.dim() != 2 or logits.size(0) != hypergraph.num_dst:
        raise GraphError(
            f"The teacher's logits have shape {list(logits.shape)}, but [{hypergraph.num_dst}, C] "
            "is expected, a row for each node."
        )
    p = _float(logits).softmax(dim=1)
    entropy = -torch.special.xlogy(p, p).sum(dim=1, keepdim=True)
    return spmm(hypergraph.t(), entropy, reduce="mean").squeeze(1)


def sample_hyperedges(reliability: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bool ``[M]``: each hyperedge with the chance ``reliability [M]``, by draws on the CPU."""
    draw = torch.rand(len(reliability), generator=generator)
    return draw.to(reliability.device) < reliability


def _divergence_of(q: Tensor, p: Tensor, tau: float, divergence: Divergence) -> Tensor:
    """The mean divergence of distributions ``q [n, C]`` from ``p [n, C]``; 0 for no rows."""
    log_q = q.clamp(min=torch.finfo(q.dtype).tiny).log()
    if divergence == "official":
        each = ((p / tau).exp() * (p / tau - log_q + math.log(tau))).sum(dim=1)
        return each.sum() / max(1, len(each))
    each = (torch.special.xlogy(p, p) - p * log_q).sum(dim=1)
    return tau**2 * each.sum() / max(1, len(each))


def _float(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _check_pair(name: str, student: Tensor, teacher: Tensor) -> None:
    if student.dim() != 2 or student.shape != teacher.shape:
        raise GraphError(
            f"{name}: the student's logits have shape {list(student.shape)} and the teacher's "
            f"{list(teacher.shape)}, but both must be [N, C]. Give those of the same nodes and "
            "classes."
        )


def _check_share(lam: float) -> None:
    if not 0 <= lam <= 1:
        raise ConfigError(f"lam is {lam}, but a number from 0 to 1 is expected.")


def _check_form(tau: float, divergence: str) -> None:
    if not 0 < tau < float("inf"):
        raise ConfigError(f"tau is {tau}, but a number above 0 is expected.")
    if divergence not in _DIVERGENCES:
        raise ConfigError(
            f"divergence is {divergence!r}, but {' or '.join(_DIVERGENCES)} is expected."
        )
