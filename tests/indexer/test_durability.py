"""What could not be written is told: a small array on a full disk, and what reads it back."""

from pathlib import Path

import numpy as np
import pytest

from indexer.durability import write_array

FULL = Path("/dev/full")  # opens, and has no room for a byte


@pytest.mark.parametrize("shape", [(1,), (3, 256), (100_000,)])
def test_no_room_is_told_for_arrays_of_any_size(shape):
    if not FULL.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left"):
        write_array(FULL, np.ones(shape, dtype=np.float32))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (5,), (7, 3)])
def test_the_bytes_are_those_of_the_array(tmp_path, shape):
    array = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    for one in (array, array.T, array[::2]):
        write_array(tmp_path / "a", one)
        assert (tmp_path / "a").read_bytes() == one.tobytes()
