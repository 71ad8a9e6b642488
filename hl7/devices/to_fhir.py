"""A device's readings to a transaction Bundle of FHIR R4: Observation, DiagnosticReport, Specimen, Device, and whom they are about.

Native code and text stay beside LOINC and UCUM; what no table knows is kept as it was sent and listed; nothing is converted by guess.
"""

import hashlib
from typing import Final

from hl7.convert.building import Draft, Resource
from hl7.convert.codes import code_map
from hl7.convert.context import Context
from hl7.convert.result import CannotConvert, Converted, Json, Origin, Settings, Unmapped
from hl7.devices.bundle import bundle_of, provenance_of
from hl7.devices.observation import Observations
from hl7.devices.profile import Profile
from hl7.devices.read import read
from hl7.devices.readings import NoReadings, Person, Readings, Sample
from hl7.devices.time_forms import Times

BYTES_MAX: Final = 16 * 1024 * 1024  # what the feeds take at most
READINGS_MAX: Final = 50_000  # a logger's year of one value every ten minutes; each becomes a resource of about 2 kB

NO_PATIENT: Final = "no patient is named: the results have no subject"
INVENTED: Final = "the profile says that the instrument invents such numbers: it names nobody"
OF_QUALITY: Final = "the sample is a quality control: it has no patient, no report"
NO_REPORT: Final = "a monitor's or a fridge's values make no report"
NO_PERSON: Final = "the profile says that the values are no person's"
NO_CONTROL: Final = "a control's lot or level, and no rule of the profile says that the sample is one"
OWN_TIMES: Final = "the time of the sample: each of its results has its own"
NO_SYSTEM: Final = "the number's authority is not known: set patient_system in the profile"
_QUALITY_TAG: Final = {
    "system": "urn:wasl:device",
    "code": "quality-control",
    "display": "Quality control: about no patient",
}
_SEX: Final = code_map("gender").codes
_PLACER: Final = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "PLAC"}]}
_REPORT_STATUS: Final = {
    "F": "final", "P": "preliminary", "C": "corrected", "X": "cancelled", "I": "registered", "O": "registered", "S": "partial", "R": "partial",
    "A": "partial",
}  # fmt: skip
_LABORATORY: Final = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0074", "code": "LAB"}]}


def convert(body: bytes, profile: Profile, settings: Settings | None = None, origin: Origin | None = None) -> Converted:
    """Convert what a device sent; CannotConvert where no result can be read in it."""
    settings = settings or Settings()
    if len(body) > BYTES_MAX:
        raise CannotConvert("too-large", f"{len(body)} bytes, {BYTES_MAX} at most")
    position = origin.uri if origin else "urn:wasl:message:" + hashlib.sha256(body).hexdigest()
    facility = origin.facility if origin else settings.facility
    try:
        found = read(body, profile, charset=settings.charset)
        if sum(len(sample.readings) for sample in found.samples) > READINGS_MAX:
            raise CannotConvert("too-large", f"more than {READINGS_MAX} results")
        return _Conversion(found, profile, Context(settings, Draft(facility, position), facility, ""), origin).run()
    except NoReadings as error:
        raise CannotConvert("content", str(error)) from error


class _Conversion:
    """One body's conversion under way."""

    def __init__(self, found: Readings, profile: Profile, ctx: Context, origin: Origin | None) -> None:
        self._found = found
        self._profile = profile
        self._ctx = ctx
        self._draft = ctx.draft
        self._origin = origin
        self._unmapped: list[Unmapped] = list(found.left)
        self._notes = list(found.notes)
        self._times = Times(profile.time_forms)

    def run(self) -> Converted:
        """Make every resource."""
        if self._profile.language == "hl7":
            self._ctx.take_zone(self._found.sent_at)
        sent = self._time("sent_at", self._found.sent_at)
        provenance = provenance_of(self._ctx, self._origin, f"results of {self._profile.title}", sent)
        device = self._device()
        for sample in self._found.samples:
            self._sample(sample, device)
        bundle, mentioned = bundle_of(self._ctx, provenance)
        return Converted(
            bundle=bundle,
            unmapped=tuple(self._unmapped),
            mentioned=frozenset(mentioned),
            notes=tuple(dict.fromkeys(self._notes)),
        )

    # ---- things ---------------------------------------------------------------------------------------------------------
    def _device(self) -> Resource:
        """Begin the instrument: known by its serial number, else by the name it gives itself, else by its profile."""
        found, kind = self._found, self._profile.device
        name = found.serial_number or found.sender or self._profile.name
        made, _ = self._draft.entity("Device", f"{self._profile.name}|{name}")
        made.owned = True
        made.body |= {"status": "active", "manufacturer": kind.manufacturer, "modelNumber": kind.model}
        if found.sender:
            made.body["deviceName"] = [{"name": found.sender, "type": "user-friendly-name"}]
        if found.serial_number:
            made.body["serialNumber"] = found.serial_number
        if found.software:
            made.body["version"] = [{"value": found.software}]
        if kind.location:
            made.body["location"] = self._place(kind.location).reference
        return made

    def _place(self, name: str) -> Resource:
        made, is_new = self._draft.entity("Location", name)
        if is_new:
            made.body |= {"name": name}
        return made

    def _sample(self, sample: Sample, device: Resource) -> None:
        if not sample.readings:
            self._lose(sample.place, "an order without results", sample.panel or sample.panel_text or sample.number)
            return
        subject = self._subject(sample, device)
        if sample.quality:
            self._notes.append(
                f"{sample.place}: quality control ({sample.quality}): about the device, no report, no patient"
            )
        is_report = self._profile.device.category == "laboratory" and not sample.quality
        specimen = self._specimen(sample, subject) if is_report else None
        order = self._order(sample, subject) if is_report else None
        maker = Observations(self._profile, self._ctx, self._found, self._unmapped)
        made = maker.of_sample(sample, subject, device, specimen)
        for each in made:
            if order is not None:
                each.body["basedOn"] = [order.reference]
            if sample.quality:
                each.body["meta"] = {"tag": [_QUALITY_TAG]}
                named = (("control", sample.number), ("control-lot", sample.lot), ("control-level", sample.level))
                for name, text in named:
                    if text:
                        control = {"url": f"urn:wasl:device:{name}", "valueString": text}
                        each.body.setdefault("extension", []).append(control)
            elif self._origin:
                each.body.setdefault("issued", self._origin.received_at)
        if is_report:
            self._report(sample, subject, specimen, order, made)
        self._list_rest(sample, is_report=is_report, has_specimen=specimen is not None, has_order=order is not None)

    def _list_rest(self, sample: Sample, *, is_report: bool, has_specimen: bool, has_order: bool) -> None:
        """List what was read of a sample and has no resource to stand in."""
        rest = []
        if not is_report:
            reason = OF_QUALITY if sample.quality else NO_REPORT
            rest = [
                (reason, each)
                for each in (
                    sample.panel,
                    sample.panel_text,
                    sample.panel_system,
                    sample.status,
                    *sample.notes,
                    sample.order,
                )
            ]
            rest += [(reason, each) for each in ("" if sample.quality else sample.number, sample.specimen)]
        elif sample.status not in {"", *_REPORT_STATUS}:
            rest.append(("status is not in the table", sample.status))
        if not has_specimen:
            rest += [("no specimen is named", each) for each in (sample.collected_at, sample.received_at)]
        if not sample.quality:
            rest += [(NO_CONTROL, each) for each in (sample.lot, sample.level)]
        if is_report and not sample.panel:
            rest.append(("the system of a panel's code, and there is no code", sample.panel_system))
        if all(each.at for each in sample.readings) and sample.at not in {
            self._found.sent_at,
            *(each.at for each in sample.readings),
        }:
            rest.append((OWN_TIMES, sample.at))
        if not has_order:
            rest.append(("no order is named", sample.requester))
        for reason, text in rest:
            if text:
                self._lose(sample.place, reason, text)

    # ---- whose ----------------------------------------------------------------------------------------------------------
    def _subject(self, sample: Sample, device: Resource) -> Resource | None:
        kind = self._profile.device
        if sample.quality:
            self._list_person(sample.person, OF_QUALITY)
            return device
        if kind.subject != "patient":
            self._list_person(sample.person, NO_PERSON)
        if kind.subject == "device":
            return device
        if kind.subject == "location":
            return self._place(kind.location or self._found.sender or self._profile.title)
        return self._patient(sample)

    def _patient(self, sample: Sample) -> Resource | None:
        person, rules = sample.person, self._profile.identity
        number, place = person.number, person.place
        if rules.sample_holds == "patient" and not number:
            number, place = sample.number, sample.place
        if number and rules.is_nobody(number, place):
            self._lose(place, INVENTED, number)
            number = ""
        if not number and not any(person.name):
            self._list_person(person, NO_PATIENT)
            self._notes.append(f"{sample.place}: {NO_PATIENT}")
            return None
        system = self._ctx.authority(person.authority or rules.patient_system, "", "")
        if number and not system:
            self._notes.append(f"{place}: {NO_SYSTEM}")
        if number:
            # the same key as hl7/convert's tables give a PID-3: the results find the patient whom the HIS has announced
            made, _ = self._draft.entity("Patient", f"{system}|{number}")
        else:
            made = self._draft.begin("Patient")  # a name alone says of nobody who it is: a Patient of this message only
            made.owned = False
        self._fill(made, person, number, system)
        return made

    def _fill(self, made: Resource, person: Person, number: str, system: str) -> None:
        if number:
            made.put((("identifier", "*"),), ({"system": system} if system else {}) | {"value": number}, None)
        if any(person.name):
            made.put((("name", "*"),), _human_name(person.name), None)
        if person.sex:
            known = _SEX.get(person.sex) or _SEX.get(person.sex.upper())
            if known:
                made.body["gender"] = known.code
            else:
                self._lose(person.place or "patient", "sex is not in the table", person.sex)
        if person.birth_date:
            born = self._times.birth(person.birth_date)
            if born.date:
                made.body["birthDate"] = born.date
            else:
                self._lose(person.place or "patient", born.problem, person.birth_date)

    def _list_person(self, person: Person, reason: str) -> None:
        texts = (person.number, " ".join(part for part in person.name if part), person.birth_date, person.sex)
        for text in texts:
            if text:
                self._lose(person.place or "patient", reason, text)

    # ---- what it was measured in, and for whom ----------------------------------------------------------------------------
    def _specimen(self, sample: Sample, subject: Resource | None) -> Resource | None:
        number, rules = sample.number, self._profile.identity
        if number and rules.sample_holds == "sample" and rules.is_nobody(number, sample.place):
            self._lose(sample.place, INVENTED, number)
            number = ""
        if not number and not sample.specimen:
            return None
        made = self._draft.begin("Specimen")
        if number:
            day = "" if rules.sample_unique == "ever" else self._day(sample)
            made.keys.append((self._ctx.authority(rules.sample_system, "", ""), number, day))
            system = self._ctx.authority(rules.sample_system, "", "")
            made.body["identifier"] = [({"system": system} if system else {}) | {"value": number}]
        if sample.specimen:
            made.body["type"] = {"text": sample.specimen}
        if subject is not None:
            made.body["subject"] = subject.reference
        if collected := self._time(f"{sample.place} collected", sample.collected_at):
            made.body["collection"] = {"collectedDateTime": collected}
        if received := self._time(f"{sample.place} received", sample.received_at):
            made.body["receivedTime"] = received
        return made

    def _day(self, sample: Sample) -> str:
        """Return the day that a sample's number belongs to: many sites begin anew with 1 every morning."""
        texts = (sample.collected_at, sample.at, *(each.at for each in sample.readings), self._found.sent_at)
        return next(
            (date for text in texts if text and (date := self._times.moment(text, None).date)), self._draft.position
        )

    def _order(self, sample: Sample, subject: Resource | None) -> Resource | None:
        """Begin the order, where the device names it; it is only mentioned: the HIS knows it."""
        holds = self._profile.identity.sample_holds
        number = sample.order or (sample.number if holds == "order" else "")
        if not number:
            return None
        system = self._ctx.authority("", "", "")
        made, is_new = self._draft.entity("ServiceRequest", f"{system}|{number}")
        if is_new:
            made.body |= {
                "identifier": [{"type": _PLACER, "value": number}],
                "status": "unknown",
                "intent": "order",
                "subject": subject.reference if subject is not None else {"display": "unknown"},
            }
            if requester := sample.requester.replace("^", " ").strip():
                made.body["requester"] = {"display": requester}
        return made

    def _report(
        self,
        sample: Sample,
        subject: Resource | None,
        specimen: Resource | None,
        order: Resource | None,
        made: list[Resource],
    ) -> None:
        report = self._draft.begin("DiagnosticReport")
        report.body |= {"status": _report_status(sample, made), "category": [_LABORATORY]}
        code: Json = {"code": sample.panel} if sample.panel else {}
        if sample.panel_system and code:
            code["system"] = self._ctx.coding_system(sample.panel_system)
        report.body["code"] = ({"coding": [code]} if code else {}) | {
            "text": sample.panel_text or sample.panel or self._profile.title
        }
        if subject is not None:
            report.body["subject"] = subject.reference
        if order is not None:
            report.body["basedOn"] = [order.reference]
        if specimen is not None:
            report.body["specimen"] = [specimen.reference]
        times = sorted({str(each.body["effectiveDateTime"]) for each in made if "effectiveDateTime" in each.body})
        if times:
            report.body["effectiveDateTime"] = times[-1]
        if self._origin:
            report.body["issued"] = self._origin.received_at
        report.body["result"] = [each.reference for each in made]
        if sample.notes:
            report.body["conclusion"] = "\n".join(sample.notes)
        report.keys.append(("report", *(each for each in made)))

    # ---- times, losses ----------------------------------------------------------------------------------------------------
    def _time(self, place: str, text: str) -> str:
        if not text:
            return ""
        found = self._times.moment(text, self._ctx.zone)
        if found.problem:
            self._lose(place, found.problem, text)
        return found.date_time

    def _lose(self, place: str, reason: str, text: str) -> None:
        self._unmapped.append(Unmapped(place, reason, text))


def _human_name(parts: tuple[str, ...]) -> Json:
    """ASTM 6.6.7 and XPN agree on the first five: family, given, further given, suffix, prefix."""
    if len(parts) == 1:
        return {"text": parts[0]}
    family, given, middle, suffix, prefix = (*parts, "", "", "", "")[:5]
    made: Json = {"family": family} if family else {}
    if given or middle:
        made["given"] = [each for each in (given, middle) if each]
    if prefix:
        made["prefix"] = [prefix]
    if suffix:
        made["suffix"] = [suffix]
    return made


def _report_status(sample: Sample, made: list[Resource]) -> str:
    """Return what the order says, else the least that its results allow."""
    said = _REPORT_STATUS.get(sample.status, "")
    states = {str(each.body["status"]) for each in made}
    if said and not (said == "final" and states & {"preliminary", "corrected", "registered"}):
        return said
    for state in ("registered", "preliminary", "corrected"):
        if state in states:
            return state if state != "registered" else "partial"
    if states == {"cancelled"}:
        return "cancelled"
    return "final" if states <= {"final", "cancelled"} else "unknown"
