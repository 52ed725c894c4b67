"""Lines of .zmx and .seq files that are not understood: refused in one line that names them."""

from __future__ import annotations

import pytest

from tests.deeplens_workers.lens_writers import SINGLET, codev, zemax
from tests.deeplens_workers.reading import (
    refused,
)

ZMX_REFUSALS = {  # what is put in place of what -> words of the message
    "annular": ("  DISZ 4.0", "  DISZ 4.0\n  CLAP 3 6 0", ["CLAP 3 6 0", "an annular aperture", "full circular"]),
    "obscured": ("  DISZ 4.0", "  DISZ 4.0\n  OBSC 0 1 0", ["OBSC", "obscuration"]),
    "rectangular": ("  DISZ 4.0", "  DISZ 4.0\n  SQAP 3 6", ["SQAP", "rectangular"]),
    "decentred opening": ("  DISZ 4.0", "  DISZ 4.0\n  OBDC 0 1.5", ["OBDC", "decentred"]),
    "mirror": ("GLAS N-BK7", "GLAS MIRROR", ["GLAS MIRROR", "mirror"]),
    "unknown glass": ("GLAS N-BK7", "GLAS N-BK8", ["N-BK8", "did you mean 'n-bk"]),
    "other index": ("N-BK7 0 0 1.5 40", "N-BK7 0 0 1.52 64.1", ["N-BK7", "1.52", "1.5168"]),
    "offset": ("N-BK7 0 0", "N-BK7 4 0", ["offset"]),
    "model": ("N-BK7 0 0 1.5 40", "___BLANK 1 0 1.5 0", ["model glass"]),
    "tilt": ("SURF 2\n  TYPE STANDARD", "SURF 2\n  PARM 3 5.0\n  TYPE COORDBRK", ["PARM 3 5.0", "tilt"]),
    "toroid": ("TYPE STANDARD\n  CURV 0.02", "TYPE TOROIDAL\n  CURV 0.02", ["TYPE TOROIDAL", "EVENASPH"]),
    "extended": ("TYPE STANDARD\n  CURV 0.02", "TYPE XASPHERE\n  CURV 0.02", ["TYPE XASPHERE"]),
    "parameter": ("  DISZ 4.0", "  DISZ 4.0\n  PARM 2 1e-6", ["PARM 2 1e-6", "STANDARD"]),
    "suffix": ("SURF 2\n", "SURF 2AS\n", ["line 23", "SURF 2AS", "whole number"]),
    "gap": ("SURF 2\n", "SURF 4\n", ["SURF 4", "expected 2"]),
    "two stops": ("SURF 2\n", "SURF 2\n  STOP\n", ["one aperture stop", "has 2"]),
    "no stop": ("  STOP\n", "", ["one aperture stop", "has 0"]),
    "no aperture": ("ENPD 10.0\n", "", ["how much light"]),
    "two names": ("NAME mine", "NAME mine\nNAME yours", ["NAME yours", "said before"]),
    "two modes": ("MODE SEQ", "MODE SEQ\nMODE seq", ["MODE seq", "said before"]),
    "two units": ("ENPD", "UNIT IN\nENPD", ["UNIT IN", "said before, in line 4"]),
    "two distances": ("  DISZ 4.0", "  DISZ 4.0\n  DISZ 5.0", ["DISZ 5.0", "said before"]),
    "two apertures": ("ENPD 10.0\n", "ENPD 10.0\nFNUM 4\n", ["FNUM 4", "second"]),
    "no units": ("UNIT MM X W X CM MR CPMM\n", "", ["no `UNIT` line"]),
    "non-sequential": ("MODE SEQ", "MODE NSC", ["MODE NSC", "sequential"]),
    "infinite inside": ("DISZ 4.0", "DISZ INFINITY", ["DISZ INFINITY", "object"]),
    "not a number": ("DISZ 4.0", "DISZ nan", ["DISZ nan", "number"]),
    "overflow": ("DISZ 4.0", "DISZ 1e999", ["DISZ 1e999", "number"]),
    "comma": ("DISZ 4.0", "DISZ 4,0", ["DISZ 4,0", "number"]),
    "empty": ("DISZ 4.0", "DISZ", ["DISZ", "expected 1 value"]),
    "curved image": ("CURV 0.0\n  DISZ 0\n", "CURV 0.01\n  DISZ 0\n", ["curved image"]),
    "unknown": ("ENPD", "XYZW 1\nENPD", ["XYZW 1", "unknown keyword"]),
    "unknown of a surface": ("  DISZ 4.0", "  DISZ 4.0\n  QRST 1 2", ["QRST 1 2", "unknown keyword"]),
    "no wavelength": ("WAVM 1 0.5875618 1\n", "", ["no wavelength"]),
    "wavelength": ("WAVM 1 0.5875618", "WAVM 1 587.5618", ["587.562 um"]),
    "immersed object": ("CURV 0.0\n  DISZ INFINITY", "GLAS N-BK7\n  CURV 0.0\n  DISZ INFINITY", ["object", "air"]),
    "dark": ("SURF 2\n", "SURF 2\n  CLAP 0 1e-6\n", ["no light"]),
    "afocal": ("  GLAS N-BK7 0 0 1.5 40 0 0 0 0 0 0\n", "", ["no focal length"]),
    "operand": ("SURF 2\n", "MNUM 2 1\nCADX 1 1 2.0\nSURF 2\n", ["CADX", "unknown"]),
    "changing parameter": ("SURF 2\n", "MNUM 2 1\nPRAM 1 1 2.0\nSURF 2\n", ["PRAM", "parameter"]),
    "changing glass": ("SURF 2\n", "MNUM 2 1\nGLSS 1 1 SF6\nSURF 2\n", ["GLSS", "glass that changes"]),
    "telecentric": ("FTYP 0 0", "FTYP 0 1", ["FTYP", "telecentric"]),
    "afocal image": ("3 1 0 0 0", "3 1 0 0 1", ["FTYP", "afocal"]),
    "too many wavelengths": ("3 1 0 0 0", "3 2 0 0 0", ["FTYP counts 2", "1 are listed"]),
    "unsaid wavelengths": (
        "FTYP 0 0 3 1 0 0 0\n", "".join(f"WAVM {i} 0.55 1\n" for i in range(2, 25)),
        ["FTYP does not say how many of the 24"],
    ),
    "operand of no value": ("SURF 2\n", "MNUM 2 1\nTHIC 2 2 40.0\nSURF 2\n", ["THIC", "configuration 1"]),
}  # fmt: skip


@pytest.mark.parametrize("case", ZMX_REFUSALS)
def test_zemax_lines_that_are_refused(tmp_path, case):
    before, after, words = ZMX_REFUSALS[case]
    text = zemax(SINGLET)
    assert before in text
    message = refused(
        tmp_path, "mine.zmx", text.replace(before, after, 1) if case != "curved image" else text.replace(before, after)
    )
    for word in words:
        assert word in message


SEQ_REFUSALS = {
    "tilt": ("  STO\n", "  STO\n  ADE 5.0\n", ["ADE 5.0", "tilt"]),
    "decentre": ("  STO\n", "  STO\n  XDE 0; YDE 1.0\n", ["YDE 1.0", "decentre"]),
    "mirror": ("4.0 N-BK7", "4.0 REFL", ["mirror"]),
    "mirror by mode": ("4.0 N-BK7", "4.0 N-BK7 REFL", ["mirror"]),
    "unknown glass": ("N-BK7", "NBK9_SCHOTT", ["NBK9_SCHOTT"]),
    "other maker": ("N-BK7", "NBK7_HOYA", ["NBK7_HOYA"]),
    "rectangular": ("  STO\n", "  STO\n  REX 4\n", ["REX 4", "rectangular"]),
    "obscured": ("  STO\n", "  STO\n  CIR OBS 2\n", ["CIR OBS 2", "obscuration"]),
    "diffractive": ("  STO\n", "  STO\n  DIF DOE\n", ["DIF DOE", "diffractive"]),
    "special": ("  STO\n", "  STO\n  SPS XYP\n", ["SPS XYP"]),
    "conic of a sphere": ("  STO\n", "  STO\n  K -1\n", ["CON", "ASP"]),
    "terms of a conic": ("  STO\n", "  STO\n  CON\n  A 1e-6\n", ["CON"]),
    "two stops": ("SI 0.0", "STO S2\nSI 0.0", ["STO S2", "one stop"]),
    "no stop": ("  STO\n", "", ["one aperture stop"]),
    "after the image": ("GO", "S 0 1\nGO", ["S 0 1", "after the image"]),
    "no image": ("SI 0.0 0.0", "S 0.0 0.0", ["`SI` line"]),
    "no object": ("SO 0.0 10000000000000.0\n", "", ["`SO` line"]),
    "no mode": ("RDM;", "", ["RDM", "radius", "CODE V itself takes curvatures"]),
    "unused apertures": ("SI 0.0", "CA NO\nSI 0.0", ["CA NO", "apertures are not used"]),
    "no units": ("DIM M\n", "", ["no `DIM` line"]),
    "unit": ("DIM M", "DIM F", ["DIM F", "I (inches)"]),
    "gap": ("S -50.0", "S3 -50.0", ["S3 -50.0", "expected S2"]),
    "no such surface": ("GO", "RDY S7 4\nGO", ["RDY S7 4", "surfaces 0 to 3"]),
    "quote": ("SI 0.0", "SLB 'front\nSI 0.0", ["quote"]),
    "unknown": ("SI 0.0", "QQQ 3\nSI 0.0", ["QQQ 3", "unknown command"]),
    "infinite inside": ("4.0 N-BK7", "1e11 N-BK7", ["1e11", "object"]),
    "curved image": ("SI 0.0", "SI 100.0", ["curved image"]),
    "solve of nothing": ("SI 0.0", "S 0.0 47.0\nCUY UMY -0.1\nSI 0.0", ["CUY", "no value is written"]),
    "paraxial image elsewhere": ("SI 0.0", "PIM\nSI 0.0", ["PIM", "47.7", "47 mm"]),
    "weights": ("WTW 1", "WTW 1 1", ["weights"]),
    "kinds of field": ("YAN", "XOB 0 1 2\nYAN", ["fields of more than one kind"]),
    "zoom": ("GO", "ZOO 3\nZOO THI S2 1 2\nGO", ["ZOO THI S2 1 2", "2 values for 3"]),
}  # fmt: skip


@pytest.mark.parametrize("case", SEQ_REFUSALS)
def test_codev_commands_that_are_refused(tmp_path, case):
    before, after, words = SEQ_REFUSALS[case]
    text = codev(SINGLET)
    assert before in text
    message = refused(tmp_path, "mine.seq", text.replace(before, after, 1))
    for word in words:
        assert word in message
