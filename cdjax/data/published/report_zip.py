"""Reports straight from their archive, without unpacking it."""

import hashlib
import zipfile
import zlib
from pathlib import Path

from cdjax.data.quarantine import Unusable
from cdjax.data.tables import ManifestError

_MAX_BYTES = 1 << 20  # of one report; the longest published one has some 10 kB


class ReportZip:
  """Texts in a zip file, read by name; nothing is ever written to disk.

  Attributes:
    missing: how many reports were asked for that the archive does not have.
    sha256: of the archive's directory: names, sizes and checksums.
  """

  def __init__(self, path: Path):
    """Opens the archive.

    Raises:
      ManifestError: it is not there, or no zip file.
    """
    if not path.is_file():
      raise ManifestError(f"--reports {path} does not exist; expected a zip file")
    try:
      self._zip = zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
      raise ManifestError(f"--reports {path} is not a zip file, or damaged ({error}); download it "
                          "again") from error
    self._known = {info.filename: info for info in self._zip.infolist()}
    listing = "\n".join(f"{name} {info.file_size} {info.CRC}"
                        for name, info in sorted(self._known.items()))
    self.sha256 = hashlib.sha256(listing.encode("utf-8", "surrogateescape")).digest()
    self.missing = 0

  def read(self, name: str) -> str:
    """The text of a member, "" where there is none.

    Raises:
      Unusable: the member is damaged, encrypted, or far longer than a report.
    """
    info = self._known.get(name)
    if info is None:
      self.missing += 1
      return ""
    if info.file_size > _MAX_BYTES:
      raise Unusable("unreadable report", f"{name} has {info.file_size} bytes")
    try:
      return self._zip.read(info).decode("utf-8", "replace").strip()
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
      raise Unusable("unreadable report", f"{name}: {error}") from error
