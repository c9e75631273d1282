"""When so many files are gone that a job has to stop."""

from __future__ import annotations

from pipeline.errors import RunError

# Fewer are files that somebody moved, whatever their share of a small archive.
_LOST_FILES = 10


class OutageGuard:
    """Stops a job when so many files can't be had that the archive itself must be gone."""

    def __init__(
        self,
        images: int,
        share: float,
        says: str = "an outage, or a manifest of another place. Nothing was published",
    ) -> None:
        """Allows `share` of the images, beyond a handful; `says` what it may be, and is left."""
        self._images, self._share, self._says = images, share, says
        self._unreachable = 0

    def add(self, unreachable: int, unread: int = 0) -> None:
        """Counts one commit's files that were missing, denied or unreadable.

        Args:
            unreachable: images whose file could be read when it was indexed.
            unread: images whose file could not: they are no sign of an outage, and would be one
                every night. The share is taken of the others.

        Raises:
            RunError: they are more than `max_unreachable` allows.
        """
        self._unreachable += unreachable
        self._images -= unread
        if self._unreachable > max(_LOST_FILES, int(self._share * self._images)):
            raise RunError(
                f"max_unreachable: the files of {self._unreachable} images are missing, denied or "
                f"unreadable, more than {self._share:g} of {self._images}: {self._says}; when "
                "the archive is back the same command tries them again, and max_unreachable=1 "
                "takes them for lost"
            )
