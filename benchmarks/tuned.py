"""Settings of RQGNN's table of tuned models: keep what `graphkit tune` chose.

graphkit tune rqgnn-bzr --seeds 0-1 --trials 30 --out runs/tune/rqgnn-bzr    search
python benchmarks/tuned.py runs/tune/*                                      keep the best settings
graphkit reproduce rqgnn-tuned --only bzr                                   run them on all splits
"""

from __future__ import annotations

import argparse
import json
import shlex
from collections import Counter
from pathlib import Path
from typing import Any

from graphkit.errors import ConfigError
from graphkit.recipes import rqgnn_settings
from graphkit.recipes.report import read_json, word
from graphkit.store import atomic

FILE = Path(rqgnn_settings.__file__).with_name("rqgnn_tuned.json")


def search(folder: Path) -> tuple[str, dict[str, Any]]:
    """The preset searched in ``folder``, the options chosen there, and how they were found."""
    settings, table = read_json(folder / "study.json"), read_json(folder / "table.json")
    target, best = settings["target"], table.get("best")
    if target not in dict(rqgnn_settings.rows()):
        raise ConfigError(f"{folder} searched {target}, which is no row of the table rqgnn.")
    if best is None or len(table["trials"]) < settings["trials"]:
        raise ConfigError(f"{folder} is not finished. Go on: graphkit tune --resume {folder}")
    run = read_json(folder / "trials" / Path(best["run"]).name / "config.json")["options"]
    # own options of the model are one option of the recipe
    names = dict.fromkeys(name.partition(".")[0] for name in best["best"])
    asked = {name: settings[name] for name in ("trials", "sampler", "prune", "search_seed")}
    asked |= {name: value for name, value in settings["options"].items() if name != "root"}
    words = (f"--{name.replace('_', '-')}={word(value)}" for name, value in asked.items())
    machine = read_json(folder / "environment.json")
    return target, {
        "options": {name: run[name] for name in names},
        "command": shlex.join(["graphkit", "tune", target, *words]),
        "validation": [best["val_mean"], best["val_std"]],
        "trials": dict(Counter(trial["state"] for trial in table["trials"])),
        "space": table["space"],
        **{name: machine[name] for name in ("commit", "cpu", "threads", "torch", "optuna")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="folders of graphkit tune")
    kept = dict(rqgnn_settings.tuned())
    kept |= dict(search(folder) for folder in parser.parse_args().folders)
    order = [name for name, _ in rqgnn_settings.rows()]
    with atomic(FILE) as side:
        content = {name: kept[name] for name in sorted(kept, key=order.index)}
        side.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"wrote: {FILE.name}, {len(kept)} presets")


if __name__ == "__main__":
    main()
