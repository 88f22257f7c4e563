"""Typed errors. Each one carries its data, says what was expected, what arrived, where, and what to do.

The exit code of ``vpoc-ml`` is a property of the error class: 2 usage or configuration, 3 a gate
failed, 4 training unstable, 5 input missing or unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any


class VpocError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1


# ---------------------------------------------------------------- configuration (exit 2)


class ConfigError(VpocError):
    """A configuration value that cannot be used."""

    exit_code = 2


class UnknownPresetError(ConfigError):
    """A preset name that does not exist."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        self.name, self.known = name, tuple(known)
        super().__init__(f"Expected a preset out of {', '.join(self.known)}; was {name!r}. Choose one of them.")


class UnknownKeyError(ConfigError):
    """An override whose dotted key names no setting."""

    def __init__(self, key: str, suggestions: Sequence[str], *, where: str = "override") -> None:
        self.key, self.suggestions, self.where = key, tuple(suggestions), where
        hint = f" Did you mean {' or '.join(self.suggestions)}?" if self.suggestions else ""
        super().__init__(
            f"Expected the dotted name of a setting in the {where}; was {key!r}.{hint}"
            " `vpoc-ml config` prints every setting."
        )


class InvalidValueError(ConfigError):
    """A setting whose value is outside its type or limits."""

    def __init__(self, key: str, value: Any, expected: str) -> None:
        self.key, self.value, self.expected = key, value, expected
        super().__init__(f"Expected {key} to be {expected}; was {value!r}. Correct the value and start again.")


class InvalidValuesError(InvalidValueError):
    """Several settings whose values are outside their type or limits; ``key`` and ``value`` are those of the first."""

    def __init__(self, errors: Sequence[InvalidValueError]) -> None:
        self.errors = tuple(errors)
        super().__init__(errors[0].key, errors[0].value, errors[0].expected)
        lines = [f"Expected {each.key} to be {each.expected}; was {each.value!r}." for each in errors]
        self.args = ("\n".join([*lines, "Correct these values and start again."]),)


class ContractCodeError(ConfigError):
    """A contract name that cannot be read."""

    def __init__(self, text: str, *, where: str = "contract name", reason: str = "") -> None:
        self.text, self.where, self.reason = text, where, reason
        detail = f" ({reason})" if reason else ""
        super().__init__(
            f"Expected a futures contract such as ESH25, ES 03-25, ESH5, ESH2025 or ES_H25 in the {where};"
            f" was {text!r}{detail}. Rename the file or name the contract explicitly."
        )


class DeviceError(ConfigError):
    """No device that the settings allow can train."""

    def __init__(self, asked: str, trouble: str, remedy: str) -> None:
        self.asked, self.trouble = asked, trouble
        super().__init__(f"Expected a device that works ({asked}); {trouble.rstrip('.')}. {remedy}".rstrip())


# ---------------------------------------------------------------- the machine's faults (exit 1): try again


class MachineError(VpocError):
    """The machine failed, not the data or the settings: another try may succeed, and resumes."""


class StorageError(MachineError):
    """The file system refuses a write: it is full, read-only, or the folder belongs to somebody else."""

    def __init__(self, path: object, expected: str, found: str, remedy: str) -> None:
        self.path, self.expected, self.found = str(path), expected, found
        super().__init__(f"{path}: expected {expected}; found {found}. {remedy} Then run the stage again: it resumes.")


class GpuBusyError(MachineError):
    """A card holds memory of somebody else."""

    def __init__(self, gpu: int, used: int, limit: float) -> None:
        self.gpu, self.used, self.limit = gpu, used, limit
        super().__init__(
            f"Expected GPU {gpu} to be free before training; {used / 1024**3:.1f} GiB are in use, the limit is"
            f" {limit:g} GiB (training.vram_limit_gib). End the process that holds them; when none does, the driver has"
            " kept them: restart the worker's container, then the machine."
        )


# ---------------------------------------------------------------- gates (exit 3), training (exit 4)


class GateFailedError(VpocError):
    """A critical check of a quality gate failed. ``verdict`` is the gate's JSON-ready verdict."""

    exit_code = 3

    def __init__(self, message: str, verdict: dict[str, Any]) -> None:
        self.verdict = verdict
        super().__init__(message)


class TrainingUnstableError(VpocError):
    """Training did not stay finite and alive with any permitted remedy."""

    exit_code = 4


class CheckpointError(VpocError):
    """A checkpoint or model file whose content does not match its recorded hash or format."""

    exit_code = 5


# ---------------------------------------------------------------- input (exit 5)


class InputError(VpocError):
    """Input that is missing or cannot be read."""

    exit_code = 5


class MissingInputError(InputError):
    """A folder or file that does not exist or holds nothing of use."""

    def __init__(self, path: object, expected: str, remedy: str) -> None:
        self.path, self.expected = str(path), expected
        super().__init__(f"Expected {expected} at {path}; found none. {remedy}")


class UnreadableFileError(InputError):
    """A file that is not in the format it should be. ``line`` is 1-based; None when the whole file is meant."""

    def __init__(self, path: object, expected: str, found: str, *, line: int | None = None, remedy: str = "") -> None:
        self.path, self.expected, self.found, self.line, self.remedy = str(path), expected, found, line, remedy
        where = f"{path}, line {line}" if line is not None else str(path)
        super().__init__(f"{where}: expected {expected}; found {found}. {remedy}".rstrip())


class ExpansionLimitError(UnreadableFileError):
    """A packed file that expands to more than it may. ``packed`` and ``limit`` are bytes."""

    def __init__(self, path: object, packed: int, limit: float) -> None:
        self.packed, self.limit = packed, limit
        super().__init__(
            path,
            f"at most {limit / 2**20:,.0f} MiB in a packed file of {packed:,} bytes",
            "more",
            remedy="Unpack it and deliver the text, or raise ingest.expansion_limit if it is what it should be.",
        )


class VixCoverageError(InputError):
    """Closes of the VIX, or of the index called ``name``, that do not cover the bars."""

    def __init__(self, path: object, vix_span: str, bars_span: str, name: str = "VIX") -> None:
        self.path, self.vix_span, self.bars_span = str(path), vix_span, bars_span
        super().__init__(
            f"Expected {name} closes published before and during {bars_span}; {path} covers {vix_span}."
            f" Deliver a {name} file that overlaps the contracts."
        )


class InsufficientSessionsError(InputError):
    """Too few sessions for what is asked."""

    def __init__(
        self, what: str, found: int, needed: int, why: str, remedy: str = "deliver more or shorten what needs them"
    ) -> None:
        self.what, self.found, self.needed = what, found, needed
        super().__init__(
            f"Expected at least {needed} sessions for {what} ({why}); found {found}."
            f" {needed - found} more are needed: {remedy}."
        )


class UnreviewedSessionsError(InputError):
    """Bars of none but sessions whose hours were not reviewed. ``first`` and ``last`` are the reviewed trade dates."""

    def __init__(self, path: object, calendar: str, first: date, last: date) -> None:
        self.path, self.calendar, self.first, self.last = str(path), calendar, first, last
        super().__init__(
            f"{path}: expected bars of sessions whose hours were reviewed, which calendar {calendar} has from {first}"
            f" to {last}; found none. Deliver contracts that trade in these sessions."
        )


class QuarantineLimitError(InputError):
    """More bad rows in one raw file than the quarantine may hold."""

    def __init__(self, path: object, bad: int, rows: int, limit: float, reasons: dict[str, int]) -> None:
        self.path, self.bad, self.rows, self.limit, self.reasons = str(path), bad, rows, limit, reasons
        listed = ", ".join(f"{reason}: {count}" for reason, count in reasons.items())
        super().__init__(
            f"{path}: expected at most {limit:.2%} bad rows; found {bad} of {rows} ({listed})."
            " Look at the quarantine file, correct the delivery, or raise ingest.quarantine_limit."
        )


class ArtifactError(InputError):
    """A stored artifact that is absent, torn or of another schema."""

    def __init__(self, uri: object, expected: str, found: str) -> None:
        self.uri, self.expected, self.found = str(uri), expected, found
        super().__init__(f"{uri}: expected {expected}; found {found}. Run the stage that makes it again.")


class WriterBusyError(ArtifactError):
    """Another writer holds the lock of a contract, or took it over."""

    def __init__(self, uri: object, name: str, holder: str, seconds: float) -> None:
        super().__init__(uri, f"no other writer of {name}", holder)
        self.name, self.holder, self.seconds = name, holder, seconds
        message = (
            f"{uri}: expected no other writer of {name} within {seconds:.0f} s; it is held by {holder}."
            " Wait for that run or end it, then run the stage again."
        )
        self.args = (message,)


class RegistryError(VpocError):
    """The model registry and its ledger cannot do what is asked."""

    exit_code = 5


class ApprovalError(VpocError):
    """An answer about a candidate that does not wait for one."""

    def __init__(self, run: str, state: str) -> None:
        self.run, self.state = run, state
        super().__init__(
            f"Expected a candidate that waits for approval; that of run {run} is {state}. Nothing was changed."
            " `vpoc-ml summary` shows the decision and its reasons."
        )
