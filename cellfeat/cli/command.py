"""What a command is, and options made from the settings that it takes.

    @command(settings="cellfeat.evaluation:EvaluationConfig")
    def evaluate(store: StorePath, settings: Any, output: Path = Path("evaluation")) -> None:
        '''Help of the command.'''

Every field of the pydantic model is an option of the command, with the field's description, choices and default as
help. Only options that were given reach the model, so that its own defaults and presets hold. The model is imported
when the command's options are asked for: `cellfeat --help` imports none.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer

from cellfeat.errors import CellfeatError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

AGAIN = "run it again"
CONTINUES = "run the same command again: it continues where it was"


@dataclass(frozen=True)
class Command:
    """A function that is a command of the same name.

    Attributes:
        function: Its signature gives arguments and options, its docstring the help.
        settings: "module:class" of the pydantic model whose fields are further options; the parameter `settings` of
            the function takes the model. "" for none.
        key_values: The command takes KEY VALUE pairs, of which a value such as -1 looks like an option.
        interrupted: What to do after Ctrl-C.
    """

    function: Callable[..., None]
    settings: str = ""
    key_values: bool = False
    interrupted: str = AGAIN

    @property
    def name(self) -> str:
        """As it is typed."""
        return self.function.__name__.replace("_", "-")

    @property
    def summary(self) -> str:
        """The first line of its help."""
        return (inspect.getdoc(self.function) or "").partition("\n")[0]

    def build(self, app: dict[str, Any]) -> Any:
        """The command of Typer; `app` are the settings of the whole program's `typer.Typer`."""
        one = typer.Typer(**app)
        context = app["context_settings"] | ({"ignore_unknown_options": True} if self.key_values else {})
        function = self.function
        if self.settings:
            module, _, kind = self.settings.partition(":")
            function = _with_options(function, getattr(import_module(module), kind), self.name)
        one.command(self.name, context_settings=context)(function)
        return typer.main.get_command(one)


def command(settings: str = "", key_values: bool = False, interrupted: str = AGAIN) -> Callable[..., Command]:
    """Make a function a `Command`; the arguments are its attributes."""
    return lambda function: Command(function, settings, key_values, interrupted)


def _with_options(function: Callable[..., None], model: type[BaseModel], name: str) -> Callable[..., None]:
    """The function with an option for each field of the model, in place of its parameter `settings`."""
    from cellfeat.core.settings import descriptions, parse

    own = inspect.signature(function, eval_str=True).parameters
    texts = descriptions(model)
    options = {field: _annotation(field, info, texts[field]) for field, info in model.model_fields.items()}

    def run(**given: Any) -> None:
        chosen = {field: given.pop(field) for field in options}
        chosen = {field: value for field, value in chosen.items() if value not in (None, [])}
        spelled = {field: option_name(field, info) for field, info in model.model_fields.items()}
        try:
            settings = parse(model, chosen, "", spelled)
        except CellfeatError as error:
            raise CellfeatError(error.what, f"see cellfeat {name} -h") from None
        function(**given, settings=settings)

    parameters = {
        parameter.name: parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for parameter in own.values()
        if parameter.name != "settings"
    }
    parameters |= {
        field: inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for field, annotation in options.items()
    }
    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def option_name(field: str, info: FieldInfo) -> str:
    """How an option is typed: of a list, whose option is given once for each value, in the singular."""
    several = get_origin(_bare(info.annotation)) is list
    return "--" + (field.removesuffix("s") if several else field).replace("_", "-")


def _annotation(field: str, info: FieldInfo, text: str) -> Any:
    kind, flag, metavar = _bare(info.annotation), option_name(field, info), None
    if get_origin(kind) is list:
        (element,) = get_args(kind)
        if get_origin(element) is Literal:
            metavar = f"[{'|'.join(get_args(element))}]"
        kind, text = list[str], f"{text} May be given again."
    if kind is bool:
        flag = f"{flag}/--no-{flag[2:]}"
    default = info.get_default(call_default_factory=True)
    if default is not None:
        text = f"{text} [default: {_shown(default)}]"
    return Annotated[kind | None, typer.Option(flag, help=text.strip(), metavar=metavar, show_default=False)]


def _bare(annotation: Any) -> Any:
    """The type without `| None`."""
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return kinds[0] if len(kinds) == 1 else str
    return annotation


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return "yes" if default else "no"
    return ", ".join(map(str, default)) if isinstance(default, (list, tuple)) else str(default)
