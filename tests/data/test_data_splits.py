from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from graphkit.data import balanced_split, per_class_split, random_split
from graphkit.errors import ConfigError, DataError

# the first call of a torch function may take longer than hypothesis allows
pace = settings(deadline=None, max_examples=50)


@st.composite
def labels(draw: st.DrawFn) -> torch.Tensor:
    """At least five nodes of each of up to five classes, some unlabelled, in any order."""
    count = draw(st.lists(st.integers(5, 12), min_size=1, max_size=5))
    values = [c for c, n in enumerate(count) for _ in range(n)] + [-1] * draw(st.integers(0, 5))
    return torch.tensor(draw(st.permutations(values)))


@pace
@given(labels(), st.integers(1, 3), st.integers(0, 2**63 - 1))
def test_per_class_split_is_a_partition_of_the_labelled_nodes(y, per_class, seed):
    masks = per_class_split(y, train_per_class=per_class, num_val=1, seed=seed)
    train, val, test = masks
    assert all(m.dtype == torch.bool and m.shape == y.shape for m in masks)
    assert torch.equal(train.long() + val.long() + test.long(), (y >= 0).long())
    assert torch.bincount(y[train]).tolist() == [per_class] * (int(y.max()) + 1)
    assert int(val.sum()) == 1


@pace
@given(
    st.integers(10, 200),
    st.sampled_from([(0.6, 0.2, 0.2), (0.48, 0.32, 0.2), (0.1, 0.1, 0.1), (1 / 3, 1 / 3, 1 / 3)]),
    st.integers(0, 1000),
)
def test_random_split_sizes_are_within_one_of_the_fractions(num_nodes, fractions, seed):
    masks = random_split(num_nodes, fractions=fractions, seed=seed)
    total = sum(m.long() for m in masks)
    assert int(total.max()) == 1
    for mask, fraction in zip(masks, fractions, strict=True):
        assert abs(int(mask.sum()) - fraction * num_nodes) <= 1
    if sum(fractions) > 0.99:
        assert int(total.min()) == 1


@pace
@given(labels(), st.integers(0, 1000))
def test_same_seed_same_bits_and_global_state_untouched(y, seed):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    first = per_class_split(y, train_per_class=2, num_val=1, seed=seed)
    third = random_split(y, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    second = per_class_split(y, train_per_class=2, num_val=1, seed=seed)
    fourth = random_split(y, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(first + third, second + fourth, strict=True))


def test_split_bits_are_pinned():
    y = torch.arange(3).repeat(4)
    train, val, test = per_class_split(y, train_per_class=1, num_val=2, seed=7)
    pinned = [m.nonzero().view(-1).tolist() for m in (train, val, test)]
    assert pinned == [[3, 4, 5], [0, 7], [1, 2, 6, 8, 9, 10, 11]]


def test_another_seed_gives_another_split():
    y = torch.arange(2).repeat(50)
    splits = [per_class_split(y, train_per_class=10, num_val=20, seed=s)[0] for s in (0, 1)]
    assert not torch.equal(*splits)


def test_random_split_leaves_unlabelled_nodes_out():
    y = torch.tensor([0, -1, 1, 0, -1, 1, 0, 1])
    total = sum(m.long() for m in random_split(y, seed=0))
    assert torch.equal(total, (y >= 0).long())


def test_a_class_too_small_is_named_with_its_count():
    y = torch.tensor([0, 0, 0, 1, 2, 2, 2, 4, 4, 4])
    with pytest.raises(DataError, match="needs 2 training nodes.*class 1 has 1, class 3 has 0"):
        per_class_split(y, train_per_class=2, num_val=1, seed=0)


def test_nothing_left_for_the_test_part():
    with pytest.raises(DataError, match="4 labelled nodes remain after 2 training nodes, so 4"):
        per_class_split(torch.tensor([0, 1] * 3), train_per_class=1, num_val=4, seed=0)


def test_no_labels():
    with pytest.raises(DataError, match="no node has a label"):
        per_class_split(torch.full((5,), -1), train_per_class=1, num_val=1, seed=0)


@pytest.mark.parametrize("y", [torch.zeros(4), torch.zeros(4, 1, dtype=torch.int64)])
def test_labels_of_wrong_kind(y):
    with pytest.raises(DataError, match="y must be int64 of shape"):
        per_class_split(y, train_per_class=1, num_val=1, seed=0)


@pytest.mark.parametrize(
    "fractions", [(0.5, 0.5), (0.6, 0.3, 0.2), (0.5, 0.5, 0.0), (0.5, 0.2, -1)]
)
def test_fractions_out_of_range(fractions):
    with pytest.raises(ConfigError, match="fractions must be three numbers"):
        random_split(10, fractions=fractions, seed=0)


@pytest.mark.parametrize("size", [0, 2, -3])
def test_parts_that_would_be_empty(size):
    with pytest.raises(DataError, match=f"{max(size, 0)} labelled nodes split by"):
        random_split(size, seed=0)


def test_sizes_and_seeds_out_of_range():
    with pytest.raises(ConfigError, match="at least 1, got 0 and 5"):
        per_class_split(torch.zeros(9, dtype=torch.int64), train_per_class=0, num_val=5, seed=0)
    with pytest.raises(ConfigError, match="seed must lie in .* got -1"):
        random_split(9, seed=-1)


@pace
@given(labels(), st.sampled_from([(0.6, 0.2, 0.2), (1 / 3, 1 / 3, 1 / 3)]), st.integers(0, 99))
def test_stratified_parts_have_the_sizes_of_others_and_the_classes_in_proportion(
    y, fractions, seed
):
    masks = random_split(y, fractions=fractions, seed=seed, stratified=True)
    plain = random_split(y, fractions=fractions, seed=seed)
    assert [int(m.sum()) for m in masks] == [int(m.sum()) for m in plain]
    assert torch.equal(sum(m.long() for m in masks), (y >= 0).long())
    count = torch.bincount(y[y >= 0])
    for mask, fraction in zip(masks, fractions, strict=True):
        found = torch.bincount(y[mask], minlength=len(count))
        bound = 1 + (len(count) + 1) * count / count.sum()
        assert ((found - fraction * count).abs() <= bound).all()


def test_a_stratified_split_is_pinned():
    y = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    masks = random_split(y, fractions=(0.5, 0.25, 0.25), seed=7, stratified=True)
    pinned = [m.nonzero().view(-1).tolist() for m in masks]
    assert pinned == [[0, 3, 4, 5, 9, 11], [1, 7, 8], [2, 6, 10]]
    assert [y[ids].sum() for ids in pinned] == [2, 1, 1]


def test_a_given_test_part_stays_and_the_others_divide_the_rest():
    y = torch.arange(3).repeat(20)
    given = torch.arange(60) >= 50
    for stratified in (False, True):
        train, val, test = random_split(
            y, fractions=(0.9, 0.1, 0.0), seed=0, stratified=stratified, test_mask=given
        )
        assert torch.equal(test, given) and not (train & val).any()
        assert [int(train.sum()), int((train | val).sum())] == [45, 50]
    assert not random_split(60, fractions=(0.5, 0.1, 0.0), seed=0, test_mask=given)[0][50:].any()


def test_a_class_that_a_part_would_lack():
    y = torch.tensor([0] * 20 + [1, 1])
    with pytest.raises(
        DataError, match=r"class 1 has 2 labelled nodes, too few .* get \[\d, \d, \d\]"
    ):
        random_split(y, seed=0, stratified=True)


def test_what_a_stratified_or_given_split_needs():
    with pytest.raises(ConfigError, match="stratified needs the labels y, got their number 9"):
        random_split(9, seed=0, stratified=True)
    with pytest.raises(ConfigError, match="the third 0 beside a test_mask, got"):
        random_split(9, seed=0, test_mask=torch.ones(9).bool())
    for wrong in (torch.ones(8).bool(), torch.ones(9)):
        with pytest.raises(DataError, match=r"test_mask must be bool of shape \[9\], got torch"):
            random_split(9, fractions=(0.9, 0.1, 0.0), seed=0, test_mask=wrong)


@pace
@given(labels(), st.integers(0, 1000))
def test_balanced_split_takes_as_many_of_each_class(y, seed):
    train, val, test = masks = balanced_split(y, seed=seed)
    assert torch.equal(sum(m.long() for m in masks), (y >= 0).long())
    count = torch.bincount(y[y >= 0])
    each = round(0.6 * int(count.sum()) / len(count))
    assert torch.equal(torch.bincount(y[train], minlength=len(count)), count.clamp(max=each))
    assert int(val.sum()) == round(0.2 * int(count.sum())) and int(test.sum()) > 0
    again = balanced_split(y, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(masks, again, strict=True))


def test_a_balanced_split_swallows_a_class_of_one_node():
    # Texas
    y = torch.tensor([33, 1, 18, 101, 30])
    y = torch.arange(5).repeat_interleave(y)
    train, val, test = balanced_split(y, seed=0)
    assert torch.bincount(y[train]).tolist() == [22, 1, 18, 22, 22]
    assert (int(val.sum()), int(test.sum())) == (37, 61)
    assert not torch.equal(train, balanced_split(y, seed=1)[0])


def test_balanced_splits_without_a_rest_are_refused():
    with pytest.raises(DataError, match=r"parts of \[5, 0, 0\] nodes .* none may be empty"):
        balanced_split(torch.arange(5), seed=0)
    with pytest.raises(ConfigError, match="fractions must be three numbers"):
        balanced_split(torch.arange(5), fractions=(0.6, 0.2, 0.0), seed=0)
