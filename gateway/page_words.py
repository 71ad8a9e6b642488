"""The page's Arabic, by its English; what stands in no list is shown in English."""

from gateway.errors import ALARMS

_ALARMS_AR = {
    "GWY-10": "وصلت عقدة مستنسخة أو مستعادة من نسخة احتياطية. سجلاتها محفوظة ومؤكَّدة لكنها محجوزة: اعرف السبب ثم أفرج عنها.",
    "GWY-11": "تشغيل أقدم لإحدى العقد يتصل من جديد: نسختان منها تعملان. ابحث عن إحداهما وأوقفها.",
    "GWY-12": "ترسل عقدة سجلات تختلف عمّا أرسلته سابقًا في الموضع نفسه (تشعّب). توقف مجراها ولم يُستبدل شيء.",
    "GWY-13": "قائمة صلاحية الشهادات قديمة أو غير مقروءة. يجري الحكم وفق آخر قائمة سليمة: اجلب قائمة جديدة من سلطة التصديق.",
    "GWY-14": "قرص السجل ممتلئ: تُرفض الدفعات وتحتفظ العقد بكل شيء. وفّر له مساحة أكبر.",
    "GWY-15": "تعلن عقدة مجاري أكثر مما تقبله البوابة من عقدة واحدة. هل إعدادها صحيح؟",
    "GWY-16": "تعذّر نداء داخل البوابة. راجع سجل التشغيل؛ ستعيد العقدة المحاولة.",
}

WORDS: dict[str, str] = {
    "Gateway": "البوابة",
    "Arriving records": "السجلات الواردة",
    "Skip to the records": "انتقل إلى السجلات",
    "Nodes": "العقد",
    "Streams": "المجاري",
    "Records": "السجلات",
    "Last receipt": "آخر إيصال",
    "Alarms": "الإنذارات",
    "Node": "العقدة",
    "Stream": "المجرى",
    "Epoch": "الحقبة",
    "Lane": "المسار",
    "Held": "محجوز",
    "Time": "الوقت",
    "Position": "الموضع",
    "Type": "النوع",
    "Verdict": "الحكم",
    "Bytes": "البايتات",
    "never": "لم يحدث",
    "Nothing has arrived yet. A node appears here with its first session.": "لم يصل شيء بعد. تظهر العقدة هنا مع أول جلسة لها.",
    "No record yet.": "لا سجلات بعد.",
    "The newest 50, newest first. Content is never shown here.": "أحدث ٥٠ سجلًا، الأحدث أولًا. لا يُعرض المحتوى هنا أبدًا.",
    "All times are UTC.": "جميع الأوقات بالتوقيت العالمي المنسق.",
    "Live": "مباشر",
    "Not connected. The page keeps trying.": "لا اتصال. تواصل الصفحة المحاولة.",
    "accepted": "مقبول",
    "accepted-with-warning": "مقبول مع تنبيه",
    "rejected": "مرفوض",
    "critical": "حرج",
    "routine": "عادي",
    "bulk": "كمّي",
    **{ALARMS[code][1]: text for code, text in _ALARMS_AR.items()},
}
