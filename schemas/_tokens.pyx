# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The tokens of ASCII texts without URLs, as search.py makes them. Compiled.

The limits come from search.py.
"""

from libc.string cimport memchr, memcmp, memcpy

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void* PyUnicode_DATA(object text)
    bint PyUnicode_IS_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)


def ascii_tokens(str text not None, Py_ssize_t most, Py_ssize_t characters):
    """Return the first `most` distinct tokens, cut to `characters`, or None if the text is not ASCII or has a URL."""
    cdef Token[MOST] found
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(text)
    if not PyUnicode_IS_ASCII(text):
        return None
    if not 0 < most <= MOST:
        raise ValueError("more tokens than there is room for")
    cdef bytearray scratch = PyByteArray_FromStringAndSize(<char*>PyUnicode_DATA(text), size)
    cdef Py_ssize_t count = find_tokens(<uint8_t*>PyByteArray_AS_STRING(scratch), size, found, most, characters)
    if count < 0:
        return None
    return [_text(&found[i]) for i in range(count)]


cdef inline str _text(Token* token):
    made = PyUnicode_New(token.size, 0x7F)
    memcpy(PyUnicode_DATA(made), token.at, token.size)
    return made


cdef Py_ssize_t find_tokens(uint8_t* text, Py_ssize_t size, Token* found, Py_ssize_t most, Py_ssize_t characters) noexcept:
    """Find the tokens of a text in UTF-8, which becomes lower case, and return their number.

    Returns -1 if the text is not ASCII or may have a URL: search.py makes its tokens.
    """
    cdef uint8_t all_bits = 0
    cdef Py_ssize_t i
    for i in range(size):  # without a branch, so that the C compiler makes vectors of it
        all_bits |= text[i]
        text[i] |= ((65 <= text[i]) & (text[i] <= 90)) << 5
    if all_bits > 0x7F or _has_url(text, size):
        return -1
    cdef Py_ssize_t count = 0
    cdef Py_ssize_t begin
    cdef Token token
    i = 0
    while i < size and count < most:
        if not _is_of_word(text[i]):
            i += 1
            continue
        begin = i
        token.hash = 0xCBF29CE484222325ULL
        while i < size and _is_of_word(text[i]):
            if i - begin < characters:
                token.hash = (token.hash ^ text[i]) * 0x100000001B3ULL  # FNV-1a
            i += 1
        token.at = text + begin
        token.size = min(i - begin, characters)
        if not _is_among(found, count, &token):
            found[count] = token
            count += 1
    return count


cdef inline bint _is_of_word(uint8_t character) noexcept:
    return 97 <= character <= 122 or 48 <= character <= 57


cdef inline bint _is_among(const Token* found, Py_ssize_t count, const Token* token) noexcept:
    # One after the other: most texts have few words, and the longest ones at most `most` to compare.
    for i in range(count):
        if found[i].hash == token.hash and found[i].size == token.size:
            if memcmp(found[i].at, token.at, token.size) == 0:
                return True
    return False


cdef inline bint _has_url(const uint8_t* text, Py_ssize_t size) noexcept:
    """Return whether `://` is in the text, as search.masked asks."""
    cdef const uint8_t* end = text + size
    cdef const uint8_t* colon = text
    while True:
        colon = <const uint8_t*>memchr(colon, 58, end - colon)
        if colon == NULL or end - colon < 3:
            return False
        if colon[1] == 47 and colon[2] == 47:
            return True
        colon += 1
