"""What adapters are called: `name@version`, and `<base>:<name>@<version>` as a model."""

import re

from server.errors import InvalidValue

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
VERSION = re.compile(r"[0-9a-f]{12}")
ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def reference(name: str, version: str) -> str:
    return f"{name}@{version}"


def parted(text: str, *, param: str = "id") -> tuple[str, str]:
    """(name, version) of a reference. Raises InvalidValue."""
    name, at, version = text.partition("@")
    if not at or not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        raise InvalidValue(
            f"{text[:100]!r} is no adapter: write name@version, as GET /v1/adapters lists them", param=param
        )
    return name, version


def checked_name(name: str, *, param: str = "name") -> str:
    """Raises InvalidValue for what cannot be a folder of ours: paths, hub names, upper case."""
    if not NAME.fullmatch(name):
        raise InvalidValue(
            f"{name[:100]!r} cannot be an adapter's name: use 1 to 63 of a-z, 0-9 and -, beginning with a "
            "letter or digit",
            param=param,
        )
    return name


def checked_alias(alias: str, base: str, *, param: str = "alias") -> str:
    """Raises InvalidValue for a name that would hide the base model or mean a path."""
    if alias == base:
        raise InvalidValue(f"{alias!r} is the base model's own name; choose another alias", param=param)
    if not ALIAS.fullmatch(alias):
        raise InvalidValue(
            f"{alias[:100]!r} cannot be an alias: use 1 to 63 of letters, digits, dots, - and _", param=param
        )
    return alias
