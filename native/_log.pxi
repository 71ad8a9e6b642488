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
