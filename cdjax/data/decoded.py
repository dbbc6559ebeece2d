"""Images that an interrupted preparation has decoded already, so that the next one goes on.

One file to which entries are appended: key (32 bytes), length and CRC-32 of the data (4 bytes
each, big-endian), data. A kill can leave half an entry at the end, which is cut off.
"""

import contextlib
import hashlib
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

_HEADER = struct.Struct(">32sII")


def image_key(path: Path, **options) -> bytes:
  """What a decoded image depends on: its file, as far as size and time tell, and the options.

  Raises:
    OSError: there is no such file.
  """
  stat = path.stat()
  return hashlib.sha256(repr((os.fspath(path), stat.st_size, stat.st_mtime_ns,
                              sorted(options.items()))).encode("utf-8", "surrogateescape")).digest()


@contextlib.contextmanager
def decoded_images(output: Path) -> Iterator["DecodedImages"]:
  """What an interrupted run decoded for `output`; removed unless this run is interrupted too."""
  decoded = DecodedImages(output.with_name(f".{output.name}.decoded"))
  try:
    yield decoded
  except (ValueError, OSError):   # it would happen again, or there is no room for it
    decoded.discard()
    raise
  except BaseException:
    decoded.close()
    raise
  decoded.discard()


class DecodedImages:
  """PNG bytes by key, on disk.

  Attributes:
    found: how many images of an earlier run the file holds.
  """

  def __init__(self, path: Path):
    """Opens the file, or makes it."""
    self.path = path
    self._file = path.open("ab+")
    self._places: dict[bytes, tuple[int, int, int]] = {}
    end = self._scan()
    self._file.truncate(end)
    self.found = len(self._places)

  def _scan(self) -> int:
    """Finds the entries; returns where the last whole one ends."""
    size = self._file.seek(0, os.SEEK_END)
    place = 0
    while place + _HEADER.size <= size:
      header = os.pread(self._file.fileno(), _HEADER.size, place)
      key, length, checksum = _HEADER.unpack(header)
      start = place + _HEADER.size
      if start + length > size:
        break
      self._places[key] = (start, length, checksum)
      place = start + length
    return place

  def __contains__(self, key: bytes) -> bool:
    return key in self._places

  def get(self, key: bytes) -> bytes | None:
    """The data of an entry; None where it is damaged."""
    start, length, checksum = self._places[key]
    data = os.pread(self._file.fileno(), length, start)
    return data if zlib.crc32(data) == checksum else None

  def put(self, key: bytes, data: bytes) -> None:
    """Appends an entry."""
    if key not in self._places:
      self._file.write(_HEADER.pack(key, len(data), zlib.crc32(data)) + data)
      self._file.flush()   # in the system's hands, which outlive a killed process

  def close(self) -> None:
    """Closes the file and leaves it where it is."""
    self._file.close()

  def discard(self) -> None:
    """Closes and removes the file."""
    self.close()
    self.path.unlink(missing_ok=True)
