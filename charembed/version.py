"""Which charembed this is."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("charembed")
except PackageNotFoundError:  # from a checkout that was not installed
    __version__ = "unknown"
