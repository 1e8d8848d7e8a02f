"""What exporters said about their records: templates, sampling rates, the start of their uptime. All bounded.

An exporter is an address, never its port; templates belong to one of its observation domains. Pure.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from eddyline.sources.netflow.forms import Form, Template, sane, templates
from eddyline.sources.netflow.layouts import Layout, sampling_of
from eddyline.sources.netflow.times import integers
from eddyline.sources.netflow.v5 import Array

MAX_TEMPLATES: Final = 1024  # an exporter
MAX_TEMPLATES_TOTAL: Final = 16_384  # and as many exporters
MAX_DOMAINS: Final = 1024  # whose options are kept, an exporter
MAX_SAMPLERS: Final = 64  # a domain
_ALL: Final = frozenset({2, 3})  # withdrawn ids that stand for all data and all options templates


@dataclass(slots=True)
class Options:
    """What the options of one domain said."""

    rates: dict[int, int] = field(default_factory=dict)  # 1 in N by sampler
    boot_ms: int = 0  # when the uptime was 0, milliseconds since 1970; 0 where never said

    def rate(self) -> int:
        """1 in how many packets is seen; 0 while unknown, or where samplers differ and a flow does not say its own."""
        known = set(self.rates.values())
        return next(iter(known)) if len(known) == 1 else 0


@dataclass(slots=True)
class Exporter:
    """What one device told: templates by (domain, template id), options by domain."""

    templates: OrderedDict[tuple[int, int], Template] = field(default_factory=OrderedDict)
    options: OrderedDict[int, Options] = field(default_factory=OrderedDict)

    def told(self, domain: int) -> Options:
        """The options of a domain; of one that said nothing, empty ones that are not kept."""
        return self.options.get(domain) or Options()

    def learn(self, domain: int, layout: Layout, body: bytes) -> tuple[int, str]:
        """Keep what an options data set says: how many records it has, and why it was not read."""
        kept, count, reason = layout.records(body)
        if reason or not {"rate", "boot"} & set(layout.type_.names or ()):
            return count, reason
        view = np.frombuffer(kept, layout.type_)
        options = self.told(domain)
        if "rate" in (layout.type_.names or ()):
            _learn_rates(options.rates, view[:MAX_SAMPLERS])
        if "boot" in (layout.type_.names or ()):
            options.boot_ms = min(int(integers(view["boot"])[-1]), 1 << 48)
        self.keep_options(domain, options)
        return count, reason

    def keep_options(self, domain: int, options: Options) -> None:
        """Take what a domain said; the domain that was silent longest is forgotten."""
        self.options[domain] = options
        self.options.move_to_end(domain)
        if len(self.options) > MAX_DOMAINS:
            self.options.popitem(last=False)


def _learn_rates(rates: dict[int, int], view: Array) -> None:
    named = "sampler" in (view.dtype.names or ())
    samplers = integers(view["sampler"]).tolist() if named else [0] * len(view)
    for sampler, rate in zip(samplers, sampling_of(view).tolist(), strict=True):
        if rate and (sampler in rates or len(rates) < MAX_SAMPLERS):
            rates[sampler] = rate


class Exporters:
    """All exporters of one format, with `most` templates; the one longest silent is forgotten first, whole."""

    def __init__(self, form: Form, most: int = MAX_TEMPLATES_TOTAL) -> None:
        self._form, self._most = form, most
        self._known: OrderedDict[str, Exporter] = OrderedDict()  # least recently heard first
        self._templates = 0

    def admit(self, origin: str) -> Exporter:
        """The exporter at that address, now the latest heard."""
        exporter = self._known.get(origin)
        if exporter is None:
            exporter = self._known[origin] = Exporter()
            if len(self._known) > self._most:
                self._forget_oldest()
        self._known.move_to_end(origin)
        return exporter

    def __iter__(self) -> Iterator[tuple[str, Exporter]]:
        """Address and exporter, least recently heard first."""
        return iter(self._known.items())

    def define(self, exporter: Exporter, domain: int, sets: Iterable[tuple[bool, bytes]]) -> tuple[list[int], str]:
        """Take the templates of one datagram, newest wins: ids that changed, and why the rest is not taken.

        Args:
            exporter: as `admit` gave it.
            sets: whether it is one of options templates, and its content.
        """
        changed: list[int] = []
        reason, all_gone = "", set[int]()  # a message that withdraws all of them again and again would cost seconds
        for options, body in sets:
            for template_id, template in templates(self._form, body, options):
                if exporter.templates.get((domain, template_id)) == template:
                    continue  # sent again, as exporters do every few datagrams
                if self._form.ipfix and not template.spec and template_id and template_id not in all_gone:
                    changed += self._withdraw(exporter, domain, template_id)
                    all_gone |= {template_id} & _ALL
                elif template_id < 256 or not sane(self._form, template):
                    reason = f"{self._form.name} template {template_id} is malformed or beyond the limits"
                    break
                else:
                    self.keep(exporter, domain, template_id, template)
                    changed.append(template_id)
        return changed, reason

    def keep(self, exporter: Exporter, domain: int, template_id: int, template: Template) -> None:
        """Take a template within the limits in place of an older one of that id."""
        key = (domain, template_id)
        self._templates += key not in exporter.templates
        exporter.templates[key] = template
        exporter.templates.move_to_end(key)
        if len(exporter.templates) > MAX_TEMPLATES:
            exporter.templates.popitem(last=False)
            self._templates -= 1
        while self._templates > self._most:
            self._forget_oldest()

    def _withdraw(self, exporter: Exporter, domain: int, template_id: int) -> list[int]:
        """Forget a template; the ids 2 and 3 stand for all data and all options templates (RFC 7011 section 8.1)."""
        known = exporter.templates
        gone = [key for key in [(domain, template_id)] if key in known]
        if template_id in _ALL:
            gone = [key for key in known if key[0] == domain and template_id == 2 + (known[key].scope is not None)]
        for key in gone:
            del known[key]
        self._templates -= len(gone)
        return [each for _, each in gone]

    def _forget_oldest(self) -> None:
        self._templates -= len(self._known.popitem(last=False)[1].templates)
