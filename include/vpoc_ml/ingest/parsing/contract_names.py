"""Read the contract from a file name or a vendor's symbol."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

from vpoc_ml.errors import ContractCodeError
from vpoc_ml.market.contracts import Contract, parse_contract
from vpoc_ml.market.instruments import symbols

_CONTINUOUS = re.compile(
    r"(?i)continuous|(?<![A-Z0-9])[A-Z0-9]{1,4}(?:[12]!|=F|\.[CNV]\.\d| ##-##)"
    r"|(?<![A-Z0-9])@[A-Z]{1,4}(?![A-Z0-9])|#[CF](?![A-Z0-9])"
)
_ADJUSTED = re.compile(r"(?i)(?<!un)adjusted|back-?adj|ratio_adj")
_CODE = r"(?<![A-Z0-9])(?:{roots})(?:[ _]?[FGHJKMNQUVXZ](?:\d{{4}}|\d{{1,2}})|[ _]\d{{2}}[-_]\d{{2}})(?![A-Z0-9])"


def contract_in_name(text: str, *, near: date | None = None, where: str = "file name") -> Contract:
    """Return the one contract that a file name or symbol names; other text around it is ignored.

    Args:
        text: file name or symbol.
        near: a date of the data; it decides the decade of a one-digit year.
        where: origin of the text, for errors.

    Raises:
        ContractCodeError: no contract, several, or a continuous or adjusted series: only raw contracts have
            tradeable prices and a volume profile of their own.
    """
    if _CONTINUOUS.search(text) or _ADJUSTED.search(text):
        raise ContractCodeError(
            text,
            where=where,
            reason="a continuous or adjusted series is not a contract: deliver the single contracts, unadjusted",
        )
    stem = Path(text).name.split(".")[0]
    try:
        return parse_contract(stem, where=where, near=near)
    except ContractCodeError as error:
        roots = "|".join(sorted(map(re.escape, symbols()), key=len, reverse=True))
        codes = set(re.findall(_CODE.format(roots=roots), text.upper()))
        found = {parse_contract(code, where=where, near=near) for code in codes}
        if len(found) == 1:
            return found.pop()
        if found:
            named = ", ".join(sorted(contract.code for contract in found))
            raise ContractCodeError(text, where=where, reason=f"it names {named}") from error
        raise
