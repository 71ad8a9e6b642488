"""Names of the synthetic hospital, as pairs (Arabic, Latin): people, doctors, streets. No pair means a real person."""

from dataclasses import dataclass

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Community:
    """Names that go together."""

    men: tuple[Pair, ...]
    women: tuple[Pair, ...]
    families: tuple[Pair, ...]


ARAB = Community(
    men=(
        ("محمد", "Mohammed"),
        ("أحمد", "Ahmed"),
        ("عبدالله", "Abdullah"),
        ("خالد", "Khalid"),
        ("يوسف", "Yousef"),
        ("إبراهيم", "Ibrahim"),
        ("سالم", "Salem"),
        ("ناصر", "Nasser"),
        ("طارق", "Tariq"),
        ("بدر", "Badr"),
        ("راشد", "Rashid"),
        ("حمد", "Hamad"),
        ("فيصل", "Faisal"),
        ("زيد", "Zaid"),
        ("عمر", "Omar"),
    ),
    women=(
        ("فاطمة", "Fatima"),
        ("مريم", "Maryam"),
        ("عائشة", "Aisha"),
        ("نورة", "Noura"),
        ("سارة", "Sara"),
        ("هند", "Hind"),
        ("لطيفة", "Latifa"),
        ("شيخة", "Sheikha"),
        ("موزة", "Moza"),
        ("ريم", "Reem"),
        ("دلال", "Dalal"),
        ("خديجة", "Khadija"),
        ("آمنة", "Amna"),
        ("زينب", "Zainab"),
        ("منى", "Mona"),
    ),
    families=(
        ("الوادي", "Al-Wadi"),
        ("النخيلي", "Al-Nukhaili"),
        ("الساحلي", "Al-Sahili"),
        ("الجزيري", "Al-Jaziri"),
        ("المرجاني", "Al-Murjani"),
        ("اللؤلؤي", "Al-Lului"),
        ("الغيثي", "Al-Ghaithi"),
        ("الرملي", "Al-Ramli"),
        ("الصقري", "Al-Saqri"),
        ("البحري", "Al-Bahri"),
        ("الفجري", "Al-Fajri"),
        ("القمري", "Al-Qamari"),
        ("الشرقي", "Al-Sharqi"),
        ("المنارة", "Al-Manara"),
    ),
)
ENGLISH = Community(
    men=(
        ("جيمس", "James"),
        ("دانيال", "Daniel"),
        ("روبرت", "Robert"),
        ("توماس", "Thomas"),
    ),
    women=(
        ("إميلي", "Emily"),
        ("غريس", "Grace"),
        ("هيلين", "Helen"),
        ("لوسي", "Lucy"),
    ),
    families=(
        ("هارتلي", "Hartley"),
        ("وينفيلد", "Winfield"),
        ("أوكلاند", "Oakland"),
        ("ماريغولد", "Marigold"),
    ),
)
STREETS: tuple[Pair, ...] = (
    ("شارع النخلة", "Palm Street"),
    ("شارع المرسى", "Harbour Street"),
    ("شارع اللؤلؤ", "Pearl Street"),
    ("شارع السوق القديم", "Old Souq Street"),
    ("شارع الفنار", "Lighthouse Street"),
    ("شارع الواحة", "Oasis Street"),
)
# Wadi Noor lies in no country: the town is as invented as its people.
TOWN: Pair = ("وادي نور", "Wadi Noor")

DOCTORS: tuple[tuple[str, str, str], ...] = (  # (staff number, family, given)
    ("D9001", "Al-Ghaithi", "Noura"),
    ("D9002", "Al-Saqri", "Yousef"),
    ("D9003", "Winfield", "Grace"),
    ("D9004", "Al-Bahri", "Omar"),
    ("D9005", "Al-Fajri", "Reem"),
    ("D9006", "Hartley", "James"),
)
WARDS: tuple[tuple[str, str], ...] = (  # (point of care, hospital service of table 0069)
    ("MED-A", "MED"),
    ("MED-B", "MED"),
    ("SURG-A", "SUR"),
    ("CARD", "CAR"),
    ("ICU", "MED"),
)
CLINICS: tuple[tuple[str, str], ...] = (
    ("OPD-1", "MED"),
    ("OPD-DIAB", "MED"),
    ("OPD-CARD", "CAR"),
    ("OPD-RENAL", "URO"),
)
DIAGNOSES: tuple[Pair, ...] = (  # (ICD-10, text)
    ("E11.9", "Type 2 diabetes mellitus without complications"),
    ("I10", "Essential (primary) hypertension"),
    ("J18.9", "Pneumonia, unspecified organism"),
    ("N18.3", "Chronic kidney disease, stage 3"),
    ("D50.9", "Iron deficiency anaemia, unspecified"),
    ("E78.5", "Hyperlipidaemia, unspecified"),
    ("K76.0", "Fatty (change of) liver, not elsewhere classified"),
    ("R07.4", "Chest pain, unspecified"),
)
ALLERGIES: tuple[tuple[str, str, str], ...] = (  # (type of table 0127, text, reaction)
    ("DA", "Penicillin", "Rash"),
    ("DA", "Ibuprofen", "Wheezing"),
    ("FA", "Peanut", "Urticaria"),
    ("FA", "Shrimp", "Angioedema"),
)
