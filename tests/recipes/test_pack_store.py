"""graphkit pack: the plan is shown, the packs are made, and one epoch read as predicted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from graphkit import cli
from graphkit.data import PackFile, stages, stored, write_store
from graphkit.recipes.pack_store import compare, pack_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pack") / "a store"
    torch.manual_seed(0)
    write_store(
        folder,
        x=torch.randn(500, 100),
        edge_index=torch.randint(500, (2, 4000)),
        splits={"public": {"train": torch.arange(0, 400, 3), "val": torch.arange(400, 450)}},
    )
    return folder


def test_the_command_plans_packs_and_measures(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    words = ["pack", str(store), "--fanout=5,3", "--batch-size=50", "--memory=20MB"]
    words += ["--cache=40000", "--epochs=20", "--measure"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    for said in ("packs", "pages of a batch's cold rows", "pays at", "bytes read", "measured"):
        assert said in out
    packs = PackFile(f"{store}.packs")
    read = next(line for line in out.splitlines() if "bytes read" in line).split()
    about = packs.layout.about
    assert read[-2:] == [f"{about['epoch_bytes']:,}"] * 2
    # a second call takes what is there, and shows it
    assert cli.main([*words, "--quiet"]) == 0 and capsys.readouterr().out == ""
    batches = list(stages.fetch(stored(packs), packs))
    assert sum(len(b.seeds) for b in batches) == 134 and packs.num_batches == 3


def test_the_way_can_be_told(store: Path, tmp_path: Path) -> None:
    given = dict(fanout=[4], batch_size=64, memory="20MB", cache="0", way="packs", quiet=True)
    packed = pack_store(str(store), out=str(tmp_path / "p"), part="val", dtype="float16", **given)  # type: ignore[arg-type]
    rows = {row[""]: row for row in compare(packed)}
    assert rows["reads"]["predicted"] == rows["reads"]["measured"] == "1"
    assert PackFile(packed.path).dtype == torch.float16


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--part=training"], "Did you mean 'train'"),
        (["--way=pack"], "--way is 'pack', but auto or rows or blocks or packs or segments"),
        (["--fanout=a"], "fanout is 'a'"),
        (["--memory=1MB"], "16MB at least"),
        (["--split=x"], "has no split 'x'"),
    ],
)
def test_mistakes_are_told(
    store: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["pack", str(store), *words]) != 0
    assert said in capsys.readouterr().err
