"""Reading photographs: formats, orientation, and what is refused."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from crowdmesh.errors import FormatError, InputError
from crowdmesh.images import decode_image, encoded_size, find_images, read_image

HEIGHT, WIDTH = 24, 40
# The transformation that each EXIF orientation asks a viewer to make, as numpy operations.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """Four differently coloured quarters: no two orientations look alike."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[:12, :20], image[:12, 20:] = (250, 20, 30), (20, 240, 30)
    image[12:, :20], image[12:, 20:] = (10, 30, 230), (200, 200, 100)
    return image


def assert_close(image, expected, tolerance=0):
    assert image.dtype == np.uint8 and image.shape == expected.shape
    # Lossy formats blur the borders between the quarters; their middles count.
    difference = np.abs(image.astype(int) - expected.astype(int))
    assert np.median(difference) <= tolerance


@pytest.mark.parametrize(
    ("suffix", "tolerance"), [(".png", 0), (".bmp", 0), (".tiff", 0), (".jpg", 4), (".webp", 6), (".PNG", 0)]
)
def test_common_formats(tmp_path, picture, suffix, tolerance):
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(picture).save(path)
    assert_close(read_image(path), picture, tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp"])
def test_exif_orientation_is_applied(tmp_path, picture, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(picture).save(path, exif=exif)
    assert_close(read_image(path), UPRIGHT[orientation](picture), 6)


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width: int, height: int) -> bytes:
    """A PNG that ends in the first of its pixels."""
    sides = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", sides) + chunk(b"IDAT", b"x" * 50)[:30]


@pytest.mark.filterwarnings("error")
def test_a_header_tells_the_size_of_huge_images_and_of_the_beginning_of_one():
    assert encoded_size(png_header(20000, 10000), "a.png") == (10000, 20000)
    for side in (1 << 16, 1 << 21):  # more pixels than are read, a side longer than is read
        data = png_header(side, side if side < 1 << 20 else 16)
        for read in (encoded_size, decode_image):
            with pytest.raises(FormatError, match=r"a\.png is truncated, corrupt or not a JPEG"):
                read(data, "a.png")


def test_what_says_that_an_image_lies_is_the_same_for_header_and_pixels(picture):
    """EXIF behind the pixels counts, damaged EXIF and other notes do not."""
    exif = Image.Exif()
    exif[0x0112] = 6
    block = exif.tobytes().removeprefix(b"Exif\0\0")

    def encoded(kind: str, **more) -> bytes:
        file = io.BytesIO()
        Image.fromarray(picture).save(file, kind, **more)
        return file.getvalue()

    png = encoded("PNG")
    xmp = b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    lying = [png[:-12] + chunk(b"eXIf", block) + png[-12:]]
    upright = [encoded("JPEG", exif=b"Exif\0\0damaged"), encoded("JPEG", xmp=xmp), encoded("BMP")]
    for data, size in [(data, (WIDTH, HEIGHT)) for data in lying] + [(data, (HEIGHT, WIDTH)) for data in upright]:
        assert encoded_size(data, "a") == decode_image(data, "a").shape[:2] == size


def test_grey_becomes_three_equal_channels(tmp_path, picture):
    Image.fromarray(picture[..., 0]).save(tmp_path / "grey.png")
    assert_close(read_image(tmp_path / "grey.png"), np.repeat(picture[..., :1], 3, axis=2))


def test_transparency_is_ignored(tmp_path, picture):
    alpha = np.linspace(0, 255, WIDTH).astype(np.uint8) * np.ones((HEIGHT, 1), np.uint8)
    Image.fromarray(np.dstack((picture, alpha))).save(tmp_path / "cutout.png")
    assert_close(read_image(tmp_path / "cutout.png"), picture)


def test_sixteen_bits_keep_their_upper_half(tmp_path):
    values = np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH) * 68
    Image.fromarray(values).save(tmp_path / "deep.png")
    image = read_image(tmp_path / "deep.png")
    assert np.array_equal(image, np.repeat((values // 256)[..., None], 3, axis=2))


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_image(tmp_path / "nowhere.jpg")
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


def test_empty_file(tmp_path):
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(FormatError, match="0 bytes"):
        read_image(tmp_path / "empty.jpg")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tiff", ".webp", ".bmp"])
@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_truncated_files_are_refused_quietly(tmp_path, suffix, share, capfd):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    path = tmp_path / f"photo{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FormatError, match=r"photo.* is truncated, corrupt or not a"):
        read_image(path)
    assert "ERROR" not in capfd.readouterr().err


def test_a_text_file_is_not_an_image(tmp_path):
    (tmp_path / "notes.jpg").write_text("not a photograph at all " * 20)
    with pytest.raises(FormatError, match=r"notes\.jpg"):
        read_image(tmp_path / "notes.jpg")


@pytest.mark.parametrize("size", [(1, 1), (15, 400), (400, 15)])
def test_tiny_images_are_refused(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "tiny.png")
    with pytest.raises(InputError, match=f"{size[0]}x{size[1]} pixels"):
        read_image(tmp_path / "tiny.png")


def test_find_images_in_files_folders_and_patterns(tmp_path):
    for name in ("b.JPG", "a.png", "c.txt", ".hidden.jpg", "deep/d.webp", "deep/e.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    a, b, c, d = (tmp_path / name for name in ("a.png", "b.JPG", "c.txt", "deep/d.webp"))
    assert find_images([tmp_path]) == [a, b]
    assert find_images([tmp_path / "**" / "*"]) == [a, b, d]
    assert find_images([str(tmp_path / "*.png"), tmp_path, a, tmp_path / "deep" / ".." / "a.png"]) == [a, b]
    assert find_images([c]) == [c], "a file named itself is taken whatever its name"


def test_a_file_whose_name_looks_like_a_pattern(tmp_path):
    odd = tmp_path / "holiday [1].jpg"
    odd.touch()
    assert find_images([odd]) == [odd]


@pytest.mark.parametrize("path", ["*.jpg", "missing.jpg", "empty"])
def test_nothing_found_names_the_path(tmp_path, path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no image found at") as error:
        find_images([tmp_path / path])
    assert path in str(error.value)
