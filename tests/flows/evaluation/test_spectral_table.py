from rich.console import Console

from flows.evaluation.spectral_table import spectral_table

SCORES = {"n": 10, "accuracy": 0.9, "accuracy_interval": [0.55, 0.9975], "macro_f1": 0.8123, "auc": None}


def test_a_row_for_each_model_and_each_rival():
    models = {"redshift": SCORES | {"baselines": {"nearest_colour": SCORES | {"auc": 0.75}, "silent": {"n": 0}}}}
    console = Console(record=True, width=120)
    console.print(spectral_table(SCORES | {"classes": ["star", "galaxy"], "models": models}))
    text = console.export_text()
    assert "10 rows: star, galaxy" in text
    assert text.index("redshift") < text.index("nearest_colour") < text.index("silent")
    assert "0.5500-0.9975" in text
    assert "0.7500" in text
