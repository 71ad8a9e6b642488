# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `_pure.py`, which is their specification: contracts, shapes and clauses stand there.

Each kernel checks its bounds once, at the top; below that only sized C types. No pointer outlives its call.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bool cimport PyBool_Check
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong, PyLong_Check
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy, memset

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    const Py_ssize_t PY_SSIZE_T_MAX, PY_SSIZE_T_MIN

cdef extern from "openssl/evp.h" nogil:
    ctypedef struct EVP_MD
    ctypedef struct EVP_MD_CTX
    EVP_MD *EVP_MD_fetch(void *library, const char *algorithm, const char *properties)
    EVP_MD_CTX *EVP_MD_CTX_new()
    void EVP_MD_CTX_free(EVP_MD_CTX *context)
    int EVP_DigestInit_ex(EVP_MD_CTX *context, const EVP_MD *digest, void *engine)
    int EVP_DigestUpdate(EVP_MD_CTX *context, const void *data, size_t size)
    int EVP_DigestFinal_ex(EVP_MD_CTX *context, uint8_t *out, unsigned int *size)

# OpenSSL 3 looks an algorithm up by name on each use unless it was fetched; this one is shared by all threads
cdef EVP_MD *SHA256 = EVP_MD_fetch(NULL, "SHA256", NULL)
if SHA256 is NULL:
    raise ImportError("libcrypto offers no SHA-256")

cdef uint64_t TREE_SIZE_MAX = <uint64_t>-1 >> 1

cdef enum:
    MESSAGE_BYTES_MAX = 0x3FFFFFFF  # the numbers are those of _pure.py
    ARRAY_NESTING_MAX = 4
    SALT_BYTES = 16
    HASH_BYTES = 32
    PEAKS_MAX = 64
    SHORT_MAP_PAIRS_MAX = 23
    FIELD = 0
    REPETITION = 1
    COMPONENT = 2
    SUBCOMPONENT = 3
    LEVEL_SHIFT = 30
    MARKS_BLOCK = 1024  # bytes between two looks at the room for marks
    LF = 0x0A
    VT = 0x0B
    CR = 0x0D
    FS = 0x1C
    MARK = 0x7C  # the usual field separator
    NOISE = 0
    FRAME = 1
    BARE = 2
    CUT = 3
    CONTENT = -1
    UNDECIDED = -2
    UNSIGNED = 0
    NEGATIVE = 1
    BYTES = 2
    TEXT = 3
    ARRAY = 4
    MAP = 5


cdef inline const uint8_t *octets(bytes data):
    return <const uint8_t *>PyBytes_AS_STRING(data)


cdef inline Py_ssize_t clamped(object number) except? -2:  # -1 is a common number
    """The number, or the outermost one on its side: no length is that long, so both mean the same."""
    cdef int overflow
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    return PY_SSIZE_T_MIN if overflow < 0 else PY_SSIZE_T_MAX if overflow > 0 else <Py_ssize_t>value


# A buffer that grows


cdef struct Writer:
    uint8_t *data
    size_t used
    size_t room


cdef int reserve(Writer *out, size_t more) except -1:
    """Make room for `more` bytes; the caller frees `data`, whatever happens."""
    cdef size_t room
    cdef uint8_t *data
    if out.room - out.used >= more:
        return 0
    if more > <size_t>PY_SSIZE_T_MAX // 2 - out.used:
        raise MemoryError
    room = max(2 * out.room, out.used + more, <size_t>256)
    data = <uint8_t *>PyMem_Realloc(out.data, room)
    if data is NULL:
        raise MemoryError
    out.data, out.room = data, room
    return 0


# ER7, the HL7 v2 encoding by separators


cdef struct Span:
    uint32_t start
    uint32_t end
    uint32_t first  # mark
    uint32_t last   # mark end


cdef struct Index:
    const uint8_t *text
    const Span *rows
    const uint32_t *marks
    uint32_t n_rows
    uint32_t n_marks


cdef int index_marks(
    const uint8_t *text, size_t at, size_t end, const uint8_t *classes, Writer *out,
) except -1:
    """Write the marks of text[at:end]."""
    cdef uint32_t *marks
    cdef uint32_t level
    cdef size_t block_end, n
    while at < end:
        block_end = min(end, at + MARKS_BLOCK)
        reserve(out, sizeof(uint32_t) * MARKS_BLOCK)
        marks = <uint32_t *>(out.data + out.used)
        n = 0
        for at in range(at, block_end):
            level = classes[text[at]]
            marks[n] = <uint32_t>at | (level - 1) << LEVEL_SHIFT  # always written, kept if a mark: no branch to guess
            n += level != 0
        at = block_end
        out.used += sizeof(uint32_t) * n
    return 0


cdef int index_segments(
    const uint8_t *text, size_t length, const uint8_t *classes, Writer *rows, Writer *marks,
) except -1:
    cdef uint8_t terminator = LF if memchr(text, CR, length) is NULL else CR
    cdef const uint8_t *found
    cdef size_t start = 0, end
    cdef Span *row
    while start < length:
        found = <const uint8_t *>memchr(text + start, terminator, length - start)
        end = length if found is NULL else found - text
        if start < end:
            reserve(rows, sizeof(Span))
            row = <Span *>(rows.data + rows.used)
            row.start, row.end = <uint32_t>start, <uint32_t>end
            row.first = <uint32_t>(marks.used // sizeof(uint32_t))
            index_marks(text, start, end, classes, marks)
            row.last = <uint32_t>(marks.used // sizeof(uint32_t))
            rows.used += sizeof(Span)
        start = end + 1
        while start < length and text[start] == LF:  # CR LF: the LF is not part of the next segment
            start += 1
    return 0


def er7_index(bytes message not None, bytes separators not None):
    """Positions of all segments and separators, as native-endian uint32s. See `_pure.er7_index`."""
    cdef const uint8_t *given = octets(separators)
    cdef size_t length = PyBytes_GET_SIZE(message)
    cdef uint8_t classes[256]  # 0: no separator, else level + 1
    cdef Writer rows = Writer(NULL, 0, 0), marks = Writer(NULL, 0, 0)
    cdef bytes index
    cdef uint32_t *numbers
    if PyBytes_GET_SIZE(separators) != 4:
        raise ValueError("separators are 4 bytes: field, component, repetition, subcomponent")
    if length > MESSAGE_BYTES_MAX:
        raise ValueError("message too long to index")
    memset(classes, 0, sizeof(classes))
    classes[given[3]] = SUBCOMPONENT + 1
    classes[given[2]] = REPETITION + 1
    classes[given[1]] = COMPONENT + 1
    classes[given[0]] = FIELD + 1  # last, so that a byte that is named twice has its first meaning
    try:
        index_segments(octets(message), length, classes, &rows, &marks)
        index = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>(2 * sizeof(uint32_t) + rows.used + marks.used))
        numbers = <uint32_t *>octets(index)
        numbers[0] = <uint32_t>(rows.used // sizeof(Span))
        numbers[1] = <uint32_t>(marks.used // sizeof(uint32_t))
        if rows.used:
            memcpy(numbers + 2, rows.data, rows.used)
        if marks.used:
            memcpy(numbers + 2 + rows.used // sizeof(uint32_t), marks.data, marks.used)
        return index
    finally:
        PyMem_Free(rows.data)
        PyMem_Free(marks.data)


cdef int open_index(bytes message, bytes index, Index *out) except -1:
    """Check all that the walk relies on: no row and no mark points outside the message or the index."""
    cdef size_t length = PyBytes_GET_SIZE(message), size = PyBytes_GET_SIZE(index), at
    cdef const uint32_t *numbers = <const uint32_t *>octets(index)
    cdef int32_t last = <int32_t>length - 1, outside = 0
    if length > MESSAGE_BYTES_MAX or size < 8 or size % 4:
        raise ValueError("index does not belong to the message")
    out.text = octets(message)
    out.n_rows = numbers[0]
    out.n_marks = numbers[1]
    if size // 4 != <uint64_t>2 + 4 * <uint64_t>out.n_rows + out.n_marks:
        raise ValueError("index does not belong to the message")
    out.rows = <const Span *>(numbers + 2)
    out.marks = numbers + 2 + 4 * <size_t>out.n_rows
    for at in range(out.n_rows):
        outside |= out.rows[at].start > out.rows[at].end or out.rows[at].end > length
        outside |= out.rows[at].first > out.rows[at].last or out.rows[at].last > out.n_marks
    outside = -outside
    for at in range(out.n_marks):
        outside |= last - <int32_t>(out.marks[at] & MESSAGE_BYTES_MAX)  # negative where behind the last byte
    if outside < 0:
        raise ValueError("index does not belong to the message")
    return 0


cdef inline bint skip(const uint32_t *marks, Span *span, uint32_t level, size_t wanted):
    """Move the span's start behind its n-th mark of one level; false, and no move, where it is absent."""
    cdef uint32_t at
    if wanted == 0:
        return True
    for at in range(span.first, span.last):
        wanted -= marks[at] >> LEVEL_SHIFT == level
        if wanted == 0:
            span.start = (marks[at] & MESSAGE_BYTES_MAX) + 1
            span.first = at + 1
            return True
    return False


cdef inline int cut(const uint32_t *marks, Span *span, uint32_t level) except -1:
    """End the span at its first mark of one level."""
    cdef uint32_t at
    for at in range(span.first, span.last):
        if marks[at] >> LEVEL_SHIFT == level:
            span.end = marks[at] & MESSAGE_BYTES_MAX
            span.last = at
            return 0
    return 0


cdef inline bint narrow(const uint32_t *marks, Span *span, uint32_t level, size_t wanted):
    """Narrow the span to its n-th piece between the marks of one level; false where absent."""
    if not skip(marks, span, level, wanted):
        return False
    cut(marks, span, level)
    return True


cdef bint find_segment(const Index *index, bytes name, Py_ssize_t occurrence, Span *out) except -1:
    """Copy the row of the n-th segment of this name; false where absent."""
    cdef const char *wanted = PyBytes_AS_STRING(name)
    cdef size_t size = PyBytes_GET_SIZE(name), length
    cdef uint32_t at
    cdef Span head
    for at in range(index.n_rows):
        head = index.rows[at]
        cut(index.marks, &head, FIELD)
        length = head.end - head.start if head.end > head.start else 0
        if length == size and memcmp(index.text + head.start, wanted, size) == 0:
            if occurrence == 0:
                out[0] = index.rows[at]
                return True
            occurrence -= 1
    return False


cdef list walk(bytes message, bytes index_bytes, object paths, bint spans):
    """Resolve each path to its bytes, or to (start, end) where `spans`."""
    cdef Index index
    cdef Span segment, span
    cdef tuple held = tuple(paths)
    cdef object path
    cdef bytes name, before = None
    cdef Py_ssize_t occurrence, field, repetition, component, subcomponent, occurrence_before = -1, field_before = 0
    cdef bint known = False, there
    cdef list found = []
    open_index(message, index_bytes, &index)
    for path in held:
        if not PyTuple_Check(path):
            raise TypeError("a path is a tuple")
        if PyTuple_GET_SIZE(path) != 6:
            raise ValueError("a path has 6 items")
        name = <object>PyTuple_GET_ITEM(path, 0)
        if name is None:
            raise TypeError("a segment's name is bytes")
        occurrence = clamped(<object>PyTuple_GET_ITEM(path, 1))
        field = clamped(<object>PyTuple_GET_ITEM(path, 2))
        repetition = clamped(<object>PyTuple_GET_ITEM(path, 3))
        component = clamped(<object>PyTuple_GET_ITEM(path, 4))
        subcomponent = clamped(<object>PyTuple_GET_ITEM(path, 5))
        if occurrence < 0 or field < 0 or repetition < -1 or component < 0 or subcomponent < 0:
            raise ValueError("a path counts from 0; only its repetition may be -1")
        # paths into one segment tend to stand together and to ascend: go on from the field before
        if name is not before or occurrence != occurrence_before or field < field_before:
            known = find_segment(&index, name, occurrence, &segment)
            before, occurrence_before, field_before = name, occurrence, 0
        there = known and skip(index.marks, &segment, FIELD, field - field_before)
        if there:
            field_before = field
            span = segment
            cut(index.marks, &span, FIELD)
        if there and (repetition >= 0 or component or subcomponent):
            there = narrow(index.marks, &span, REPETITION, max(repetition, 0))
        if there and (component or subcomponent):
            there = narrow(index.marks, &span, COMPONENT, max(component, 1) - 1)
        if there and subcomponent:
            there = narrow(index.marks, &span, SUBCOMPONENT, subcomponent - 1)
        if not there:
            found.append(None)
        elif span.start > span.end:
            raise ValueError("index does not belong to the message")
        elif spans:
            found.append((span.start, span.end))
        else:
            found.append(PyBytes_FromStringAndSize(<const char *>index.text + span.start, span.end - span.start))
    return found


def er7_read(bytes message not None, bytes index not None, paths):
    """Read what each path names: None where absent, b"" where present and empty. See `_pure.er7_read`."""
    return walk(message, index, paths, False)


def er7_spans(bytes message not None, bytes index not None, paths):
    """(start, end) of what each path names, or None where it is absent. See `_pure.er7_read`."""
    return walk(message, index, paths, True)


def er7_template(bytes message not None, limit):
    """A standard header without MSH-7 and MSH-10, and MSH-10; None where there is none. See `_pure.er7_template`."""
    cdef const uint8_t *text = octets(message)
    cdef Py_ssize_t most = min(<Py_ssize_t>PyBytes_GET_SIZE(message), max(clamped(limit), <Py_ssize_t>0)), at, end
    cdef Py_ssize_t marks[10]
    cdef int found = 0
    cdef const uint8_t *cr = <const uint8_t *>memchr(text, CR, <size_t>most)
    if cr is NULL or PyBytes_GET_SIZE(message) < 9 or memcmp(text, b"MSH|^~\\&|", 9) != 0:
        return None
    end = cr - text
    for at in range(3, end):
        if text[at] == LF or text[at] == VT or text[at] == FS:
            return None
        if text[at] == MARK and found < 10:
            marks[found] = at
            found += 1
    if found < 10:
        return None
    cdef Py_ssize_t first = marks[5] + 1, second = marks[8] + 1 - marks[6]  # up to MSH-7; from behind it up to MSH-10
    cdef bytes template = PyBytes_FromStringAndSize(NULL, first + second + end - marks[9])
    cdef uint8_t *out = <uint8_t *>octets(template)
    memcpy(out, text, <size_t>first)
    memcpy(out + first, text + marks[6], <size_t>second)
    memcpy(out + first + second, text + marks[9], <size_t>(end - marks[9]))
    return template, PyBytes_FromStringAndSize(<const char *>text + marks[8] + 1, marks[9] - marks[8] - 1)


# MLLP, the framing


cdef inline Py_ssize_t find(const uint8_t *text, uint8_t byte, Py_ssize_t start, Py_ssize_t length):
    cdef const uint8_t *found = <const uint8_t *>memchr(text + start, byte, <size_t>(length - start))
    return length if found is NULL else found - text


cdef inline int judge(const uint8_t *text, Py_ssize_t at, Py_ssize_t length, bytes restart):
    """Tell what the VT or FS at `at` inside a frame means; undecided where the buffer ends too early."""
    cdef Py_ssize_t ahead = length - at - 1, wanted = PyBytes_GET_SIZE(restart)
    if text[at] == VT:
        if memcmp(text + at + 1, octets(restart), <size_t>min(ahead, wanted)) != 0:
            return CONTENT
        return CUT if ahead >= wanted else UNDECIDED
    if ahead == 0:
        return UNDECIDED
    if text[at + 1] == CR:
        return FRAME
    return BARE if text[at + 1] == VT else CONTENT


cdef tuple scan(const uint8_t *text, Py_ssize_t length, Py_ssize_t opened, Py_ssize_t searched, bytes restart):
    cdef Py_ssize_t fs = -1, vt = -1, at  # the next of each; looked for again only once passed, so the scan is linear
    cdef int kind
    cdef list events = []
    if not -1 <= opened <= searched <= length or searched < 0:
        raise ValueError("opened and searched are offsets in the buffer, in this order")
    while searched < length:
        if vt < searched:
            vt = find(text, VT, searched, length)
        if opened < 0:
            if vt > searched:
                events.append((NOISE, searched, vt))
            if vt == length:
                return events, -1, length
            opened = searched = vt + 1
            continue
        if fs < searched:
            fs = find(text, FS, searched, length)
        at = min(fs, vt)
        if at == length:
            return events, opened, length
        kind = judge(text, at, length, restart)
        if kind == UNDECIDED:
            return events, opened, at
        searched = at + 2 if kind == FRAME else at + 1  # a BARE frame's VT is still to open the next one
        if kind != CONTENT:
            events.append((kind, opened, at))
            opened = at + 1 if kind == CUT else -1
    return events, opened, searched


def mllp_scan(buffer, opened, searched, bytes restart not None):
    """One pass over the buffer from `searched`: (events, opened', searched'). See `_pure.mllp_scan`."""
    cdef Py_buffer view
    cdef Py_ssize_t opened_at = clamped(opened), searched_to = clamped(searched)
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    try:
        return scan(<const uint8_t *>view.buf, view.len, opened_at, searched_to, restart)
    finally:
        PyBuffer_Release(&view)  # a bytearray cannot grow while its export is held


# CBOR, the deterministic subset that headers use


cdef inline size_t head(uint8_t *out, uint8_t major, uint64_t number) nogil:
    """Write the shortest head, 9 bytes at most; its length."""
    cdef size_t size = 1, at
    cdef uint8_t info = 24
    if number < 24:
        out[0] = major << 5 | <uint8_t>number
        return 1
    while size < 8 and number >> 8 * size:
        size *= 2
        info += 1
    out[0] = major << 5 | info
    for at in range(size):
        out[size - at] = <uint8_t>(number >> 8 * at)
    return 1 + size


cdef int put(Writer *out, uint8_t major, uint64_t number, const void *data, size_t size) except -1:
    """A head, and `size` bytes behind it."""
    if size > <size_t>PY_SSIZE_T_MAX - 9:
        raise MemoryError
    reserve(out, 9 + size)
    out.used += head(out.data + out.used, major, number)
    if size:
        memcpy(out.data + out.used, data, size)
    out.used += size
    return 0


cdef int put_integer(Writer *out, object number) except -1:
    cdef int overflow
    cdef long long value = PyLong_AsLongLongAndOverflow(number, &overflow)
    if overflow < 0:
        raise ValueError("number below -2**63")
    if overflow > 0:
        return put(out, UNSIGNED, unsigned(number), NULL, 0)
    if value < 0:
        return put(out, NEGATIVE, <uint64_t>(-1 - value), NULL, 0)
    return put(out, UNSIGNED, <uint64_t>value, NULL, 0)


cdef uint64_t unsigned(object number) except? 0xFFFFFFFFFFFFFFFF:
    try:
        return PyLong_AsUnsignedLongLong(number)
    except OverflowError:
        raise ValueError("number is negative or needs more than 64 bits") from None


cdef int put_value(Writer *out, object value, int nesting) except -1:
    """One value; `nesting`: arrays around it."""
    cdef const char *text
    cdef Py_ssize_t size
    if value is None or PyBool_Check(value):
        return put(out, 7, 22 if value is None else 21 if value is True else 20, NULL, 0)
    if PyLong_Check(value):
        return put_integer(out, value)
    if PyBytes_Check(value):
        size = PyBytes_GET_SIZE(value)
        return put(out, BYTES, <uint64_t>size, PyBytes_AS_STRING(value), <size_t>size)
    if PyUnicode_Check(value):
        text = PyUnicode_AsUTF8AndSize(value, &size)
        return put(out, TEXT, <uint64_t>size, text, <size_t>size)
    if not PyTuple_Check(value):
        raise TypeError(f"a header holds no {type(value).__name__}")
    if nesting == ARRAY_NESTING_MAX:
        raise ValueError("arrays nested too deep")
    put(out, ARRAY, <uint64_t>PyTuple_GET_SIZE(value), NULL, 0)
    for item in <object>value:
        put_value(out, item, nesting + 1)
    return 0


cdef uint64_t key_of(object key) except? 0xFFFFFFFFFFFFFFFF:
    if not PyLong_Check(key) or PyBool_Check(key):
        raise TypeError("a key is an integer")
    return unsigned(key)


cdef int put_map(Writer *out, object pairs) except -1:
    cdef tuple held = tuple(pairs)
    cdef bint first = True
    cdef uint64_t key, before = 0
    put(out, MAP, <uint64_t>PyTuple_GET_SIZE(held), NULL, 0)
    for key_object, value in held:
        key = key_of(key_object)
        if not first and key <= before:
            raise ValueError("keys are not negative and strictly ascending")
        put(out, UNSIGNED, key, NULL, 0)
        put_value(out, value, 0)
        before, first = key, False
    return 0


cdef tuple ascending(object keys, uint64_t extra, Py_ssize_t *place):
    """The keys as a tuple, checked, with the place among them of one more."""
    cdef tuple held = tuple(keys)
    cdef uint64_t key, before = 0
    cdef Py_ssize_t at
    place[0] = 0
    for at in range(PyTuple_GET_SIZE(held)):
        key = key_of(<object>PyTuple_GET_ITEM(held, at))
        if (at and key <= before) or key == extra:
            raise ValueError("keys are not negative and strictly ascending")
        place[0] += key < extra
        before = key
    return held


cdef int put_header(
    Writer *out, bytes start, tuple keys, tuple columns, Py_ssize_t row, uint64_t extra, Py_ssize_t place, size_t *hole,
) except -1:
    """The header as it begins, its cells under the keys, and a hole of 32 bytes under the extra one in its place."""
    cdef Py_ssize_t at, width = PyTuple_GET_SIZE(keys)
    cdef uint64_t count = 1
    cdef object value
    if start is None:
        raise TypeError("a start is bytes")
    cdef uint8_t first = octets(start)[0]  # of empty bytes: the zero behind them
    if first >> 5 != MAP or first & 31 > SHORT_MAP_PAIRS_MAX:
        raise ValueError("a header begins with a short map")
    for at in range(width):
        count += <object>PyTuple_GET_ITEM(<tuple>PyTuple_GET_ITEM(columns, at), row) is not None
    put(out, MAP, (first & 31) + count, octets(start) + 1, <size_t>PyBytes_GET_SIZE(start) - 1)
    for at in range(width):
        if at == place:
            put_hole(out, extra, hole)
        value = <object>PyTuple_GET_ITEM(<tuple>PyTuple_GET_ITEM(columns, at), row)
        if value is not None:
            put(out, UNSIGNED, PyLong_AsUnsignedLongLong(<object>PyTuple_GET_ITEM(keys, at)), NULL, 0)
            put_value(out, value, 0)
    if place == width:
        put_hole(out, extra, hole)
    return 0


cdef int put_hole(Writer *out, uint64_t key, size_t *hole) except -1:
    cdef uint8_t empty[HASH_BYTES]
    memset(empty, 0, HASH_BYTES)
    put(out, UNSIGNED, key, NULL, 0)
    put(out, BYTES, HASH_BYTES, empty, HASH_BYTES)
    hole[0] = out.used - HASH_BYTES
    return 0


def cbor_map(pairs):
    """Deterministic CBOR (RFC 8949 4.2.1) of a map from integers. See `_pure.cbor_map`."""
    cdef Writer out = Writer(NULL, 0, 0)
    try:
        put_map(&out, pairs)
        return PyBytes_FromStringAndSize(<const char *>out.data, <Py_ssize_t>out.used)
    finally:
        PyMem_Free(out.data)


# The log: commitments and the Merkle tree of RFC 9162. Functions below are called without the GIL.


cdef struct Tree:
    uint64_t size
    size_t depth
    uint8_t peaks[PEAKS_MAX * HASH_BYTES]


cdef struct Job:
    const uint8_t *particulars
    size_t particulars_size
    const uint8_t *body
    size_t body_size
    size_t header  # offset in the writer
    size_t header_size
    size_t hole


cdef EVP_MD_CTX *new_context() except NULL:
    cdef EVP_MD_CTX *context = EVP_MD_CTX_new()
    if context is NULL:
        raise MemoryError
    return context


cdef int sha256(
    EVP_MD_CTX *context, uint8_t *out,
    const void *a, size_t a_size, const void *b, size_t b_size, const void *c, size_t c_size,
) except -1 nogil:
    if not (
        EVP_DigestInit_ex(context, SHA256, NULL)
        and EVP_DigestUpdate(context, a, a_size)
        and (b_size == 0 or EVP_DigestUpdate(context, b, b_size))
        and (c_size == 0 or EVP_DigestUpdate(context, c, c_size))
        and EVP_DigestFinal_ex(context, out, NULL)
    ):
        with gil:
            raise RuntimeError("libcrypto failed to hash")
    return 0


cdef int commit(
    EVP_MD_CTX *context, uint8_t *out, const uint8_t *salt,
    const uint8_t *particulars, size_t particulars_size, const uint8_t *body, size_t body_size,
) except -1 nogil:
    cdef uint8_t start[SALT_BYTES + 9]
    memcpy(start, salt, SALT_BYTES)
    cdef size_t used = SALT_BYTES + head(start + SALT_BYTES, BYTES, particulars_size)
    return sha256(context, out, start, used, particulars, particulars_size, body, body_size)


cdef int open_tree(object size, bytes peaks, size_t more, Tree *tree) except -1:
    """Read size and peaks, with room for `more` leaves."""
    cdef int overflow
    cdef long long number = PyLong_AsLongLongAndOverflow(size, &overflow)
    cdef uint64_t bits
    if overflow or number < 0 or <uint64_t>number + more > TREE_SIZE_MAX:
        raise ValueError("a tree's size lies in 0..2**63-1")
    tree.size = bits = <uint64_t>number
    tree.depth = 0
    while bits:
        bits &= bits - 1
        tree.depth += 1
    if <size_t>PyBytes_GET_SIZE(peaks) != HASH_BYTES * tree.depth:
        raise ValueError("a tree has one peak per bit set in its size")
    memcpy(tree.peaks, octets(peaks), HASH_BYTES * tree.depth)
    return 0


cdef int join(EVP_MD_CTX *context, const uint8_t *left, const uint8_t *right, uint8_t *out) except -1 nogil:
    """Hash two nodes into their parent; `out` may be one of them."""
    cdef uint8_t one = 1
    return sha256(context, out, &one, 1, left, HASH_BYTES, right, HASH_BYTES)


cdef int append_leaf(EVP_MD_CTX *context, Tree *tree, const uint8_t *leaf) except -1 nogil:
    cdef uint64_t level = tree.size
    cdef uint8_t *top = tree.peaks + HASH_BYTES * tree.depth
    memcpy(top, leaf, HASH_BYTES)
    tree.depth += 1
    tree.size += 1
    while level & 1:
        join(context, top - HASH_BYTES, top, top - HASH_BYTES)
        top -= HASH_BYTES
        tree.depth -= 1
        level >>= 1
    return 0


cdef int fold(EVP_MD_CTX *context, const Tree *tree, uint8_t *root) except -1 nogil:
    cdef size_t left = tree.depth
    if left == 0:
        return sha256(context, root, b"", 0, NULL, 0, NULL, 0)
    left -= 1
    memcpy(root, tree.peaks + HASH_BYTES * left, HASH_BYTES)
    while left:
        left -= 1
        join(context, tree.peaks + HASH_BYTES * left, root, root)
    return 0


def body_commitment(bytes salt not None, bytes particulars not None, bytes body not None):
    """SHA-256 of salt, particulars as one CBOR byte string, body. See `_pure.body_commitment`."""
    if PyBytes_GET_SIZE(salt) != SALT_BYTES:
        raise ValueError("a salt is 16 bytes")
    cdef uint8_t out[HASH_BYTES]
    cdef const uint8_t *salt_at = octets(salt)
    cdef const uint8_t *particulars_at = octets(particulars)
    cdef const uint8_t *body_at = octets(body)
    cdef size_t particulars_size = PyBytes_GET_SIZE(particulars), body_size = PyBytes_GET_SIZE(body)
    cdef EVP_MD_CTX *context = new_context()
    try:
        with nogil:
            commit(context, out, salt_at, particulars_at, particulars_size, body_at, body_size)
    finally:
        EVP_MD_CTX_free(context)
    return PyBytes_FromStringAndSize(<const char *>out, HASH_BYTES)


def leaf_hashes(headers):
    """Hash each header as a leaf: 32 bytes each, joined. See `_pure.leaf_hashes`."""
    cdef tuple held = tuple(headers)
    cdef bytes header, leaves = PyBytes_FromStringAndSize(NULL, HASH_BYTES * PyTuple_GET_SIZE(held))
    cdef uint8_t *out = <uint8_t *>octets(leaves)
    cdef uint8_t zero = 0
    cdef EVP_MD_CTX *context = new_context()
    try:
        for header in held:
            if header is None:
                raise TypeError("a header is bytes")
            sha256(context, out, &zero, 1, octets(header), PyBytes_GET_SIZE(header), NULL, 0)
            out += HASH_BYTES
    finally:
        EVP_MD_CTX_free(context)
    return leaves


def frontier_append(size, bytes peaks not None, bytes leaves not None):
    """Append leaf hashes to the peaks. See `_pure.frontier_append`."""
    cdef size_t count = PyBytes_GET_SIZE(leaves) // HASH_BYTES, at
    cdef const uint8_t *leaf = octets(leaves)
    cdef Tree tree
    open_tree(size, peaks, count, &tree)
    if PyBytes_GET_SIZE(leaves) % HASH_BYTES:
        raise ValueError("a leaf hash is 32 bytes")
    cdef EVP_MD_CTX *context = new_context()
    try:
        with nogil:
            for at in range(count):
                append_leaf(context, &tree, leaf + HASH_BYTES * at)
    finally:
        EVP_MD_CTX_free(context)
    return PyBytes_FromStringAndSize(<const char *>tree.peaks, HASH_BYTES * tree.depth)


def frontier_root(size, bytes peaks not None):
    """Fold the peaks right to left into the root. See `_pure.frontier_root`."""
    cdef uint8_t root[HASH_BYTES]
    cdef Tree tree
    open_tree(size, peaks, 0, &tree)
    cdef EVP_MD_CTX *context = new_context()
    try:
        fold(context, &tree, root)
    finally:
        EVP_MD_CTX_free(context)
    return PyBytes_FromStringAndSize(<const char *>root, HASH_BYTES)


cdef int gather(
    Writer *out, Job *jobs, tuple starts, object keys, tuple columns, object key, tuple particulars, tuple bodies,
) except -1:
    """Encode each header with a hole for its commitment, and note what is to be hashed; needs the GIL."""
    cdef Py_ssize_t at, place
    cdef uint64_t extra = key_of(key)
    cdef tuple held = ascending(keys, extra, &place)
    cdef bytes detail, body
    for at in range(PyTuple_GET_SIZE(starts)):
        detail, body = particulars[at], bodies[at]
        if detail is None or body is None:
            raise TypeError("particulars and bodies are bytes")
        jobs[at].particulars, jobs[at].particulars_size = octets(detail), PyBytes_GET_SIZE(detail)
        jobs[at].body, jobs[at].body_size = octets(body), PyBytes_GET_SIZE(body)
        jobs[at].header = out.used
        put_header(out, starts[at], held, columns, at, extra, place, &jobs[at].hole)
        jobs[at].header_size = out.used - jobs[at].header
    return 0


cdef int seal(
    EVP_MD_CTX *context, Tree *tree, uint8_t *data, const Job *jobs, size_t count,
    const uint8_t *salts, uint8_t *leaves, uint8_t *root,
) except -1 nogil:
    """Fill the holes, hash the leaves, grow the tree."""
    cdef size_t at
    cdef uint8_t zero = 0
    for at in range(count):
        commit(
            context, data + jobs[at].hole, salts + SALT_BYTES * at,
            jobs[at].particulars, jobs[at].particulars_size, jobs[at].body, jobs[at].body_size,
        )
        sha256(context, leaves, &zero, 1, data + jobs[at].header, jobs[at].header_size, NULL, 0)
        append_leaf(context, tree, leaves)
        leaves += HASH_BYTES
    return fold(context, tree, root)


def seal_group(
    size, bytes peaks not None, starts, keys, columns, commitment_key, bytes salts not None, particulars, bodies,
):
    """Commit, encode, hash and append a group. See `_pure.seal_group`."""
    # tuples: nobody else can shrink them
    cdef tuple begun = tuple(starts), cells = tuple([tuple(column) for column in columns])
    cdef tuple details = tuple(particulars), texts = tuple(bodies)
    cdef Py_ssize_t count = PyTuple_GET_SIZE(begun), at
    cdef bint fits = PyBytes_GET_SIZE(salts) % SALT_BYTES == 0 and PyBytes_GET_SIZE(salts) // SALT_BYTES == count
    for column in cells:
        fits = fits and PyTuple_GET_SIZE(<tuple>column) == count
    if not fits or PyTuple_GET_SIZE(details) != count or PyTuple_GET_SIZE(texts) != count:
        raise ValueError("a group has one start, salt, particulars, body and value of each column per record")
    if len(keys) != PyTuple_GET_SIZE(cells):
        raise ValueError("each column has a key")
    cdef bytes leaves = PyBytes_FromStringAndSize(NULL, HASH_BYTES * count)
    cdef uint8_t *leaves_at = <uint8_t *>octets(leaves)
    cdef const uint8_t *salts_at = octets(salts)
    cdef uint8_t root[HASH_BYTES]
    cdef Writer out = Writer(NULL, 0, 0)
    cdef Tree tree
    cdef list encoded = []
    cdef EVP_MD_CTX *context = NULL
    cdef Job *jobs = <Job *>PyMem_Calloc(max(count, 1), sizeof(Job))  # refuses a product that overflows
    try:
        if jobs is NULL:
            raise MemoryError
        context = new_context()
        open_tree(size, peaks, <size_t>count, &tree)
        gather(&out, jobs, begun, keys, cells, commitment_key, details, texts)
        with nogil:
            seal(context, &tree, out.data, jobs, <size_t>count, salts_at, leaves_at, root)
        for at in range(count):
            encoded.append(PyBytes_FromStringAndSize(<const char *>out.data + jobs[at].header, jobs[at].header_size))
    finally:
        EVP_MD_CTX_free(context)
        PyMem_Free(out.data)
        PyMem_Free(jobs)
    return (
        encoded, leaves, PyBytes_FromStringAndSize(<const char *>tree.peaks, HASH_BYTES * tree.depth),
        PyBytes_FromStringAndSize(<const char *>root, HASH_BYTES),
    )


# Rows in one piece


def pack_rows(columns, bits):
    """Join the cells of all rows and say where each lies; None where that does not fit. See `_pure.pack_rows`."""
    cdef tuple held = tuple([tuple(column) for column in columns]), widths = tuple(bits)
    cdef Py_ssize_t n_columns = PyTuple_GET_SIZE(held), count, row, at
    cdef uint8_t shifts[62]
    cdef uint64_t offset = 0, number, length
    cdef Py_ssize_t room = 63, width
    cdef bytes joined, numbers
    cdef uint8_t *out
    cdef object cell
    if n_columns == 0 or n_columns > 62 or PyTuple_GET_SIZE(widths) != n_columns:
        raise ValueError("columns of one length have 62 bits among them")
    count = PyTuple_GET_SIZE(<tuple>PyTuple_GET_ITEM(held, 0))
    for at in range(n_columns):
        width = clamped(<object>PyTuple_GET_ITEM(widths, at))
        if width < 1 or width >= room or PyTuple_GET_SIZE(<tuple>PyTuple_GET_ITEM(held, at)) != count:
            raise ValueError("columns of one length have 62 bits among them")
        shifts[at] = <uint8_t>width
        room -= width
    numbers = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>sizeof(uint64_t) * count)
    for row in range(count):
        number = offset
        if offset >> room:
            return None
        for at in range(n_columns):
            cell = <object>PyTuple_GET_ITEM(<tuple>PyTuple_GET_ITEM(held, at), row)
            if not PyBytes_Check(cell):
                raise TypeError("a cell is bytes")
            length = <uint64_t>PyBytes_GET_SIZE(cell)
            if length >> shifts[at]:
                return None
            number = number << shifts[at] | length
            offset += length
        memcpy(<uint8_t *>octets(numbers) + sizeof(uint64_t) * row, &number, sizeof(uint64_t))
    if offset > <uint64_t>PY_SSIZE_T_MAX:
        return None
    joined = PyBytes_FromStringAndSize(NULL, <Py_ssize_t>offset)
    out = <uint8_t *>octets(joined)
    for row in range(count):
        for at in range(n_columns):
            cell = <object>PyTuple_GET_ITEM(<tuple>PyTuple_GET_ITEM(held, at), row)
            memcpy(out, PyBytes_AS_STRING(cell), <size_t>PyBytes_GET_SIZE(cell))
            out += PyBytes_GET_SIZE(cell)
    return joined, numbers
