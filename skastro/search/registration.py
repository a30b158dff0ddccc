"""Registration of images: fingerprints that turns and shifts leave alone, and the correlation of two images."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from skastro.images import center_crop

__all__ = ["detail", "fingerprints", "overlay"]

SMALLEST = 16  # pixels of a side
FINE, COARSE, LOCAL = 1.0, 3.0, 5.0  # pixels: what is finer is noise, what is coarser is the object itself
RADII, ANGLES, ORDERS = 24, 144, 8  # of the polar spectrum over half a turn, and kept of the angles
LOWEST, HIGHEST = 1.5, 0.32  # radii in the spectrum, in cycles per image and in cycles per pixel
NEAR = (-1, 0, 1)  # steps of the angle about the best one


def detail(images: np.ndarray) -> Tensor:
    """Bring out what tells one image from another: details of all brightness, each beside its surroundings.

    Bands are averaged, the middle is cut to a square, a Gaussian of 3 pixels is subtracted from one of 1 pixel, and the
    difference divided by what is usual within 5 pixels. So the profile of a galaxy, which many have, counts no more
    than its neighbors and the pattern of the noise, which no other has.

    Parameters
    ----------
    images : ndarray of shape (n, bands, height, width)
        In any unit.

    Returns
    -------
    Tensor of shape (n, side, side), float32

    Examples
    --------
    >>> import numpy as np
    >>> from skastro.search.registration import detail
    >>> detail(np.ones((2, 3, 20, 24))).shape
    torch.Size([2, 20, 20])
    """
    side = min(images.shape[2:])
    light = center_crop(images, (side, side)).mean(axis=1, dtype=np.float64)
    fine = _blurred(light, FINE) - _blurred(light, COARSE)
    usual = np.sqrt(_blurred(fine**2, LOCAL))
    floor = np.median(usual, axis=(1, 2), keepdims=True) + 0.01 * usual.max(axis=(1, 2), keepdims=True)
    return torch.from_numpy(np.divide(fine, usual + floor, out=np.zeros_like(fine), where=floor > 0)).float()


def _blurred(images: np.ndarray, sigma: float) -> np.ndarray:
    return gaussian_filter(images, (0, sigma, sigma), mode="reflect")


def fingerprints(details: Tensor) -> np.ndarray:
    """Compute what stays of an image that is turned and shifted.

    A shift leaves the absolute values of the Fourier transform as they are, and a turn turns them; so of these, in
    polar coordinates, the absolute values of the Fourier transform along the angle know of neither.

    Parameters
    ----------
    details : Tensor of shape (n, side, side)
        From `detail`.

    Returns
    -------
    ndarray of shape (n, 192), float32

    References
    ----------
    Reddy & Chatterji (1996), "An FFT-based technique for translation, rotation, and scale-invariant image
    registration", `doi:10.1109/83.506761 <https://doi.org/10.1109/83.506761>`_.

    Examples
    --------
    >>> import torch
    >>> from skastro.search.registration import fingerprints
    >>> image = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> bool(torch.allclose(*map(torch.from_numpy, map(fingerprints, (image, image.rot90(dims=(1, 2))))), atol=1e-3))
    True
    """
    return torch.fft.rfft(_spectra(details), dim=2).abs()[..., :ORDERS].flatten(1).numpy()


def overlay(first: Tensor, second: Tensor, max_shift: int) -> tuple[np.ndarray, np.ndarray]:
    """Turn and shift each image until it lies over its partner, and correlate the two.

    The angle is that at which the absolute values of the Fourier transforms agree best, or half a turn more. The
    correlation is Pearson's, over the largest disc that stays within the frame when it is shifted.

    Parameters
    ----------
    first, second : Tensor of shape (n, side, side)
        From `detail`.
    max_shift : int
        Largest shift in pixels, along each axis.

    Returns
    -------
    correlations : ndarray of shape (n,)
        From -1 to 1.
    angles : ndarray of shape (n,)
        By which the first is turned counterclockwise, as shown with the first row at the bottom, in degrees.
    """
    tried = _angles(first, second)
    found = torch.stack([_correlate(_turned(first, angle), second, max_shift) for angle in tried])
    best = found.max(dim=0)
    angles = tried.gather(0, best.indices[None])[0]
    return best.values.numpy(), np.degrees(angles.numpy()) % 360


def _spectra(details: Tensor) -> Tensor:
    """Compute the absolute values of the Fourier transform along RADII circles, at ANGLES angles of half a turn."""
    side = details.shape[-1]
    middle = (torch.arange(side) - (side - 1) / 2) / (side / 2)
    window = torch.cos(torch.pi / 2 * torch.hypot(middle[:, None], middle).clamp(max=1)).square()
    plain = (details - details.mean(dim=(1, 2), keepdim=True)) * window
    spectrum = torch.fft.fftshift(torch.fft.fft2(plain).abs().sqrt(), dim=(1, 2))  # roots, lest one wave outshine all
    radii = torch.linspace(LOWEST, HIGHEST * side, RADII)[:, None]
    angles = torch.arange(ANGLES) * torch.pi / ANGLES
    places = torch.stack([radii * torch.cos(angles), radii * torch.sin(angles)], dim=-1) + side // 2
    grid = (2 * places / (side - 1) - 1).expand(len(details), -1, -1, -1)
    return grid_sample(spectrum[:, None], grid, align_corners=True)[:, 0]


def _angles(first: Tensor, second: Tensor) -> Tensor:
    """Find the angles to try, (2 × NEAR, n): where the spectra agree best, which do not tell half a turn."""
    spectra = (torch.fft.rfft(_spectra(details), dim=2) for details in (first, second))
    before, after = (spectrum * (torch.arange(spectrum.shape[2]) > 0) for spectrum in spectra)
    agreement = torch.fft.irfft((after * before.conj()).sum(dim=1), n=ANGLES)
    best = agreement.argmax(dim=1)
    return torch.cat([(best + near + turn) * (torch.pi / ANGLES) for turn in (0, ANGLES) for near in NEAR]).view(
        -1, len(first)
    )


def _turned(details: Tensor, angles: Tensor) -> Tensor:
    cos, sin, zero = torch.cos(angles), torch.sin(angles), torch.zeros_like(angles)
    matrix = torch.stack([torch.stack([cos, sin, zero], -1), torch.stack([-sin, cos, zero], -1)], dim=1)
    grid = affine_grid(matrix, [len(details), 1, *details.shape[1:]], align_corners=False)
    return grid_sample(details[:, None], grid, align_corners=False)[:, 0]


def _correlate(first: Tensor, second: Tensor, max_shift: int) -> Tensor:
    """Compute the largest correlation of the middle disc of the first with as large discs of the second."""
    side = first.shape[-1]
    middle = torch.arange(side) - (side - 1) / 2
    disc = (torch.hypot(middle[:, None], middle) <= side / 2 - max_shift).float()
    inside = (first - ((first * disc).sum(dim=(1, 2)) / disc.sum())[:, None, None]) * disc
    waves, of_disc = torch.fft.rfft2(second), torch.fft.rfft2(disc).conj()
    products = torch.fft.irfft2(waves * torch.fft.rfft2(inside).conj(), s=(side, side))
    sums = torch.fft.irfft2(waves * of_disc, s=(side, side))
    squares = torch.fft.irfft2(torch.fft.rfft2(second.square()) * of_disc, s=(side, side))
    spread = (squares - sums.square() / disc.sum()).clamp(min=0) * inside.square().sum(dim=(1, 2), keepdim=True)
    shifts = torch.arange(-max_shift, max_shift + 1) % side
    correlation = products / (spread.sqrt() + 1e-6 * disc.sum())  # nothing is like an empty sky
    return correlation[:, shifts[:, None], shifts].flatten(1).amax(dim=1)
