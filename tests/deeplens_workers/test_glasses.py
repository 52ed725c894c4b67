"""Refractive indices of our own reading of DeepLens' catalogue, against DeepLens."""

import math

import pytest

from deeplens_workers.glasses import abbe_name, abbe_terms, find_glass, is_glass, known_glasses

WAVELENGTHS = (0.4047, 0.4861, 0.5876, 0.6563, 0.94, 1.55)


def test_every_glass_has_the_index_that_deeplens_gives_it():
    import torch
    from deeplens.material import Material

    assert len(known_glasses()) > 1500
    for name in (*known_glasses(), "1.5168/64.17"):
        theirs, ours = Material(name), find_glass(name)
        for wave in WAVELENGTHS:
            try:
                index = float(theirs.ior(torch.tensor(wave, dtype=torch.float64)))
            except ValueError:
                assert not ours.covers(wave), name
                continue
            assert ours.covers(wave), name
            assert ours.index(wave) == pytest.approx(index, abs=3e-7, nan_ok=True), (name, wave)
        if not math.isnan(ours.nd) and name != "air":
            assert ours.nd == pytest.approx(float(theirs.n), abs=1e-6), name


def test_two_terms_stand_for_an_index_and_an_abbe_number():
    name = abbe_name(*abbe_terms(1.5168, 64.17))
    assert find_glass(name).index(0.5876) == pytest.approx(1.5168, abs=1e-9)
    assert find_glass(name).vd == pytest.approx(64.17, rel=1e-7)
    assert find_glass(abbe_name(1.45, 0.0)).index(0.4) == pytest.approx(1.45, abs=1e-8)
    assert not is_glass(abbe_name(1.5, -3000.0))
    with pytest.raises(KeyError):
        find_glass("n-bk8")
