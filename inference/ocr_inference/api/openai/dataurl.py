"""Pictures inside JSON: data URLs in base64 (RFC 2397), decoded within bounds."""

import binascii

from ocr_inference.errors import ApiError

_SCHEME = "data:"
_MAX_HEAD = 256
"""Most characters before the data, `data:image/png;base64,`; parameters are allowed and have no effect."""
_STEP = 4 << 20
"""Characters decoded at a time: other threads run in between. A multiple of four."""


def decode(url: str, max_bytes: int, param: str) -> bytes:
    """Decode the bytes of a data URL; raises `ApiError` that names `param`. Their format isn't checked here."""
    head, comma, _ = url[:_MAX_HEAD].partition(",")
    if not head[: len(_SCHEME)].lower() == _SCHEME:
        raise _refused_scheme(head, param)
    if not comma or not head.lower().endswith(";base64"):
        raise _invalid("a picture is sent as data:image/png;base64,… (or another type of picture)", param)
    start = len(head) + 1
    size = len(url) - start
    if size // 4 * 3 > max_bytes + 3:
        raise _too_large(max_bytes, param)
    data = bytearray()
    for at in range(start, len(url), _STEP):
        chunk = url[at : at + _STEP]
        try:
            decoded = binascii.a2b_base64(chunk, strict_mode=True)
        except ValueError as error:  # binascii.Error, and what isn't ASCII
            raise _invalid(f"the data URL isn't base64: {str(error)[:100]}", param) from None
        if at + _STEP < len(url) and len(decoded) != _STEP // 4 * 3:
            raise _invalid("the data URL isn't base64: padding before its end", param)
        data += decoded
    if len(data) > max_bytes:
        raise _too_large(max_bytes, param)
    return bytes(data)


def _refused_scheme(head: str, param: str) -> ApiError:
    scheme = head.partition(":")[0].lower()
    if scheme in {"http", "https"}:
        return ApiError(
            422,
            "remote_url",
            "remote URLs are off: this server fetches nothing; send the picture itself as a data URL "
            "(data:image/png;base64,…)",
            param=param,
        )
    return _invalid("the picture must be a data URL (data:image/png;base64,…)", param)


def _too_large(max_bytes: int, param: str) -> ApiError:
    return ApiError(413, "upload_too_large", f"pictures may have {max_bytes} bytes", param=param)


def _invalid(message: str, param: str) -> ApiError:
    return ApiError(422, "invalid_value", message, param=param)
