"""Any source, without the records whose licence is not allowed; each of them is a reject with its reason."""

from collections.abc import Iterator
from dataclasses import dataclass

from linnaea.data.licences import LicenceRule, licence_reason
from linnaea.data.sources import Record, Rejected, Source


@dataclass(frozen=True, kw_only=True)
class LicensedSource:
    """``source`` under a rule about licences. The rule is an option of the build, so the input describes itself."""

    source: Source
    rule: LicenceRule

    @property
    def name(self) -> str:
        return self.source.name

    def describe(self) -> dict[str, str]:
        return self.source.describe()

    def records(self) -> Iterator[Record | Rejected]:
        for item in self.source.records():
            if isinstance(item, Record) and (reason := licence_reason(item.facts, self.rule)):
                yield Rejected(source=item.source, record_id=item.record_id, location=item.location, reason=reason)
            else:
                yield item
