"""`tools` and `tool_choice`: one search that runs before the model speaks, and functions that it may call."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import orjson
from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag

from server.calling import NO_CALLS, Calling, Function
from server.records import Search
from server.wire.extension import FewshotRequest, FileSearch, search_asked
from server.wire.reading import Off, Wire, fault
from server.wire.schemas import check_schema

MOST_TOOLS = 128
MOST_SCHEMA_BYTES = 64 * 1024  # of all functions together: they are part of every prompt

Name = Annotated[str, Field(max_length=64, pattern=r"^[\w-]+$")]


def _offered(kind: Any) -> Any:
    if kind not in ("function", "file_search"):
        raise fault("This server offers tools of the types function and file_search", kind="unsupported")
    return kind


FunctionType = Annotated[Literal["function"], BeforeValidator(_offered)]


def check_parameters(schema: Any) -> Any:
    """The schema itself. Raises PydanticCustomError with the place below it."""
    if isinstance(schema, dict) and schema.get("type", "object") != "object":
        raise fault("Arguments are a JSON object, so the schema's type must be object", at=".type")
    return check_schema(schema)


Parameters = Annotated[dict[str, Any], BeforeValidator(check_parameters)]
Description = Annotated[str, Field(max_length=4_096)]


class About(Wire):
    """What a function is called, does and takes."""

    name: Name
    description: Description | None = None
    parameters: Parameters | None = Field(default=None, description="JSON schema; none: it takes nothing")
    strict: bool | None = Field(default=None, description="forced calls always fit the schema")

    def function(self) -> Function:
        return Function(name=self.name, description=self.description, parameters=self.parameters)


class FunctionTool(Wire):
    """A function tool in chat's words."""

    type: FunctionType
    function: About

    def offered(self) -> Function:
        return self.function.function()


class FlatFunctionTool(About):
    """A function tool in the words of Responses."""

    type: FunctionType
    defer_loading: Off = False

    def offered(self) -> Function:
        return self.function()


def _kind(tool: Any) -> str:
    said = tool.get("type") if isinstance(tool, dict) else getattr(tool, "type", None)
    return "<search>" if said == "file_search" else "<function>"


def _one_search(tools: list[Any]) -> list[Any]:
    if sum(isinstance(tool, FileSearch) for tool in tools) > 1:
        raise fault("At most one file_search: name all its stores in vector_store_ids")
    functions = [tool.offered() for tool in tools if not isinstance(tool, FileSearch)]
    names = [function.name for function in functions]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise fault(f"Two functions are called {twice!r}; give each a name of its own")
    size = sum(len(orjson.dumps(function.parameters)) for function in functions if function.parameters)
    if size > MOST_SCHEMA_BYTES:
        raise fault(f"The schemas of all functions together may have at most {MOST_SCHEMA_BYTES} bytes")
    return tools


ChatTool = Annotated[
    Annotated[FunctionTool, Tag("<function>")] | Annotated[FileSearch, Tag("<search>")], Discriminator(_kind)
]
ResponseTool = Annotated[
    Annotated[FlatFunctionTool, Tag("<function>")] | Annotated[FileSearch, Tag("<search>")],
    Discriminator(_kind),
]
ChatTools = Annotated[list[ChatTool], Field(max_length=MOST_TOOLS), AfterValidator(_one_search)]
ResponseTools = Annotated[list[ResponseTool], Field(max_length=MOST_TOOLS), AfterValidator(_one_search)]


class NamedSearch(Wire):
    type: Literal["file_search"]


class NamedAbout(Wire):
    name: Name


class NamedFunction(Wire):
    """`tool_choice` of chat: this function and no other."""

    type: FunctionType
    function: NamedAbout

    @property
    def named(self) -> str:
        return self.function.name


class FlatNamedFunction(NamedAbout):
    """`tool_choice` of Responses."""

    type: FunctionType

    @property
    def named(self) -> str:
        return self.name


Word = Annotated[Literal["auto", "none", "required"], Tag("<text>")]


def _choice(value: Any) -> str:
    if isinstance(value, (dict, Wire)):
        return _kind(value)
    return "<text>"


ChatToolChoice = Annotated[
    Word | Annotated[NamedFunction, Tag("<function>")] | Annotated[NamedSearch, Tag("<search>")],
    Discriminator(_choice),
]
ResponseToolChoice = Annotated[
    Word | Annotated[FlatNamedFunction, Tag("<function>")] | Annotated[NamedSearch, Tag("<search>")],
    Discriminator(_choice),
]
Tools = Sequence[FunctionTool | FileSearch] | Sequence[FlatFunctionTool | FileSearch]
Choice = str | NamedFunction | FlatNamedFunction | NamedSearch | None


def calling_asked(tools: Tools, choice: Choice, *, parallel: bool, shaped: str | None) -> Calling:
    """The functions that the model is shown, and whether it must call one.

    `shaped` is the field that gives the answer a schema, if one does.
    Raises PydanticCustomError where the choice names no function, or where call and answer have a shape each.
    """
    functions = tuple(tool.offered() for tool in tools if not isinstance(tool, FileSearch))
    named = choice.named if isinstance(choice, NamedFunction | FlatNamedFunction) else None
    if named is not None and named not in {function.name for function in functions}:
        at = "tool_choice.function.name" if isinstance(choice, NamedFunction) else "tool_choice.name"
        raise fault(f"There is no function {named!r} in tools", at=at)
    if not functions or choice == "none" or isinstance(choice, NamedSearch):
        return NO_CALLS
    if shaped is not None:
        raise fault(
            "An answer of a given shape cannot be a call of a function; send tool_choice none, or leave out "
            "either the functions or this",
            at=shaped,
        )
    if named is not None:
        return Calling(functions=functions, choice="named", name=named, parallel=parallel)
    forced = choice == "required"
    return Calling(functions=functions, choice="required" if forced else "auto", parallel=parallel)


def searching_asked(tools: Tools, choice: Choice, extension: FewshotRequest) -> Search:
    """The retrieval asked for. It runs beside functions too; `required` beside functions is about these."""
    at = next((at for at, tool in enumerate(tools) if isinstance(tool, FileSearch)), None)
    found = None if at is None else tools[at]
    among = any(not isinstance(tool, FileSearch) for tool in tools)
    required = isinstance(choice, NamedSearch) or (choice == "required" and not among)
    return search_asked(
        found if isinstance(found, FileSearch) else None,
        extension,
        wanted=choice != "none",
        required=required,
        at=f"tools[{at}].filters",
    )
