"""Published accuracies against ours: run presets, keep the figures, print the docs' table.

python benchmarks/accuracy.py gcn-cora acm-texas     run these presets and keep the figures
python benchmarks/accuracy.py --seeds 0-99 acm-texas ten seeds for each of ten splits
python benchmarks/accuracy.py --all                  run all presets
python benchmarks/accuracy.py --table                print the table from the kept figures
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from graphkit.recipes.presets import PRESETS

RESULTS = Path(__file__).parent / "results" / "accuracy.jsonl"


def run(preset: str, seeds: str) -> dict:
    """One preset over ``seeds`` in a process of its own: command, figures and machine."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["train", preset, "--seeds", seeds, "--json", "--out", f"{folder}/run"]
        done = subprocess.run(
            [sys.executable, "-m", "graphkit", *arguments], stdout=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise SystemExit(f"{preset} ended with exit code {done.returncode}")
        record = json.loads(done.stdout.splitlines()[-1])
        environment = json.loads((Path(folder) / "run" / "environment.json").read_text())
    del record["run"]
    command = f"graphkit train {preset} --seeds {seeds}"
    return {"preset": preset, "command": command, **record, "environment": environment}


def kept() -> dict[str, dict]:
    """The newest kept figures of each preset."""
    if not RESULTS.exists():
        return {}
    rows = [json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines()]
    return {row["preset"]: row for row in rows}


def table() -> str:
    """The table in docs/measured.md: the presets with kept figures, in the order of PRESETS."""
    lines = [
        "| preset | data | model | test accuracy, % | published | seeds |",
        "|---|---|---|---|---|---|",
    ]
    rows = kept()
    for name, preset in PRESETS.items():
        if name not in rows:
            continue
        row = rows[name]
        score = f"{100 * row['test_mean']:.2f} ± {100 * row['test_std']:.2f}"
        score += {"accuracy": "", "f1": " (macro F1)"}.get(row["metric"], f" ({row['metric']})")
        lines.append(
            f"| `{name}` | {row['data']} | {row['model']} | {score} | {preset.published or '-'} "
            f"| {len(row['seeds'])} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", choices=[[], *PRESETS], metavar="PRESET")
    parser.add_argument("--all", action="store_true", help="all presets")
    parser.add_argument("--seeds", default="0-9", help="seeds of each preset [0-9]")
    parser.add_argument("--table", action="store_true", help="print the table only")
    options = parser.parse_args()
    for preset in PRESETS if options.all else options.presets:
        line = json.dumps(run(preset, options.seeds), sort_keys=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    print(table())


if __name__ == "__main__":
    main()
