"""Write a made hypergraph with communities as files that graphkit reads by their path.

python datasets/make/hypergraph.py FOLDER --num-nodes 55000 --mean-size 10
graphkit data info ./FOLDER
"""

from __future__ import annotations

import inspect
import re
import sys

import jsonargparse

from graphkit.data import synthetic_hypergraph, write_hypergraph


def main(argv: list[str] | None = None) -> None:
    parser = jsonargparse.ArgumentParser(description=inspect.getdoc(synthetic_hypergraph))
    parser.add_argument("out", help="a folder for csv tables, or a file called .json")
    parser.add_function_arguments(synthetic_hypergraph, as_group=False)
    words = sys.argv[1:] if argv is None else argv
    # options may be written with hyphens, as those of the command line are
    words = [re.sub("^--[^=]+", lambda m: "--" + m[0][2:].replace("-", "_"), w) for w in words]
    options = vars(parser.parse_args(words))
    out = options.pop("out")
    data = synthetic_hypergraph(**options)
    write_hypergraph(data, out)
    print(
        f"{data['num_nodes']:,} nodes, {data.num_hyperedges:,} hyperedges, "
        f"{data.edge_index.size(1):,} incidences: {out}"
    )


if __name__ == "__main__":
    main()
