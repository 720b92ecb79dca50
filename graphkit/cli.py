"""The command line: options and help are read off the signatures of the recipes."""

from __future__ import annotations

import argparse
import contextlib
import difflib
import errno
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, get_args

import docstring_parser
import jsonargparse
import torch

from . import __version__, data, ops
from .errors import ConfigError, DataError, GraphkitError, nearest
from .recipes import PRESETS, RECIPES, Record, memory, plots, report, steady
from .recipes.presets import listing

USAGE = """graphkit: graph learning on PyTorch

  graphkit train [RECIPE or PRESET] [options]   train a model; alone: gcn on the data set digits
  graphkit data list                            the data sets, and which of them are here
  graphkit data info NAME                       one data set: its card, and what its files hold
  graphkit info                                 versions, device, threads, kernels
  graphkit --version

graphkit train --help says more. GRAPHKIT_TRACEBACK=1 shows where an error comes from."""

# parameters of recipes that are for Python callers
_NOT_OPTIONS = ("command", "note")


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
        # on the CPU torch tells of a lack of memory by a plain RuntimeError
        lack = isinstance(error, (MemoryError, torch.OutOfMemoryError))
        if not lack and "can't allocate memory" not in str(error):
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
    commands = {"train": _train, "data": _data, "info": _info}
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
            hint = "A recipe or preset comes right after the word train."
            message = f"Unknown argument {match[1]!r}. {hint if 'train' in self.prog else ''}"
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
                hint = f"Did you mean {close[0]}?" if close else "See graphkit train --help."
                raise ConfigError(f"Unknown option {name}. {hint}")
        return self.parse_args(words).as_dict()


def _train(argv: list[str]) -> None:
    target = argv.pop(0) if argv and not argv[0].startswith("-") else ""
    config, argv = _take_config(argv)
    if config and target:
        raise ConfigError("Give a recipe, a preset or --config, only one of them.")
    target = config.get("recipe", target)
    preset = PRESETS.get(target)
    if preset is None and target and target not in RECIPES:
        known = [*RECIPES, *PRESETS]
        raise ConfigError(f"Unknown recipe or preset {target!r}. {nearest(target, known)}")
    recipe = preset.recipe if preset else RECIPES[target or "node"]
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


def _take_config(argv: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The content of the file that ``--config`` names ({} without it), and the other words."""
    for at, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == "--config":
            path = Path(value if equals else "".join(argv[at + 1 : at + 2]))
            return report.read_config(path), argv[:at] + argv[at + (1 if equals else 2) :]
    return {}, argv


def _recipe_parser(target: str, recipe: Callable[..., Record]) -> _Parser:
    """The parser of the signature of ``recipe``, with the help of its docstring."""
    doc = docstring_parser.parse(inspect.getdoc(recipe) or "")
    about = {param.arg_name: param.description or "" for param in doc.params}
    parser = _Parser(
        f"graphkit train {target or '[RECIPE or PRESET]'}",
        f"{doc.short_description}\n\n{doc.long_description}",
        "" if target else listing(RECIPES),
    )
    for name, param in inspect.signature(recipe).parameters.items():
        if name not in _NOT_OPTIONS:
            _add_option(parser, name, param, about[name].replace("%", "%%"))
    parser.add_argument("--config", metavar="FILE", help="repeat the run with this config.json")
    parser.flag("json", "print one line of JSON on standard output and all else on standard error")
    return parser


def _add_option(parser: _Parser, name: str, param: inspect.Parameter, about: str) -> None:
    option = name.replace("_", "-")
    if param.annotation is bool:
        parser.flag(option, about, param.default)
        return
    # what stays a string takes objects from Python, and from here the text that names them
    kind = str if isinstance(param.annotation, str) else param.annotation
    metavar, wanted = {int: ("N", "a whole number"), float: ("X", "a number")}.get(
        kind, ("TEXT", "text")
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
    actions = {"list": _data_list, "info": _data_info}
    action = argv[0] if argv else ""
    if action in ("-h", "--help"):
        print(USAGE)
        return
    if action not in actions:
        raise ConfigError(f"graphkit data: unknown action {action!r}. {nearest(action, actions)}")
    parser = _Parser(f"graphkit data {action}", inspect.getdoc(actions[action]) or "")
    if action == "info":
        parser.usage = "graphkit data info NAME [options]"
        parser.add_argument("name", metavar="NAME", help="the data set")
    parser.add_argument("--root", metavar="DIR", help="folder of downloaded data sets")
    actions[action](parser.read(argv[1:]))


def _data_list(options: Mapping[str, Any]) -> None:
    """The data sets, and which of them are on this machine."""
    rows = data.available(options["root"])
    names = {"default_split": "split", "present": "here"}
    plots.show_rows([{names.get(k, k): v for k, v in row.items() if k != "task"} for row in rows])
    place = data.data_root(options["root"]).absolute()
    print(f"Looked in {place}. Next: graphkit data info NAME, or graphkit train --data NAME.")


def _data_info(options: Mapping[str, Any]) -> None:
    """One data set: its card, and what its files hold."""
    card = data.info(options["name"], options["root"])
    hidden = ("name", "title", "reader", "path", "files", "found")
    pairs = {name: value for name, value in card.items() if name not in hidden}
    pairs["splits"] = {
        name: {part: split[part] for part in ("train", "val", "test")}
        for name, split in card["splits"].items()
    }
    pairs["baselines"] = [f"{b['method']} {b['value']} on {b['split']}" for b in card["baselines"]]
    pairs["files hold"] = card["found"] or "nothing: they are not on this machine"
    plots.show_pairs(f"{card['name']}: {card['title']}", pairs)


def _info(argv: list[str]) -> None:
    parser = _Parser("graphkit info", "Versions, device, threads, and which kernel serves each op.")
    parser.read(argv)
    pairs = memory.environment(memory.find_device("auto")) | {"kernels": ops.backends()}
    plots.show_pairs(f"graphkit {__version__}", pairs)
