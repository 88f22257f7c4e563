"""Typed errors. Each one carries its data, says what was expected, what arrived, where, and what to do.

The exit code of ``vpoc-ml`` is a property of the error class: 2 usage or configuration, 3 a gate
failed, 4 training unstable, 5 input missing or unreadable.

``to_record`` and ``error_from_record`` carry an error from one process to another as JSON: the class name and the
values of its constructor's parameters.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from typing import Any, Self

SHOWN_PROBLEMS = 5
"""Problems that the message of a ``VerificationError`` names."""


class VpocError(Exception):
    """Base of every error this package raises on purpose."""

    exit_code = 1

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Keep the arguments: they are the error's fields."""
        error = super().__new__(cls, *args, **kwargs)
        error._arguments = (args, kwargs)
        return error

    _arguments: tuple[tuple[Any, ...], dict[str, Any]]

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def fields(self) -> dict[str, Any]:
        """Value of each constructor parameter by name, defaults included."""
        args, kwargs = self._arguments
        bound = inspect.signature(type(self).__init__).bind(self, *args, **kwargs)
        bound.apply_defaults()
        return {name: value for name, value in bound.arguments.items() if name != "self"}

    def to_record(self) -> dict[str, Any]:
        """Return the class name, the fields and the message as JSON-ready values."""
        fields = {name: _to_json(value) for name, value in self.fields.items()}
        return {"error": type(self).__name__, "fields": fields, "message": str(self)}

    def __reduce__(self) -> tuple[Any, ...]:
        """Let pickle and copy rebuild the error from its fields."""
        return _rebuilt, (type(self), self.fields)


def error_from_record(record: Mapping[str, Any]) -> VpocError:
    """Return the error that ``VpocError.to_record`` described: the same class with the same fields.

    Raises:
        KeyError: no imported error class has this name.
    """
    classes = {each.__name__: each for each in _error_classes(VpocError)}
    fields = {name: _from_json(value) for name, value in record["fields"].items()}
    return _rebuilt(classes[record["error"]], fields)


def _rebuilt(kind: type[VpocError], fields: dict[str, Any]) -> VpocError:
    return kind(**fields)


def _error_classes(kind: type[VpocError]) -> Iterator[type[VpocError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from _error_classes(each)


def _to_json(value: Any) -> Any:
    """Return a field as JSON. What JSON does not have is an object with one key, its type; a path becomes text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, VpocError):
        return {"error": value.to_record()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Mapping):
        return {"mapping": {str(key): _to_json(each) for key, each in value.items()}}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_to_json(each) for each in value]}
    return str(value)


def _from_json(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, stored),) = value.items()
    if kind == "error":
        return error_from_record(stored)
    if kind == "date":
        return date.fromisoformat(stored)
    if kind == "mapping":
        return {key: _from_json(each) for key, each in stored.items()}
    items = [_from_json(each) for each in stored]
    return tuple(items) if kind == "tuple" else items


# ---------------------------------------------------------------- configuration (exit 2)


class ConfigError(VpocError):
    """A configuration value that cannot be used."""

    exit_code = 2


class PluginError(ConfigError):
    """A plugin that cannot be used. ``origin`` is its file or its entry point."""

    def __init__(self, origin: object, expected: str, found: str, remedy: str) -> None:
        self.origin, self.expected, self.found, self.remedy = str(origin), expected, found, remedy
        super().__init__(f"{origin}: expected {expected}; found {found}. {remedy}")


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
    """No device that the settings allow can train. ``required``: the settings; ``found``: what prevents it."""

    def __init__(self, required: str, found: str, remedy: str) -> None:
        self.required, self.found, self.remedy = required, found, remedy
        super().__init__(f"Expected a device that works ({required}); {found.rstrip('.')}. {remedy}".rstrip())


# ---------------------------------------------------------------- the machine's faults (exit 1): try again


class MachineError(VpocError):
    """The machine failed, not the data or the settings: another try may succeed, and resumes."""


class StorageError(MachineError):
    """The file system fails or refuses a write: it is full, read-only, or the folder belongs to somebody else."""

    def __init__(self, path: object, expected: str, found: str, remedy: str) -> None:
        self.path, self.expected, self.found = str(path), expected, found
        super().__init__(f"{path}: expected {expected}; found {found}. {remedy} Then run the stage again: it resumes.")


class GpuBusyError(MachineError):
    """Another process holds memory of GPU number ``gpu``: ``used`` bytes; ``limit`` GiB are accepted."""

    def __init__(self, gpu: int, used: int, limit: float) -> None:
        self.gpu, self.used, self.limit = gpu, used, limit
        super().__init__(
            f"Expected GPU {gpu} to be free before training; {used / 1024**3:.1f} GiB are in use, the limit is"
            f" {limit:g} GiB (machine.vram_limit_gib). End the process that holds them. If no process does, the"
            " driver has not released them: restart the worker's container, then the machine."
        )


class TrainingKilledError(MachineError):
    """A signal ended the training process; ``last_lines`` are the last ones of its stderr."""

    def __init__(self, signal_name: str, last_lines: str = "") -> None:
        self.signal_name, self.last_lines = signal_name, last_lines
        super().__init__(
            f"Expected the training process to finish; {signal_name} ended it (SIGKILL often means too little memory,"
            f" SIGABRT a GPU fault). Start it again: it resumes. {last_lines}".rstrip()
        )


class TrainingStoppedError(MachineError):
    """SIGTERM stopped the training in order, as a restart of its machine or worker does."""

    def __init__(self) -> None:
        super().__init__(
            "Expected the training process to finish; SIGTERM has stopped it, as a restart of the machine or the worker"
            " does. Its checkpoint is stored. Start it again: it resumes."
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


class TooManyRollbacksError(TrainingUnstableError):
    """More than ``limit`` rollbacks. ``reason``: the last one's; ``rate_factor``: what is left of the learning rate."""

    def __init__(self, limit: int, reason: str, rate_factor: float) -> None:
        self.limit, self.reason, self.rate_factor = limit, reason, rate_factor
        super().__init__(
            f"Expected training to stay stable with at most {limit} rollbacks; was unstable again at {reason}"
            f" (learning rate already at {rate_factor:g} of its schedule). Lower training.learning_rate, or check the"
            " training set's share of non-finite values."
        )


class NoFiniteValidationLossError(TrainingUnstableError):
    """The validation loss was finite after none of the ``epochs`` epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        super().__init__(
            f"Expected a finite validation loss after one of {epochs} epochs; none was. Lower training.learning_rate."
        )


class FallbackExhaustedError(TrainingUnstableError):
    """Training was unstable with every fallback preset. ``failures``: pairs of preset and error message."""

    def __init__(self, failures: Sequence[Sequence[str]]) -> None:
        self.failures = tuple((preset, message) for preset, message in failures)
        listed = "; ".join(f"{preset}: {message}" for preset, message in self.failures)
        super().__init__(f"Expected training to be stable with one of the fallback presets; none was. {listed}")


class TrainingProcessError(VpocError):
    """The training process ended with an exit code and reported no error; ``last_lines`` are those of its stderr."""

    def __init__(self, code: int, last_lines: str = "") -> None:
        self.code, self.last_lines = code, last_lines
        super().__init__(
            f"Expected the training process to finish; it ended with code {code}: {last_lines or 'no message'}"
        )


class CheckpointError(VpocError):
    """A checkpoint or model file whose content does not match its recorded hash or format."""

    exit_code = 5

    def __init__(self, path: object, expected: str, found: str, remedy: str = "") -> None:
        self.path, self.expected, self.found, self.remedy = str(path), expected, found, remedy
        super().__init__(f"{path}: expected {expected}; found {found}. {remedy}".rstrip())


# ---------------------------------------------------------------- input (exit 5)


class InputError(VpocError):
    """Input that is missing or cannot be read."""

    exit_code = 5


class NoLabelledRowsError(InputError):
    """A split of the training set in which no row has a finite target and a weight above 0."""

    def __init__(self, split: str) -> None:
        self.split = split
        super().__init__(f"Expected {split} rows with a finite target; found none. Check the horizon of the labels.")


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
        self, what: str, found: int, needed: int, purpose: str, remedy: str = "deliver more or shorten what needs them"
    ) -> None:
        self.what, self.found, self.needed = what, found, needed
        super().__init__(
            f"Expected at least {needed} sessions for {what} ({purpose}); found {found}."
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


class LockLostError(WriterBusyError):
    """Another writer took the lock over while this process stood still: what it has made must not be stored."""


class RegistryError(VpocError):
    """The model registry and its ledger cannot do what is asked."""

    exit_code = 5


class RegistryRefusedError(RegistryError):
    """The registry's server answers and refuses; ``found`` is its answer. No retry can mend that."""

    def __init__(self, place: str, found: str, remedy: str) -> None:
        self.place, self.found, self.remedy = place, found, remedy
        super().__init__(f"Expected MLflow at {place} to take requests; it refuses: {found}. {remedy}")


class VerificationError(VpocError):
    """Stored files are not what they should be; ``problems`` has one line for each, with what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        more = f" And {len(problems) - SHOWN_PROBLEMS} more." if len(problems) > SHOWN_PROBLEMS else ""
        super().__init__(f"{len(problems)} problem(s). {' '.join(self.problems[:SHOWN_PROBLEMS])}{more}")


class ApprovalError(VpocError):
    """An answer about a candidate that does not wait for one."""

    def __init__(self, run: str, state: str) -> None:
        self.run, self.state = run, state
        super().__init__(
            f"Expected a candidate that waits for approval; that of run {run} is {state}. Nothing was changed."
            " `vpoc-ml summary` shows the decision and its reasons."
        )
