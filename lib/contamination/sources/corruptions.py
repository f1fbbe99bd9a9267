"""Corruptions of a test set at three severities, by torchvision's transforms with fixed seeds.

In the manner of ImageNet-C (Hendrycks and Dietterich, ICLR 2019), with strengths given as shares of the image's side,
so that they mean the same at every size.
"""

SEVERITIES = (1, 2, 3)


def noise(images, severity: int, generator):
    """Gaussian noise. images: uint8 (n, 3, size, size), as in all of these functions."""
    import torch

    strength = (20, 40, 60)[severity - 1]
    return _to_bytes(images + strength * torch.randn(images.shape, generator=generator))


def blur(images, severity: int, generator):
    from torchvision.transforms.v2 import functional

    size = images.shape[-1]
    return functional.gaussian_blur(images, _odd(size / 2), sigma=size * (0.04, 0.06, 0.09)[severity - 1])


def contrast(images, severity: int, generator):
    from torchvision.transforms.v2 import functional

    return functional.adjust_contrast(images, (0.4, 0.2, 0.1)[severity - 1])


def occlusion(images, severity: int, generator):
    """A gray square somewhere in each image."""
    import torch
    from torchvision.transforms.v2 import functional

    size = images.shape[-1]
    side = max(1, round(size * (0.25, 0.35, 0.45)[severity - 1]))
    corners = torch.randint(0, size - side + 1, (len(images), 2), generator=generator).tolist()
    gray = torch.full((3, side, side), 128, dtype=torch.uint8)
    squares = [
        functional.erase(image, *corner, side, side, gray) for image, corner in zip(images, corners, strict=True)
    ]
    return torch.stack(squares)


def rotation(images, severity: int, generator):
    """Turned left or right by one angle; the corners take the color of the nearest edge's middle."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode, functional

    angle = (20, 35, 50)[severity - 1]
    left = torch.rand(len(images), generator=generator) < 0.5
    border = images.shape[-1]
    padded = functional.pad(images, [border] * 4, padding_mode="edge")
    turned = {
        sign: functional.rotate(padded, sign * angle, interpolation=InterpolationMode.BILINEAR) for sign in (-1, 1)
    }
    chosen = torch.where(left[:, None, None, None], turned[1], turned[-1])
    return functional.center_crop(chosen, [images.shape[-1]] * 2)


def pixelate(images, severity: int, generator):
    from torchvision.transforms.v2 import InterpolationMode, functional

    size = images.shape[-1]
    small = max(1, round(size * (0.6, 0.45, 0.35)[severity - 1]))
    coarse = functional.resize(images, [small, small], interpolation=InterpolationMode.BILINEAR, antialias=True)
    return functional.resize(coarse, [size, size], interpolation=InterpolationMode.NEAREST)


def jpeg(images, severity: int, generator):
    import torch
    from torchvision.transforms.v2 import functional

    return torch.stack([functional.jpeg(image, (30, 12, 5)[severity - 1]) for image in images])


CORRUPTIONS = {each.__name__: each for each in (noise, blur, contrast, occlusion, rotation, pixelate, jpeg)}


def corrupt(images, name: str, *, severity: int, seed: int):
    """The same images, corrupted. Everything random follows from (seed, name, severity)."""
    import torch

    position = list(CORRUPTIONS).index(name) * len(SEVERITIES) + severity
    generator = torch.Generator().manual_seed(seed * 1000 + position)
    return CORRUPTIONS[name](images, severity, generator)


def _odd(number: float) -> int:
    return 2 * (round(number) // 2) + 1


def _to_bytes(values):
    import torch

    return values.round().clamp(0, 255).to(torch.uint8)
