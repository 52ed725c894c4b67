import sys

from deeplens_workers.import_cost import placeholders


def test_a_placeholder_imports_the_real_module_when_it_is_used():
    sys.modules.pop("colorsys", None)
    with placeholders("colorsys", "json"):
        import colorsys as early
        import json
        from colorsys import rgb_to_hsv

        assert json.loads("1") == 1  # was loaded already
    assert "colorsys" not in sys.modules
    assert early.hsv_to_rgb(0, 0, 1) == (1, 1, 1)
    import colorsys

    assert colorsys is not early
    assert rgb_to_hsv(1, 1, 1) == colorsys.rgb_to_hsv(1, 1, 1) == (0, 0, 1)


def test_a_submodules_placeholder_is_that_of_its_package():
    for name in ("wsgiref", "wsgiref.util"):
        sys.modules.pop(name, None)
    with placeholders("wsgiref", "wsgiref.util"):
        import wsgiref.util as early
    assert early.is_hop_by_hop("Connection")
