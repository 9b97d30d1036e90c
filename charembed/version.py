"""The version of charembed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("charembed")
except PackageNotFoundError:  # a checkout that was not installed
    __version__ = "unknown"
