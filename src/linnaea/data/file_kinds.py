"""Kinds of files, told by their first bytes, and the reason why a file gives no picture."""

import io

from linnaea.data.cut_short import is_cut_short
from linnaea.data.picture import OnNote

_ISO_BRANDS = {
    b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC", b"hevc": "HEIC", b"hevx": "HEIC",
    b"mif1": "HEIC", b"msf1": "HEIC", b"avif": "AVIF", b"avis": "AVIF", b"crx ": "Canon raw",
    b"jp2 ": "JPEG 2000", b"jxl ": "JPEG XL", b"M4A ": "audio",
}  # fmt: skip
"""Major brands of files that begin with ``ftyp``; all others are videos."""

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"GIF8", "GIF"),
    (b"8BPS", "Photoshop"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\xff\x0a", "JPEG XL"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"gimp xcf", "GIMP"),
    (b"FUJIFILMCCD-RAW", "Fujifilm raw"),
    (b"IIRO", "Olympus raw"),
    (b"IIRS", "Olympus raw"),
    (b"MMOR", "Olympus raw"),
    (b"IIU\0", "Panasonic raw"),
    (b"FOVb", "Sigma raw"),
    (b"\0MRM", "Minolta raw"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"7z\xbc\xaf", "7z archive"),
    (b"Rar!", "RAR archive"),
    (b"\xfd7zXZ", "xz archive"),
    (b"BZh", "bzip2 archive"),
    (b"\x28\xb5\x2f\xfd", "Zstandard archive"),
    (b"\x89HDF", "HDF5"),
    (b"CDF\x01", "NetCDF"),
    (b"SIMPLE  =", "FITS"),
    (b"ZISRAWFILE", "Zeiss CZI"),
    (b"\xda\xce\xbe\n", "Nikon ND2"),
    (b"\0\x05\x16\x07", "macOS file information (AppleDouble)"),
    (b"\0\0\0\0Bud1", "macOS folder settings"),
    (b"\x7fELF", "program"),
    (b"MZ", "program"),
    (b"PAR1", "Parquet table"),
    (b"SQLite format 3", "SQLite database"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\0\0\x01\xba", "video"),
    (b"\0\0\x01\xb3", "video"),
    (b"FLV", "video"),
    (b"0&\xb2u", "video"),
    (b"OggS", "video or audio"),
    (b"ID3", "audio"),
    (b"version https://git-lfs", "Git LFS pointer, not the file itself"),
)

_PICTURES = {"JPEG", "PNG", "GIF", "BMP", "TIFF", "WebP", "HEIC", "AVIF", "JPEG 2000", "JPEG XL", "Photoshop"}

NOT_IMAGES = {
    ".txt", ".csv", ".tsv", ".json", ".jsonl", ".md", ".xml", ".html", ".yaml", ".yml", ".db", ".ini", ".parquet",
    ".xmp", ".aae", ".thm", ".srt", ".pp3", ".dop",
}  # fmt: skip
"""Endings of files that are skipped as not photographs: tables, and what cameras and editors put beside photographs.
In a folder any other file is read, and rejected if broken."""

PICTURE_ENDINGS = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".jif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif",
    ".avif", ".avifs", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".jpx", ".jxl", ".psd", ".ppm", ".pgm",
    ".pbm", ".pnm", ".tga",
    ".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".raf", ".pef", ".srw",
}  # fmt: skip
"""Endings of the files that are pictures in an archive; there, files with other endings may be anything."""

_HOLES = {"zero": bytes(512), "0xff": b"\xff" * 512}
"""A sector of equal bytes, which cards leave where they lost one; no compressed picture has it."""

RAW_KINDS = {kind for _, kind in _STARTS if kind.endswith(" raw")} | {"Canon raw"}


def kind_of(data: bytes) -> str:
    """Return what the first bytes of a file say it is, such as ``PNG``; empty if they are not known."""
    if data[4:8] == b"ftyp":
        return _ISO_BRANDS.get(data[8:12], "video")
    if data[:4] == b"RIFF":
        return {b"WEBP": "WebP", b"AVI ": "video", b"WAVE": "audio"}.get(data[8:12], "")
    if data[:4] == b"II*\0" and data[8:10] == b"CR":
        return "Canon raw"
    if data[257:262] == b"ustar":
        return "tar archive"
    if data[128:132] == b"DICM":
        return "DICOM"
    return next((kind for start, kind in _STARTS if data.startswith(start)), "")


def is_picture_member(name: str, head: bytes) -> bool:
    """Return whether a file in an archive is to be answered, by its ending or, without a known one, its first bytes."""
    base = name.rpartition("/")[2]
    _, dot, word = base.rpartition(".")
    ending, kind = f".{word.lower()}", kind_of(head)
    if base.startswith(".") or (dot and ending in NOT_IMAGES):
        return False
    if dot:
        return ending in PICTURE_ENDINGS or kind in _PICTURES | RAW_KINDS
    return bool(head) and (kind in _PICTURES | RAW_KINDS or (not kind and _text_kind(head) == "unknown format"))


def why_not_an_image(data: bytes) -> str:
    """Return why nothing can be read from a file that no reader knows."""
    if not data:
        return "file is empty"
    if is_truncated_picture(data):
        return f"image is truncated ({kind_of(data)})"
    if not data.strip(b"\0"):
        return f"holds only zero bytes ({len(data):,}): the card or the copy failed"
    if len(set(data[:512])) == 1 and len(data) > 1:
        return f"cannot be read (begins with the byte {data[0]:#04x}, repeated: the card or the copy failed)"
    kind = kind_in_words(data)
    if kind in _PICTURES:
        return f"not a readable image ({kind})"
    return f"not an image ({kind}); unpack it" if kind.endswith(" archive") else f"not an image ({kind})"


def is_truncated_picture(data: bytes) -> bool:
    """Return whether a picture ends before the end that its own structure states."""
    return kind_of(data) in _PICTURES and is_cut_short(io.BytesIO(data), len(data))


def note_hole(data: bytes, on_note: OnNote) -> None:
    """Tell of a run of equal bytes in a compressed file, which has no checksums that would tell more."""
    for word, hole in _HOLES.items():
        if hole in data:
            on_note(f"the file holds a run of {word} bytes; a part of the picture may be lost")


def kind_in_words(data: bytes) -> str:
    """Return what the first bytes of a file say it is, in words."""
    return kind_of(data) or _text_kind(data)


def _text_kind(data: bytes) -> str:
    head = data[:512].lstrip()
    if head[:1] == b"<":
        return "SVG drawing" if b"<svg" in data[:4096] else "HTML or XML"
    try:
        data[:512].decode("utf-8")
    except UnicodeDecodeError as error:
        if len(data) <= 512 or error.start < 509:  # a character may be cut at the end
            return "unknown format"
    return "text file"
