"""Headers of NumPy's files of arrays, read without the arrays."""

import math
from typing import IO

import numpy as np

__all__ = ["array_header"]

READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def array_header(file: IO[bytes], size: int) -> tuple[tuple[int, ...], np.dtype]:
    """Read the header of an ``.npy`` file, and refuse one whose array would not fill the file exactly.

    Parameters
    ----------
    file : binary file
        At its beginning.
    size : int
        Its length in bytes.

    Returns
    -------
    shape : tuple of int
    dtype : dtype

    Raises
    ------
    ValueError
        If it is no such file, or its array is of Python objects or of another size.

    Examples
    --------
    >>> import io
    >>> import numpy as np
    >>> from skastro._arrays import array_header
    >>> file = io.BytesIO()
    >>> np.save(file, np.ones((2, 3)))
    >>> array_header(io.BytesIO(file.getvalue()), size=file.tell())
    ((2, 3), dtype('float64'))
    """
    version = np.lib.format.read_magic(file)
    if version not in READERS:
        raise ValueError(f"an array is in version {version} of NumPy's format")
    shape, _, dtype = READERS[version](file)
    if dtype.hasobject or dtype.itemsize == 0 or min(shape, default=0) < 0:
        raise ValueError(f"an array is of shape {shape} and type {dtype}")
    if file.tell() + math.prod(shape) * dtype.itemsize != size:
        raise ValueError(f"an array of shape {shape} and type {dtype} does not fill its {size} bytes")
    return shape, dtype
