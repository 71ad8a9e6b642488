# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The compiled twins of `_pure.py`, which is their specification: contracts, shapes and clauses stand there.

Each kernel checks its bounds once, at the top; below that only sized C types. No pointer outlives its call.
"""

# the lint does not look into the files that are included below
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer  # no-cython-lint
from cpython.bool cimport PyBool_Check  # no-cython-lint
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_Check, PyBytes_FromStringAndSize, PyBytes_GET_SIZE  # no-cython-lint
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_AsUnsignedLongLong, PyLong_Check  # no-cython-lint
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Realloc  # no-cython-lint
from cpython.tuple cimport PyTuple_Check, PyTuple_GET_ITEM, PyTuple_GET_SIZE  # no-cython-lint
from cpython.unicode cimport PyUnicode_Check  # no-cython-lint
from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t  # no-cython-lint
from libc.string cimport memchr, memcmp, memcpy, memset  # no-cython-lint

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
    MESSAGE_BYTES_MAX = 0x3FFFFFFF  # the numbers are those of _pure.py and _pure_log.py
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


include "_text.pxi"  # ER7 and MLLP
include "_log.pxi"  # CBOR, commitments, the tree, rows
include "_json.pxi"  # JSON
