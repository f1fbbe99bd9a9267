"""Published networks: a folder, or a name on the Hugging Face hub, in place of one that starts from scratch."""

import functools

from contamination.base.layout import project_root


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


def load(name: str, kind: str, read):
    """What `read()` gives; when it fails, a ValueError in one line that says that `name` does not load as a `kind`."""
    try:
        return read()
    except Exception as error:  # a wrong folder, or a hub out of reach, fails in as many ways as there are files
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"architecture {name} does not load as a {kind} ({type(error).__name__}: {reason})") from None


def as_seen(pixels, size: int, *, mean, std):
    """uint8 (n, 3, height, width) as a published network reads images: float (n, 3, size, size).

    mean, std: of its pixels (0..1), by channel.
    """
    import torch.nn.functional as functional

    images = pixels.float().div(255)
    if images.shape[-2:] != (size, size):
        images = functional.interpolate(images, (size, size), mode="bicubic", antialias=True)
    mean, std = (_by_channel(tuple(each), images.device) for each in (mean, std))
    return (images - mean) / std


@functools.lru_cache(maxsize=8)  # a GPU would be waited for at every batch
def _by_channel(values: tuple[float, ...], device):
    import torch

    with torch.inference_mode(False):  # so that it serves training, too
        return torch.tensor(values, device=device).view(3, 1, 1)
