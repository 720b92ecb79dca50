from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch_geometric.data import Data

from graphkit.errors import ConfigError
from graphkit.recipes import node
from graphkit.recipes.task import Task, class_names, loss_of, task_of, two_classes

NAN = float("nan")


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (torch.tensor([0, 2, 1]), Task("classes", 3, "accuracy")),
        (torch.tensor([0.0, 1.0, NAN]), Task("labels", 1, "rocauc")),
        (torch.tensor([[0, 1], [1, 1]]), Task("labels", 2, "rocauc")),
        (torch.tensor([[0.5, 1], [NAN, 1]]), Task("values", 2, "mae")),
    ],
)
def test_labels_say_what_they_are(y: torch.Tensor, expected: Task) -> None:
    assert task_of(y, None) == expected


def test_class_names_are_texts_for_every_class() -> None:
    assert class_names(["a", "b"], 2) == ["a", "b"] and class_names(["a", "b"], 1) == ["a", "b"]
    for names in (None, [], ["a"], ["a", 1], "ab", {"a": 1, "b": 2}):
        assert class_names(names, 2) is None


def test_metrics_that_fit_and_those_that_do_not() -> None:
    y = torch.tensor([0, 1])
    assert task_of(y, "rocauc", 5) == Task("classes", 5, "rocauc")
    assert task_of(torch.tensor([0.0, 1.0]), "rmse").kind == "values"
    assert not task_of(torch.tensor([0.0, 1.0]), "rmse").higher and task_of(y, None).higher
    with pytest.raises(ConfigError, match="metric is 'mae', but the labels are classes: accuracy"):
        task_of(y, "mae")
    with pytest.raises(ConfigError, match="metric is 'accuracy', but the labels are values"):
        task_of(torch.tensor([0.5]), "accuracy")
    with pytest.raises(ConfigError, match="Unknown metric 'auc'"):
        task_of(y, "auc")


def test_balanced_losses_weigh_classes_by_how_rare_they_are() -> None:
    y = torch.tensor([0, 0, 0, 1, 0, 2, 0, 1])
    out, task = torch.randn(8, 3), Task("classes", 3, "accuracy")
    loss = loss_of(task, "balanced", y, 0.999, 1.5)(out, y)
    each = F.cross_entropy(out, y, reduction="none")
    # every class has the same part in the mean
    expected = torch.stack([each[y == c].mean() for c in range(3)]).mean()
    torch.testing.assert_close(loss, expected)
    assert torch.equal(loss_of(task, "plain", y, 0.999, 1.5)(out, y), F.cross_entropy(out, y))
    labels = (torch.rand(40, 2) < torch.tensor([0.2, 0.9])).float()
    labels[3] = NAN
    out = torch.randn(40, 2)
    loss = loss_of(Task("labels", 2, "ap"), "balanced", labels, 0.0, 0.0)(out, labels)
    known = ~labels[:, 0].isnan()
    parts = []
    for z, t in zip(out[known].t(), labels[known].t(), strict=True):
        each = F.binary_cross_entropy_with_logits(z, t, reduction="none")
        parts.append((each[t == 1] * ((t == 0).sum() / (t == 1).sum())).sum() + each[t == 0].sum())
    torch.testing.assert_close(loss, torch.stack(parts).sum() / (2 * known.sum()))


def test_a_class_that_training_lacks_has_a_finite_loss() -> None:
    y, task = torch.zeros(4, dtype=torch.int64), Task("classes", 2, "f1")
    for kind in ("balanced", "focal"):
        assert loss_of(task, kind, y, 0.999, 1.5)(torch.randn(4, 2), 1 - y).isfinite()


def test_losses_for_other_tasks_are_refused() -> None:
    values, labels = Task("values", 1, "mae"), Task("labels", 1, "rocauc")
    with pytest.raises(ConfigError, match="loss is .balanced., .* are values: plain is"):
        loss_of(values, "balanced", torch.rand(3), 0.9, 1.0)
    with pytest.raises(ConfigError, match="loss is .focal., .* are labels: plain or bal"):
        loss_of(labels, "focal", torch.ones(3), 0.9, 1.0)


def test_a_label_alone_is_two_classes() -> None:
    y, z = torch.tensor([[1.0], [NAN], [0.0]]), torch.tensor([[2.0], [3.0], [-1.0]])
    pair = two_classes(Task("labels", 1, "rocauc"), z, y)
    assert pair is not None and pair[0].tolist() == [[0, 2], [0, -1]] and pair[1].tolist() == [1, 0]
    out = torch.randn(3, 2)
    pair = two_classes(Task("classes", 2, "f1"), out, torch.tensor([1, -1, 0]))
    assert pair is not None and torch.equal(pair[0], out[[0, 2]]) and pair[1].tolist() == [1, 0]
    assert two_classes(Task("classes", 3, "f1"), out, torch.tensor([1, 0, 0])) is None
    assert two_classes(Task("labels", 2, "ap"), out, torch.ones(3, 2)) is None


def test_losses_are_means_over_what_is_known() -> None:
    out = torch.randn(6, 3, requires_grad=True)
    y = torch.tensor([0, 2, 1, 1, 0, 2])
    assert torch.equal(Task("classes", 3, "accuracy").loss(out, y), F.cross_entropy(out, y))
    labels = torch.randint(0, 2, (6, 3)).float()
    labels[0, 1] = labels[3] = NAN
    known = ~labels.isnan()
    loss = Task("labels", 3, "rocauc").loss(out, labels)
    expected = F.binary_cross_entropy_with_logits(out[known], labels[known])
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        Task("values", 3, "mae").loss(out, labels), F.mse_loss(out[known], labels[known])
    )
    loss.backward()
    assert out.grad is not None and (out.grad[3] == 0).all() and out.grad.isfinite().all()


@pytest.mark.parametrize(
    ("kind", "metric"), [("labels", "ap"), ("labels", "f1"), ("values", "rmse")]
)
def test_nodes_with_other_tasks_train(own: Data, kind: str, metric: str) -> None:
    own.y = F.one_hot(own.y, 3).float() if kind == "labels" else own.y.float() * 2.5
    record = node(data=own, metric=metric, epochs=60, hidden=16, quiet=True, out="run")
    assert record.metric == metric
    score = record.test_mean
    assert score > 0.8 if kind == "labels" else score < 1.5
