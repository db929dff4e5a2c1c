"""What a training set is made of, for tests/test_jpeg.c, test_tar.c and test_dataset.c: golden/data/dataset/.

    /opt/golden-venv/bin/python golden/export_dataset.py

pictures/        by Pillow (libjpeg-turbo): every kind of JPEG and PNG that is read
set.safetensors  pixels.<file>: ImageOps.exif_transpose, then convert("RGB") [H, W, 3], bytes
                 crop.<case>: Resize(R, LANCZOS), CenterCrop(R) of diffusers' train_text_to_image.py, bytes
                 [R, R, 3]; tensor.<case>: then ToTensor() and Normalize([0.5], [0.5])
tar/             by Python's tarfile and by hand: ustar, GNU, pax
folder/, split/, texts/, shards/
                 one small set in each of the layouts that are read

Torchvision's arithmetic on a PIL picture, which is all that its Resize and CenterCrop do, is written out
here: torchvision/transforms/functional.py, _compute_resized_output_size and center_crop.
"""

import io
import json
import shutil
import struct
import tarfile
import zlib

import numpy as np
import torch
from PIL import Image, ImageOps

from common import DATA, Golden, generator

SET = DATA / "dataset"
PICTURES = SET / "pictures"


def pixels(*key, height, width, channels=3):
    """Smooth, as photographs are, with an edge that tells every corner from the others."""
    gen = generator("dataset", *key)
    small = torch.randint(0, 256, (4, 5, channels), generator=gen, dtype=torch.uint8).numpy()
    planes = [Image.fromarray(small[..., c]).resize((width, height), Image.Resampling.BICUBIC)
              for c in range(channels)]
    x = np.stack([np.array(p) for p in planes], -1)
    x[: height // 4, : width // 3] = x[: height // 4, : width // 3] // 4
    return x if channels > 1 else x[..., 0]


def picture(*key, mode="RGB", height=19, width=27):
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4, "CMYK": 4}[mode]
    return Image.frombytes(mode, (width, height),
                           pixels(*key, height=height, width=width, channels=channels).tobytes())


# ---- pictures --------------------------------------------------------------------------------------


def exif(orientation):
    e = Image.Exif()
    e[0x0110] = "a camera"
    e[0x0112] = orientation
    return e


def jpeg(image, **options):
    out = io.BytesIO()
    image.save(out, "JPEG", **({"quality": 85} | options))
    return out.getvalue()


def png(image, **options):
    out = io.BytesIO()
    image.save(out, "PNG", **options)
    return out.getvalue()


def ycck(image):
    """YCCK as Adobe writes it: Pillow's encoder makes CMYK only, so the planes are put together by hand:
    CMY taken as RGB becomes YCbCr, K stays, and the APP14 segment says 2."""
    y, cb, cr = Image.merge("RGB", image.split()[:3]).convert("YCbCr").split()
    planes = Image.merge("CMYK", (y, cb, cr, image.split()[3]))
    data = jpeg(planes)  # Pillow inverts as it writes, as the Adobe convention wants
    at = data.index(b"Adobe")
    return data[: at + 11] + b"\x02" + data[at + 12:]


def png_16(x, color):
    """16 bits a channel, which Pillow doesn't write in colour: by zlib, unfiltered."""
    height, width = x.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in x)
    chunk = lambda kind, data: (struct.pack(">I", len(data)) + kind + data +
                                struct.pack(">I", zlib.crc32(kind + data)))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, color, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def pictures():
    rgb, gray = picture("rgb"), picture("gray", mode="L")
    alpha, cmyk = picture("rgba", mode="RGBA"), picture("cmyk", mode="CMYK")
    palette = rgb.quantize(16)
    clear = rgb.quantize(16)
    clear.info["transparency"] = 3
    wide = pixels("wide", height=7, width=9).astype(np.uint16) * 251 + 99
    files = {
        "gray.jpg": jpeg(gray),
        "444.jpg": jpeg(rgb, subsampling="4:4:4"),
        "422.jpg": jpeg(rgb, subsampling="4:2:2"),
        "420.jpg": jpeg(rgb, subsampling="4:2:0"),
        "progressive.jpg": jpeg(rgb, progressive=True),
        "restarts.jpg": jpeg(rgb, restart_marker_rows=1),
        "rgb.jpg": jpeg(rgb, keep_rgb=True),
        "cmyk.jpg": jpeg(cmyk),
        "ycck.jpg": ycck(cmyk),
        "one.jpg": jpeg(picture("one", height=1, width=1)),
        "large.jpg": jpeg(picture("large", height=70, width=50), progressive=True, quality=60),
        "gray.png": png(gray),
        "gray_alpha.png": png(picture("la", mode="LA")),
        "rgb.png": png(rgb),
        "rgba.png": png(alpha),
        "palette.png": png(palette),
        "palette_clear.png": png(clear, transparency=3),
        "rgb_clear.png": png(rgb, transparency=(1, 2, 3)),
        "bits.png": png(gray.convert("1")),
        "rgb16.png": png_16(wide, 2),
    }
    for o in range(1, 9):
        files[f"turned{o}.jpg"] = jpeg(picture("turned", o, height=12, width=20), exif=exif(o), quality=60)
    files["turned6.png"] = png(rgb, exif=exif(6))
    return files


def truth(data):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")


# ---- resize and crop ---------------------------------------------------------------------------------


def resized_and_cropped(image, R):
    w, h = image.size
    short, long = (w, h) if w <= h else (h, w)
    new_short, new_long = R, int(R * long / short)
    w, h = (new_short, new_long) if w <= h else (new_long, new_short)
    image = image.resize((w, h), Image.Resampling.LANCZOS)
    top, left = int(round((h - R) / 2.0)), int(round((w - R) / 2.0))
    return image.crop((left, top, left + R, top + R))


CROPS = {  # (H, W), R
    "wide": ((20, 31), 16),
    "high": ((37, 22), 16),
    "square": ((24, 24), 16),
    "same": ((16, 16), 16),
    "barely": ((16, 17), 16),     # half a pixel on each side: round to even
    "three": ((19, 16), 16),      # one and a half
    "upscaled": ((5, 9), 16),
    "far": ((9, 130), 8),
    "exact": ((30, 45), 20),
}


def crops(golden):
    for case, ((H, W), R) in CROPS.items():
        x = pixels("crop", case, height=H, width=W)
        y = np.array(resized_and_cropped(Image.fromarray(x), R))
        golden.put("rgb." + case, torch.from_numpy(x))
        golden.put("crop." + case, torch.from_numpy(y))
        exact = (torch.from_numpy(y).double() / 255 - 0.5) / 0.5
        single = (torch.from_numpy(y).float() / 255 - 0.5) / 0.5
        golden.truth("tensor." + case, exact, (single.double() - exact).abs().max() / exact.abs().max())


# ---- archives ------------------------------------------------------------------------------------------


def tar(members, format=tarfile.USTAR_FORMAT, pad=False, **headers):
    """members: name -> bytes, or a TarInfo of another kind. Two zero blocks end it, and nothing is behind."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format, **headers) as archive:
        for name, data in members.items():
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.mtime = 1700000000
            if isinstance(data, tarfile.TarInfo):
                archive.addfile(info)
            else:
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        end = archive.offset
    return out.getvalue() if pad else out.getvalue()[: end + 1024]


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def header(name, size, kind=b"0", magic=b"ustar\x0000", number=None, signed=False):
    h = bytearray(512)
    h[: len(name)] = name
    h[100:124] = b"0000644\x000000000\x000000000\x00"
    h[124:136] = number or b"%011o\0" % size
    h[136:148] = b"14524542400\0"
    h[148:156] = b" " * 8
    h[156:157] = kind
    h[257:265] = magic
    total = sum(b - 256 if signed and b > 127 else b for b in h)
    h[148:156] = b"%06o\0 " % total
    return bytes(h)


def block(data):
    return data + b"\0" * (-len(data) % 512)


LONG = "d" * 60 + "/" + "e" * 60 + "/" + "f" * 150 + ".txt"
END = b"\0" * 1024


def archives():
    some = {"a.txt": b"one\n", "empty.txt": b"", "d/b.bin": bytes(range(256)) * 5, "exact.bin": b"x" * 512}
    kinds = {"a.txt": b"one\n", "dir": special("dir", tarfile.DIRTYPE),
             "link": special("link", tarfile.SYMTYPE, "a.txt"),
             "hard": special("hard", tarfile.LNKTYPE, "a.txt"), "fifo": special("fifo", tarfile.FIFOTYPE),
             "last.txt": b"two\n"}
    return {
        "ustar": tar(some | {"p" * 90 + "/" + "n" * 90: b"long by prefix"}),
        "padded": tar(some, pad=True),
        "gnu": tar(some | {LONG: b"long"}, tarfile.GNU_FORMAT),
        "pax": tar(some | {LONG: b"long", "\u00e9\u4e2d.txt": b"utf-8"}, tarfile.PAX_FORMAT,
                   pax_headers={"comment": "of all"}),
        "kinds": tar(kinds),
        "v7": header(b"a.txt", 4, b"\0", b"\0" * 8) + block(b"one\n") + END,
        "signed": header("\u00e9.txt".encode(), 4, signed=True) + block(b"one\n") + END,
        "base256": header(b"a.txt", 4, number=b"\x80" + (4).to_bytes(11, "big")) + block(b"one\n") + END,
        "pax_size": (header(b"x", 12, b"x") + block(b"12 size=700\n") + header(b"a.txt", 4) +
                     block(b"y" * 700) + header(b"b.txt", 4) + block(b"two\n") + END),
        "hard": (header(b"hard", 700, b"1") + header(b"a.txt", 4) + block(b"one\n") + END),
        "none": END,
    }


# ---- sets ------------------------------------------------------------------------------------------------


def pair(i):
    """Picture i of the small set, and its caption."""
    image = picture("pair", i, height=10 + i % 3, width=12 + i % 5)
    return (jpeg(image, quality=60) if i % 2 else png(image)), f"picture {i}, \u00e9\u4e2d"


COUNT = 7


def extension(i):
    return "jpg" if i % 2 else "png"


def sets():
    folder = {f"{'sub/' if i > 4 else ''}{i}.{extension(i)}": pair(i) for i in range(COUNT)}
    lines = [json.dumps({"file_name": name, "text": text}) for name, (_, text) in folder.items()]
    files = {"folder/" + name: data for name, (data, _) in folder.items()}
    files["folder/metadata.jsonl"] = "\n".join(lines).encode()  # no newline at the end
    files |= {"split/train/" + name: data for name, (data, _) in list(folder.items())[:3]}
    files["split/train/metadata.jsonl"] = ("\ufeff" + "\r\n\r\n".join(lines[:3]) + "\r\n").encode()
    for i in range(COUNT):
        data, text = pair(i)
        stem = f"texts/{'b/' if i % 3 else 'a/'}{i}.x"
        files[stem + "." + extension(i).upper()] = data
        files[stem + ".txt"] = (text + "\r\n").encode()
    shards = {}
    for i in range(COUNT):
        data, text = pair(i)
        members = shards.setdefault(i // 3, {})
        members[f"{i:06}.{'jpeg' if i == 3 else extension(i)}"] = data
        if i % 3 == 0:
            members[f"{i:06}.txt"] = text.encode()
        else:
            members[f"{i:06}.json"] = json.dumps({"caption": text, "width": 3}).encode()
    for i, members in shards.items():
        files[f"shards/{i:05}.tar"] = tar(members)
        files[f"shards/{i:05}.parquet"] = b"img2dataset's table, unread"
    return files


def main():
    if SET.exists():
        shutil.rmtree(SET)
    golden = Golden("dataset/set")
    golden.metadata["pillow"] = Image.__version__
    files = {"pictures/" + name: data for name, data in pictures().items()}
    for name, data in files.items():
        golden.put("pixels." + name.split("/")[1], torch.from_numpy(np.array(truth(data))))
    for i in range(COUNT):
        golden.put(f"pair.{i}", torch.from_numpy(np.array(truth(pair(i)[0]))))
    crops(golden)
    files |= {f"tar/{name}.tar": data for name, data in archives().items()} | sets()
    for name, data in files.items():
        path = SET / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    golden.save()
    print(f"{len(files)} files, {sum(map(len, files.values()))} bytes")


if __name__ == "__main__":
    main()
