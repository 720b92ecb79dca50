"""The command line: options and help are read off the signatures of the recipes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import inspect
import itertools
import json
import os
import re
import runpy
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args
from urllib.parse import urlsplit

import docstring_parser
import jsonargparse

from . import __version__, data, ops
from .data.chunked import parse_bytes
from .data.progress import Meter
from .errors import BackendError, ConfigError, DataError, GraphkitError, StoreError, nearest
from .recipes import (
    PRESETS,
    RECIPES,
    Preset,
    Record,
    compare,
    export,
    homophily,
    hyper_plots,
    memory,
    plots,
    predict,
    report,
    reproduce,
    steady,
    sweep_depth,
    tune,
)
from .recipes.energy import energy
from .recipes.mixing import mixing
from .recipes.pack_store import pack_store
from .recipes.presets import listing
from .recipes.reproduce import listing as listing_of_tables
from .recipes.tune import read_settings

USAGE = """graphkit: graph learning on PyTorch

  graphkit train [RECIPE or PRESET] [options]   train a model; alone: gcn on the data set digits
  graphkit train --resume DIR                   go on with a run that was stopped
  graphkit tune RECIPE or PRESET [options]      search its options by validation scores alone
  graphkit tune --resume DIR [--trials N]       go on with a search, or run more trials
  graphkit data list                            the data sets, and which of them are here
  graphkit data info NAME                       one data set: its card, and what its files hold
  graphkit data get NAME                        download one data set and check it
  graphkit data store NAME --out DIR            write one to disk, for graphs larger than memory
  graphkit data verify DIR                      check every byte of what was written
  graphkit pack STORE [options]                 sample before training, features together on disk
  graphkit reproduce TABLE                      run a table of published figures, ours beside them
  graphkit compare FOLDER FOLDER ...            finished runs: mean ranks, differences in pairs
  graphkit sweep depth --data NAME              models from shallow to deep: accuracy and smoothing
  graphkit predict RUN [--data NAME]            apply the weights of a run to data
  graphkit predict FOLDER --rows FILE           the same for rows of features, without a graph
  graphkit export RUN [--onnx] [--latency]      an MLP as files that torch alone loads
  graphkit bench NAME [--quick]                 measure speed and memory against the peers
  graphkit plot bench [FILES] [--out FILE]      draw the bandwidth that measured figures reach
  graphkit plot homophily NAME NAME ...         compare how the labels and edges of sets go together
  graphkit plot energy NAME                     spectral energy of anomalous and other graphs
  graphkit plot RUN --mixing                    draw how an ACM run mixes its channels
  graphkit info                                 versions, device, threads, kernels
  graphkit --version

graphkit train --help says more. GRAPHKIT_TRACEBACK=1 shows where an error comes from."""

HUGE_PAGES, WAITING = "THP_MEM_ALLOC_ENABLE", "OMP_WAIT_POLICY"

# parameters of recipes that are for Python callers
_NOT_OPTIONS = ("command", "note", "resume")


class _HelpShown(Exception):
    """``--help`` was given: there is nothing more to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; 0, or 1 failed, 2 wrong use, 130 interrupted, 143 terminated."""
    for stream in (sys.stdout, sys.stderr):
        # a terminal that cannot show a character must not end a finished run
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # pyright: ignore[reportAttributeAccessIssue]
    # nor must a console that is closed or full
    out, err = steady.Steady(sys.stdout), steady.Steady(sys.stderr)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = _guarded(list(sys.argv[1:] if argv is None else argv))
        finally:
            out.settle()
        if code == 0 and isinstance(out.error, OSError) and out.error.errno != errno.EPIPE:
            # who closes a pipe has read enough; on a full disk the text is lost
            code = _fail(f"Standard output cannot be written: {out.error.strerror}.", 1)
        err.settle()
    return code


def _guarded(argv: list[str]) -> int:
    """The exit code of a command line, after its error was told in one line."""
    try:
        with steady.terminable():
            _dispatch(argv)
    except GraphkitError as error:
        if os.environ.get("GRAPHKIT_TRACEBACK") == "1":
            raise
        return _fail(str(error), 2 if isinstance(error, (ConfigError, DataError)) else 1)
    except (MemoryError, RuntimeError) as error:
        if not memory.is_lack(error):
            raise
        return _fail(f"Out of memory: {error}. Try a smaller --hidden or --num-layers.", 1)
    except steady.Terminated as error:
        return _fail(str(error) or "Terminated.", 143)
    except KeyboardInterrupt as error:
        return _fail(str(error) or "Interrupted.", 130)
    return 0


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _dispatch(argv: list[str]) -> None:
    commands = {
        "train": _train,
        "tune": _tune,
        "reproduce": _reproduce,
        "compare": _compare,
        "sweep": _sweep,
        "pack": _pack,
        "predict": _predict,
        "export": _export,
        "data": _data,
        "bench": _bench,
        "plot": _plot,
        "info": _info,
    }
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(USAGE)
    elif argv[0] == "--version":
        print(f"graphkit {__version__}")
    elif argv[0] in commands:
        with contextlib.suppress(_HelpShown):
            commands[argv[0]](argv[1:])
    else:
        raise ConfigError(f"Unknown command {argv[0]!r}. {nearest(argv[0], commands)}")


class _Parser(jsonargparse.ArgumentParser):
    """A parser that raises its errors for :func:`main` to print in one line."""

    def __init__(self, prog: str, description: str = "", epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            usage=f"{prog} [options]",
            description=description,
            epilog=epilog,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.wanted: dict[str, str] = {}

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        key = re.match(r'Parser key "(\w+)"', message)
        if key and key[1] in self.wanted:
            value = re.search(r"alue: ([^\n]*)", message)
            got = f" is {value[1]!r}, but" if value else ":"
            message = f"--{key[1].replace('_', '-')}{got} {self.wanted[key[1]]} is expected."
        elif match := re.match(r"argument --([\w-]+)\S*: ignored explicit \w+ (.*)", message):
            name, got = match.groups()
            message = f"--{name} takes no value, got {got}. Use --{name} or --no-{name}."
        elif match := re.match(r"unrecognized arguments: (\S+)", message, re.IGNORECASE):
            verb = "".join({"train", "tune"} & set(self.prog.split()))
            hint = f"A recipe or preset comes right after the word {verb}." if verb else ""
            message = f"Unknown argument {match[1]!r}. {hint}"
        raise ConfigError(message) from ex

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _HelpShown

    def flag(self, option: str, help: str, default: bool = False) -> None:
        """Add ``--option`` and ``--no-option``."""
        self.wanted[option.replace("-", "_")] = "true or false"
        action = jsonargparse.ActionYesNo(no_prefix="no-")
        self.add_argument(f"--{option}", action=action, default=default, help=help)

    def read(self, argv: Sequence[str]) -> dict[str, Any]:
        """The options in ``argv``, and the defaults of the others."""
        words = [re.sub("^--[^=]+", lambda m: m[0].replace("_", "-"), word) for word in argv]
        known = list(self._option_string_actions)
        for name in (word.partition("=")[0] for word in words if word.startswith("--")):
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
                # what follows stands for words of the user's
                command = " ".join(itertools.takewhile(str.islower, self.prog.split()))
                hint = f"Did you mean {close[0]}?" if close else f"See {command} --help."
                raise ConfigError(f"Unknown option {name}. {hint}")
        return self.parse_args(words).as_dict()


def _train(argv: list[str]) -> None:
    resume, argv = _take(argv, "--resume")
    if resume is not None:
        _resume(Path(resume), argv)
        return
    target = argv.pop(0) if argv and not argv[0].startswith("-") else ""
    file, argv = _take(argv, "--config")
    config = {} if file is None else report.read_config(Path(file))
    # the form of a leaderboard is of one run
    config.get("options", {}).pop("submission", None)
    if config and target:
        raise ConfigError("Give a recipe, a preset or --config, only one of them.")
    target = config.get("recipe", target)
    preset, recipe = _find(target)
    parser = _recipe_parser(target, recipe)
    values = dict(preset.values if preset else config.get("options", {}))
    parser.parse_object(values)
    parser.set_defaults(values)
    options = parser.read(argv)
    as_json = options["json"]
    chosen = {name: options[name] for name in parser.wanted if name != "json"}
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        record = (preset or recipe)(**chosen)
    if as_json:
        print(record.to_json())


def _find(target: str) -> tuple[Preset | None, Callable[..., Record]]:
    """The preset and the recipe that ``target`` names; no name is the recipe node."""
    preset = PRESETS.get(target)
    if preset is None and target and target not in RECIPES:
        known = [*RECIPES, *PRESETS]
        raise ConfigError(f"Unknown recipe or preset {target!r}. {nearest(target, known)}")
    return preset, preset.recipe if preset else RECIPES[target or "node"]


def _take(argv: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of ``option`` in ``argv`` (None without it), and the other words."""
    for at, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == option:
            value = value if equals else "".join(argv[at + 1 : at + 2])
            return value, argv[:at] + argv[at + (1 if equals else 2) :]
    return None, argv


def _tune(argv: list[str]) -> None:
    resume, argv = _take(argv, "--resume")
    if resume is not None:
        parser = _Parser("graphkit tune --resume DIR", "Go on with a search, or run more trials.")
        trials = inspect.signature(tune).parameters["trials"]
        _add_option(parser, "trials", trials, "trials to run, those before counted")
        chosen = _asked(parser, argv, "search")
        call = _find(read_settings(Path(resume))["target"])
        chosen["resume"] = resume
    else:
        target = argv.pop(0) if argv and not argv[0].startswith("-") else ""
        call = _find(target)
        parser = _tune_parser(target, *call)
        options = parser.read(argv)
        # what is given stays as it is in all trials, and what a preset says may be searched
        words = {word.partition("=")[0].replace("_", "-") for word in argv}
        names = {name: name.replace("_", "-") for name in parser.wanted}
        given = [name for name, word in names.items() if {f"--{word}", f"--no-{word}"} & words]
        chosen = {name: options[name] for name in ("json", *given)}
    as_json = chosen.pop("json")
    with contextlib.redirect_stdout(sys.stderr) if as_json else contextlib.nullcontext():
        tuned = tune(call[0] or call[1], **chosen)
    if as_json:
        print(tuned.to_json())


def _tune_parser(target: str, preset: Preset | None, recipe: Callable[..., Record]) -> _Parser:
    """The parser of the signature of tune, and of that of ``recipe``."""
    prog = f"graphkit tune {target or '[RECIPE or PRESET]'}"
    own = ("recipe", "resume", "options")
    parser = _parser_of(tune, prog, "" if target else listing(RECIPES), own)
    _add_signature(parser, recipe, (*_NOT_OPTIONS, "out", "quiet", "submission"))
    parser.add_argument("--resume", metavar="DIR", help="go on with the search in this folder")
    parser.flag("json", "print one line of JSON on standard output and all else on standard error")
    if preset is not None:
        parser.set_defaults(dict(preset.values))
    return parser


def _asked(parser: _Parser, argv: list[str], what: str) -> dict[str, Any]:
    """The options beside --resume, of which there are few."""
    parser.flag("json", "print one line of JSON on standard output and all else on standard error")
    parser.flag("quiet", "print nothing")
    unknown = [word for word in argv if word.partition("=")[0] not in parser._option_string_actions]
    # the value of an option stands behind it
    unknown = [word for word in unknown if word.startswith("-") or word == argv[0]]
    if unknown:
        raise ConfigError(
            f"--resume takes the options that the {what} began with, got {unknown[0]!r} too. "
            f"Leave it out, or start a new {what}."
        )
    return parser.read(argv)


def _resume(folder: Path, argv: list[str]) -> None:
    """Go on with the run in ``folder``, whose options are those it began with."""
    parser = _Parser("graphkit train --resume DIR", "Go on with a run that was stopped.")
    asked = _asked(parser, argv, "run")
    config = report.read_config(folder)
    recipe = RECIPES.get(config["recipe"])
    if recipe is None:
        raise ConfigError(f"--resume: unknown recipe {config['recipe']!r} in {folder}.")
    known = inspect.signature(recipe).parameters
    for name in config["options"]:
        if name not in known:
            raise ConfigError(
                f"--resume: {folder} has an option {name!r}, which {config['recipe']} does not "
                f"know. {nearest(name, known)}"
            )
    values = {name: config.get(name) for name in ("command", "note")}
    options = {**config["options"], **values, "quiet": asked["quiet"], "resume": str(folder)}
    with contextlib.redirect_stdout(sys.stderr) if asked["json"] else contextlib.nullcontext():
        record = recipe(**options)
    if asked["json"]:
        print(record.to_json())


def _recipe_parser(target: str, recipe: Callable[..., Record]) -> _Parser:
    """The parser of the signature of ``recipe``, with the help of its docstring."""
    prog = f"graphkit train {target or '[RECIPE or PRESET]'}"
    parser = _parser_of(recipe, prog, "" if target else listing(RECIPES), _NOT_OPTIONS)
    parser.add_argument("--config", metavar="FILE", help="repeat the run with this config.json")
    parser.add_argument("--resume", metavar="DIR", help="go on with the stopped run in this folder")
    parser.flag("json", "print one line of JSON on standard output and all else on standard error")
    return parser


# how the parameter of a command is shown that is a run
_RUN = {"metavar": "RUN", "help": "run folder that graphkit train named"}


def _parser_of(
    function: Callable[..., Any],
    prog: str,
    epilog: str = "",
    skip: Sequence[str] = (),
    **first: Any,
) -> _Parser:
    """The parser of a command that is ``function``: its words, and its parameters as options.

    ``first`` says how its first parameter is shown, which then stands without a name.
    """
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    parser = _Parser(prog, f"{doc.short_description}\n\n{doc.long_description}", epilog)
    if first:
        name = next(iter(inspect.signature(function).parameters))
        parser.add_argument(name, **first)
        skip = (*skip, name)
    _add_signature(parser, function, skip)
    return parser


def _add_signature(parser: _Parser, function: Callable[..., Any], skip: Sequence[str]) -> None:
    """Make the parameters of ``function`` options, with the help of its docstring."""
    doc = docstring_parser.parse(inspect.getdoc(function) or "")
    about = {param.arg_name: param.description or "" for param in doc.params}
    for name, param in inspect.signature(function).parameters.items():
        if name not in skip:
            _add_option(parser, name, param, about[name].replace("%", "%%"))


def _add_option(parser: _Parser, name: str, param: inspect.Parameter, about: str) -> None:
    option = name.replace("_", "-")
    if param.annotation is bool:
        parser.flag(option, about, param.default)
        return
    # what stays a string takes objects from Python, and from here the text that names them
    kind = str if isinstance(param.annotation, str) else param.annotation
    alone = next((part for part in get_args(kind) if part in (int, float)), kind)
    metavar, wanted = {int: ("N", "a whole number"), float: ("X", "a number")}.get(
        alone, ("TEXT", "text")
    )
    choices = [c for part in (kind, *get_args(kind)) for c in get_args(part) if isinstance(c, str)]
    if choices:
        metavar, wanted = f"{{{','.join(choices)}}}", " or ".join(choices)
    parser.wanted[name] = wanted
    about += "" if param.default is None else " [%(default)s]"
    parser.add_argument(
        f"--{option}", type=kind, default=param.default, metavar=metavar, help=about
    )


def _data(argv: list[str]) -> None:
    actions = {"list": _data_list, "info": _data_info, "get": _data_get}
    actions |= {"store": _data_store, "verify": _data_verify}
    action = argv[0] if argv else ""
    if action in ("-h", "--help"):
        print(USAGE)
        return
    if action not in actions:
        raise ConfigError(f"graphkit data: unknown action {action!r}. {nearest(action, actions)}")
    parser = _Parser(f"graphkit data {action}", inspect.getdoc(actions[action]) or "")
    if action in ("info", "get"):
        parser.usage = f"graphkit data {action} NAME [options]"
        parser.add_argument("name", metavar="NAME", help="the data set")
    if action == "store":
        _add_store_options(parser)
    if action == "verify":
        parser.usage = "graphkit data verify DIR"
        parser.add_argument("dir", metavar="DIR", help="the folder of the store")
    if action == "list":
        parser.add_argument("--kind", metavar="KIND", help="only sets of this kind, such as graph")
    if action == "info":
        about = "svg, png or pdf with the sizes of a hypergraph [NAME-sizes.svg]"
        parser.add_argument("--out", metavar="FILE", help=about)
    if action != "verify":
        parser.add_argument("--root", metavar="DIR", help="folder of downloaded data sets")
    actions[action](parser.read(argv[1:]))


def _data_list(options: Mapping[str, Any]) -> None:
    """The data sets, and which of them are on this machine."""
    rows = sorted(data.available(options["root"]), key=lambda row: (row["kind"], row["name"]))
    kind, kinds = options["kind"], sorted({row["kind"] for row in rows})
    if kind is not None and kind not in kinds:
        raise ConfigError(f"--kind is {kind!r}, which no data set has. {nearest(kind, kinds)}")
    rows = [row for row in rows if kind in (None, row["kind"])]
    shown = {name: name for name in ("name", "kind", "nodes", "edges", "classes")}
    shown |= {"feat.": "features", "here": "present"}
    table = [{title: _compact(row[name]) for title, name in shown.items()} for row in rows]
    plots.show_rows(table)
    place = data.data_root(options["root"]).absolute()
    here = sum(row["present"] for row in rows)
    print(f"{len(rows)} data sets, {here} of them here; looked in {place}.")
    print("Next: graphkit data info NAME, graphkit data get NAME, or graphkit train --data NAME.")


def _data_info(options: Mapping[str, Any]) -> None:
    """One data set, or a path to your own: its card, and what its files hold.

    Of a hypergraph the sizes of hyperedges and degrees of nodes are drawn.
    """
    card = data.info(options["name"], options["root"])
    hidden = ("name", "title", "reader", "path", "files", "found", "options")
    pairs = {name: value for name, value in card.items() if name not in hidden}
    if "splits" in card:
        pairs |= _of_card(card)
    found = card["found"] or {}
    tables, spread = found.pop("homophily", None), found.pop("distributions", None)
    for share, of in (("reciprocal_share", "edges"), ("share_in_none", "nodes")):
        if found.get(share) is not None:
            found[share] = f"{100 * found[share]:.1f} % of the {of}"
    shown = {name: _brief(name, value) for name, value in found.items()}
    pairs["files hold"] = shown or "nothing: they are not on this machine"
    title = f"{card['name']}: {card['title']}" if "title" in card else card["name"]
    plots.show_pairs(title, pairs)
    if tables:
        homophily.show(tables)
        print(f"Next: graphkit plot homophily {card['name']} NAME compares it with another set.")
    if spread:
        out = Path(options["out"] or f"{card['name']}-sizes.svg")
        hyper_plots.draw(out, spread, card["name"])
        print(f"Plot: {os.path.relpath(out)}")


def _of_card(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of splits, baselines and downloads, in a few words."""
    splits = {
        name: {part: split[part] for part in ("train", "val", "test")}
        for name, split in card["splits"].items()
    }
    baselines = [f"{b['method']} {b['value']} on {b['split']}" for b in card["baselines"]]
    hosts = {urlsplit(one["url"]).hostname for one in card["downloads"]}
    count = len(card["downloads"])
    downloads = f"{count} from {', '.join(map(str, hosts))}" if count else "none known"
    return {"splits": splits, "baselines": baselines, "downloads": downloads}


def _compact(value: Any) -> Any:
    """A large number in few digits, so that a row fits on a narrow terminal."""
    if not isinstance(value, int) or value < 10_000:
        return value
    power = 1 + (value >= 999_500) + (value >= 999_500_000)
    return f"{value / 1000**power:.3g}{'kMG'[power - 1]}"


def _brief(name: str, value: Any) -> Any:
    """Equal sizes of a part in many splits as one, and numbers by name in a line."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_rounded(number)}" for key, number in value.items())
    is_part = name in ("train", "val", "test")
    if is_part and isinstance(value, list) and len(value) > 1 and len(set(value)) == 1:
        return f"{value[0]:,} in each of {len(value)} splits"
    return value


def _rounded(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:,.2f}"


def _data_get(options: Mapping[str, Any]) -> None:
    """Download what is not here of one data set, check it, and keep its processed form."""
    card = data.card(options["name"])
    place = data.get(card.name, options["root"]).absolute()
    where = f"in {place}" if card.files else "embedded in scikit-learn"
    print(f"{card.name} is here, checked against its card, {where}.")
    print(f"Next: graphkit data info {card.name}")


def _add_store_options(parser: _Parser) -> None:
    parser.usage = "graphkit data store NAME --out DIR [options]"
    parser.add_argument("name", metavar="NAME", help="the data set, or a folder or file of yours")
    parser.add_argument("--out", metavar="DIR", required=True, help="folder to make")
    parser.add_argument(
        "--memory", metavar="BYTES", default="1GB", help="memory to work in (default: 1GB)"
    )
    parser.add_argument("--align", action="store_true", help="begin rows at multiples of 512 bytes")
    parser.add_argument(
        "--allow-nonfinite", action="store_true", help="accept NaN and infinity in features"
    )


def _data_store(options: Mapping[str, Any]) -> None:
    """Write a data set as a store on disk, for graphs larger than memory."""
    # before anything is read
    parse_bytes(options["memory"], "--memory")
    store = data.write_store(
        options["out"],
        **data.stored_tables(options["name"], options["root"]),
        memory=options["memory"],
        align=options["align"],
        allow_nonfinite=options["allow_nonfinite"],
        quiet=False,
    )
    _show_store(store)
    print(f"Next: graphkit data verify {shlex.quote(options['out'])}")


def _data_verify(options: Mapping[str, Any]) -> None:
    """Read all of a store, and hold every block against its checksum."""
    store = data.open_store(options["dir"])
    meter = Meter("verifying")
    try:
        store.verify(meter.show)
    finally:
        meter.close()
    _show_store(store)
    print("Every block has the checksum that was written with it.")


def _show_store(store: Any) -> None:
    plots.show_rows(
        [
            {
                "file": one.file,
                "dtype": one.dtype,
                "shape": " x ".join(map(str, one.shape)),
                "MB": f"{one.bytes / 1e6:.1f}",
            }
            for one in store.layout.arrays().values()
        ]
    )
    print(f"{store.path}: {store.digest}")


def _bench(argv: list[str]) -> None:
    if _of_checkout("graphkit bench", "run.py")(argv):
        raise GraphkitError("A contender was wrong or failed; its row says why.")


def _plot(argv: list[str]) -> None:
    pictures = {"bench": _plot_bench, "energy": _plot_energy, "homophily": _plot_homophily}
    action = argv[0] if argv else ""
    if action in ("-h", "--help"):
        print(USAGE)
        return
    if "--mixing" in argv:
        _plot_mixing(argv)
        return
    if action not in pictures and Path(action).is_dir():
        raise ConfigError(f"graphkit plot {action}: of a run, say what. Add --mixing.")
    if action not in pictures:
        raise ConfigError(f"graphkit plot: unknown picture {action!r}. {nearest(action, pictures)}")
    pictures[action](argv[1:])


def _plot_bench(argv: list[str]) -> None:
    _of_checkout("graphkit plot bench", "roofline.py")(argv)


def _plot_homophily(argv: list[str]) -> None:
    """Compare data sets by how their labels and edges go together."""
    parser = _Parser("graphkit plot homophily NAME ...", inspect.getdoc(_plot_homophily) or "")
    parser.usage = "graphkit plot homophily NAME ... [options]"
    parser.add_argument(
        "names", metavar="NAME", nargs="+", help="a data set, or a path to your own"
    )
    parser.add_argument("--root", metavar="DIR", help="folder of downloaded data sets")
    parser.add_argument(
        "--out", metavar="FILE", default="homophily.svg", help="svg, png or pdf [%(default)s]"
    )
    options = parser.read(argv)
    out, sets = Path(options["out"]), {}
    for name in options["names"]:
        own = data.is_path(name)
        loaded = data.load(name, None if own else options["root"])
        sets[Path(name).name if own else name.lower()] = data.homophily_of(loaded, name)
    try:
        homophily.draw(out, sets)
    except (OSError, ValueError) as error:
        raise StoreError(f"{out} cannot be written: {error}.") from error
    homophily.show_all(sets)
    count = "1 data set" if len(sets) == 1 else f"{len(sets)} data sets"
    print(f"{count}, {len(homophily.DRAWN)} measures of each.")
    print(f"Plot: {os.path.relpath(out)}")
    print("Next: graphkit data info NAME says what each measure is.")


def _plot_energy(argv: list[str]) -> None:
    about = dict(metavar="NAME", help="the data set")
    energy(**_parser_of(energy, "graphkit plot energy NAME", **about).read(argv))


def _plot_mixing(argv: list[str]) -> None:
    parser = _parser_of(mixing, "graphkit plot RUN --mixing", **_RUN)
    parser.flag("mixing", "draw the mean mixing weights of each layer and class")
    options = parser.read(argv)
    mixing(**{name: value for name, value in options.items() if name != "mixing"})


def _of_checkout(command: str, name: str) -> Callable[[list[str]], int]:
    """``main`` of a file of benchmarks/, which stands outside the package."""
    script = Path(__file__).resolve().parents[1] / "benchmarks" / name
    if not script.is_file():
        raise BackendError(
            f"{command} runs the files of benchmarks/, which an installed wheel does not hold. "
            "Clone the repository and run it there, after pip install -e ."
        )
    return runpy.run_path(str(script))["main"]


def _reproduce(argv: list[str]) -> None:
    about = dict(metavar="TABLE", help="name of the table")
    parser = _parser_of(reproduce, "graphkit reproduce TABLE", listing_of_tables(), **about)
    reproduce(**parser.read(argv))


def _compare(argv: list[str]) -> None:
    folders = "runs, searches, or folders of several of them"
    about = dict(metavar="FOLDER", nargs="+", help=folders)
    compare(**_parser_of(compare, "graphkit compare FOLDER ...", **about).read(argv))


def _sweep(argv: list[str]) -> None:
    known = {"depth": sweep_depth}
    action = argv[0] if argv else ""
    if action in ("-h", "--help"):
        print(USAGE)
        return
    if action not in known:
        raise ConfigError(f"graphkit sweep: unknown sweep {action!r}. {nearest(action, known)}")
    sweep = known[action]
    sweep(**_parser_of(sweep, f"graphkit sweep {action}").read(argv[1:]))


def _pack(argv: list[str]) -> None:
    about = dict(metavar="STORE", help="folder of a store")
    pack_store(**_parser_of(pack_store, "graphkit pack STORE", **about).read(argv))


def _predict(argv: list[str]) -> None:
    _of_run(predict, "graphkit predict RUN", argv)


def _export(argv: list[str]) -> None:
    _of_run(export, "graphkit export RUN", argv)


def _of_run(command: Callable[..., dict[str, Any]], prog: str, argv: list[str]) -> None:
    """Call ``command``, whose first parameter is a run, and with --json print what it told."""
    parser = _parser_of(command, prog, **_RUN)
    parser.flag("json", "print one line of JSON on standard output and all else on standard error")
    options = parser.read(argv)
    chosen = {name: options[name] for name in ("run", *parser.wanted) if name != "json"}
    aside = contextlib.redirect_stdout(sys.stderr) if options["json"] else contextlib.nullcontext()
    with aside:
        told = command(**chosen)
    if options["json"]:
        print(json.dumps(told))


def _info(argv: list[str]) -> None:
    parser = _Parser("graphkit info", "Versions, device, threads, and which kernel serves each op.")
    parser.read(argv)
    pairs = memory.environment(memory.find_device("auto"))
    waiting = os.environ.get(WAITING, "not set")
    pairs |= {"huge_pages": _huge_pages(), "waiting threads": f"{waiting} ({WAITING})"}
    pairs["kernels"] = ops.backends()
    plots.show_pairs(f"graphkit {__version__}", pairs)


def _huge_pages() -> str:
    """Whether torch's large tensors lie in huge pages, and which variable says so."""
    value = os.environ.get(HUGE_PAGES)
    state = "not asked for" if value in (None, "0") else "asked for by torch"
    return f"{state} ({HUGE_PAGES} {'is not set' if value is None else f'= {value}'})"
