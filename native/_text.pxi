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
