# JSON: the twin of `_pure_json.py`.

cdef enum:
    JSON_DEPTH_MAX = 200
    JSON_ROOM_BYTES = 16384  # a usual Bundle; doubled as it is filled

cdef const char *HEX = b"0123456789abcdef"

ctypedef struct Json:
    char *data
    Py_ssize_t size
    Py_ssize_t room


cdef int json_room(Json *out, Py_ssize_t more) except -1:
    cdef Py_ssize_t room = out.room
    cdef char *data
    if more > PY_SSIZE_T_MAX // 4 - out.size:
        raise MemoryError
    while room < out.size + more:
        room *= 2
    if room != out.room:
        data = <char *>PyMem_Realloc(out.data, room)
        if data is NULL:
            raise MemoryError
        out.data, out.room = data, room
    return 0


cdef int json_put(Json *out, const char *text, Py_ssize_t length) except -1:
    json_room(out, length)
    memcpy(out.data + out.size, text, length)
    out.size += length
    return 0


cdef int json_string(Json *out, object text) except -1:
    cdef Py_ssize_t length, at, begin = 0
    cdef const char *data = PyUnicode_AsUTF8AndSize(text, &length)
    cdef uint8_t byte
    cdef char short_form
    if length > PY_SSIZE_T_MAX // 32:
        raise MemoryError
    json_room(out, length * 6 + 2)  # each byte may become \u00XX
    out.data[out.size] = 0x22
    out.size += 1
    for at in range(length):
        byte = <uint8_t>data[at]
        if byte >= 0x20 and byte != 0x22 and byte != 0x5C:
            continue
        memcpy(out.data + out.size, data + begin, at - begin)
        out.size += at - begin
        begin = at + 1
        out.data[out.size] = 0x5C
        out.size += 1
        short_form = json_short(byte)
        if short_form:
            out.data[out.size] = short_form
            out.size += 1
        else:
            memcpy(out.data + out.size, b"u00", 3)
            out.data[out.size + 3] = HEX[byte >> 4]
            out.data[out.size + 4] = HEX[byte & 15]
            out.size += 5
    memcpy(out.data + out.size, data + begin, length - begin)
    out.size += length - begin
    out.data[out.size] = 0x22
    out.size += 1
    return 0


cdef char json_short(uint8_t byte) noexcept:
    if byte == 0x22 or byte == 0x5C:
        return byte
    if byte == 0x0A:
        return 0x6E
    if byte == 0x0D:
        return 0x72
    if byte == 0x09:
        return 0x74
    if byte == 0x0C:
        return 0x66
    if byte == 0x08:
        return 0x62
    return 0


cdef int json_ascii(Json *out, object text) except -1:
    cdef Py_ssize_t length, at
    cdef const char *data
    if type(text) is not str:
        raise TypeError("digits are ASCII")
    data = PyUnicode_AsUTF8AndSize(text, &length) if text.isascii() else NULL
    if data is NULL:
        raise TypeError("digits are ASCII")
    return json_put(out, data, length)


cdef int json_value(Json *out, object value, object number, int depth) except -1:
    cdef object kind = type(value)
    cdef bint is_first = True
    if depth > JSON_DEPTH_MAX:
        raise ValueError(f"more than {JSON_DEPTH_MAX} levels")
    if kind is str:
        return json_string(out, value)
    if kind is dict:
        for name, each in (<dict>value).items():
            if type(name) is not str:
                raise TypeError(f"not a name: {type(name).__name__}")
            json_put(out, b"{" if is_first else b",", 1)
            json_string(out, name)
            json_put(out, b":", 1)
            json_value(out, each, number, depth + 1)
            is_first = False
        return json_put(out, b"{}", 2) if is_first else json_put(out, b"}", 1)
    if kind is list:
        for each in <list>value:
            json_put(out, b"[" if is_first else b",", 1)
            json_value(out, each, number, depth + 1)
            is_first = False
        return json_put(out, b"[]", 2) if is_first else json_put(out, b"]", 1)
    if kind is number:
        return json_ascii(out, value.digits)
    if value is None:
        return json_put(out, b"null", 4)
    if value is True:
        return json_put(out, b"true", 4)
    if value is False:
        return json_put(out, b"false", 5)
    if kind is int:
        return json_ascii(out, str(value))
    raise TypeError(f"not a JSON value: {kind.__name__}")


def json_text(value, type number not None):
    """JSON without blanks, in UTF-8. See `_pure_json.json_text`."""
    cdef Json out
    out.size, out.room = 0, JSON_ROOM_BYTES
    out.data = <char *>PyMem_Realloc(NULL, JSON_ROOM_BYTES)
    if out.data is NULL:
        raise MemoryError
    try:
        json_value(&out, value, number, 0)
        return PyBytes_FromStringAndSize(out.data, out.size)
    finally:
        PyMem_Free(out.data)
