import sys

from deeplens_workers.import_cost import placeholders


def test_a_placeholder_is_empty_and_gone_afterwards():
    sys.modules.pop("colorsys", None)
    with placeholders("colorsys", "json"):
        import colorsys
        import json

        assert colorsys.rgb_to_hsv is None
        assert json.loads("1") == 1  # was loaded already
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
