"""dentalign: from orthodontic cases to a predicted treatment target.

Imports of this package stay lazy: every stage reaches this file, and none may depend on more than it uses.
"""


def __getattr__(name: str) -> str:
    """`dentalign.__version__`, from the installed package's metadata."""
    if name == "__version__":
        from importlib.metadata import version

        return version("dentalign")
    raise AttributeError(f"module 'dentalign' has no attribute {name!r}")
