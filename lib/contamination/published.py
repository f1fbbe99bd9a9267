"""Published networks: a folder, or a name on the Hugging Face hub, in place of one that starts from scratch."""

from contamination.layout import project_root


def locate(architecture: str, from_scratch: str) -> str:
    """The folder, below the project root, or the hub name that an `architecture` gives.

    from_scratch: the architecture that is neither. Raises ValueError for what cannot be any of the three.
    """
    folder = project_root() / architecture
    if folder.is_dir():
        return str(folder)
    if architecture.count("/") != 1 or architecture.startswith((".", "/")):
        raise ValueError(f"architecture {architecture!r}: give {from_scratch}, a folder that exists, or a hub name a/b")
    return architecture
