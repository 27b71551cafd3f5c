"""Text files to texts: the encoding is told by the bytes."""

from __future__ import annotations

import codecs

from shoal_core.errors import BadText

SUFFIXES = (".txt", ".text")
MAX_TEXT_BYTES = 16 * 1024**2
_MARKS = (
    # UTF-32's mark begins with UTF-16's, so it is looked for first.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FIX = "Save it as UTF-8 text."
# Of every hundred characters of a text, at most this many control anything but the layout.
_MOST_CONTROLS = 2
_CONTROLS = [char for char in map(chr, (*range(32), *range(127, 160))) if char not in "\t\n\r\f\v\x1a\x1b\x85"]


def is_text_name(name: str) -> bool:
    """Whether the extension is a text's."""
    return name.casefold().endswith(SUFFIXES)


def judge_text_name(name: str) -> tuple[str, str, str]:
    """Why a file can't be a sample: (code, reason, fix), all empty when it can."""
    if is_text_name(name):
        return "", "", ""
    return "not_a_text", "its extension isn't a text's", f"Leave it out, or save it as {' or '.join(SUFFIXES)}."


def judge_text_size(size: int) -> tuple[str, str, str]:
    """The same for a file's bytes."""
    if size <= MAX_TEXT_BYTES:
        return "", "", ""
    reason = f"it has {size:,} bytes, more than {MAX_TEXT_BYTES:,}"
    return "too_large", reason, "Cut it into several texts."


def judge_text(name: str, size: int) -> tuple[str, str, str]:
    """Whether a file of that name and so many bytes can be a sample."""
    judged = judge_text_name(name)
    return judged if judged[0] else judge_text_size(size)


def decode_text(data: bytes, name: str = "The text") -> str:
    """Decode one text file.

    By its byte order mark (UTF-8, UTF-16, UTF-32), else UTF-8, else UTF-16 without a mark where every other byte is
    mostly zero, else Windows-1252.

    Args:
        data: The file.
        name: What to call it in errors.

    Raises:
        BadText: It is larger than `MAX_TEXT_BYTES`, its bytes break the encoding that its mark names, or it isn't text.
    """
    code, reason, fix = judge_text_size(len(data))
    if code:
        raise BadText(f"{name}: {reason}.", fix)
    undefined = 0
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), None)
    if encoding is not None:
        text = _decode(data, encoding, name).removeprefix("\ufeff")
    elif b"\0" in data:
        text = _decode(data, _unmarked(data, name), name)
    else:
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:
            text = data.decode("cp1252", "replace")
            undefined = text.count("\ufffd")
    controls = undefined + sum(text.count(char) for char in _CONTROLS)
    if 100 * controls > _MOST_CONTROLS * len(text):
        raise BadText(f"{name} isn't text: {controls:,} of its characters are controls or undefined.", _FIX)
    return text


def _decode(data: bytes, encoding: str, name: str) -> str:
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadText(f"{name} is broken {encoding.upper()} text: {error.reason}.", _FIX) from error


def _unmarked(data: bytes, name: str) -> str:
    """UTF-16 by where the zeros are; text in most scripts has many characters below 256 (spaces at least)."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    if len(data) % 2 == 0 and 10 * max(even, odd) > len(data) and 20 * min(even, odd) <= max(even, odd):
        return "utf-16-le" if odd > even else "utf-16-be"
    raise BadText(f"{name} isn't text: it holds zero bytes.", _FIX)
