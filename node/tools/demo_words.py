"""What the demo's page says, in both languages, by key. English and Arabic stand together, so that none can be missing."""

from typing import Final

DIRECTION: Final = {"en": "ltr", "ar": "rtl"}
_PLACE: Final = {"en": 0, "ar": 1}
_LEFT_TO_RIGHT, _END_OF_RUN = (
    "\u2066",
    "\u2069",
)  # LRI and PDI: a name or code keeps its order inside an Arabic sentence

# Arabic figures stand after a colon or before a noun that does not bend with them: its plurals have six forms.
WORDS: Final[dict[str, tuple[str, str]]] = {
    "title": ("Wasl demo", "عرض وَصْل"),
    "subtitle": (
        "A hospital, a node and a national centre, all on this machine",
        "مستشفى وعقدة ومركز وطني، كلها على هذا الجهاز",
    ),
    "skip": ("Skip to the demo", "انتقل إلى العرض"),
    "live": ("Live", "مباشر"),
    "not-live": ("Not connected. The page keeps trying.", "لا اتصال. تواصل الصفحة المحاولة."),
    "way": ("From the hospital to the centre", "من المستشفى إلى المركز"),
    # the three figures
    "sent": ("Sent by the hospital", "أرسلها المستشفى"),
    "sent-note": ("and acknowledged with AA", "ونال عليها إشعار القبول AA"),
    "box": ("Safe in this box", "محفوظة في هذا الصندوق"),
    "box-empty": ("nothing waits", "لا شيء ينتظر"),
    "box-note": ("on disk, signed, not yet confirmed", "على القرص وموقّعة، لم تُؤكَّد بعد"),
    "centre": ("Confirmed by the centre", "أكّدها المركز"),
    "centre-note": ("found there, one by one", "وُجدت هناك واحدةً واحدة"),
    "node-says": ("The node itself: {n} waiting", "العقدة نفسها: في الانتظار {n}"),
    "node-silent": ("The node's page does not answer", "صفحة العقدة لا تجيب"),
    "node-receipts": ("The node holds receipts for {n} records", "لدى العقدة إيصالات بعدد {n} من السجلات"),
    "running": ("running, process {pid}", "تعمل، العملية {pid}"),
    "starting": ("starting again", "يُعاد تشغيلها"),
    "link-up": ("Link up", "الوصلة تعمل"),
    "link-cut": ("Link cut", "الوصلة مقطوعة"),
    "link-waits": ("Gateway down", "البوابة متوقفة"),
    "rate": ("{n} messages a second", "رسائل في الثانية: {n}"),
    "rate-none": ("paused", "متوقف مؤقتًا"),
    # the check
    "check-none": ("Nothing sent yet", "لم يُرسل شيء بعد"),
    "check-all": ("{n} of {n} confirmed, none lost, none doubled", "تأكّد {n} من {n}، لم يُفقد شيء ولم يتكرر شيء"),
    "check-some": (
        "{confirmed} of {sent} confirmed, {waiting} safe in the box, none lost, none doubled",
        "تأكّد {confirmed} من {sent}، وفي الصندوق بأمان {waiting}، لم يُفقد شيء ولم يتكرر شيء",
    ),
    "check-wrong": (
        "{confirmed} of {sent} confirmed, {lost} lost, {doubled} doubled",
        "تأكّد {confirmed} من {sent}، المفقود: {lost}، المتكرر: {doubled}",
    ),
    "why-none": (
        "The simulated hospital is silent. Press Faster, or send something yourself with the first line below.",
        "المستشفى المحاكى صامت. اضغط «أسرع»، أو أرسل بنفسك بالسطر الأول أدناه.",
    ),
    "why-all": (
        "Compared message by message: the control ids for which the hospital holds an AA, against what the centre hands out.",
        "بمقارنة كل رسالة: معرّفات الرسائل التي لدى المستشفى قبول AA عليها، بما يسلّمه المركز.",
    ),
    "why-cut": (
        "The link is cut. The node goes on: each message is on its disk and signed before the hospital reads its AA.",
        "الوصلة مقطوعة. تواصل العقدة عملها: كل رسالة على قرصها وموقّعة قبل أن يقرأ المستشفى القبول AA.",
    ),
    "why-drain": ("The link is up: what waits goes out in order.", "الوصلة تعمل: ما ينتظر يخرج بالترتيب."),
    "why-node": (
        "The node is down. The hospital has no answer to its last message, so it sends it again until it has one.",
        "العقدة متوقفة. لم يصل المستشفى جواب عن رسالته الأخيرة، فيعيد إرسالها حتى يصله.",
    ),
    "why-gateway": (
        "The gateway is down. The node keeps everything until a receipt comes.",
        "البوابة متوقفة. تحتفظ العقدة بكل شيء حتى يأتي إيصال.",
    ),
    # what one may do
    "try": ("Try it", "جرّب"),
    "cut": ("Cut the link", "اقطع الوصلة"),
    "restore": ("Restore the link", "أعد الوصلة"),
    "try-cut": (
        "The hospital goes on, and its messages stay safe in the box. Restore the link, and they drain in order.",
        "يواصل المستشفى عمله وتبقى رسائله محفوظة في الصندوق. أعد الوصلة فتخرج بالترتيب.",
    ),
    "kill-node": ("kill -9 the node", "أنهِ العقدة بأمر \u2066kill -9\u2069"),
    "try-node": (
        "While it receives. It is started again at once, and nothing acknowledged is missing.",
        "وهي تستقبل. تُشغَّل من جديد فورًا، ولا ينقص شيء مما نال إشعار القبول.",
    ),
    "kill-gateway": ("kill -9 the gateway", "أنهِ البوابة بأمر \u2066kill -9\u2069"),
    "try-gateway": (
        "The node waits for it and goes on from the position that the gateway's disk holds.",
        "تنتظرها العقدة ثم تكمل من الموضع المحفوظ على قرص البوابة.",
    ),
    "headless": ("Send one without MSH", "أرسل رسالة بلا MSH"),
    "try-headless": (
        "What cannot be read is kept as it came, with a warning, and holds up nobody.",
        "ما لا يُقرأ يُحفظ كما ورد مع تنبيه، ولا يعطّل غيره.",
    ),
    "slower": ("Slower", "أبطأ"),
    "faster": ("Faster", "أسرع"),
    "done": ("done", "تم"),
    # what happened
    "happened": ("What happened", "ما الذي حدث"),
    "event-opened": ("The session is open; the hospital may send.", "الجلسة مفتوحة، وللمستشفى أن يرسل."),
    "event-cut": ("The link is cut: connections are refused.", "قُطعت الوصلة: الاتصالات مرفوضة."),
    "event-restored": ("The link is restored; {n} wait in the box.", "أُعيدت الوصلة، وفي الصندوق: {n}."),
    "event-drained": (
        "Drained in {s} s: {n} of {n} confirmed, none lost, none doubled.",
        "خرج الكل خلال {s} ث: تأكّد {n} من {n}، لم يُفقد شيء ولم يتكرر شيء.",
    ),
    "event-node-gone": ("The node's process ended: {how}.", "انتهت عملية العقدة: {how}."),
    "event-node-again": ("The node starts again, process {pid}.", "تبدأ العقدة من جديد، العملية {pid}."),
    "event-node-back": (
        "The node is back after {s} s, its store verified.",
        "عادت العقدة بعد {s} ث، وقد تحققت من مخزنها.",
    ),
    "event-gateway-gone": ("The gateway's process ended: {how}.", "انتهت عملية البوابة: {how}."),
    "event-gateway-again": ("The gateway starts again, process {pid}.", "تبدأ البوابة من جديد، العملية {pid}."),
    "event-gateway-back": ("The gateway is back after {s} s.", "عادت البوابة بعد {s} ث."),
    "event-web-gone": ("The node's page ended: {how}. Intake goes on.", "انتهت صفحة العقدة: {how}. الاستقبال مستمر."),
    "event-web-again": ("The node's page starts again, process {pid}.", "تبدأ صفحة العقدة من جديد، العملية {pid}."),
    "event-web-back": ("The node's page is back after {s} s.", "عادت صفحة العقدة بعد {s} ث."),
    "event-headless": (
        "A message without MSH was sent; the node answered {code}.",
        "أُرسلت رسالة بلا MSH، فأجابت العقدة {code}.",
    ),
    "event-headless-unanswered": ("Nobody answered the message without MSH.", "لم يُجب أحد عن الرسالة بلا MSH."),
    "event-headless-arrived": (
        "It stands at the centre as {place}, as it came, with a warning.",
        "وهي في المركز في الموضع {place} كما وردت، مع تنبيه.",
    ),
    "event-rate": ("The hospital's pace: {n} a second.", "وتيرة المستشفى في الثانية: {n}."),
    "event-wrong": ("WRONG: {lost} lost, {doubled} doubled.", "خلل: المفقود {lost}، المتكرر {doubled}."),
    # the two other pages
    "node-page": ("The node's own page", "صفحة العقدة"),
    "gateway-page": ("The gateway's page", "صفحة البوابة"),
    "alone": ("Open alone", "افتحها وحدها"),
    # by hand
    "by-hand": ("With your own hands", "بيديك"),
    "line-send": ("Send ten messages of your own", "أرسل عشر رسائل من عندك"),
    "line-read": ("Read what the centre hands out", "اقرأ ما يسلّمه المركز"),
    "line-verify": ("Take a record's evidence and verify it, offline", "خذ إثبات سجل وتحقق منه دون اتصال"),
    "copy": ("Copy", "انسخ"),
    "copied": ("Copied", "نُسخ"),
    "invented": ("Every person here is invented.", "كل الأشخاص هنا مختلقون."),
    "times": ("All times are UTC.", "جميع الأوقات بالتوقيت العالمي المنسق."),
}


def spoken(lang: str) -> str:
    """The language asked for where we speak it, else English."""
    return lang if lang in DIRECTION else "en"


def say(lang: str, key: str, **params: int | str) -> str:
    """A sentence; numbers get their separators, names keep their own order."""
    written = {
        name: f"{value:,}" if isinstance(value, int) else _isolated(lang, value) for name, value in params.items()
    }
    return WORDS[key][_PLACE[lang]].format(**written)


def _isolated(lang: str, value: str) -> str:
    return f"{_LEFT_TO_RIGHT}{value}{_END_OF_RUN}" if DIRECTION[lang] == "rtl" else value
