"""The pickle files of CIFAR, read without executing anything in them.

In: a path. Out: the dictionary. Its arrays are `ArrayState`s: plain bytes with a shape. Only the
global names that those files use are accepted. Each name, including those of numpy, stands for a
harmless class of this module. The unpickler is the one written in Python: the one in C allocates
memory for any memo index in a file.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from slipform.pipelines.errors import DatasetError, printable
from slipform.pipelines.files import open_regular

__all__ = ["ArrayState", "read_pickle"]


class ArrayState:
    """A pickled numpy array.

    Attributes:
        shape: Its shape.
        content: Its bytes.
    """

    shape: tuple[int, ...] = ()
    content: bytes = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, _, fortran_order, content = state
        if fortran_order or not isinstance(content, bytes):
            raise ValueError("an array of objects, or in Fortran order")
        self.shape, self.content = tuple(int(size) for size in shape), content

    def bytes_array(self) -> npt.NDArray[np.uint8]:
        """The array as uint8.

        Raises:
            ValueError: The number of bytes does not fit the shape.
        """
        return np.frombuffer(self.content, np.uint8).reshape(self.shape)


class _Ignored:
    """Replaces the classes of numpy that the files name. They are not needed."""

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _reconstruct(*arguments: Any) -> ArrayState:
    return ArrayState()


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode("latin1")  # Python 3 pickles bytes for Python 2 in this way


_ADMITTED: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): _Ignored,
    ("numpy", "dtype"): _Ignored,
    ("_codecs", "encode"): _encode,
}


# A batch file builds about ten tuples, lists and dictionaries. A larger number could be nested so
# deeply that hashing or freeing them overflows the stack.
_MAX_CONTAINERS = 1000
_CONTAINERS = (
    pickle.TUPLE
    + pickle.TUPLE1
    + pickle.TUPLE2
    + pickle.TUPLE3
    + pickle.LIST
    + pickle.DICT
    + pickle.EMPTY_TUPLE
    + pickle.EMPTY_LIST
    + pickle.EMPTY_DICT
    + pickle.EMPTY_SET
    + pickle.FROZENSET
    + pickle.REDUCE
    + pickle.BUILD
    + pickle.NEWOBJ
    + pickle.NEWOBJ_EX
    + pickle.OBJ
    + pickle.INST
)


class _Unpickler(pickle._Unpickler):
    containers = 0

    def find_class(self, module_name: str, global_name: str) -> Any:
        try:
            return _ADMITTED[module_name, global_name]
        except KeyError:
            raise pickle.UnpicklingError(
                f"it asks for {module_name}.{global_name}, which no such file needs"
            ) from None


def _counted(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def counted(self: Any) -> None:
        self.containers += 1
        if self.containers > _MAX_CONTAINERS:
            raise pickle.UnpicklingError("it is nested more deeply than any such file")
        load(self)

    return counted


_Unpickler.dispatch = {
    code: _counted(load) if code in _CONTAINERS else load
    for code, load in pickle._Unpickler.dispatch.items()
}


def read_pickle(path: Path) -> dict[bytes, Any]:
    """Read the dictionary in a file.

    Args:
        path: A regular file.

    Returns:
        Its entries. Keys are bytes, and arrays are `ArrayState`s.

    Raises:
        DatasetError: The file has any other content.
        OSError: It cannot be read.
    """
    with open_regular(path, DatasetError) as file:
        try:
            content = _Unpickler(file, encoding="bytes").load()
        except OSError:
            raise
        except Exception as error:  # a damaged pickle may raise many classes of exceptions
            reason = printable(str(error)) or type(error).__name__
            raise DatasetError(
                f"{path} is not a batch file that can be trusted: {reason}. Download it again."
            ) from None
    if not isinstance(content, dict):
        raise DatasetError(f"{path} holds no dictionary. Download it again.")
    return {key.encode() if isinstance(key, str) else key: value for key, value in content.items()}
