"""Every error that splitbus raises, by cause.

::

    SplitbusError
    ├── BadInputError            what a person or a file gave is wrong; a CLI exits with 2
    │   ├── ConfigError          an option, a setting or an environment variable
    │   ├── PlanError            no way to split a model meets the constraints
    │   ├── SampleError          an input that is not what the model takes
    │   ├── CannotCertifyError   the samples do not support what is to be promised
    │   └── BundleError          a bundle that cannot be used
    │       ├── ManifestError    manifest.json is missing, unreadable or inconsistent
    │       ├── MissingFileError a file that the manifest names is not there
    │       ├── DigestError      a file's bytes are not those that the manifest names
    │       └── UntrustedError   a file that is code comes without a reason to trust it
    ├── WireError                bytes that came or would go over the wire
    │   ├── DecodeError          truncated, malformed, of an unknown version
    │   └── TooLargeError        over a cap that was checked before anything was allocated
    ├── TensorError              an array that is not of the stated dtype and shape
    ├── InterfaceMismatchError   the two halves of a model are not of one pair
    └── LinkError                the broker
        ├── BrokerUnavailableError  nobody answers, or an engine cannot be started
        ├── BrokerRefusedError      it answered with a reason code that says no
        ├── NotConnectedError       the connection is down at this moment
        └── NoReplyError            nobody answered a request by its deadline

A message states the fact, then the remedy; the facts are attributes too.
"""

from __future__ import annotations


class SplitbusError(Exception):
    """Root of the tree."""


class BadInputError(SplitbusError):
    """What a person or a file gave is wrong; a command line exits with code 2."""


class ConfigError(BadInputError):
    """An option, a setting or an environment variable has a value that cannot be used."""


class PlanError(BadInputError):
    """No way to split a model meets the constraints; the attributes tell of the one that comes nearest."""

    def __init__(
        self,
        model: str,
        *,
        candidate: str,
        misses: tuple[str, ...],
        constraint: str,
        limit: float,
        value: float | None,
    ) -> None:
        self.candidate, self.misses = candidate, misses
        self.constraint, self.limit, self.value = constraint, limit, value
        super().__init__(
            f"no way to split {model} meets the constraints; the nearest is {candidate}: {'; '.join(misses)}; "
            "relax that, or profile more operating points"
        )


class SampleError(BadInputError):
    """An input is not what the model takes."""


class CannotCertifyError(BadInputError):
    """The samples do not support what is to be promised about the early exit; nothing is wrong with them."""

    def __init__(self, *, fact: str, remedy: str, more: int | None) -> None:
        self.more = more
        """Further samples that would do if none of them were wrong; None when none can be told."""
        super().__init__(f"cannot certify: {fact}; {remedy}")


class BundleError(BadInputError):
    """A bundle cannot be used."""


class ManifestError(BundleError):
    """`manifest.json` is missing, unreadable or inconsistent with itself."""


class MissingFileError(BundleError):
    """A file that the manifest names is not in the bundle."""


class DigestError(BundleError):
    """A file's bytes are not the bytes that the manifest names."""


class UntrustedError(BundleError):
    """A file that is code comes without a reason to trust it."""


class WireError(SplitbusError):
    """Bytes that came from the wire, or would go there, are not acceptable."""


class DecodeError(WireError):
    """Bytes are truncated, malformed, of an unknown version or of another shape."""


class TooLargeError(WireError):
    """A size is over its cap; raised before anything of that size is allocated."""

    def __init__(self, what: str, size: int, cap: int, remedy: str) -> None:
        self.what, self.size, self.cap = what, size, cap
        super().__init__(f"{what} has {size} bytes, the cap is {cap}; {remedy}")


class TensorError(SplitbusError):
    """An array is not of the dtype and shape that were agreed."""


class InterfaceMismatchError(SplitbusError):
    """The two halves of a model do not come from one pair."""

    def __init__(self, *, ours: str, theirs: str, remedy: str) -> None:
        self.ours, self.theirs = ours, theirs
        super().__init__(f"this half has interface {ours}, the other half has {theirs}; {remedy}")


class LinkError(SplitbusError):
    """Something about the broker or the way to it."""


class BrokerUnavailableError(LinkError):
    """Nobody answers at the broker's address, or an engine cannot be started."""


class BrokerRefusedError(LinkError):
    """The broker answered with a reason code that says no."""

    def __init__(self, action: str, reason: str, code: int) -> None:
        self.action, self.reason, self.code = action, reason, code
        super().__init__(
            f"the broker refused to {action}: {reason} (reason code {code:#04x}); "
            "check the user name, the password and the broker's access rules"
        )


class NotConnectedError(LinkError):
    """The connection is down at this moment; it is being restored in the background."""


class NoReplyError(LinkError):
    """Nobody answered a request by its deadline."""

    def __init__(self, topic: str, attempts: int, waited_s: float, bytes_up: int) -> None:
        self.topic, self.attempts, self.waited_s, self.bytes_up = topic, attempts, waited_s, bytes_up
        super().__init__(
            f"no reply to {topic} after {attempts} attempts in {waited_s * 1e3:.0f} ms; see whether a worker serves it"
        )
